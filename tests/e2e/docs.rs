//! The commands in the documentation work. The test runs every `bash` block of the README and of docs/*.md, and the commands of
//! every pipeline in them, in their order. Each chapter runs on its own machine with a real systemd, Incus and gateway
//! (tests/e2e/docs/place). The program that each configuration is for accepts it.
//!
//! For a command that cannot run there, `STAND_INS` has the reason and a replacement.

mod chapter;
mod readers;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use chapter::{Block, blocks, commands, pipeline};
use readers::{BEFORE, READERS, STAND_INS};
use testing::gateway::binary;
use testing::run::run;
use toml::{Table, Value};

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn readme() {
    try_out("README.md");
}

#[test]
fn behind_a_proxy() {
    try_out("docs/BEHIND_A_PROXY.md");
}

#[test]
fn clusters() {
    try_out("docs/CLUSTERS.md");
}

#[test]
fn coming_from_nginx() {
    try_out("docs/FROM_NGINX.md");
}

#[test]
fn lets_encrypt() {
    try_out("docs/LETS_ENCRYPT.md");
}

#[test]
fn operating() {
    try_out("docs/OPERATING.md");
}

#[test]
fn publishing_from_ci() {
    try_out("docs/PUBLISHING_FROM_CI.md");
}

#[test]
fn simplestreams() {
    try_out("docs/SIMPLESTREAMS.md");
}

#[test]
fn troubleshooting() {
    try_out("docs/TROUBLESHOOTING.md");
}

/// Every chapter is tested and in the table of contents, every stand-in is used, and every link has a target.
#[test]
fn every_chapter_is_linked_and_tested() {
    let folder = fs::read_dir(Path::new(REPOSITORY).join("docs")).expect("the folder of the docs");
    let names = folder.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    let mut names: BTreeSet<String> = names.filter(|name| name.ends_with(".md")).collect();
    assert!(names.remove("README.md"));
    let contents = page("docs/README.md");
    let mut documented = String::new();
    for name in &names {
        assert!(
            contents.contains(&format!("({name})")),
            "docs/README.md has no link to {name}"
        );
    }
    for file in names
        .iter()
        .map(|name| format!("docs/{name}"))
        .chain(["README.md".to_owned(), "docs/README.md".to_owned()])
    {
        let page = page(&file);
        let is_tried = include_str!("docs.rs").contains(&format!("try_out(\"{file}\")"));
        let has_commands = blocks(&page)
            .iter()
            .any(|block| matches!(block.language, "bash" | "yaml" | "toml"));
        assert!(is_tried || !has_commands, "nobody tries what {file} says");
        documented.extend(blocks(&page).into_iter().map(|block| block.text));
        assert_links_lead_somewhere(&file, &page);
    }
    for stand_in in STAND_INS {
        assert!(
            documented.contains(stand_in.line),
            "nothing says any more: {}",
            stand_in.line
        );
    }
}

fn assert_links_lead_somewhere(file: &str, page: &str) {
    let link = regex::Regex::new(r#"(?:\]\(|src(?:set)?=")([^)\s"]+)"#).expect("a pattern");
    let folder = Path::new(file).parent().expect("a folder");
    for found in link.captures_iter(page).map(|found| found[1].to_owned()) {
        if found.contains("://") {
            continue;
        }
        let (to, anchor) = found.split_once('#').unwrap_or((&found, ""));
        let to = if to.is_empty() {
            Path::new(file).to_owned()
        } else {
            folder.join(to)
        };
        let target = Path::new(REPOSITORY).join(&to);
        assert!(target.exists(), "{file} has a link to {found}, which is nowhere");
        if !anchor.is_empty() {
            let text = fs::read_to_string(&target).expect("a page");
            let headings = text.lines().filter(|line| line.starts_with('#')).map(anchor_of);
            assert!(
                headings.into_iter().any(|heading| heading == anchor),
                "{file} has a link to {found}: no such heading"
            );
        }
    }
}

/// Returns the anchor of a heading, as GitHub and GitLab generate it.
fn anchor_of(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = kept
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn page(file: &str) -> String {
    fs::read_to_string(Path::new(REPOSITORY).join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Runs the commands of a chapter in their order.
fn try_out(file: &str) {
    let page = page(file);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let before = BEFORE
        .iter()
        .find(|(name, _)| *name == file)
        .map_or("is_set_up", |(_, before)| before);
    let mut script = format!(
        "export BINARY={}\ncd {REPOSITORY}\n. tests/e2e/docs/people\n{before}\n",
        binary()
    );
    for (place, block) in blocks(&page).iter().enumerate() {
        let name = format!("{place}.{}", block.language);
        let path = folder.path().join(&name);
        let text = match block.language {
            "bash" => with_stand_ins(commands(&block.text)),
            "toml" => merged(file, block),
            "yaml" => block.text.clone() + "\0" + &with_stand_ins(pipeline(&block.text)),
            _ => block.text.clone(),
        };
        // A pipeline is checked as a file, and its commands are run.
        let (text, commands) = text.split_once('\0').unwrap_or((&text, ""));
        fs::write(&path, text).expect("a temporary file can be written");
        fs::write(path.with_extension("commands"), commands).expect("a temporary file can be written");
        let reader = READERS
            .iter()
            .find(|reader| (reader.file, reader.heading) == (file, block.heading));
        let who = reader.map_or("root", |reader| reader.who);
        writeln!(script, "echo '== {}, block {place}'", block.heading.replace('\'', "")).expect("a string grows");
        let path = path.display();
        let step = match block.language {
            "bash" => format!("types {who} {path}"),
            "toml" => format!("takes_configuration {path} '{who}'"),
            "yaml" => format!("takes_yaml {path} {who}"),
            "haproxy" => format!("haproxy -c -q -f {path} && cp {path} /etc/haproxy/haproxy.cfg"),
            "nginx" => format!("takes_nginx {path}"),
            "ini" => format!("takes_drop_in {path}"),
            "console" | "json" | "text" => continue,
            "" if block.text.contains('─') => continue,
            other => panic!("{file}: nobody knows how to try a block of {other:?}"),
        };
        writeln!(script, "{step}").expect("a string grows");
        let is_done = matches!(block.language, "bash" | "yaml");
        if let Some(then) = reader.map(|reader| reader.then).filter(|_| is_done) {
            writeln!(script, "{then}").expect("a string grows");
        }
    }
    script.push_str("echo 'the end'\n");
    let path = folder.path().join("script");
    fs::write(&path, &script).expect("a temporary file can be written");
    let output = run(Command::new(Path::new(REPOSITORY).join("tests/e2e/docs/place")).arg(&path));
    assert!(
        output.status.success() && output.stdout.ends_with("the end\n"),
        "{output}"
    );
}

/// Replaces the commands that cannot run here by their stand-ins.
fn with_stand_ins(commands: Vec<String>) -> String {
    let stand_in = |command: String| match STAND_INS.iter().find(|stand_in| stand_in.line == command.trim()) {
        Some(stand_in) => format!("# {}\n{}\n", stand_in.reason, stand_in.instead),
        None => command + "\n",
    };
    commands.into_iter().map(stand_in).collect()
}

/// Returns a complete configuration: the usual one merged with the block.
fn merged(file: &str, block: &Block<'_>) -> String {
    let usual = include_str!("docs/proxy.toml");
    let parse = |text: &str| -> Table { text.parse().unwrap_or_else(|error| panic!("{file}: {error}\n{text}")) };
    let mut table = parse(usual);
    merge(&mut table, parse(&block.text));
    table.to_string()
}

fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(into)), Value::Table(from)) => merge(into, from),
            (Some(Value::Array(into)), Value::Array(from)) => into.extend(from),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

//! docs/TROUBLESHOOTING.md has an entry for each message that the code can write.
//! The report of `import-nginx` has its own chapter, and the code explains it line by line.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

const DOCUMENT: &str = include_str!("../../docs/TROUBLESHOOTING.md");
/// Folders of the code that writes messages.
const SOURCES: [&str; 3] = ["src", "crates/edge/src", "crates/store/src"];
/// Files in which every string of several words is part of a message.
const FULL_OF_MESSAGES: [&str; 7] = [
    "src/check/incus.rs",
    "src/check/settings.rs",
    "src/check/store.rs",
    "src/config/error.rs",
    "src/config/parse.rs",
    "src/config/units.rs",
    "crates/edge/src/cidr.rs",
];
/// Strings that are no messages: advice that follows one, the heading of a list, a reason for the compiler.
const NO_MESSAGE: [&str; 5] = [
    "public.tls and admin.tls",
    "the messages say it",
    "write a URL such as",
    "write an address such as",
    "write \"[::]:8554\"",
];
const STRING: &str = r#""((?:[^"\\]|\\.|\\\n)*)""#;

#[test]
fn every_message_is_documented() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for source in SOURCES {
        collect(&root.join(source), &mut files);
    }
    files.push(root.join("crates/nginx-import/src/error.rs"));
    let entries: String = {
        // A `|` in a table cell is escaped; a fence would be paired with text that is no code.
        let text = DOCUMENT.replace("```", "").replace("\\|", "|");
        let code = Regex::new(r"`([^`]+)`").unwrap();
        let spans: Vec<_> = code.captures_iter(&text).map(|span| span[1].to_owned()).collect();
        spans.join("\n")
    };
    for file in FULL_OF_MESSAGES {
        assert!(root.join(file).is_file(), "there is no {file} any more");
    }
    let mut missing = Vec::new();
    let mut seen = 0;
    for file in files {
        let name = file.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        for message in messages(&name, &fs::read_to_string(&file).unwrap()) {
            seen += 1;
            if !clauses(&message).iter().any(|clause| entries.contains(clause.as_str())) {
                missing.push(format!("{name}: {message}"));
            }
        }
    }
    assert!(
        seen > 100,
        "only {seen} messages were found: the code is written in another way now"
    );
    assert!(
        missing.is_empty(),
        "docs/TROUBLESHOOTING.md has no entry for\n{}",
        missing.join("\n")
    );
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && name != "snapshots" {
            collect(&path, files);
        } else if name.ends_with(".rs") && name != "tests.rs" {
            files.push(path);
        }
    }
}

/// Returns the messages as in the code, with their placeholders.
fn messages(file: &str, source: &str) -> Vec<String> {
    static COMMENT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?m)^\s*//.*$").unwrap());
    static CONTINUED: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\\\n\s*").unwrap());
    static EVERY: LazyLock<Regex> = LazyLock::new(|| Regex::new(STRING).unwrap());
    static LOGGED: LazyLock<Regex> = LazyLock::new(|| {
        let pattern = format!(r#"(?:#\[error\(|\b(?:warn|error)!\()[^;"]*?{STRING}"#);
        Regex::new(&pattern).unwrap()
    });
    let source = COMMENT.replace_all(source.split("#[cfg(test)]").next().unwrap(), "");
    let wanted = match FULL_OF_MESSAGES.contains(&file) {
        true => &EVERY,
        false => &LOGGED,
    };
    let text = |found: &str| CONTINUED.replace_all(found, "").replace("\\\"", "\"").replace('`', "");
    let messages = wanted.captures_iter(&source).map(|found| text(&found[1]));
    let is_message = |message: &String| {
        let is_whole = !FULL_OF_MESSAGES.contains(&file) || message.contains(' ') && message.len() >= 20;
        let has_words = clauses(message).iter().any(|clause| clause.len() >= 8);
        is_whole && has_words && !NO_MESSAGE.iter().any(|other| message.starts_with(other))
    };
    messages.filter(is_message).collect()
}

/// Returns the constant parts of a message that identify it: between placeholders, or the advice.
fn clauses(message: &str) -> Vec<String> {
    static END: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\{[^}]*\}|[;:,(]").unwrap());
    let clauses = END
        .split(message)
        .map(|clause| clause.trim().trim_matches([')', '.', '"']).to_owned());
    let mut clauses: Vec<_> = clauses.collect();
    clauses.sort_by_key(|clause| std::cmp::Reverse(clause.len()));
    let longest = clauses.first().map_or(0, String::len);
    clauses.retain(|clause| clause.len() >= longest.min(12));
    clauses
}

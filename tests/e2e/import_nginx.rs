//! `import-nginx` converts the configuration of an Nginx in front of Incus into an equivalent one, names whatever it cannot
//! convert, and grants no access that Nginx denied.

mod addresses;
mod cases;
mod files;
mod held_back;
mod machine;
mod report;

use std::fs;
use std::path::Path;
use std::process::Command;

use incus_gate::config::Config;
use machine::{CONFIGURATIONS, Machine};
use testing::client::{Client, Curl};
use testing::gateway::Gateway;
use testing::images::Images;
use testing::incus::{Incus, free_address};

/// Each file, and whether what comes out of it can be used as it is.
const SINGLE: [(&str, bool); 20] = [
    ("addresses", true),
    ("all_admins", true),
    ("apart", false),
    ("between", false),
    ("elsewhere", false),
    ("extras", false),
    ("far_away", true),
    ("guide", true),
    ("http2", true),
    ("not_incus", false),
    ("one_server", true),
    ("ports", true),
    ("quotes", false),
    ("restricted", false),
    ("revoked", false),
    ("several_admins", true),
    ("socket", false),
    ("subject", false),
    ("unknown_sha1", false),
    ("vhosts", false),
];

#[test]
fn files_of_all_kinds_are_imported() {
    let machine = Machine::new();
    machine.configure_around();
    for (name, is_complete) in SINGLE {
        let text = fs::read_to_string(format!("{CONFIGURATIONS}/{name}.conf")).expect("a file of this repository");
        let file = machine.configure("etc/nginx/conf.d/lxc.conf", &text);
        // It is not of our making: Nginx must take it.
        let verdict = machine.nginx_test();
        if name == "http2" && !verdict.status.success() {
            assert!(verdict.stderr.contains("unknown directive \"http2\""), "{verdict}");
        } else {
            verdict.ok();
        }
        snapshot(&machine, name, &file, is_complete);
    }
}

#[test]
fn a_whole_debian_is_imported() {
    let machine = Machine::new();
    let read =
        |path: &str| fs::read_to_string(format!("{CONFIGURATIONS}/debian/{path}")).expect("a file of this repository");
    let main = machine.configure("etc/nginx/nginx.conf", &read("nginx.conf"));
    for path in [
        "mime.types",
        "sites-available/default",
        "sites-available/lxc",
        "snippets/incus.conf",
    ] {
        machine.configure(&format!("etc/nginx/{path}"), &read(path));
    }
    let enabled = machine.root().join("etc/nginx/sites-enabled");
    fs::create_dir(&enabled).expect("a temporary folder can be made");
    for name in ["default", "lxc"] {
        std::os::unix::fs::symlink(format!("../sites-available/{name}"), enabled.join(name)).expect("it can be made");
    }
    machine.nginx_test().ok();
    snapshot(&machine, "debian", &main, true);
    // For one file of it, what nginx.conf has around it counts.
    snapshot(&machine, "debian_site", &enabled.join("lxc"), true);
}

#[track_caller]
fn snapshot(machine: &Machine, name: &str, file: &Path, is_complete: bool) {
    let output = machine.import(file, &[]);
    insta::with_settings!({ snapshot_path => "import_nginx/snapshots", prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!(name, machine.normal(&output));
    });
    assert_eq!(output.status.code(), Some(i32::from(!is_complete)), "{name}: {output}");
    let path = machine.write("proxy.toml", &output.stdout);
    match Config::load(&path) {
        Ok(config) => assert_eq!(config.public.images, incus_gate::config::Visibility::Public, "{name}"),
        Err(error) => assert!(!is_complete, "{name}: {error}\n{output}"),
    }
}

#[test]
fn the_guide_as_it_stands_lacks_its_certificates_here() {
    let machine = Machine::new();
    let file = Path::new(CONFIGURATIONS).join("guide.conf");
    let output = machine.import(&file, &[]);
    assert_eq!(output.status.code(), Some(1), "{output}");
    assert!(
        output.stderr.contains("MISSING: ")
            && output.stderr.contains(
                "guide.conf:68: the admins' certificates: cannot read /home/ubuntu/incus-certs/incus-client.crt"
            ),
        "{output}"
    );
    assert!(output.stderr.contains("systemd hides /home and /root from the gateway: `install -D -g incus-gate -m 640 -t /etc/incus-gate/certs /home/ubuntu/incus-certs/incus-client.crt /home/ubuntu/incus-certs/incus-client.key`"), "{output}");
    assert!(output.stdout.contains("\nlisten = \"0.0.0.0:8554\""), "{output}");
    assert!(output.stdout.contains("\n# [[admin.clients]]"), "{output}");
}

#[test]
fn a_broken_file_earns_one_error_with_its_place() {
    let machine = Machine::new();
    machine.configure_around();
    let file = machine.root().join("etc/nginx/conf.d/lxc.conf");
    let pipe = machine.root().join("etc/nginx/pipe");
    testing::run::run(Command::new("mkfifo").arg(&pipe)).ok();
    let deep = "a {".repeat(40);
    for (text, code, error) in [
        (
            "server {\n listen 1;\n",
            65,
            "lxc.conf:3: the file ends where `}` should follow",
        ),
        ("server {\n}\n}\n", 65, "lxc.conf:3: `}` closes nothing"),
        (
            "server {\n server_name \"a;\n}\n",
            65,
            "lxc.conf:2: the quote \" that begins here is never closed",
        ),
        (
            "server {\n server_name 'a'b;\n}\n",
            65,
            "lxc.conf:2: `b` is not expected here",
        ),
        (";\n", 65, "lxc.conf:1: `;` is not expected here"),
        (
            "server\n",
            65,
            "lxc.conf:2: the file ends where `;` or `{` should follow",
        ),
        ("include a b;\n", 65, "lxc.conf:1: `include` takes one file or pattern"),
        ("\ninclude conf.d/lxc.conf;\n", 65, "lxc.conf:2: it includes"),
        ("\ninclude none.conf;\n", 66, "none.conf, which"),
        ("include pipe;\n", 66, "it is not a file"),
        ("include /dev/zero;\n", 66, "it is not a file"),
        ("include conf.d;\n", 66, "it is not a file"),
        (deep.as_str(), 65, "lxc.conf:1: more than 32 nested blocks and files"),
        (
            "content_by_lua_block { }",
            65,
            "lxc.conf:1: `content_by_lua_block` contains Lua",
        ),
    ] {
        machine.write("etc/nginx/conf.d/lxc.conf", text);
        let output = machine.import(&file, &[]);
        assert_eq!(output.status.code(), Some(code), "{text}: {output}");
        assert!(
            output.stderr.starts_with("incus-gate: ") && output.stderr.contains(error),
            "{text}: {output}"
        );
        assert_eq!(output.stderr.lines().count(), 1, "{text}: {output}");
        assert_eq!(output.stdout, "", "{text}");
        // Nginx has no time limit for a pipe.
        if !text.contains("pipe") && !text.contains("/dev/zero") {
            machine.nginx_test().fails();
        }
    }
    let output = machine.import(&machine.root().join("none.conf"), &[]);
    assert_eq!(output.status.code(), Some(66), "{output}");
}

#[test]
fn many_files_and_long_ones_are_refused_in_time() {
    let machine = Machine::new();
    // Each of these is read ten times as often as the one before.
    for level in 0..9 {
        let next = format!("include bomb/{};\n", level + 1).repeat(10);
        machine.write(&format!("etc/nginx/bomb/{level}"), &next);
    }
    machine.write("etc/nginx/bomb/9", "a;");
    let file = machine.write("etc/nginx/nginx.conf", "include bomb/0;");
    let output = machine.import(&file, &[]);
    assert_eq!(output.status.code(), Some(66), "{output}");
    assert!(output.stderr.contains("more than 1000 files are included"), "{output}");

    let file = machine.write("etc/nginx/nginx.conf", &"a; ".repeat(4 << 20));
    let output = machine.import(&file, &[]);
    assert_eq!(output.status.code(), Some(66), "{output}");
    assert!(output.stderr.contains("longer than 8 MiB"), "{output}");

    let text = fs::read_to_string(format!("{CONFIGURATIONS}/all_admins.conf")).expect("a file of this repository");
    let text = text.replace("/etc/nginx/certs/admins.crt", "/dev/zero");
    let file = machine.configure("etc/nginx/nginx.conf", &text);
    let output = machine.import(&file, &[]);
    assert_eq!(output.status.code(), Some(1), "{output}");
    assert!(
        output.stderr.contains("/dev/zero is not a file of certificates"),
        "{output}"
    );
}

#[test]
fn nothing_is_overwritten() {
    let machine = Machine::new();
    let text = fs::read_to_string(format!("{CONFIGURATIONS}/guide.conf")).expect("a file of this repository");
    let file = machine.configure("etc/nginx/conf.d/lxc.conf", &text);
    let written = machine.root().join("written.toml");
    let to = [
        "--output",
        written.to_str().expect("a temporary folder's name is plain"),
    ];

    let output = machine.import(&file, &to);
    assert_eq!(output.stdout, "");
    output.ok();
    let first = fs::read_to_string(&written).expect("it was written");
    assert_eq!(first, machine.import(&file, &[]).ok());
    // The same once more is no harm.
    machine.import(&file, &to).ok();

    fs::write(&written, "mine").expect("a temporary file can be written");
    let output = machine.import(&file, &["--output", "/dev/zero"]);
    assert_eq!(output.status.code(), Some(73), "{output}");
    let output = machine.import(&file, &to);
    assert_eq!(output.status.code(), Some(73), "{output}");
    assert!(output.stderr.contains("nothing is overwritten"), "{output}");
    assert_eq!(fs::read_to_string(&written).expect("it is still there"), "mine");

    // The example of a package is nobody's.
    fs::write(&written, include_str!("../../proxy.toml.example")).expect("a temporary file can be written");
    machine.import(&file, &to).ok();
    assert_eq!(fs::read_to_string(&written).expect("it was written"), first);
}

#[test]
fn nothing_is_written_of_what_leads_to_no_incus() {
    let machine = Machine::new();
    let file = machine.write("etc/nginx/conf.d/web.conf", "server { listen 80; root /var/www; }\n");
    let written = machine.root().join("written.toml");
    let output = machine.import(&file, &["--output", &written.display().to_string()]);
    assert_eq!(output.status.code(), Some(1), "{output}");
    assert!(
        output.stderr.contains("Run this again on the file that leads to Incus"),
        "{output}"
    );
    assert!(!written.exists());
    assert_eq!(machine.import(&file, &[]).stdout, "");
}

#[test]
fn what_the_files_say_steers_no_terminal_and_makes_no_keys() {
    let machine = Machine::new();
    let text = "server {\n listen 8554 ssl;\n ssl_certificate \"/a\\n[admin]\\n\"; ssl_certificate_key \"/\u{1b}[2J\\\"\";\n\
        wonder \"\u{1b}]0;x\u{7}\\nMISSING\";\n location /1.0 { proxy_pass https://127.0.0.1:1; }\n}\n";
    let file = machine.write("etc/nginx/conf.d/a\n[b]\u{1b}.conf", text);
    let output = machine.import(&file, &[]);
    let is_text = |text: &str| text.chars().all(|c| c == '\n' || !c.is_control());
    assert!(is_text(&output.stdout) && is_text(&output.stderr), "{output}");
    assert!(output.stdout.lines().all(|line| !line.starts_with("[b]")), "{output}");
    let table: toml::Table = output.stdout.parse().expect("it is TOML");
    assert_eq!(table["tls"]["certificate"].as_str(), Some("/a\n[admin]\n"));
}

#[test]
fn the_gateway_takes_over_from_nginx() {
    let machine = Machine::new();
    let incus = Incus::start(&[&machine.client]);
    let images = Images::new();
    images
        .unified("shown")
        .import(&incus, &["--alias", "shown", "--public"]);
    let hidden = images.unified("hidden");
    hidden.import(&incus, &["--alias", "hidden"]);
    fs::copy(
        incus.server_certificate(),
        machine.root().join("var/lib/incus/server.crt"),
    )
    .expect("it can be copied");

    let [public, admin] = [free_address(), free_address()].map(|address| address.port());
    let guide = fs::read_to_string(format!("{CONFIGURATIONS}/guide.conf")).expect("a file of this repository");
    let guide = guide
        .replace("127.0.0.1:8553", &incus.address().to_string())
        .replace("8554 ", &format!("{public} "))
        .replace("8555 ", &format!("{admin} "));
    machine.configure_around();
    let file = machine.configure("etc/nginx/conf.d/lxc.crynux.io.conf", &guide);

    let nginx = machine.start_nginx(public);
    let stranger = Client::stranger();
    let url = format!("https://localhost:{public}");
    stranger
        .run(&["remote", "add", "gate", &url, "--public", "--accept-certificate"])
        .ok();
    stranger.run(&["image", "info", "gate:shown"]).ok();
    // What it is all about.
    stranger.run(&["image", "info", "gate:hidden"]).ok();
    let leaked = Curl::get(format!("{url}/1.0/images")).answer().text();
    assert!(leaked.contains(&hidden.fingerprint), "{leaked}");

    let written = machine.import(&file, &[]).ok();
    drop(nginx);
    let _gateway = Gateway::start(&written);
    stranger.run(&["image", "info", "gate:shown"]).ok();
    stranger.run(&["image", "export", "gate:shown", "shown"]).ok();
    stranger.run(&["image", "info", "gate:hidden"]).fails();
    let seen = Curl::get(format!("{url}/1.0/images")).answer().text();
    assert!(!seen.contains(&hidden.fingerprint), "{seen}");

    let ops = Client::admin(&machine.client);
    ops.run(&[
        "remote",
        "add",
        "gate",
        &format!("https://localhost:{admin}"),
        "--accept-certificate",
    ])
    .ok();
    ops.run(&["image", "info", "gate:hidden"]).ok();
    let more = images.unified("more");
    let more = more.files[0].to_str().expect("a temporary folder's name is plain");
    ops.run(&["image", "import", more, "gate:", "--alias", "more"]).ok();
}

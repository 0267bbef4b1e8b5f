//! `init` sets up a working gateway with one command. It is idempotent and loses no existing data.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;
use testing::certificates::{Certificate, Certificates};
use testing::client::{Client, Curl};
use testing::gateway::{Gateway, binary};
use testing::images::Images;
use testing::incus::Incus;
use testing::run::{Output, Started, run};

/// An Incus with an empty trust store, and an empty folder.
struct Start {
    incus: Incus,
    folder: TempDir,
}

impl Start {
    fn new() -> Self {
        Self {
            incus: Incus::start(&[]),
            folder: tempfile::tempdir().expect("a temporary folder"),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .args(["init", "--public=127.0.0.1:0", "--admin-listen=127.0.0.1:0"])
            .arg(format!("--config={}", self.path("proxy.toml").display()))
            .arg(format!("--letsencrypt={}", self.path("live").display()))
            .args(more);
        if !more.iter().any(|argument| argument.starts_with("--incus")) {
            command.arg(format!("--incus={}", self.incus.variable().display()));
        }
        command
    }

    fn init(&self, more: &[&str]) -> Output {
        run(&mut self.command(more))
    }

    fn configuration(&self) -> String {
        fs::read_to_string(self.path("proxy.toml")).expect("a configuration")
    }

    /// Starts the created configuration from another folder.
    fn gateway(&self) -> Gateway {
        let folder = self.folder.path().display();
        let at_home = |text: String, name: &str| text.replace(&format!("\"{name}/"), &format!("\"{folder}/{name}/"));
        let configuration = at_home(at_home(self.configuration(), "certs"), "live");
        Gateway::start(&format!("{configuration}\n[status]\nsocket = \"status.sock\"\n"))
    }

    /// Returns every file with its content, mode and modification time.
    fn files(&self) -> BTreeMap<PathBuf, (Vec<u8>, u32, i64)> {
        let folders = [self.folder.path().to_owned(), self.path("certs")];
        let entries = folders
            .iter()
            .flat_map(|folder| fs::read_dir(folder).expect("a folder"));
        let paths = entries
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.is_file());
        let of = |path: PathBuf| {
            let metadata = fs::metadata(&path).expect("a file");
            let all = (fs::read(&path).expect("a file"), metadata.mode(), metadata.mtime_nsec());
            (path, all)
        };
        paths.map(of).collect()
    }

    fn trusted(&self) -> usize {
        let list = self.incus.run(&["config", "trust", "list", "--format=csv"]).ok();
        list.lines().count()
    }
}

#[test]
fn init_creates_a_working_gateway() {
    let start = Start::new();
    let printed = start.init(&["--yes", "--name=localhost", "--admin=ops"]).ok();
    assert!(printed.contains("ok    Incus at"), "{printed}");
    assert!(!printed.contains("FAIL"), "{printed}");

    let configuration = start.configuration();
    assert!(
        configuration.contains(&format!("url = \"{}\"", start.incus.url())),
        "{configuration}"
    );
    let pin = start.incus.server_certificate();
    assert!(
        configuration.contains(&format!("server_certificate = \"{}\"", pin.display())),
        "{configuration}"
    );
    for key in ["incus-client.key", "ops.key", "server.key"] {
        let mode = fs::metadata(start.path("certs").join(key))
            .expect("a key")
            .permissions()
            .mode();
        assert_eq!(mode & 0o007, 0, "others can do nothing with {key}");
    }
    assert!(about(&start.path("certs/incus-client.crt")).contains("NIST CURVE: P-384"));

    // The printed next steps work.
    let gateway = start.gateway();
    let index = Curl::get(format!("{}/streams/v1/index.json", gateway.public_url())).answer();
    assert_eq!(index.status, 200, "{configuration}");
    let ops = Certificate {
        certificate: start.path("certs/ops.crt"),
        key: start.path("certs/ops.key"),
    };
    let admin = Client::admin(&ops);
    admin
        .run(&["remote", "add", "own", &gateway.admin_url(), "--accept-certificate"])
        .ok();
    let image = Images::new().split("made by CI");
    let mut import = admin.command();
    import
        .args(["image", "import"])
        .args(&image.files)
        .args(["own:", "--alias", "first", "--public"]);
    run(&mut import).ok();
    let stranger = Client::stranger();
    let add = [
        "remote",
        "add",
        "them",
        &gateway.public_url(),
        "--public",
        "--accept-certificate",
    ];
    stranger.run(&add).ok();
    let info = stranger.run(&["image", "info", "them:first"]).ok();
    assert!(info.contains(&image.fingerprint), "{info}");
}

#[test]
fn a_second_run_changes_nothing_and_reports_it() {
    let start = Start::new();
    start.init(&["--yes", "--name=localhost", "--admin=ops"]).ok();
    let (files, trusted) = (start.files(), start.trusted());
    assert_eq!((files.len(), trusted), (7, 1));
    let printed = start.init(&["--yes", "--name=localhost", "--admin=ops"]).ok();
    assert!(
        printed.contains("Nothing was changed: everything already existed."),
        "{printed}"
    );
    let certificate = format!("--certificate={}", start.path("certs/ops.crt").display());
    let key = format!("--private-key={}", start.path("certs/ops.key").display());
    let printed = start
        .init(&["--yes", "--name=other.example", &certificate, &key, "--rsa"])
        .ok();
    for part in [
        "note    --name other.example differs from ",
        "note    --certificate ",
        "Nothing was changed.\n",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    assert_eq!((start.files(), start.trusted()), (files, trusted));
}

#[test]
fn an_interrupted_run_is_continued() {
    let start = Start::new();
    start.init(&["--yes", "--name=localhost"]).ok();
    let made = start.files();
    fs::remove_file(start.path("proxy.toml")).expect("it was there");
    let printed = start.init(&["--yes", "--name=localhost"]).ok();
    assert!(printed.contains("kept") && printed.contains("wrote"), "{printed}");
    let same = |(path, of): (&PathBuf, &(Vec<u8>, u32, i64))| path.ends_with("proxy.toml") || made[path] == *of;
    assert!(start.files().iter().all(same), "no key is made anew");

    fs::remove_file(start.path("proxy.toml")).expect("it was there");
    fs::remove_file(start.path("certs/server.key")).expect("it was there");
    let complaint = start.init(&["--yes", "--name=localhost"]);
    assert_eq!(complaint.status.code(), Some(1));
    assert!(complaint.stderr.contains("restore the missing file"), "{complaint}");
    assert!(!start.path("proxy.toml").exists() && !start.path("certs/server.key").exists());
}

#[test]
fn the_packaged_example_is_replaced() {
    let start = Start::new();
    let example = include_str!("../../proxy.toml.example");
    fs::write(start.path("proxy.toml"), example).expect("a file");
    start.init(&["--yes", "--name=localhost"]).ok();
    assert_ne!(start.configuration(), example);
    start.gateway();

    let changed = format!("{example}# changed");
    fs::write(start.path("proxy.toml"), &changed).expect("a file");
    start.init(&["--yes", "--name=localhost"]).fails();
    assert_eq!(start.configuration(), changed);
}

#[test]
fn an_admin_is_added_to_an_existing_configuration() {
    let start = Start::new();
    start.init(&["--yes", "--name=localhost", "--admin=ops"]).ok();
    let before = start.configuration();
    let printed = start.init(&["--yes", "--admin=ops", "--admin=ci"]).ok();
    assert!(
        printed.contains("added   the administrator ci") && !printed.contains("the administrator ops to"),
        "{printed}"
    );
    let after = start.configuration();
    let added = after.strip_prefix(&before).expect("nothing else has changed");
    assert_eq!(
        added,
        "\n[[admin.clients]]\nname = \"ci\"\ncertificate = \"certs/ci.crt\"\n"
    );
    start.gateway();

    // An inline array cannot be extended.
    let inline = before
        .replace(
            "[[admin.clients]]\nname = \"ops\"\ncertificate = \"certs/ops.crt\"\n",
            "",
        )
        .replace(
            "[admin] ",
            "[admin]\nclients = [{name = \"ops\", certificate = \"certs/ops.crt\"}] ",
        );
    fs::write(start.path("proxy.toml"), &inline).expect("a file");
    let printed = start.init(&["--yes", "--admin=alice"]).fails();
    assert!(
        printed.contains("cannot append the administrator alice") && printed.contains("certs/alice.crt to it yourself"),
        "{printed}"
    );
    assert_eq!(start.configuration(), inline);
    fs::write(start.path("proxy.toml"), &after).expect("a file");

    let wrong = start.init(&["--yes", "--admin=../ops"]);
    assert_eq!(wrong.status.code(), Some(64));
    assert_eq!(start.configuration(), after);
}

#[test]
fn certbot_certificates_are_found_and_rsa_creates_an_rsa_key() {
    let start = Start::new();
    let live = start.path("live/lxc.example.org");
    fs::create_dir_all(&live).expect("a folder");
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(["lxc.example.org".to_owned()]).expect("a name");
    fs::write(live.join("privkey.pem"), key.serialize_pem()).expect("a file");
    fs::write(
        live.join("fullchain.pem"),
        params.self_signed(&key).expect("made").pem(),
    )
    .expect("a file");
    let printed = start.init(&["--yes", "--rsa"]).ok();
    assert!(
        printed.contains("incus remote add lxc https://lxc.example.org:0 --public"),
        "{printed}"
    );
    assert!(start.configuration().contains("live/lxc.example.org/fullchain.pem"));
    assert!(!start.path("certs/server.crt").exists());
    assert!(about(&start.path("certs/incus-client.crt")).contains("(4096 bit)"));
    start.gateway();
}

#[test]
fn an_incus_without_https_address_gets_one() {
    let start = Start::new();
    start.incus.run(&["config", "unset", "core.https_address"]).ok();
    let printed = start.init(&["--yes", "--name=localhost"]).ok();
    assert!(
        printed.contains("set     Incus's core.https_address to 127.0.0.1:8553"),
        "{printed}"
    );
    assert_eq!(
        start.incus.run(&["config", "get", "core.https_address"]).ok().trim(),
        "127.0.0.1:8553"
    );
}

#[test]
fn without_a_local_incus_the_remaining_steps_are_printed() {
    let start = Start::new();
    let output = start.init(&["--yes", "--name=localhost", "--incus=/nowhere"]);
    assert_eq!(output.status.code(), Some(1));
    let printed = &output.stdout;
    assert!(
        printed.contains("cannot connect to Incus's socket /nowhere/unix.socket: "),
        "{printed}"
    );
    assert!(printed.contains("run: incus config trust add-certificate"), "{printed}");
    assert!(start.path("proxy.toml").exists());

    // When there is a local Incus with another URL, the configuration is not changed.
    let before = start.configuration();
    let printed = start.init(&["--yes", "--name=localhost"]).stdout;
    assert!(
        printed.contains(&format!("note    Incus listens on {}, but", start.incus.url())),
        "{printed}"
    );
    let pin = start.incus.server_certificate();
    let pin = format!("`server_certificate = \"{}\"` in [upstream]", pin.display());
    assert!(printed.contains(&pin), "{printed}");
    assert_eq!(start.configuration(), before);
}

#[test]
fn invalid_arguments_are_rejected_before_anything_is_created() {
    let start = Start::new();
    for (wrong, complaint) in [
        (
            ["--certificate=none.pem", "--private-key=none.key"].as_slice(),
            "--certificate: cannot read none.pem: No such file",
        ),
        (&["--name=a b"], "`a b` is not a valid server name"),
    ] {
        let printed = start.init(&[["--yes"].as_slice(), wrong].concat()).fails();
        assert!(printed.contains(complaint), "{printed}");
        assert_eq!(fs::read_dir(start.folder.path()).expect("a folder").count(), 0);
    }
}

#[test]
fn an_admins_certificate_without_its_key_is_used() {
    let start = Start::new();
    let certificates = Certificates::new();
    let alice = certificates.client("alice");
    fs::create_dir(start.path("certs")).expect("a folder");
    fs::write(start.path("certs/alice.crt"), alice.pem()).expect("a file");
    let printed = start.init(&["--yes", "--name=localhost", "--admin=alice"]).ok();
    assert!(
        printed.contains("certs/alice.crt, whose key is not on this machine"),
        "{printed}"
    );
    assert!(!start.path("certs/alice.key").exists());
    let gateway = start.gateway();
    let answer = Curl::get(format!("{}/1.0/instances", gateway.admin_url()));
    assert_eq!(answer.presenting(&alice).answer().status, 200);
}

#[test]
fn the_gateways_user_can_read_the_files_under_any_umask() {
    let start = Start::new();
    let init = start.command(&["--yes", "--name=localhost", "--admin=ops"]);
    let folder = start.path("gate");
    let arguments = init.get_args().map(|argument| argument.to_string_lossy().into_owned());
    let config = format!("--config={}", folder.join("proxy.toml").display());
    let arguments = arguments.map(|argument| match argument.starts_with("--config=") {
        true => config.clone(),
        false => argument,
    });
    run(Command::new("sh")
        .args(["-c", "umask 077; exec \"$0\" \"$@\"", binary()])
        .args(arguments))
    .ok();
    let mode = |path: &str| fs::metadata(folder.join(path)).expect("it was made").mode() & 0o777;
    for path in ["", "certs"] {
        assert_eq!(mode(path), 0o755, "{path:?}");
    }
    for path in [
        "proxy.toml",
        "certs/server.crt",
        "certs/incus-client.crt",
        "certs/ops.crt",
    ] {
        assert_eq!(mode(path), 0o644, "{path}");
    }
    // If the gateway's user exists, its group may read them.
    assert_eq!(mode("certs/server.key") & !0o040, 0o600);
}

#[test]
fn a_closed_output_does_not_stop_it() {
    let start = Start::new();
    let mut init = start.command(&["--yes", "--name=localhost", "--admin=ops"]);
    let mut child = Started::by(init.stdout(Stdio::piped()));
    drop(child.stdout.take());
    assert!(child.wait().expect("it ends").success());
    start.gateway();
    assert_eq!(start.trusted(), 1);
}

#[test]
fn without_a_terminal_the_option_yes_is_required() {
    let start = Start::new();
    let output = start.init(&[]);
    assert_eq!(output.status.code(), Some(64), "{output}");
    assert!(output.stderr.contains("--yes"), "{output}");
    assert_eq!(fs::read_dir(start.folder.path()).expect("a folder").count(), 0);

    // Answers: the name, twice; no admin; no trust.
    let printed = at_a_terminal(&start.command(&[]), "not a name\nlocalhost\n\nn\n");
    assert!(
        printed.contains("DNS name of this server, as clients use it"),
        "{printed}"
    );
    assert!(printed.contains("This value is not valid."), "{printed}");
    assert!(printed.contains("run: incus config trust add-certificate"), "{printed}");
    assert_eq!(start.trusted(), 0);
    assert!(start.path("proxy.toml").exists());
}

/// Returns the terminal's output for this input.
fn at_a_terminal(command: &Command, typed: &str) -> String {
    let line = std::iter::once(command.get_program()).chain(command.get_args());
    let line = line
        .map(|word| word.to_str().expect("text"))
        .collect::<Vec<_>>()
        .join(" ");
    let mut child = Command::new("script")
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script is installed");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(typed.as_bytes()).expect("somebody reads");
    let output = child.wait_with_output().expect("it ends");
    drop(stdin);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn about(certificate: &Path) -> String {
    run(Command::new("openssl")
        .args(["x509", "-noout", "-text", "-in"])
        .arg(certificate))
    .ok()
}

#[test]
fn symbolic_links_are_not_followed_when_writing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let victim = folder.path().join("victim");
    fs::write(&victim, "precious").expect("written");
    let own = folder.path().join("gate");
    fs::create_dir(&own).expect("made");
    // The shell execs the command, so the link can have its process id. Other users can see process ids.
    let output = run(Command::new("sh")
        .args(["-c", "ln -s \"$1\" \"$2/proxy.toml.$$\"; shift 2; exec \"$@\"", "sh"])
        .args([&victim, &own])
        .args([binary(), "init", "--yes", "--name=localhost", "--incus=/nonexistent"])
        .args(["--public=127.0.0.1:0", "--admin-listen=127.0.0.1:0"])
        .arg(format!("--config={}", own.join("proxy.toml").display())));
    let printed = output.fails();
    assert_eq!(
        fs::read_to_string(&victim).expect("it is there"),
        "precious",
        "{printed}"
    );
}

//! A real Incus with its content, and the gateway in front of it.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::dice::Dice;
use crate::ledger::{Ledger, Outcome};
use testing::certificates::{Certificate, Certificates};
use testing::client::{Answer, Client, Curl};
use testing::gateway::Gateway;
use testing::images::{Image, Images, Kind, export_fingerprint};
use testing::incus::Incus;
use testing::run::{Output, run};
use testing::scene::Setup;

/// The only instance.
pub(crate) const INSTANCE: &str = "gate:one";
/// The timeout of a client command, in seconds: longer than any fault, so that a command that exceeds it hangs.
const PATIENCE: &str = "120";

/// The complete setup.
#[derive(Debug)]
pub(crate) struct Site {
    // Dropped in this order: the gateway before what it depends on.
    pub(crate) gateway: Gateway,
    pub(crate) incus: Incus,
    pub(crate) setup: Setup,
    pub(crate) certificates: Certificates,
    /// The CA that clients trust. The gateway's certificates change.
    pub(crate) authority: Certificate,
    /// The certificate of a temporary administrator.
    pub(crate) guest: Certificate,
    pub(crate) published: Vec<Published>,
    pub(crate) private: Image,
    pub(crate) ledger: Ledger,
    done: AtomicBool,
}

/// An image, and its expected content.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) alias: String,
    pub(crate) fingerprint: String,
    /// The content of an image in one file.
    pub(crate) bytes: Option<Vec<u8>>,
}

impl Site {
    pub(crate) fn start(gateway: &Path) -> Self {
        let certificates = Certificates::new();
        let authority = certificates.authority("authority");
        let mut setup = Setup::new(&certificates, "", Path::new(""));
        setup.server = certificates.server_issued_by(&authority, "server");
        let incus = Incus::start(&[&setup.local]);
        setup.upstream = incus.url();
        setup.pin = Some(incus.server_certificate());
        setup.more = "[metrics]\nlisten = \"127.0.0.1:0\"\n[reload]\ninterval = \"2s\"\n".to_owned();
        let images = Images::new();
        let published = [
            ("small", Kind::Split, 0),
            ("one", Kind::Unified, 1),
            ("some", Kind::Split, 4),
            ("many", Kind::Unified, 24),
        ];
        let published = published.map(|(alias, kind, size)| {
            let image = images.random(kind, alias, size);
            image.import(&incus, &["--public", "--alias", alias]);
            let bytes = (kind == Kind::Unified).then(|| fs::read(&image.files[0]).expect("the file just made"));
            Published {
                alias: alias.to_owned(),
                fingerprint: image.fingerprint,
                bytes,
            }
        });
        let private = images.split("private");
        private.import(&incus, &["--alias", "private"]);
        images.bootable("busybox").import(&incus, &["--alias", "busybox"]);
        incus.run(&["launch", "--quiet", "busybox", "one"]).ok();
        let gateway = Gateway::try_start_by(gateway.as_os_str(), &[], &setup.text());
        let gateway = gateway.unwrap_or_else(|ended| panic!("the gateway does not start: {ended:#?}"));
        Self {
            gateway,
            incus,
            setup,
            guest: certificates.client("guest"),
            certificates,
            authority,
            published: published.into(),
            private,
            ledger: Ledger::default(),
            done: AtomicBool::new(false),
        }
    }

    /// Returns the certificate of the administrator `ops`.
    pub(crate) fn ops(&self) -> &Certificate {
        &self.setup.admins[0].1
    }

    pub(crate) fn end(&self) {
        self.done.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done.load(Ordering::SeqCst)
    }

    /// Sleeps, but returns early at the end of the run.
    pub(crate) fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        while !self.is_done() {
            let Some(left) = until.checked_duration_since(Instant::now()) else {
                return;
            };
            thread::sleep(left.min(Duration::from_millis(200)));
        }
    }

    /// Creates a curl request to the public port.
    pub(crate) fn public(&self, path: &str, dice: &mut Dice) -> Curl {
        self.curl(format!("{}{path}", self.gateway.public_url()), dice)
    }

    /// Creates a curl request to the admin port, as `ops`.
    pub(crate) fn admin(&self, path: &str, dice: &mut Dice) -> Curl {
        self.curl(format!("{}{path}", self.gateway.admin_url()), dice)
            .presenting(self.ops())
    }

    fn curl(&self, url: String, dice: &mut Dice) -> Curl {
        let version = *dice.pick(&["--http1.1", "--http2"]);
        let curl = Curl::get(url).trusting(&self.authority).with([version]);
        match dice.below(4) {
            0 => curl.with(["--tls-max", "1.2"]),
            _ => curl,
        }
    }

    /// Returns a random published image.
    pub(crate) fn some_image(&self, dice: &mut Dice) -> &Published {
        dice.pick(&self.published)
    }

    /// Creates a real client, for which this port is the remote `gate`.
    pub(crate) fn client(&self, admin: bool) -> Client {
        let (client, url) = match admin {
            true => (Client::admin(self.ops()), self.gateway.admin_url()),
            false => (Client::stranger(), self.gateway.public_url()),
        };
        let client = client.trusting(&self.authority);
        let public = if admin { &[][..] } else { &["--public"] };
        client
            .run(&[&["remote", "add", "gate", &url][..], public].concat())
            .ok();
        client
    }
}

/// Runs the real client, with a timeout.
pub(crate) fn incus(client: &Client, arguments: &[impl AsRef<OsStr>]) -> Output {
    run(bounded(client).args(arguments))
}

/// Returns the real client's command with a timeout, for actions that need more than arguments.
pub(crate) fn bounded(client: &Client) -> Command {
    let plain = client.command();
    let mut command = Command::new("timeout");
    command
        .arg(PATIENCE)
        .arg(plain.get_program())
        .current_dir(client.home());
    for (key, value) in plain.get_envs() {
        command.env(key, value.expect("the client removes no variable"));
    }
    command
}

/// Like [`incus`], with input. Returns its output, or its error message.
pub(crate) fn incus_reading(client: &Client, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>, Outcome> {
    let mut command = bounded(client);
    let command = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().expect("coreutils has timeout");
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    let output = thread::scope(|scope| {
        scope.spawn(move || {
            // The client may exit before it has read everything.
            let _ = stdin.write_all(input);
        });
        child.wait_with_output().expect("a child of this process")
    });
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(failed(
            output.status.code(),
            &format!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr)),
        )),
    }
}

/// Returns the output, or a reported failure.
pub(crate) fn ok(output: Output) -> Result<String, Outcome> {
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(failed(output.status.code(), &output.to_string())),
    }
}

fn failed(code: Option<i32>, told: &str) -> Outcome {
    match code {
        // The exit code of `timeout`.
        Some(124) => Outcome::Wrong(format!("it hangs: {told}")),
        _ => Outcome::Told(told.to_owned()),
    }
}

/// Returns the response if it has one of these statuses. An error of the gateway, Incus or curl is a reported failure.
pub(crate) fn answered(curl: Curl, statuses: &[u16]) -> Result<Answer, Outcome> {
    let answer = curl.send().map_err(Outcome::Told)?;
    if statuses.contains(&answer.status) {
        return Ok(answer);
    }
    let json = serde_json::from_slice(&answer.body).unwrap_or(serde_json::Value::Null);
    let is_error = json["type"] == "error" && json["error_code"] == answer.status && json["metadata"].is_null();
    let text: String = answer.text().chars().take(300).collect();
    let told = format!("{} {:?} {text}", answer.status, answer.header("server"));
    match answer.status {
        500 | 502 | 503 if is_error => Err(Outcome::Told(told)),
        _ => Err(Outcome::Wrong(told)),
    }
}

/// Verifies that an export is the complete image.
pub(crate) fn is_image(answer: &Answer, fingerprint: &str) -> Result<(), Outcome> {
    let found = std::panic::catch_unwind(|| export_fingerprint(answer)).unwrap_or_else(|_| "no export".to_owned());
    match found == fingerprint {
        true => Ok(()),
        false => Err(Outcome::Wrong(format!(
            "{} bytes are {found}, not {fingerprint}",
            answer.body.len()
        ))),
    }
}

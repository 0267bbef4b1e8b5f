//! The real `incus` client on a remote machine, LXD's `lxc`, and curl.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::certificates::Certificate;
use super::run::{Output, run};

/// The real `incus` or `lxc` client, with its own home folder and without a local daemon.
#[derive(Debug)]
pub struct Client {
    program: &'static str,
    home: TempDir,
    /// The CA certificates that replace the system's.
    trusts: Option<OsString>,
}

impl Client {
    /// Creates a client without a certificate. `incus` generates one when it needs one.
    pub fn stranger() -> Self {
        Self {
            program: "incus",
            home: tempfile::tempdir().expect("a temporary folder"),
            trusts: None,
        }
    }

    /// Creates a client of LXD without a certificate.
    pub fn lxd() -> Self {
        let client = Self {
            program: "lxc",
            ..Self::stranger()
        };
        // Without a configuration, the client prints a greeting.
        std::fs::write(client.home().join("config.yml"), "{}\n").expect("a temporary file can be written");
        client
    }

    /// Creates a client with this certificate.
    pub fn admin(certificate: &Certificate) -> Self {
        let client = Self::stranger();
        for (from, to) in [
            (&certificate.certificate, "client.crt"),
            (&certificate.key, "client.key"),
        ] {
            std::fs::copy(from, client.home().join(to)).expect("a temporary file can be written");
        }
        client
    }

    /// Makes the client trust this CA, as if the system did.
    pub fn trusting(mut self, authority: &Certificate) -> Self {
        self.trusts = Some(authority.certificate.clone().into());
        self
    }

    /// Makes the client trust this server certificate for its remote of this name.
    pub fn trust_remote(&self, remote: &str, certificate: &Certificate) {
        let folder = self.home().join("servercerts");
        std::fs::create_dir_all(&folder).expect("a temporary folder can be created");
        let file = folder.join(format!("{remote}.crt"));
        std::fs::copy(&certificate.certificate, file).expect("a temporary file can be written");
    }

    /// Returns the name of the program.
    pub fn program(&self) -> &'static str {
        self.program
    }

    /// Returns the home folder, which contains the remotes. Tests put their files here too.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Runs the client and waits until it exits.
    pub fn run(&self, arguments: &[impl AsRef<OsStr>]) -> Output {
        run(self.command().args(arguments))
    }

    /// Returns the client's command, for tests that need more than arguments.
    pub fn command(&self) -> Command {
        let mut command = Command::new(self.program);
        for variable in ["INCUS_CONF", "LXD_CONF"] {
            command.env(variable, self.home());
        }
        for variable in ["INCUS_DIR", "LXD_DIR"] {
            command.env(variable, self.home().join("no-daemon"));
        }
        command.env("HOME", self.home()).current_dir(self.home());
        if let Some(authority) = &self.trusts {
            command.env("SSL_CERT_FILE", authority);
        }
        command
    }
}

/// A request by curl. It sends the path unchanged, and does not verify the server's certificate unless told to.
#[derive(Debug)]
pub struct Curl {
    url: String,
    arguments: Vec<OsString>,
}

/// The response.
#[derive(Debug)]
pub struct Answer {
    /// `1.1` or `2`.
    pub version: String,
    /// The status code.
    pub status: u16,
    /// The headers in their order, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as received.
    pub body: Vec<u8>,
    /// curl's messages on stderr; more with `--verbose`.
    pub complaints: String,
}

impl Curl {
    /// Creates a GET request for this URL.
    pub fn get(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            arguments: Vec::new(),
        }
    }

    /// Adds arguments of curl, such as `--http1.1`, `--tls-max 1.2` or `--header "Range: bytes=0-9"`.
    pub fn with<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets the method.
    pub fn method(self, method: &str) -> Self {
        match method {
            "HEAD" => self.with(["--head"]),
            method => self.with(["--request", method]),
        }
    }

    /// Adds a header.
    pub fn header(self, line: &str) -> Self {
        self.with(["--header", line])
    }

    /// Presents this certificate when the server requests one.
    pub fn presenting(self, certificate: &Certificate) -> Self {
        self.with([OsString::from("--cert"), certificate.certificate.clone().into()])
            .with([OsString::from("--key"), certificate.key.clone().into()])
    }

    /// Trusts only this certificate, as the server's or as its issuer.
    pub fn trusting(self, certificate: &Certificate) -> Self {
        self.with([OsString::from("--cacert"), certificate.certificate.clone().into()])
    }

    /// Sends the request. Returns the response, or curl's error message and exit code.
    pub fn send(self) -> Result<Answer, String> {
        const HEADERS: &str = "headers";
        let folder = tempfile::tempdir().expect("a temporary folder");
        let headers = folder.path().join(HEADERS);
        let body = folder.path().join("body");
        let mut command = Command::new("curl");
        command
            .args([
                "--disable",
                "--silent",
                "--show-error",
                "--path-as-is",
                "--globoff",
                "--noproxy",
                "*",
            ])
            .args(["--max-time", "60", "--write-out", "%{http_version} %{http_code}"])
            .arg("--dump-header")
            .arg(&headers)
            .arg("--output")
            .arg(&body)
            .args(&self.arguments);
        if !self.arguments.iter().any(|argument| argument == "--cacert") {
            command.arg("--insecure");
        }
        let output = run(command.arg(&self.url));
        if !output.status.success() {
            return Err(output.to_string());
        }
        let (version, status) = output.stdout.split_once(' ').expect("the format of --write-out");
        let headers = std::fs::read(headers).expect("curl has written the headers");
        Ok(Answer {
            version: version.to_owned(),
            status: status.parse().expect("a status code"),
            headers: last_head(&String::from_utf8_lossy(&headers)),
            // Without a body, curl creates no file.
            body: std::fs::read(body).unwrap_or_default(),
            complaints: output.stderr,
        })
    }

    /// Sends the request and returns the response. Panics if curl fails.
    #[track_caller]
    pub fn answer(self) -> Answer {
        self.send().unwrap_or_else(|complaint| panic!("{complaint}"))
    }
}

impl Answer {
    /// Returns the value of a header; the first one of several.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    }

    /// Returns the body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns the body as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}): {}", self.text()))
    }
}

/// Returns the headers of the final response, without those of `100 Continue` and other interim responses.
fn last_head(text: &str) -> Vec<(String, String)> {
    let heads = text.split("\r\n\r\n").filter(|head| !head.trim().is_empty());
    let lines = heads.last().unwrap_or_default().lines().skip(1);
    let fields = lines.filter_map(|line| line.split_once(':'));
    fields
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect()
}

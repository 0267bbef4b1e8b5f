//! A machine with Nginx on it, as far as a configuration can tell: everything that the files name lies in one folder.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use testing::certificates::{Certificate, Certificates};
use testing::gateway::binary;
use testing::run::{Output, run, signal};

/// Where the configurations of these tests are.
pub(crate) const CONFIGURATIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/import_nginx");

#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) certificates: Certificates,
    /// The one certificate of the guide.
    pub(crate) client: Certificate,
    pub(crate) server: Certificate,
    /// What stands in a snapshot in place of what changes from run to run.
    names: Vec<(String, String)>,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let certificates = Certificates::new();
        let client = certificates.openssl_rsa("incus-client");
        let server = certificates.server("server");
        let mut machine = Self {
            certificates,
            client,
            server,
            names: Vec::new(),
        };
        machine.lay_out();
        machine
    }

    /// The folder that stands for `/`.
    pub(crate) fn root(&self) -> &Path {
        self.certificates.folder()
    }

    fn lay_out(&mut self) {
        let [ops, ci, odd, local] = ["ops", "ci", "somebody else", "local"].map(|name| self.certificates.client(name));
        let authority = self.certificates.authority("authority");
        let incus = self.certificates.server("incus");
        for (from, to) in [
            (&self.client, "home/ubuntu/incus-certs/incus-client"),
            (&self.server, "etc/nginx/certs/server"),
            (&ops, "etc/nginx/certs/ops"),
            (&local, "etc/nginx/certs/local"),
            (&authority, "etc/nginx/certs/authority"),
            (&incus, "etc/nginx/certs/incus"),
            (&incus, "var/lib/incus/server"),
        ] {
            self.write(&format!("{to}.crt"), &from.pem());
            let key = fs::read_to_string(&from.key).expect("a key that was just made");
            self.write(&format!("{to}.key"), &key);
        }
        // As `certbot` lays them out.
        let key = fs::read_to_string(&self.server.key).expect("a key that was just made");
        self.write("etc/letsencrypt/live/crynux.io/fullchain.pem", &self.server.pem());
        self.write("etc/letsencrypt/live/crynux.io/privkey.pem", &key);
        // One of them twice.
        let all = [&ops, &ci, &odd, &ops].map(Certificate::pem).concat();
        self.write("etc/nginx/certs/admins.crt", &all);
        self.write("etc/nginx/htpasswd", "");
        for folder in ["run", "var/log/nginx", "var/cache/nginx", "var/www"] {
            fs::create_dir_all(self.root().join(folder)).expect("a temporary folder can be made");
        }
        for (name, certificate) in [
            ("OPS", &ops),
            ("CI", &ci),
            ("ODD", &odd),
            ("LOCAL", &local),
            ("CLIENT", &self.client),
            ("AUTHORITY", &authority),
        ] {
            self.names
                .push((certificate.fingerprint(), format!("<SHA-256 {name}>")));
            self.names.push((sha1(certificate), format!("@SHA1 {name}@")));
        }
    }

    /// Writes a file below the root.
    pub(crate) fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().expect("it is below the root")).expect("a temporary folder can be made");
        fs::write(&path, text).expect("a temporary file can be written");
        path
    }

    /// Writes a configuration, with every absolute path in it below the root.
    pub(crate) fn configure(&self, path: &str, text: &str) -> PathBuf {
        let mut text = text.to_owned();
        for (value, name) in &self.names {
            text = text.replace(name, value);
        }
        for folder in ["/etc/", "/home/", "/run/", "/var/"] {
            text = text.replace(folder, &format!("{}{folder}", self.root().display()));
        }
        self.write(path, &text)
    }

    /// What a stock `nginx.conf` puts around the files in `conf.d`.
    pub(crate) fn configure_around(&self) {
        let text = "pid /run/nginx.pid;\nerror_log /var/log/nginx/error.log;\nevents {}\nhttp {\n\
            ssl_protocols TLSv1.2 TLSv1.3;\naccess_log off;\ninclude conf.d/*.conf;\n}\n";
        self.configure("etc/nginx/nginx.conf", text);
    }

    /// `incus-gate import-nginx`.
    pub(crate) fn import(&self, file: &Path, arguments: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command.arg("import-nginx").arg(file).args(arguments);
        run(command.env("INCUS_DIR", self.root().join("var/lib/incus")))
    }

    /// The same in every run, for snapshots.
    pub(crate) fn normal(&self, output: &Output) -> String {
        let mut text = format!(
            "{}\n--- stderr\n{}\n--- stdout\n{}",
            output.status, output.stderr, output.stdout
        );
        for (value, name) in &self.names {
            text = text.replace(value, name);
        }
        text.replace(&self.root().display().to_string(), "")
    }

    /// What Nginx itself says of the configuration.
    pub(crate) fn nginx_test(&self) -> Output {
        run(self.nginx().arg("-t"))
    }

    /// Starts Nginx, and waits for one of its ports.
    pub(crate) fn start_nginx(&self, port: u16) -> Nginx {
        let mut command = self.nginx();
        command
            .args(["-g", "daemon off;"])
            .stdout(Stdio::null())
            .process_group(0);
        let mut child = command.spawn().expect("nginx is installed");
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(child.try_wait().expect("our own child").is_none(), "nginx has ended");
            assert!(Instant::now() < deadline, "nginx does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        Nginx(child)
    }

    fn nginx(&self) -> Command {
        let mut command = Command::new("/usr/sbin/nginx");
        let folder = self.root().join("etc/nginx");
        command.arg("-p").arg(&folder).arg("-c").arg(folder.join("nginx.conf"));
        command.arg("-e").arg(self.root().join("var/log/nginx/first.log"));
        command
    }
}

/// A running Nginx; it is stopped when it is dropped.
#[derive(Debug)]
pub(crate) struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            signal(self.0.id(), "TERM");
        }
        let _ = self.0.wait();
    }
}

/// As Nginx and openssl have it.
fn sha1(certificate: &Certificate) -> String {
    let mut command = Command::new("openssl");
    command
        .args(["x509", "-noout", "-fingerprint", "-sha1", "-in"])
        .arg(&certificate.certificate);
    let line = run(&mut command).ok();
    let (_, digits) = line.trim().split_once('=').expect("openssl's own format");
    digits.replace(':', "").to_ascii_lowercase()
}

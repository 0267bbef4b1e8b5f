//! The usual setup: a real Incus, the gateway in front of it, and one administrator.

use std::path::{Path, PathBuf};

use super::certificates::{Certificate, Certificates};
use super::client::{Answer, Client, Curl};
use super::gateway::{Gateway, toml};
use super::incus::Incus;
use super::scripted::Scripted;

/// The values of a configuration, which a test can change before the text is generated.
#[derive(Clone, Debug)]
pub struct Setup {
    /// `upstream.url`
    pub upstream: String,
    /// `upstream.server_certificate`
    pub pin: Option<PathBuf>,
    /// The gateway's client certificate for Incus.
    pub local: Certificate,
    /// The server certificate of both ports.
    pub server: Certificate,
    /// Names and certificates of the administrators.
    pub admins: Vec<(String, Certificate)>,
    /// `public.listen`
    pub public: String,
    /// `admin.listen`
    pub admin: String,
    /// `public.images`
    pub images: String,
    /// Further lines of the table `[upstream]`.
    pub more_upstream: String,
    /// Further lines of the table `[public]`.
    pub more_public: String,
    /// Further lines of the table `[admin]`.
    pub more_admin: String,
    /// `status.socket`, next to each gateway's configuration.
    pub status: String,
    /// Further tables.
    pub more: String,
}

impl Setup {
    /// Creates the usual configuration, with one administrator `ops`.
    pub fn new(certificates: &Certificates, upstream: &str, pin: &Path) -> Self {
        Self {
            upstream: upstream.to_owned(),
            pin: Some(pin.to_owned()),
            local: certificates.client("local"),
            server: certificates.server("server"),
            admins: vec![("ops".to_owned(), certificates.client("ops"))],
            public: "127.0.0.1:0".to_owned(),
            admin: "127.0.0.1:0".to_owned(),
            images: "public".to_owned(),
            more_upstream: String::new(),
            more_public: String::new(),
            more_admin: String::new(),
            status: "status.sock".to_owned(),
            more: String::new(),
        }
    }

    /// Returns the text of `proxy.toml`.
    pub fn text(&self) -> String {
        let pin = match &self.pin {
            Some(pin) => format!("server_certificate = {}", toml(pin)),
            None => String::new(),
        };
        let admins: String = self
            .admins
            .iter()
            .map(|(name, admin)| admin_table(name, admin))
            .collect();
        format!(
            r#"
[tls]
certificate = {}
private_key = {}

[upstream]
url = "{}"
client_certificate = {}
client_private_key = {}
{pin}
{}

[public]
listen = "{}"
images = "{}"
{}

[admin]
listen = "{}"
{}
{admins}

[status]
socket = "{}"

{}
"#,
            toml(&self.server.certificate),
            toml(&self.server.key),
            self.upstream,
            toml(&self.local.certificate),
            toml(&self.local.key),
            self.more_upstream,
            self.public,
            self.images,
            self.more_public,
            self.admin,
            self.more_admin,
            self.status,
            self.more,
        )
    }
}

fn admin_table(name: &str, admin: &Certificate) -> String {
    let certificate = toml(&admin.certificate);
    format!("[[admin.clients]]\nname = \"{name}\"\ncertificate = {certificate}\n")
}

/// A real Incus with the gateway in front of it.
#[derive(Debug)]
pub struct Scene {
    // Dropped in this order: the gateway before what it depends on.
    pub gateway: Gateway,
    pub incus: Incus,
    pub setup: Setup,
    pub certificates: Certificates,
}

impl Scene {
    /// Starts the usual setup.
    pub fn start() -> Self {
        Self::start_with(|_| {})
    }

    /// Starts the usual setup with a modified configuration.
    pub fn start_with(change: impl FnOnce(&mut Setup)) -> Self {
        let certificates = Certificates::new();
        let mut setup = Setup::new(&certificates, "", Path::new(""));
        let incus = Incus::start(&[&setup.local]);
        setup.upstream = incus.url();
        setup.pin = Some(incus.server_certificate());
        change(&mut setup);
        let gateway = Gateway::start(&setup.text());
        Self {
            gateway,
            incus,
            setup,
            certificates,
        }
    }

    /// Returns the certificate of the administrator `ops`.
    pub fn ops(&self) -> &Certificate {
        &self.setup.admins[0].1
    }

    /// Creates a client without a certificate, for which the public port is the remote `gate`.
    pub fn stranger(&self) -> Client {
        let client = Client::stranger();
        client.run(&self.remote_add()).ok();
        client
    }

    /// Starts another Incus, for whose client the public port is the remote `gate`.
    pub fn other_incus(&self) -> Incus {
        let other = Incus::start(&[]);
        other.run(&self.remote_add()).ok();
        other
    }

    /// Sends a GET request to the public port.
    pub fn get(&self, path: &str) -> Answer {
        Curl::get(format!("{}{path}", self.gateway.public_url())).answer()
    }

    fn remote_add(&self) -> [String; 6] {
        let url = self.gateway.public_url();
        ["remote", "add", "gate", &url, "--public", "--accept-certificate"].map(str::to_owned)
    }

    /// Makes the public port refresh its list: it does so before it rejects an unknown name.
    pub fn refresh(&self) {
        assert_eq!(self.get("/1.0/images/aliases/no-such-name").status, 404);
    }
}

/// The gateway in front of a scripted upstream.
#[derive(Debug)]
pub struct ScriptedScene {
    // Dropped before the certificates that it uses.
    pub gateway: Gateway,
    pub setup: Setup,
    pub certificates: Certificates,
}

impl ScriptedScene {
    /// Starts the usual setup.
    pub fn before(upstream: &Scripted) -> Self {
        Self::before_with(upstream, |_| {})
    }

    /// Starts the usual setup with a modified configuration.
    pub fn before_with(upstream: &Scripted, change: impl FnOnce(&mut Setup)) -> Self {
        let certificates = Certificates::new();
        let mut setup = Setup::new(&certificates, &upstream.url(), &upstream.certificate());
        change(&mut setup);
        let gateway = Gateway::start(&setup.text());
        Self {
            gateway,
            setup,
            certificates,
        }
    }

    /// Returns the certificate of the administrator `ops`.
    pub fn ops(&self) -> &Certificate {
        &self.setup.admins[0].1
    }
}

//! The usual scene: a real Incus, the gateway in front of it, one admin.

use std::path::{Path, PathBuf};

use super::certificates::{Certificate, Certificates};
use super::client::{Answer, Client, Curl};
use super::gateway::{Gateway, toml};
use super::incus::Incus;
use super::scripted::Scripted;

/// Everything that a configuration says, to be changed before it becomes text.
#[derive(Clone, Debug)]
pub struct Setup {
    /// `upstream.url`
    pub upstream: String,
    /// `upstream.server_certificate`
    pub pin: Option<PathBuf>,
    /// What the gateway shows to Incus.
    pub local: Certificate,
    /// What clients see on both ports.
    pub server: Certificate,
    /// Names and certificates.
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
    /// `status.socket`: each gateway's own, beside its configuration.
    pub status: String,
    /// Further tables.
    pub more: String,
}

impl Setup {
    /// The usual one, with one admin `ops`.
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

    /// The text of `proxy.toml`.
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
    // Dropped in this order: the gateway goes before what it needs.
    pub gateway: Gateway,
    pub incus: Incus,
    pub setup: Setup,
    pub certificates: Certificates,
}

impl Scene {
    /// The usual one.
    pub fn start() -> Self {
        Self::start_with(|_| {})
    }

    /// One whose configuration is changed a little.
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

    /// The certificate of the admin `ops`.
    pub fn ops(&self) -> &Certificate {
        &self.setup.admins[0].1
    }

    /// The real client of a stranger, to whom the public port is the remote `gate`.
    pub fn stranger(&self) -> Client {
        let client = Client::stranger();
        client.run(&self.remote_add()).ok();
        client
    }

    /// Another Incus, to whose client the public port is the remote `gate`.
    pub fn other_incus(&self) -> Incus {
        let other = Incus::start(&[]);
        other.run(&self.remote_add()).ok();
        other
    }

    /// GET on the public port.
    pub fn get(&self, path: &str) -> Answer {
        Curl::get(format!("{}{path}", self.gateway.public_url())).answer()
    }

    fn remote_add(&self) -> [String; 6] {
        let url = self.gateway.public_url();
        ["remote", "add", "gate", &url, "--public", "--accept-certificate"].map(str::to_owned)
    }

    /// Has the public port look at Incus anew: a name that it does not know is not denied without that.
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
    /// The usual one.
    pub fn before(upstream: &Scripted) -> Self {
        Self::before_with(upstream, |_| {})
    }

    /// One whose configuration is changed a little.
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

    /// The certificate of the admin `ops`.
    pub fn ops(&self) -> &Certificate {
        &self.setup.admins[0].1
    }
}

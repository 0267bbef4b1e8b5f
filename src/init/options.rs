//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::port::Port;

/// The command-line options of `init`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The configuration file to write; certificates and keys are created in the folder `certs` next to it
    #[arg(long, value_name = "FILE", default_value = "/etc/incus-gate/proxy.toml")]
    pub(super) config: PathBuf,
    /// The DNS name under which clients reach this server, such as lxc.example.org
    #[arg(long, value_name = "DNS")]
    pub(super) name: Option<String>,
    /// PEM file with the server certificate and its chain; default: certbot's for that name, or a new self-signed one
    #[arg(long, value_name = "FILE", requires = "private_key")]
    pub(super) certificate: Option<PathBuf>,
    /// PEM file with its private key
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub(super) private_key: Option<PathBuf>,
    /// The name of an administrator to create a certificate for; can be repeated
    #[arg(long = "admin", value_name = "NAME")]
    pub(super) admins: Vec<String>,
    /// The listen address of the public port
    #[arg(long, value_name = "ADDRESS", default_value_t = Port::Public.usual_address())]
    pub(super) public: SocketAddr,
    /// The listen address of the admin port
    #[arg(long = "admin-listen", value_name = "ADDRESS", default_value_t = Port::Admin.usual_address())]
    pub(super) admin: SocketAddr,
    /// Create RSA keys of 4,096 bits instead of ECDSA P-384, which Incus itself uses
    #[arg(long)]
    pub(super) rsa: bool,
    /// The folder of the local Incus; default: $INCUS_DIR, or /var/lib/incus
    #[arg(long, value_name = "DIR")]
    pub(super) incus: Option<PathBuf>,
    /// The folder of certbot's certificates
    #[arg(long, value_name = "DIR", default_value = "/etc/letsencrypt/live")]
    pub(super) letsencrypt: PathBuf,
    /// Do not prompt; accept every default
    #[arg(long)]
    pub(super) yes: bool,
}

//! incus-gate: the one binary that puts an Incus server's images on the internet.
//!
//! ```text
//!  strangers ──TLS──▶ public port ─ question ─ catalogue ─┐
//!                                                          ├─ upstream ──mTLS, HTTP/1.1──▶ Incus
//!  admins ─TLS + certificate──▶ admin port ─ judge ────────┘
//! ```
//!
//! # The way of a connection
//! 1. **Accept**: [`listener`] hands it to a [`worker`], which it never leaves. Behind a proxy, [`proxy_protocol`] says whose
//!    it is.
//! 2. **Handshake**: [`connection`], with what [`tls`] shows to clients.
//! 3. **Who are you, may you**: on the admin port [`admin`] has the certificate judged by [`identity`], for every request
//!    anew. On the public port nobody is anybody: [`public`] reads the request into one of six questions, or shows people a
//!    page. On either, [`plain`] refuses what can be read in two ways.
//! 4. **Answer**: the public port from its catalogue, the admin port through [`forward`]. Both talk to Incus through
//!    [`upstream`] alone. What is refused becomes a status in [`reply`]; what its client still sends is [`leftover`].
//!
//! # The rest
//! - A [`client`] is what its connection is known by, and [`telemetry`] tells what became of each of its requests.
//! - [`config`] is `proxy.toml`, read whole before anything else happens, each file by [`file`]; [`live`] is what is made of it, replaced whole by
//!   a reload.
//! - [`net`] names the two ports, and is the stream that a client's TLS becomes; [`networks`] are those of a configuration.
//! - [`limits`] says who may connect, and how much of us a client may take.
//! - [`metrics`] counts, and says whether all is well; [`status`] tells who asks on this machine, by the way of [`local`].
//! - [`lifecycle`] starts and drains, [`reload`] brings a new configuration into force; [`cli`] reads the arguments;
//!   [`check`] tries a configuration, [`init`] makes one, [`import_nginx`] makes one of Nginx's.
//! - [`sandbox`] is what the process takes from itself; [`systemd`] what it tells of itself.

pub mod admin;
pub mod admission;
pub mod check;
pub mod cidr;
pub mod cli;
pub mod config;
pub mod connection;
pub mod drain_body;
pub mod file;
pub mod forward;
pub mod framing;
pub mod identity;
pub mod import_nginx;
pub mod init;
pub mod lifecycle;
pub mod listener;
pub mod metrics;
pub mod net;
pub mod proxy_protocol;
pub mod public;
pub mod reload;
pub mod reply;
pub mod sandbox;
pub mod state;
pub mod status;
pub mod systemd;
pub mod telemetry;
pub mod tls;
pub mod unix_http;
pub mod upstream;
pub mod worker;

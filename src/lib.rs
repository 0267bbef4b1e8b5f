//! incus-gate: one binary that publishes an Incus server's images and proxies its API for administrators.
//!
//! ```text
//!  anyone ──TLS──▶ public port ─ route ─ catalogue ────────┐
//!                                                           ├─ upstream ──mTLS, HTTP/1.1──▶ Incus
//!  admins ──TLS + certificate──▶ admin port ─ identity ─────┘
//! ```
//!
//! # The path of a request
//! 1. **Accept**: [`listener`] accepts a connection and passes it to a [`worker`], one per processor core. A connection never
//!    moves to another worker. Behind a proxy, [`proxy_protocol`] reads the client's address.
//! 2. **Admit**: [`admission`] limits connections, requests and memory, per client and in all ([`limits`]).
//! 3. **Handshake**: [`connection`], with the keys and verifiers of [`tls`]. The result is a [`client_stream`].
//! 4. **Who are you, may you**: [`framing`] rejects requests that can be read in more than one way. On the admin port,
//!    [`admin`] lets [`identity`] check the client certificate for every request. On the public port, [`public`] parses the
//!    request into one of six routes, or serves the web page.
//! 5. **Answer**: the public port answers from its catalogue; the admin port proxies through [`forward`]. Both use Incus through
//!    [`upstream`] only. [`reply`] turns every error into a response; [`drain_body`] reads what the client still sends.
//! 6. **Record**: [`telemetry`] writes one record per request, with an [`abort_reason`] if it did not complete.
//!
//! # The rest
//! - [`config`] is `proxy.toml`, parsed before anything binds. [`state`] is what the gateway derives from it; a reload replaces
//!   it as a whole.
//! - [`counters`] are the types that each module counts with; [`metrics`] exports them and reports health. [`status`] answers
//!   the commands `status` and `images` over [`unix_http`].
//! - [`lifecycle`] starts and drains the gateway, [`reload`] applies a new configuration, [`cli`] parses the arguments.
//!   [`check`] verifies a configuration, [`init`] creates one, [`import_nginx`] converts one of Nginx
//!   with the crate [`nginx_import`], which does not depend on this one.
//! - [`sandbox`] drops rights of the process, [`systemd`] notifies the service manager.
//! - Small types: [`port`], [`cidr`], [`file`], [`socket_options`], [`upgraded_io`].

pub mod abort_reason;
pub mod admin;
pub mod admission;
pub mod check;
pub mod cidr;
pub mod cli;
pub mod client_stream;
pub mod config;
pub mod connection;
pub mod counters;
pub mod drain_body;
pub mod file;
pub mod forward;
pub mod framing;
pub mod identity;
pub mod import_nginx;
pub mod init;
pub mod lifecycle;
pub mod limits;
pub mod listener;
pub mod metrics;
pub mod port;
pub mod proxy_protocol;
pub mod public;
pub mod reload;
pub mod reply;
pub mod sandbox;
pub mod socket_options;
pub mod state;
pub mod status;
pub mod systemd;
pub mod telemetry;
pub mod tls;
pub mod unix_http;
pub mod upgraded_io;
pub mod upstream;
pub mod worker;

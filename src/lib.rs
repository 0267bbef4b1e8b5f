//! incus-gate: one binary that publishes an Incus server's images and proxies its API for administrators.
//!
//! ```text
//!  anyone ──TLS──▶ public port ─ route ─ catalogue ────────┐
//!                                                           ├─ upstream ──mTLS, HTTP/1.1──▶ Incus
//!  admins ──TLS + certificate──▶ admin port ─ identity ─────┘
//! ```
//!
//! # The path of a request
//! 1. **Accept**: [`listener`] binds the sockets, and [`accept`] accepts connections on a [`worker`], one per processor core. A
//!    connection never moves to another worker. Behind a proxy, [`proxy_protocol`] reads the client's address.
//! 2. **Admit**: [`admission`] limits connections, requests and memory, per client and in all ([`limits`]).
//! 3. **Handshake**: [`connection`], with the keys and verifiers of [`tls`]. The result is a [`peer`] and a [`client_stream`].
//! 4. **Serve**: a [`service`] that [`mount`] has mounted on the listener answers. [`framing`] rejects requests that can be read
//!    in more than one way. [`public`] parses a request into one of six routes, or serves the web page, and answers from its
//!    catalogue. [`admin`] lets [`identity`] check the client certificate for every request, and proxies through [`forward`];
//!    [`authority`] ends the connections of those who are no longer administrators. Both use Incus through [`upstream`] only.
//!    [`reply`] turns every error into a [`response`] in Incus's format; [`drain_body`] reads what the client still sends, and
//!    [`generation`] bounds the memory of old documents that slow clients still read.
//! 5. **Record**: [`telemetry`] writes one record per request, with an [`abort_reason`] if it did not complete.
//!
//! Nothing up to the services, and nothing that records, knows what the services do.
//!
//! # The rest
//! - [`config`] is `proxy.toml`, parsed before anything binds. [`state`] is what the gateway derives from it; a reload replaces
//!   it as a whole, with the [`edge_config`] of the listeners, each known by its [`listener_id`].
//! - [`counters`] are the types that each module counts with; [`metrics`] exports them and reports health, for which it reads
//!   Incus's [`server_info`]. [`status`] answers the commands `status` and `images` over [`unix_http`].
//! - [`lifecycle`] starts the gateway, and ends it by a [`shutdown`]; [`reload`] applies a new configuration, [`cli`] parses the
//!   arguments. [`check`] verifies a configuration, [`init`] creates one, [`import_nginx`] converts one of Nginx.
//! - [`sandbox`] drops rights of the process, [`systemd`] notifies the service manager.
//! - Small types: [`port`], [`cidr`], [`file`], [`socket_options`], [`upgraded_io`].

pub mod abort_reason;
pub mod accept;
pub mod admin;
pub mod admission;
pub mod authority;
pub mod check;
pub mod cidr;
pub mod cli;
pub mod client_stream;
pub mod config;
pub mod connection;
pub mod counters;
pub mod drain_body;
pub mod edge_config;
pub mod file;
pub mod forward;
pub mod framing;
pub mod generation;
pub mod identity;
pub mod import_nginx;
pub mod init;
pub mod lifecycle;
pub mod limits;
pub mod listener;
pub mod listener_id;
pub mod metrics;
pub mod mount;
pub mod peer;
pub mod port;
pub mod proxy_protocol;
pub mod public;
pub mod reload;
pub mod reply;
pub mod response;
pub mod sandbox;
pub mod server_info;
pub mod service;
pub mod shutdown;
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

//! incus-gate: one binary that publishes an Incus server's images and proxies its API for administrators.
//!
//! ```text
//!  anyone ──TLS──▶ public port ─ route ─ catalogue ────────┐
//!                                                           ├─ upstream ──mTLS, HTTP/1.1──▶ Incus
//!  admins ──TLS + certificate──▶ admin port ─ identity ─────┘
//! ```
//!
//! # The path of a request
//! The front, [`edge`], accepts a connection on a worker, one per processor core, admits it within its limits, performs the
//! handshake, and gives each request to a service of the listener. It knows nothing of Incus. [`mount`] mounts the services:
//! - [`public`] parses a request into one of six routes, or serves the web page, and answers from its catalogue.
//! - [`admin`] lets [`identity`] check the client certificate for every request, and proxies through [`forward`]. [`authority`]
//!   ends the connections of those who are no longer administrators.
//!
//! - [`mod@simplestreams`] serves the same images to simplestreams clients.
//! - [`image_store`] fills the store of image files from Incus; downloads come from there if there is one.
//!
//! Both use Incus through [`edge::upstream`] only. [`reply`] turns every error into a response in Incus's format. When the
//! response has ended, the edge writes one record of the request.
//!
//! # The rest
//! - [`config`] is `proxy.toml`, parsed before anything binds. [`state`] is what the gateway derives from it; a reload replaces
//!   it as a whole.
//! - [`metrics`] exports what each module counts, and reports health, for which it reads Incus's [`server_info`]. [`status`]
//!   answers the commands `status` and `images` over [`unix_http`].
//! - [`lifecycle`] starts the gateway and ends it, [`reload`] applies a new configuration, [`cli`] parses the arguments.
//!   [`check`] verifies a configuration, [`init`] creates one, [`import_nginx`] converts one of Nginx
//!   with the crate [`nginx_import`], which does not depend on this one.
//! - [`sandbox`] drops rights of the process, [`systemd`] notifies the service manager.

pub mod admin;
pub mod authority;
pub mod check;
pub mod cli;
pub mod config;
pub mod forward;
pub mod identity;
pub mod image_store;
pub mod import_nginx;
pub mod init;
pub mod lifecycle;
pub mod metrics;
pub mod mount;
pub mod public;
pub mod reload;
pub mod reply;
pub mod sandbox;
pub mod server_info;
pub mod simplestreams;
pub mod state;
pub mod status;
pub mod systemd;
pub mod unix_http;

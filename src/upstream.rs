//! The upstream client: the only code that talks to Incus.
//!
//! Each worker has one, with a pool of idle connections of its own. A connection is driven by the task that uses it, first
//! by [`Upstream::send`], then by the [`UpstreamBody`] it returns: no task stands between Incus's socket and the client's, so
//! a slow reader slows Incus down and nobody else.

mod client;
mod connection;
mod error;
mod metrics;
mod pool;
mod request;
mod response;
mod server_info;
mod target;
pub mod yield_budget;

pub use self::client::{Upstream, UpstreamResponse};
pub use self::connection::{Tunnel, TunnelStream};
pub use self::error::Error;
pub use self::metrics::{ErrorKind, UpstreamMetrics};
pub use self::request::RequestBody;
pub use self::response::UpstreamBody;
pub use self::server_info::{MAX_SERVER_INFO, ServerInfo, ServerInfoError};
pub use self::target::Target;

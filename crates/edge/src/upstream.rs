//! The upstream client: the only code that connects to Incus.
//!
//! Each worker has one, with its own pool of idle connections. The task that uses a connection drives it, first in
//! [`Upstream::send`], then in the [`UpstreamBody`] that it returns. No task runs between Incus's socket and the client's, so
//! a slow reader slows Incus down and no other client.

mod client;
mod config;
mod connection;
mod error;
mod metrics;
mod pool;
mod request;
mod response;
mod target;
pub mod yield_budget;

pub use self::client::{Upstream, UpstreamResponse};
pub use self::config::UpstreamConfig;
pub use self::connection::{Tunnel, TunnelStream};
pub use self::error::Error;
pub use self::metrics::{ErrorKind, UpstreamMetrics};
pub use self::request::RequestBody;
pub use self::response::UpstreamBody;
pub use self::target::Target;

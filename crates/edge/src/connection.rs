//! One client connection. Each of its stages is a type that is made only from the one before: [`Accepted`], with a PROXY header
//! [`Proxied`], then [`Admitted`] with a permit, then `Established` by the TLS handshake. `serve` drives it until it ends, with
//! `answer` for each request.

mod accepted;
mod admitted;
mod answer;
pub mod context;
pub mod download_permit;
mod drain;
mod established;
mod h2_executor;
mod memory;
mod plain_http;
mod response_body;
mod serve;
pub mod timeouts;

pub use self::accepted::{Accepted, Proxied};
pub use self::admitted::Admitted;

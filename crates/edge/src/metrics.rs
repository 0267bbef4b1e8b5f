//! What each worker counts, in atomics that no other thread writes. The product reads them, and defines the label of its
//! endpoints.

pub mod counts;
pub mod handshake_outcome;
pub mod status_label;

pub use self::counts::WorkerMetrics;

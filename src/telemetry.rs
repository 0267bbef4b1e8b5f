//! What is told of what was done.
//!
//! An [`exchange`] is one request and its answer, also where these become a [`tunnel`]; when it is over, [`access`] has a
//! line for it, without the secrets that [`mask`] takes out. [`audit`] tells of what changes something, and of who was
//! refused; what strangers can repeat is counted by `repeats`. Both write into the [`log`], whose lines a [`sink`] takes off the hands of whoever has them, into a [`file`]
//! perhaps.

pub mod access;
pub mod audit;
pub mod file;
pub mod log;
pub mod log_writer;
pub mod metered_stream;
pub mod redact;
pub mod rejected_cert_log;
mod repeats;
pub mod request_record;
pub mod targets;

//! Logging of requests and events.
//!
//! A [`request_record`] covers one request and its response, or a tunnel measured by a [`metered_stream`]. When it
//! ends, [`access`] logs it, with secrets removed by [`redact`]. [`audit`] logs changes and rejected certificates;
//! events that clients can repeat at will are counted by `repeats`. Both write to the [`log`]. Its lines go through a
//! [`log_writer`], which buffers them, to stderr or to a [`file`].

pub mod access;
pub mod audit;
pub mod episode;
pub mod file;
pub mod log;
pub mod log_writer;
pub mod metered_stream;
pub mod redact;
mod repeats;
pub mod request_record;
pub mod stranger_log;
pub mod targets;

//! Properties that hold for any input. Each is a function that panics on a violation. The fuzzers search for such inputs;
//! `tests/e2e/fuzz_corpus.rs` replays the inputs worth keeping.
//!
//! Inputs are text where possible, so that people can read and write the corpus.

pub mod catalogue;
pub mod config;
pub mod filter;
pub mod headers;
pub mod import_nginx;
pub mod page;
pub mod proxy_header;
pub mod redact;
pub mod rewrite;
pub mod route;
pub mod simplestreams;

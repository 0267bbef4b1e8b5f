//! What holds for any input, each property a function that panics where it does not. The fuzzers look for such an input;
//! `tests/e2e/fuzz_corpus.rs` goes through what they have found worth keeping.
//!
//! Inputs are text where they can be, so that a corpus can be read and written by hand.

pub mod catalogue;
pub mod config;
pub mod filter;
pub mod headers;
pub mod import_nginx;
pub mod page;
pub mod proxy_header;
pub mod redact;
pub mod route;

//! End-to-end tests: the gateway's binary in front of a real Incus, or of an upstream with faults that Incus never has.
//! The first lines of each module say which property it verifies. `cargo test --test e2e freshness::` runs one module.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod admin;
mod any_certificate;
mod audit;
mod by_address;
mod check;
mod clock;
mod commands;
mod costly_questions;
mod crowd;
mod descriptors;
mod dismissal;
mod docs;
mod early_refusal;
mod faults;
mod freshness;
mod full_disk;
mod fuzz_corpus;
mod headers;
mod http2_conformance;
mod http2_floods;
mod identity;
mod import_nginx;
mod impostor;
mod init;
mod messages_documented;
mod metrics;
mod metrics_documented;
mod network;
mod page;
mod patience;
mod plain_http;
mod pool;
mod proxy_protocol;
mod records;
mod reference_documented;
mod renewal;
mod sandbox;
mod signals;
mod simplestreams_format;
mod slow;
mod smuggling;
mod status;
mod stranger;
mod strangers_view;
mod streaming;
mod systemd;
mod tls_grade;
mod tls_terms;
mod torn;
mod transparency;
mod under_load;
mod unread;
mod upgrades;

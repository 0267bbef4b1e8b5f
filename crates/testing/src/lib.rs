//! What all tests and benchmarks share: a real Incus, the gateway's binary, real clients, and certificates of every kind.
//!
//! | module | for |
//! |---|---|
//! | [`scene`] | the usual scene in one line: Incus, the gateway in front of it, one admin |
//! | [`incus`] | a throw-away daemon, to be stopped, killed, paused, started again |
//! | [`monitor`] | what that daemon logs of the requests that it gets |
//! | [`gateway`] | the binary under test: its ports, log, memory, signals, end |
//! | [`haproxy`] | a proxy in front of the gateway that says whose connections it brings |
//! | [`browser`] | a real browser |
//! | [`client`] | the real `incus` client of a stranger or an admin; curl |
//! | [`tls`] | raw TLS: what no orderly client sends, and how a stream ended |
//! | [`scripted`] | an upstream for faults that a real one cannot be made to have |
//! | [`load`] | a crowd that asks without a pause |
//! | [`images`], [`certificates`] | what goes in |
//! | [`disk`] | a file system that can be full |
//! | [`clock`] | a clock that only the gateway goes by |
//! | [`network`] | a network of a test's own, with addresses to come from |
//! | [`systemd`] | a service manager as the gateway sees it: held sockets, notifications |
//! | [`siege`] | attacks within the limits, and what others notice of them |
//! | [`run`] | other programs, with messages that tell what went wrong |

#![allow(missing_docs, reason = "many a name says it all")]
#![allow(clippy::new_without_default, reason = "what is new has a folder of its own")]

pub mod browser;
pub mod certificates;
pub mod client;
pub mod clock;
pub mod disk;
pub mod gateway;
pub mod haproxy;
pub mod images;
pub mod incus;
pub mod load;
pub mod monitor;
pub mod network;
pub mod run;
pub mod scene;
pub mod scripted;
pub mod siege;
pub mod systemd;
pub mod tls;

//! Shared code of all tests and benchmarks: a real Incus, the gateway's binary, real clients, and certificates of every kind.
//!
//! | module | for |
//! |---|---|
//! | [`scene`] | the usual setup in one line: Incus, the gateway in front of it, one administrator |
//! | [`incus`] | a temporary daemon that can be stopped, killed, paused and restarted |
//! | [`lxd`] | the same of LXD |
//! | [`monitor`] | the daemon's log of the requests that it receives |
//! | [`gateway`] | the binary under test: its ports, log, memory, signals, exit |
//! | [`haproxy`] | a proxy in front of the gateway that sends the PROXY protocol |
//! | [`browser`] | a real browser |
//! | [`client`] | the real `incus` client of a stranger or an administrator; LXD's client; curl |
//! | [`tls`] | raw TLS: sends what no well-behaved client sends, and reports how a stream ended |
//! | [`scripted`] | an upstream with faults that a real Incus cannot be made to have |
//! | [`load`] | clients that send requests without a pause |
//! | [`images`], [`certificates`] | test data |
//! | [`disk`] | a file system that can be full |
//! | [`clock`] | a clock that only the gateway uses |
//! | [`network`] | a private network for a test, with several client addresses |
//! | [`systemd`] | a service manager as the gateway sees it: passed sockets, notifications |
//! | [`siege`] | attacks within the limits, and their effect on other clients |
//! | [`run`] | other programs, with messages that say what failed |

#![allow(missing_docs, reason = "many names are self-explanatory")]
#![allow(clippy::new_without_default, reason = "each `new` creates its own folder")]

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
pub mod lxd;
pub mod monitor;
pub mod network;
pub mod run;
pub mod scene;
pub mod scripted;
pub mod siege;
pub mod systemd;
pub mod tls;

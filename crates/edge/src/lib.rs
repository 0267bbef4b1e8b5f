//! A front for HTTP services on TLS: it accepts, admits, authenticates and times connections, and keeps a record of each request.
//! It knows nothing of what the services do.
//!
//! # The path of a request
//! 1. **Accept**: [`listener`] binds the sockets, and [`accept`] accepts connections on a [`worker`], one per processor core. A
//!    connection never moves to another worker.
//! 2. **Admit**: [`admission`] limits connections, requests and memory, per client and in all ([`limits`]). Behind a proxy,
//!    [`proxy_protocol`] reads the client's address first.
//! 3. **Handshake**: [`connection`], with the keys and verifiers of [`tls`]. The result is a [`peer`] and a [`client_stream`].
//! 4. **Serve**: [`framing`] rejects requests that can be read in more than one way. A [`service`] answers the others with a
//!    [`response`], from memory or through an [`upstream`] server; [`drain_body`] reads what the client still sends, and
//!    [`generation`] bounds the memory of old documents that slow clients still read.
//! 5. **Record**: [`telemetry`] writes one record per request, with an [`abort_reason`] if it did not complete, and [`metrics`]
//!    counts it.
//!
//! # The rest
//! - [`config`] is the configuration of the listeners, each known by its [`listener_id`]. [`shutdown`] drains and cuts.
//! - [`counters`] are the types that each module counts with. In [`fair_queue`], clients wait for turns, by network.
//! - [`conditional`] evaluates preconditions and ranges.
//! - Small types: [`cidr`], [`file`], [`socket_options`], [`upgraded_io`].

pub mod abort_reason;
pub mod accept;
pub mod admission;
pub mod cidr;
pub mod client_stream;
pub mod conditional;
pub mod config;
pub mod connection;
pub mod counters;
pub mod drain_body;
pub mod fair_queue;
pub mod file;
pub mod framing;
pub mod generation;
pub mod limits;
pub mod listener;
pub mod listener_id;
pub mod metrics;
pub mod peer;
pub mod proxy_protocol;
pub mod response;
pub mod service;
pub mod shutdown;
pub mod socket_options;
pub mod telemetry;
pub mod tls;
pub mod upgraded_io;
pub mod upstream;
pub mod worker;

//! The access log: a line for every exchange that is over.

use super::exchange::Exchange;

/// By this name `log.level` knows it.
pub const TARGET: &str = "incus_gate::access";

/// Writes it, unless nobody wants to know.
pub(super) fn record(exchange: &Exchange) {
    if !tracing::enabled!(target: TARGET, tracing::Level::INFO) {
        return;
    }
    tracing::info!(
        target: TARGET,
        port = %exchange.client().port,
        client = %exchange.client().peer.address,
        method = %exchange.method(),
        path = exchange.uri().path(),
        status = exchange.status().map(|status| status.as_u16()),
        received = exchange.received(),
        sent = exchange.sent(),
        cut = exchange.cut().map(|cut| cut.as_str()),
    );
}

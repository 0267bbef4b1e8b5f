//! A connection whose TLS handshake is over: its peer is known.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::sync::Notify;
use tokio_rustls::server::TlsStream;

use super::context::ConnectionContext;
use super::serve::{Evicted, serve};
use super::timeouts::ConnectionActivity;
use crate::admission::ConnectionPermit;
use crate::client_stream::input_limit::InputLimit;
use crate::client_stream::{ClientStream, LimitedTcp};
use crate::limits::Limits;
use crate::listener_id::Policy;
use crate::peer::{Peer, PeerCertificate};
use crate::service::Listener;
use crate::worker::Worker;

/// An established connection.
pub(super) struct Established {
    tls: TlsStream<LimitedTcp>,
    peer: Peer,
    permit: ConnectionPermit,
}

impl Established {
    pub(super) fn new(tls: TlsStream<LimitedTcp>, address: SocketAddr, permit: ConnectionPermit) -> Self {
        let certificate = presented_certificate(&tls);
        Self {
            tls,
            peer: Peer { address, certificate },
            permit,
        }
    }

    /// Spawns the task that serves the connection.
    pub(super) fn serve(self, worker: Rc<Worker>, listener: Rc<Listener>, limits: Limits) {
        let Self { tls, peer, mut permit } = self;
        // Asked after the handshake, during which a reload may have changed the answer.
        let is_authorized = listener.authorizes(&peer);
        if is_authorized && !permit.promote() {
            return;
        }
        let evicted = (permit.is_evictable()).then(|| Box::pin(permit.evicted()) as Evicted);
        let activity = Rc::new(ConnectionActivity::new(permit.stranger().cloned()));
        let counted_by = permit.address();
        let bucket = || {
            counted_by
                .clone()
                .or_else(|| worker.limiter().bucket(peer.address.ip()))
        };
        let bucket = (!is_authorized).then(bucket).flatten();
        let input =
            bucket.map(|bucket| InputLimit::new(bucket, limits.requests_per_second, activity.is_input_unlimited()));
        let stream = ClientStream::new(tls, permit, activity.heard(), input);
        let is_open = listener.id().policy() == Policy::Open;
        let reader = is_open.then(|| worker.limiter().reader(peer.address.ip()));
        let client = Rc::new(ConnectionContext {
            worker,
            listener: listener.id(),
            peer,
            tls: stream.version(),
            begun: Notify::new(),
            aborted: Cell::new(None),
            ending: stream.ending(),
            counted_by,
            reader,
            is_downloading: Cell::new(false),
            activity,
        });
        serve(client, listener, stream, limits, evicted);
    }
}

/// Returns the leaf certificate that the client presented; the handshake has proved that it holds the key.
fn presented_certificate(tls: &TlsStream<LimitedTcp>) -> Option<PeerCertificate> {
    let chain = tls.get_ref().1.peer_certificates()?;
    chain.first().map(PeerCertificate::new)
}

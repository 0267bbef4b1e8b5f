//! Who is an administrator at this moment, over the lifetime of a connection.

use std::future::pending;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use edge::abort_reason::AbortReason;
use edge::listener_id::ListenerId;
use edge::peer::{Peer, PeerCertificate};
use edge::service::{Authorizer, Revoked};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::identity::AuthError;
use crate::state::State;

/// Interval for comparing the wall clock with an administrator's certificate while a connection or a tunnel is open.
const CLOCK_CHECK: Duration = Duration::from_secs(5);

/// Decides by the current configuration who is an administrator.
#[derive(Debug)]
pub struct Authority {
    state: watch::Receiver<Arc<State>>,
    listener: ListenerId,
}

impl Authority {
    /// Creates the authority of the listener for administrators.
    pub fn new(state: watch::Receiver<Arc<State>>, listener: ListenerId) -> Self {
        Self { state, listener }
    }

    /// Completes when a certificate authorizes its client as an administrator: it is listed and within its validity.
    async fn until_authorized(&self, certificate: &PeerCertificate) {
        self.once(certificate, |state, now| {
            state.admins.judge(Some(certificate), now).ok().map(drop)
        })
        .await;
    }

    /// Completes when a certificate no longer authorizes its client, or the client's network may no longer connect to the
    /// admin port. Returns the reason.
    pub async fn until_revoked(&self, certificate: &PeerCertificate, client: IpAddr) -> AbortReason {
        self.once(certificate, |state, now| {
            if !state.edge.listener(self.listener).access.permits(client) {
                return Some(AbortReason::Revoked);
            }
            match state.admins.judge(Some(certificate), now) {
                Ok(_) => None,
                Err(AuthError::Expired | AuthError::NotYetValid) => Some(AbortReason::Expired),
                Err(AuthError::NoCertificate | AuthError::Unknown) => Some(AbortReason::Revoked),
            }
        })
        .await
    }

    /// Runs `check` until it returns a value: after each reload, when the certificate's validity begins or ends, and every
    /// [`CLOCK_CHECK`], because the wall clock can be changed and timers do not follow it.
    async fn once<T>(&self, certificate: &PeerCertificate, check: impl Fn(&State, SystemTime) -> Option<T>) -> T {
        let mut state = self.state.clone();
        loop {
            let now = SystemTime::now();
            if let Some(found) = check(&state.borrow_and_update(), now) {
                return found;
            }
            let next = certificate
                .next_change(now)
                .map_or(CLOCK_CHECK, |left| left.min(CLOCK_CHECK));
            // The sender is dropped at shutdown, after which there is no reload.
            let _ = timeout(next, async {
                if state.changed().await.is_err() {
                    pending::<()>().await;
                }
            })
            .await;
        }
    }
}

impl Authorizer for Authority {
    fn authorizes(&self, certificate: &PeerCertificate) -> bool {
        let state = self.state.borrow();
        state.admins.judge(Some(certificate), SystemTime::now()).is_ok()
    }

    fn authorized<'a>(&'a self, certificate: &'a PeerCertificate) -> Pin<Box<dyn Future<Output = ()> + 'a>> {
        Box::pin(self.until_authorized(certificate))
    }

    fn revoked<'a>(&'a self, peer: &'a Peer, certificate: &'a PeerCertificate) -> Revoked<'a> {
        Box::pin(self.until_revoked(certificate, peer.address.ip()))
    }
}

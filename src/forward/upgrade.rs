//! Protocol upgrades (101) and the tunnel that follows: WebSocket, `sftp`, `nbd`, `tcp`, and whatever Incus will add.

use std::io;
use std::rc::Rc;

use edge::abort_reason::AbortReason;
use edge::client_stream::ClientStream;
use edge::response::{Reply, ReplyBody};
use edge::shutdown::Shutdown;
use edge::telemetry::metered_stream::MeteredStream;
use edge::telemetry::request_record::RequestRecord;
use edge::upgraded_io::UpgradedIo;
use edge::upstream::Tunnel;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Request, Response, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::headers;
use super::tunnel;
use crate::authority::Authority;
use crate::identity::Admin;

/// A client's upgrade request.
pub(super) struct Requested {
    protocol: HeaderValue,
    client: OnUpgrade,
}

impl Requested {
    /// Returns the upgrade that the request asks for. Only HTTP/1.1 has upgrades (RFC 9110 §7.8), and both headers are
    /// required.
    pub(super) fn by(request: &mut Request<Incoming>) -> Option<Self> {
        if request.version() != Version::HTTP_11 || !names_upgrade(request) {
            return None;
        }
        Some(Self {
            protocol: request.headers().get(UPGRADE)?.clone(),
            client: hyper::upgrade::on(request),
        })
    }

    /// Returns the protocol exactly as the client spelled it: Incus compares it byte for byte.
    pub(super) fn protocol(&self) -> &HeaderValue {
        &self.protocol
    }

    /// Responds with 101 and spawns the tunnel. hyper sends and flushes the response before it hands over the stream. No byte
    /// may follow before that, because Incus's client discards what arrives in the same record as the 101.
    pub(super) fn accept(
        self,
        authority: &Rc<Authority>,
        shutdown: &Shutdown,
        record: &Rc<RequestRecord>,
        admin: Admin,
        mut response: Response<()>,
        tunnel: Box<Tunnel>,
    ) -> Reply {
        let protocol = response.headers().get(UPGRADE).cloned().unwrap_or(self.protocol);
        headers::drop_hop_by_hop(response.headers_mut());
        response.headers_mut().insert(UPGRADE, protocol);
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("Upgrade"));

        let client = self.client;
        let record = Rc::clone(record);
        let authority = Rc::clone(authority);
        shutdown.spawn(async move {
            let address = record.client().peer.address.ip();
            tokio::select! {
                biased;
                why = authority.until_revoked(admin.certificate(), address) => {
                    record.abort(why);
                    tracing::info!(aborted_by = %why, "closed the tunnel of an administrator who is no longer authorized");
                }
                ended = pipe(client, tunnel, &record) => match ended {
                    Ok(()) => record.complete(),
                    Err(error) => {
                        record.abort(AbortReason::Incus);
                        tracing::debug!(%error, "tunnel aborted");
                    }
                },
            }
        });
        response.map(|()| ReplyBody::Whole(None))
    }
}

fn names_upgrade(request: &Request<Incoming>) -> bool {
    let values = request.headers().get_all(CONNECTION).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|option| option.trim().eq_ignore_ascii_case("upgrade"))
}

async fn pipe(client: OnUpgrade, incus: Box<Tunnel>, record: &Rc<RequestRecord>) -> io::Result<()> {
    let UpgradedIo { read_ahead, stream } = take_over(client)
        .await
        .inspect_err(|_| record.abort(record.client().abort_reason()))?;
    record.receive(read_ahead.len());
    let stream = MeteredStream::new(stream, Rc::clone(record));
    tunnel::copy_bidirectional(UpgradedIo { read_ahead, stream }, *incus).await
}

/// Takes the client's stream from hyper, with the bytes that hyper has read ahead.
async fn take_over(client: OnUpgrade) -> io::Result<UpgradedIo<ClientStream>> {
    let upgraded = client.await.map_err(io::Error::other)?;
    let parts = upgraded
        .downcast::<TokioIo<ClientStream>>()
        .map_err(|_| io::Error::other("the upgraded stream has an unexpected type"))?;
    Ok(UpgradedIo {
        read_ahead: parts.read_buf,
        stream: parts.io.into_inner(),
    })
}

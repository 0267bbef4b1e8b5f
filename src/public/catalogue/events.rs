//! The stream of Incus's events: a WebSocket connection that Incus holds open.

use std::rc::Rc;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use aws_lc_rs::rand;
use data_encoding::BASE64;
use edge::upstream::{self, RequestBody, TunnelStream, Upstream, UpstreamResponse};
use futures_util::{SinkExt, StreamExt};
use http::header::{
    CONNECTION, HOST, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, Request, StatusCode};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Bytes, Message};

use super::event::Change;

const PATH: &str = "/1.0/events?type=lifecycle&all-projects=true";
/// What RFC 6455 §1.3 appends to the key.
const SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Maximum size of an event, in bytes. Those of images are smaller than a kilobyte; others contain command lines.
const MAX_EVENT: usize = 1 << 20;
/// Size of the read buffer, and maximum size of the write buffer, in bytes.
const BUFFER: usize = 16 << 10;

/// Number of the ping that completes the opening of a stream.
const FIRST_PING: u64 = 0;

/// What the stream delivers.
#[derive(Debug)]
pub(super) enum Heard {
    /// An event that affects the catalogue.
    Change(Change),
    /// The pong for the ping with this number.
    Pong(u64),
}

/// Why there is no stream, or no longer a complete one.
#[derive(Debug, Error)]
pub(super) enum Broken {
    #[error("Incus closed the stream of events")]
    Closed,
    #[error("more events arrived than the gateway can hold")]
    Lagging,
    #[error("Incus does not list its images")]
    NoList,
    #[error("Incus offers no events to the gateway's certificate ({0})")]
    NotOffered(StatusCode),
    #[error("Incus does not respond on the stream of events")]
    Silent,
    #[error("Incus's response about an image is invalid ({0})")]
    UnreadableImage(#[from] serde_json::Error),
    #[error("Incus sent an event that is invalid")]
    Unreadable,
    #[error(transparent)]
    Upstream(#[from] upstream::Error),
    #[error("the stream of events failed: {0}")]
    WebSocket(#[from] tungstenite::Error),
    #[error("the response to the WebSocket handshake is invalid")]
    WrongHandshake,
}

/// An open stream of events.
#[derive(Debug)]
pub(super) struct EventStream(Box<WebSocketStream<TunnelStream>>);

impl EventStream {
    /// Opens a stream. It contains every event from the return on: a pong shows that Incus reads from the stream, and it
    /// begins to only after it has registered the stream for events.
    pub(super) async fn open(upstream: &Rc<Upstream>) -> Result<Self, Broken> {
        let mut nonce = [0; 16];
        rand::fill(&mut nonce).map_err(|_| Broken::WrongHandshake)?;
        let key = BASE64.encode(&nonce);
        let request = Request::get(PATH)
            .header(HOST, upstream.host())
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, &key)
            .body(RequestBody::Empty)
            .map_err(|_| upstream::Error::Unusable)?;
        match upstream.send(None, request).await? {
            UpstreamResponse::Response(response) => Err(Broken::NotOffered(response.status())),
            UpstreamResponse::Upgraded(response, _) if !is_accepted(response.headers(), &key) => {
                Err(Broken::WrongHandshake)
            }
            UpstreamResponse::Upgraded(_, tunnel) => {
                let config = WebSocketConfig::default()
                    .read_buffer_size(BUFFER)
                    .write_buffer_size(0)
                    .max_write_buffer_size(BUFFER)
                    .max_message_size(Some(MAX_EVENT))
                    .max_frame_size(Some(MAX_EVENT));
                let read_ahead = tunnel.read_ahead.into();
                let socket =
                    WebSocketStream::from_partially_read(tunnel.stream, read_ahead, Role::Client, Some(config));
                let mut stream = Self(Box::new(socket.await));
                stream.ping(FIRST_PING).await?;
                while !matches!(stream.next().await?, Some(Heard::Pong(FIRST_PING))) {}
                Ok(stream)
            }
        }
    }

    /// Delivers what arrives and sends pings, until the stream is no longer complete.
    pub(super) async fn pump(mut self, to: mpsc::Sender<Heard>, mut pings: mpsc::Receiver<u64>) -> Broken {
        let pump = async {
            loop {
                tokio::select! {
                    heard = self.next() => if let Some(heard) = heard? {
                        to.try_send(heard).map_err(|_| Broken::Lagging)?;
                    },
                    Some(number) = pings.recv() => self.ping(number).await?,
                }
            }
        };
        let Err(broken): Result<std::convert::Infallible, _> = pump.await;
        broken
    }

    async fn next(&mut self) -> Result<Option<Heard>, Broken> {
        understand(self.0.next().await.ok_or(Broken::Closed)??)
    }

    async fn ping(&mut self, number: u64) -> Result<(), Broken> {
        let number = Bytes::copy_from_slice(&number.to_be_bytes());
        Ok(self.0.send(Message::Ping(number)).await?)
    }
}

fn understand(message: Message) -> Result<Option<Heard>, Broken> {
    match message {
        Message::Text(event) => {
            let change = Change::parse(&event).map_err(|_| Broken::Unreadable)?;
            Ok(change.map(Heard::Change))
        }
        // A pong that was not asked for says nothing (RFC 6455 §5.5.3).
        Message::Pong(number) => Ok(<[u8; 8]>::try_from(&*number)
            .ok()
            .map(|number| Heard::Pong(u64::from_be_bytes(number)))),
        // The library responds.
        Message::Ping(_) => Ok(None),
        Message::Close(_) => Err(Broken::Closed),
        Message::Binary(_) | Message::Frame(_) => Err(Broken::Unreadable),
    }
}

/// Whether a 101 response completes the WebSocket handshake (RFC 6455 §4.1).
fn is_accepted(headers: &HeaderMap, key: &str) -> bool {
    let expected = BASE64.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{SUFFIX}").as_bytes()).as_ref());
    let has = |name, value: &str| {
        let found = headers
            .get(name)
            .and_then(|found: &http::HeaderValue| found.to_str().ok());
        found.is_some_and(|found| found.eq_ignore_ascii_case(value))
    };
    has(UPGRADE, "websocket")
        && headers
            .get(SEC_WEBSOCKET_ACCEPT)
            .is_some_and(|accept| accept == &*expected)
        && !headers.contains_key(SEC_WEBSOCKET_EXTENSIONS)
        && !headers.contains_key(SEC_WEBSOCKET_PROTOCOL)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_handshake_is_verified() {
        // RFC 6455 §1.3
        let (key, accept) = ("dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let response = |accept, upgrade| {
            let mut headers = HeaderMap::new();
            headers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_static(accept));
            headers.insert(UPGRADE, HeaderValue::from_static(upgrade));
            headers
        };
        assert!(is_accepted(&response(accept, "WebSocket"), key));
        assert!(!is_accepted(&response(accept, "websocket"), "AAAAAAAAAAAAAAAAAAAAAA=="));
        assert!(!is_accepted(&response(accept, "sftp"), key));
        assert!(!is_accepted(&HeaderMap::new(), key));
        let mut compressed = response(accept, "websocket");
        compressed.insert(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static("permessage-deflate"));
        assert!(!is_accepted(&compressed, key), "nothing of it was offered");
    }
}

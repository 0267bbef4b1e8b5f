//! Pool of idle connections.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::connection::Connection;
use super::metrics::{IdleGuard, UpstreamMetrics};
use super::target::Target;

/// Maximum idle time. Incus closes an idle connection after 29 s; closing earlier makes it rare that a request meets a closed
/// one.
const MAX_IDLE: Duration = Duration::from_secs(20);
/// Maximum number of idle connections per worker. More than this are left over from a peak.
const MAX_CONNECTIONS: usize = 64;

#[derive(Debug)]
pub(super) struct Pool {
    pub(super) counts: Arc<UpstreamMetrics>,
    /// Last in, first out: the most recently used connection is reused first, and the others age out.
    idle: RefCell<Vec<Idle>>,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
    _counted: IdleGuard,
}

impl Pool {
    pub(super) fn new(counts: Arc<UpstreamMetrics>) -> Self {
        Self {
            counts,
            idle: RefCell::default(),
        }
    }

    pub(super) fn put(&self, connection: Connection) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < MAX_CONNECTIONS {
            idle.push(Idle {
                connection,
                since: Instant::now(),
                _counted: IdleGuard::new(&self.counts),
            });
        }
    }

    /// Takes a connection that was open a moment ago and that Incus attributes to this client. After an error in the
    /// meantime, a silent connection may be dead, and a request on it would be lost.
    pub(super) async fn take(&self, target: &Target, client: Option<SocketAddr>) -> Option<Connection> {
        let client = target.proxied_addr(client);
        poll_fn(|cx| {
            while let Some(Idle {
                mut connection, since, ..
            }) = self.remove(client)
            {
                // Nothing has driven it meanwhile: this detects that Incus has closed it or has sent something unsolicited.
                let is_trusted = since.elapsed() < MAX_IDLE && target.has_no_error_since(since);
                if is_trusted && connection.is_fit_for_next(cx) {
                    return Poll::Ready(Some(connection));
                }
            }
            Poll::Ready(None)
        })
        .await
    }

    pub(super) fn close_idle(&self) {
        self.idle.borrow_mut().retain(|idle| idle.since.elapsed() < MAX_IDLE);
    }

    fn remove(&self, client: Option<IpAddr>) -> Option<Idle> {
        let mut idle = self.idle.borrow_mut();
        let index = idle.iter().rposition(|idle| idle.connection.is_for(client))?;
        Some(idle.remove(index))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::mpsc::{Receiver, channel};
    use std::thread;

    use http::Request;
    use http::header::HOST;
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use rustls::{ServerConfig, ServerConnection, StreamOwned};

    use super::super::{RequestBody, Upstream, UpstreamResponse};
    use super::*;
    use crate::tls::upstream::Pin;
    use crate::tls::{CertifiedKey, provider};
    use crate::upstream::config::UpstreamConfig;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

    /// Returns a target, and a channel that reports every response it sends: one per request, and with `adds_another` an
    /// unsolicited one.
    fn incus(adds_another: bool) -> (Arc<Target>, Receiver<()>) {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(["localhost".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("a certificate");
        let [chain_file, key_file] = ["crt", "key"].map(|name| folder.path().join(name));
        fs::write(&chain_file, certificate.pem()).expect("write the file");
        fs::write(&key_file, key.serialize_pem()).expect("write the file");
        let tls = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider supports the default versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .expect("a matching pair");
        let tls = Arc::new(tls);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("the listener is bound").port();
        let (sender, responses) = channel();
        thread::spawn(move || {
            for tcp in listener.incoming() {
                let tls = ServerConnection::new(Arc::clone(&tls)).expect("a configuration");
                let mut stream = StreamOwned::new(tls, tcp.expect("a connection"));
                let sender = sender.clone();
                thread::spawn(move || {
                    // Each request is smaller than this.
                    while stream.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {
                        let _ = stream.write_all(ANSWER);
                        if adds_another {
                            // Wait until the first response has been read.
                            let _ = sender.send(());
                            thread::sleep(Duration::from_millis(50));
                            let _ = stream.write_all(ANSWER);
                        }
                        let _ = sender.send(());
                    }
                });
            }
        });
        let config = UpstreamConfig {
            url: format!("https://localhost:{port}"),
            authority: format!("localhost:{port}"),
            host: "127.0.0.1".to_owned(),
            port,
            server_name: "localhost".try_into().expect("a name"),
            identity: CertifiedKey::load(&chain_file, &key_file).expect("a matching pair"),
            pin: Arc::new(Pin::none_on_loopback("127.0.0.1").expect("a loopback address")),
            proxy_protocol: false,
        };
        (Arc::new(Target::new(&config, Arc::default())), responses)
    }

    async fn ask(upstream: &Upstream) {
        let request = Request::post("/1.0").header(HOST, upstream.host());
        let request = request.body(RequestBody::Empty).expect("a request");
        let answer = upstream.send(None, request).await.expect("a response");
        assert!(matches!(answer, UpstreamResponse::Response(response) if response.status() == 200));
    }

    #[tokio::test]
    async fn unsolicited_data_closes_an_idle_connection() {
        let (target, responses) = incus(true);
        let upstream = Upstream::new(Arc::clone(&target));
        for opened in 1..5 {
            ask(&upstream).await;
            assert_eq!(target.counts().opened.value(), opened);
            // This blocks the thread, so that epoll is not called before the next request has been sent.
            responses.recv().expect("the first response");
            responses.recv().expect("the unsolicited response");
        }
    }

    #[tokio::test]
    async fn an_idle_connection_is_reused() {
        let (target, responses) = incus(false);
        let upstream = Upstream::new(Arc::clone(&target));
        for _ in 0..5 {
            ask(&upstream).await;
            responses.recv().expect("the response");
        }
        assert_eq!(target.counts().opened.value(), 1);
    }
}

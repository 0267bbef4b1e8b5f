//! An upstream that does what a real Incus cannot be made to do: it tears answers, stalls, talks nonsense.
//!
//! TLS 1.3, no ALPN, a certificate of its own to be pinned; it asks for a client certificate. A script is a function that is
//! given the head of each request and the [`Wire`]; what it returns says what becomes of the connection. `/1.0` and the
//! list of images, which the gateway asks for by itself, are answered here.

pub mod catalogue;
mod identity;
mod wire;

use std::collections::HashMap;
use std::io::Read;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;

pub use self::catalogue::FINGERPRINT;
pub use self::wire::{Then, Wire};

/// The upstream; it ends, and cuts all its connections, when it is dropped.
#[derive(Debug)]
pub struct Scripted {
    address: SocketAddr,
    directory: tempfile::TempDir,
    shared: Arc<Shared>,
}

/// What each request is answered with.
pub type Script = dyn Fn(&Request, &mut Wire) -> Then + Send + Sync;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which connection brought it, from 0.
    pub connection: usize,
    /// Which one on that connection it was, from 0.
    pub number: usize,
    /// To the empty line, that included.
    pub head: Vec<u8>,
    /// As far as the script has read it, its framing included.
    pub body: Vec<u8>,
    /// What the client has shown.
    pub client: Option<CertificateDer<'static>>,
}

impl Request {
    /// `GET /1.0 HTTP/1.1`
    pub fn line(&self) -> String {
        let text = String::from_utf8_lossy(&self.head);
        text.split("\r\n").next().unwrap_or_default().to_owned()
    }

    /// The method.
    pub fn method(&self) -> String {
        self.line().split(' ').next().unwrap_or_default().to_owned()
    }

    /// The target as it was spelt.
    pub fn target(&self) -> String {
        self.line().split(' ').nth(1).unwrap_or_default().to_owned()
    }

    /// All fields in their order, names in lower case.
    pub fn fields(&self) -> Vec<(String, String)> {
        let text = String::from_utf8_lossy(&self.head).into_owned();
        let lines = text.split("\r\n").skip(1).filter(|line| !line.is_empty());
        let field = |line: &str| {
            let (name, value) = line.split_once(':').expect("a field has a colon");
            (name.to_ascii_lowercase(), value.trim().to_owned())
        };
        lines.map(field).collect()
    }

    /// Every value of a field.
    pub fn values(&self, name: &str) -> Vec<String> {
        let fields = self.fields().into_iter();
        fields
            .filter(|(other, _)| other == name)
            .map(|(_, value)| value)
            .collect()
    }

    /// The one value of a field; `None` if it is not there.
    pub fn field(&self, name: &str) -> Option<String> {
        let mut values = self.values(name);
        assert!(values.len() < 2, "{name} came {} times", values.len());
        values.pop()
    }
}

impl Scripted {
    /// Starts it; `script` answers everything but what the gateway asks for by itself.
    pub fn start(script: impl Fn(&Request, &mut Wire) -> Then + Send + Sync + 'static) -> Self {
        Self::start_bare(move |request, wire| catalogue::answer(request, wire).unwrap_or_else(|| script(request, wire)))
    }

    /// Starts it; `script` answers everything.
    pub fn start_bare(script: impl Fn(&Request, &mut Wire) -> Then + Send + Sync + 'static) -> Self {
        let directory = tempfile::tempdir().expect("a temporary folder");
        let (tls, pem) = identity::make();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            script: Box::new(script),
            tls: Mutex::new(tls),
            requests: Mutex::default(),
            changed: Condvar::new(),
            open: Mutex::default(),
            ended: Mutex::new(false),
            connections: AtomicUsize::new(0),
            sent: AtomicU64::new(0),
        });
        let upstream = Self {
            address,
            directory,
            shared: Arc::clone(&shared),
        };
        std::fs::write(upstream.certificate(), pem).expect("a temporary file can be written");
        thread::spawn(move || shared.accept(&listener));
        upstream
    }

    /// What goes into the config as `upstream.url`.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The PEM file to be pinned.
    pub fn certificate(&self) -> PathBuf {
        self.directory.path().join("server.crt")
    }

    /// Presents a new certificate from now on, and closes what is open. The file stays as it is; the new PEM is returned.
    pub fn renew(&self) -> String {
        let (tls, pem) = identity::make();
        *lock(&self.shared.tls) = tls;
        self.cut();
        pem
    }

    /// Cuts every connection.
    pub fn cut(&self) {
        self.shared.cut();
    }

    /// What came, except what the gateway asks for by itself (and what tests ask for that is spelt the same).
    pub fn requests(&self) -> Vec<Request> {
        let requests = lock(&self.shared.requests).clone();
        requests
            .into_iter()
            .filter(|request| !catalogue::asks(request))
            .collect()
    }

    /// The one request that came.
    pub fn request(&self) -> Request {
        let mut requests = self.requests();
        assert_eq!(
            requests.len(),
            1,
            "{:?}",
            requests.iter().map(Request::line).collect::<Vec<_>>()
        );
        requests.remove(0)
    }

    /// Waits until so many requests have come.
    pub fn wait_for_requests(&self, count: usize) -> Vec<Request> {
        let deadline = Instant::now() + super::tls::PATIENCE;
        loop {
            let requests = self.requests();
            if requests.len() >= count {
                return requests;
            }
            let left = deadline.checked_duration_since(Instant::now());
            let left = left.unwrap_or_else(|| panic!("only {} of {count} requests came", requests.len()));
            let guard = lock(&self.shared.requests);
            drop(
                self.shared
                    .changed
                    .wait_timeout(guard, left.min(Duration::from_millis(50))),
            );
        }
    }

    /// How many connections came with a handshake.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many bytes scripts have got rid of.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::SeqCst)
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        *lock(&self.shared.ended) = true;
        self.shared.changed.notify_all();
        self.shared.cut();
        // Wakes the accept loop, which then sees that it has ended.
        drop(TcpStream::connect(self.address));
    }
}

struct Shared {
    script: Box<Script>,
    tls: Mutex<Arc<ServerConfig>>,
    requests: Mutex<Vec<Request>>,
    changed: Condvar,
    open: Mutex<HashMap<usize, TcpStream>>,
    ended: Mutex<bool>,
    connections: AtomicUsize,
    sent: AtomicU64,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("requests", &self.requests)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for (number, tcp) in listener.incoming().enumerate() {
            if *lock(&self.ended) {
                return;
            }
            let Ok(tcp) = tcp else { continue };
            let Ok(copy) = tcp.try_clone() else { continue };
            lock(&self.open).insert(number, copy);
            let shared = Arc::clone(self);
            thread::spawn(move || {
                // A script that panics must not leave the connection open.
                let _open = Open(&shared, number);
                shared.serve(tcp, number);
            });
        }
    }

    fn serve(self: &Arc<Self>, tcp: TcpStream, connection: usize) {
        let tls = Arc::clone(&lock(&self.tls));
        let Some(mut wire) = Wire::accept(tls, tcp, Arc::clone(self)) else {
            return;
        };
        self.connections.fetch_add(1, Ordering::SeqCst);
        for number in 0.. {
            let Some(head) = read_head(&mut wire) else { return };
            let request = Request {
                connection,
                number,
                head,
                body: Vec::new(),
                client: wire.client_certificate(),
            };
            let at = self.record(request.clone());
            wire.begin(at, &request);
            let then = (self.script)(&request, &mut wire);
            if !wire.go_on(then) {
                return;
            }
        }
    }

    fn record(&self, request: Request) -> usize {
        let mut requests = lock(&self.requests);
        requests.push(request);
        self.changed.notify_all();
        requests.len() - 1
    }

    fn record_body(&self, at: usize, bytes: &[u8]) {
        lock(&self.requests)[at].body.extend_from_slice(bytes);
    }

    fn wait_for_the_end(&self) {
        let ended = lock(&self.ended);
        drop(self.changed.wait_while(ended, |ended| !*ended));
    }

    fn cut(&self) {
        for tcp in lock(&self.open).values() {
            // It may be closed already.
            let _ = tcp.shutdown(Shutdown::Both);
        }
    }
}

/// While it lives, the upstream can cut the connection.
struct Open<'a>(&'a Shared, usize);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        lock(&self.0.open).remove(&self.1);
    }
}

fn read_head(wire: &mut Wire) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        wire.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    Some(head)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics while holding this")
}

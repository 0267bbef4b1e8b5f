//! An upstream with faults that a real Incus cannot be made to have: truncated responses, stalls, protocol violations.
//!
//! It uses TLS 1.3 without ALPN and its own certificate, which can be pinned, and requests a client certificate. A script is
//! a function that gets the head of each request and the [`Wire`]; its return value determines what happens to the
//! connection. This module answers `/1.0` and the list of images, which the gateway requests on its own.

pub mod catalogue;
pub mod events;
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

/// A running upstream. When it is dropped, it stops and closes all connections.
#[derive(Debug)]
pub struct Scripted {
    address: SocketAddr,
    directory: tempfile::TempDir,
    shared: Arc<Shared>,
}

/// The function that responds to each request.
pub type Script = dyn Fn(&Request, &mut Wire) -> Then + Send + Sync;

/// A request as received.
#[derive(Clone, Debug)]
pub struct Request {
    /// The index of the connection, from 0.
    pub connection: usize,
    /// The index of the request on that connection, from 0.
    pub number: usize,
    /// Request line and headers, including the empty line.
    pub head: Vec<u8>,
    /// The part of the body that the script has read, including its framing.
    pub body: Vec<u8>,
    /// The client's certificate.
    pub client: Option<CertificateDer<'static>>,
}

impl Request {
    /// Returns the request line, such as `GET /1.0 HTTP/1.1`.
    pub fn line(&self) -> String {
        let text = String::from_utf8_lossy(&self.head);
        text.split("\r\n").next().unwrap_or_default().to_owned()
    }

    /// Returns the method.
    pub fn method(&self) -> String {
        self.line().split(' ').next().unwrap_or_default().to_owned()
    }

    /// Returns the request target, unchanged.
    pub fn target(&self) -> String {
        self.line().split(' ').nth(1).unwrap_or_default().to_owned()
    }

    /// Returns all fields in their order, with names in lower case.
    pub fn fields(&self) -> Vec<(String, String)> {
        let text = String::from_utf8_lossy(&self.head).into_owned();
        let lines = text.split("\r\n").skip(1).filter(|line| !line.is_empty());
        let field = |line: &str| {
            let (name, value) = line.split_once(':').expect("a field has a colon");
            (name.to_ascii_lowercase(), value.trim().to_owned())
        };
        lines.map(field).collect()
    }

    /// Returns every value of a field.
    pub fn values(&self, name: &str) -> Vec<String> {
        let fields = self.fields().into_iter();
        fields
            .filter(|(other, _)| other == name)
            .map(|(_, value)| value)
            .collect()
    }

    /// Returns the value of a field; `None` if it is absent. Panics if it occurs more than once.
    pub fn field(&self, name: &str) -> Option<String> {
        let mut values = self.values(name);
        assert!(values.len() < 2, "{name} came {} times", values.len());
        values.pop()
    }
}

impl Scripted {
    /// Starts an upstream. `script` handles all requests but those that the gateway sends on its own.
    pub fn start(script: impl Fn(&Request, &mut Wire) -> Then + Send + Sync + 'static) -> Self {
        Self::start_bare(move |request, wire| catalogue::answer(request, wire).unwrap_or_else(|| script(request, wire)))
    }

    /// Starts an upstream whose `script` handles all requests.
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

    /// Returns the value for `upstream.url`.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Returns the listen address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the path of the PEM file to pin.
    pub fn certificate(&self) -> PathBuf {
        self.directory.path().join("server.crt")
    }

    /// Presents a new certificate from now on, closes open connections, and returns the new PEM. The file is unchanged.
    pub fn renew(&self) -> String {
        let (tls, pem) = identity::make();
        *lock(&self.shared.tls) = tls;
        self.cut();
        pem
    }

    /// Closes every connection abruptly.
    pub fn cut(&self) {
        self.shared.cut();
    }

    /// Returns the requests so far, except those that the gateway sends on its own, and identical ones of the test.
    pub fn requests(&self) -> Vec<Request> {
        let requests = lock(&self.shared.requests).clone();
        requests
            .into_iter()
            .filter(|request| !catalogue::is_request_for_catalogue(request))
            .collect()
    }

    /// Returns the only request so far. Panics if there is none or more than one.
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

    /// Waits until this many requests have arrived.
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

    /// Returns the number of connections that completed the handshake.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Returns the number of bytes that scripts have sent.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::SeqCst)
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        *lock(&self.shared.ended) = true;
        self.shared.changed.notify_all();
        self.shared.cut();
        // Wakes up the accept loop, which then stops.
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
                // Closes the connection even if the script panics.
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

/// Registers the connection while it is alive, so that the upstream can close it.
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
    mutex.lock().expect("no thread panics while holding the lock")
}

//! One connection of a client: handshake, HTTP/1.1 or 2, the answer to each request, the end.

mod body;
mod streams;

use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use http::header::CONNECTION;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use self::body::ClientBody;
use self::streams::Streams;
use crate::admin;
use crate::client::activity::{Activity, Clock, Overdue};
use crate::client::{Client, Cut};
use crate::config::Limits;
use crate::identity::Peer;
use crate::leftover;
use crate::limits::{Place, Reason};
use crate::metrics::handshake::Handshake;
use crate::net::{self, ClientStream, Port};
use crate::proxy_protocol;
use crate::public;
use crate::reply::{self, Refusal, Reply};
use crate::telemetry::exchange::{Exchange, RecordedBody};
use crate::worker::Worker;

const MAX_HEADERS: usize = 256;
/// What one HTTP/1.1 connection may hold in memory of an answer that its client does not read.
const H1_BUFFER: usize = 64 << 10;
/// The same for each stream of HTTP/2.
const H2_BUFFER: usize = 64 << 10;
/// Streams of an admin's HTTP/2 connection at a time.
const H2_STREAMS: u32 = 100;
/// The same for a stranger: each of them may hold two buffers and a connection to Incus.
const H2_STREAMS_OF_STRANGERS: u32 = 32;
/// How long HTTP/2 waits for a sign of life. That comes only once a client has read what lies before our question, which may
/// be megabytes in both kernels' hands: a slow one needs minutes for them.
const H2_PONG: Duration = Duration::from_mins(5);
/// A drain still serves who was accepted before it, if they ask for something within this time: a restart behind systemd's
/// socket refuses nobody.
const LATECOMERS: Duration = Duration::from_secs(2);

/// Asks a proxy whose connection it brings, in the time that a handshake has, and goes on with that client.
pub async fn welcome_behind(worker: Rc<Worker>, port: Port, mut tcp: TcpStream, proxy: SocketAddr) {
    let patience = worker.live().limits.handshake;
    let ended = |how| worker.counts().ports.of(port).handshakes.of(how).add(1);
    let announced = tokio::select! {
        biased;
        _ = no_longer_awaited(&worker, std::future::pending()) => return ended(Handshake::Drain),
        announced = timeout(patience, proxy_protocol::read_client(&mut tcp, proxy)) => announced,
    };
    let client = match announced.map_err(io::Error::from).flatten() {
        Ok(client) => client,
        Err(error) => {
            ended(Handshake::ProxyHeader);
            return tracing::debug!(%port, %proxy, %error, "refused");
        }
    };
    match worker.admit(port, client.ip()) {
        Some(place) => welcome(worker, port, tcp, client, place).await,
        None => net::reset(tcp),
    }
}

/// Does the handshake, and leaves the connection to a task of its own, which has no room for what is over.
pub async fn welcome(worker: Rc<Worker>, port: Port, tcp: TcpStream, address: SocketAddr, mut place: Place) {
    net::tune(&tcp);
    let ended = |how| worker.counts().ports.of(port).handshakes.of(how).add(1);
    let live = worker.live();
    let handshake = TlsAcceptor::from(live.entrance(port).tls.clone()).accept(tcp);
    let handshake = tokio::select! {
        biased;
        _ = no_longer_awaited(&worker, std::future::pending()) => return ended(Handshake::Drain),
        () = place.displaced() => {
            ended(Handshake::Displaced);
            return tracing::debug!(%port, client = %address, "made room for others in its handshake");
        }
        handshake = timeout(live.limits.handshake, handshake) => handshake,
    };
    let tls = match handshake {
        Ok(Ok(tls)) => tls,
        // A client's fault is not our warning.
        Ok(Err(error)) => {
            ended(Handshake::failed(&error));
            return tracing::debug!(%port, client = %address, %error, "handshake failed");
        }
        Err(_) => {
            ended(Handshake::Timeout);
            return tracing::debug!(%port, client = %address, "handshake took too long");
        }
    };
    ended(Handshake::Done);
    let peer = Peer {
        address,
        certificate: net::certificate(&tls),
    };
    if worker
        .live()
        .admins
        .judge(peer.certificate.as_ref(), SystemTime::now())
        .is_ok()
        && !place.prove()
    {
        return;
    }
    let displaced = match place.is_safe() {
        true => None,
        false => Some(Box::pin(place.displaced()) as Pin<Box<dyn Future<Output = ()>>>),
    };
    let (activity, counted_by) = (Rc::new(Activity::default()), place.address());
    let stream = ClientStream::new(tls, place, activity.heard());
    let client = Rc::new(Client {
        worker: Rc::clone(&worker),
        port,
        peer,
        tls: stream.version(),
        begun: Notify::new(),
        cut: Cell::new(None),
        ending: stream.ending(),
        counted_by,
        activity,
    });
    match stream.speaks_h2() {
        true => worker.spawn(serve_h2(client, stream, live.limits, displaced)),
        false => worker.spawn(serve_h1(client, stream, live.limits, displaced)),
    }
}

/// It has not taken its answer.
fn let_go_of_stalled(client: &Client) {
    client.cut.set(Some(Cut::Limit));
    client.worker.limiter().count(Reason::Stalled);
    tracing::debug!(port = %client.port, client = %client.peer.address, "let go: it took its answer too slowly");
}

/// Told when its client must make room for others.
type Displaced = Option<Pin<Box<dyn Future<Output = ()>>>>;

fn serve_h1(
    client: Rc<Client>,
    stream: ClientStream,
    limits: Limits,
    displaced: Displaced,
) -> impl Future<Output = ()> {
    // The time for a head is the `Clock`'s: hyper's would count from the last answer.
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_header_size(limits.head_size)
        .max_headers(MAX_HEADERS)
        .max_buf_size(limits.head_size.max(H1_BUFFER))
        .serve_connection(TokioIo::new(stream), service(Rc::clone(&client)))
        .with_upgrades();
    let clock = Clock::new(&limits, client.port, true);
    drive(
        client,
        Box::pin(connection),
        http1::UpgradeableConnection::graceful_shutdown,
        clock,
        displaced,
    )
}

fn serve_h2(
    client: Rc<Client>,
    stream: ClientStream,
    limits: Limits,
    displaced: Displaced,
) -> impl Future<Output = ()> {
    let streams = match client.port {
        Port::Admin => H2_STREAMS,
        Port::Public => H2_STREAMS_OF_STRANGERS,
    };
    let connection = http2::Builder::new(Streams(Rc::clone(&client)))
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.head)
        .keep_alive_timeout(H2_PONG)
        .max_header_list_size(u32::try_from(limits.head_size).unwrap_or(u32::MAX))
        .max_concurrent_streams(streams)
        .max_send_buf_size(H2_BUFFER)
        .serve_connection(TokioIo::new(stream), service(Rc::clone(&client)));
    let clock = Clock::new(&limits, client.port, false);
    drive(
        client,
        Box::pin(connection),
        http2::Connection::graceful_shutdown,
        clock,
        displaced,
    )
}

/// Until the connection ends: by itself, in a drain, because its admin is none any more, or because its client takes more
/// of us than it may.
async fn drive<C>(
    client: Rc<Client>,
    mut connection: Pin<Box<C>>,
    shut_down: fn(Pin<&mut C>),
    mut clock: Clock,
    mut displaced: Displaced,
) where
    C: Future<Output = hyper::Result<()>>,
{
    let Client {
        worker,
        port,
        peer,
        begun,
        cut,
        ending,
        activity,
        ..
    } = &*client;
    let mut draining = pin!(no_longer_awaited(worker, begun.notified()));
    let mut revoked = pin!(revoked(worker, peer));
    let mut is_draining = false;
    loop {
        tokio::select! {
            biased;
            () = &mut revoked => {
                tracing::info!(client = %peer.address, "closed the connection of an admin who is none any more");
                cut.set(Some(Cut::Revoked));
                return;
            }
            () = async { displaced.as_mut().expect("the condition").await }, if displaced.is_some() => {
                cut.set(Some(Cut::Limit));
                return tracing::debug!(client = %peer.address, "made room for others");
            }
            has_begun = &mut draining, if !is_draining => {
                is_draining = true;
                shut_down(connection.as_mut());
                if !has_begun {
                    // Nothing is under way: what does not end at once, as HTTP/2 that waits for its client's first word, is cut.
                    let _ = timeout(Duration::ZERO, connection).await;
                    return;
                }
            }
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%port, client = %peer.address, %error, "the connection was cut");
                }
                return;
            }
            overdue = poll_fn(|cx| clock.poll(activity, cx)) => match overdue {
                Overdue::Close => shut_down(connection.as_mut()),
                Overdue::Request => {
                    // Time runs between answers alone.
                    ending.is_no_cut();
                    return tracing::debug!(%port, client = %peer.address, "closed: no request came in time, or no end");
                }
                Overdue::Stalled => return let_go_of_stalled(&client),
            }
        }
    }
}

/// Completes in a drain, at once for who has begun, and a little later for who has not; tells which of them it is.
async fn no_longer_awaited(worker: &Worker, begun: impl Future<Output = ()>) -> bool {
    worker.draining().await;
    tokio::select! {
        () = begun => true,
        // Boxed, for only a drain needs it, and every connection would have room for it.
        () = Box::pin(sleep(LATECOMERS)) => false,
    }
}

type Answered = Response<ClientBody<RecordedBody>>;
type Answer = Pin<Box<dyn Future<Output = Result<Answered, Infallible>>>>;

/// Boxed, for hyper keeps room for an answer in the making on every connection, however idle.
fn service(
    client: Rc<Client>,
) -> impl Service<Request<Incoming>, Response = Answered, Error = Infallible, Future = Answer> {
    service_fn(move |request| -> Answer { Box::pin(answer(Rc::clone(&client), request)) })
}

async fn answer(client: Rc<Client>, request: Request<Incoming>) -> Result<Answered, Infallible> {
    let Client {
        worker,
        port,
        peer,
        begun,
        activity,
        ..
    } = &*client;
    begun.notify_one();
    let answering = activity.answer();
    let exchange = Exchange::begin(Rc::clone(&client), &request);
    let is_head = request.method() == Method::HEAD;
    let version = request.version();
    let wish = request.extensions().get::<OnUpgrade>().cloned();
    let (answer, pace) = match port {
        Port::Admin => (admin::answer(&exchange, request).await, None),
        Port::Public => {
            let allowed = worker.allow(peer.address.ip(), client.counted_by.as_deref());
            let (answer, pace) = match allowed {
                Ok(pace) => (public::answer(&exchange, &request).await, Some(pace)),
                Err(refusal) => (Err(refusal), None),
            };
            // Whatever it was, it was for none of the questions.
            leftover::dismiss(worker, request);
            (answer, pace)
        }
    };
    let is_unwelcome = matches!(answer, Err(Refusal::Network | Refusal::NotAnAdmin(_)));
    let mut reply = answer.unwrap_or_else(Reply::from);
    if is_unwelcome {
        match version {
            // The clock sees to that.
            Version::HTTP_2 => activity.leave(),
            _ => drop(
                reply
                    .headers_mut()
                    .insert(CONNECTION, HeaderValue::from_static("close")),
            ),
        }
    }
    if is_head {
        reply::leave_out_body(&mut reply);
    }
    if let Some(wish) = wish
        && reply.status() != StatusCode::SWITCHING_PROTOCOLS
    {
        worker.spawn(close_in_order(wish));
    }
    let answer = exchange.answer(reply);
    Ok(answer.map(|body| ClientBody::new(body, answering, activity, pace)))
}

/// Where a client has wished for an upgrade in vain, hyper leaves the stream, once it is done with it, to whoever heeds
/// the wish. Nobody does: it has to be closed, or it would be reset with the end of the answer still on its way.
async fn close_in_order(wish: OnUpgrade) {
    if let Ok(stream) = wish.await {
        // The client may have gone first.
        let _ = TokioIo::new(stream).shutdown().await;
    }
}

async fn revoked(worker: &Worker, peer: &Peer) {
    match &peer.certificate {
        Some(certificate) => worker.revoked(certificate.clone(), peer.address.ip()).await,
        None => std::future::pending().await,
    }
}

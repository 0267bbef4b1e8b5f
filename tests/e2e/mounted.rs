//! Two services on one port: each answers its own paths, and the edge's rejections, in its own protocol.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread;

use edge::accept::accept;
use edge::admission::{Limiter, Rejection};
use edge::listener::{Inherited, ListeningSocket};
use edge::response::{Reply, ReplyBody};
use edge::service::{Answer, Listener, Outcome, Service, Services, Then};
use edge::shutdown::Shutdown;
use edge::telemetry::request_record::RequestRecord;
use edge::telemetry::stranger_log::StrangerLog;
use edge::worker::{self, Worker};
use http::{Request, Response};
use hyper::body::Incoming;
use incus_gate::config::{Config, Table};
use incus_gate::metrics::Metrics;
use incus_gate::public::{EvaluationBudget, PublicService};
use incus_gate::state::{CurrentUpstream, State};
use testing::client::Curl;
use testing::images::Images;
use testing::scene::Scene;
use testing::tls::{End, TlsClient};
use tokio::sync::watch;

/// A service that repeats the path.
struct Echo;

impl Service for Echo {
    fn answer(self: Rc<Self>, _: Rc<RequestRecord>, request: Request<Incoming>) -> Answer {
        let reply = text(format!("echo {}", request.uri().path()));
        Box::pin(async move {
            Outcome {
                reply,
                then: Then::KeepOpen,
            }
        })
    }

    fn reject(&self, why: Rejection) -> Reply {
        let mut reply = text(format!("echo: {why}"));
        *reply.status_mut() = why.status();
        reply
    }
}

fn text(text: String) -> Reply {
    Response::new(ReplyBody::from(text.into_bytes()))
}

/// Serves `[public]` of a configuration with [`Echo`] on `/echo` until the shutdown. Sends the address.
async fn serve(config: Config, shutdown: Shutdown, bound: mpsc::Sender<SocketAddr>) {
    let listener = config.listeners.iter().find(|listener| listener.first == Table::Public);
    let id = listener.unwrap().id;
    let ids: Vec<_> = config.listeners.iter().map(|listener| listener.id).collect();
    let (_sender, state) = watch::channel(Arc::new(State::new(config, None, None).unwrap()));
    let limiter = Arc::<Limiter>::default();
    let public = PublicService {
        state: state.clone(),
        upstream: Rc::new(CurrentUpstream::new(state.clone())),
        budget: Rc::new(EvaluationBudget::new(state.clone(), Arc::clone(&limiter))),
        shutdown: shutdown.clone(),
    };
    let services = Services::of_every_path(Rc::new(public)).mount("/echo", Rc::new(Echo));
    let listener = Listener::open(id, services.unwrap());
    let strangers = Arc::new(StrangerLog::new(&ids));
    let edge = move || Arc::clone(&state.borrow().edge);
    let worker = Worker::start(
        edge,
        limiter,
        Metrics::new(ids).of_worker(),
        strangers,
        shutdown.clone(),
    );
    let address = "127.0.0.1:0".parse().unwrap();
    let mut inherited = Inherited::from_environment(&[]).unwrap();
    let socket = ListeningSocket::open(id, &[address], &mut inherited).unwrap().remove(0);
    bound.send(socket.address().unwrap()).unwrap();
    accept(socket, listener, worker).await.unwrap();
    shutdown.finish().await;
}

#[test]
fn two_services_share_a_port() {
    let scene = Scene::start();
    Images::new().split("published").import(&scene.incus, &["--public"]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.toml");
    std::fs::write(&path, scene.setup.text()).unwrap();
    let config = Config::load(&path).unwrap();
    let shutdown = Shutdown::default();
    let (sender, receiver) = mpsc::channel();
    let server = {
        let shutdown = shutdown.clone();
        thread::spawn(move || worker::runtime().unwrap().block_on(serve(config, shutdown, sender)))
    };
    let address = receiver.recv().unwrap();

    for version in ["--http1.1", "--http2"] {
        let get = |path: &str| Curl::get(format!("https://{address}{path}")).with([version]).answer();
        for path in ["/echo", "/echo/", "/echo/1.0", "/echo/%2e%2e/1.0"] {
            assert_eq!(get(path).text(), format!("echo {path}"), "{version}");
        }
        let images = get("/1.0/images").json();
        assert_eq!(images["metadata"].as_array().unwrap().len(), 1, "{images}");
        for path in ["/echox", "/Echo", "//echo", "/%65cho", "/1.0/echo", "/x/../echo"] {
            let answer = get(path);
            assert_eq!(
                (answer.status, answer.json()["error_code"].as_u64()),
                (403, Some(403)),
                "{path}"
            );
        }
    }

    // An ambiguous request ends its connection, and each service says so in its own protocol.
    for (path, prefix) in [("/echo", "echo: "), ("/1.0", r#"{"type":"error""#)] {
        let mut client = TlsClient::tls13().connect(address).unwrap();
        let two_hosts = format!("GET {path} HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
        client.send(two_hosts).unwrap();
        let (answer, end) = client.read_to_end();
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(answer.split("\r\n\r\n").nth(1).unwrap().starts_with(prefix), "{answer}");
        assert_eq!(end, End::CloseNotify);
    }

    shutdown.drain();
    server.join().unwrap();
}

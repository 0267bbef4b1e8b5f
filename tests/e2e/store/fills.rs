//! An image arrives: for many clients at once, for clients that leave, in a gateway that ends.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use testing::gateway::{Gateway, PATIENCE};
use testing::scene::ScriptedScene;
use testing::scripted::{Scripted, Then};
use testing::tls::http1::Head;
use testing::tls::{End, Raw, TlsClient};

use super::sample::{Sample, is_export, list};
use super::{Folder, get, path_of, status, stop, wait_until};

const SIZE: usize = 3 << 20;
/// How often a held upstream looks whether it may go on.
const POLL: Duration = Duration::from_millis(5);

/// An upstream whose exports stop in the middle, until the test lets one go on.
struct Held {
    upstream: Scripted,
    go_on: Sender<()>,
    /// Gets a message when the gateway closes its connection in the middle.
    left: Receiver<()>,
}

impl Held {
    fn with(image: &Sample) -> Self {
        let (image, (go_on, may_go_on), (leaves, left)) = (image.clone(), channel(), channel());
        let (may_go_on, leaves) = (Mutex::new(may_go_on), Mutex::new(leaves));
        let upstream = Scripted::start_bare(move |request, wire| {
            if let Some(then) = list(request, wire, &[&image]) {
                return then;
            }
            assert!(is_export(request, &image), "{}", request.line());
            let body = image.body();
            let (first, rest) = body.split_at(body.len() / 2);
            wire.send(image.head());
            wire.send(first);
            // Either the test or the gateway acts next.
            while may_go_on.lock().unwrap().try_recv().is_err() {
                if wire.is_left_within(POLL) {
                    let _ = leaves.lock().unwrap().send(());
                    return Then::Cut;
                }
            }
            wire.send(rest)
        });
        Self { upstream, go_on, left }
    }

    fn exports(&self) -> usize {
        let requests = self.upstream.requests().into_iter();
        requests.filter(|request| request.target().ends_with("/export")).count()
    }

    fn go_on(&self) {
        self.go_on.send(()).unwrap();
    }
}

/// A client that has received the beginning.
struct Client {
    raw: Raw,
    head: Head,
}

impl Client {
    fn start(gateway: &Gateway, image: &Sample) -> Self {
        let mut raw = TlsClient::tls13().connect(gateway.public()).unwrap();
        raw.send(format!(
            "GET {} HTTP/1.1\r\nHost: gate.test\r\n\r\n",
            path_of(&image.fingerprint)
        ))
        .unwrap();
        let head = raw.read_head().unwrap();
        assert_eq!(head.status, 200);
        Self { raw, head }
    }

    /// Reads the whole body.
    fn finish(mut self) -> Result<Vec<u8>, End> {
        self.raw.read_body_of(&self.head)
    }
}

fn scene(folder: &Folder, held: &Held) -> ScriptedScene {
    folder.before(&held.upstream)
}

#[test]
fn many_clients_of_a_missing_image_cause_one_read() {
    for image in [Sample::split(1, SIZE), Sample::unified(2, SIZE)] {
        let (folder, held) = (Folder::new(), Held::with(&image));
        let scene = scene(&folder, &held);
        let gateway = &scene.gateway;
        // The first one is served while the image arrives.
        let mut first = Client::start(gateway, &image);
        first.raw.read_exactly(SIZE / 2 - 1000).unwrap();
        let followers: Vec<_> = (0..20).map(|_| Client::start(gateway, &image)).collect();
        let path = path_of(&image.fingerprint);
        let mut http2: Vec<_> = (0..3)
            .map(|_| TlsClient::tls13().connect_http2(gateway.public()).unwrap())
            .collect();
        let others: Vec<_> = thread::scope(|scope| {
            let others: Vec<_> = http2
                .iter_mut()
                .map(|client| scope.spawn(|| client.get(&path).unwrap()))
                .collect();
            let following = || status(gateway)["misses"] == 1 && held.exports() == 1;
            wait_until(following, || status(gateway).to_string());
            held.go_on();
            others.into_iter().map(|other| other.join().unwrap()).collect()
        });
        for follower in followers {
            assert!(follower.finish().unwrap() == image.export());
        }
        for other in others {
            assert!(other.whole.is_ok() && other.body == image.export());
        }
        folder.wait_for_files(image.parts.len());
        let stored = get(gateway, &image.fingerprint, &[]);
        assert!(stored.body == image.export());
        assert_eq!(held.exports(), 1);
        assert!(folder.incoming().is_empty());
    }
}

#[test]
fn the_last_client_that_leaves_stops_the_fill() {
    let image = Sample::split(3, SIZE);
    let (folder, held) = (Folder::new(), Held::with(&image));
    let scene = scene(&folder, &held);
    let [one, other] = [(), ()].map(|()| Client::start(&scene.gateway, &image));
    one.raw.reset();
    // The other one is not affected.
    assert!(held.left.recv_timeout(20 * POLL).is_err());
    held.go_on();
    assert!(other.finish().unwrap() == image.export());
    folder.wait_for_files(2);

    let image = Sample::unified(4, SIZE);
    let (folder, held) = (Folder::new(), Held::with(&image));
    let scene = self::scene(&folder, &held);
    let only = Client::start(&scene.gateway, &image);
    wait_until(|| folder.incoming().len() == 1, || format!("{:?}", folder.incoming()));
    only.raw.reset();
    held.left.recv_timeout(PATIENCE).expect("Incus's connection is closed");
    wait_until(|| folder.incoming().is_empty(), || format!("{:?}", folder.incoming()));
    assert!(folder.files().is_empty());
    // The next one starts again.
    held.go_on();
    assert!(get(&scene.gateway, &image.fingerprint, &[]).body == image.export());
    assert_eq!(held.exports(), 2);
    assert!(super::warnings(&scene.gateway, "cannot store").is_empty());
}

#[test]
fn a_killed_gateway_leaves_a_store_that_starts_clean() {
    let image = Sample::split(5, SIZE);
    let (folder, held) = (Folder::new(), Held::with(&image));
    let scene = scene(&folder, &held);
    let client = Client::start(&scene.gateway, &image);
    wait_until(|| folder.incoming().len() == 2, || format!("{:?}", folder.incoming()));
    stop(&scene.gateway, "KILL");
    assert_eq!(folder.incoming().len(), 2);
    client.finish().expect_err("half an image");

    let next = scene.setup.text();
    let next = Gateway::start(&next);
    assert!(folder.incoming().is_empty() && folder.files().is_empty());
    held.go_on();
    assert!(get(&next, &image.fingerprint, &[]).body == image.export());
    folder.wait_for_files(2);
    // A stored image survives it, too.
    stop(&next, "KILL");
    let last = Gateway::start(&scene.setup.text());
    assert!(get(&last, &image.fingerprint, &[]).body == image.export());
    assert_eq!(status(&last)["hits"], 1);
}

#[test]
fn a_drain_completes_the_downloads_of_an_arriving_image() {
    let image = Sample::unified(6, SIZE);
    let (folder, held) = (Folder::new(), Held::with(&image));
    let scene = scene(&folder, &held);
    let clients: Vec<_> = (0..3).map(|_| Client::start(&scene.gateway, &image)).collect();
    scene.gateway.signal("TERM");
    scene.gateway.wait_for_log("draining for up to");
    held.go_on();
    for client in clients {
        assert!(client.finish().unwrap() == image.export());
    }
    assert_eq!(scene.gateway.exit_status().code(), Some(0));
    assert!(Gateway::start(&scene.setup.text()).ended().is_none());
    assert!(folder.incoming().is_empty());
}

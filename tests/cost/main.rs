//! The cost of a request and of a byte, counted instead of timed, so that it is the same on any machine.
//!
//! The real binary runs under valgrind in front of a real Incus. The list of images is fetched only when the test requests it,
//! so that no other request is charged with that.
//!
//! This is a separate program because valgrind is slow: other tests on the same core would cause timeouts.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod callgrind;
mod table;
mod valgrind;

use std::time::{Duration, Instant};

use callgrind::Callgrind;
use table::{CostReport, Figures, Measure};
use testing::gateway::Gateway;
use testing::images::{Image, Images, Kind};
use testing::scene::Scene;
use testing::tls::http2::Http2;
use testing::tls::{Raw, TlsClient};
use valgrind::bytes_copied;

const MIB: usize = 1 << 20;
/// Size of downloads and uploads in MiB.
const BODY: usize = 2;
/// Number of small requests per measurement.
const REQUESTS: usize = 10;
/// Number of new connections per measurement; they take longer.
const CONNECTIONS: usize = 3;
/// Number of images in a long list.
const MANY: usize = 200;

#[test]
fn the_cost_of_a_small_response_has_not_grown() {
    let scene = scene();
    Images::new().split("one").import(&scene.incus, &["--public"]);
    let gateway = Callgrind::start(&scene.setup.text());
    let public = gateway.public();
    let mut http1 = TlsClient::tls13().connect(public).unwrap();
    let mut http2 = TlsClient::tls13().connect_http2(public).unwrap();
    let mut admin = TlsClient::of(scene.ops()).connect(gateway.admin()).unwrap();
    let mut report = CostReport::default();

    let small = gateway.cost(REQUESTS, || get(&mut http1, "/1.0"));
    report.add("/1.0 over HTTP/1.1", small);
    let small = gateway.cost(REQUESTS, || get_http2(&mut http2, "/1.0"));
    report.add("/1.0 over HTTP/2", small);
    let passed_on = gateway.cost(REQUESTS, || get(&mut admin, "/1.0"));
    report.add("/1.0 from Incus, for an admin", passed_on);
    let connection = gateway.cost(CONNECTIONS, || {
        get(&mut TlsClient::tls13().connect(public).unwrap(), "/1.0");
    });
    report.add("/1.0 over a new connection", connection);
    let list = gateway.cost(REQUESTS, || get(&mut http1, LIST));
    report.add("the list of one image", list);

    let tag = publish_many(&scene, &mut http1);
    let list = gateway.cost(REQUESTS, || get(&mut http1, LIST));
    report.add("the list of 201 images", list);
    let compressed = gateway.cost(REQUESTS, || ask(&mut http1, "Accept-Encoding: gzip", 200));
    report.add("the list of 201 images, compressed", compressed);
    let unchanged = gateway.cost(REQUESTS, || ask(&mut http1, &format!("If-None-Match: {tag}"), 304));
    report.add("the list of 201 images, unchanged", unchanged);

    drop(gateway);
    let gateway = Callgrind::start(&scene.setup.text().replace(NO_RECORDS, ""));
    let mut http1 = TlsClient::tls13().connect(gateway.public()).unwrap();
    let recorded = gateway.cost(REQUESTS, || get(&mut http1, "/1.0"));
    report.add("/1.0 over HTTP/1.1, recorded", recorded);
    report.assert_within_bounds();
}

#[test]
fn the_cost_of_a_mebibyte_has_not_grown() {
    let scene = scene();
    let image = image(&scene);
    let gateway = Callgrind::start(&scene.setup.text());
    let mut http1 = TlsClient::tls13().connect(gateway.public()).unwrap();
    let mut http2 = TlsClient::tls13().connect_http2(gateway.public()).unwrap();
    let mut admin = TlsClient::of(scene.ops()).connect(gateway.admin()).unwrap();
    let mut report = CostReport::default();

    let down = gateway.cost(1, || download(&mut http1, &image));
    report.add("a MiB down over HTTP/1.1", down.per(BODY));
    let down = gateway.cost(1, || download_http2(&mut http2, &image));
    report.add("a MiB down over HTTP/2", down.per(BODY));
    let up = gateway.cost(1, || upload(&mut admin));
    report.add("a MiB up", up.per(BODY));
    report.assert_within_bounds();
}

#[test]
fn the_copies_of_each_byte_have_not_grown() {
    let scene = scene();
    let image = image(&scene);
    // The same without the bodies.
    let idle = |gateway: &Gateway| {
        get(&mut TlsClient::tls13().connect(gateway.public()).unwrap(), "/1.0");
    };
    let down = |gateway: &Gateway| download(&mut TlsClient::tls13().connect(gateway.public()).unwrap(), &image);
    let down_http2 = |gateway: &Gateway| {
        download_http2(&mut TlsClient::tls13().connect_http2(gateway.public()).unwrap(), &image);
    };
    let up = |gateway: &Gateway| upload(&mut TlsClient::of(scene.ops()).connect(gateway.admin()).unwrap());

    let works: [&dyn Fn(&Gateway); 4] = [&idle, &down, &down_http2, &up];
    let [idle, down, down_http2, up] = works.map(|work| bytes_copied(&scene.setup.text(), work));
    let per_byte = |copied: f64| Figures::new(&[(Measure::BytesCopied, copied - idle)]).per(BODY * MIB);
    let mut report = CostReport::default();
    report.add("a byte down over HTTP/1.1", per_byte(down));
    report.add("a byte down over HTTP/2", per_byte(down_http2));
    report.add("a byte up", per_byte(up));
    report.assert_within_bounds();
}

const LIST: &str = "/1.0/images?recursion=1";

/// The log thread's wake-ups depend on the time between lines, so only one measurement has the log enabled.
const NO_RECORDS: &str = "[log]\nlevel = \"info,incus_gate::access=warn\"\n";

/// Starts a scene with long timeouts, because the gateway is slow under valgrind.
fn scene() -> Scene {
    Scene::start_with(|setup| {
        setup.more_public = "max_age = \"24h\"".to_owned();
        setup.more = format!(
            "[limits]
handshake_timeout = \"5m\"
header_timeout = \"5m\"
idle_timeout = \"5m\"
send_grace = \"5m\"
{NO_RECORDS}"
        );
    })
}

fn image(scene: &Scene) -> Image {
    let image = Images::new().random(Kind::Unified, "big", BODY as u64);
    image.import(&scene.incus, &["--public"]);
    image
}

/// Copies the image in Incus's database only: Incus lists the copies, and no test requests their bytes. Returns
/// the list's entity tag.
fn publish_many(scene: &Scene, public: &mut Raw) -> String {
    let columns =
        "filename, size, public, architecture, creation_date, expiry_date, upload_date, auto_update, project_id, type";
    let sql = format!(
        "WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < {MANY})
         INSERT INTO images (fingerprint, {columns}) SELECT printf('%064x', n), {columns} FROM images, number"
    );
    scene.incus.run(&["admin", "sql", "global", &sql]).ok();
    // Incus reports no event of that. After this one, which is of the project, the gateway fetches the list.
    scene
        .incus
        .run(&["project", "set", "default", "user.reason=images"])
        .ok();
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < Duration::from_secs(120), "the list is not fetched");
        // Under valgrind, the fetch may take longer than the client's timeout.
        let list = public.get(LIST).unwrap();
        if list.head.status == 200 && list.json()["metadata"].as_array().unwrap().len() == MANY + 1 {
            return list.head.field("etag").unwrap().to_owned();
        }
    }
}

fn get(connection: &mut Raw, path: &str) {
    assert_eq!(connection.get(path).unwrap().head.status, 200);
}

fn get_http2(connection: &mut Http2, path: &str) {
    assert_eq!(connection.get(path).unwrap().status, 200);
}

fn ask(connection: &mut Raw, field: &str, status: u16) {
    let answer = connection.ask(format!("GET {LIST} HTTP/1.1\r\nHost: gate.test\r\n{field}\r\n\r\n"));
    assert_eq!(answer.unwrap().head.status, status);
}

fn download(connection: &mut Raw, image: &Image) {
    let answer = connection.get(&export(image)).unwrap();
    assert!(answer.whole.is_ok() && answer.body.len() > BODY * MIB);
}

fn download_http2(connection: &mut Http2, image: &Image) {
    let answer = connection.get(&export(image)).unwrap();
    assert!(answer.whole.is_ok() && answer.body.len() > BODY * MIB);
}

fn export(image: &Image) -> String {
    format!("/1.0/images/{}/export", image.fingerprint)
}

/// Incus reads the complete upload before it rejects it as no image.
fn upload(connection: &mut Raw) {
    let head = "POST /1.0/images HTTP/1.1\r\nHost: gate.test\r\nContent-Type: application/octet-stream";
    let length = BODY * MIB;
    connection
        .send(format!("{head}\r\nContent-Length: {length}\r\n\r\n"))
        .unwrap();
    for _ in 0..length / (64 << 10) {
        connection.send([0; 64 << 10]).unwrap();
    }
    assert_eq!(connection.read_answer().unwrap().head.status, 202);
}

//! The public port follows Incus's events: a change is visible, or no longer, as soon as Incus has made it, and the list is
//! not fetched again. If the stream of events may be incomplete, the list is fetched, and the gateway tries another stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testing::client::Curl;
use testing::gateway::{Gateway, PATIENCE};
use testing::images::{Image, Images};
use testing::scene::{Scene, ScriptedScene, Setup};
use testing::scripted::events::{Events, event};
use testing::scripted::{FINGERPRINT, Scripted, catalogue};
use testing::tls::{Raw, TlsClient};

/// `public.max_age`, unless a test sets it.
const MAX_AGE: Duration = Duration::from_secs(1);
const FOLLOWS: &str = "the image list follows Incus's events";
const LISTS: &str = r#"incus_gate_catalogue_fetches_total{result="succeeded"}"#;

fn with_metrics(setup: &mut Setup) {
    setup.more = "[metrics]\nlisten = \"127.0.0.1:0\"\n".to_owned();
}

fn scene() -> Scene {
    let scene = Scene::start_with(with_metrics);
    scene.gateway.wait_for_log(FOLLOWS);
    scene
}

fn figure(gateway: &Gateway, name: &str) -> f64 {
    let figures = Curl::get(format!("{}/metrics", gateway.metrics_url())).answer().text();
    let mut lines = figures.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("{name} is missing")).parse().unwrap()
}

/// A client of Incus itself, on a connection that is already open.
struct Admin(Raw);

impl Admin {
    fn of(scene: &Scene) -> Self {
        let client = TlsClient::tls13().presenting(&scene.setup.local);
        Self(client.connect(scene.incus.address()).unwrap())
    }

    fn send(&mut self, method: &str, path: &str, body: &Value) {
        let body = body.to_string();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: incus\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let answer = self.0.ask(request).unwrap();
        assert!(answer.head.status < 300, "{method} {path}: {}", answer.text());
    }

    fn set_public(&mut self, image: &Image, public: bool) {
        let path = format!("/1.0/images/{}", image.fingerprint);
        self.send("PATCH", &path, &json!({ "public": public }));
    }
}

/// A client without a certificate.
fn stranger(gateway: &Gateway) -> Raw {
    TlsClient::tls13().connect(gateway.public()).unwrap()
}

fn status(stranger: &mut Raw, path: &str) -> u16 {
    stranger.get(path).unwrap().head.status
}

/// Returns how long a path takes to get this status.
fn wait_for_status(stranger: &mut Raw, path: &str, wanted: u16) -> Duration {
    let begun = Instant::now();
    while status(stranger, path) != wanted {
        assert!(begun.elapsed() < PATIENCE, "{path} does not become {wanted}");
        thread::sleep(Duration::from_millis(1));
    }
    begun.elapsed()
}

/// Publishes and unpublishes an image again and again, and returns the median and the maximum of the times until strangers
/// see it, by the direction.
fn times_until_visible(scene: &Scene, image: &Image) -> [(Duration, Duration); 2] {
    const CHANGES: usize = 20;
    let mut admin = Admin::of(scene);
    let mut stranger = stranger(&scene.gateway);
    let path = format!("/1.0/images/{}", image.fingerprint);
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..CHANGES {
        for (times, (public, wanted)) in times.iter_mut().zip([(true, 200), (false, 404)]) {
            admin.set_public(image, public);
            times.push(wait_for_status(&mut stranger, &path, wanted));
        }
    }
    times.map(|mut times| {
        times.sort_unstable();
        (times[times.len() / 2], times[times.len() - 1])
    })
}

fn assert_fast(times: [(Duration, Duration); 2]) {
    println!("published and unpublished, median and maximum: {times:?}");
    for (median, longest) in times {
        assert!(median <= Duration::from_millis(100), "{times:?}");
        assert!(longest <= MAX_AGE, "{times:?}");
    }
}

#[test]
fn a_change_is_visible_at_once_and_costs_no_list() {
    let scene = scene();
    let image = Images::new().unified("the one");
    image.import(&scene.incus, &[]);
    assert_fast(times_until_visible(&scene, &image));
    assert_eq!(figure(&scene.gateway, LISTS), 1.0);
    assert_eq!(figure(&scene.gateway, "incus_gate_catalogue_follows_events"), 1.0);
    assert!(figure(&scene.gateway, "incus_gate_catalogue_events_total") >= 40.0);
    assert_eq!(figure(&scene.gateway, "incus_gate_catalogue_corrections_total"), 0.0);
}

#[test]
fn a_change_is_visible_at_once_while_others_change_ten_times_a_second() {
    let scene = scene();
    let images = Images::new();
    let (image, other) = (images.unified("the one"), images.unified("another"));
    image.import(&scene.incus, &[]);
    other.import(&scene.incus, &["--public"]);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut admin = Admin::of(&scene);
            let path = format!("/1.0/images/{}", other.fingerprint);
            for number in 0.. {
                let begun = Instant::now();
                if is_over.load(Ordering::SeqCst) {
                    break;
                }
                let properties = json!({ "properties": { "number": number.to_string() } });
                admin.send("PATCH", &path, &properties);
                thread::sleep(Duration::from_millis(100).saturating_sub(begun.elapsed()));
            }
        });
        let times = times_until_visible(&scene, &image);
        is_over.store(true, Ordering::SeqCst);
        assert_fast(times);
    });
    assert_eq!(figure(&scene.gateway, LISTS), 1.0);
}

/// Asserts that strangers see the images and aliases that Incus itself shows to them, within `max_age`.
fn assert_same_as_incus(scene: &Scene, what: &str) {
    let mut gateway = stranger(&scene.gateway);
    let mut incus = stranger_of_incus(scene);
    // The gateway's list is sorted.
    let seen = |raw: &mut Raw| {
        let answer = raw.get("/1.0/images?recursion=1").unwrap();
        let list = answer.json()["metadata"].as_array().unwrap().clone();
        let mut seen: Vec<_> = list
            .iter()
            .map(|image| {
                let mut aliases: Vec<_> = image["aliases"].as_array().into_iter().flatten().cloned().collect();
                aliases.sort_by_key(ToString::to_string);
                (image["fingerprint"].clone(), image["properties"].clone(), aliases)
            })
            .collect();
        seen.sort_by_key(|(fingerprint, ..)| fingerprint.to_string());
        seen
    };
    let expected = seen(&mut incus);
    let changed = Instant::now();
    loop {
        let asked = changed.elapsed();
        let found = seen(&mut gateway);
        if found == expected {
            break;
        }
        assert!(asked <= MAX_AGE, "{what}: {found:?}, not {expected:?}");
    }
    let listed = gateway.get("/1.0/images/aliases").unwrap().json()["metadata"].clone();
    let mut names: Vec<_> = expected
        .iter()
        .flat_map(|(_, _, aliases)| aliases.iter())
        .map(|alias| alias["name"].as_str().unwrap())
        .collect();
    names.sort_unstable();
    let names: Vec<_> = names
        .iter()
        .map(|name| format!("/1.0/images/aliases/{}", name.replace('/', "%2F")))
        .collect();
    assert_eq!(listed, json!(names), "{what}");
}

fn stranger_of_incus(scene: &Scene) -> Raw {
    TlsClient::tls13().connect(scene.incus.address()).unwrap()
}

#[test]
fn every_kind_of_change_is_followed() {
    let scene = scene();
    let images = Images::new();
    let [one, two] = ["one", "two"].map(|text| images.unified(text));
    let [one, two] = [&one, &two];
    let incus = |arguments: &[&str]| drop(scene.incus.run(arguments).ok());
    let mut admin = Admin::of(&scene);
    let path = |image: &Image| format!("/1.0/images/{}", image.fingerprint);
    // A stranger has seen the list, so that nothing is fetched for a missing name.
    assert_same_as_incus(&scene, "nothing");
    one.import(&scene.incus, &["--public", "--alias", "a"]);
    assert_same_as_incus(&scene, "imported");
    two.import(&scene.incus, &["--alias", "hidden"]);
    assert_same_as_incus(&scene, "imported unpublished");
    admin.set_public(two, true);
    assert_same_as_incus(&scene, "published with its alias");
    incus(&["image", "alias", "create", "b", &one.fingerprint]);
    assert_same_as_incus(&scene, "alias created");
    incus(&["image", "alias", "rename", "a", "c/d"]);
    assert_same_as_incus(&scene, "alias renamed");
    let target = json!({ "target": two.fingerprint, "description": "now two" });
    admin.send("PUT", "/1.0/images/aliases/c%2Fd", &target);
    assert_same_as_incus(&scene, "alias retargeted");
    incus(&["image", "alias", "delete", "c/d"]);
    assert_same_as_incus(&scene, "alias deleted");
    admin.send("PATCH", &path(one), &json!({ "properties": { "os": "new" } }));
    assert_same_as_incus(&scene, "edited");
    // All in a moment, and in the order that the events have by chance.
    for (old, new) in [("b", "x"), ("x", "y"), ("y", "z")] {
        let from = format!("/1.0/images/aliases/{old}");
        admin.send("POST", &from, &json!({ "name": new }));
    }
    for image in [two, one, two, one, two] {
        let target = json!({ "target": image.fingerprint });
        admin.send("PUT", "/1.0/images/aliases/z", &target);
    }
    assert_same_as_incus(&scene, "renamed and retargeted again and again");
    incus(&["image", "delete", &two.fingerprint]);
    assert_same_as_incus(&scene, "deleted");

    // A project that shares the images of the default project.
    incus(&["project", "create", "sharing", "-c", "features.images=false"]);
    admin.send(
        "PATCH",
        &format!("{}?project=sharing", path(one)),
        &json!({ "public": false }),
    );
    assert_same_as_incus(&scene, "unpublished in another project");
    admin.set_public(one, true);
    // Incus reports no deletion of an image that another project has.
    incus(&["project", "create", "own"]);
    one.import(&scene.incus, &["--project", "own"]);
    assert_same_as_incus(&scene, "imported into another project");
    incus(&["image", "delete", &one.fingerprint]);
    assert_same_as_incus(&scene, "deleted in the default project only");
    assert!(
        !stranger(&scene.gateway)
            .get("/1.0/images")
            .unwrap()
            .text()
            .contains(&one.fingerprint)
    );

    assert_eq!(figure(&scene.gateway, LISTS), 1.0);
    assert_eq!(figure(&scene.gateway, "incus_gate_catalogue_corrections_total"), 0.0);
}

/// Incus reports a deletion a moment before it deletes the image.
#[test]
fn a_deleted_image_is_never_shown_again() {
    let scene = scene();
    let image = Images::new().unified("the one");
    let path = format!("/1.0/images/{}", image.fingerprint);
    let mut stranger = stranger(&scene.gateway);
    for round in 0..10 {
        image.import(&scene.incus, &["--public", "--alias", "a"]);
        assert!(wait_for_status(&mut stranger, &path, 200) <= MAX_AGE, "round {round}");
        scene.incus.run(&["image", "delete", "a"]).ok();
        assert!(wait_for_status(&mut stranger, &path, 404) <= MAX_AGE, "round {round}");
        let gone = Instant::now();
        while gone.elapsed() < MAX_AGE / 4 {
            assert_eq!(status(&mut stranger, &path), 404, "round {round}");
        }
    }
    assert_eq!(figure(&scene.gateway, LISTS), 1.0);
}

#[test]
fn strangers_who_never_pause_cause_no_list() {
    let scene = scene();
    Images::new().unified("the one").import(&scene.incus, &["--public"]);
    let begun = Instant::now();
    thread::scope(|scope| {
        for path in ["/1.0/images?recursion=1", "/1.0/images/aliases/no-such-name", "/1.0"] {
            let mut stranger = stranger(&scene.gateway);
            scope.spawn(move || {
                while begun.elapsed() < 3 * MAX_AGE {
                    status(&mut stranger, path);
                }
            });
        }
    });
    assert_eq!(figure(&scene.gateway, LISTS), 1.0);
    // With nothing more than a ping, the list is as recent as strangers may expect.
    assert_eq!(status(&mut stranger(&scene.gateway), "/1.0"), 200);
    assert!(figure(&scene.gateway, "incus_gate_catalogue_age_seconds") < 1.5);
}

#[test]
fn a_restart_of_incus_is_survived() {
    let scene = scene();
    let image = Images::new().unified("the one");
    image.import(&scene.incus, &["--public"]);
    let path = format!("/1.0/images/{}", image.fingerprint);
    let mut stranger = stranger(&scene.gateway);
    assert_eq!(status(&mut stranger, &path), 200);
    let seen = scene.gateway.log_length();
    scene.incus.kill();
    scene.gateway.wait_for_log_after(seen, "no longer follows");
    assert_eq!(status(&mut stranger, &path), 200, "the last list answers");
    scene.incus.start_again();
    // Whether there is a stream already or not.
    let mut admin = Admin::of(&scene);
    for (public, wanted) in [(false, 404), (true, 200), (false, 404)] {
        admin.set_public(&image, public);
        let took = wait_for_status(&mut stranger, &path, wanted);
        assert!(took <= 2 * MAX_AGE, "{took:?}");
    }
    scene.gateway.wait_for_log_after(seen, FOLLOWS);
    let lists = figure(&scene.gateway, LISTS);
    admin.set_public(&image, true);
    assert!(wait_for_status(&mut stranger, &path, 200) <= MAX_AGE);
    assert_eq!(figure(&scene.gateway, LISTS), lists);
}

#[test]
fn an_incus_that_hangs_delays_no_answer_for_long() {
    let scene = scene();
    let image = Images::new().unified("the one");
    image.import(&scene.incus, &["--public"]);
    let path = format!("/1.0/images/{}", image.fingerprint);
    let mut stranger = stranger(&scene.gateway);
    assert_eq!(status(&mut stranger, &path), 200);
    let seen = scene.gateway.log_length();
    let paused = scene.incus.pause();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(7) {
        let asked = Instant::now();
        assert_eq!(status(&mut stranger, &path), 200);
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    }
    scene
        .gateway
        .wait_for_log_after(seen, "Incus does not respond on the stream of events");
    drop(paused);
    scene.gateway.wait_for_log_after(seen, FOLLOWS);
    let mut admin = Admin::of(&scene);
    admin.set_public(&image, false);
    assert!(wait_for_status(&mut stranger, &path, 404) <= MAX_AGE);
}

#[test]
fn an_incus_that_does_not_trust_the_gateway_is_listed_quietly() {
    let mut scene = Scene::start();
    scene.setup.local = scene.certificates.client("nobody");
    let gateway = Gateway::start(&scene.setup.text());
    gateway.wait_for_log("Incus offers no events to the gateway's certificate (403 Forbidden)");
    let image = Images::new().unified("the one");
    image.import(&scene.incus, &["--public"]);
    let path = format!("/1.0/images/{}", image.fingerprint);
    assert_eq!(status(&mut stranger(&gateway), &path), 200);
    let warnings: Vec<_> = gateway.log().into_iter().filter(|line| line.contains("WARN")).collect();
    assert!(warnings.iter().all(|line| !line.contains("event")), "{warnings:?}");
}

/// A scripted Incus with one image, which a test can hide.
struct Faulty {
    upstream: Scripted,
    events: Arc<Events>,
    is_public: Arc<AtomicBool>,
    lists: Arc<AtomicU64>,
}

impl Faulty {
    fn start() -> Self {
        let events = Arc::new(Events::default());
        let is_public = Arc::new(AtomicBool::new(true));
        let lists = Arc::new(AtomicU64::new(0));
        let upstream = Scripted::start_bare({
            let (events, is_public) = (Arc::clone(&events), Arc::clone(&is_public));
            let lists = Arc::clone(&lists);
            move |request, wire| {
                let image = json!({
                    "architecture": "x86_64",
                    "fingerprint": FINGERPRINT,
                    "properties": {},
                    "public": is_public.load(Ordering::SeqCst),
                    "size": 1_000,
                    "type": "container",
                });
                let metadata = match request.target().as_str() {
                    _ if Events::is_request(request) => return events.serve(request, wire),
                    "/1.0/images?recursion=1" => {
                        lists.fetch_add(1, Ordering::SeqCst);
                        json!([image])
                    }
                    "/1.0/projects?recursion=1" => json!([{ "name": "default", "used_by": [image_path()] }]),
                    path if path == format!("/1.0/images/{FINGERPRINT}") => image,
                    _ => return catalogue::answer(request, wire).unwrap(),
                };
                let answer = json!({ "type": "sync", "metadata": metadata });
                wire.answer("200 OK", "application/json", answer.to_string().as_bytes())
            }
        });
        Self {
            upstream,
            events,
            is_public,
            lists,
        }
    }

    /// Starts a gateway that follows the events.
    fn gateway(&self, max_age: &str) -> ScriptedScene {
        let scene = ScriptedScene::before_with(&self.upstream, |setup| {
            with_metrics(setup);
            setup.more_public = format!("max_age = \"{max_age}\"");
        });
        scene.gateway.wait_for_log(FOLLOWS);
        scene
    }

    fn set_public(&self, is_public: bool) {
        self.is_public.store(is_public, Ordering::SeqCst);
    }

    fn lists(&self) -> u64 {
        self.lists.load(Ordering::SeqCst)
    }
}

fn image_path() -> String {
    format!("/1.0/images/{FINGERPRINT}")
}

#[test]
fn a_stream_that_is_not_whole_is_replaced() {
    type Fault = fn(&Faulty);
    let faults: [(&str, Fault, &str); 6] = [
        ("cut", |faulty| faulty.upstream.cut(), "no longer follows"),
        (
            "closed",
            |faulty| faulty.events.send_raw(&[0x88, 0]),
            "Incus closed the stream",
        ),
        (
            "no event",
            |faulty| faulty.events.send_bytes(b"{}"),
            "Incus sent an event that is invalid",
        ),
        (
            "no frame",
            |faulty| faulty.events.send_raw(&[0xff; 64]),
            "the stream of events failed",
        ),
        (
            "too large",
            |faulty| faulty.events.send_bytes(&vec![b' '; (1 << 20) + 1]),
            "the stream of events failed",
        ),
        (
            "silent",
            |faulty| faulty.events.set_silent(true),
            "Incus does not respond on the stream",
        ),
    ];
    for (what, fault, message) in faults {
        let faulty = Faulty::start();
        let scene = faulty.gateway("1s");
        let gateway = &scene.gateway;
        let mut stranger = stranger(gateway);
        assert_eq!(status(&mut stranger, &image_path()), 200, "{what}");
        let seen = gateway.log_length();
        let lists = faulty.lists();
        fault(&faulty);
        // Incus hides the image, and its event is lost with the stream.
        faulty.set_public(false);
        let took = wait_for_status(&mut stranger, &image_path(), 404);
        assert!(took <= 3 * MAX_AGE, "{what}: {took:?}");
        assert!(faulty.lists() > lists, "{what}");
        gateway.wait_for_log_after(seen, message);
        faulty.events.set_silent(false);
        gateway.wait_for_log_after(seen, FOLLOWS);
        assert!(faulty.events.opened() >= 2, "{what}");
        let lists = faulty.lists();
        faulty.set_public(true);
        faulty.events.send("image-updated", &image_path());
        wait_for_status(&mut stranger, &image_path(), 200);
        assert_eq!(faulty.lists(), lists, "{what}: the new stream is followed");
    }
}

#[test]
fn an_unknown_event_causes_a_list() {
    let faulty = Faulty::start();
    let scene = faulty.gateway("1s");
    let mut stranger = stranger(&scene.gateway);
    assert_eq!(status(&mut stranger, &image_path()), 200);
    for (action, source) in [
        ("image-hidden", image_path()),
        ("image-updated", "/1.0/images/5c41".to_owned()),
        ("image-alias-created", "/1.0/images/aliases/a".to_owned()),
        ("cluster-member-removed", "/1.0/cluster/members/x".to_owned()),
    ] {
        for (is_public, wanted) in [(false, 404), (true, 200)] {
            let lists = faulty.lists();
            faulty.set_public(is_public);
            faulty.events.send(action, &source);
            wait_for_status(&mut stranger, &image_path(), wanted);
            assert_eq!(faulty.lists(), lists + 1, "{action}");
        }
    }
    // Others cause nothing.
    let lists = faulty.lists();
    for (action, source) in [
        ("image-retrieved", image_path()),
        ("instance-started", "/1.0/instances/c".to_owned()),
        ("project-created", "/1.0/projects/p".to_owned()),
    ] {
        faulty.events.send(action, &source);
    }
    faulty.events.send_bytes(br#"{"type": "logging", "metadata": {}}"#);
    faulty
        .events
        .send_bytes(&event("instance-exec", "/1.0/instances/c", json!({ "target": [1] })));
    assert_eq!(status(&mut stranger, "/1.0/images/aliases/no-such-name"), 404);
    assert_eq!(status(&mut stranger, "/1.0/images/aliases/no-such-name"), 404);
    assert_eq!(faulty.lists(), lists);
    assert_eq!(faulty.events.opened(), 1);
}

#[test]
fn an_image_is_shown_again_if_incus_does_not_delete_it() {
    let faulty = Faulty::start();
    let scene = faulty.gateway("1s");
    let mut stranger = stranger(&scene.gateway);
    assert_eq!(status(&mut stranger, &image_path()), 200);
    faulty.events.send("image-deleted", &image_path());
    wait_for_status(&mut stranger, "/1.0/images/aliases/no-such-name", 404);
    assert!(wait_for_status(&mut stranger, &image_path(), 404) < MAX_AGE);
    let took = wait_for_status(&mut stranger, &image_path(), 200);
    assert!(took > Duration::from_secs(5), "{took:?}");
    // At once, if it is created anew.
    faulty.events.send("image-deleted", &image_path());
    wait_for_status(&mut stranger, "/1.0/images/aliases/no-such-name", 404);
    assert!(wait_for_status(&mut stranger, &image_path(), 404) < MAX_AGE);
    faulty.events.send("image-created", &image_path());
    assert!(wait_for_status(&mut stranger, &image_path(), 200) <= MAX_AGE);
    assert_eq!(faulty.lists(), 1);
}

#[test]
fn a_change_without_an_event_is_corrected_and_counted() {
    let faulty = Faulty::start();
    // The whole list is checked after 300 times this, or 600 times what a list takes.
    let scene = faulty.gateway("10ms");
    let mut stranger = stranger(&scene.gateway);
    assert_eq!(status(&mut stranger, &image_path()), 200);
    let corrections = "incus_gate_catalogue_corrections_total";
    assert_eq!(figure(&scene.gateway, corrections), 0.0);
    faulty.set_public(false);
    wait_for_status(&mut stranger, &image_path(), 404);
    scene
        .gateway
        .wait_for_log("Incus reported no event of 1 changes of its images");
    assert_eq!(figure(&scene.gateway, corrections), 1.0);
    assert_eq!(figure(&scene.gateway, "incus_gate_catalogue_follows_events"), 1.0);

    // A change whose event comes while the list is checked is no fault: neither this nor later checks count one.
    let (lists, begun) = (faulty.lists(), Instant::now());
    while faulty.lists() < lists + 2 {
        assert!(begun.elapsed() < 3 * PATIENCE, "the list is not checked");
        let is_public = !faulty.is_public.load(Ordering::SeqCst);
        faulty.set_public(is_public);
        faulty.events.send("image-updated", &image_path());
        wait_for_status(&mut stranger, &image_path(), if is_public { 200 } else { 404 });
    }
    assert_eq!(figure(&scene.gateway, corrections), 1.0);
}

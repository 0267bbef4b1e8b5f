//! Filters and searches are the only requests on the public port that a stranger can make expensive. One stranger gets a
//! bounded share of the CPU time for them, and other clients do not wait.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use testing::network;
use testing::scene::ScriptedScene;
use testing::scripted::{Scripted, Then, catalogue};
use testing::tls::http1::Answer;
use testing::tls::{Raw, TlsClient};

const IMAGES: usize = 5_000;
const ADDRESSES: [&str; 2] = ["192.0.2.1/32", "192.0.2.2/32"];
const LIST: &str = "/1.0/images";

/// Starts an upstream with this number of images, whose fingerprints are as random as real ones.
fn upstream(images: usize) -> Scripted {
    let images: Vec<Value> = (0..images as u64)
        .map(|n| {
            let digits = (1..=4).map(|part| format!("{:016x}", (n * 4 + part).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            json!({
                "aliases": [{ "name": format!("debian/{n}"), "description": "" }],
                "architecture": "x86_64",
                "filename": "image.tar.xz",
                "fingerprint": digits.collect::<String>(),
                "project": "default",
                "properties": { "description": format!("Debian {n} with Tools"), "os": "Debian", "release": n.to_string() },
                "public": true,
                "size": 1000,
                "type": "container",
                "uploaded_at": "2023-11-14T22:13:20Z",
            })
        })
        .collect();
    let list = json!({ "type": "sync", "metadata": images }).to_string();
    Scripted::start_bare(move |request, wire| match request.target().as_str() {
        "/1.0/images?recursion=1" => wire.answer("200 OK", "application/json", list.as_bytes()),
        _ => catalogue::answer(request, wire).unwrap_or(Then::Close),
    })
}

/// Starts a gateway with this limit per second. The list is fetched first, so that no request is charged with that.
fn scene(upstream: &Scripted, requests: u32) -> ScriptedScene {
    let scene = ScriptedScene::before_with(upstream, |setup| {
        setup.public = "[::]:0".to_owned();
        setup.more_public = "max_age = \"24h\"\ntitle = \"Images\"".to_owned();
        setup.more = format!("[limits]\nrequests_per_second = {requests}\n");
    });
    // A long list may take longer than the client's default timeout.
    let deadline = Instant::now() + Duration::from_secs(60);
    while connect(&scene).get(LIST).unwrap().head.status != 200 {
        assert!(Instant::now() < deadline, "there is no list");
    }
    scene
}

fn connect(scene: &ScriptedScene) -> Raw {
    TlsClient::tls13().connect(scene.gateway.public()).unwrap()
}

fn connect_from(scene: &ScriptedScene, from: &str) -> Raw {
    let port = (ADDRESSES[1].split('/').next().unwrap(), scene.gateway.public_port());
    let address = format!("{}:{}", port.0, port.1).parse().unwrap();
    TlsClient::tls13().connect_from(from, address).unwrap()
}

fn filter(text: &str) -> String {
    format!("{LIST}?filter={}", utf8_percent_encode(text, NON_ALPHANUMERIC))
}

/// Returns a different pattern for each number, none of which has a small automaton.
fn hostile(number: usize) -> String {
    let clause = |n| format!("fingerprint eq .*(.?[0-7]?[8-f]?){{25}}[0-7].{{15}}{number:x}{n}dz");
    filter(&(0..8).map(clause).collect::<Vec<_>>().join(" or "))
}

/// Returns a filter for which every clause is evaluated on every image.
fn usual(number: usize) -> String {
    filter(&format!(
        "properties.description eq .*tools.*{number}x or properties.os eq {number}"
    ))
}

/// Returns the CPU time that the gateway has used.
fn cpu(scene: &ScriptedScene) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", scene.gateway.pid())).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().unwrap())
        .sum();
    // USER_HZ is 100 on every architecture that the gateway is built for.
    Duration::from_millis(ticks * 10)
}

fn cpu_of(scene: &ScriptedScene, work: impl FnOnce()) -> Duration {
    let before = cpu(scene);
    work();
    cpu(scene) - before
}

fn error(answer: &Answer) -> String {
    answer.json()["error"].as_str().unwrap().to_owned()
}

#[test]
fn rejecting_a_complex_pattern_is_cheap() {
    let upstream = upstream(IMAGES);
    let scene = scene(&upstream, 1_000);
    let mut raw = connect(&scene);
    let usual = cpu_of(&scene, || {
        for number in 0..20 {
            assert_eq!(raw.get(&usual(number)).unwrap().head.status, 200);
        }
    });
    let hostile = cpu_of(&scene, || {
        for number in 0..20 {
            let answer = raw.get(&hostile(number)).unwrap();
            assert_eq!(answer.head.status, 400);
            assert!(
                error(&answer).contains("the pattern of a value is too complex"),
                "{}",
                error(&answer)
            );
        }
    });
    println!("20 usual filters {usual:?}, 20 hostile ones {hostile:?}");
    // CPU time is counted in ticks of 10 ms.
    assert!(
        hostile < usual * 6 + Duration::from_millis(20),
        "{hostile:?}, {usual:?} for usual filters"
    );
}

#[test]
fn hostile_filters_do_not_delay_other_clients() {
    let upstream = upstream(IMAGES);
    let scene = scene(&upstream, 1_000);
    // Sending 5,000 images takes a worker longer than the evaluation in between. Other tests may disturb one of the three
    // measurements, so one good try is enough; a blocked worker would show in each of them.
    let mut tries = (0..3).map(|_| {
        let plain = slowest_beside(&scene, |_| format!("{LIST}?recursion=1"));
        let hostile = slowest_beside(&scene, hostile);
        let usual = slowest_beside(&scene, usual);
        println!("at p99 beside plain lists {plain:?}, hostile filters {hostile:?}, usual filters {usual:?}");
        hostile.max(usual) < plain * 3 + Duration::from_millis(50)
    });
    assert!(tries.any(|is_unharmed| is_unharmed), "filters keep others waiting");
}

/// Returns one client's 99th percentile for `/1.0`, while eight others request these paths without a pause.
fn slowest_beside(scene: &ScriptedScene, path: impl Fn(usize) -> String + Sync) -> Duration {
    let (number, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut raw = connect(scene);
                while !is_over.load(Ordering::SeqCst) {
                    let answer = raw.get(&path(number.fetch_add(1, Ordering::SeqCst))).unwrap();
                    assert!([200, 400, 503].contains(&answer.head.status), "{}", answer.text());
                }
            });
        }
        // Most likely some on each worker.
        let mut clients: Vec<Raw> = (0..4).map(|_| connect(scene)).collect();
        let mut times: Vec<_> = (0..200)
            .map(|n| {
                let begun = Instant::now();
                assert_eq!(clients[n % 4].get("/1.0").unwrap().head.status, 200);
                begun.elapsed()
            })
            .collect();
        is_over.store(true, Ordering::SeqCst);
        times.sort_unstable();
        times[times.len() * 99 / 100]
    })
}

#[test]
fn cpu_time_is_limited_for_each_address() {
    if !network::own("cpu_time_is_limited_for_each_address", &ADDRESSES) {
        return;
    }
    let upstream = upstream(IMAGES);
    // CPU time of 20 ms at once, and then 5 ms a second.
    let scene = scene(&upstream, 5);
    let mut greedy = connect_from(&scene, "192.0.2.1");
    let mut answers = 0;
    let refusal = loop {
        let answer = greedy.get(&usual(answers)).unwrap();
        match answer.head.status {
            200 => answers += 1,
            _ => break answer,
        }
    };
    assert!(answers > 0, "{}", refusal.text());
    assert_eq!(refusal.head.status, 429, "{}", refusal.text());
    assert_eq!(
        error(&refusal),
        "filters and searches from this address take too much CPU time, try again later"
    );
    assert!(refusal.head.field("retry-after").unwrap().parse::<u64>().unwrap() > 0);
    scene
        .gateway
        .wait_for_log("limits.requests_per_second: rejected a filter or search from 192.0.2.1");
    // Searches are charged to the same budget.
    let search = "GET /?q=tools+17 HTTP/1.1\r\nHost: gate.test\r\nAccept: text/html\r\n\r\n";
    let page = greedy.ask(search).unwrap();
    assert_eq!(page.head.status, 429, "{}", page.text());
    let page = connect_from(&scene, "192.0.2.2").ask(search).unwrap();
    assert_eq!(page.head.status, 200, "another address");
    assert!(
        page.text().contains("images. Search to find the others."),
        "{}",
        page.text()
    );
    // Cheap requests are still served: cached results, and those without a filter.
    for path in [usual(0).as_str(), "/1.0", LIST] {
        assert_eq!(greedy.get(path).unwrap().head.status, 200, "{path}");
    }
}

#[test]
fn writing_long_lists_is_charged_as_cpu_time() {
    if !network::own("writing_long_lists_is_charged_as_cpu_time", &ADDRESSES) {
        return;
    }
    let upstream = upstream(IMAGES);
    let scene = scene(&upstream, 20);
    let mut greedy = connect_from(&scene, "192.0.2.1");
    // The result is cached; the list is serialised again each time.
    let all = filter("public eq true") + "&recursion=1";
    let refusal = (0..200)
        .map(|_| greedy.get(&all).unwrap())
        .find(|answer| answer.head.status != 200)
        .expect("more than it may ask for at once");
    assert!(error(&refusal).contains("too much CPU time"), "{}", refusal.text());
}

#[test]
fn a_repeated_filter_costs_no_more_than_a_plain_list() {
    let upstream = upstream(IMAGES);
    let scene = scene(&upstream, 1_000);
    let mut raw = connect(&scene);
    let mut ask = |request: &str| assert_eq!(raw.ask(request).unwrap().head.status, 200);
    let list = format!("GET {LIST} HTTP/1.1\r\nHost: gate.test\r\n\r\n");
    let filtered = format!("GET {} HTTP/1.1\r\nHost: gate.test\r\n\r\n", usual(0));
    let search = "GET /?q=tools+none HTTP/1.1\r\nHost: gate.test\r\nAccept: text/html\r\n\r\n";
    let first = cpu_of(&scene, || [&filtered, search].iter().for_each(|request| ask(request)));
    let mut hundred = |request: &str| cpu_of(&scene, || (0..100).for_each(|_| ask(request)));
    let (list, filtered, search) = (hundred(&list), hundred(&filtered), hundred(search));
    println!(
        "both for the first time {first:?}; a hundred plain lists {list:?}, filters {filtered:?}, searches {search:?}"
    );
    assert!(
        filtered < list * 2 && search < list * 2,
        "{list:?}, filtered {filtered:?}, searched {search:?}"
    );
}

#[test]
fn a_target_that_is_too_long_is_rejected_unparsed() {
    let upstream = upstream(1);
    let scene = scene(&upstream, 1_000);
    let query = "&".repeat(62_000);
    let mut http2 = TlsClient::tls13().connect_http2(scene.gateway.public()).unwrap();
    for path in [LIST, "/1.0", "/1.0/images/aliases", "/nothing", "/"] {
        let target = format!("{path}?{query}");
        let request = format!("GET {target} HTTP/1.1\r\nHost: gate.test\r\nAccept: text/html\r\n\r\n");
        let answer = connect(&scene).ask(request).unwrap();
        assert_eq!(answer.head.status, 414, "{path}");
        assert_eq!(answer.json()["error_code"], 414);
        assert_eq!(error(&answer), "the request's target is longer than 4096 bytes");
        let answer = http2.get(&target).unwrap();
        assert_eq!(
            (answer.status.as_u16(), answer.json()["error_code"].as_u64()),
            (414, Some(414)),
            "{path}"
        );
    }
    // The longest target that is accepted.
    let longest = |length: usize| {
        let target = format!("{LIST}?");
        let rest = "&".repeat(length - target.len());
        connect(&scene).get(&(target + &rest)).unwrap().head.status
    };
    assert_eq!((longest(4096), longest(4097)), (200, 414));
}

#[test]
fn caches_must_revalidate_every_response() {
    let upstream = upstream(1);
    let scene = scene(&upstream, 1_000);
    for path in [
        "/1.0",
        LIST,
        "/1.0/images/aliases",
        "/1.0/images/ffff",
        "/nothing",
        &usual(0),
        "/",
    ] {
        let answer = connect(&scene).get(path).unwrap();
        assert_eq!(answer.head.field("cache-control"), Some("no-cache"), "{path}");
    }
}

//! Limits by client address: the number of connections, the number of requests, and whether the client may connect at all.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use testing::network;
use testing::scene::ScriptedScene;
use testing::scripted::{FINGERPRINT, Scripted};
use testing::tls::{End, Raw, TlsClient};

const ADDRESSES: [&str; 6] = [
    "192.0.2.1/32",
    "192.0.2.2/32",
    "2001:db8:0:1::1/128",
    "2001:db8:0:1::2/128",
    "2001:db8:0:2::1/128",
    "2001:db8:0:3::1/128",
];

fn upstream() -> Scripted {
    Scripted::start(|request, wire| match request.target().as_str() {
        "/1.0/tunnel" => {
            wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
            wire.echo()
        }
        target if target.ends_with("/export") => {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf");
            thread::sleep(Duration::from_millis(500));
            wire.send("rest")
        }
        _ => wire.answer("200 OK", "text/plain", b"welcome"),
    })
}

/// Starts the gateway on every address; `public` and `limits` are further lines of these tables.
fn scene(upstream: &Scripted, public: &str, limits: &str) -> ScriptedScene {
    ScriptedScene::before_with(upstream, |setup| {
        setup.public = "[::]:0".to_owned();
        setup.admin = "[::]:0".to_owned();
        setup.more_public = public.to_owned();
        setup.more = format!("[limits]\n{limits}\n");
    })
}

/// Returns the public port at an address of the same family.
fn public(scene: &ScriptedScene, from: &str) -> SocketAddr {
    at(from, scene.gateway.public_port())
}

fn at(from: &str, port: u16) -> SocketAddr {
    let address = if from.contains(':') {
        "2001:db8:0:3::1"
    } else {
        "192.0.2.2"
    };
    SocketAddr::new(address.parse().unwrap(), port)
}

fn connect(scene: &ScriptedScene, from: &str) -> Result<Raw, End> {
    TlsClient::tls13().connect_from(from, public(scene, from))
}

fn status(raw: &mut Raw) -> u16 {
    raw.get("/1.0").unwrap().head.status
}

#[test]
fn connections_per_address_and_ipv6_64_prefix_are_limited() {
    if !network::own("connections_per_address_and_ipv6_64_prefix_are_limited", &ADDRESSES) {
        return;
    }
    let upstream = upstream();
    let scene = scene(&upstream, "", "max_connections_per_address = 2");
    for (first, second, other) in [
        ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ("2001:db8:0:1::1", "2001:db8:0:1::2", "2001:db8:0:2::1"),
    ] {
        let held = connect(&scene, first).unwrap();
        let mut open = connect(&scene, second).unwrap();
        for from in [first, second] {
            assert_eq!(connect(&scene, from).unwrap_err(), End::Reset, "{from}");
        }
        assert_eq!(status(&mut open), 200);
        assert_eq!(status(&mut connect(&scene, other).unwrap()), 200);
        drop(held);
        let deadline = Instant::now() + Duration::from_secs(10);
        while connect(&scene, second).is_err() {
            assert!(Instant::now() < deadline, "the place is not free again");
        }
    }
    let is_it = |line: &&String| line.contains("limits.max_connections_per_address:");
    scene.gateway.wait_for_log("limits.max_connections_per_address:");
    assert_eq!(
        scene.gateway.log().iter().filter(is_it).count(),
        1,
        "one line an episode"
    );
    // A proxy on loopback does not count as one client.
    let address = SocketAddr::from(([127, 0, 0, 1], scene.gateway.public_port()));
    let open: Vec<_> = (0..5).map(|_| TlsClient::tls13().connect(address).unwrap()).collect();
    drop(open);
}

#[test]
fn each_parallel_download_counts_as_a_connection() {
    if !network::own("each_parallel_download_counts_as_a_connection", &ADDRESSES) {
        return;
    }
    let upstream = upstream();
    let scene = scene(&upstream, "", "max_connections_per_address = 2");
    let mut http2 = TlsClient::tls13().connect_http2(public(&scene, "192.0.2.2")).unwrap();
    let paths: Vec<_> = (0..6).map(|_| format!("/1.0/images/{FINGERPRINT}/export")).collect();
    // Twice, because a permit is released after each download.
    for _ in 0..2 {
        let answers = http2.get_all(&paths);
        let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
        let (good, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
        assert_eq!((good.len(), refused.len()), (2, 4));
        assert!(good.iter().all(|answer| &answer.body[..] == b"halfrest"));
        for answer in refused {
            assert_eq!(answer.status, 429);
            assert_eq!(answer.headers["retry-after"], "1");
            let message = answer.json()["error"].as_str().unwrap().to_owned();
            assert_eq!(message, "too many downloads at once, try again later");
        }
        assert_eq!(http2.get("/1.0").unwrap().status, 200);
    }
}

#[test]
fn too_many_requests_get_429_with_retry_after() {
    if !network::own("too_many_requests_get_429_with_retry_after", &ADDRESSES) {
        return;
    }
    let upstream = upstream();
    let scene = scene(&upstream, "", "requests_per_second = 1");
    // One address over several connections, which several workers serve.
    let mut all: Vec<Raw> = (0..5).map(|_| connect(&scene, "192.0.2.1").unwrap()).collect();
    let begun = Instant::now();
    let mut answered = 0;
    let refusal = loop {
        let answer = all[answered % 5].get("/1.0").unwrap();
        if answer.head.status == 429 {
            break answer;
        }
        assert_eq!(answer.head.status, 200);
        answered += 1;
    };
    let most = 11 + begun.elapsed().as_secs() as usize;
    assert!((10..=most).contains(&answered), "{answered} requests at once");
    let answer = refusal.json();
    assert_eq!((&answer["type"], &answer["error_code"]), (&"error".into(), &429.into()));
    assert!(answer["error"].as_str().unwrap().contains("try again later"));
    assert_eq!(refusal.head.field("retry-after"), Some("1"));
    assert_eq!(status(&mut all[1]), 429, "whichever worker is asked");
    // An ambiguous request closes its connection, also above the limit.
    let two = "GET /1.0 HTTP/1.1\r\nHost: gate.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\nGET /1.0 HTTP/1.1\r\nHost: gate.test\r\n\r\n";
    let answer = all[2].ask(two).unwrap();
    assert_eq!(
        (answer.head.status, answer.head.field("connection")),
        (400, Some("close"))
    );
    assert!(all[2].read_to_end().0.is_empty(), "another answer");
    assert_eq!(
        status(&mut connect(&scene, "192.0.2.2").unwrap()),
        200,
        "another address"
    );
    // Repeated rejections have one log line.
    scene.gateway.wait_for_log("client=192.0.2.2:");
    scene
        .gateway
        .wait_for_log("limits.requests_per_second: rejected a request from 192.0.2.1");
    let log = scene.gateway.log().join("\n");
    assert!(!log.contains("status=429"), "{log}");

    thread::sleep(Duration::from_secs(1));
    assert_eq!(status(&mut all[0]), 200, "after Retry-After");

    // An HTTP/2 connection stays open, and its requests count like any other.
    let mut http2 = TlsClient::tls13().connect_http2(public(&scene, "192.0.2.1")).unwrap();
    while http2.get("/1.0").unwrap().status == 200 {}
    let mut two = http2.request("GET", "/1.0");
    two.headers_mut().insert("host", "user@gate.test".parse().unwrap());
    assert_eq!(http2.ask(two).unwrap().status, 429);
}

#[test]
fn denied_networks_are_reset_before_any_data_is_read() {
    if !network::own("denied_networks_are_reset_before_any_data_is_read", &ADDRESSES) {
        return;
    }
    let upstream = upstream();
    let mut scene = scene(
        &upstream,
        "allow = [\"192.0.2.0/24\", \"2001:db8:0:1::/64\"]\ndeny = \"192.0.2.2\"",
        "",
    );
    let public_port = |from| connect(&scene, from);
    assert_eq!(public_port("192.0.2.2").unwrap_err(), End::Reset, "deny wins");
    assert_eq!(public_port("2001:db8:0:2::1").unwrap_err(), End::Reset, "not listed");
    assert_eq!(status(&mut public_port("2001:db8:0:1::2").unwrap()), 200);
    let mut idle = public_port("192.0.2.1").unwrap();
    assert_eq!(status(&mut idle), 200);
    let mut download = public_port("192.0.2.1").unwrap();
    let export = format!("GET /1.0/images/{FINGERPRINT}/export HTTP/1.1\r\nHost: gate.test\r\n\r\n");
    download.send(export).unwrap();
    download.read_head().unwrap();

    // The admin port has a list of its own.
    let admin = at("192.0.2.1", scene.gateway.admin_port());
    let ops = TlsClient::of(scene.ops());
    let tunnel = |from| {
        let mut raw = ops.connect_from(from, admin).unwrap();
        assert_eq!(raw.upgrade("/1.0/tunnel").unwrap().status, 101);
        raw
    };
    let (mut cut, mut kept) = (tunnel("192.0.2.1"), tunnel("192.0.2.2"));
    let mut closed = ops.connect_from("192.0.2.1", admin).unwrap();
    assert_eq!(closed.get("/1.0/x").unwrap().head.status, 200);

    scene.setup.more_public = "deny = \"192.0.2.1\"".to_owned();
    let text = scene.setup.text();
    scene
        .gateway
        .reconfigure(&text.replace("[admin]\n", "[admin]\ndeny = [\"192.0.2.1\"]\n"));
    scene.gateway.signal("HUP");
    scene.gateway.wait_for_log("reloaded");
    assert_eq!(
        download.read_exactly(8).unwrap(),
        b"halfrest",
        "what is under way goes on"
    );
    let answer = idle.get("/1.0").unwrap();
    assert_eq!(answer.head.status, 403);
    assert_eq!(idle.end(), End::CloseNotify);
    assert_eq!(connect(&scene, "192.0.2.1").unwrap_err(), End::Reset);
    assert_eq!(status(&mut connect(&scene, "192.0.2.2").unwrap()), 200);
    for raw in [&mut cut, &mut closed] {
        assert!(!matches!(raw.end(), End::Silence), "it is still open");
    }
    kept.send("ping").unwrap();
    assert_eq!(kept.read_exactly(4).unwrap(), b"ping");
    assert_eq!(ops.connect_from("192.0.2.1", admin).unwrap_err(), End::Reset);
}

#[test]
fn rejected_admin_requests_are_limited_by_address() {
    if !network::own("rejected_admin_requests_are_limited_by_address", &ADDRESSES) {
        return;
    }
    let upstream = upstream();
    let scene = scene(&upstream, "", "requests_per_second = 1");
    let ask = |client: &TlsClient, from| {
        let mut raw = client.connect_from(from, at(from, scene.gateway.admin_port())).unwrap();
        let answer = raw.get("/1.0/x").unwrap();
        if answer.head.status != 200 {
            assert_eq!(answer.head.field("connection"), Some("close"));
            assert_eq!(raw.end(), End::CloseNotify);
        }
        answer.head.status
    };
    let nobody = TlsClient::tls13();
    let begun = Instant::now();
    let mut refused = 0;
    while refused < 100 && ask(&nobody, "192.0.2.1") == 403 {
        refused += 1;
    }
    let most = 11 + begun.elapsed().as_secs() as usize;
    assert!((10..=most).contains(&refused), "{refused} refused requests at once");
    scene
        .gateway
        .wait_for_log("limits.requests_per_second: rejected a request from 192.0.2.1");
    // Other addresses are not limited, nor are admins at the same address.
    assert_eq!(ask(&nobody, "192.0.2.2"), 403);
    assert_eq!(ask(&TlsClient::of(scene.ops()), "192.0.2.1"), 200);
}

/// One client may own a /56 with its 256 /64 prefixes.
#[test]
fn requests_are_limited_by_wider_networks_too() {
    let upstream = upstream();
    let scene = ScriptedScene::before_with(&upstream, |setup| {
        setup.more_public = "proxy_protocol_from = \"127.0.0.1\"".to_owned();
        setup.more_admin = setup.more_public.clone();
        setup.more = "[limits]\nrequests_per_second = 1\n".to_owned();
    });
    let (public, admin) = (scene.gateway.public(), scene.gateway.admin());
    let connect = |from: &str, port| {
        let client = TlsClient::tls13().connect_announced(from.parse().unwrap(), port);
        client.unwrap()
    };
    for (client, most, neighbour) in [("2001:db8:0:", 40, "2001:db8:0:100::1"), ("192.0.2.", 160, "192.0.3.1")] {
        let address = |n: usize| match client.contains(':') {
            true => format!("{client}{n:x}::1"),
            false => format!("{client}{n}"),
        };
        let begun = Instant::now();
        let answered: usize = (0..most / 4)
            .map(|n| {
                let mut raw = connect(&address(n), public);
                (0..10).take_while(|_| status(&mut raw) == 200).count()
            })
            .sum();
        // Its share is also earned while the test runs.
        let earned = (begun.elapsed().as_secs() as usize + 1) * most / 10;
        assert!(
            (most..=most + earned).contains(&answered),
            "{answered} requests at once"
        );
        assert_eq!(status(&mut connect(neighbour, public)), 200, "another network");
        // Rejected requests on the admin port count with it. One more may have been earned since the previous request.
        let mut fresh = (most / 4..most).map(address);
        let is_limited = fresh.any(|from| {
            while status(&mut connect(&from, public)) == 200 {}
            status(&mut connect(&from, admin)) == 429
        });
        assert!(is_limited, "requests to the admin port are not counted");
        assert_eq!(status(&mut connect(neighbour, admin)), 403);
    }
}

#[test]
fn one_client_with_many_networks_does_not_fill_the_port() {
    // The sixteen /64 prefixes of a /60.
    let crowd: Vec<String> = (0..16).map(|n| format!("2001:db8:1:{n:x}::1")).collect();
    let honest = ["192.0.2.1", "192.0.2.2", "2001:db8:0:1::1"];
    let mut addresses: Vec<String> = crowd.iter().map(|address| format!("{address}/128")).collect();
    addresses.extend(ADDRESSES.map(str::to_owned));
    let addresses: Vec<&str> = addresses.iter().map(|address| &**address).collect();
    if !network::own("one_client_with_many_networks_does_not_fill_the_port", &addresses) {
        return;
    }
    let upstream = upstream();
    let limits = "max_connections = 72\nreserved_admin_connections = 8\nmax_connections_per_address = 4";
    let scene = scene(&upstream, "", limits);
    let mut early: Vec<Raw> = honest.map(|from| connect(&scene, from).unwrap()).into();
    assert!(early.iter_mut().all(|raw| status(raw) == 200));
    // Use all connections, repeatedly: each new one evicts another one of the same client.
    let mut idle: Vec<Raw> = Vec::new();
    for _ in 0..6 {
        idle.extend(crowd.iter().filter_map(|from| connect(&scene, from).ok()));
    }
    let mut late: Vec<Raw> = honest.map(|from| connect(&scene, from).unwrap()).into();
    for raw in early.iter_mut().chain(&mut late) {
        assert_eq!(status(raw), 200);
    }
    scene
        .gateway
        .wait_for_log("limits.max_connections: the public port is full");
}

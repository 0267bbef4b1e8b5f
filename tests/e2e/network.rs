//! The networks to Incus and to clients may be interrupted, lose packets and delay them. A successful response has every byte,
//! a failed one ends with an error, service resumes with the network, and vanished clients leave no resources in use.

use std::fs;
use std::time::{Duration, Instant};

use testing::client::Client;
use testing::gateway::PATIENCE;
use testing::images::{Image, Images, Kind, sha256, sha256_of};
use testing::network::{self, Disturbed, Slow};
use testing::scene::Scene;
use testing::tls::{End, Raw, TlsClient};

/// The longest time that a client waits.
const LIMIT: Duration = Duration::from_secs(5);

fn scene(limits: &str) -> (Scene, Image) {
    let scene = Scene::start_with(|setup| setup.more = limits.to_owned());
    // More than all buffers in between can store.
    let image = Images::new().random(Kind::Unified, "large", 32);
    image.import(&scene.incus, &["--public", "--alias", "large"]);
    scene.refresh();
    (scene, image)
}

fn begin(client: &TlsClient, port: std::net::SocketAddr, image: &Image) -> Raw {
    let mut raw = client.connect(port).unwrap();
    raw.send(format!(
        "GET /1.0/images/{}/export HTTP/1.1\r\nHost: gate.test\r\n\r\n",
        image.fingerprint
    ))
    .unwrap();
    raw
}

fn ports(scene: &Scene) -> [u16; 2] {
    [scene.gateway.public_port(), scene.gateway.admin_port()]
}

fn incus(scene: &Scene) -> [u16; 1] {
    [scene.incus.address().port()]
}

#[test]
fn transfers_survive_an_interruption_of_the_network_to_incus() {
    if !network::own("transfers_survive_an_interruption_of_the_network_to_incus", &[]) {
        return;
    }
    let (scene, image) = scene("");
    let (stranger, ops) = (TlsClient::tls13(), TlsClient::of(scene.ops()));
    let mut download = begin(&stranger, scene.gateway.public(), &image);
    let head = download.read_head().unwrap();
    let mut bytes = download.read_exactly(1 << 20).unwrap();

    let cut = Disturbed::cut(&incus(&scene));
    for (client, port, path, status) in [
        (&ops, scene.gateway.admin(), "/1.0".to_owned(), 502),
        (
            &stranger,
            scene.gateway.public(),
            format!("/1.0/images/{}/export", image.fingerprint),
            502,
        ),
        (&stranger, scene.gateway.public(), "/1.0/images".to_owned(), 200),
    ] {
        let begun = Instant::now();
        let answer = client.connect(port).unwrap().get(&path).unwrap();
        assert_eq!((answer.head.status, answer.whole), (status, Ok(())), "{path}");
        assert!(begun.elapsed() < LIMIT, "{path}: {:?}", begun.elapsed());
    }
    drop(cut);
    assert_eq!(head.status, 200);
    let length: usize = head.field("content-length").unwrap().parse().unwrap();
    bytes.extend(download.read_exactly(length - bytes.len()).unwrap());
    assert_eq!(sha256(&[&bytes]), image.fingerprint);
    let mut admin = ops.connect(scene.gateway.admin()).unwrap();
    assert_eq!(admin.get("/1.0").unwrap().head.status, 200);
}

#[test]
fn a_reset_by_the_network_never_looks_like_a_complete_body() {
    if !network::own("a_reset_by_the_network_never_looks_like_a_complete_body", &[]) {
        return;
    }
    let (scene, image) = scene("");
    let mut downloads: Vec<Raw> = [
        (TlsClient::tls13(), scene.gateway.public()),
        (TlsClient::of(scene.ops()), scene.gateway.admin()),
    ]
    .into_iter()
    .map(|(client, port)| begin(&client, port, &image))
    .collect();
    for download in &mut downloads {
        assert_eq!(download.read_head().unwrap().status, 200);
    }
    let reset = Disturbed::reset(&incus(&scene));
    for download in &mut downloads {
        let (rest, end) = download.read_to_end();
        assert_eq!(end, End::Reset, "after {} bytes", rest.len());
    }
    drop(reset);
    let mut again = begin(&TlsClient::tls13(), scene.gateway.public(), &image);
    let answer = again.read_answer().unwrap();
    assert_eq!(sha256(&[&answer.body]), image.fingerprint);
}

#[test]
fn connections_of_vanished_clients_are_closed() {
    if !network::own("connections_of_vanished_clients_are_closed", &[]) {
        return;
    }
    // The kernel gives up after some 15 minutes otherwise.
    fs::write("/proc/sys/net/ipv4/tcp_retries2", "3").unwrap();
    let (scene, image) = scene("[limits]\nsend_grace = \"1s\"\nidle_timeout = \"2s\"\n");
    let before = scene.gateway.open_files();
    let mut gone = Vec::new();
    for (client, port) in [
        (TlsClient::tls13(), scene.gateway.public()),
        (TlsClient::of(scene.ops()), scene.gateway.admin()),
    ] {
        // During a download, and between two requests.
        let mut download = begin(&client, port, &image);
        assert_eq!(download.read_head().unwrap().status, 200);
        let mut idle = client.connect(port).unwrap();
        assert_eq!(idle.get("/1.0").unwrap().head.status, 200);
        gone.extend([download, idle]);
    }
    assert!(scene.gateway.open_files() >= before + 4);
    let _cut = Disturbed::cut(&ports(&scene));
    // The clients vanish without closing their connections.
    let deadline = Instant::now() + PATIENCE + PATIENCE;
    while scene.gateway.open_files() > before {
        assert!(
            Instant::now() < deadline,
            "{} files are open, not {before}",
            scene.gateway.open_files()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn transfers_are_complete_over_a_lossy_or_slow_network() {
    if !network::own("transfers_are_complete_over_a_lossy_or_slow_network", &[]) {
        return;
    }
    // As on Ethernet; otherwise there would be few packets to lose.
    network::ip(&["link", "set", "lo", "mtu", "1500"]);
    let scene = Scene::start();
    let images = Images::new();
    for name in ["to clients", "to Incus", "slow"] {
        let ports = match name {
            "to clients" => ports(&scene).to_vec(),
            _ => incus(&scene).to_vec(),
        };
        let (mut _slow, mut _lossy) = (None, None);
        match name {
            "slow" => _slow = Some(Slow::of("80mbit", 300)),
            _ => _lossy = Some(Disturbed::lossy(&ports)),
        }
        let admin = Client::admin(scene.ops());
        let url = scene.gateway.admin_url();
        admin.run(&["remote", "add", "gate", &url, "--accept-certificate"]).ok();
        let image = images.random(Kind::Split, name, 4);
        let files: Vec<&str> = image.files.iter().map(|file| file.to_str().unwrap()).collect();
        // A new name each time, because strangers may see a changed alias one second later.
        let alias = name.replace(' ', "-");
        admin
            .run(&[
                "image", "import", files[0], files[1], "gate:", "--public", "--alias", &alias,
            ])
            .ok();
        let stranger = scene.stranger();
        let into = stranger.home().join("out");
        fs::create_dir(&into).unwrap();
        stranger
            .run(&[
                "image",
                "export",
                &format!("gate:{alias}"),
                &format!("{}/", into.display()),
            ])
            .ok();
        let mut files: Vec<_> = fs::read_dir(&into).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort_by_key(|path| !path.file_name().unwrap().to_string_lossy().starts_with("meta-"));
        assert_eq!(sha256_of(&files), image.fingerprint, "{name}");
        admin.run(&["image", "delete", &format!("gate:{alias}")]).ok();
    }
}

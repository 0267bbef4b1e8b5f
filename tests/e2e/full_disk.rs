//! The disk of the log is full: requests are served as usual, and the log reports the lost lines when there is space again.
//! The tests for the audit log's own file are in `audit.rs`.

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testing::certificates::Certificates;
use testing::disk::Disk;
use testing::gateway::{PATIENCE, binary};
use testing::incus::free_address;
use testing::run::{Started, signal};
use testing::scene::Setup;
use testing::scripted::Scripted;
use testing::tls::TlsClient;

#[test]
fn a_full_disk_delays_no_request() {
    let upstream = Scripted::start(|_, wire| wire.answer("200 OK", "text/plain", b"x"));
    let certificates = Certificates::new();
    let mut setup = Setup::new(&certificates, &upstream.url(), &upstream.certificate());
    let (public, admin) = (free_address(), free_address());
    (setup.public, setup.admin) = (public.to_string(), admin.to_string());
    let configuration = certificates.folder().join("proxy.toml");
    fs::write(&configuration, setup.text()).unwrap();
    let disk = Disk::mount();
    let log = disk.path().join("log");
    let wait_for = |text: &str| {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let content = fs::read_to_string(&log).unwrap();
            if content.contains(text) {
                return content;
            }
            assert!(Instant::now() < deadline, "no {text:?} in {content}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let mut gateway = Started::by(
        Command::new(binary())
            .args(["run", "--config"])
            .arg(&configuration)
            .stdout(Stdio::null())
            .stderr(File::options().append(true).create(true).open(&log).unwrap()),
    );
    wait_for(" ready\n");

    disk.fill();
    let mut stranger = TlsClient::tls13().connect(public).unwrap();
    let mut ops = TlsClient::of(&setup.admins[0].1).connect(admin).unwrap();
    for _ in 0..100 {
        let begun = Instant::now();
        assert_eq!(stranger.get("/1.0/images").unwrap().head.status, 200);
        assert_eq!(ops.get("/1.0/x").unwrap().head.status, 200);
        assert!(begun.elapsed() < PATIENCE);
    }
    disk.make_room();
    // Lines written meanwhile are lost, and the log reports their number.
    let deadline = Instant::now() + PATIENCE;
    while !fs::read_to_string(&log).unwrap().contains("lines of the log were lost") {
        assert_eq!(ops.get("/1.0/after").unwrap().head.status, 200);
        assert!(Instant::now() < deadline, "{}", fs::read_to_string(&log).unwrap());
        // It is reported once a second, and many requests would have filled the small disk again by then.
        std::thread::sleep(Duration::from_millis(100));
    }
    wait_for("/1.0/after");
    signal(gateway.id(), "TERM");
    assert!(gateway.wait().unwrap().success());
}

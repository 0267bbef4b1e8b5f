//! Under load, clients are served during reloads and restarts of Incus.

use std::thread;

use testing::images::{Images, Kind};
use testing::load::{Load, assert_served};
use testing::scene::Scene;
use testing::tls::TlsClient;

const CLIENTS: usize = 3;

#[test]
fn reloads_under_load_reject_and_abort_nothing() {
    let scene = Scene::start();
    let image = Images::new().random(Kind::Unified, "large", 8);
    image.import(&scene.incus, &["--public"]);
    scene.refresh();
    let (public, admin) = (scene.gateway.public(), scene.gateway.admin());
    let ops = TlsClient::of(scene.ops());
    let load = Load::default();
    thread::scope(|scope| {
        let _done = load.until_dropped();
        for _ in 0..CLIENTS {
            load.ask(
                scope,
                TlsClient::tls13(),
                public,
                "/1.0/images?recursion=1",
                assert_served,
            );
            load.ask(scope, ops.clone(), admin, "/1.0", assert_served);
        }
        // A download that lasts longer than all reloads.
        let mut download = TlsClient::tls13().connect(public).unwrap();
        let export = format!(
            "GET /1.0/images/{}/export HTTP/1.1\r\nHost: gate.test\r\n\r\n",
            image.fingerprint
        );
        download.send(export).unwrap();
        for number in 0..10 {
            // Another certificate, and back.
            let server = scene.certificates.server(["server", "other"][number % 2]);
            let mut setup = scene.setup.clone();
            setup.server = server;
            let before = scene.gateway.log().len();
            scene.gateway.reconfigure(&setup.text());
            scene.gateway.signal("HUP");
            scene.gateway.wait_for_log_after(before, "reloaded");
            load.wait_for_more(CLIENTS * 2);
        }
        let answer = download.read_answer().unwrap();
        assert_eq!(testing::images::sha256(&[&answer.body]), image.fingerprint);
    });
}

#[test]
fn incus_restarts_under_load_are_survived() {
    let scene = Scene::start();
    Images::new().split("published").import(&scene.incus, &["--public"]);
    scene.refresh();
    let (public, admin) = (scene.gateway.public(), scene.gateway.admin());
    let ops = TlsClient::of(scene.ops());
    let load = Load::default();
    thread::scope(|scope| {
        let _done = load.until_dropped();
        for _ in 0..CLIENTS {
            // Strangers notice nothing.
            load.ask(
                scope,
                TlsClient::tls13(),
                public,
                "/1.0/images?recursion=1",
                assert_served,
            );
            // Admins get an error from the gateway, or from Incus while it stops (500). Every response is complete.
            load.ask(scope, ops.clone(), admin, "/1.0", |answer| {
                let answer = answer.unwrap();
                assert_eq!(answer.whole, Ok(()));
                match answer.head.status {
                    200 => {}
                    status => {
                        assert!(matches!(status, 500 | 502 | 503), "{status}");
                        assert_eq!(answer.json()["error_code"], status);
                    }
                }
            });
        }
        for _ in 0..2 {
            load.wait_for_more(CLIENTS * 4);
            scene.incus.stop();
            load.wait_for_more(CLIENTS * 4);
            scene.incus.start_again();
        }
        let deadline = std::time::Instant::now() + testing::gateway::PATIENCE;
        while ops.connect(admin).unwrap().get("/1.0").unwrap().head.status != 200 {
            assert!(std::time::Instant::now() < deadline, "admins are not served again");
        }
    });
}

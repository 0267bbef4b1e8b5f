//! What simplestreams cannot express is left out, and `incus-gate status` says which images, and why.

use serde_json::{Value, json};
use testing::client::Curl;
use testing::gateway::{Gateway, PATIENCE};
use testing::images::{Images, Kind};
use testing::run::run;
use testing::scene::ScriptedScene;
use testing::scripted::{FINGERPRINT, Scripted, Wire};

use super::{start, turn_on, wait_for_images};

/// Returns the report about simplestreams, as soon as `is_wanted` of it.
#[track_caller]
fn report(gateway: &Gateway, is_wanted: impl Fn(&Value) -> bool) -> Value {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let report = run(gateway.command("status").arg("--json")).stdout;
        let report: Value = serde_json::from_str(&report).unwrap();
        if is_wanted(&report["simplestreams"]) {
            return report["simplestreams"].clone();
        }
        assert!(std::time::Instant::now() < deadline, "{report:#}");
    }
}

#[test]
fn a_comma_in_an_alias_and_a_machine_in_one_file_are_left_out() {
    let scene = start();
    let images = Images::new();
    let named = images.split("two names");
    named.import(&scene.incus, &["--public", "--alias", "good"]);
    let alias = json!({"name": "not,good", "target": named.fingerprint});
    let create = ["query", "-X", "POST", "-d", &alias.to_string(), "/1.0/images/aliases"];
    scene.incus.run(&create).ok();
    let machine = images.virtual_machine(Kind::Unified, "machine");
    machine.import(&scene.incus, &["--public", "--alias", "machine"]);
    let kind = scene
        .incus
        .run(&["query", &format!("/1.0/images/{}", machine.fingerprint)])
        .ok();
    assert!(kind.contains("virtual-machine"), "{kind}");
    scene.refresh();
    let listed = wait_for_images(&scene, 1);
    let product = listed.document.products.values().next().unwrap();
    assert_eq!(product.aliases, ["good"]);

    let report = report(&scene.gateway, |report| {
        report["omitted"].as_array().is_some_and(|omitted| omitted.len() == 2)
    });
    assert_eq!(report["count"], 1);
    assert_eq!(report["pending"], json!([]));
    let text = run(&mut scene.gateway.command("status")).ok();
    assert!(text.contains("\n  images as simplestreams: 1, 1 left out\n"), "{text}");
    let of_alias = format!(
        "\n    alias not,good of {} is left out: an alias of a simplestreams server can neither be empty nor contain a comma\n",
        &named.fingerprint[..12]
    );
    assert!(text.contains(&of_alias), "{text}");
    let of_machine = format!(
        "\n    {} is left out: a virtual machine in one file is",
        &machine.fingerprint[..12]
    );
    assert!(text.contains(&of_machine), "{text}");
}

fn documents(scene: &ScriptedScene) -> String {
    Curl::get(format!("{}/streams/v1/images.json", scene.gateway.public_url()))
        .answer()
        .text()
}

fn scripted(
    export: impl Fn(&mut Wire) -> testing::scripted::Then + Send + Sync + 'static,
) -> (Scripted, ScriptedScene) {
    let path = format!("/1.0/images/{FINGERPRINT}/export");
    let upstream = Scripted::start(move |request, wire| match request.target() == path {
        true => export(wire),
        false => wire.answer("404 Not Found", "text/plain", b"x"),
    });
    let scene = ScriptedScene::before_with(&upstream, turn_on);
    (upstream, scene)
}

#[test]
fn an_oci_image_is_left_out() {
    let (_upstream, scene) = scripted(|wire| {
        wire.send("HTTP/1.1 200 OK\r\nX-Incus-Type: oci\r\nContent-Type: application/octet-stream\r\nContent-Length: 1\r\n\r\nx")
    });
    let report = report(&scene.gateway, |report| report["omitted"] != json!([]));
    assert_eq!(report["omitted"][0]["fingerprint"], FINGERPRINT);
    assert_eq!(report["omitted"][0]["alias"], Value::Null);
    assert_eq!(
        report["omitted"][0]["reason"],
        "simplestreams has no form for OCI images"
    );
    assert_eq!((&report["count"], &report["pending"]), (&json!(0), &json!([])));
    assert!(!documents(&scene).contains(FINGERPRINT));
}

#[test]
fn an_image_that_cannot_be_fetched_is_marked() {
    let (_upstream, scene) = scripted(|wire| wire.answer("200 OK", "application/octet-stream", b"something else"));
    let report = report(&scene.gateway, |report| !report["pending"][0]["problem"].is_null());
    assert_eq!(report["pending"][0]["fingerprint"], FINGERPRINT);
    let text = run(&mut scene.gateway.command("status")).ok();
    assert!(
        text.contains("\n! images as simplestreams: 0, 1 cannot be fetched\n"),
        "{text}"
    );
    assert!(
        text.contains(&format!("\n!   {} cannot be fetched: ", &FINGERPRINT[..12])),
        "{text}"
    );
    assert!(!documents(&scene).contains(FINGERPRINT));
}

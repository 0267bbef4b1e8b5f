//! Downloads come from the store, which is filled once from Incus and serves only verified, published images.

mod clients;
mod exports;
mod fills;
mod outages;
mod sample;
mod served;
mod space;
mod trouble;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use testing::client::{Answer, Curl};
use testing::gateway::{Gateway, PATIENCE, toml};
use testing::run::run;
use testing::scene::{Scene, ScriptedScene, Setup};
use testing::scripted::Scripted;

/// The table `[store]` for a folder that outlives the gateway.
fn table(directory: &Path, size: &str) -> String {
    format!("[store]\ndirectory = {}\nsize = \"{size}\"\n", toml(directory))
}

/// A store that outlives the gateway, and what is in it.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("store")
    }

    /// Adds it to a configuration whose list of images stays fresh, so that nothing else asks the upstream.
    fn add_to(&self, setup: &mut Setup) {
        setup.more = table(&self.path(), "64MiB");
        "max_age = \"1h\"".clone_into(&mut setup.more_public);
    }

    /// Starts a gateway with this store.
    fn before(&self, upstream: &Scripted) -> ScriptedScene {
        ScriptedScene::before_with(upstream, |setup| self.add_to(setup))
    }

    fn files(&self) -> Vec<PathBuf> {
        list(&self.path().join("files"))
    }

    fn incoming(&self) -> Vec<PathBuf> {
        list(&self.path().join("incoming"))
    }

    fn wait_for_files(&self, count: usize) {
        wait_until(|| self.files().len() == count, || format!("{:?}", self.files()));
    }
}

fn list(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the store's directory");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

#[track_caller]
fn wait_until(is_so: impl Fn() -> bool, otherwise: impl Fn() -> String) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{}", otherwise());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn path_of(fingerprint: &str) -> String {
    format!("/1.0/images/{fingerprint}/export")
}

fn get(gateway: &Gateway, fingerprint: &str, headers: &[&str]) -> Answer {
    let url = format!("{}{}", gateway.public_url(), path_of(fingerprint));
    headers
        .iter()
        .fold(Curl::get(url), |curl, header| curl.header(header))
        .answer()
}

fn export(scene: &Scene, fingerprint: &str, headers: &[&str]) -> Answer {
    get(&scene.gateway, fingerprint, headers)
}

/// Returns what `status --json` says about the store.
fn status(gateway: &Gateway) -> Value {
    let output = run(gateway.command("status").arg("--json"));
    let report: Value = serde_json::from_str(&output.stdout).expect("a report");
    report["store"].clone()
}

/// Waits until `status --json` has this value.
#[track_caller]
fn wait_for_status(gateway: &Gateway, field: &str, wanted: u64) {
    wait_until(
        || status(gateway)[field] == wanted,
        || format!("{field}: {}", status(gateway)),
    );
}

/// Returns the warnings of the log that contain this text.
fn warnings(gateway: &Gateway, text: &str) -> Vec<String> {
    let log = gateway.log().into_iter();
    log.filter(|line| line.contains(" WARN ") && line.contains(text))
        .collect()
}

fn stop(gateway: &Gateway, signal: &str) -> ExitStatus {
    gateway.signal(signal);
    gateway.exit_status()
}

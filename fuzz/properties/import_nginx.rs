//! An `nginx.conf`. The result is a valid `proxy.toml`, as far as that can be checked without the files that it names: TOML
//! without a key that is unknown, misplaced or of the wrong type.

use std::fs;

use incus_gate::config::{Config, ConfigError};
use incus_gate::import_nginx::{Outcome, translate};
use tempfile::TempDir;

thread_local! {
    static FOLDER: TempDir = tempfile::tempdir().expect("a temporary folder");
}

pub fn holds(data: &[u8]) {
    // Files elsewhere on this machine are not part of the input.
    if data.windows(7).any(|word| word == b"include") && data.contains(&b'/') {
        return;
    }
    let folder = FOLDER.with(|folder| folder.path().to_owned());
    let file = folder.join("nginx.conf");
    fs::write(&file, data).expect("the file can be written");
    let Ok(translation) = translate(&file, &folder.join("incus"), None) else {
        return;
    };
    let text = translation.config;
    assert!(text.parse::<toml::Table>().is_ok(), "{text}");
    // An incomplete result needs a report.
    assert!(translation.outcome == Outcome::Complete || !translation.report.is_empty());
    let foreseen = Config::parse_at(&folder.join("proxy.toml"), text.clone());
    if let Err(ConfigError::Wrong { problem, .. }) = foreseen {
        let of_the_form = [
            "unknown key",
            "; correct it",
            "invalid type",
            "invalid value",
            "neither a text",
        ];
        assert!(
            !of_the_form.iter().any(|words| problem.contains(words)),
            "{problem}: {text}"
        );
    }
}

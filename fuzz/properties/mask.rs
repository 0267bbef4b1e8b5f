//! A request's target, as the log has it.
//!
//! Whatever stands where a secret could makes no difference to what is told: with another secret in its place, the same is
//! told. And nothing that is told breaks a line, or fills the disk.

use http::Uri;
use incus_gate::telemetry::mask::masked;

/// Keys of Incus's queries whose values may be told.
const HARMLESS: &str =
    " all-projects cluster filter force path pool project public recursion recursive target timeout type wait ";

pub fn holds(data: &[u8]) {
    let Ok(uri) = Uri::try_from(data) else { return };
    let told = masked(&uri);
    assert!(told.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{told:?}");
    assert!(told.len() <= 1024 + 3, "{} bytes", told.len());
    let mut other = uri.path().to_owned();
    if let Some(query) = uri.query() {
        other.push('?');
        other.push_str(&without_secrets(query));
    }
    // An authority, and who is named in it, is not told, so it may be another one.
    let other = match uri.authority() {
        Some(_) if uri.scheme().is_some() => format!("https://other{other}"),
        _ => other,
    };
    let Ok(other) = Uri::try_from(other) else { return };
    assert_eq!(told, masked(&other), "{other}");
}

fn without_secrets(query: &str) -> String {
    let mut other = String::new();
    let mut rest = query;
    loop {
        let end = rest.find(['&', ';']).unwrap_or(rest.len());
        let pair = &rest[..end];
        let is_harmless = |key: &str| !key.contains(' ') && HARMLESS.contains(&format!(" {key} "));
        match pair.find('=') {
            Some(at) if is_harmless(&pair[..at]) => other.push_str(pair),
            Some(at) => other = other + &pair[..at] + "=another",
            None if pair.is_empty() || is_harmless(pair) => other.push_str(pair),
            None => other.push_str("another"),
        }
        let Some(separator) = rest[end..].chars().next() else {
            return other;
        };
        other.push(separator);
        rest = &rest[end + 1..];
    }
}

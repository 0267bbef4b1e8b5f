//! A request target, as it is logged.
//!
//! Secrets do not influence the logged text: with other secrets in their place, it is the same. It contains no line break,
//! and its length is limited.

use edge::telemetry::redact::redact;
use http::Uri;

/// Query parameters of Incus whose values may be logged.
const HARMLESS: &str =
    " all-projects cluster filter force path pool project public recursion recursive target timeout type wait ";

pub fn holds(data: &[u8]) {
    let Ok(uri) = Uri::try_from(data) else { return };
    let told = redact(&uri);
    assert!(told.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{told:?}");
    assert!(told.len() <= 2 * (1024 + 3 + 256 + 3) + 2, "{} bytes", told.len());
    let mut other = uri.path().to_owned();
    if let Some(query) = uri.query() {
        other.push('?');
        other.push_str(&without_secrets(query));
    }
    // The authority, which can contain user information, is not logged, so it is replaced too.
    let other = match uri.authority() {
        Some(_) if uri.scheme().is_some() => format!("https://other{other}"),
        _ => other,
    };
    let Ok(other) = Uri::try_from(other) else { return };
    assert_eq!(told, redact(&other), "{other}");
}

/// A second implementation of Go's `url.ParseQuery`.
fn without_secrets(query: &str) -> String {
    let is_harmless = |key: &[u8]| {
        HARMLESS
            .as_bytes()
            .split(|byte| *byte == b' ')
            .any(|known| !known.is_empty() && known == key)
    };
    let pairs = query.split('&').map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match unescaped(key) {
            Some(read) if is_harmless(&read) && unescaped(value).is_some() => pair.to_owned(),
            Some(read) if !is_harmless(&read) && pair.contains('=') => format!("{key}=another"),
            Some(read) if read.is_empty() => String::new(),
            _ => "another".to_owned(),
        }
    });
    pairs.collect::<Vec<_>>().join("&")
}

fn unescaped(text: &str) -> Option<Vec<u8>> {
    if text.contains(';') {
        return None;
    }
    let spaced = text.replace('+', " ");
    let mut parts = spaced.split('%');
    let mut read = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let digits = part
            .get(..2)
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
        read.push(u8::from_str_radix(digits, 16).ok()?);
        read.extend_from_slice(&part.as_bytes()[2..]);
    }
    Some(read)
}

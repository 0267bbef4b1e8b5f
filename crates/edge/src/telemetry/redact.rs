//! Request targets for the log: secrets are redacted, and long targets truncated.

use std::borrow::Cow;

use http::Uri;
use percent_encoding::{AsciiSet, CONTROLS, percent_encode, utf8_percent_encode};

/// Maximum length of a logged path, in bytes.
const MAX_PATH: usize = 1024;
/// Length of a logged query, in bytes, after which further pairs are dropped.
const MAX_QUERY: usize = 1024;
/// Maximum length of a logged key or value, in bytes. The first three pairs always fit into [`MAX_QUERY`].
const MAX_VALUE: usize = 256;
/// Maximum length of a target on the public port that is logged with its query, in bytes. Of longer ones, only the path
/// is logged: clients may send many.
const MAX_OF_STRANGER: usize = 256;
/// Marks a truncation.
const MORE: &str = "...";

/// Query keys of Incus whose values are not secret. All other values are redacted: the next version of Incus may add
/// secrets that a list of secret keys would miss.
const HARMLESS: [&str; 14] = [
    "all-projects",
    "cluster",
    "filter",
    "force",
    "path",
    "pool",
    "project",
    "public",
    "recursion",
    "recursive",
    "target",
    "timeout",
    "type",
    "wait",
];

/// Keys that identify the object of a request, in the order in which they are logged.
const FIRST: [&str; 3] = ["project", "target", "path"];

/// Characters escaped in keys and values, in addition to non-ASCII ones.
const IN_QUERY: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'&')
    .add(b'+')
    .add(b';')
    .add(b'<')
    .add(b'=')
    .add(b'>')
    .add(b'`');

/// Returns the target to keep until it is logged. A long one is reduced to the part that will be logged: clients may
/// keep thousands of requests open by not reading the responses.
pub fn bounded(uri: &Uri) -> Uri {
    let length = uri.path().len() + uri.query().map_or(0, str::len);
    match length > MAX_PATH {
        true => Uri::try_from(&*redact(uri)).unwrap_or_default(),
        false => uri.clone(),
    }
}

/// Same as [`bounded`], for a target of the public port.
pub fn kept_of_stranger(uri: &Uri) -> Uri {
    let target = uri.path_and_query().map_or("", |target| target.as_str());
    if target.len() <= MAX_OF_STRANGER {
        return uri.clone();
    }
    let path = target.split_inclusive('?').next().unwrap_or_default();
    let path = &path[..path.floor_char_boundary(MAX_OF_STRANGER)];
    Uri::try_from(format!("{path}{MORE}")).unwrap_or_default()
}

/// Returns path and query as printable ASCII. Each query value that may be secret is replaced by `***`.
///
/// The query is parsed as Incus does (Go's `url.ParseQuery`) and normalized, so that `%70roject=a` is logged as
/// `project=a`. The keys of [`FIRST`] come first, with the value that Incus uses, so that other pairs cannot displace
/// them.
pub fn redact(uri: &Uri) -> Cow<'_, str> {
    let Some(query) = uri.query() else {
        return shortened(uri.path());
    };
    let mut redacted = shortened(uri.path()).into_owned();
    let begin = redacted.len();
    let pairs = || query.split('&').filter(|pair| !pair.is_empty());
    let mut firsts = [None; FIRST.len()];
    for (index, pair) in pairs().enumerate() {
        if let Some(place) = place_among_firsts(pair) {
            firsts[place].get_or_insert((index, pair));
        }
    }
    let first_pairs = firsts.iter().flatten().map(|(_, pair)| *pair);
    let other_pairs = pairs().enumerate().filter(|pair| !firsts.contains(&Some(*pair)));
    for pair in first_pairs.chain(other_pairs.map(|(_, pair)| pair)) {
        redacted.push(if redacted.len() == begin { '?' } else { '&' });
        if redacted.len() - begin >= MAX_QUERY {
            redacted.push_str(MORE);
            break;
        }
        tell_pair(&mut redacted, pair);
    }
    Cow::Owned(redacted)
}

fn tell_pair(redacted: &mut String, pair: &str) {
    let (key, value) = match pair.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (pair, None),
    };
    match (decoded(key), value) {
        (Some(key), None) if is_harmless(&key) => redacted.push_str(&encoded(&key)),
        (Some(key), Some(value)) if is_harmless(&key) => match decoded(value) {
            Some(value) => redacted.extend([&*encoded(&key), "=", &*encoded(&value)]),
            None => redacted.push_str("***"),
        },
        (Some(key), Some(_)) => redacted.extend([&*encoded(&key), "=***"]),
        // The mark of a target that was already truncated.
        _ if pair == MORE => redacted.push_str(MORE),
        // A key without a value may itself be a secret. Other pairs here are ignored by Incus.
        _ => redacted.push_str("***"),
    }
}

fn is_harmless(key: &[u8]) -> bool {
    HARMLESS.iter().any(|harmless| harmless.as_bytes() == key)
}

/// Returns the position in [`FIRST`] of a pair's key, if Incus does not ignore the pair.
fn place_among_firsts(pair: &str) -> Option<usize> {
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    // Most keys need no decoding: the shortest is "path", and a fully escaped "project" has 21 bytes.
    let key = (4..=21).contains(&key.len()).then(|| decoded(key))??;
    let place = FIRST.iter().position(|first| first.as_bytes() == key)?;
    decoded(value).map(|_| place)
}

/// Decodes a key or value as Go's `url.QueryUnescape` does. Returns `None` if that or `url.ParseQuery` fails, so that
/// Incus ignores the pair: on a `%` without two digits, or a semicolon.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b';' => return None,
            b'+' => b' ',
            b'%' => u8::try_from(digit(bytes.next())? << 4 | digit(bytes.next())?).ok()?,
            byte => byte,
        });
    }
    Some(decoded)
}

/// Encodes a key or value in normal form, truncated to [`MAX_VALUE`].
fn encoded(bytes: &[u8]) -> String {
    let mut redacted = percent_encode(bytes, IN_QUERY).to_string();
    if redacted.len() > MAX_VALUE + MORE.len() {
        // Do not split an escape.
        let end = redacted[MAX_VALUE - 2..MAX_VALUE]
            .find('%')
            .map_or(MAX_VALUE, |at| MAX_VALUE - 2 + at);
        redacted.truncate(end);
        redacted.push_str(MORE);
    }
    redacted
}

/// Escapes and truncates a path. hyper accepts non-ASCII characters in it.
fn shortened(text: &str) -> Cow<'_, str> {
    let beginning = &text[..text.floor_char_boundary(MAX_PATH)];
    let mut redacted = Cow::from(utf8_percent_encode(beginning, CONTROLS));
    if text.len() > MAX_PATH || redacted.len() > MAX_PATH {
        redacted.to_mut().truncate(MAX_PATH);
        redacted.to_mut().push_str(MORE);
    }
    redacted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn is_told(target: &str, redacted: &str) {
        let uri: Uri = target.parse().expect("valid request target");
        assert_eq!(redact(&uri), redacted);
    }

    #[test]
    fn known_harmless_values_are_logged() {
        is_told("/1.0", "/1.0");
        is_told("/1.0/images/aliases/a%2Fb", "/1.0/images/aliases/a%2Fb");
        is_told("/1.0/images?", "/1.0/images");
        is_told(
            "/1.0/images?recursion=1&project=default&filter=",
            "/1.0/images?project=default&recursion=1&filter=",
        );
        is_told("https://host:1/1.0?recursion=1", "/1.0?recursion=1");
    }

    #[test]
    fn secrets_are_redacted_in_every_spelling() {
        let websocket = "/1.0/operations/1/websocket";
        is_told(&format!("{websocket}?secret=abc"), &format!("{websocket}?secret=***"));
        is_told("/1.0?%73ecret=abc", "/1.0?secret=***");
        is_told("/1.0?recursion%20=abc", "/1.0?recursion%20=***");
        for key in ["SECRET", "access_token", "password", "token", "code", "Recursion"] {
            is_told(
                &format!("/1.0?project=a&{key}=abc"),
                &format!("/1.0?project=a&{key}=***"),
            );
        }
        is_told("/1.0?recursion=1;secret=abc", "/1.0?***");
        is_told("/1.0?%zz=abc&project=%zz&secret=%zz", "/1.0?***&***&secret=***");
        is_told("/1.0?secret=a=b&secret=", "/1.0?secret=***&secret=***");
        is_told("/1.0?abc", "/1.0?***");
        is_told("/1.0?=abc&&recursion", "/1.0?=***&recursion");
        is_told("https://user:abc@host:1/1.0", "/1.0");
        is_told("user:abc@host:1", "");
    }

    #[test]
    fn keys_and_values_are_logged_as_incus_decodes_them() {
        is_told("/1.0/projects?%70roject=default", "/1.0/projects?project=default");
        is_told(
            "/1.0?project=%64efault&targe%74=a%2fb",
            "/1.0?project=default&target=a/b",
        );
        is_told("/1.0?filter=name+eq+%C3%A4", "/1.0?filter=name%20eq%20%C3%A4");
        is_told("/1.0?path=a%26project%3Db%0A", "/1.0?path=a%26project%3Db%0A");
        // Incus uses the first valid one.
        is_told("/1.0?project=%zz&project=a&project=b", "/1.0?project=a&***&project=b");
        is_told("/1.0?project=x;y&project=a", "/1.0?project=a&***");
    }

    #[test]
    fn long_targets_of_strangers_are_truncated() {
        for (target, redacted) in [
            (
                "/1.0/images?recursion=1".to_owned(),
                "/1.0/images?recursion=1".to_owned(),
            ),
            (
                format!("/1.0/images?{}", "a&".repeat(31_000)),
                "/1.0/images?...".to_owned(),
            ),
            (
                format!("/1.0/images?filter={}", "x".repeat(1_000)),
                "/1.0/images?...".to_owned(),
            ),
            (
                format!("/{}", "x".repeat(5_000)),
                format!("/{}...", "x".repeat(MAX_OF_STRANGER - 1)),
            ),
        ] {
            let uri: Uri = target.parse().expect("valid request target");
            assert_eq!(redact(&kept_of_stranger(&uri)), redacted);
        }
    }

    #[test]
    fn filler_does_not_displace_project_and_target() {
        let long = "p".repeat(5_000);
        for filler in ["a=b&", "path=x&", "recursion=1&", "&", ";&"] {
            let target = format!(
                "/1.0/{long}?{}path={long}&target={long}&%70roject=prod",
                filler.repeat(2_000)
            );
            let uri = Uri::try_from(target).expect("valid request target");
            let redacted = redact(&uri);
            let (_, query) = redacted.split_once('?').expect("the target has a query");
            assert!(query.starts_with("project=prod&target=ppp"), "{query}");
            assert!(query.contains("&path="), "{query}");
        }
    }

    #[test]
    fn a_bounded_target_is_redacted_like_the_full_one() {
        let long = "%C3%A4x".repeat(1_000);
        for query in [
            format!("secret=a&recursion=1&project={long}&path=b&{}", "type=c&".repeat(500)),
            format!("{long}&{long}=a;b&filter=%zz{long}"),
            format!("filter=xx{long}&target=x{long}&pool={long}"),
        ] {
            let uri = Uri::try_from(format!("/1.0/{long}?{query}")).expect("valid request target");
            assert_eq!(redact(&bounded(&uri)), redact(&uri));
        }
    }

    #[test]
    fn one_line_has_a_bounded_length() {
        let long = format!("/{}", "ä".repeat(20_000));
        let short = format!("/{}...", "%C3%A4".repeat(171).split_at(1_023).0);
        is_told(&long, &short);
        is_told(&format!("{long}?secret=a"), &format!("{short}?secret=***"));
        for pair in ["a=b&", "filter=a", "&"] {
            let uri: Uri = format!("/1.0?{}", pair.repeat(5_000))
                .parse()
                .expect("valid request target");
            let redacted = redact(&uri);
            assert!(
                redacted.len() <= "/1.0?".len() + MAX_QUERY + 2 * MAX_VALUE,
                "{redacted}"
            );
        }
    }
}

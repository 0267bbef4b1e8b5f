//! The target of a request as it may be told: without secrets, and not longer than anybody reads.

use std::borrow::Cow;

use http::Uri;
use percent_encoding::{AsciiSet, CONTROLS, percent_encode, utf8_percent_encode};

/// The longest path that is told, in bytes.
const MAX_PATH: usize = 1024;
/// The length of a query after which no further pair is told.
const MAX_QUERY: usize = 1024;
/// The longest key or value of a query that is told. The first three pairs always fit in [`MAX_QUERY`].
const MAX_VALUE: usize = 256;
/// The longest target of a stranger that is told whole, in bytes: of a longer one, the path is enough. They may send many.
const MAX_OF_STRANGER: usize = 256;
/// What stands for the rest.
const MORE: &str = "...";

/// Keys of Incus's queries whose values are no secrets. Every other value is masked: a list of secrets would be outgrown by
/// the next version of Incus.
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

/// Keys that say which object a request is for, in the order in which they are told.
const FIRST: [&str; 3] = ["project", "target", "path"];

/// What is escaped in a key or a value, beside what is no ASCII.
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

/// A target until it is told. Of a long one that is the part that will be: others may hold thousands of them, for as long as
/// they do not take their answers.
pub fn bounded(uri: &Uri) -> Uri {
    let length = uri.path().len() + uri.query().map_or(0, str::len);
    match length > MAX_PATH {
        true => Uri::try_from(&*redact(uri)).unwrap_or_default(),
        false => uri.clone(),
    }
}

/// The same for a target of the public port.
pub fn kept_of_stranger(uri: &Uri) -> Uri {
    let target = uri.path_and_query().map_or("", |target| target.as_str());
    if target.len() <= MAX_OF_STRANGER {
        return uri.clone();
    }
    let path = target.split_inclusive('?').next().unwrap_or_default();
    let path = &path[..path.floor_char_boundary(MAX_OF_STRANGER)];
    Uri::try_from(format!("{path}{MORE}")).unwrap_or_default()
}

/// Path and query, each value of the query as `***` that might be a secret. It is plain ASCII, as a target should be.
///
/// The query is read as Incus reads it (Go's `url.ParseQuery`) and written in one spelling, so that `%70roject=a` is
/// `project=a` here too. The keys of [`FIRST`] come first, with the value that Incus takes: nothing pushes them out.
pub fn redact(uri: &Uri) -> Cow<'_, str> {
    let Some(query) = uri.query() else {
        return shortened(uri.path());
    };
    let mut told = shortened(uri.path()).into_owned();
    let begin = told.len();
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
        told.push(if told.len() == begin { '?' } else { '&' });
        if told.len() - begin >= MAX_QUERY {
            told.push_str(MORE);
            break;
        }
        tell_pair(&mut told, pair);
    }
    Cow::Owned(told)
}

fn tell_pair(told: &mut String, pair: &str) {
    let (key, value) = match pair.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (pair, None),
    };
    match (decoded(key), value) {
        (Some(key), None) if is_harmless(&key) => told.push_str(&encoded(&key)),
        (Some(key), Some(value)) if is_harmless(&key) => match decoded(value) {
            Some(value) => told.extend([&*encoded(&key), "=", &*encoded(&value)]),
            None => told.push_str("***"),
        },
        (Some(key), Some(_)) => told.extend([&*encoded(&key), "=***"]),
        // What a long one was cut to.
        _ if pair == MORE => told.push_str(MORE),
        // Without a value it may be a secret in the place of a key; or Incus does not read it.
        _ => told.push_str("***"),
    }
}

fn is_harmless(key: &[u8]) -> bool {
    HARMLESS.iter().any(|harmless| harmless.as_bytes() == key)
}

/// The place in [`FIRST`] of a pair's key, if Incus reads the pair.
fn place_among_firsts(pair: &str) -> Option<usize> {
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    // Most keys need not be decoded: "path" is the shortest, and "project" has 21 bytes if each is escaped.
    let key = (4..=21).contains(&key.len()).then(|| decoded(key))??;
    let place = FIRST.iter().position(|first| first.as_bytes() == key)?;
    decoded(value).map(|_| place)
}

/// What Go's `url.QueryUnescape` makes of a key or a value. `None` where it or `url.ParseQuery` fails, so that Incus does
/// not see the pair: a `%` without two digits, or a semicolon.
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

/// In one spelling, and not longer than [`MAX_VALUE`] allows.
fn encoded(bytes: &[u8]) -> String {
    let mut told = percent_encode(bytes, IN_QUERY).to_string();
    if told.len() > MAX_VALUE + MORE.len() {
        // No escape is cut in two.
        let end = told[MAX_VALUE - 2..MAX_VALUE]
            .find('%')
            .map_or(MAX_VALUE, |at| MAX_VALUE - 2 + at);
        told.truncate(end);
        told.push_str(MORE);
    }
    told
}

/// hyper lets through what is no ASCII.
fn shortened(text: &str) -> Cow<'_, str> {
    let beginning = &text[..text.floor_char_boundary(MAX_PATH)];
    let mut told = Cow::from(utf8_percent_encode(beginning, CONTROLS));
    if text.len() > MAX_PATH || told.len() > MAX_PATH {
        told.to_mut().truncate(MAX_PATH);
        told.to_mut().push_str(MORE);
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn is_told(target: &str, told: &str) {
        let uri: Uri = target.parse().expect("a request's target");
        assert_eq!(redact(&uri), told);
    }

    #[test]
    fn what_is_no_secret_is_told() {
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
    fn a_secret_is_not_told_however_it_is_spelt() {
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
    fn keys_and_values_are_told_as_incus_reads_them() {
        is_told("/1.0/projects?%70roject=default", "/1.0/projects?project=default");
        is_told(
            "/1.0?project=%64efault&targe%74=a%2fb",
            "/1.0?project=default&target=a/b",
        );
        is_told("/1.0?filter=name+eq+%C3%A4", "/1.0?filter=name%20eq%20%C3%A4");
        is_told("/1.0?path=a%26project%3Db%0A", "/1.0?path=a%26project%3Db%0A");
        // Incus takes the first one that it can read.
        is_told("/1.0?project=%zz&project=a&project=b", "/1.0?project=a&***&project=b");
        is_told("/1.0?project=x;y&project=a", "/1.0?project=a&***");
    }

    #[test]
    fn little_of_a_long_target_of_a_stranger_is_told() {
        for (target, told) in [
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
            let uri: Uri = target.parse().expect("a request's target");
            assert_eq!(redact(&kept_of_stranger(&uri)), told);
        }
    }

    #[test]
    fn nothing_pushes_out_what_a_request_is_for() {
        let long = "p".repeat(5_000);
        for filler in ["a=b&", "path=x&", "recursion=1&", "&", ";&"] {
            let target = format!(
                "/1.0/{long}?{}path={long}&target={long}&%70roject=prod",
                filler.repeat(2_000)
            );
            let uri = Uri::try_from(target).expect("a target");
            let told = redact(&uri);
            let (_, query) = told.split_once('?').expect("a query");
            assert!(query.starts_with("project=prod&target=ppp"), "{query}");
            assert!(query.contains("&path="), "{query}");
        }
    }

    #[test]
    fn what_is_kept_is_told_as_the_whole_is() {
        let long = "%C3%A4x".repeat(1_000);
        for query in [
            format!("secret=a&recursion=1&project={long}&path=b&{}", "type=c&".repeat(500)),
            format!("{long}&{long}=a;b&filter=%zz{long}"),
            format!("filter=xx{long}&target=x{long}&pool={long}"),
        ] {
            let uri = Uri::try_from(format!("/1.0/{long}?{query}")).expect("a target");
            assert_eq!(redact(&bounded(&uri)), redact(&uri));
        }
    }

    #[test]
    fn nobody_fills_the_log_with_one_line() {
        let long = format!("/{}", "ä".repeat(20_000));
        let short = format!("/{}...", "%C3%A4".repeat(171).split_at(1_023).0);
        is_told(&long, &short);
        is_told(&format!("{long}?secret=a"), &format!("{short}?secret=***"));
        for pair in ["a=b&", "filter=a", "&"] {
            let uri: Uri = format!("/1.0?{}", pair.repeat(5_000)).parse().expect("a target");
            let told = redact(&uri);
            assert!(told.len() <= "/1.0?".len() + MAX_QUERY + 2 * MAX_VALUE, "{told}");
        }
    }
}

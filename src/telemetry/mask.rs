//! The target of a request as it may be told: without secrets, and not longer than anybody reads.

use std::borrow::Cow;

use http::Uri;
use percent_encoding::{CONTROLS, utf8_percent_encode};

/// The longest that is told, in bytes.
const MAX_PATH: usize = 1024;
/// What stands for the rest.
const MORE: &str = "...";

/// Keys of Incus's queries whose values are no secrets. Every other value is masked: a list of secrets would be outgrown by
/// the next version of Incus, and outwitted by `%73ecret`.
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

/// A target until it is told. Of a long one that is the part that will be: others may hold thousands of them, for as long as
/// they do not take their answers.
pub fn kept(uri: &Uri) -> Uri {
    let length = uri.path().len() + uri.query().map_or(0, str::len);
    match length > MAX_PATH {
        true => Uri::try_from(&*masked(uri)).unwrap_or_default(),
        false => uri.clone(),
    }
}

/// Path and query, each value of the query as `***` that might be a secret. It is plain ASCII, as a target should be.
pub fn masked(uri: &Uri) -> Cow<'_, str> {
    let Some(query) = uri.query() else {
        return shortened(uri.path());
    };
    let mut told = String::with_capacity(MAX_PATH.min(uri.path().len() + query.len() + MORE.len()));
    told.push_str(&shortened(uri.path()));
    let mut separator = '?';
    // Some read a semicolon as an ampersand.
    for pair in query.split_inclusive(['&', ';']) {
        if told.len() >= MAX_PATH {
            break;
        }
        let (pair, next) = match pair.strip_suffix(['&', ';']) {
            Some(rest) => (rest, if pair.ends_with('&') { '&' } else { ';' }),
            None => (pair, '&'),
        };
        told.push(separator);
        match pair.split_once('=') {
            Some((key, _)) if !HARMLESS.contains(&key) => {
                told.push_str(&shortened(key));
                told.push_str("=***");
            }
            // Without a value it may be a secret in the place of a key.
            None if !pair.is_empty() && !HARMLESS.contains(&pair) => told.push_str("***"),
            _ => told.push_str(&shortened(pair)),
        }
        separator = next;
    }
    told.truncate(MAX_PATH + MORE.len());
    Cow::Owned(told)
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
        assert_eq!(masked(&uri), told);
    }

    #[test]
    fn what_is_no_secret_is_told() {
        is_told("/1.0", "/1.0");
        is_told("/1.0/images/aliases/a%2Fb", "/1.0/images/aliases/a%2Fb");
        is_told("/1.0/images?", "/1.0/images");
        is_told(
            "/1.0/images?recursion=1&project=default&filter=",
            "/1.0/images?recursion=1&project=default&filter=",
        );
        is_told("https://host:1/1.0?recursion=1", "/1.0?recursion=1");
    }

    #[test]
    fn a_secret_is_not_told_however_it_is_spelt() {
        let websocket = "/1.0/operations/1/websocket";
        is_told(&format!("{websocket}?secret=abc"), &format!("{websocket}?secret=***"));
        for key in [
            "%73ecret",
            "SECRET",
            "access_token",
            "password",
            "token",
            "code",
            "recursion%20",
            "Recursion",
        ] {
            is_told(
                &format!("/1.0?project=a&{key}=abc"),
                &format!("/1.0?project=a&{key}=***"),
            );
        }
        is_told("/1.0?recursion=1;secret=abc", "/1.0?recursion=1;secret=***");
        is_told("/1.0?secret=a=b&secret=", "/1.0?secret=***&secret=***");
        is_told("/1.0?abc", "/1.0?***");
        is_told("/1.0?=abc&&recursion", "/1.0?=***&&recursion");
        is_told("https://user:abc@host:1/1.0", "/1.0");
        is_told("user:abc@host:1", "");
    }

    #[test]
    fn nobody_fills_the_log_with_one_line() {
        let long = format!("/{}", "ä".repeat(20_000));
        let short = format!("/{}...", "%C3%A4".repeat(171).split_at(1_023).0);
        is_told(&long, &short);
        is_told(&format!("{long}?secret=a"), &short);
        for pair in ["a=b&", "filter=a", "&"] {
            let uri: Uri = format!("/1.0?{}", pair.repeat(5_000)).parse().expect("a target");
            let told = masked(&uri);
            assert!(told.len() <= MAX_PATH + MORE.len(), "{told}");
        }
    }
}

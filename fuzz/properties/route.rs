//! A request to the public port. The first line is method and target, as in HTTP, the others are header fields.
//!
//! Every accepted request is one of the six routes, and contains only what a second implementation of the grammar in this
//! file finds in it: a name, the digits of a fingerprint, a filter, a boolean.

use edge::framing;
use edge::response::{Reply, ReplyBody};
use http::{Method, Request, Uri};
use incus_gate::public::filter::Filter;
use incus_gate::public::route::{PublicRoute, alias_path};
use incus_gate::reply::HttpError;

pub fn holds(data: &[u8]) {
    let Some(request) = request(data) else { return };
    let (method, uri) = (request.method(), request.uri());
    if framing::validate(&request).is_ok() {
        assert!(request.headers().get_all("host").iter().count() <= 1);
    }
    let route = PublicRoute::parse(method, uri);
    let expected = expected(method, uri);
    match (&route, &expected) {
        (Ok(route), Some(expected)) => assert!(is_same(route, expected), "{route:?}, not {expected:?}"),
        (Err(_), None) => {}
        _ => panic!("{route:?}, not {expected:?}"),
    }
    match route {
        Ok(PublicRoute::Alias(name)) => {
            let path: Uri = alias_path(&name).parse().expect("the path of an alias is a valid URI");
            let again = PublicRoute::parse(&Method::GET, &path);
            assert!(
                matches!(&again, Ok(PublicRoute::Alias(same)) if *same == name),
                "{again:?}"
            );
        }
        Ok(_) => {}
        Err(refusal) => is_incus_error(refusal),
    }
}

fn request(data: &[u8]) -> Option<Request<()>> {
    let mut lines = data.split(|byte| *byte == b'\n');
    let mut words = lines.next()?.splitn(2, |byte| *byte == b' ');
    let method = Method::from_bytes(words.next()?).ok()?;
    let mut request = Request::builder()
        .method(method)
        .uri(Uri::try_from(words.next()?).ok()?);
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        request = request.header(&line[..colon], &line[colon + 1..]);
    }
    request.body(()).ok()
}

/// Asserts that a rejection is an error in Incus's format.
fn is_incus_error(refusal: HttpError) {
    let status = refusal.status();
    assert!(status.is_client_error() || status.is_server_error());
    let ReplyBody::Whole(Some(body)) = Reply::from(refusal).into_body() else {
        panic!("a refusal has a body");
    };
    let body: serde_json::Value = serde_json::from_slice(&body).expect("an error response is JSON");
    assert_eq!(body["type"], "error");
    assert_eq!(body["error_code"], status.as_u16());
}

#[derive(Debug)]
enum Expected {
    Alias(String),
    Aliases(bool),
    Export(String),
    Image(String),
    Images(bool, String),
    Server,
}

fn is_same(route: &PublicRoute, expected: &Expected) -> bool {
    match (route, expected) {
        (PublicRoute::Alias(name), Expected::Alias(expected)) => name == expected,
        (PublicRoute::Aliases { recursion }, Expected::Aliases(expected)) => recursion == expected,
        (PublicRoute::Export(prefix), Expected::Export(expected)) => prefix.as_str() == expected,
        (PublicRoute::Image(prefix), Expected::Image(expected)) => prefix.as_str() == expected,
        (PublicRoute::Images(query), Expected::Images(recursion, filter)) => {
            let filter = Filter::parse(filter).map(|filter| format!("{filter:?}"));
            query.recursion == *recursion && filter.ok() == Some(format!("{:?}", query.filter))
        }
        (PublicRoute::Server, Expected::Server) => true,
        _ => false,
    }
}

fn expected(method: &Method, uri: &Uri) -> Option<Expected> {
    if method.as_str() != "GET" {
        return None;
    }
    let query = parameters(uri.query().unwrap_or_default());
    let first = |key: &str| {
        let found = query.iter().find(|(name, _)| name == key);
        found.map_or(String::new(), |(_, value)| value.clone())
    };
    let is_default = ["", "default"].contains(&first("project").as_str());
    let recursion = first("recursion").parse::<i64>().unwrap_or(0) != 0;
    match uri.path() {
        "/1.0" => return Some(Expected::Server),
        "/1.0/images" => {
            let all = first("all-projects").to_ascii_lowercase();
            let is_asked_for_all = ["true", "1", "yes", "on"].contains(&all.as_str());
            let filter = first("filter");
            return (is_default && !is_asked_for_all && Filter::parse(&filter).is_ok())
                .then_some(Expected::Images(recursion, filter));
        }
        "/1.0/images/aliases" => return is_default.then_some(Expected::Aliases(recursion)),
        _ if !is_default => return None,
        _ => {}
    }
    let rest = uri.path().strip_prefix("/1.0/images/")?;
    if let Some(alias) = rest.strip_prefix("aliases/") {
        return name(alias).map(Expected::Alias);
    }
    match rest.strip_suffix("/export") {
        Some(segment) => fingerprint(segment).map(Expected::Export),
        None => fingerprint(rest).map(Expected::Image),
    }
}

fn fingerprint(segment: &str) -> Option<String> {
    let digits = name(segment).filter(|digits| !digits.contains('/'))?;
    let is_one = digits.len() <= 64 && digits.chars().all(|c| "0123456789abcdef".contains(c));
    is_one.then_some(digits)
}

/// Parses a name. It can contain unescaped slashes, but no segment that means "." or "..".
fn name(text: &str) -> Option<String> {
    let name = String::from_utf8(unescape(text)?).ok()?;
    let is_step = |segment: &str| [".", ".."].map(|step| Some(step.into())).contains(&unescape(segment));
    let is_one = !name.is_empty() && !text.split('/').any(is_step);
    (is_one && !name.chars().any(char::is_control)).then_some(name)
}

/// Parses a query like Go's `url.ParseQuery`.
fn parameters(query: &str) -> Vec<(String, String)> {
    let text = |part: &str| Some(String::from_utf8_lossy(&unescape(&part.replace('+', " "))?).into_owned());
    let mut found = Vec::new();
    for pair in query.split('&') {
        let (key, value) = match pair.find('=') {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, ""),
        };
        if let (false, Some(key), Some(value)) = (pair.contains(';'), text(key), text(value)) {
            found.push((key, value));
        }
    }
    found
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    Some(bytes)
}

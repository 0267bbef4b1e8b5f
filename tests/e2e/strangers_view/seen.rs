//! A response in a form that can be compared.

use std::fmt;
use std::net::SocketAddr;

use serde_json::{Value, json};

use testing::tls::TlsClient;
use testing::tls::http1::Head;
use testing::tls::http2::Http2;

/// A response without parts that vary: dates, boundaries, the order of Go's maps.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// 0 where the connection was closed without an answer.
    pub(crate) status: u16,
    pub(crate) allow: Option<String>,
    pub(crate) content: Content,
    /// All bytes as received.
    pub(crate) raw: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Content {
    /// Type and bytes of a body; a multipart body without its boundary.
    Bytes(String, Vec<u8>),
    Json(Value),
    Nothing,
}

/// Sends a request with this line and these headers on a new connection.
pub(crate) fn ask(address: SocketAddr, line: &str, headers: &str) -> Seen {
    let request = format!("{line} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n");
    let mut raw = TlsClient::tls13().connect(address).expect("everybody may connect");
    raw.send(request).expect("a request can be sent");
    if line.starts_with("HEAD ") {
        let Ok(head) = raw.read_head() else {
            return Seen::closed();
        };
        let (body, _) = raw.read_to_end();
        return Seen::of_http1(&head, body);
    }
    match raw.read_answer() {
        Ok(answer) => {
            assert_eq!(answer.whole, Ok(()), "{line}: a whole answer");
            Seen::of_http1(&answer.head, answer.body)
        }
        Err(_) => Seen::closed(),
    }
}

/// The same over HTTP/2, for lines that can be sent over HTTP/2.
pub(crate) fn ask_http2(http2: &mut Http2, line: &str) -> Option<Seen> {
    let (method, target) = line.split_once(' ').expect("a method and a target");
    // In HTTP/2, an unusual method or another form of target is a different request.
    if method == "CONNECT" || !target.starts_with('/') || target.contains('#') {
        return None;
    }
    let uri: http::Uri = format!("https://gate.test{target}").parse().ok()?;
    assert_eq!(uri.path_and_query()?.as_str(), target, "sent as it is spelt");
    let answer = http2.ask(http2.request(method, target)).expect("an answer");
    if answer.whole.is_err() {
        return Some(Seen::closed());
    }
    let field = |name: &str| {
        answer
            .headers
            .get(name)
            .map(|value| value.to_str().expect("text").to_owned())
    };
    let raw = [format!("{:?}", answer.headers).as_bytes(), &answer.body].concat();
    Some(Seen {
        status: answer.status.as_u16(),
        allow: field("allow"),
        content: Content::new(&field("content-type").unwrap_or_default(), answer.body.to_vec()),
        raw,
    })
}

impl Seen {
    /// Creates an error response in Incus's format.
    pub(crate) fn refusal(status: u16, error: &str) -> Self {
        let error = json!({
            "type": "error", "status": "", "status_code": 0, "operation": "",
            "error_code": status, "error": error, "metadata": null,
        });
        Self {
            status,
            allow: None,
            content: Content::Json(error),
            raw: Vec::new(),
        }
    }

    /// Returns the same response with other metadata.
    pub(crate) fn with_metadata(mut self, change: impl FnOnce(&mut Value)) -> Self {
        if let Content::Json(answer) = &mut self.content {
            change(&mut answer["metadata"]);
            sort(&mut answer["metadata"]);
        }
        self
    }

    /// Creates a successful response in Incus's format.
    pub(crate) fn success(metadata: Value) -> Self {
        let answer = json!({
            "type": "sync", "status": "Success", "status_code": 200, "operation": "",
            "error_code": 0, "error": "", "metadata": metadata,
        });
        let seen = Self {
            status: 200,
            allow: None,
            content: Content::Json(answer),
            raw: Vec::new(),
        };
        seen.with_metadata(|_| {})
    }

    /// Returns the same response to HEAD.
    pub(crate) fn without_content(mut self) -> Self {
        self.content = Content::Nothing;
        self
    }

    /// Returns the value of `metadata`.
    pub(crate) fn metadata(&self) -> &Value {
        match &self.content {
            Content::Json(answer) => &answer["metadata"],
            content => panic!("no JSON: {content:?}"),
        }
    }

    /// Returns whether the response contains this text.
    pub(crate) fn contains(&self, text: &str) -> bool {
        self.raw.windows(text.len()).any(|window| window == text.as_bytes())
    }

    fn closed() -> Self {
        Self {
            status: 0,
            allow: None,
            content: Content::Nothing,
            raw: Vec::new(),
        }
    }

    fn of_http1(head: &Head, body: Vec<u8>) -> Self {
        let raw = [format!("{head:?}").as_bytes(), &body].concat();
        Self {
            status: head.status,
            allow: head.field("allow").map(str::to_owned),
            content: Content::new(head.field("content-type").unwrap_or_default(), body),
            raw,
        }
    }
}

/// Compares the parsed value, not its spelling.
impl PartialEq for Seen {
    fn eq(&self, other: &Self) -> bool {
        (self.status, &self.allow, &self.content) == (other.status, &other.allow, &other.content)
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let content = match &self.content {
            Content::Bytes(kind, body) => format!("{kind}: {} bytes", body.len()),
            Content::Json(answer) if answer["type"] == "error" => answer["error"].to_string(),
            Content::Json(answer) => answer["metadata"].to_string(),
            Content::Nothing => "nothing".to_owned(),
        };
        let allow = self.allow.as_ref().map(|allow| format!(" (Allow: {allow})"));
        write!(f, "{}{} {content:.400}", self.status, allow.unwrap_or_default())
    }
}

impl Content {
    fn new(kind: &str, body: Vec<u8>) -> Self {
        if body.is_empty() {
            return Self::Nothing;
        }
        if kind == "application/json" {
            let mut answer: Value = serde_json::from_slice(&body).expect("what calls itself JSON");
            sort(&mut answer["metadata"]);
            return Self::Json(answer);
        }
        match kind.split_once("boundary=") {
            Some((kind, boundary)) => Self::Bytes(kind.to_owned(), without(&body, boundary)),
            None => Self::Bytes(kind.to_owned(), body),
        }
    }
}

/// The order of lists varies.
fn sort(value: &mut Value) {
    match value {
        Value::Array(values) => {
            values.iter_mut().for_each(sort);
            values.sort_by_key(Value::to_string);
        }
        Value::Object(fields) => fields.values_mut().for_each(sort),
        _ => {}
    }
}

fn without(body: &[u8], boundary: &str) -> Vec<u8> {
    let mut rest = body;
    let mut kept = Vec::new();
    while let Some((first, later)) = rest.split_first() {
        match rest.strip_prefix(boundary.as_bytes()) {
            Some(after) => rest = after,
            None => {
                kept.push(*first);
                rest = later;
            }
        }
    }
    kept
}

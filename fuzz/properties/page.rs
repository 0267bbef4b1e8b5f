//! The web page, for images with arbitrary content. The input's lines are the host, the search, the title, and six for each
//! image: names (separated by tabs), description, architecture, type, day, fingerprint.
//!
//! An HTML tokenizer that conforms to browsers must find exactly the elements and attributes of the template, in their order;
//! no control characters; and, in the commands that people paste into a shell, only words that are plain or in single
//! quotes.

use std::sync::{Arc, LazyLock};

use edge::response::ReplyBody;
use html5gum::{DefaultEmitter, Token, Tokenizer};
use http::{HeaderMap, HeaderName, Request};
use incus_gate::config::{Page, Visibility};
use incus_gate::public::evaluation::Evaluation;
use incus_gate::public::page::PageRequest;
use incus_gate::public::snapshot::Snapshot;
use incus_gate::reply::HttpError;
use regex::Regex;
use serde_json::{Value, json};

const SERVER: &[u8] = br#"{"metadata": {}}"#;
/// The template: each element with its attributes in alphabetical order, without white space.
const TEMPLATE: &str = r"^
<html lang><head><meta charset><meta content name><meta content name><title></title><link href rel><style></style></head>
<header><h1><bdi></bdi></h1><p><a href rel></a></p></header>
(
  <p class role></p>
|
  <section aria-labelledby><h2 id></h2><div class><code></code><button hidden type></button></div><p></p>
  <div class><code></code><button hidden type></button></div><div class><code></code><button hidden type></button></div></section>
  <section aria-labelledby><h2 id></h2><form action role><label for></label>
  <input autocomplete (data-whole )?id name placeholder spellcheck type value><output for></output></form></section>
  <ul class>
  (
    <li data-search id><h3><bdi></bdi></h3>(<p><bdi></bdi></p>)?
    <ul class><li></li><li></li><li></li>(<li><time datetime></time></li>)?<li><code title></code></li></ul>
    (<ul aria-label class>(<li><bdi></bdi></li>)+</ul>)?
    <div class><code></code><button hidden type></button></div></li>
  )*
  </ul><footer><p></p></footer><script></script>
)$";
/// Content that does not depend on any image.
const FIXED: [&str; 2] = [
    include_str!("../../src/public/page/page.css"),
    include_str!("../../src/public/page/page.js"),
];
/// The commands that are safe to paste into a shell.
const COMMAND: &str = r"^((incus|lxc) remote add [a-z0-9_-]+ https://[A-Za-z0-9\[\]._:-]+ --(public|protocol=simplestreams)|incus launch ([a-z0-9_-]+:[A-Za-z0-9_./@+:%=,-]+|'[a-z0-9_-]+:[^\\'\u{2018}-\u{201b}\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+')( --vm)?)$";

static PATTERNS: LazyLock<[Regex; 2]> = LazyLock::new(|| {
    // Spaces between attributes are significant, those at the ends of lines are not.
    let template = TEMPLATE.lines().map(str::trim).collect::<String>();
    [template.as_str(), COMMAND].map(|pattern| Regex::new(pattern).expect("a pattern"))
});

pub fn holds(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let Some(page_request) = page_request(line(), line()) else {
        return;
    };
    let title = Some(line().to_owned()).filter(|title| !title.is_empty());
    let rest: Vec<&str> = lines.collect();
    let images: Vec<Value> = rest.chunks_exact(6).map(image).collect();
    let list = json!({"metadata": images}).to_string();
    let Ok(snapshot) = Snapshot::parse(SERVER, list.as_bytes(), Visibility::All) else {
        return;
    };
    let page = Page {
        title,
        simplestreams: true,
    };
    let selector = page_request.selector();
    let matches = Evaluation::new(&snapshot, &selector).advance(|| false);
    let matches = matches
        .expect("the evaluation completes")
        .expect("literal words are valid patterns");
    let found = (Arc::new(snapshot), Arc::new(matches));
    let html = body(page_request.reply(&page, Ok(found)).into_body());
    is_of_the_template(&html);
    let trouble = body(page_request.reply(&page, Err(HttpError::bad_request(text))).into_body());
    is_of_the_template(&trouble);
}

fn page_request(host: &str, search: &str) -> Option<PageRequest> {
    let mut request = Request::get(format!("/?q={search}")).body(()).ok()?;
    let fields = [("accept", "text/html"), ("host", host)];
    let fields = fields.map(|(name, value)| Some((HeaderName::from_static(name), value.parse().ok()?)));
    *request.headers_mut() = fields.into_iter().collect::<Option<HeaderMap>>()?;
    PageRequest::of(&request)
}

fn image(lines: &[&str]) -> Value {
    let names = lines[0].split('\t').filter(|name| !name.is_empty());
    json!({
        "public": true, "size": lines[0].len(), "aliases": names.map(|name| json!({"name": name})).collect::<Vec<_>>(),
        "properties": {"description": lines[1], "os": lines[2]}, "architecture": lines[2], "type": lines[3],
        "uploaded_at": format!("{}T", lines[4]), "fingerprint": lines[5],
    })
}

fn body(body: ReplyBody) -> String {
    let bytes = match body {
        ReplyBody::Parts(parts) => parts.flat_map(|part| part.to_vec()).collect(),
        ReplyBody::Whole(Some(bytes)) => bytes.to_vec(),
        _ => panic!("a page has a body"),
    };
    String::from_utf8(bytes).expect("a page is text")
}

fn is_of_the_template(html: &str) {
    let [template, command] = &*PATTERNS;
    let html = &FIXED
        .iter()
        .fold(html.to_owned(), |html, fixed| html.replacen(fixed, "", 1));
    let mut elements = String::new();
    let mut text = String::new();
    let mut emitter = DefaultEmitter::default();
    emitter.naively_switch_states(true);
    for token in Tokenizer::new_with_emitter(html, emitter) {
        match token.expect("reading a string succeeds") {
            Token::StartTag(tag) => {
                let name = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let names = tag.attributes.keys().map(|key| format!(" {}", name(key)));
                elements += &format!("<{}{}>", name(&tag.name), names.collect::<String>());
                text.clear();
            }
            Token::EndTag(tag) => {
                if elements.ends_with("<div class><code>") {
                    assert!(command.is_match(&text), "{text:?} is to be pasted");
                }
                elements += &format!("</{}>", String::from_utf8_lossy(&tag.name));
            }
            Token::String(part) => text += &String::from_utf8_lossy(&part),
            Token::Doctype(doctype) => assert!(elements.is_empty() && !doctype.force_quirks),
            other => panic!("{other:?} in {html}"),
        }
    }
    assert!(template.is_match(&elements), "{elements}");
    let is_control = |c: char| c.is_control() && c != '\n';
    assert!(!html.contains(is_control), "{html:?}");
}

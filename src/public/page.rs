//! The page for people: what a browser sees of the published images, with the commands to copy.
//!
//! It asks nothing of anybody: styles and script are in it, and its policy lets the browser load and run nothing else.
//! [`view`] writes it; whatever an image says of itself is escaped there, and commands are made of plain characters, or quoted.

mod host;
mod view;

use std::sync::{Arc, LazyLock};

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use data_encoding::BASE64;
use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Method, Request, Response, StatusCode};

use self::host::Host;
use self::view::{Head, SCRIPT, STYLE};
use super::cached_response::accepts;
use super::route::Query;
use super::selection::{Matches, Selector};
use super::snapshot::Snapshot;
use crate::config::Page;
use crate::reply::{HttpError, Reply, ReplyBody};

/// How many images one page shows; with more, people search.
const MAX_SHOWN: usize = 200;
/// How much of a search is read, in characters: each word is looked for in each image.
const MAX_SEARCH: usize = 200;
/// How many of them are written at once, so that who asks and does not read costs little.
const AT_ONCE: usize = 10;

/// Nothing but the style and the script that are written here; nobody may frame it, and it sends nothing anywhere else.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = |text: &str| BASE64.encode(digest(&SHA256, text.as_bytes()).as_ref());
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    );
    HeaderValue::from_str(&policy).expect("a policy is a header's value")
});

/// What a browser asks for.
#[derive(Debug)]
pub struct PageRequest {
    /// As the browser reached us.
    host: Host,
    /// What it looks for, as it was typed.
    search: String,
}

impl PageRequest {
    /// `/`, asked for as HTML. Incus's clients and curl do not.
    pub fn of<B>(request: &Request<B>) -> Option<Self> {
        let is_asked_for = request.method() == Method::GET
            && request.uri().path() == "/"
            && accepts(request.headers(), ACCEPT, "text/html");
        is_asked_for.then(|| {
            let query = Query::of(request.uri());
            Self {
                host: Host::of(request),
                search: query.search().chars().take(MAX_SEARCH).collect(),
            }
        })
    }

    /// What the images must have: every word of the search, in any order.
    pub fn selector(&self) -> Selector {
        let mut words: Vec<_> = self.search.split_whitespace().map(str::to_lowercase).collect();
        words.sort_unstable();
        words.dedup();
        Selector::Words(words)
    }

    /// The page with the images that match; or with what is wrong.
    pub fn reply(&self, page: &Page, found: Result<(Arc<Snapshot>, Arc<Matches>), HttpError>) -> Reply {
        let title = page.title.as_deref();
        match found {
            Ok((snapshot, matches)) => {
                let (parts, own) = self.parts(title, Arc::clone(&snapshot), &matches);
                let reply = with_policy(StatusCode::OK, ReplyBody::Parts(Box::new(parts)));
                snapshot.lend(reply, own)
            }
            Err(error) => {
                let text = view::trouble(&self.host, title, &error.to_string());
                with_policy(error.status(), text.into_bytes().into())
            }
        }
    }

    /// What it is made of, one after the other, and how many bytes are kept for that besides the snapshot.
    fn parts(
        &self,
        title: Option<&str>,
        snapshot: Arc<Snapshot>,
        matches: &Matches,
    ) -> (impl Iterator<Item = Bytes> + use<>, usize) {
        let places = snapshot.by_name().iter().copied();
        let mut shown: Vec<_> = places
            .filter(|place| matches.contains(*place))
            .take(MAX_SHOWN)
            .collect();
        // For as long as it takes to send it.
        shown.shrink_to_fit();
        let head = Head {
            host: &self.host,
            title,
            search: &self.search,
            shown: shown.len(),
            found: matches.count(),
            all: snapshot.number_of_images(),
        };
        let head = head.text();
        let own = size_of_val(shown.as_slice()) + head.len();
        let remote = self.host.remote();
        let mut first = 0;
        let images = std::iter::from_fn(move || {
            let places = shown.get(first..)?.iter().take(AT_ONCE);
            first += AT_ONCE;
            Some(
                places
                    .map(|place| view::image(snapshot.image_at(*place), &remote))
                    .collect(),
            )
        });
        let parts = std::iter::once(head)
            .chain(images)
            .chain(std::iter::once_with(view::end));
        (parts.map(Bytes::from), own)
    }
}

fn with_policy(status: StatusCode, body: ReplyBody) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    let headers: [(HeaderName, &str); 5] = [
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (REFERRER_POLICY, "no-referrer"),
        (VARY, "accept"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    for (name, value) in headers {
        reply.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    reply.headers_mut().insert(CONTENT_SECURITY_POLICY, POLICY.clone());
    reply
}

#[cfg(test)]
mod tests;

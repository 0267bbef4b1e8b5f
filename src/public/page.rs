//! The HTML page: shows the published images in a browser, with commands to copy.
//!
//! The page loads no other resource: styles and script are inline, and its Content-Security-Policy blocks everything
//! else. [`view`] renders it. The view escapes all image metadata, and commands contain only shell-safe characters or
//! quoted names.

mod host;
mod view;

use std::sync::{Arc, LazyLock};

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use data_encoding::BASE64;
use edge::response::{Reply, ReplyBody};
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
use crate::reply::HttpError;

/// Maximum number of images on one page. Users search for the others.
const MAX_SHOWN: usize = 200;
/// Maximum length of a search, in characters: every word is searched for in every image.
const MAX_SEARCH: usize = 200;
/// Number of images rendered at once. It bounds the memory of a client that sends a request and does not read the
/// response.
const AT_ONCE: usize = 10;

/// Content-Security-Policy that allows only the inline style and script, and forbids framing and requests to other
/// origins.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = |text: &str| BASE64.encode(digest(&SHA256, text.as_bytes()).as_ref());
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    );
    HeaderValue::from_str(&policy).expect("a policy is a header's value")
});

/// A browser's request for the page.
#[derive(Debug)]
pub struct PageRequest {
    /// Host and port from the request.
    host: Host,
    /// Search text as typed.
    search: String,
}

impl PageRequest {
    /// Recognizes `GET /` with `text/html` in `Accept`. Incus's clients and curl do not send that.
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

    /// Selects the images that contain every word of the search, in any order.
    pub fn selector(&self) -> Selector {
        let mut words: Vec<_> = self.search.split_whitespace().map(str::to_lowercase).collect();
        words.sort_unstable();
        words.dedup();
        Selector::Words(words)
    }

    /// Renders the page with the matching images, or with an error message.
    pub fn reply(&self, page: &Page, found: Result<(Arc<Snapshot>, Arc<Matches>), HttpError>) -> Reply {
        match found {
            Ok((snapshot, matches)) => {
                let (parts, own) = self.parts(page, Arc::clone(&snapshot), &matches);
                let reply = with_policy(StatusCode::OK, ReplyBody::Parts(Box::new(parts)));
                snapshot.lend(reply, own)
            }
            Err(error) => {
                let text = view::trouble(&self.host, page.title.as_deref(), &error.to_string());
                with_policy(error.status(), text.into_bytes().into())
            }
        }
    }

    /// Returns the parts of the page in order, and the number of bytes they hold besides the snapshot.
    fn parts(
        &self,
        page: &Page,
        snapshot: Arc<Snapshot>,
        matches: &Matches,
    ) -> (impl Iterator<Item = Bytes> + use<>, usize) {
        let places = snapshot.by_name().iter().copied();
        let mut shown: Vec<_> = places
            .filter(|place| matches.contains(*place))
            .take(MAX_SHOWN)
            .collect();
        // The list stays allocated until the response is sent.
        shown.shrink_to_fit();
        let head = Head {
            host: &self.host,
            title: page.title.as_deref(),
            simplestreams: page.simplestreams,
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

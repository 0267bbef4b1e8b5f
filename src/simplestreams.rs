//! The published images as simplestreams, on the public port.
//!
//! - [`documents`] are the index and the list of products with everything they refer to, made from one [`Snapshot`] of the
//!   catalogue and the files that the store knows.
//! - [`publisher`] keeps them up to date, and lets the store fetch the images whose files it does not know yet.
//! - [`route`] parses a request. Only what the documents refer to is served, as long as its image is published.
//! - `file_body` sends a file that the store has to be filled with again.
//!
//! [`Snapshot`]: crate::public::snapshot::Snapshot

pub mod documents;
mod file_body;
pub mod publisher;
mod route;

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use edge::admission::Rejection;
use edge::drain_body;
use edge::response::{Reply, ReplyBody, leave_out_body};
use edge::service::{Answer, Outcome, Service};
use edge::shutdown::Shutdown;
use edge::telemetry::request_record::RequestRecord;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::sync::watch;

use self::documents::{Documents, File};
use self::file_body::AwaitedBody;
use self::publisher::Publication;
use self::route::Route;
use crate::image_store::Source;
use crate::metrics::endpoint::Endpoint;
use crate::public::export;
use crate::public::file_reply::{self, FileHead};
use crate::public::snapshot::Snapshot;
use crate::public::stored_body::StoredBody;
use crate::public::stored_export::{self, last_modified};
use crate::public::{in_time, uncached};
use crate::reply::HttpError;
use crate::state::{CurrentUpstream, State};

/// The path prefixes of the service.
pub const PREFIXES: [&str; 2] = ["/streams", "/images"];

/// Serves simplestreams clients.
#[derive(Debug)]
pub struct SimplestreamsService {
    /// The active configuration and its state.
    pub state: watch::Receiver<Arc<State>>,
    /// Incus, for images that the store has removed meanwhile.
    pub upstream: Rc<CurrentUpstream>,
    /// Knows what reads unwanted request bodies as tasks.
    pub shutdown: Shutdown,
}

impl Service for SimplestreamsService {
    fn answer(self: Rc<Self>, record: Rc<RequestRecord>, request: Request<Incoming>) -> Answer {
        Box::pin(async move {
            let mut reply = uncached(self.respond(&record, &request).await);
            if *request.method() == Method::HEAD {
                leave_out_body(&mut reply);
            }
            Outcome {
                reply,
                then: drain_body::discard_body(&self.shutdown, request),
            }
        })
    }

    fn reject(&self, why: Rejection) -> Reply {
        uncached(plain(&HttpError::from(why)))
    }
}

impl SimplestreamsService {
    async fn respond(&self, record: &RequestRecord, request: &Request<Incoming>) -> Reply {
        let state = Arc::clone(&self.state.borrow());
        let Some(publication) = &state.simplestreams else {
            return HttpError::NotPublic.into();
        };
        let answer = in_time(&state, self.answer_route(record, &state, publication, request));
        answer.await.unwrap_or_else(|error| plain(&error))
    }

    async fn answer_route(
        &self,
        record: &RequestRecord,
        state: &State,
        publication: &Publication,
        request: &Request<Incoming>,
    ) -> Result<Reply, HttpError> {
        let route = Route::parse(request.uri().path()).ok_or_else(not_found)?;
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            return Err(HttpError::MethodNotAllowed);
        }
        let snapshot = state.catalogue.current().await?;
        match route {
            Route::Index => {
                record.set_endpoint(Endpoint::Simplestreams);
                let documents = publication.documents(&snapshot).await?;
                Ok(documents.reply(&documents.index, request.headers()))
            }
            Route::Products => {
                record.set_endpoint(Endpoint::Simplestreams);
                let documents = publication.documents(&snapshot).await?;
                Ok(documents.reply(&documents.products, request.headers()))
            }
            Route::File(name) => {
                record.set_endpoint(Endpoint::File);
                let documents = match publication.latest() {
                    Some(latest) if publishes(&latest, name, &snapshot) => latest,
                    _ => publication.documents(&snapshot).await?,
                };
                let file = documents.file(name).ok_or_else(not_found)?;
                record.begin_download()?;
                let client = record.client().peer.address.ip();
                self.file(state, publication, client, &documents, file, request).await
            }
        }
    }

    async fn file(
        &self,
        state: &State,
        publication: &Publication,
        client: IpAddr,
        documents: &Documents,
        file: &File,
        request: &Request<Incoming>,
    ) -> Result<Reply, HttpError> {
        let image = documents.image(file);
        let upstream = self.upstream.get();
        export::check_still_visible(&state.catalogue, &upstream, image).await?;
        let source = match *request.method() == Method::GET {
            true => {
                let source = publication
                    .store()
                    .source(&state.target, &image.fingerprint, image.size);
                Some(source.await)
            }
            false => None,
        };
        let head = FileHead {
            content_type: "application/octet-stream",
            content_disposition: None,
            etag: &format!("\"{}\"", file.sha256),
            last_modified: last_modified(image),
            length: Some(file.size),
            is_complete: true,
            cache_control: publication.cache_control(),
        };
        let part = file.part;
        Ok(file_reply::reply(request.headers(), &head, |range| match source {
            Some(Source::Stored(stored)) => {
                ReplyBody::Streamed(Box::pin(StoredBody::new(stored.part(part, range), None)))
            }
            // The store knows the file but had to make room.
            Some(Source::Filling(filling)) => {
                let size = range.end - range.start;
                let fill = async move {
                    let stored = filling.done().await.ok()??;
                    Some(StoredBody::new(stored.part(part, range), None))
                };
                ReplyBody::Streamed(Box::pin(AwaitedBody::new(fill, size)))
            }
            // The store cannot take the image at the moment.
            Some(Source::Incus) => {
                let origin = stored_export::origin(&upstream, client, image, file.offset + range.start);
                let expected = (range == (0..file.size)).then_some(file.sha256);
                let body = origin.map(|origin| StoredBody::from_incus(origin, range.end - range.start, expected));
                body.map_or(ReplyBody::Whole(None), |body| ReplyBody::Streamed(Box::pin(body)))
            }
            None => ReplyBody::Whole(None),
        }))
    }
}

/// Whether the file belongs to an image that is still published.
fn publishes(documents: &Documents, name: &str, snapshot: &Snapshot) -> bool {
    let file = documents.file(name);
    file.is_some_and(|file| snapshot.image(&documents.image(file).fingerprint).is_some())
}

fn not_found() -> HttpError {
    HttpError::Incus(StatusCode::NOT_FOUND, "not found".to_owned())
}

/// Renders an error as text, which people and all clients read.
fn plain(error: &HttpError) -> Reply {
    let mut reply = Response::new(ReplyBody::from(format!("{error}\n").into_bytes()));
    *reply.status_mut() = error.status();
    let fields = reply.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if matches!(error, HttpError::MethodNotAllowed) {
        fields.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    if let Some(seconds) = error.retry_after() {
        fields.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    reply
}

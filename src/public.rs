//! The public port: answers anonymous clients without forwarding any of their requests to Incus.
//!
//! - [`route`] parses a request into a [`PublicRoute`].
//! - [`catalogue`] keeps the published images up to date. A [`snapshot`] is one state of it, made of [`image`]s, with
//!   its JSON responses cached as [`cached_response`]s.
//! - A [`selection`] is the set of images that a [`filter`] or a search on the [`page`] matches. `evaluate` computes it
//!   within a CPU budget, and `streamed_list` writes it as JSON.
//! - `export` is the only handler that sends a request to Incus: it downloads an image by its full fingerprint from the
//!   catalogue.

pub mod cached_response;
pub mod catalogue;
mod evaluate;
pub mod evaluation;
pub(crate) mod export;
pub(crate) mod file_reply;
pub mod filter;
pub mod fingerprint;
pub mod image;
pub mod page;
pub mod route;
pub mod selection;
pub mod snapshot;
pub(crate) mod stored_body;
pub(crate) mod stored_export;
mod streamed_list;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use edge::admission::Rejection;
use edge::drain_body;
use edge::response::Reply;
use edge::service::{Answer, Outcome, Service};
use edge::shutdown::Shutdown;
use edge::telemetry::request_record::RequestRecord;
use edge::upstream;
use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use hyper::body::Incoming;
use tokio::sync::watch;
use tokio::time::timeout;

use self::cached_response::CachedJson;
use self::catalogue::Catalogue;
pub use self::evaluate::EvaluationBudget;
use self::fingerprint::FingerprintPrefix;
use self::image::Image;
use self::page::PageRequest;
use self::route::PublicRoute;
use self::selection::Selector;
use self::snapshot::{Lookup, Snapshot};
use crate::metrics::endpoint::Endpoint;
use crate::reply::HttpError;
use crate::state::{CurrentUpstream, State};

/// Maximum time to the head of a response. Clients get one within five seconds even if Incus hangs.
const PATIENCE: Duration = Duration::from_millis(4_700);

/// Maximum length of a request's path and query, in bytes. It fits the longest filter with every byte percent-encoded,
/// plus the longest path.
const MAX_TARGET: usize = 4 << 10;

/// Serves anonymous clients.
#[derive(Debug)]
pub struct PublicService {
    /// The active configuration and its state.
    pub state: watch::Receiver<Arc<State>>,
    /// Incus, for downloads.
    pub upstream: Rc<CurrentUpstream>,
    /// What filters and searches may cost.
    pub budget: Rc<EvaluationBudget>,
    /// Tracks the tasks that drain unwanted request bodies.
    pub shutdown: Shutdown,
}

impl Service for PublicService {
    fn answer(self: Rc<Self>, record: Rc<RequestRecord>, request: Request<Incoming>) -> Answer {
        Box::pin(async move {
            let answer = self.respond(&record, &request).await;
            // No public endpoint reads a request body.
            let then = drain_body::discard_body(&self.shutdown, request);
            Outcome {
                reply: uncached(answer.unwrap_or_else(Reply::from)),
                then,
            }
        })
    }

    fn reject(&self, why: Rejection) -> Reply {
        uncached(HttpError::from(why).into())
    }
}

/// Makes caches revalidate everything they store: an unpublished image disappears from them too, and a missing one is found.
pub(crate) fn uncached(mut reply: Reply) -> Reply {
    let no_cache = HeaderValue::from_static("no-cache");
    reply.headers_mut().entry(CACHE_CONTROL).or_insert(no_cache);
    reply
}

impl PublicService {
    async fn respond(&self, record: &RequestRecord, request: &Request<Incoming>) -> Result<Reply, HttpError> {
        let target = request.uri().path_and_query();
        if target.is_some_and(|target| target.as_str().len() > MAX_TARGET) {
            return Err(HttpError::TargetTooLong(MAX_TARGET));
        }
        let state = Arc::clone(&self.state.borrow());
        if let (Some(page), Some(page_request)) = (&state.page, PageRequest::of(request)) {
            record.set_endpoint(Endpoint::Page);
            let found = in_time(&state, async {
                let snapshot = state.catalogue.current().await?;
                let matches =
                    evaluate::select(&self.budget, record.client(), &snapshot, &page_request.selector()).await?;
                Ok((snapshot, matches))
            });
            return Ok(evaluate::at_cost(
                &self.budget,
                record.client(),
                page_request.reply(page, found.await),
            ));
        }
        let route = PublicRoute::parse(request.method(), request.uri())?;
        record.set_endpoint(route.endpoint());
        in_time(&state, self.answer_route(record, &state, route, request.headers())).await
    }

    async fn answer_route(
        &self,
        record: &RequestRecord,
        state: &State,
        route: PublicRoute,
        headers: &HeaderMap,
    ) -> Result<Reply, HttpError> {
        let catalogue = &state.catalogue;
        match route {
            PublicRoute::Server => Ok(catalogue.current().await?.server.reply(headers)),
            PublicRoute::Images(query) => {
                let snapshot = catalogue.current().await?;
                if query.filter.is_empty() {
                    return Ok(snapshot.lend(snapshot.images.get(query.recursion).reply(headers), 0));
                }
                let matches = evaluate::select(
                    &self.budget,
                    record.client(),
                    &snapshot,
                    &Selector::Filter(query.filter),
                )
                .await?;
                let reply = streamed_list::reply(snapshot, matches, query.recursion);
                Ok(evaluate::at_cost(&self.budget, record.client(), reply))
            }
            PublicRoute::Image(prefix) => {
                let snapshot = with_image(catalogue, &prefix).await?;
                Ok(CachedJson::plain(find(&snapshot, &prefix)?).reply(headers))
            }
            PublicRoute::Export(prefix) => {
                let snapshot = with_image(catalogue, &prefix).await?;
                let image = find(&snapshot, &prefix)?;
                record.begin_download()?;
                self.export(record, state, image, headers).await
            }
            PublicRoute::Aliases { recursion } => {
                let snapshot = catalogue.current().await?;
                Ok(snapshot.lend(snapshot.aliases.get(recursion).reply(headers), 0))
            }
            PublicRoute::Alias(name) => {
                let snapshot = catalogue
                    .get_or_refresh(|snapshot| snapshot.alias(&name).is_some())
                    .await?;
                let alias = snapshot.alias(&name).ok_or_else(route::alias_not_found)?;
                Ok(CachedJson::plain(alias).reply(headers))
            }
        }
    }
}

impl PublicService {
    /// Answers with an image, from the store or from Incus.
    async fn export(
        &self,
        record: &RequestRecord,
        state: &State,
        image: &Image,
        headers: &HeaderMap,
    ) -> Result<Reply, HttpError> {
        let upstream = self.upstream.get();
        export::check_still_visible(&state.catalogue, &upstream, image).await?;
        let client = record.client().peer.address.ip();
        if let Some(store) = &state.store
            && let Some(reply) = stored_export::export(store, state, &upstream, client, image, headers).await?
        {
            return Ok(reply);
        }
        let _turn = upstream.download_turn(client).await;
        export::export(record, &upstream, &image.fingerprint, headers).await
    }
}

/// Limits a future to [`PATIENCE`], and reports a timeout as an upstream error.
pub(crate) async fn in_time<T>(
    state: &State,
    answer: impl Future<Output = Result<T, HttpError>>,
) -> Result<T, HttpError> {
    timeout(PATIENCE, answer).await.unwrap_or_else(|_| {
        let error = upstream::Error::Timeout(PATIENCE);
        state.target.counts().failed(&error);
        Err(HttpError::Upstream(error))
    })
}

impl From<catalogue::Unavailable> for HttpError {
    fn from(_: catalogue::Unavailable) -> Self {
        Self::CatalogueUnavailable
    }
}

async fn with_image(catalogue: &Catalogue, prefix: &FingerprintPrefix) -> Result<Arc<Snapshot>, HttpError> {
    catalogue
        .get_or_refresh(|snapshot| snapshot.find(prefix) != Lookup::Nothing)
        .await
        .map_err(HttpError::from)
}

fn find<'a>(snapshot: &'a Snapshot, prefix: &FingerprintPrefix) -> Result<&'a Image, HttpError> {
    match snapshot.find(prefix) {
        Lookup::One(image) => Ok(image),
        Lookup::Nothing => Err(route::image_not_found(prefix.as_str())),
        // Same message and status as Incus, but only published images are counted.
        Lookup::Many => Err(HttpError::Incus(
            StatusCode::INTERNAL_SERVER_ERROR,
            "More than one image matches".to_owned(),
        )),
    }
}

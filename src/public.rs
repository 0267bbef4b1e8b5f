//! The public port: question → answer. No request of a stranger goes up to Incus.
//!
//! [`route`] reads a request into a question, [`catalogue`] keeps what may be answered, [`snapshot`] is one state of that,
//! made of [`image`]s and answered as [`document`]s. A [`filter`] picks from it, for a `listing`; `page` shows it to people. Both
//! are a [`selection`], which `evaluate` finds at a bounded price.
//! Image bytes alone come from Incus, asked for by `export` with a fingerprint from the catalogue.

pub mod catalogue;
pub mod document;
mod evaluate;
mod export;
pub mod filter;
pub mod generation;
pub mod image;
mod listing;
pub mod page;
pub mod route;
pub mod selection;
pub mod snapshot;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request, StatusCode};
use tokio::time::timeout;

use self::catalogue::Catalogue;
use self::document::Document;
use self::image::Image;
use self::page::PageRequest;
use self::route::{FingerprintPrefix, PublicRoute};
use self::selection::Selector;
use self::snapshot::{Found, Snapshot};
use crate::live::Live;
use crate::metrics::question::Question;
use crate::reply::{Refusal, Reply};
use crate::telemetry::exchange::Exchange;
use crate::upstream;

/// A client has its answer, or the head of it, within five seconds, whatever has become of Incus.
const PATIENCE: Duration = Duration::from_millis(4_700);

/// The longest path and query of a request, in bytes: the longest filter, with every byte escaped, and more than a path needs.
const MAX_TARGET: usize = 4 << 10;

/// Answers one request on the public port.
pub async fn answer<B>(exchange: &Exchange, request: &Request<B>) -> Result<Reply, Refusal> {
    let target = request.uri().path_and_query();
    if target.is_some_and(|target| target.as_str().len() > MAX_TARGET) {
        return Err(Refusal::TargetTooLong(MAX_TARGET));
    }
    let live = exchange.client().worker.live();
    if let (Some(page), Some(asked)) = (&live.page, PageRequest::of(request)) {
        exchange.asks(Question::Page);
        let found = in_time(&live, async {
            let snapshot = live.catalogue.current().await?;
            let matches = evaluate::select(exchange.client(), &snapshot, &asked.selector()).await?;
            Ok((snapshot, matches))
        });
        return Ok(evaluate::at_cost(exchange.client(), asked.reply(page, found.await)));
    }
    let route = PublicRoute::parse(request.method(), request.uri())?;
    exchange.asks(route.question());
    in_time(&live, answer_question(exchange, &live, route, request.headers())).await
}

/// As long as anybody waits for the gateway.
pub(crate) async fn in_time<T>(live: &Live, answer: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
    timeout(PATIENCE, answer).await.unwrap_or_else(|_| {
        let error = upstream::Error::Timeout(PATIENCE);
        live.target.counts().failed(&error);
        Err(Refusal::Upstream(error))
    })
}

async fn answer_question(
    exchange: &Exchange,
    live: &Live,
    route: PublicRoute,
    headers: &HeaderMap,
) -> Result<Reply, Refusal> {
    let catalogue = &live.catalogue;
    match route {
        PublicRoute::Server => Ok(catalogue.current().await?.server.reply(headers)),
        PublicRoute::Images(query) => {
            let snapshot = catalogue.current().await?;
            if query.filter.is_empty() {
                return Ok(snapshot.lend(snapshot.images.get(query.recursion).reply(headers), 0));
            }
            let matches = evaluate::select(exchange.client(), &snapshot, &Selector::Filter(query.filter)).await?;
            let reply = listing::reply(snapshot, matches, query.recursion);
            Ok(evaluate::at_cost(exchange.client(), reply))
        }
        PublicRoute::Image(prefix) => {
            let snapshot = with_image(catalogue, &prefix).await?;
            Ok(Document::plain(find(&snapshot, &prefix)?).reply(headers))
        }
        PublicRoute::Export(prefix) => {
            let snapshot = with_image(catalogue, &prefix).await?;
            let image = find(&snapshot, &prefix)?;
            let upstream = exchange.client().worker.upstream();
            exchange.begin_download()?;
            if !catalogue.is_fresh() {
                export::ask_whether_shown(&upstream, &image.fingerprint, catalogue.images()).await?;
            }
            export::export(exchange, &upstream, &image.fingerprint, headers).await
        }
        PublicRoute::Aliases { recursion } => {
            let snapshot = catalogue.current().await?;
            Ok(snapshot.lend(snapshot.aliases.get(recursion).reply(headers), 0))
        }
        PublicRoute::Alias(name) => {
            let snapshot = catalogue.having(|snapshot| snapshot.alias(&name).is_some()).await?;
            let alias = snapshot.alias(&name).ok_or_else(route::alias_not_found)?;
            Ok(Document::plain(alias).reply(headers))
        }
    }
}

async fn with_image(catalogue: &Catalogue, prefix: &FingerprintPrefix) -> Result<Arc<Snapshot>, Refusal> {
    catalogue
        .having(|snapshot| snapshot.find(prefix) != Found::Nothing)
        .await
}

fn find<'a>(snapshot: &'a Snapshot, prefix: &FingerprintPrefix) -> Result<&'a Image, Refusal> {
    match snapshot.find(prefix) {
        Found::One(image) => Ok(image),
        Found::Nothing => Err(route::image_not_found(prefix.as_str())),
        // Incus's words and status; but here only published images count.
        Found::Many => Err(Refusal::Incus(
            StatusCode::INTERNAL_SERVER_ERROR,
            "More than one image matches".to_owned(),
        )),
    }
}

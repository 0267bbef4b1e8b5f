//! The public port: question → answer. No request of a stranger goes up to Incus.
//!
//! [`route`] reads a request into a question, [`catalogue`] keeps what may be answered, [`snapshot`] is one state of that,
//! [`filter`] picks from it. Image bytes alone come from Incus, asked for by [`export`] with a fingerprint from the catalogue.

pub mod catalogue;
mod export;
pub mod filter;
pub mod route;
pub mod snapshot;

use std::rc::Rc;
use std::sync::Arc;

use http::{Request, StatusCode};

use self::catalogue::Catalogue;
use self::route::{FingerprintPrefix, PublicRoute};
use self::snapshot::{Found, Image, Snapshot};
use crate::reply::{Refusal, Reply, sync};
use crate::worker::Worker;

/// Answers one request on the public port.
pub async fn answer<B>(worker: &Rc<Worker>, request: &Request<B>) -> Result<Reply, Refusal> {
    let route = PublicRoute::parse(request.method(), request.uri())?;
    let live = worker.live();
    let catalogue = &live.catalogue;
    match route {
        PublicRoute::Server => Ok(sync(catalogue.current().await?.server())),
        PublicRoute::Images(query) => {
            let snapshot = catalogue.current().await?;
            let images = snapshot.images().filter(|image| query.filter.matches(image));
            Ok(match query.recursion {
                true => sync(&images.collect::<Vec<_>>()),
                false => sync(
                    &images
                        .map(|image| format!("/1.0/images/{}", image.fingerprint))
                        .collect::<Vec<_>>(),
                ),
            })
        }
        PublicRoute::Image(prefix) => {
            let snapshot = with_image(catalogue, &prefix).await?;
            Ok(sync(find(&snapshot, &prefix)?))
        }
        PublicRoute::Export(prefix) => {
            let snapshot = with_image(catalogue, &prefix).await?;
            let image = find(&snapshot, &prefix)?;
            export::export(&worker.upstream(), &image.fingerprint, request.headers()).await
        }
        PublicRoute::Aliases { recursion } => {
            let snapshot = catalogue.current().await?;
            let aliases = snapshot.aliases();
            Ok(match recursion {
                true => sync(&aliases.collect::<Vec<_>>()),
                false => sync(&aliases.map(|alias| route::alias_path(&alias.name)).collect::<Vec<_>>()),
            })
        }
        PublicRoute::Alias(name) => {
            let snapshot = catalogue.having(|snapshot| snapshot.alias(&name).is_some()).await?;
            match snapshot.alias(&name) {
                Some(alias) => Ok(sync(alias)),
                None => Err(route::alias_not_found()),
            }
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

//! What the owner of the gateway may ask over its socket, besides what anybody may.

use std::rc::Rc;

use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::report_builder::{self, StaticInfo};
use super::{IMAGES_PATH, STATUS_PATH};
use crate::metrics::exposition::Exporter;
use crate::metrics::server::{Handler, PublicHandler, reply, text};
use crate::reply::ReplyBody;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// For who keeps the gateway.
#[derive(Debug)]
pub struct PrivilegedHandler {
    /// What anybody may know.
    pub exporter: Rc<Exporter>,
    /// What stays as it is.
    pub facts: StaticInfo,
}

impl Handler for PrivilegedHandler {
    const PATHS: &'static str = "here are /status, /images, /metrics, /healthz and /readyz";

    async fn handle(&self, path: &str) -> Option<Response<ReplyBody>> {
        let Self { exporter, facts } = self;
        match path {
            STATUS_PATH => {
                let report = report_builder::report(facts, exporter).await;
                Some(match serde_json::to_string_pretty(&report) {
                    Ok(json) => reply(StatusCode::OK, JSON, json + "\n"),
                    Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
                })
            }
            IMAGES_PATH => Some(match report_builder::snapshot(exporter).await {
                Ok(snapshot) => snapshot.images.get(true).reply(&HeaderMap::new()),
                Err(refusal) => text(refusal.status(), refusal.to_string()),
            }),
            path => PublicHandler(Rc::clone(exporter)).handle(path).await,
        }
    }
}

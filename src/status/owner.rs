//! Handler of the status socket. It serves the paths of the metrics listener, and those reserved for the gateway's
//! owner.

use std::rc::Rc;

use edge::response::ReplyBody;
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::report_builder::{self, StaticInfo};
use super::{IMAGES_PATH, STATUS_PATH};
use crate::metrics::exposition::Exporter;
use crate::metrics::server::{Handler, PublicHandler, reply, text};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Handler for root and the gateway's own user.
#[derive(Debug)]
pub struct PrivilegedHandler {
    /// Source of the metrics.
    pub exporter: Rc<Exporter>,
    /// Information that does not change while the process runs.
    pub facts: StaticInfo,
}

impl Handler for PrivilegedHandler {
    const PATHS: &'static str = "not found; available paths: /status, /images, /metrics, /healthz, /readyz";

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

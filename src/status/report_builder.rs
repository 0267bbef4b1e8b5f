//! Builds a [`Report`] from the current metrics and state.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use edge::admission::RejectReason;
use edge::counters::label::Label;
use edge::listener_id::ListenerId;
use edge::metrics::counts::EndpointId;
use edge::metrics::status_label::Status;

use super::report::{Admin, Certificate, Configuration, Images, Incus, Port, Report, State, Store};
use super::simplestreams::Simplestreams;
use crate::identity::AuthError;
use crate::metrics::endpoint::Endpoint;
use crate::metrics::exposition::{Exporter, Figures};
use crate::metrics::health::Problem;
use crate::metrics::{UnopenedStore, since_1970};
use crate::public;
use crate::public::snapshot::Snapshot;
use crate::reply::HttpError;

const DAY: i64 = 86_400;

/// Information that does not change while the process runs.
#[derive(Debug)]
pub struct StaticInfo {
    /// Path of the configuration file.
    pub file: PathBuf,
    /// Bound addresses, by port.
    pub addresses: Vec<(ListenerId, SocketAddr)>,
    /// Bound addresses of `[metrics]`.
    pub metrics: Vec<SocketAddr>,
}

/// Builds the report. Queries Incus.
pub async fn report(facts: &StaticInfo, exporter: &Exporter) -> Report {
    let readiness = exporter.health().ready().await;
    let figures = exporter.figures().await;
    let now = since_1970().as_secs();
    let reload = figures.metrics.reload();
    Report {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        started_at: figures.metrics.started().as_secs(),
        state: match &readiness {
            Ok(()) => State::Ready,
            Err(Problem::Draining) => State::Draining,
            Err(_) => State::NotReady,
        },
        problem: readiness.err().map(|problem| problem.to_string()),
        configuration: Configuration {
            file: facts.file.display().to_string(),
            loaded_at: reload.in_force_since,
            reload_failed_at: reload.refused.as_ref().map(|(at, _)| *at),
            reload_error: reload.refused.map(|(_, why)| why),
        },
        incus: incus(&figures),
        images: images(&figures),
        store: store(&figures),
        simplestreams: simplestreams(&figures),
        ports: figures
            .metrics
            .listeners()
            .iter()
            .map(|port| (port.name().to_owned(), port_of(*port, facts, &figures)))
            .collect(),
        rejected: rejected(&figures),
        metrics: facts.metrics.iter().map(ToString::to_string).collect(),
        certificates: certificates(&figures, now),
        admins: admins(&figures),
    }
}

/// Returns the current snapshot of the public images.
///
/// # Errors
///
/// Fails if there is no current image list, or if Incus takes too long.
pub async fn snapshot(exporter: &Exporter) -> Result<Arc<Snapshot>, HttpError> {
    let state = exporter.state();
    public::in_time(&state, async { Ok(state.catalogue.current().await?) }).await
}

fn incus(figures: &Figures) -> Incus {
    let about = figures.incus.as_ref();
    Incus {
        url: figures.state.target.url().to_owned(),
        available: !matches!(about, Err(Problem::Away(_))),
        trusts: about.is_ok(),
        version: about.ok().and_then(|about| about.version.clone()),
        problem: about.err().map(ToString::to_string),
    }
}

fn images(figures: &Figures) -> Images {
    let condition = figures.state.catalogue.freshness();
    Images {
        count: condition.latest.map(|(_, images)| images as u64),
        age_seconds: condition.latest.map(|(age, _)| age.as_secs()),
        failing: condition.is_failing,
    }
}

fn store(figures: &Figures) -> Option<Store> {
    let Some(store) = &figures.state.store else {
        let UnopenedStore { config, problem } = figures.metrics.unopened_store()?;
        return Some(Store {
            directory: config.directory.display().to_string(),
            problem: Some(problem.clone()),
            limit_bytes: config.size,
            ..Store::default()
        });
    };
    let (counts, occupancy) = (store.files().counts(), store.files().occupancy());
    let dropped = counts.dropped.into_iter().filter(|(_, count)| *count > 0);
    Some(Store {
        directory: store.config().directory.display().to_string(),
        problem: None,
        images: occupancy.images as u64,
        filling: occupancy.filling as u64,
        bytes: occupancy.bytes,
        limit_bytes: occupancy.limit,
        hits: counts.hits,
        misses: counts.misses,
        disk_errors: counts.disk_errors,
        bad_exports: counts.bad_exports,
        evicted: counts.evicted,
        unpublished: counts.removed,
        dropped: dropped
            .map(|(reason, count)| (reason.name().to_owned(), count))
            .collect(),
    })
}

fn simplestreams(figures: &Figures) -> Option<Simplestreams> {
    let publication = figures.state.simplestreams.as_ref()?;
    Some(Simplestreams::of(
        publication.latest().as_deref(),
        figures.state.is_self_signed(),
    ))
}

fn port_of(port: ListenerId, facts: &StaticInfo, figures: &Figures) -> Port {
    let of_this = facts.addresses.iter().filter(|(of, _)| *of == port);
    let questions = |is_wanted: fn(Status) -> bool| -> u64 {
        let statuses = || Status::ALL.iter().copied().filter(|status| is_wanted(*status));
        let all = Endpoint::ALL
            .iter()
            .flat_map(|endpoint| statuses().map(move |status| (*endpoint, status)));
        all.map(|(endpoint, status)| {
            figures.sum(port, |counts| {
                counts.requests(EndpointId::of(endpoint)).statuses.of(status)
            })
        })
        .sum()
    };
    Port {
        addresses: of_this.map(|(_, address)| address.to_string()).collect(),
        connections: figures.limiter.connections(port.policy()) as u64,
        connections_limit: figures.state.edge.limits.connections_of(port.policy()) as u64,
        requests: questions(|_| true),
        server_errors: questions(|status| status.name().starts_with('5')),
        aborted: Label::ALL
            .iter()
            .map(|by| figures.sum(port, |counts| counts.cuts.of(*by)))
            .sum(),
        received_bytes: figures.sum(port, |counts| &counts.received),
        sent_bytes: figures.sum(port, |counts| &counts.sent),
    }
}

fn rejected(figures: &Figures) -> BTreeMap<String, u64> {
    let limited = RejectReason::ALL
        .iter()
        .map(|reason| (reason.name(), figures.limiter.cases(*reason)));
    let not_admins = AuthError::ALL.iter().map(|why| (why.name(), figures.not_admins(*why)));
    let all = limited.chain(not_admins).filter(|(_, count)| *count > 0);
    all.map(|(reason, count)| (reason.to_owned(), count)).collect()
}

fn certificates(figures: &Figures, now: u64) -> Vec<Certificate> {
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let faults = |certificate: &str| figures.state.chain_faults(certificate, SystemTime::now()).into_iter();
    let expiries = figures.state.expiries().into_iter();
    expiries
        .map(|expiry| Certificate {
            problems: faults(expiry.certificate).map(|fault| fault.to_string()).collect(),
            certificate: expiry.certificate.to_owned(),
            admin: expiry.admin.map(|admin| admin.to_string()),
            expires_at: expiry.at,
            days_left: expiry.at.saturating_sub(now).div_euclid(DAY),
        })
        .collect()
}

fn admins(figures: &Figures) -> Vec<Admin> {
    let seen = figures.state.admins.seen();
    seen.map(|(name, last)| Admin {
        name: name.to_owned(),
        last_seen_at: last.map(|(at, _)| at),
        last_seen_from: last.map(|(_, from)| from.to_string()),
    })
    .collect()
}

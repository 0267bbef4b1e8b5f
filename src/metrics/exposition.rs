//! Encoding of all metrics in the OpenMetrics text format.

use std::fmt;
use std::sync::Arc;

use edge::abort_reason::AbortReason;
use edge::admission::{Limiter, RejectReason};
use edge::counters::label::{Label, LabelMap};
use edge::counters::{Counter, Durations};
use edge::listener_id::ListenerId;
use edge::metrics::counts::{EndpointId, ListenerMetrics, WorkerMetrics};
use edge::metrics::handshake_outcome::HandshakeOutcome;
use edge::metrics::status_label::Status;
use edge::upstream::ErrorKind;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use store::{Counts, Store};
use tokio::sync::watch;

use super::Metrics;
use super::endpoint::Endpoint;
use super::health::{Health, Problem};
use crate::identity::AuthError;
use crate::image_store::ImageStore;
use crate::server_info::ServerInfo;
use crate::state::State;

/// Collects and encodes the metrics.
#[derive(Debug)]
pub struct Exporter {
    /// The active configuration and its state.
    state: watch::Receiver<Arc<State>>,
    limiter: Arc<Limiter>,
    metrics: Arc<Metrics>,
    rejected: Arc<LabelMap<AuthError, Counter>>,
    health: Health,
}

impl Exporter {
    /// Creates an exporter.
    pub fn new(
        state: watch::Receiver<Arc<State>>,
        limiter: Arc<Limiter>,
        metrics: Arc<Metrics>,
        rejected: Arc<LabelMap<AuthError, Counter>>,
        health: Health,
    ) -> Self {
        Self {
            state,
            limiter,
            metrics,
            rejected,
            health,
        }
    }

    /// The health checks.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// The active configuration and its state.
    pub fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.borrow())
    }

    /// Collects all metrics. Queries Incus for its status.
    pub async fn figures(&self) -> Figures {
        let incus = self.health.incus().await;
        Figures {
            incus,
            state: self.state(),
            limiter: Arc::clone(&self.limiter),
            workers: self.metrics.workers(),
            metrics: Arc::clone(&self.metrics),
            rejected: Arc::clone(&self.rejected),
        }
    }

    /// Encodes all metrics as OpenMetrics text.
    ///
    /// # Errors
    ///
    /// Fails if encoding fails.
    pub async fn text(&self) -> Result<String, fmt::Error> {
        let figures = self.figures().await;
        let mut registry = Registry::default();
        registry.register_collector(Box::new(figures));
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }
}

/// All metrics at one moment.
#[derive(Debug)]
pub struct Figures {
    pub(crate) incus: Result<ServerInfo, Problem>,
    pub(crate) state: Arc<State>,
    pub(crate) limiter: Arc<Limiter>,
    workers: Vec<Arc<WorkerMetrics>>,
    pub(crate) metrics: Arc<Metrics>,
    rejected: Arc<LabelMap<AuthError, Counter>>,
}

impl Collector for Figures {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Families(encoder);
        self.process(&mut out)?;
        self.requests(&mut out)?;
        self.bytes(&mut out)?;
        self.connections(&mut out)?;
        self.upstream(&mut out)?;
        self.catalogue(&mut out)?;
        self.store(&mut out)?;
        self.configuration(&mut out)
    }
}

impl Figures {
    fn process(&self, out: &mut Families<'_>) -> fmt::Result {
        out.info(
            "incus_gate_build",
            "Version of the running gateway",
            [("version", env!("CARGO_PKG_VERSION"))],
        )?;
        out.gauge(
            "process_start_time_seconds",
            "Start time of the process, in seconds since the Unix epoch",
            Some(self.metrics.started.as_secs_f64()),
        )
    }

    fn requests(&self, out: &mut Families<'_>) -> fmt::Result {
        let endpoints = || {
            self.metrics
                .listeners()
                .iter()
                .flat_map(|port| Endpoint::ALL.iter().map(|endpoint| (*port, *endpoint)))
        };
        let requests = endpoints().flat_map(|(port, endpoint)| {
            Status::ALL.iter().map(move |status| {
                let count = self.sum(port, |counts| {
                    counts.requests(EndpointId::of(endpoint)).statuses.of(*status)
                });
                let labels = [
                    ("port", port.name()),
                    ("endpoint", endpoint.name()),
                    ("status", status.name()),
                ];
                (labels, count)
            })
        });
        // There are about two thousand label combinations. A gateway uses only a few of them.
        let requests = requests.filter(|(_, count)| *count > 0);
        out.counters("incus_gate_requests", "Completed and aborted requests", requests)?;
        let durations = endpoints().map(|(port, endpoint)| {
            let each = self
                .workers
                .iter()
                .map(|counts| &counts.of(port).requests(EndpointId::of(endpoint)).durations);
            ([("port", port.name()), ("endpoint", endpoint.name())], each.collect())
        });
        let durations = durations.filter(|(_, durations): &(_, Durations)| durations.count > 0);
        out.histograms(
            "incus_gate_request_duration_seconds",
            "Time from a request's header section to the end of its response, without tunnels",
            durations,
        )?;
        let cuts = self.by_port_and(AbortReason::ALL, "reason", |port, by| {
            self.sum(port, |counts| counts.cuts.of(by))
        });
        out.counters("incus_gate_requests_aborted", "Aborted requests and tunnels", cuts)
    }

    fn bytes(&self, out: &mut Families<'_>) -> fmt::Result {
        let received = self.by_port(|port| self.sum(port, |counts| &counts.received));
        let help = "Bytes received from clients in request bodies and tunnels";
        out.counters("incus_gate_received_bytes", help, received)?;
        let sent = self.by_port(|port| self.sum(port, |counts| &counts.sent));
        let help = "Bytes sent to clients in response bodies and tunnels";
        out.counters("incus_gate_sent_bytes", help, sent)
    }

    fn connections(&self, out: &mut Families<'_>) -> fmt::Result {
        let open = self.by_port(|port| self.limiter.connections(port.policy()) as u64);
        out.gauges("incus_gate_connections", "Open client connections", open)?;
        let most = self.by_port(|port| self.state.edge.limits.connections_of(port.policy()) as u64);
        let help = "Maximum number of client connections; that of the admin port is the maximum on both ports together";
        out.gauges("incus_gate_connections_limit", help, most)?;
        let handshakes = self.by_port_and(HandshakeOutcome::ALL, "result", |port, result| {
            self.sum(port, |counts| counts.handshakes.of(result))
        });
        out.counters(
            "incus_gate_handshakes",
            "Completed and failed TLS handshakes with clients",
            handshakes,
        )?;
        let limited = RejectReason::ALL
            .iter()
            .map(|reason| ([("reason", reason.name())], self.limiter.cases(*reason)));
        let not_admins = AuthError::ALL
            .iter()
            .map(|why| ([("reason", why.name())], self.not_admins(*why)));
        let help = "Connections and requests rejected or aborted because of a limit or the client's identity";
        out.counters("incus_gate_rejected", help, limited.chain(not_admins))
    }

    fn upstream(&self, out: &mut Families<'_>) -> fmt::Result {
        let counts = self.state.target.counts();
        let is_up = !matches!(self.incus, Err(Problem::Away(_)));
        out.gauge(
            "incus_gate_upstream_up",
            "Whether Incus is available",
            Some(u64::from(is_up)),
        )?;
        let is_trusted = Some(u64::from(self.incus.is_ok()));
        out.gauge(
            "incus_gate_upstream_trusted",
            "Whether Incus is available and trusts the gateway's certificate",
            is_trusted,
        )?;
        out.histogram(
            "incus_gate_upstream_response_seconds",
            "Time until the response header section of Incus arrives",
            &[&counts.answers].into_iter().collect(),
        )?;
        let errors = ErrorKind::ALL
            .iter()
            .map(|kind| ([("kind", kind.name())], counts.errors.of(*kind).value()));
        out.counters(
            "incus_gate_upstream_errors",
            "Failed requests and connections to Incus",
            errors,
        )?;
        let help = "Connections opened to Incus";
        out.counter("incus_gate_upstream_connections_opened", help, counts.opened.value())?;
        let help = "Requests to Incus over a reused connection";
        out.counter("incus_gate_upstream_connections_reused", help, counts.reused.value())?;
        let help = "Idle connections to Incus";
        out.gauge("incus_gate_upstream_connections_idle", help, Some(counts.idle()))
    }

    fn catalogue(&self, out: &mut Families<'_>) -> fmt::Result {
        let condition = self.state.catalogue.freshness();
        let latest = condition.latest;
        let age = latest.map(|(age, _)| age.as_secs_f64());
        let help = "Age of the public image list; it grows while there are no requests";
        out.gauge("incus_gate_catalogue_age_seconds", help, age)?;
        let images = latest.map(|(_, images)| images as u64);
        out.gauge("incus_gate_catalogue_images", "Images on the public port", images)?;
        let failing = Some(u64::from(condition.is_failing));
        let help = "Whether the last attempt to update the image list failed";
        out.gauge("incus_gate_catalogue_failing", help, failing)?;
        let fetches = self.state.catalogue.fetches();
        let fetches = [
            ([("result", "failed")], fetches.failed.value()),
            ([("result", "succeeded")], fetches.succeeded.value()),
        ];
        out.counters(
            "incus_gate_catalogue_fetches",
            "Image lists requested from Incus",
            fetches,
        )
    }

    /// Without a store, these have no samples.
    fn store(&self, out: &mut Families<'_>) -> fmt::Result {
        let files = self.state.store.as_ref().map(ImageStore::files);
        let is_up = match (files, self.metrics.unopened_store()) {
            (Some(_), _) => Some(1_u64),
            (None, unopened) => unopened.map(|_| 0),
        };
        out.gauge("incus_gate_store_up", "Whether the store could be opened", is_up)?;
        let occupancy = files.map(Store::occupancy);
        let images = occupancy.map(|occupancy| occupancy.images as u64);
        out.gauge("incus_gate_store_images", "Complete images in the store", images)?;
        let filling = occupancy.map(|occupancy| occupancy.filling as u64);
        let help = "Images that the store is being filled with";
        out.gauge("incus_gate_store_filling", help, filling)?;
        let bytes = occupancy.map(|occupancy| occupancy.bytes);
        let help = "Size of the files in the store, and of what is reserved for images that it is being filled with";
        out.gauge("incus_gate_store_bytes", help, bytes)?;
        let limit = occupancy.map(|occupancy| occupancy.limit);
        out.gauge("incus_gate_store_limit_bytes", "Maximum size of the store", limit)?;
        self.store_events(out, files.map(Store::counts).as_ref())
    }

    fn store_events(&self, out: &mut Families<'_>, counts: Option<&Counts>) -> fmt::Result {
        let lookups = counts.map(|counts| {
            [
                ([("result", "hit")], counts.hits),
                ([("result", "filling")], counts.followed),
                ([("result", "miss")], counts.misses),
                ([("result", "no_room")], counts.no_room),
            ]
        });
        let help = "Downloads that looked for an image in the store";
        out.counters("incus_gate_store_lookups", help, lookups.into_iter().flatten())?;
        let fills = counts.map(|counts| {
            [
                ([("result", "stored")], counts.filled),
                ([("result", "bad_export")], counts.bad_exports),
                ([("result", "disk_error")], counts.disk_errors),
                ([("result", "abandoned")], counts.abandoned_fills),
            ]
        });
        let help = "Images that the store was filled with, or was to be filled with";
        out.counters("incus_gate_store_fills", help, fills.into_iter().flatten())?;
        let dropped = counts.map(|counts| counts.dropped).into_iter().flatten();
        let dropped = dropped.map(|(reason, count)| ([("reason", reason.name())], count));
        let asked = counts.map(|counts| {
            [
                ([("reason", "evicted")], counts.evicted),
                ([("reason", "unpublished")], counts.removed),
            ]
        });
        let help = "Images removed from the store";
        out.counters(
            "incus_gate_store_removed",
            help,
            asked.into_iter().flatten().chain(dropped),
        )?;
        let help = "Files of the store that could not be deleted";
        let failed = counts.map(|counts| ([] as [(&str, &str); 0], counts.failed_deletions));
        out.counters("incus_gate_store_failed_deletions", help, failed)?;
        let reads = counts.map(|counts| {
            [
                ([("source", "page_cache")], counts.cached_reads),
                ([("source", "disk")], counts.blocking_reads),
            ]
        });
        let help = "Reads of files in the store";
        out.counters("incus_gate_store_reads", help, reads.into_iter().flatten())
    }

    fn configuration(&self, out: &mut Families<'_>) -> fmt::Result {
        let expiries = self.state.expiries();
        let expiries = expiries.iter().map(|expiry| {
            let mut labels = vec![("certificate", expiry.certificate)];
            labels.extend(expiry.admin.as_deref().map(|admin| ("admin", admin)));
            (labels, expiry.at)
        });
        let help =
            "Expiry time of a certificate, in seconds since the Unix epoch; administrators' only if configured by file";
        out.gauges("incus_gate_certificate_expiry_timestamp_seconds", help, expiries)?;
        let reload = self.metrics.reload();
        let help = "Whether the last reload succeeded";
        out.gauge(
            "incus_gate_config_last_reload_successful",
            help,
            Some(u64::from(reload.refused.is_none())),
        )?;
        let help = "Time of the last successful reload, in seconds since the Unix epoch";
        out.gauge(
            "incus_gate_config_last_reload_success_timestamp_seconds",
            help,
            Some(reload.in_force_since),
        )
    }

    /// Number of admin port requests without a listed client certificate, by reason.
    pub(crate) fn not_admins(&self, why: AuthError) -> u64 {
        self.rejected.of(why).value()
    }

    /// Sums a counter over all workers.
    pub(crate) fn sum(&self, port: ListenerId, counter: impl Fn(&ListenerMetrics) -> &Counter) -> u64 {
        let each = self.workers.iter().map(|counts| counter(counts.of(port)).value());
        each.sum()
    }

    fn by_port(
        &self,
        value: impl Fn(ListenerId) -> u64,
    ) -> impl Iterator<Item = ([(&'static str, &'static str); 1], u64)> {
        let each = self.metrics.listeners().iter();
        each.map(move |port| ([("port", port.name())], value(*port)))
    }

    fn by_port_and<L: Label>(
        &self,
        labels: &'static [L],
        name: &'static str,
        value: impl Fn(ListenerId, L) -> u64,
    ) -> impl Iterator<Item = ([(&'static str, &'static str); 2], u64)> {
        let listeners = self.metrics.listeners().iter();
        let each = listeners.flat_map(move |port| labels.iter().map(move |label| (*port, *label)));
        each.map(move |(port, label)| ([("port", port.name()), (name, label.name())], value(port, label)))
    }
}

/// Writes metric families one by one.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn info(&mut self, name: &str, help: &str, labels: impl EncodeLabelSet) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Info)?;
        family.encode_info(&labels)
    }

    fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in samples {
            let mut sample = family.encode_family(&labels)?;
            sample.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let mut counter = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        counter.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    /// Writes a gauge, without a sample if the value is unknown.
    fn gauge(&mut self, name: &str, help: &str, value: Option<impl EncodeGaugeValue>) -> fmt::Result {
        let mut gauge = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        value.map_or(Ok(()), |value| gauge.encode_gauge(&value))
    }

    fn histogram(&mut self, name: &str, help: &str, durations: &Durations) -> fmt::Result {
        let mut histogram = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        let Durations { sum, count, buckets } = durations;
        histogram.encode_histogram::<NoLabelSet>(*sum, *count, buckets, None)
    }

    fn gauges<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in samples {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn histograms<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, Durations)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, Durations { sum, count, buckets }) in samples {
            let mut sample = family.encode_family(&labels)?;
            sample.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }
}

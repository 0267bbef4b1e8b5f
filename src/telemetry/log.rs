//! The log: which lines are written, how, and where to. All three may change while the gateway runs.
//!
//! Lines for people are tracing's own: time, level, module, what happened; fields as `name=value`, texts that others made in
//! quotes, with everything escaped that could look like something else. Lines for machines are the same as JSON.

use std::fmt;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::fmt::format::{Format, Full, Json, Writer};
use tracing_subscriber::fmt::{self as lines, FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

use super::audit;
use super::file::{LogFile, LogFileError};
use super::sink::{Entrance, Sink};
use crate::config::{LogConfig, LogFormat};

/// The log of this process. When it is dropped, all of it is written.
#[derive(Debug)]
pub struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
    sinks: Sinks,
}

#[derive(Clone, Debug)]
struct Sinks {
    all: Sink,
    audit: Sink,
    is_json: Arc<AtomicBool>,
    /// Whether the audit log is apart from the rest.
    is_audit_apart: Arc<AtomicBool>,
}

impl Log {
    /// Starts it. There is one.
    pub fn start(config: &LogConfig) -> Self {
        let (filter, handle) = reload::Layer::new(filter(&config.level));
        let sinks = Sinks {
            all: Sink::new("the log"),
            audit: Sink::new("the audit log"),
            is_json: Arc::new(AtomicBool::new(config.format == LogFormat::Json)),
            is_audit_apart: Arc::new(AtomicBool::new(false)),
        };
        let layer = lines::layer()
            .event_format(Formats {
                text: Format::default(),
                file: Format::default().with_ansi(false),
                json: Format::default().json().flatten_event(true),
                sinks: sinks.clone(),
            })
            .with_ansi(io::stderr().is_terminal())
            // Nobody reading the log is no reason to end.
            .log_internal_errors(false)
            .with_writer(sinks.clone());
        tracing_subscriber::registry().with(filter).with(layer).init();
        Self { filter: handle, sinks }
    }

    /// From here on nobody waits for a line to be written. To be called once the process is confined: the threads that do
    /// it are confined as who calls.
    pub fn write_apart(&self) -> io::Result<()> {
        self.sinks.all.start()?;
        self.sinks.audit.start()
    }

    /// Opens the file of the audit log, if it has one: always anew, for it may have been renamed.
    pub fn open_audit(config: &LogConfig) -> Result<Option<LogFile>, LogFileError> {
        config.audit.as_deref().map(LogFile::open).transpose()
    }

    /// Brings a configuration into force, with what was opened for it.
    pub fn reload(&self, config: &LogConfig, audit: Option<LogFile>) {
        self.sinks.is_audit_apart.store(audit.is_some(), Ordering::Relaxed);
        self.sinks.audit.redirect(audit);
        self.sinks
            .is_json
            .store(config.format == LogFormat::Json, Ordering::Relaxed);
        // It fails only where there is no log any more.
        let _ = self.filter.reload(filter(&config.level));
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.sinks.audit.finish();
        // Last, for the other one may have something to say.
        self.sinks.all.finish();
    }
}

/// The audit log is no matter of level: who turned it off by the way would miss it too late. And what a client does wrong in
/// TLS or HTTP/2 is a warning to the libraries, not to us: strangers could fill the log with it. Who wants it names them.
fn filter(level: &str) -> EnvFilter {
    let always = format!("{}=info", audit::TARGET);
    let level = if level.is_empty() { "error" } else { level };
    EnvFilter::new(format!("h2=error,rustls=error,{level}"))
        .add_directive(always.parse().expect("a target and a level"))
}

impl<'a> MakeWriter<'a> for Sinks {
    type Writer = Entrance<'a>;

    fn make_writer(&'a self) -> Entrance<'a> {
        self.all.entrance()
    }

    fn make_writer_for(&'a self, of: &Metadata<'_>) -> Entrance<'a> {
        match of.target() == audit::TARGET {
            true if self.is_apart(of) => self.audit.entrance(),
            true => self.all.first_entrance(),
            false => self.all.entrance(),
        }
    }
}

impl Sinks {
    fn is_apart(&self, of: &Metadata<'_>) -> bool {
        of.target() == audit::TARGET && self.is_audit_apart.load(Ordering::Relaxed)
    }
}

struct Formats {
    text: Format<Full>,
    /// Without colours, whatever stderr is.
    file: Format<Full>,
    json: Format<Json>,
    sinks: Sinks,
}

impl<S, N> FormatEvent<S, N> for Formats
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        if self.sinks.is_json.load(Ordering::Relaxed) {
            self.json.format_event(context, writer, event)
        } else if self.sinks.is_apart(event.metadata()) {
            self.file.format_event(context, writer, event)
        } else {
            self.text.format_event(context, writer, event)
        }
    }
}

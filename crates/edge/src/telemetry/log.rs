//! The log: level, format and destination, all of which a reload can change.
//!
//! Text lines have tracing's format: time, level, module, message, and fields as `name=value`. Values from clients are
//! quoted, and all characters that could be mistaken for syntax are escaped. JSON lines have the same content.

use std::fmt;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::fmt::format::{Format, Full, Json, Writer};
use tracing_subscriber::fmt::{self as lines, FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

use super::file::{LogFile, LogFileError};
use super::log_writer::{LineWriter, Sink};
use super::targets;

/// `[log]`
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Filter in the syntax of tracing's `EnvFilter`.
    pub level: String,
    /// Format of the lines.
    pub format: LogFormat,
    /// File of the audit log. By default, it is part of the log.
    pub audit_file: Option<PathBuf>,
}

/// Format of the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Text for humans.
    Text,
}

/// The log of the process. Dropping it writes all buffered lines.
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
    /// Whether the audit log has a file of its own.
    is_audit_apart: Arc<AtomicBool>,
}

impl Log {
    /// Starts logging.
    ///
    /// # Panics
    ///
    /// Panics if called twice.
    pub fn start(config: &LogConfig) -> Self {
        let (filter, handle) = reload::Layer::new(filter(&config.level));
        let sinks = Sinks {
            all: Sink::new("the log"),
            audit: Sink::new("the audit log"),
            is_json: Arc::new(AtomicBool::new(config.format == LogFormat::Json)),
            is_audit_apart: Arc::new(AtomicBool::new(false)),
        };
        let has_colours = io::stderr().is_terminal();
        let layer = lines::layer()
            .event_format(Formats {
                text: Format::default().with_ansi(has_colours),
                file: Format::default().with_ansi(false),
                json: Format::default().json().flatten_event(true),
                has_colours,
                sinks: sinks.clone(),
            })
            .with_ansi(has_colours)
            // A failure to write the log must not end the process.
            .log_internal_errors(false)
            .with_writer(sinks.clone());
        tracing_subscriber::registry().with(filter).with(layer).init();
        Self { filter: handle, sinks }
    }

    /// Moves writing to separate threads, so that logging does not block. Call it after the process has entered its
    /// sandbox: the threads inherit the sandbox of the caller.
    ///
    /// # Errors
    ///
    /// Fails if a thread cannot be started.
    pub fn write_apart(&self) -> io::Result<()> {
        self.sinks.all.start()?;
        self.sinks.audit.start()
    }

    /// Opens the audit log's file if one is configured. Every reload opens it again, because it may have been renamed.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be opened.
    pub fn open_audit(config: &LogConfig) -> Result<Option<LogFile>, LogFileError> {
        config.audit_file.as_deref().map(LogFile::open).transpose()
    }

    /// Applies a configuration, with the audit file opened for it.
    pub fn reload(&self, config: &LogConfig, audit: Option<LogFile>) {
        self.sinks.is_audit_apart.store(audit.is_some(), Ordering::Relaxed);
        self.sinks.audit.redirect(audit);
        self.sinks
            .is_json
            .store(config.format == LogFormat::Json, Ordering::Relaxed);
        // Fails only if the subscriber is gone.
        let _ = self.filter.reload(filter(&config.level));
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.sinks.audit.finish();
        // Last, because finishing the other may log an error.
        self.sinks.all.finish();
    }
}

/// Builds the filter. The audit log is always enabled: an accidentally disabled one would go unnoticed until it is needed. h2
/// and rustls log only errors unless `level` names them: they warn about invalid client input, with which clients could
/// fill the log.
fn filter(level: &str) -> EnvFilter {
    let always = format!("{}=info", targets::AUDIT);
    let level = if level.is_empty() { "error" } else { level };
    EnvFilter::new(format!("h2=error,rustls=error,{level}")).add_directive(always.parse().expect("valid directive"))
}

impl<'a> MakeWriter<'a> for Sinks {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> LineWriter<'a> {
        self.all.line_writer()
    }

    fn make_writer_for(&'a self, of: &Metadata<'_>) -> LineWriter<'a> {
        match of.target() == targets::AUDIT {
            true if self.is_apart(of) => self.audit.line_writer(),
            true => self.all.first_line_writer(),
            false => self.all.line_writer(),
        }
    }
}

impl Sinks {
    fn is_apart(&self, of: &Metadata<'_>) -> bool {
        of.target() == targets::AUDIT && self.is_audit_apart.load(Ordering::Relaxed)
    }
}

struct Formats {
    text: Format<Full>,
    /// Without colours, whatever stderr is.
    file: Format<Full>,
    json: Format<Json>,
    has_colours: bool,
    sinks: Sinks,
}

impl<S, N> FormatEvent<S, N> for Formats
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let is_json = self.sinks.is_json.load(Ordering::Relaxed);
        let is_apart = self.sinks.is_apart(event.metadata());
        let mut line = Escaped {
            is_json,
            has_colours: self.has_colours && !is_apart,
            is_ended: false,
            writer: &mut writer,
        };
        let into = Writer::new(&mut line);
        if is_json {
            self.json.format_event(context, into, event)?;
        } else if is_apart {
            self.file.format_event(context, into, event)?;
        } else {
            self.text.format_event(context, into, event)?;
        }
        writer.write_char('\n')
    }
}

/// A writer that escapes a log line. No value can contain line breaks, terminal control characters, bidirectional
/// controls or invisible characters. It escapes whole lines of both formats, because the syntax of JSON and tracing is
/// printable ASCII.
struct Escaped<'a, W> {
    is_json: bool,
    /// Whether escape characters pass, for tracing's colours. tracing escapes those in values.
    has_colours: bool,
    /// Whether the last character was a line break. It is written only if more text follows.
    is_ended: bool,
    writer: &'a mut W,
}

impl<W: fmt::Write> fmt::Write for Escaped<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.is_ended && !text.is_empty() {
            self.is_ended = false;
            self.escape('\n')?;
        }
        let text = match text.strip_suffix('\n') {
            Some(text) => {
                self.is_ended = true;
                text
            }
            None => text,
        };
        let mut rest = text;
        while let Some(at) = rest.find(|c| !self.is_plain(c)) {
            let (plain, from) = rest.split_at(at);
            self.writer.write_str(plain)?;
            let mut chars = from.chars();
            if let Some(c) = chars.next() {
                self.escape(c)?;
            }
            rest = chars.as_str();
        }
        self.writer.write_str(rest)
    }
}

impl<W: fmt::Write> Escaped<'_, W> {
    fn is_plain(&self, c: char) -> bool {
        match c {
            ' '..='~' => true,
            '\x1b' => self.has_colours,
            // Keep what `{:?}` does not escape.
            c => !c.is_ascii() && c.escape_debug().len() == 1,
        }
    }

    fn escape(&mut self, c: char) -> fmt::Result {
        if !self.is_json {
            return write!(self.writer, "{}", c.escape_default());
        }
        let mut units = [0; 2];
        for unit in c.encode_utf16(&mut units) {
            write!(self.writer, "\\u{unit:04x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    fn escaped(is_json: bool, has_colours: bool, parts: &[&str]) -> String {
        let mut written = String::new();
        let mut line = Escaped {
            is_json,
            has_colours,
            is_ended: false,
            writer: &mut written,
        };
        for part in parts {
            line.write_str(part).expect("writing to a String succeeds");
        }
        written
    }

    /// Characters that control terminals, line breaks or text direction, and invisible ones.
    fn dangerous() -> impl Iterator<Item = char> {
        let ranges = [
            '\0'..='\x1f',
            '\x7f'..='\u{9f}',
            '\u{200b}'..='\u{200f}',
            '\u{2028}'..='\u{202e}',
        ];
        let others = ['\u{ad}', '\u{61c}', '\u{feff}', '\u{fff9}', '\u{e0041}'];
        let isolates = '\u{2066}'..='\u{2069}';
        ranges.into_iter().flatten().chain(isolates).chain(others)
    }

    #[test]
    fn control_characters_in_a_line_are_escaped() {
        for c in dangerous() {
            let value = format!("a{c}b");
            let text = escaped(false, false, &[&value]);
            assert!(text.chars().all(|c| (' '..='~').contains(&c)), "{c:?}: {text:?}");
            let json = escaped(true, false, &["\"", &value, "\""]);
            assert!(json.chars().all(|c| (' '..='~').contains(&c)), "{c:?}: {json:?}");
            // The value is unchanged.
            assert_eq!(serde_json::from_str::<String>(&json).expect("valid JSON"), value);
        }
    }

    #[test]
    fn line_breaks_are_escaped_and_unicode_text_is_kept() {
        for is_json in [false, true] {
            let plain = "Grüße, 日本, 🙂 {\"a\":1}\\";
            assert_eq!(escaped(is_json, false, &[plain, "\n"]), plain);
        }
        assert_eq!(escaped(false, false, &["a\nb\n", "", "c\n"]), "a\\nb\\nc");
        assert_eq!(escaped(false, true, &["\x1b[2mdim\x1b[0m\n"]), "\x1b[2mdim\x1b[0m");
        assert_eq!(escaped(false, false, &["\x1b[2m"]), "\\u{1b}[2m");
    }
}

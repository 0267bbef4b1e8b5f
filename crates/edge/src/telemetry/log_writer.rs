//! A buffer for log lines, and the thread that writes them.
//!
//! Workers never wait for the log's destination: a full pipe, a stopped terminal or a slow disk would block a whole
//! worker. Lines that do not fit into the buffer are dropped and counted. Buffering also moves the system calls off the
//! workers and batches lines under load. (tracing-appender does not block either, but needs an allocation, a wake-up
//! and a system call per line, and does not report write errors.)

use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::file::LogFile;

/// Maximum size of the buffer in bytes: thousands of lines.
const MAX_WAITING: usize = 1 << 20;
/// Maximum size of the buffer for important lines, so that a flood of other lines does not displace them.
const MAX_WAITING_FIRST: usize = 2 << 20;
/// Delay between writes under load. Lines gather meanwhile, and adding one needs no wake-up.
const REST: Duration = Duration::from_millis(50);
/// Number of consecutive writes without delay. Below it, lines appear immediately.
const FEW: u32 = 16;
/// Capacity that the buffer keeps after a write, in bytes.
const USUAL: usize = 64 << 10;
/// Minimum time between messages about lost lines, so that they do not fill the log themselves.
const BETWEEN_COMPLAINTS: Duration = Duration::from_secs(1);
/// Maximum time to write the remaining lines at exit.
const LAST_LINES: Duration = Duration::from_secs(1);

/// A destination that many threads write lines to.
#[derive(Clone, Debug)]
pub struct Sink(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    what: &'static str,
    state: Mutex<State>,
    filled: Condvar,
    emptied: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    lost: u64,
    change: Option<Change>,
    thread: Thread,
    /// Whether a thread is waiting for the buffer to be empty.
    is_awaited: bool,
}

/// A new destination, from an offset in the buffer on.
#[derive(Debug)]
struct Change {
    at: usize,
    to: Option<LogFile>,
}

#[derive(Debug, Default, Eq, PartialEq)]
enum Thread {
    #[default]
    None,
    Asleep,
    Writing,
}

impl Sink {
    /// Creates a sink that writes to stderr. `what` is its name in messages.
    pub fn new(what: &'static str) -> Self {
        Self(Arc::new(Shared {
            what,
            state: Mutex::default(),
            filled: Condvar::new(),
            emptied: Condvar::new(),
        }))
    }

    /// Starts a thread that writes the lines. Before this call, the threads that log write them directly. The new
    /// thread inherits the sandbox of the caller.
    ///
    /// # Errors
    ///
    /// Fails if the thread cannot be started.
    pub fn start(&self) -> io::Result<()> {
        self.0.state().thread = Thread::Writing;
        let shared = Arc::clone(&self.0);
        let started = thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || shared.empty());
        started.map(drop)
    }

    /// Redirects later lines to a file, or to stderr for `None`.
    pub fn redirect(&self, to: Option<LogFile>) {
        let mut state = self.0.state();
        let at = state.waiting.len();
        state.change = Some(Change { at, to });
        drop(state);
        self.0.filled.notify_one();
    }

    /// Returns a writer for important lines, which may use the reserved part of the buffer.
    pub fn first_line_writer(&self) -> LineWriter<'_> {
        LineWriter {
            sink: self,
            room: MAX_WAITING_FIRST,
        }
    }

    /// Returns a writer for other lines.
    pub fn line_writer(&self) -> LineWriter<'_> {
        LineWriter {
            sink: self,
            room: MAX_WAITING,
        }
    }

    /// Buffers a line, including its line break.
    fn put(&self, line: &[u8], room: usize) {
        let mut state = self.0.state();
        if state.thread == Thread::None {
            // If stderr is closed, there is no way to report it.
            let _ = io::stderr().write_all(line);
        } else if state.waiting.len() + line.len() > room {
            state.lost += 1;
        } else {
            state.waiting.extend_from_slice(line);
            if state.thread == Thread::Asleep {
                state.thread = Thread::Writing;
                // Unlock first: the thread would wait for the lock.
                drop(state);
                self.0.filled.notify_one();
            }
        }
    }

    /// Waits until all lines are written, at most [`LAST_LINES`].
    pub fn finish(&self) {
        let mut state = self.0.state();
        state.is_awaited = true;
        let is_busy = |state: &mut State| state.thread == Thread::Writing;
        drop(self.0.emptied.wait_timeout_while(state, LAST_LINES, is_busy));
    }
}

/// Adds lines to a [`Sink`].
#[derive(Debug)]
pub struct LineWriter<'a> {
    sink: &'a Sink,
    room: usize,
}

/// Each call of `write` receives one complete line.
impl Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match line.split_last() {
            // A message with line breaks is still one line.
            Some((_, text)) if text.contains(&b'\n') || text.contains(&b'\r') => {
                let mut line = line.to_owned();
                let (_, text) = line.split_last_mut().expect("the line is not empty");
                let ends = text.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r'));
                ends.for_each(|end| *end = b' ');
                self.sink.put(&line, self.room);
            }
            _ => self.sink.put(line, self.room),
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Main loop of the writer thread.
    fn empty(&self) {
        let (mut file, mut lines) = (None::<LogFile>, Vec::new());
        let (mut lost, mut last_report) = (0, None::<Instant>);
        let mut in_a_row = 0;
        loop {
            let idle_since = Instant::now();
            let (newly_lost, change) = self.wait(&mut lines);
            in_a_row = if idle_since.elapsed() < REST { in_a_row + 1 } else { 0 };
            lost += newly_lost;
            if lost > 0 && last_report.is_none_or(|at| at.elapsed() >= BETWEEN_COMPLAINTS) {
                tracing::error!(
                    "{lost} lines of {} were lost: they could not be written, or not fast enough",
                    self.what
                );
                (lost, last_report) = (0, Some(Instant::now()));
            }
            let (before, after) = lines.split_at(change.as_ref().map_or(lines.len(), |change| change.at));
            lost += write(self.what, file.as_mut(), before);
            if let Some(change) = change {
                file = change.to;
            }
            lost += write(self.what, file.as_mut(), after);
            lines.clear();
            // Release the memory of a burst.
            lines.shrink_to(USUAL);
            if in_a_row > FEW {
                thread::sleep(REST);
            }
        }
    }

    /// Waits for lines, and swaps the buffer with an empty one.
    fn wait(&self, lines: &mut Vec<u8>) -> (u64, Option<Change>) {
        let mut state = self.state();
        let idle = |state: &mut State| state.waiting.is_empty() && state.change.is_none();
        if idle(&mut state) {
            state.thread = Thread::Asleep;
            if state.is_awaited {
                self.emptied.notify_all();
            }
            state = self
                .filled
                .wait_while(state, idle)
                .unwrap_or_else(PoisonError::into_inner);
            state.thread = Thread::Writing;
        }
        std::mem::swap(&mut state.waiting, lines);
        (std::mem::take(&mut state.lost), state.change.take())
    }
}

/// Writes lines to the file, or to stderr if that fails: the write may then block the thread, but the lines are kept.
/// Returns the number of lost lines.
fn write(what: &str, file: Option<&mut LogFile>, lines: &[u8]) -> u64 {
    if lines.is_empty() {
        return 0;
    }
    if let Some(file) = file {
        let before = file.is_failing();
        let written = file.append(lines);
        let path = file.path().display();
        match (before, &written) {
            (false, Err(error)) => {
                tracing::error!("cannot write {what} to {path}; writing it here instead: {error}");
            }
            (true, Ok(())) => tracing::info!("writing {what} to {path} again"),
            _ => {}
        }
        if written.is_ok() {
            return 0;
        }
    }
    let mut rest = lines;
    while !rest.is_empty() {
        match io::stderr().write(rest) {
            Ok(count @ 1..) => rest = &rest[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // A full disk may have space again later. If stderr is closed, there is no way to report it.
            Ok(0) | Err(_) => break,
        }
    }
    rest.iter().filter(|byte| **byte == b'\n').count() as u64
}

//! Where lines go: a buffer, and a thread that empties it.
//!
//! Nobody who serves waits for who reads the log: a pipe that is full, a terminal that was stopped, or a disk that is slow
//! would hold up a whole worker. Lines that find the buffer full are lost, and counted. This also takes the system call of
//! each line off the worker, and makes one of many lines where there are many. (tracing-appender does the first, but makes an
//! allocation, a wake-up and a system call of each line, and keeps it to itself when a file cannot be written.)

use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::file::LogFile;

/// The most that waits to be written, in bytes: thousands of lines.
const MAX_WAITING: usize = 1 << 20;
/// The same where a line matters more than others: a crowd's lines must not be what it is lost for.
const MAX_WAITING_FIRST: usize = 2 << 20;
/// Between two writes of a crowd's lines, which gather meanwhile: those who write them need not wake anybody.
const REST: Duration = Duration::from_millis(50);
/// So many writes that follow each other within that time are no crowd's: who looks at the log has them at once.
const FEW: u32 = 16;
/// What the buffer keeps of its room, in bytes.
const USUAL: usize = 64 << 10;
/// A crowd that overruns the log must not fill it with that.
const BETWEEN_COMPLAINTS: Duration = Duration::from_secs(1);
/// For the last lines to be written before the gateway ends.
const LAST_LINES: Duration = Duration::from_secs(1);

/// What may be written by many threads, a line at a time.
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
    /// Somebody waits until all is written.
    is_awaited: bool,
}

/// What is to be written to, from so many of the waiting bytes on.
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
    /// Writes to stderr. `what` is its name in messages.
    pub fn new(what: &'static str) -> Self {
        Self(Arc::new(Shared {
            what,
            state: Mutex::default(),
            filled: Condvar::new(),
            emptied: Condvar::new(),
        }))
    }

    /// From here on lines are written by a thread of their own; up to here by whoever has one. The thread is confined as
    /// who starts it.
    pub fn start(&self) -> io::Result<()> {
        self.0.state().thread = Thread::Writing;
        let shared = Arc::clone(&self.0);
        let started = thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || shared.empty());
        started.map(drop)
    }

    /// Writes what comes from now on to a file, or to stderr.
    pub fn redirect(&self, to: Option<LogFile>) {
        let mut state = self.0.state();
        let at = state.waiting.len();
        state.change = Some(Change { at, to });
        drop(state);
        self.0.filled.notify_one();
    }

    /// For lines that find room when others do not any more.
    pub fn first_line_writer(&self) -> LineWriter<'_> {
        LineWriter {
            sink: self,
            room: MAX_WAITING_FIRST,
        }
    }

    /// For all others.
    pub fn line_writer(&self) -> LineWriter<'_> {
        LineWriter {
            sink: self,
            room: MAX_WAITING,
        }
    }

    /// Takes a line, with its end.
    fn put(&self, line: &[u8], room: usize) {
        let mut state = self.0.state();
        if state.thread == Thread::None {
            // A closed stderr leaves nobody to tell.
            let _ = io::stderr().write_all(line);
        } else if state.waiting.len() + line.len() > room {
            state.lost += 1;
        } else {
            state.waiting.extend_from_slice(line);
            if state.thread == Thread::Asleep {
                state.thread = Thread::Writing;
                // It would only wait for us.
                drop(state);
                self.0.filled.notify_one();
            }
        }
    }

    /// Waits until all is written, but not for ever.
    pub fn finish(&self) {
        let mut state = self.0.state();
        state.is_awaited = true;
        let is_busy = |state: &mut State| state.thread == Thread::Writing;
        drop(self.0.emptied.wait_timeout_while(state, LAST_LINES, is_busy));
    }
}

/// Where lines come in.
#[derive(Debug)]
pub struct LineWriter<'a> {
    sink: &'a Sink,
    room: usize,
}

/// A line comes whole, in one call.
impl Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match line.split_last() {
            // Whatever a message is made of, it is one line.
            Some((_, text)) if text.contains(&b'\n') || text.contains(&b'\r') => {
                let mut line = line.to_owned();
                let (_, text) = line.split_last_mut().expect("it was split before");
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

    /// What the thread does for ever.
    fn empty(&self) {
        let (mut file, mut lines) = (None::<LogFile>, Vec::new());
        let (mut lost, mut told) = (0, None::<Instant>);
        let mut in_a_row = 0;
        loop {
            let idle_since = Instant::now();
            let (newly_lost, change) = self.wait(&mut lines);
            in_a_row = if idle_since.elapsed() < REST { in_a_row + 1 } else { 0 };
            lost += newly_lost;
            if lost > 0 && told.is_none_or(|told| told.elapsed() >= BETWEEN_COMPLAINTS) {
                tracing::error!(
                    "{lost} lines of {} are lost: they came faster than they could be written, or could not be",
                    self.what
                );
                (lost, told) = (0, Some(Instant::now()));
            }
            let (before, after) = lines.split_at(change.as_ref().map_or(lines.len(), |change| change.at));
            lost += write(self.what, file.as_mut(), before);
            if let Some(change) = change {
                file = change.to;
            }
            lost += write(self.what, file.as_mut(), after);
            lines.clear();
            // A crowd's lines are over some day.
            lines.shrink_to(USUAL);
            if in_a_row > FEW {
                thread::sleep(REST);
            }
        }
    }

    /// Waits for lines, and exchanges the buffer for an empty one.
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

/// What cannot be written into the file is written to stderr: it is too late then to keep who serves from serving, but
/// nothing is lost. Returns how many lines are, all the same.
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
                tracing::error!("{what} cannot be written to {path}, and goes here meanwhile: {error}");
            }
            (true, Ok(())) => tracing::info!("{what} goes to {path} again"),
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
            // A disk that is full may have room again; a closed stderr leaves nobody to tell.
            Ok(0) | Err(_) => break,
        }
    }
    rest.iter().filter(|byte| **byte == b'\n').count() as u64
}

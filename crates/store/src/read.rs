//! Reading from files without blocking a worker: bytes in the page cache are read at once, others on the store's threads.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use rustix::fs::{Advice, fadvise};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use tokio::sync::oneshot;

use crate::buffer::{self, Buffer};
use crate::counters::Counter;
use crate::threads::{Threads, broken};

/// How much the kernel is asked to read ahead when bytes were not in the page cache, in bytes.
const READ_AHEAD: NonZeroU64 = NonZeroU64::new(1 << 20).expect("not zero");

/// Reads files, on the caller's thread if that does not block.
#[derive(Debug)]
pub(crate) struct FileReader {
    threads: Threads,
    /// Whether the file system has `RWF_NOWAIT`.
    has_nowait: AtomicBool,
    /// Reads from the page cache.
    pub(crate) cached: Counter,
    /// Reads on the threads.
    pub(crate) blocking: Counter,
}

impl FileReader {
    pub(crate) fn start(threads: usize) -> io::Result<Self> {
        Ok(Self {
            threads: Threads::start("store-read", threads)?,
            has_nowait: AtomicBool::new(true),
            cached: Counter::default(),
            blocking: Counter::default(),
        })
    }

    /// Reads at most `length` and [`buffer::SIZE`] bytes, and at least one, unless `length` is 0.
    pub(crate) fn read(&self, file: &Arc<File>, offset: u64, length: u64) -> Reading {
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(buffer::SIZE);
        let mut buffer = Buffer::take();
        match self.read_cached(file, offset, buffer.space(length)) {
            Ok(Some(count)) => {
                self.cached.add(1);
                Reading::Done(Some(Ok(buffer.freeze(count))))
            }
            Ok(None) => {
                self.blocking.add(1);
                let file = Arc::clone(file);
                Reading::Blocking(
                    self.threads
                        .start_wanted(move || read_blocking(&file, offset, buffer, length)),
                )
            }
            Err(error) => Reading::Done(Some(Err(error))),
        }
    }

    /// Reads what the page cache has. `None` if it has not even the first byte.
    fn read_cached(&self, file: &File, offset: u64, space: &mut [u8]) -> io::Result<Option<usize>> {
        if space.is_empty() {
            return Ok(Some(0));
        }
        if !self.has_nowait.load(Ordering::Relaxed) {
            return Ok(None);
        }
        match preadv2(file, &mut [IoSliceMut::new(space)], offset, ReadWriteFlags::NOWAIT) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => Ok(Some(count)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                self.has_nowait.store(false, Ordering::Relaxed);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Runs other work that reads files.
    pub(crate) async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        self.threads.run(job).await
    }
}

fn read_blocking(file: &File, offset: u64, mut buffer: Buffer, length: usize) -> io::Result<Bytes> {
    // Only a hint: where it is unknown, the kernel reads ahead as it sees fit.
    let _ = fadvise(file, offset, Some(READ_AHEAD), Advice::WillNeed);
    loop {
        match file.read_at(buffer.space(length), offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => return Ok(buffer.freeze(count)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A read under way, or done. Dropping it gives it up.
#[derive(Debug)]
pub(crate) enum Reading {
    Done(Option<io::Result<Bytes>>),
    Blocking(oneshot::Receiver<io::Result<Bytes>>),
}

impl Reading {
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        match self {
            Self::Done(result) => Poll::Ready(result.take().unwrap_or_else(|| Err(broken()))),
            Self::Blocking(receiver) => {
                let result = ready!(Pin::new(receiver).poll(cx));
                Poll::Ready(result.unwrap_or_else(|_| Err(broken())))
            }
        }
    }
}

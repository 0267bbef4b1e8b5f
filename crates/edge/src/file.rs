//! Reads the files that the configuration names.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::fs::OFlags;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Maximum file size in bytes. No configuration, certificate or key is larger.
const MAX_SIZE: u64 = 1 << 20;

/// Timeout of a [`Reader`]. A network file system blocks while its server is unavailable.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reads a whole regular file.
///
/// Fails for anything but a regular file, without reading from it: a FIFO would block the caller until a writer opens it, and
/// a device may have no end. Also fails for a file of more than 1 MiB.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    // Opening a FIFO would already block, and opening a terminal could make it the controlling terminal.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    // Checks the opened file, not the path, which may have been replaced in the meantime.
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_SIZE + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > MAX_SIZE {
        true => Err(io::Error::other("it is larger than 1 MiB")),
        false => Ok(bytes),
    }
}

/// Reads files on a thread of its own, so that the caller can do other work and waits no longer than [`PATIENCE`].
#[derive(Debug, Default)]
pub struct Reader {
    /// The thread that has not finished in time. It cannot be stopped, so there is never a second one.
    hanging: Option<JoinHandle<()>>,
}

impl Reader {
    /// Runs `work`, which reads files.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] if it takes too long, and immediately while earlier work still hangs.
    pub async fn run<T: Send + 'static>(&mut self, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        let (sender, receiver) = oneshot::channel();
        self.begin(move || drop(sender.send(work())))?;
        let done = timeout(PATIENCE, receiver).await.map_err(|_| hangs())?;
        self.hanging = None;
        done.map_err(io::Error::other)
    }

    /// Blocking variant of [`Self::run`] with a timeout of `time_limit`.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`], as for [`Self::run`].
    pub fn run_blocking<T: Send + 'static>(
        &mut self,
        time_limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let (sender, receiver) = mpsc::channel();
        self.begin(move || drop(sender.send(work())))?;
        let done = receiver.recv_timeout(time_limit).map_err(|_| hangs())?;
        self.hanging = None;
        Ok(done)
    }

    fn begin(&mut self, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        if self.hanging.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return Err(hangs());
        }
        // Stored until the thread has finished, because the caller may give up.
        self.hanging = Some(thread::Builder::new().name("files".to_owned()).spawn(work)?);
        Ok(())
    }
}

fn hangs() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "its file system does not respond")
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::net::UnixListener;
    use std::process::Command;
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn only_regular_files_are_read() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let here = folder.path();
        fs::write(here.join("file"), "text").expect("write the file");
        std::os::unix::fs::symlink("file", here.join("link")).expect("create the file");
        for name in ["file", "link"] {
            assert_eq!(read(&here.join(name)).expect("a regular file"), b"text");
        }
        let made = Command::new("mkfifo")
            .arg(here.join("fifo"))
            .status()
            .expect("run mkfifo");
        assert!(made.success());
        let _socket = UnixListener::bind(here.join("socket")).expect("bind the socket");
        for path in ["fifo", "socket", ".", "/dev/zero", "/dev/ptmx"] {
            read(&here.join(path)).expect_err(path);
        }
        let wrong = read(&here.join("fifo")).expect_err("a FIFO").to_string();
        assert_eq!(wrong, "it is not a regular file");
    }

    #[test]
    fn files_over_the_size_limit_are_rejected() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("large");
        let file = File::create(&path).expect("create the file");
        file.set_len(MAX_SIZE).expect("set the size");
        assert_eq!(read(&path).expect("a file of the maximum size").len() as u64, MAX_SIZE);
        file.set_len(u64::MAX >> 2)
            .or_else(|_| file.set_len(MAX_SIZE + 1))
            .expect("set the size");
        assert_eq!(
            read(&path).expect_err("the file is too large").to_string(),
            "it is larger than 1 MiB"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_hanging_file_system_blocks_one_thread_only() {
        let mut reader = Reader::default();
        let (end, hang) = channel::<()>();
        let kind = |read: io::Result<()>| read.expect_err("the read hangs").kind();
        let hanging = reader.run(move || _ = hang.recv()).await;
        assert_eq!(kind(hanging), io::ErrorKind::TimedOut);
        // No second thread is started.
        let next = reader.run(|| panic!("it is not tried")).await;
        assert_eq!(kind(next), io::ErrorKind::TimedOut);
        let next = reader.run_blocking(Duration::MAX, || panic!("it is not tried"));
        assert_eq!(kind(next), io::ErrorKind::TimedOut);
        drop(end);
        while !reader.hanging.as_ref().expect("a thread hung").is_finished() {
            thread::yield_now();
        }
        // Let time pass again.
        tokio::time::resume();
        for number in 0..100 {
            assert_eq!(
                reader.run(move || number).await.expect("the reader works again"),
                number
            );
            let now = reader.run_blocking(PATIENCE, move || number);
            assert_eq!(now.expect("the reader works again"), number);
        }
    }
}

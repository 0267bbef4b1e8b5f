//! Copies data between the two ends of a tunnel.

use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use edge::upgraded_io::UpgradedIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::time::{sleep, timeout};

/// Copy buffer of each direction, in bytes.
const BUFFER_SIZE: usize = 32 << 10;

/// Time for a client to read what it has been sent after Incus has aborted the connection.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// Copies in both directions until both ends have shut down. If one end aborts, this fails and drops both streams without a
/// shutdown, which the other end notices. The client notices it only after it has received what Incus had sent.
pub(super) async fn copy_bidirectional<C, I>(client: UpgradedIo<C>, incus: UpgradedIo<I>) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite,
    I: AsyncRead + AsyncWrite,
{
    let (from_client, to_client) = split(client.stream);
    let (from_incus, to_incus) = split(incus.stream);
    let mut up = pin!(copy_half(client.read_ahead, from_client, to_incus));
    let mut down = pin!(copy_half(incus.read_ahead, from_incus, to_client));
    tokio::select! {
        ended = &mut up => match ended {
            Err(Broken::Reading(error)) => Err(error),
            // Incus closes the streams of `exec` after their last bytes, whatever the client sends then.
            Err(Broken::Writing(_)) | Ok(()) => linger(down.await).await,
        },
        ended = &mut down => match ended {
            // Incus has shut down gracefully.
            Ok(()) => match up.await {
                Err(Broken::Reading(error)) => Err(error),
                Err(Broken::Writing(_)) | Ok(()) => Ok(()),
            },
            Err(Broken::Writing(error)) => {
                // The client has gone. Incus may receive what the client sent before, within a time limit.
                let _ = timeout(LINGER_TIMEOUT, up).await;
                Err(error)
            }
            broken => linger(broken).await,
        },
    }
}

/// Gives the client time to receive what Incus sent before it aborted: dropping the stream immediately would discard what the
/// kernel still buffers.
async fn linger(down: Result<(), Broken>) -> io::Result<()> {
    if let Err(Broken::Reading(_)) = down {
        sleep(LINGER_TIMEOUT).await;
    }
    Ok(down?)
}

/// Why a direction ended early.
enum Broken {
    /// The sender has aborted.
    Reading(io::Error),
    /// The receiver accepts no more data.
    Writing(io::Error),
}

impl From<Broken> for io::Error {
    fn from((Broken::Reading(error) | Broken::Writing(error)): Broken) -> Self {
        error
    }
}

async fn copy_half(
    read_ahead: Bytes,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> Result<(), Broken> {
    let mut buffer = vec![0; BUFFER_SIZE];
    to.write_all(&read_ahead).await.map_err(Broken::Writing)?;
    loop {
        to.flush().await.map_err(Broken::Writing)?;
        match from.read(&mut buffer).await.map_err(Broken::Reading)? {
            0 => return to.shutdown().await.map_err(Broken::Writing),
            length => to.write_all(&buffer[..length]).await.map_err(Broken::Writing)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::{DuplexStream, ReadBuf, duplex};
    use tokio::time::Instant;

    use super::*;

    /// Stream whose connection was reset.
    struct Reset;

    impl AsyncRead for Reset {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
        }
    }

    impl AsyncWrite for Reset {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn upgraded<S>(stream: S) -> UpgradedIo<S> {
        let read_ahead = Bytes::new();
        UpgradedIo { read_ahead, stream }
    }

    /// Returns what the client receives.
    async fn heard(mut client: DuplexStream, length: usize) -> Vec<u8> {
        let mut heard = vec![0; length];
        client
            .read_exact(&mut heard)
            .await
            .expect("the client receives all bytes");
        // The client keeps reading.
        assert_eq!(client.read(&mut [0]).await.expect("the stream is closed"), 0);
        heard
    }

    #[tokio::test(start_paused = true)]
    async fn data_still_flows_from_a_side_that_no_longer_reads() {
        let (mut client, to_gateway) = duplex(100);
        client.write_all(b"a word").await.expect("the write succeeds");
        let (mut incus, from_incus) = duplex(100);
        let joined = copy_bidirectional(upgraded(to_gateway), upgraded(tokio::io::join(from_incus, Reset)));
        let rest = async {
            // By then, writing these bytes to Incus has failed.
            tokio::task::yield_now().await;
            incus.write_all(&[7; 100_000]).await.expect("the write succeeds");
            drop(incus);
        };
        let (ended, heard, ()) = tokio::join!(joined, heard(client, 100_000), rest);
        assert_eq!(heard, [7; 100_000]);
        ended.expect("Incus shut down gracefully");
    }

    #[tokio::test(start_paused = true)]
    async fn data_from_before_a_reset_is_delivered_first() {
        for word in [&b""[..], b"a word that is refused before"] {
            let (mut client, to_gateway) = duplex(100);
            client.write_all(word).await.expect("the write succeeds");
            let incus = (&[7; 100_000][..]).chain(Reset);
            let begun = Instant::now();
            let joined = copy_bidirectional(upgraded(to_gateway), upgraded(tokio::io::join(incus, Reset)));
            let (ended, heard) = tokio::join!(async { (joined.await, begun.elapsed()) }, heard(client, 100_000));
            assert_eq!(heard, [7; 100_000]);
            assert_eq!(
                ended.0.expect_err("Incus aborted").kind(),
                io::ErrorKind::ConnectionReset
            );
            assert!(ended.1 >= LINGER_TIMEOUT, "{:?} after {word:?}", ended.1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reset_by_the_client_ends_the_copy() {
        // Incus does not read, and has more data to send.
        let (_incus, to_incus) = duplex(10);
        let client = tokio::io::join(tokio::io::repeat(7), Reset);
        let incus = tokio::io::join(tokio::io::repeat(7), to_incus);
        let ended = timeout(
            LINGER_TIMEOUT * 2,
            copy_bidirectional(upgraded(client), upgraded(incus)),
        )
        .await;
        ended.expect("the copy ends").expect_err("the client aborted");
    }
}

//! The two ways through a tunnel.

use std::future::pending;
use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::time::timeout;

/// What goes one way at once, in bytes.
const BUFFER_SIZE: usize = 32 << 10;

/// How long a client may take over what it has been sent, when Incus has broken off.
const FAREWELL: Duration = Duration::from_secs(2);

/// One end of a tunnel.
pub(super) struct End<S> {
    /// What was read of it already.
    pub(super) read_ahead: Bytes,
    /// The rest.
    pub(super) stream: S,
}

/// Hands on what comes until both ends have ended. When one breaks off, this fails, and both streams are dropped unfinished,
/// which the other end sees; but not before it has got what the one had sent.
pub(super) async fn join<C, I>(client: End<C>, incus: End<I>) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite,
    I: AsyncRead + AsyncWrite,
{
    let (from_client, to_client) = split(client.stream);
    let (from_incus, to_incus) = split(incus.stream);
    let mut up = pin!(hand_on(client.read_ahead, from_client, to_incus));
    let mut down = pin!(hand_on(incus.read_ahead, from_incus, to_client));
    tokio::select! {
        ended = &mut up => match ended {
            Err(Broken::Reading(error)) => Err(error),
            // Incus closes the streams of `exec` behind their last bytes, whatever its client says then.
            Err(Broken::Writing(_)) | Ok(()) => Ok(down.await?),
        },
        ended = &mut down => match ended {
            Err(Broken::Reading(error)) => {
                let gone = async {
                    if let Err(Broken::Writing(_)) = up.await {
                        pending::<()>().await;
                    }
                };
                // Dropped now, the stream would destroy what the kernel still holds for the client.
                let _ = timeout(FAREWELL, gone).await;
                Err(error)
            }
            Err(Broken::Writing(_)) => Ok(up.await?),
            Ok(()) => match up.await {
                Err(Broken::Reading(error)) => Err(error),
                // It has ended, and in order.
                Err(Broken::Writing(_)) | Ok(()) => Ok(()),
            },
        },
    }
}

/// Why not all went one way. Who takes nothing more may still have much to say; who breaks off has gone.
enum Broken {
    Reading(io::Error),
    Writing(io::Error),
}

impl From<Broken> for io::Error {
    fn from((Broken::Reading(error) | Broken::Writing(error)): Broken) -> Self {
        error
    }
}

async fn hand_on(
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

    use super::*;

    /// Whose connection was reset.
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

    fn end<S>(stream: S) -> End<S> {
        let read_ahead = Bytes::new();
        End { read_ahead, stream }
    }

    /// What a client gets that says a word, and ends when it has so much.
    async fn heard(mut client: DuplexStream, length: usize) -> Vec<u8> {
        let mut heard = vec![0; length];
        client.write_all(b"a word").await.expect("it is taken");
        client.read_exact(&mut heard).await.expect("so much comes");
        heard
    }

    #[tokio::test]
    async fn who_takes_nothing_more_may_say_the_rest() {
        let (client, to_gateway) = duplex(100);
        let (mut incus, from_incus) = duplex(100);
        let joined = join(end(to_gateway), end(tokio::io::join(from_incus, Reset)));
        let rest = async {
            // The word is refused by then.
            tokio::task::yield_now().await;
            incus.write_all(&[7; 100_000]).await.expect("it is taken");
            drop(incus);
        };
        let (ended, heard, ()) = tokio::join!(joined, heard(client, 100_000), rest);
        assert_eq!(heard, [7; 100_000]);
        ended.expect("Incus has ended in order");
    }

    #[tokio::test]
    async fn what_incus_said_before_it_broke_off_arrives() {
        let (client, to_gateway) = duplex(100);
        let incus = (&[7; 100_000][..]).chain(Reset);
        let joined = join(end(to_gateway), end(tokio::io::join(incus, Reset)));
        let (ended, heard) = tokio::join!(joined, heard(client, 100_000));
        assert_eq!(heard, [7; 100_000]);
        assert_eq!(ended.expect_err("it broke off").kind(), io::ErrorKind::ConnectionReset);
    }
}

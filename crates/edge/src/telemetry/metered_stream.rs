//! The client side of a tunnel, with its transferred bytes recorded.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::request_record::RequestRecord;
use crate::client_stream::ClientStream;

/// A stream that records the bytes read as received and the bytes written as sent. An I/O error ends the record as
/// aborted.
#[derive(Debug)]
pub struct MeteredStream {
    stream: ClientStream,
    record: Rc<RequestRecord>,
}

impl MeteredStream {
    /// Wraps a stream.
    pub fn new(stream: ClientStream, record: Rc<RequestRecord>) -> Self {
        Self { stream, record }
    }

    fn note<T>(&self, polled: &Poll<io::Result<T>>) {
        if let Poll::Ready(Err(_)) = polled {
            self.record.abort(self.record.client().abort_reason());
        }
    }

    fn note_sent(&self, polled: &Poll<io::Result<usize>>) {
        match polled {
            Poll::Ready(Ok(sent)) => self.record.send(*sent),
            polled => self.note(polled),
        }
    }
}

impl AsyncRead for MeteredStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.record.receive(buffer.filled().len() - before);
        self.note(&polled);
        polled
    }
}

impl AsyncWrite for MeteredStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note_sent(&polled);
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.note(&polled);
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.note(&polled);
        polled
    }
}

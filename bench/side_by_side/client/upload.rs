//! The request body of an administrator.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// A body of a given size, sent as Incus's client sends an image: without a Content-Length.
#[derive(Clone, Debug, Default)]
pub(crate) struct Upload {
    left: u64,
    piece: Bytes,
}

impl Upload {
    /// Creates a body that repeats `piece`.
    pub(crate) fn new(length: u64, piece: Bytes) -> Self {
        Self { left: length, piece }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let mut piece = self.piece.clone();
        piece.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= piece.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        match self.left {
            0 => SizeHint::with_exact(0),
            _ => SizeHint::default(),
        }
    }
}

//! The body of a file that is not in the store: the store had to make room for others.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use edge::upstream::Error;
use http_body::{Body, Frame, SizeHint};

use crate::public::stored_body::StoredBody;

/// Waits until the store has the file again, verified, and sends it then. Its size is known from the start.
pub(super) struct AwaitedBody {
    from: From,
    size: u64,
}

enum From {
    Fill(Fill),
    Store(Box<StoredBody>),
    Nowhere,
}

/// Returns nothing if the store could not be filled.
type Fill = Pin<Box<dyn Future<Output = Option<StoredBody>>>>;

impl AwaitedBody {
    /// Sends `size` bytes from the body that `fill` returns.
    pub(super) fn new(fill: impl Future<Output = Option<StoredBody>> + 'static, size: u64) -> Self {
        Self {
            from: From::Fill(Box::pin(fill)),
            size,
        }
    }
}

impl Body for AwaitedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        loop {
            match &mut self.from {
                From::Fill(fill) => match ready!(fill.as_mut().poll(cx)) {
                    Some(body) => self.from = From::Store(Box::new(body)),
                    // The size was promised. An empty body must not look complete.
                    None => {
                        self.from = From::Nowhere;
                        return Poll::Ready(Some(Err(Error::Unusable)));
                    }
                },
                From::Store(body) => return Pin::new(&mut **body).poll_frame(cx),
                From::Nowhere => return Poll::Ready(None),
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.from {
            From::Store(body) => body.size_hint(),
            From::Fill(_) | From::Nowhere => SizeHint::with_exact(self.size),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.from {
            From::Store(body) => body.is_end_stream(),
            From::Fill(_) | From::Nowhere => self.size == 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Waker;

    use super::*;

    /// The client must not take it for a complete file.
    #[test]
    fn a_failed_fill_is_an_error() {
        let mut body = pin!(AwaitedBody::new(std::future::ready(None), 5));
        assert_eq!(body.size_hint().exact(), Some(5));
        assert!(!body.is_end_stream());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(body.as_mut().poll_frame(&mut cx), Poll::Ready(Some(Err(_)))));
        assert!(matches!(body.as_mut().poll_frame(&mut cx), Poll::Ready(None)));
    }
}

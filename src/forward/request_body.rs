//! The body of an administrator's request on its way to Incus.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use edge::telemetry::request_record::RequestRecord;
use edge::upstream::yield_budget::YieldBudget;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

/// Streams what the client sends, and records how much that was and whether it broke off.
pub(super) struct MeteredRequestBody {
    incoming: Incoming,
    budget: YieldBudget,
    record: Rc<RequestRecord>,
}

impl MeteredRequestBody {
    pub(super) fn new(incoming: Incoming, record: &Rc<RequestRecord>) -> Self {
        Self {
            incoming,
            budget: YieldBudget::default(),
            record: Rc::clone(record),
        }
    }
}

impl Body for MeteredRequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self {
            incoming,
            budget,
            record,
        } = self.get_mut();
        let polled = budget.poll(cx, |cx| Pin::new(incoming).poll_frame(cx));
        match &polled {
            Poll::Ready(Some(Ok(frame))) => record.receive(frame.data_ref().map_or(0, Bytes::len)),
            Poll::Ready(Some(Err(_))) => record.abort(record.client().abort_reason()),
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

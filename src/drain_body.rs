//! What a client still sends of a request that has its answer already.
//!
//! To close at once would be to reset: a client that is still sending then has an error where its answer should be. So it is
//! heard for a while, which costs little, and need not be heard out.

use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::time::Duration;

use http::Request;
use http::header::EXPECT;
use http_body::Body;
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::worker::Worker;

/// So much is read and dropped, in bytes: a body no longer than this leaves the connection as it was.
const MAX_READ: usize = 256 << 10;
/// After so long, whoever wants to know the answer knows it.
const MAX_TIME: Duration = Duration::from_secs(5);

/// Takes care of a request whose body nobody has read.
pub fn discard_body(worker: &Worker, request: Request<Incoming>) {
    // Who expects a word before the body sends none, and to read from it would be that word.
    if !request.body().is_end_stream() && !request.headers().contains_key(EXPECT) {
        worker.spawn(drop_slowly(request.into_body()));
    }
}

async fn drop_slowly(mut body: Incoming) {
    let read = async {
        let mut left = MAX_READ;
        while let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            match left.checked_sub(frame.data_ref().map_or(0, |data| data.len())) {
                Some(less) => left = less,
                // It gets no further, but has the time to see that.
                None => pending().await,
            }
        }
    };
    // Whatever has come of it, nobody waits for the rest.
    let _ = timeout(MAX_TIME, read).await;
}

//! Drains the body of a request that has already been answered.
//!
//! Closing immediately would reset the connection: a client that is still sending would get an error instead of the response.
//! The gateway therefore reads for a limited time, which costs little.

use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::time::Duration;

use http::Request;
use http::header::EXPECT;
use http_body::Body;
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::service::Then;
use crate::shutdown::Shutdown;

/// Maximum number of bytes that are read and dropped. After a body no longer than this, the connection stays usable.
const MAX_READ: usize = 256 << 10;
/// Time after which the client has had enough opportunity to read the response.
const MAX_TIME: Duration = Duration::from_secs(5);

/// Drains a request body that no handler has read. Returns what becomes of the connection.
pub fn discard_body(shutdown: &Shutdown, request: Request<Incoming>) -> Then {
    if request.body().is_end_stream() {
        return Then::KeepOpen;
    }
    // A client that sent `Expect` waits for 100 (Continue) before it sends the body, and reading from the body would send
    // that.
    if !request.headers().contains_key(EXPECT) {
        shutdown.spawn(read_and_drop(request.into_body()));
    }
    Then::Unread
}

async fn read_and_drop(mut body: Incoming) {
    let read = async {
        let mut left = MAX_READ;
        while let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            match left.checked_sub(frame.data_ref().map_or(0, |data| data.len())) {
                Some(less) => left = less,
                // Reads no further, but leaves the client time to notice the response.
                None => pending().await,
            }
        }
    };
    // The rest is dropped, whatever the outcome.
    let _ = timeout(MAX_TIME, read).await;
}

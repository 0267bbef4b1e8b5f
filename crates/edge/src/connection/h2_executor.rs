//! Executor for the streams of an HTTP/2 connection. Each stream is a task on the connection's own worker.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use crate::admission::{MinRate, ResettableSleep};
use crate::connection::context::ConnectionContext;

/// The executor that hyper spawns streams on.
#[derive(Clone)]
pub(super) struct H2Executor(pub(super) Rc<ConnectionContext>);

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for H2Executor {
    fn execute(&self, task: F) {
        let client = Rc::clone(&self.0);
        // Dropping a stream resets it. There is no response and no log entry.
        if client.activity.is_leaving() {
            return client.activity.count_late();
        }
        tokio::task::spawn_local(async move {
            // The previous task may have sent the last response.
            if client.activity.is_leaving() {
                return;
            }
            if serve(&client, task).await == Ended::Stalled {
                // The reason applied to this stream only.
                client.aborted.set(None);
            }
        });
    }
}

#[derive(Eq, PartialEq)]
enum Ended {
    ByItself,
    Stalled,
}

async fn serve(client: &ConnectionContext, stream: impl Future) -> Ended {
    let mut task = pin!(stream);
    let mut watched = None;
    poll_fn(|cx| {
        let is_over = task.as_mut().poll(cx).is_ready();
        // Taken in any case: the rate of a response that ends at once must not be left for the next stream.
        let begun = client.activity.to_watch();
        if is_over {
            return Poll::Ready(Ended::ByItself);
        }
        if let Some(pace) = begun {
            watched = Some((pace, ResettableSleep::default()));
        }
        let Some((pace, alarm)): &mut Option<(Rc<MinRate>, ResettableSleep)> = &mut watched else {
            return Poll::Pending;
        };
        // When its task ends, the stream is reset.
        alarm.poll(pace.due(), cx).map(|()| {
            client.abort_stalled();
            Ended::Stalled
        })
    })
    .await
}

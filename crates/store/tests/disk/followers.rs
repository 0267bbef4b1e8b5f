//! Many clients of one fill.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::thread;

use bytes::Bytes;
use store::{BadExport, Claim, DownloadError, ExportHead, FillError};
use tokio::sync::mpsc;

use super::support::{MIB, Sample, assert_empty, folder, open, read, read_all, run};

/// Fifty clients on four workers, with the fill on one of them.
#[test]
fn fifty_clients_share_one_fill_and_get_the_same_bytes() {
    let folder = folder();
    let store = open(folder.path(), 4 * MIB);
    let samples = [Sample::split(3, 2_000, 900_000), Sample::unified(4, 900_000)];
    for sample in &samples {
        let client = || async {
            match sample.claim(&store).await {
                Claim::Stored(image) => (read_all(&image).await, 0),
                Claim::Filling(filling) => (read(filling.follow()).await.expect("a whole image"), 0),
                Claim::Vacant(fill) => {
                    let followed = fill.filling().follow();
                    let (body, bytes) = (sample.body(), read(followed));
                    let (filled, bytes) = tokio::join!(sample.send(fill, &body, 3_000), bytes);
                    filled.expect("a good export");
                    (bytes.expect("a whole image"), 1)
                }
            }
        };
        let worker = |clients: usize| {
            run(async {
                let clients = (0..clients).map(|_| Box::pin(client())).collect();
                let mut fills = 0;
                for (bytes, filled) in join_all(clients).await {
                    assert!(bytes == sample.export());
                    fills += filled;
                }
                fills
            })
        };
        let fills: usize = thread::scope(|scope| {
            let workers = [13, 13, 12, 12].map(|clients| scope.spawn(move || worker(clients)));
            workers.into_iter().map(|worker| worker.join().expect("no panic")).sum()
        });
        assert_eq!(fills, 1);
    }
    let counts = store.counts();
    assert_eq!((counts.filled, counts.misses), (2, 2));
    assert_eq!(counts.hits + counts.followed, 98);
}

/// Polls all of them until all are done.
async fn join_all<F: Future + Unpin>(mut futures: Vec<F>) -> Vec<F::Output> {
    let mut done: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    poll_fn(|cx| {
        for (future, done) in futures.iter_mut().zip(&mut done) {
            if done.is_none()
                && let Poll::Ready(output) = Pin::new(future).poll(cx)
            {
                *done = Some(output);
            }
        }
        match done.iter().all(Option::is_some) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[test]
fn a_follower_gets_bytes_as_they_come() {
    let folder = folder();
    let sample = Sample::split(5, 100, 5_000);
    run(async {
        let store = open(folder.path(), MIB);
        let fill = sample.vacant(&store).await;
        let filling = fill.filling();
        let (sender, mut receiver) = mpsc::channel(1);
        let content_type = sample.content_type();
        let mut writer = fill
            .begin(&ExportHead {
                content_type: &content_type,
                ..ExportHead::default()
            })
            .expect("split");
        assert_eq!(filling.head().await.expect("begun").length, None);
        let reader = async move {
            let mut download = filling.follow();
            while let Some(next) = download.next().await {
                next.expect("no error");
                sender.send(download.position()).await.expect("the test listens");
            }
        };
        let writing = async move {
            let mut position = 0;
            // Every byte but those that may belong to a delimiter reaches the follower before the next one is written.
            for chunk in sample.body().chunks(1_000) {
                writer.write(Bytes::copy_from_slice(chunk)).await.expect("good bytes");
                let written = sample.export().len().min(position + 700);
                while position < written && position < 4_500 {
                    let next = receiver.recv().await.expect("more bytes");
                    position = usize::try_from(next).expect("small");
                }
            }
            let done = tokio::join!(writer.finish(), async { while receiver.recv().await.is_some() {} });
            done.0.expect("a good export");
        };
        tokio::join!(reader, writing);
    });
}

#[test]
fn the_end_is_held_back_until_the_hash_is_checked() {
    let folder = folder();
    run(async {
        let store = open(folder.path(), MIB);
        for sample in [Sample::split(6, 300, 100_000), Sample::unified(7, 100_000)] {
            let fill = sample.vacant(&store).await;
            let filling = fill.filling();
            let mut body = sample.body();
            let last = &sample.parts[sample.parts.len() - 1][99_900..];
            let at = body.windows(100).rposition(|window| window == last);
            body[at.expect("the end of the root") + 99] ^= 1;
            let mut writer = sample.with_head(|head| fill.begin(head)).expect("a good header");
            writer.write(body.into()).await.expect("so far");

            // The follower gets everything but the end: the closing delimiter, or the last byte.
            let end = if sample.parts.len() == 2 {
                trailer_length(&sample)
            } else {
                1
            };
            let without_end = (sample.export().len() - end) as u64;
            let mut download = filling.follow();
            while download.position() < without_end {
                download.next().await.expect("more bytes").expect("no error yet");
            }
            assert_eq!(download.position(), without_end);
            let filled = writer.finish().await;
            assert!(
                matches!(filled, Err(FillError::Export(BadExport::WrongHash { .. }))),
                "{filled:?}"
            );
            let error = download.next().await.expect("an error").expect_err("a cut transfer");
            assert!(
                matches!(
                    error,
                    DownloadError::Fill(FillError::Export(BadExport::WrongHash { .. }))
                ),
                "{error:?}"
            );
            assert!(download.next().await.is_none());
            assert!(matches!(filling.done().await, Err(FillError::Export(_))));
            assert_empty(&store, folder.path()).await;
        }
        assert_eq!(store.counts().bad_exports, 2);
    });
}

fn trailer_length(sample: &Sample) -> usize {
    format!("\r\n--image-{}--\r\n", sample.fingerprint).len()
}

#[test]
fn a_fill_that_is_given_up_fails_its_followers() {
    let folder = folder();
    let sample = Sample::split(8, 300, 100_000);
    let content_type = sample.content_type();
    let head = ExportHead {
        content_type: &content_type,
        ..ExportHead::default()
    };
    run(async {
        let store = open(folder.path(), MIB);
        // Before the header, after it, and in the middle of the body.
        let fill = sample.vacant(&store).await;
        let filling = fill.filling();
        drop(fill);
        assert!(matches!(filling.head().await, Err(FillError::Abandoned)));
        assert_empty(&store, folder.path()).await;

        let writer = sample.vacant(&store).await.begin(&head).expect("an export");
        let filling = writer.filling();
        drop(writer);
        assert!(matches!(
            read(filling.follow()).await,
            Err((_, DownloadError::Fill(FillError::Abandoned)))
        ));
        assert_empty(&store, folder.path()).await;

        let mut writer = sample.vacant(&store).await.begin(&head).expect("an export");
        let filling = writer.filling();
        let half = Bytes::from(sample.body()).slice(..50_000);
        writer.write(half.clone()).await.expect("good bytes");
        {
            // A write that nobody waits for.
            let mut write = Box::pin(writer.write(half));
            let _ = poll_fn(|cx| Poll::Ready(write.as_mut().poll(cx))).await;
        }
        drop(writer);
        assert!(matches!(
            read(filling.follow()).await,
            Err((_, DownloadError::Fill(FillError::Abandoned)))
        ));
        // The write under way ends on its own thread, before the next fill on this one.
        Sample::unified(1, 10).fill(&store).await;
        store.remove(&Sample::unified(1, 10).fingerprint);
        assert_eq!(store.counts().abandoned_fills, 3);
        sample.fill(&store).await;
    });
}

#[test]
fn an_image_removed_while_it_is_filled_is_complete_but_not_kept() {
    let folder = folder();
    let sample = Sample::split(9, 300, 100_000);
    run(async {
        let store = open(folder.path(), MIB);
        let fill = sample.vacant(&store).await;
        let filling = fill.filling();
        assert!(store.remove(&sample.fingerprint));
        // Published again: a fill of its own, which the first one does not disturb.
        let again = sample.vacant(&store).await;
        let body = sample.body();
        let (filled, followed) = tokio::join!(sample.send(fill, &body, 9_000), read(filling.follow()));
        assert!(filled.expect("a good export").is_none());
        assert!(followed.expect("a whole image") == sample.export());
        assert!(matches!(sample.claim(&store).await, Claim::Filling(_)));
        drop(filling);
        drop(again);
        assert_empty(&store, folder.path()).await;
    });
}

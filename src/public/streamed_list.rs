//! An image list that is serialized while it is sent. A client that requests a long list and does not read it costs a
//! few bytes per image.

use std::sync::Arc;

use bytes::Bytes;
use edge::response::{Reply, ReplyBody};
use http::StatusCode;

use super::image::Image;
use super::selection::Matches;
use super::snapshot::Snapshot;
use crate::reply::{json_reply, sync};

/// Size of one part, in bytes.
const PART_SIZE: usize = 16 << 10;

/// Lists the matching images of a snapshot: full objects with `recursion`, else paths.
pub(super) fn reply(snapshot: Arc<Snapshot>, matches: Arc<Matches>, recursion: bool) -> Reply {
    let own = matches.size();
    let empty = sync(&[(); 0]);
    let middle = empty.iter().rposition(|byte| *byte == b']').unwrap_or_default();
    let list = Listing {
        next_part: empty[..middle].to_vec(),
        end: Some(empty[middle..].to_vec()),
        matches,
        next_place: 0,
        write: if recursion { write_object } else { write_path },
        snapshot: Arc::clone(&snapshot),
    };
    snapshot.lend(json_reply(StatusCode::OK, ReplyBody::Parts(Box::new(list))), own)
}

struct Listing {
    snapshot: Arc<Snapshot>,
    matches: Arc<Matches>,
    next_place: u32,
    write: fn(&Image, &mut Vec<u8>),
    next_part: Vec<u8>,
    end: Option<Vec<u8>>,
}

impl Iterator for Listing {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let end = self.end.take()?;
        let mut part = std::mem::take(&mut self.next_part);
        // Reserve exactly: amortized growth could allocate twice as much.
        part.reserve_exact(PART_SIZE + PART_SIZE / 4);
        while part.len() < PART_SIZE {
            let Some(place) = self.matches.at_or_after(self.next_place) else {
                // No comma follows the last image.
                if part.last() == Some(&b',') {
                    part.pop();
                }
                part.extend(end);
                return Some(part.into());
            };
            self.next_place = place + 1;
            (self.write)(self.snapshot.image_at(place), &mut part);
            part.push(b',');
        }
        // Keep the comma for the next part, in case no image follows.
        self.next_part.extend(part.pop());
        self.end = Some(end);
        Some(part.into())
    }
}

fn write_object(image: &Image, part: &mut Vec<u8>) {
    serde_json::to_writer(part, image).expect("strings serialize to JSON");
}

fn write_path(image: &Image, part: &mut Vec<u8>) {
    serde_json::to_writer(part, &image.path()).expect("a path serializes to JSON");
}

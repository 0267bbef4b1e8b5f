//! A range of the export of a complete image: bytes and stretches of files, one after the other.

use std::collections::VecDeque;
use std::ops::Range;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use crate::error::ReadError;
use crate::files::ImageFiles;
use crate::layout::Segment;
use crate::read::Reading;

#[derive(Debug)]
pub(super) struct Stored {
    files: ImageFiles,
    rest: VecDeque<Slice>,
    reading: Option<Reading>,
}

/// A piece of a segment.
#[derive(Clone, Debug)]
enum Slice {
    Bytes(Bytes),
    /// A range of the file with this index. Its start moves while it is read.
    File(usize, Range<u64>),
}

impl Stored {
    pub(super) fn new(files: ImageFiles, segments: Vec<Segment>, range: Range<u64>) -> Self {
        Self {
            files,
            rest: cut(segments, &range),
            reading: None,
        }
    }

    pub(super) fn remaining(&self) -> u64 {
        self.rest.iter().map(Slice::len).sum()
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ReadError>>> {
        let (index, range) = match self.rest.front_mut() {
            None => return Poll::Ready(None),
            Some(Slice::File(index, range)) => (*index, range),
            Some(Slice::Bytes(bytes)) => {
                let bytes = std::mem::take(bytes);
                self.rest.pop_front();
                return Poll::Ready(Some(Ok(bytes)));
            }
        };
        let start = || self.files.read(index, range.start, range.end - range.start);
        let result = ready!(self.reading.get_or_insert_with(start).poll(cx));
        self.reading = None;
        Poll::Ready(Some(match result {
            Ok(bytes) => {
                range.start += bytes.len() as u64;
                if range.is_empty() {
                    self.rest.pop_front();
                }
                let is_end = self.rest.iter().all(|slice| matches!(slice, Slice::Bytes(_)));
                match is_end {
                    true => self.files.check_unchanged().map(|()| bytes),
                    false => Ok(bytes),
                }
            }
            Err(error) => Err(self.files.failed(index, error)),
        }))
    }
}

impl Slice {
    fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(_, range) => range.end - range.start,
        }
    }
}

/// Cuts `range` out of the segments. No slice is empty.
fn cut(segments: Vec<Segment>, range: &Range<u64>) -> VecDeque<Slice> {
    let mut slices = VecDeque::with_capacity(segments.len());
    let mut start = 0;
    for segment in segments {
        let end = start + segment.len();
        // Relative to the segment.
        let (from, to) = (
            range.start.clamp(start, end) - start,
            range.end.clamp(start, end) - start,
        );
        if from < to {
            slices.push_back(match segment {
                // Both fit in memory, and so in a `usize`.
                Segment::Bytes(bytes) => Slice::Bytes(bytes.slice(from as usize..to as usize)),
                Segment::File(index, _) => Slice::File(index, from..to),
            });
        }
        start = end;
    }
    slices
}

//! Buffers for reading from files. Each thread keeps a few of them: a fresh one would have to be zeroed, which costs as much as
//! reading into it.

use std::cell::RefCell;

use bytes::Bytes;

/// Size of a buffer, and so the most that one read returns, in bytes.
pub(crate) const SIZE: usize = 64 << 10;

/// How many unused buffers a thread keeps.
const KEPT: usize = 8;

thread_local! {
    static UNUSED: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer of [`SIZE`] bytes. It goes to the thread that drops it.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Box<[u8]>,
    length: usize,
}

impl Buffer {
    pub(crate) fn take() -> Self {
        let unused = UNUSED.with_borrow_mut(Vec::pop);
        let bytes = unused.unwrap_or_else(|| vec![0; SIZE].into_boxed_slice());
        Self { bytes, length: 0 }
    }

    /// The first `length` bytes, to read into.
    pub(crate) fn space(&mut self, length: usize) -> &mut [u8] {
        &mut self.bytes[..length.min(SIZE)]
    }

    /// Makes the first `length` bytes the content.
    pub(crate) fn freeze(mut self, length: usize) -> Bytes {
        self.length = length.min(SIZE);
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        // Not while the thread ends.
        let _ = UNUSED.try_with(|unused| {
            let mut unused = unused.borrow_mut();
            if unused.len() < KEPT {
                unused.push(bytes);
            }
        });
    }
}

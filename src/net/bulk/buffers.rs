//! Buffers that a body reuses. They stay warm in the processor's cache, and each is zeroed once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;

/// How many spare buffers a body keeps. While one is filled, another is written to disk and a third has just come back.
const SPARE: usize = 3;

/// The spare buffers of one body, all of one size. A buffer comes back when the last part of it is dropped, on whatever
/// thread. It is freed if the body is gone by then, or has enough spares.
#[derive(Debug)]
pub(super) struct Buffers {
    size: usize,
    spare: Mutex<Vec<Box<[u8]>>>,
}

impl Buffers {
    pub(super) fn new(size: usize) -> Arc<Self> {
        Arc::new(Self {
            size,
            spare: Mutex::default(),
        })
    }

    /// A buffer, with arbitrary contents.
    pub(super) fn take(&self) -> Box<[u8]> {
        let spare = self.spare().pop();
        spare.unwrap_or_else(|| vec![0; self.size].into_boxed_slice())
    }

    /// The first `len` bytes of `buffer`. The buffer comes back when they are dropped.
    pub(super) fn give_out(self: &Arc<Self>, buffer: Box<[u8]>, len: usize) -> Bytes {
        // Weak: chunks may be kept for long, and must not keep the spare buffers of a finished body.
        let home = Arc::downgrade(self);
        Bytes::from_owner(Lent { buffer, len, home })
    }

    fn put(&self, buffer: Box<[u8]>) {
        let mut spare = self.spare();
        if spare.len() < SPARE {
            spare.push(buffer);
        }
    }

    fn spare(&self) -> MutexGuard<'_, Vec<Box<[u8]>>> {
        // Each change is one call on the list, so a panic between two leaves it whole.
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer given out.
struct Lent {
    buffer: Box<[u8]>,
    len: usize,
    home: Weak<Buffers>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self.buffer.get(..self.len).unwrap_or_default()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(home) = self.home.upgrade() {
            home.put(std::mem::take(&mut self.buffer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spares(buffers: &Buffers) -> usize {
        buffers.spare().len()
    }

    #[test]
    fn a_buffer_comes_back_with_the_last_part_of_it() {
        let buffers = Buffers::new(8);
        let mut buffer = buffers.take();
        buffer.copy_from_slice(b"abcdefgh");
        let place = buffer.as_ptr();
        let mut bytes = buffers.give_out(buffer, 6);
        assert_eq!(&bytes[..], b"abcdef");
        let head = bytes.split_to(2);
        drop(bytes);
        assert_eq!(spares(&buffers), 0);
        drop(head);
        assert_eq!(spares(&buffers), 1);
        let again = buffers.take();
        assert_eq!(again.as_ptr(), place);
    }

    #[test]
    fn no_more_than_a_few_wait() {
        let buffers = Buffers::new(8);
        let out: Vec<Bytes> = (0..10).map(|_| buffers.give_out(buffers.take(), 8)).collect();
        drop(out);
        assert_eq!(spares(&buffers), SPARE);
    }

    #[test]
    fn what_outlives_its_body_is_whole_and_goes_by_itself() {
        let buffers = Buffers::new(8);
        let spares = Arc::downgrade(&buffers);
        let bytes = buffers.give_out(buffers.take(), 8);
        drop(buffers);
        assert!(spares.upgrade().is_none(), "no chunk keeps them");
        assert_eq!(&bytes[..], &[0; 8]);
    }
}

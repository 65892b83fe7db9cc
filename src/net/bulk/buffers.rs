//! Memory that is read into again and again: as long as a body runs, its buffers stay warm, and none is filled with zeros
//! more than once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;

/// How many buffers wait for their next use: one is being filled, another is on its way to the disk, and a third was let
/// go by the last of its readers.
const SPARE: usize = 3;

/// The spare buffers of one body, all of the same size. What was given out comes back when the last part of it is
/// dropped, by whoever drops it; if the body is over by then, or has spares enough, it is freed.
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

    /// A buffer with anything in it.
    pub(super) fn take(&self) -> Box<[u8]> {
        let spare = self.spare().pop();
        spare.unwrap_or_else(|| vec![0; self.size].into_boxed_slice())
    }

    /// The first `len` bytes of `buffer`, which comes back afterwards.
    pub(super) fn give_out(self: &Arc<Self>, buffer: Box<[u8]>, len: usize) -> Bytes {
        let home = Arc::downgrade(self);
        Bytes::from_owner(Lent { buffer, len, home })
    }

    fn put(&self, buffer: Box<[u8]>) {
        let mut spare = self.spare();
        if spare.len() < SPARE {
            spare.push(buffer);
        }
    }

    /// A list is whole after every call made on it, also after a panic between two.
    fn spare(&self) -> MutexGuard<'_, Vec<Box<[u8]>>> {
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
        assert!(spares.upgrade().is_none(), "nobody waits for it");
        assert_eq!(&bytes[..], &[0; 8]);
    }
}

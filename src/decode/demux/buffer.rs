//! Bytes that were pushed and not yet taken.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// A queue of bytes that keeps the chunks it was given: what lies within one chunk is taken without a copy.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    chunks: VecDeque<Bytes>,
    len: usize,
    /// How many bytes were taken before the first one here.
    position: u64,
}

impl Buffer {
    pub(crate) fn push(&mut self, bytes: Bytes) {
        // An empty chunk at the front would look like the end.
        if !bytes.is_empty() {
            self.len += bytes.len();
            self.chunks.push_back(bytes);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// How many bytes were taken so far.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The first `length` bytes in one piece; `None` if there are fewer.
    pub(crate) fn peek(&mut self, length: usize) -> Option<&[u8]> {
        if length > self.len {
            return None;
        }
        self.join(length);
        match self.chunks.front() {
            Some(first) => first.get(..length),
            None => Some(&[]),
        }
    }

    /// All bytes that lie in one piece at the front: at least one, unless there are none.
    pub(crate) fn front(&self) -> &[u8] {
        self.chunks.front().map_or(&[], |chunk| chunk)
    }

    /// Takes the first `length` bytes; `None`, and nothing taken, if there are fewer.
    pub(crate) fn take(&mut self, length: usize) -> Option<Bytes> {
        if length > self.len {
            return None;
        }
        self.join(length);
        let Some(first) = self.chunks.front_mut() else {
            return Some(Bytes::new());
        };
        let taken = first.split_to(length);
        if first.is_empty() {
            self.chunks.pop_front();
        }
        self.account(length);
        Some(taken)
    }

    /// Drops up to `length` bytes; how many.
    pub(crate) fn skip(&mut self, length: u64) -> u64 {
        // What is not there is for the caller to pass over, as it comes.
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(self.len);
        let mut left = length;
        while left > 0 {
            let Some(first) = self.chunks.front_mut() else {
                break;
            };
            let part = left.min(first.len());
            drop(first.split_to(part));
            if first.is_empty() {
                self.chunks.pop_front();
            }
            left -= part;
        }
        self.account(length);
        length as u64
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self) {
        self.skip(u64::MAX);
    }

    fn account(&mut self, length: usize) {
        self.len -= length;
        self.position += length as u64;
    }

    /// Makes the first `length` bytes lie in one piece. They are there: this copies what was pushed, and no more.
    fn join(&mut self, length: usize) {
        if self.chunks.front().is_none_or(|first| first.len() >= length) {
            return;
        }
        // Only what was asked for: the rest of a long chunk stays where it is.
        let mut joined = BytesMut::with_capacity(length);
        while joined.len() < length {
            let Some(mut chunk) = self.chunks.pop_front() else {
                break;
            };
            let rest = length - joined.len();
            joined.extend_from_slice(&chunk.split_to(rest.min(chunk.len())));
            if !chunk.is_empty() {
                self.chunks.push_front(chunk);
            }
        }
        self.chunks.push_front(joined.freeze());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_order_whatever_the_chunks() {
        for size in 1..=10 {
            let all: Vec<u8> = (0..10).collect();
            let mut buffer = Buffer::default();
            for chunk in all.chunks(size) {
                buffer.push(Bytes::copy_from_slice(chunk));
            }
            assert_eq!(buffer.peek(3), Some(&all[..3]));
            assert_eq!(buffer.take(4).unwrap(), all[..4]);
            assert_eq!(buffer.skip(2), 2);
            assert_eq!((buffer.len(), buffer.position()), (4, 6));
            assert_eq!(buffer.take(5), None);
            assert_eq!(buffer.take(4).unwrap(), all[6..]);
            assert_eq!((buffer.skip(7), buffer.position()), (0, 10));
            assert_eq!(buffer.take(0).unwrap(), Bytes::new());
        }
    }

    #[test]
    fn what_lies_in_one_chunk_is_not_copied() {
        let chunk = Bytes::from(vec![7; 100]);
        let mut buffer = Buffer::default();
        buffer.push(chunk.clone());
        assert_eq!(buffer.skip(10), 10);
        assert_eq!(buffer.take(20).unwrap().as_ptr(), chunk[10..].as_ptr());
    }
}

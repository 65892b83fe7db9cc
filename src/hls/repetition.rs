//! What comes again when a resource is read anew from its start.

use bytes::Bytes;

/// How many bytes, and their checksum.
#[derive(Clone, Default)]
struct Sum {
    len: u64,
    crc: crc32fast::Hasher,
}

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        self.len += bytes.len() as u64;
        self.crc.update(bytes);
    }
}

/// What was given out of a resource, whichever input it came from. A decoder must get each byte once, and what follows it
/// must belong to it.
#[derive(Default)]
pub(super) struct Repetition {
    delivered: Sum,
    /// What of it has come again from the present input.
    again: Sum,
}

/// The bytes that came again are others.
pub(super) struct Different;

impl Repetition {
    /// How many bytes were given out.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered.len
    }

    /// The next bytes are the resource's first ones.
    pub(super) fn begin_again(&mut self) {
        self.again = Sum::default();
    }

    /// What of a chunk was not given out before.
    pub(super) fn leave_out(&mut self, mut chunk: Bytes) -> Result<Bytes, Different> {
        let missing = self.delivered.len - self.again.len;
        if missing > 0 {
            let known = chunk.split_to(chunk.len().min(usize::try_from(missing).unwrap_or(usize::MAX)));
            self.again.add(&known);
            if self.again.len == self.delivered.len
                && self.again.crc.clone().finalize() != self.delivered.crc.clone().finalize()
            {
                return Err(Different);
            }
        }
        if !chunk.is_empty() {
            self.delivered.add(&chunk);
            self.again = self.delivered.clone();
        }
        Ok(chunk)
    }

    /// The input has ended: it must not have done so before all that was given out.
    pub(super) fn end(&self) -> Result<(), Different> {
        if self.again.len < self.delivered.len {
            return Err(Different);
        }
        Ok(())
    }
}

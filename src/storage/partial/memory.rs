//! Memory pieces: bytes that are present and not in the file. They are not written yet, or there is no file, or no room for
//! it to grow.
//!
//! Pieces for which there is no room can be freed again; bytes in the file never go. So a reader must not take a hole of the
//! file for bytes whose piece was freed between its look and its read:
//!
//! ```text
//!   the writer shows      1. piece into the map       2. presence.insert
//!   the writer stores     1. bytes into the file      2. piece out of the map
//!   the writer frees      1. presence.withdraw        2. piece out of the map
//!   a reader              under the map's lock: present? and where?
//! ```
//!
//! A reader that finds a byte present under the map's lock, and no piece that has it, therefore finds it in the file, now and
//! later, unless it is damaged there. `tests/interleavings` tries every interleaving of these steps.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::PoisonError;

use bytes::Bytes;

use super::file::NamedFile;
use super::presence::Presence;
use super::state::Ahead;
use super::status::Found;
use super::sync::{AtomicBool, Mutex, MutexGuard, Ordering};
use super::verify::ReadFault;

/// Longer pieces are split, so that a window moves in steps of this many bytes.
const PIECE: usize = 64 * 1024;

#[derive(Default)]
pub(super) struct MemoryPieces {
    /// Set with the first piece. Resources that never have one are read without the lock.
    used: AtomicBool,
    /// Whether pieces were freed.
    freed: AtomicBool,
    /// By offset.
    pieces: Mutex<BTreeMap<u64, Bytes>>,
}

impl MemoryPieces {
    pub(super) fn has_freed(&self) -> bool {
        self.freed.load(Ordering::Acquire)
    }

    /// Poison is ignored: the map is whole after every call made on it, also after a panic between two.
    fn pieces(&self) -> MutexGuard<'_, BTreeMap<u64, Bytes>> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.pieces().values().map(|piece| piece.len() as u64).sum()
    }

    /// Takes copies of `bytes`, none of which is present, and then shows them.
    pub(super) fn copy_in<E>(&self, presence: &Presence<E>, offset: u64, bytes: &[u8]) {
        // Before the bytes are shown: a reader that sees them present has to see this, too.
        self.used.store(true, Ordering::Release);
        let mut at = offset;
        // Copied, as the caller's buffer may be a view into a larger one that a piece would keep alive.
        for piece in bytes.chunks(PIECE) {
            self.pieces().insert(at, Bytes::copy_from_slice(piece));
            at += piece.len() as u64;
        }
        presence.insert(offset..at);
    }

    /// Takes `pieces` as they are, which make up `range`, and then shows them. None is present.
    pub(super) fn take_in<E>(&self, presence: &Presence<E>, range: Range<u64>, pieces: &[(u64, Bytes)]) {
        self.used.store(true, Ordering::Release);
        for (at, piece) in pieces {
            self.pieces().insert(*at, piece.clone());
        }
        presence.insert(range);
    }

    /// The piece that starts at `start` is in the file, but for `rest`.
    pub(super) fn shorten(&self, start: u64, rest: (u64, Bytes)) {
        let mut pieces = self.pieces();
        // In one step under the lock: between the two a reader would look for the rest in the file.
        let stale = pieces.remove(&start);
        pieces.insert(rest.0, rest.1);
        drop(pieces);
        drop(stale);
    }

    /// The piece that starts at `start` is in the file.
    pub(super) fn written(&self, start: u64) {
        let stale = self.pieces().remove(&start);
        drop(stale);
    }

    /// Withdraws the pieces that overlap none of `keep`, and then drops them.
    pub(super) fn free<E>(&self, presence: &Presence<E>, keep: &[Range<u64>]) {
        for piece in self.outside(keep) {
            let start = piece.start;
            self.freed.store(true, Ordering::Release);
            presence.withdraw(piece);
            // Dropped after the lock is released: the destructor may be the app's.
            let stale = self.pieces().remove(&start);
            drop(stale);
        }
    }

    /// The pieces that overlap none of `keep`.
    fn outside(&self, keep: &[Range<u64>]) -> Vec<Range<u64>> {
        let kept = |piece: &Range<u64>| {
            keep.iter()
                .any(|kept| piece.start < kept.end && kept.start < piece.end)
        };
        // Collected first: withdrawing takes the lock of presence, and runs wakers.
        let pieces = self.pieces();
        let ranges = pieces
            .iter()
            .map(|(start, piece)| *start..start + piece.len() as u64);
        ranges.filter(|piece| !kept(piece)).collect()
    }

    /// Reads what was seen to lie `ahead` of `offset`: from the file as long as there never was a piece. `seen_after_loss`:
    /// the byte there was seen present after it had been lost.
    pub(super) fn read<E>(
        &self,
        presence: &Presence<E>,
        file: &NamedFile,
        ahead: Ahead,
        offset: u64,
        buffer: &mut [u8],
        seen_after_loss: bool,
    ) -> Result<Found, ReadFault> {
        match ahead {
            Ahead::Missing => Ok(Found::Missing),
            Ahead::End => Ok(Found::End),
            // A complete resource is all in the file.
            Ahead::Bytes(_) if self.used.load(Ordering::Acquire) && !presence.is_finished() => {
                self.read_either(presence, file, offset, buffer, seen_after_loss)
            }
            Ahead::Bytes(count) => {
                let count = usize::try_from(count).unwrap_or(usize::MAX).min(buffer.len());
                let part = buffer.get_mut(..count).unwrap_or_default();
                file.read_at(offset, part, seen_after_loss).map(Found::Bytes)
            }
        }
    }

    /// Reads what is present at `offset`, from a piece or from the file.
    fn read_either<E>(
        &self,
        presence: &Presence<E>,
        file: &NamedFile,
        offset: u64,
        buffer: &mut [u8],
        seen_after_loss: bool,
    ) -> Result<Found, ReadFault> {
        let pieces = self.pieces();
        // Asked again under the map's lock: what was seen before may be freed by now.
        let count = match presence.ahead(offset, buffer.len() as u64) {
            Ahead::Missing => return Ok(Found::Missing),
            Ahead::End => return Ok(Found::End),
            Ahead::Bytes(count) => count,
        };
        let here = pieces
            .range(..=offset)
            .next_back()
            .filter(|(start, piece)| offset - **start < piece.len() as u64)
            .map(|(start, piece)| (*start, piece.clone()));
        // A read from the file ends where the next piece begins: behind that the file may have a hole.
        let next = pieces
            .range(offset..)
            .next()
            .map_or(u64::MAX, |(start, _)| *start);
        // Shared bytes do not change, and what is in the file stays there: neither needs the lock to be read.
        drop(pieces);
        if let Some((start, piece)) = here {
            let rest = usize::try_from(offset - start)
                .ok()
                .and_then(|from| piece.get(from..))
                .unwrap_or_default();
            let count = rest
                .len()
                .min(buffer.len())
                .min(usize::try_from(count).unwrap_or(usize::MAX));
            if let (Some(to), Some(from)) = (buffer.get_mut(..count), rest.get(..count)) {
                to.copy_from_slice(from);
            }
            return Ok(Found::Bytes(count));
        }
        let count = usize::try_from(count.min(next - offset))
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let part = buffer.get_mut(..count).unwrap_or_default();
        file.read_at(offset, part, seen_after_loss).map(Found::Bytes)
    }
}

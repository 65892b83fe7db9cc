//! The first bytes of a part, held back until they are known to be media.
//!
//! ```text
//!   plain text   page, JSON, nothing    refused
//!                anything else          given out
//!   decrypted    a format's signature   given out
//!                anything else          held until the padding of the last block is right
//! ```
//!
//! The rule: **what was decrypted with a wrong key is never given out.** Such bytes look like nothing, and so may media of
//! an unknown format. Only the end tells the two apart.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::media::{Candidate, NotMedia};

/// The most bytes of a part that are held. A longer encrypted part of an unknown format is given out before its end proves
/// it: the memory of a player is bounded, and the longest common segments (10 s of FLAC) are shorter.
const HELD_LIMIT: usize = 4 << 20;

/// The first bytes of a part, as plaintext.
pub(super) struct FirstBytes {
    candidate: Candidate,
    is_encrypted: bool,
    is_media: bool,
    held: VecDeque<Bytes>,
    len: usize,
}

impl FirstBytes {
    pub(super) fn new(candidate: Candidate, is_encrypted: bool) -> Self {
        Self {
            candidate,
            is_encrypted,
            is_media: false,
            held: VecDeque::new(),
            len: 0,
        }
    }

    /// Takes the next bytes. Whether all that is held may be given out.
    ///
    /// # Errors
    ///
    /// [`NotMedia`].
    pub(super) fn push(&mut self, plain: Bytes) -> Result<bool, NotMedia> {
        // A decryptor gives out nothing until it has a block: nothing is judged by that.
        if plain.is_empty() {
            return Ok(false);
        }
        if !self.is_media {
            self.is_media = self.candidate.push(&plain)?;
        }
        self.len += plain.len();
        self.held.push_back(plain);
        let is_certain = !self.is_encrypted || self.candidate.is_known_format();
        Ok((self.is_media && is_certain) || self.len >= HELD_LIMIT)
    }

    /// All have come, and if they were encrypted the padding was right.
    ///
    /// # Errors
    ///
    /// [`NotMedia`].
    pub(super) fn finish(&self) -> Result<(), NotMedia> {
        if self.is_media {
            Ok(())
        } else {
            self.candidate.finish()
        }
    }

    /// What was held, in order.
    pub(super) fn into_held(self) -> VecDeque<Bytes> {
        self.held
    }
}

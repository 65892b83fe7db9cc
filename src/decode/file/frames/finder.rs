//! Frames as they follow each other in a file.

use crate::decode::{
    DecodeError,
    demux::{
        buffer::Buffer,
        frames::{Frame, Frames, Kind},
    },
    file::input::{CHUNK, Input},
};

/// Frames from a place in the file on.
pub(super) struct Finder {
    pub(super) kind: Kind,
    frames: Frames,
    buffer: Buffer,
    /// Where the buffer's first byte was in the file, and the next one to read is.
    base: u64,
    read_to: u64,
    all: bool,
}

impl Finder {
    pub(super) fn new(kind: Kind, place: u64) -> Self {
        Self {
            kind,
            frames: Frames::new(kind),
            buffer: Buffer::default(),
            base: place,
            read_to: place,
            all: false,
        }
    }

    /// The next frame and where it begins in the file.
    pub(super) fn next(&mut self, input: &Input) -> Result<Option<Frame>, DecodeError> {
        loop {
            if let Some(mut frame) = self.frames.next(&mut self.buffer, self.all) {
                frame.position += self.base;
                return Ok(Some(frame));
            }
            if self.all {
                return Ok(None);
            }
            let more = input.some_at(self.read_to, CHUNK)?;
            self.read_to += more.len() as u64;
            self.all = more.is_empty();
            self.buffer.push(more);
        }
    }
}

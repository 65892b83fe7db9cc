//! Tracks that are made up, for what no file can be made to do on command.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::decode::{
    Block, ChannelLayout, Codec, Container, DecodeError, DecodeEvent, DecodeInterrupter, Decoder, Format,
    Spec, Trim,
    convert::Target,
    source::{Interrupt, PcmSource, Step, frames_at},
};

/// How long a track is.
pub(super) const FRAMES: u64 = 1000;

const SPEC: Spec = Spec {
    sample_rate: 8000,
    channels: ChannelLayout::MONO,
};

/// A track of one block, whose frames are all the same. Where it ends, it interrupts.
struct Tone {
    frame: f32,
    next: u64,
    is_told: bool,
    interrupter: Arc<OnceLock<DecodeInterrupter>>,
}

pub(super) fn tone(frame: f32) -> Decoder {
    tone_with(frame, Arc::default())
}

pub(super) fn tone_with(frame: f32, interrupter: Arc<OnceLock<DecodeInterrupter>>) -> Decoder {
    let tone = Tone {
        frame,
        next: 0,
        is_told: false,
        interrupter,
    };
    Decoder::with_source(Box::new(tone), Target::default()).unwrap()
}

impl PcmSource for Tone {
    fn next(&mut self, block: &mut Block) -> Result<Step, DecodeError> {
        if !std::mem::replace(&mut self.is_told, true) {
            let format = Format {
                codec: Codec::Pcm,
                container: Container::Wav,
                spec: SPEC,
                bits_per_sample: None,
                bit_rate: None,
                trim: Trim::default(),
            };
            return Ok(Step::Event(DecodeEvent::FormatChanged(format)));
        }
        if self.next == FRAMES {
            // As a seek does that comes between two tracks: no timing brings that about.
            if let Some(interrupter) = self.interrupter.get() {
                interrupter.interrupt();
            }
            return Ok(Step::Ended);
        }
        let frames = usize::try_from(FRAMES - self.next).unwrap();
        (block.spec, block.position) = (SPEC, self.next);
        block.samples.clear();
        block.samples.resize(frames, self.frame);
        self.next = FRAMES;
        Ok(Step::Block)
    }

    fn seek(&mut self, time: Duration) -> Result<(), DecodeError> {
        self.next = frames_at(time, SPEC.sample_rate).min(FRAMES);
        Ok(())
    }

    fn duration(&self) -> Option<Duration> {
        None
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn interrupt(&self) -> Interrupt {
        Arc::new(|| {})
    }
}

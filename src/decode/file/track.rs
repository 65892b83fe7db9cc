//! A file as PCM: packets decoded, placed, trimmed.
//!
//! ```text
//!   raw frames   0          trim.start                     end
//!                ├─ priming ─┼──────── sound ──────────────┼─ padding ─┤
//!   position                 0 ────────────────────────▶
//!
//!   seek                          │◀ pre-roll ▶│
//!                              decoded and     the next block
//!                                dropped         begins here
//! ```

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use super::reader::{Next, PacketReader, Placed};
use crate::decode::{
    DecodeError, DecodeEvent, Format, Tags,
    codec::{self, PacketDecoder, PacketError},
    packet::TrackInfo,
    source::{Block, Interrupt, PcmSource, Step, frames_at, time_of},
};

/// The most frames of silence in one block.
const SILENCE: u64 = 4096;

/// A file as PCM.
pub(crate) struct FileTrack {
    reader: Box<dyn PacketReader>,
    decoder: Box<dyn PacketDecoder>,
    /// What the decoder was made for.
    info: TrackInfo,
    interrupt: Interrupt,
    format: Format,
    tags: Arc<Tags>,
    events: VecDeque<DecodeEvent>,
    /// The position at which the current part of a chain begins, in frames of its own sample rate.
    base: u64,
    /// The next raw frame to give out.
    next: u64,
    /// Silence to give out before `decoded`, in frames.
    silence: u64,
    /// Sound that waits behind silence.
    waiting: Vec<f32>,
    /// A packet of this part was given out: whatever is missing from now on was lost.
    begun: bool,
    /// The reader does not stand where `next` is. It has to be brought there first.
    lost: bool,
    ended: bool,
    decoded: Vec<f32>,
}

impl FileTrack {
    /// A track whose first packets `reader` is about to give.
    ///
    /// # Errors
    ///
    /// `UnsupportedCodec`, `Malformed`.
    pub(super) fn new(
        reader: Box<dyn PacketReader>,
        tags: Tags,
        interrupt: Interrupt,
    ) -> Result<Self, DecodeError> {
        // Before any packet is read: what is not decoded is refused by its header.
        let decoder = codec::open(&reader.info().codec)?;
        let format = format(reader.as_ref(), decoder.as_ref());
        let mut new = Self {
            next: format.trim.start,
            events: VecDeque::new(),
            tags: Arc::new(tags),
            info: reader.info().clone(),
            reader,
            decoder,
            interrupt,
            format,
            base: 0,
            silence: 0,
            waiting: Vec::new(),
            begun: false,
            lost: false,
            ended: false,
            decoded: Vec::new(),
        };
        new.tell_format();
        Ok(new)
    }

    /// The first raw frame that is padding.
    fn end(&self) -> Option<u64> {
        Some(
            self.reader
                .total()?
                .saturating_sub(self.format.trim.end.unwrap_or(0)),
        )
    }

    fn position(&self) -> u64 {
        self.base + self.next.saturating_sub(self.format.trim.start)
    }

    fn channels(&self) -> usize {
        usize::from(self.format.spec.channels.count())
    }

    fn step(&mut self, block: &mut Block) -> Result<Step, DecodeError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Step::Event(event));
            }
            if self.silence > 0 {
                let frames = self.silence.min(SILENCE);
                self.silence -= frames;
                block.samples.clear();
                let samples = usize::try_from(frames).unwrap_or(0) * self.channels();
                block.samples.resize(samples, 0.0);
                return Ok(self.give(block, frames));
            }
            if !self.waiting.is_empty() {
                mem::swap(&mut block.samples, &mut self.waiting);
                self.waiting.clear();
                let frames = block.samples.len() / self.channels().max(1);
                return Ok(self.give(block, frames as u64));
            }
            // The end of one part of a chain is for its reader to pass.
            if self.ended || (!self.reader.is_chained() && self.end().is_some_and(|end| self.next >= end)) {
                self.ended = true;
                return Ok(Step::Ended);
            }
            match self.reader.next()? {
                Next::End => self.ended = true,
                Next::Chained => {
                    let (position, rate) = (self.position(), self.format.spec.sample_rate);
                    self.change()?;
                    self.base = rescaled(position, rate, self.format.spec.sample_rate);
                }
                Next::Packet(placed) => {
                    if let Some(frames) = self.decode(&placed)? {
                        mem::swap(&mut block.samples, &mut self.decoded);
                        return Ok(self.give(block, frames));
                    }
                }
            }
        }
    }

    /// Says of a block that was filled where it is.
    fn give(&mut self, block: &mut Block, frames: u64) -> Step {
        block.spec = self.format.spec;
        block.position = self.position();
        self.next += frames;
        Step::Block
    }

    /// Another part of a chain is read.
    fn change(&mut self) -> Result<(), DecodeError> {
        self.decoder = codec::open(&self.reader.info().codec)?;
        self.info = self.reader.info().clone();
        self.format = format(self.reader.as_ref(), self.decoder.as_ref());
        self.next = self.format.trim.start;
        self.begun = false;
        self.tags = Arc::new(self.reader.tags());
        self.tell_format();
        Ok(())
    }

    fn tell_format(&mut self) {
        self.events
            .push_back(DecodeEvent::FormatChanged(self.format.clone()));
        if !self.tags.is_empty() {
            self.events
                .push_back(DecodeEvent::TagsChanged(Arc::clone(&self.tags)));
        }
    }

    /// Decodes a packet. Its frames that are to be heard now are in `decoded`; how many, unless something is to be told or
    /// heard before them, or there are none.
    fn decode(&mut self, placed: &Placed) -> Result<Option<u64>, DecodeError> {
        self.decoded.clear();
        let decoded = match self.decoder.decode(&placed.packet, &mut self.decoded) {
            Ok(frames) => Some(frames as u64),
            // The next packet may be whole: what is lost is this one's time.
            Err(PacketError::Damaged(why)) => {
                log::debug!("the packet at frame {} is damaged: {why}", placed.start);
                None
            }
            Err(PacketError::Fatal(error)) => return Err(error),
        };
        // The decoder knows better than the container how many frames it made. Of a packet that it refused only the
        // container knows.
        let frames = decoded.unwrap_or_else(|| u64::from(placed.packet.frames));
        let start = placed.start + placed.skip_start.min(frames);
        let end = placed.start + frames.saturating_sub(placed.skip_end);
        let end = self.end().map_or(end, |last| end.min(last));
        // What comes before `next` is pre-roll: neither heard nor told.
        let from = start.max(self.next);
        // All of it priming, pre-roll or padding.
        if from >= end {
            return Ok(None);
        }
        if !mem::replace(&mut self.begun, true) {
            self.next = from;
        }
        if decoded.is_none() {
            self.lose(end - self.next);
            return Ok(None);
        }
        // The first packet may say more than the header: HE-AAC, or another number of channels.
        let changed = self.decoder.spec();
        if changed != self.format.spec {
            self.format.spec = changed;
            self.tell_format();
        }
        let channels = self.channels();
        let at = |frame: u64| {
            usize::try_from(frame - placed.start)
                .unwrap_or(usize::MAX)
                .saturating_mul(channels)
        };
        // The end first: places count from the packet's start.
        self.decoded.truncate(at(end));
        self.decoded.drain(..at(from).min(self.decoded.len()));
        // What is missing between two packets was lost in the file. Silence takes its place before the sound goes out, or
        // all that follows would be early.
        if from > self.next {
            self.lose(from - self.next);
        }
        if self.events.is_empty() && self.silence == 0 {
            return Ok(Some(end - from));
        }
        mem::swap(&mut self.waiting, &mut self.decoded);
        Ok(None)
    }

    /// From `next` on so many frames are lost. Silence stands in their place, so that what follows keeps its time.
    fn lose(&mut self, frames: u64) {
        let at = self.position();
        self.events.push_back(DecodeEvent::Damaged { at, frames });
        self.silence = frames;
    }

    /// Brings the reader to a place from which the decoder gets to `next`.
    fn find_next(&mut self) -> Result<(), DecodeError> {
        self.lost = true;
        let pre_roll = u64::from(self.decoder.pre_roll());
        self.reader.seek(self.next.saturating_sub(pre_roll))?;
        // After the reader has arrived: should it be interrupted, the next call begins this again.
        self.decoder.reset();
        self.lost = false;
        Ok(())
    }
}

impl PcmSource for FileTrack {
    fn next(&mut self, block: &mut Block) -> Result<Step, DecodeError> {
        if self.lost {
            self.find_next()?;
        }
        let step = self.step(block);
        // Symphonia's readers lose what they had read of a packet.
        if matches!(step, Err(DecodeError::Interrupted)) && !self.reader.resumes() {
            self.lost = true;
        }
        step
    }

    fn is_seekable(&self) -> bool {
        self.reader.is_seekable()
    }

    fn seek(&mut self, time: Duration) -> Result<(), DecodeError> {
        if !self.is_seekable() {
            return Err(DecodeError::SeekUnsupported);
        }
        // Before anything is changed: if that is interrupted, the place that is heard stays.
        let link = self.reader.link_at(time)?;
        self.silence = 0;
        self.waiting.clear();
        // What was to be told of other places is not told any more.
        self.events
            .retain(|event| matches!(event, DecodeEvent::FormatChanged(_) | DecodeEvent::TagsChanged(_)));
        // Another part of a chain, maybe of another codec; entered now, or by a seek that was interrupted behind that.
        if *self.reader.info() != self.info {
            self.change()?;
        }
        let rate = self.format.spec.sample_rate;
        self.base = frames_at(link, rate);
        self.next = self
            .format
            .trim
            .start
            .saturating_add(frames_at(time, rate).saturating_sub(self.base));
        self.begun = true;
        self.ended = false;
        let ends = if self.reader.is_chained() {
            self.duration().is_some_and(|duration| time >= duration)
        } else {
            self.end().is_some_and(|end| self.next >= end)
        };
        if ends {
            self.next = self.end().unwrap_or(self.next);
            // Whatever the reader stands at, it is read no more.
            self.ended = true;
            return Ok(());
        }
        self.find_next()
    }

    fn tags(&self) -> Arc<Tags> {
        Arc::clone(&self.tags)
    }

    fn duration(&self) -> Option<Duration> {
        self.reader.duration().or_else(|| {
            let frames = self.end()?.saturating_sub(self.format.trim.start);
            Some(time_of(frames, self.format.spec.sample_rate))
        })
    }

    fn interrupt(&self) -> Interrupt {
        Interrupt::clone(&self.interrupt)
    }
}

fn format(reader: &dyn PacketReader, decoder: &dyn PacketDecoder) -> Format {
    let info = reader.info();
    Format {
        codec: info.codec.codec,
        container: info.container,
        spec: decoder.spec(),
        bits_per_sample: info.codec.bits_per_sample,
        bit_rate: reader.bit_rate(),
        trim: info.trim,
    }
}

/// The same instant in frames of another rate.
pub(super) fn rescaled(frames: u64, from: u32, to: u32) -> u64 {
    let from = u128::from(from.max(1));
    u64::try_from((u128::from(frames) * u128::from(to) + from / 2) / from).unwrap_or(u64::MAX)
}

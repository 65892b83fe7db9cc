//! One track after another as blocks of PCM, in the output's sample rate and channels.
//!
//! ```text
//!   tracks   [ heard │ … │ decoding │ … │ queued ]
//!                              │ steps: blocks, events, the end
//!                          converter
//!                              │
//!   out      [ frames ─── mark ─── frames ─── mark ─ … ]   ──▶ next_block: up to the next mark
//! ```
//!
//! A mark is what happens between two output frames: an event, another spec, the next track. A resampler holds some frames
//! back, so marks are placed by the output frame that the next input frame will become, and passed when that comes.

mod fill;
mod interrupt;
mod track;

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::ops::Range;
use std::sync::{Arc, Weak};
use std::time::Duration;

pub use interrupt::DecodeInterrupter;
pub(super) use track::{Arrived, buffered};

use self::track::Track;
use super::{
    Block, DecodeError, DecodeEvent, Format, Spec, Tags,
    convert::{Converter, Target},
    source::{PcmSource, frames_at, time_of},
};

/// The most events kept for an app that does not ask for them.
const EVENTS: usize = 256;

/// Decodes a track, and those [queued](Self::then) behind it, on the thread that asks.
///
/// A call may block: it reads. For an audio callback there is [`Output`](super::Output), which decodes on a thread of its own.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use kithara::decode::{DecodeParams, Decoder};
///
/// # let file = std::fs::File::open("tests/media/files/piece.flac")?;
/// let mut track = Decoder::from_reader(file, &DecodeParams::new())?;
/// let mut loudest = 0.0_f32;
/// while let Some(block) = track.next_block()? {
///     loudest = block.samples().iter().fold(loudest, |most, sample| most.max(sample.abs()));
/// }
/// assert!(loudest > 0.1);
/// # Ok(())
/// # }
/// ```
pub struct Decoder {
    target: Target,
    tracks: VecDeque<Track>,
    /// Which of them is heard, and which is decoded. Those before are kept only for an output, whose ring may still hold them.
    heard: usize,
    decoding: usize,
    keeps_tracks: bool,
    converter: Converter,
    raw: Block,
    /// The position of the next block, if it follows the last one.
    expected: Option<u64>,
    /// Output frames not given out yet, from `given_out` on.
    out: Vec<f32>,
    given_out: usize,
    block: Block,
    marks: VecDeque<(u64, Mark)>,
    /// Output frames are counted over all tracks, from the last seek on: those given out, those made, and those made before
    /// the converter last started.
    emitted: u64,
    made: u64,
    started: u64,
    /// The output frame `0` has position `1` in the track that is heard.
    anchor: (u64, u64),
    spec: Spec,
    format: Format,
    tags: Arc<Tags>,
    /// After a seek: what is before this position is dropped.
    skip_to: Option<u64>,
    ended: bool,
    events: VecDeque<DecodeEvent>,
    interrupter: DecodeInterrupter,
}

/// What happens between two output frames.
enum Mark {
    Event(DecodeEvent),
    /// From here on the output is like this.
    Spec(Spec),
    /// The next output frame has this position.
    Position(u64),
    /// The next track begins.
    Track,
    /// The last track is over.
    End,
}

impl Decoder {
    /// Decodes ahead to the first block, so that what cannot be decoded is known now.
    pub(super) fn with_source(source: Box<dyn PcmSource>, target: Target) -> Result<Self, DecodeError> {
        let track = Track::open(source)?;
        let format = track.format.clone();
        let tags = track.source.tags();
        let converter = Converter::new(target, format.spec)?;
        Ok(Self {
            target,
            spec: converter.spec(),
            interrupter: DecodeInterrupter::new(track.source.interrupt()),
            tracks: VecDeque::from([track]),
            heard: 0,
            decoding: 0,
            keeps_tracks: false,
            converter,
            raw: Block::empty(),
            expected: None,
            out: Vec::new(),
            given_out: 0,
            block: Block::empty(),
            marks: VecDeque::new(),
            emitted: 0,
            made: 0,
            started: 0,
            anchor: (0, 0),
            format,
            tags,
            skip_to: None,
            ended: false,
            events: VecDeque::new(),
        })
    }

    /// The next frames; `None` at the end of the last track. A track [queued](Self::then) after that goes on.
    ///
    /// What happens between two blocks is told by [`next_event`](Self::next_event) before the block it concerns is returned.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Interrupted`], after which the next call goes on; [`DecodeError::Io`], [`DecodeError::Hls`],
    /// [`DecodeError::Malformed`] and [`DecodeError::UnsupportedCodec`], after which a [seek](Self::seek) may.
    pub fn next_block(&mut self) -> Result<Option<&Block>, DecodeError> {
        loop {
            // Before the frames behind them: an event is told before the block it concerns, and a block is of the spec and at the
            // position that its marks say.
            self.pass_marks();
            // A block ends at the next mark: its frames are of one spec, and one follows the other.
            let ready = self.made - self.emitted;
            let until = self
                .marks
                .front()
                .map_or(ready, |(at, _)| ready.min(at - self.emitted));
            if until == 0 {
                if self.ended {
                    return Ok(None);
                }
                self.pull()?;
                continue;
            }
            // What a resampler needed to be filled, before the place that was sought.
            let early = self
                .skip_to
                .map_or(0, |to| to.saturating_sub(self.next_position()));
            if early > 0 {
                self.drop_frames(early.min(until));
                continue;
            }
            self.skip_to = None;
            self.give(until);
            return Ok(Some(&self.block));
        }
    }

    /// Goes to `time` of the track that is heard: the next block begins with the frame nearest to it. At or past the end, the
    /// track is over, and the next one of the queue begins.
    ///
    /// A seek needs to know which frame stands where. MP3 of a variable bit rate, ADTS and MPEG-TS do not say it, or not
    /// exactly: there, everything between the farthest place that was read and the one sought is read once. Over a network
    /// that is a download of as much.
    ///
    /// # Errors
    ///
    /// [`DecodeError::SeekUnsupported`] for what can only be read in order: it goes on as before. Else as
    /// [`next_block`](Self::next_block); after an error another seek may help.
    pub fn seek(&mut self, time: Duration) -> Result<(), DecodeError> {
        let Some(heard) = self.tracks.get(self.heard) else {
            return Err(DecodeError::SeekUnsupported);
        };
        if !heard.source.is_seekable() {
            return Err(DecodeError::SeekUnsupported);
        }
        // Where in a chain the place is, and so its sample rate, is known only when the source is there. The rate of what was
        // heard last serves: should it be another one, a change of format is told, and the place is still right.
        let from = heard.format.spec;
        self.format = heard.format.clone();
        self.tags = heard.source.tags();
        if self.converter.from() != from {
            self.converter = Converter::new(self.target, from)?;
        }
        // Frames of the place that is left are in its filter.
        self.converter.reset();
        let rate = self.converter.spec().sample_rate;
        let frame = frames_at(time, rate);
        let (start, _) = self.converter.start_for(frame);
        // Where the rate stays, frames of the track are frames of the output.
        let exact = !self.converter.resamples();
        // Before the source is sought: if that fails, nothing of the place that was left may be given out.
        self.leave();
        self.enter(self.heard);
        self.anchor = (0, frame);
        // A resampler gives what an uninterrupted stream would only once its filter is full. What it gives before is dropped.
        self.skip_to = (!exact).then_some(frame);
        self.mark_spec();
        // An interrupt that came before `enter` was told to the source that is left. This one would wait on.
        self.interrupter.check()?;
        let Some(heard) = self.tracks.get_mut(self.heard) else {
            return Ok(());
        };
        heard.forget();
        heard.source.seek(if exact {
            time
        } else {
            time_of(start, from.sample_rate)
        })
    }

    /// Queues `next`: its first frame follows the last one of what is queued before it, without a frame between them. It is
    /// heard in the sample rate and channels that this decoder was opened with; if those are the tracks' own, a change is
    /// told.
    ///
    /// `next` was decoded ahead when it was opened. It is to be one that no block was asked of yet.
    pub fn then(&mut self, next: Self) {
        // Its queue as well: a whole album may be handed over in one call.
        self.tracks.extend(next.tracks);
        // The end was found already, and may have been told: the queue goes on behind it.
        if mem::take(&mut self.ended) {
            // Not told yet, it is no longer true.
            self.marks.retain(|(_, mark)| !matches!(mark, Mark::End));
            self.begin_next();
        }
    }

    /// Leaves the track that is heard for the next one of the queue; whether there is one.
    ///
    /// # Errors
    ///
    /// As [`next_block`](Self::next_block).
    pub fn skip(&mut self) -> Result<bool, DecodeError> {
        if self.tracks.len() < self.heard + 2 {
            return Ok(false);
        }
        self.leave();
        self.enter(self.heard + 1);
        self.mark_spec();
        self.marks.push_back((0, Mark::Track));
        self.pass_marks();
        Ok(true)
    }

    /// The next frame is the converter's first. The mark that told of its spec may have gone with the frames before it.
    fn mark_spec(&mut self) {
        if self.spec != self.converter.spec() {
            self.marks.push_back((0, Mark::Spec(self.converter.spec())));
        }
    }

    /// Drops what was made and not given out.
    fn leave(&mut self) {
        // Tracks behind the one that is heard may have been begun: their sources stand somewhere inside.
        for track in self.tracks.iter_mut().take(self.decoding + 1).skip(self.heard) {
            track.used = true;
        }
        self.converter.reset();
        self.out.clear();
        self.given_out = 0;
        self.marks.clear();
        (self.emitted, self.made, self.started) = (0, 0, 0);
        (self.expected, self.skip_to, self.ended) = (None, None, false);
    }

    /// What happened since the last call, in order: it concerns what comes after the last block but one, and before the last
    /// one. The last 256 events are kept.
    pub fn next_event(&mut self) -> Option<DecodeEvent> {
        self.events.pop_front()
    }

    /// When the next block is heard, counted from the start of its track.
    pub fn position(&self) -> Duration {
        let position = self.skip_to.unwrap_or_else(|| self.next_position());
        time_of(position, self.spec.sample_rate)
    }

    /// How long the track plays, priming and padding left out, where that is known.
    pub fn duration(&self) -> Option<Duration> {
        self.tracks
            .get(self.heard)
            .and_then(|track| track.source.duration())
    }

    /// Which parts of the track are there by now, so that they can be decoded without waiting for the network. Places in a
    /// file are taken for places in time, as if every second took as many bytes: good for a progress bar. Empty where it is
    /// not known: for HLS, and where the duration is unknown.
    pub fn buffered(&self) -> Vec<Range<Duration>> {
        let arrived = self
            .tracks
            .get(self.heard)
            .and_then(|track| track.arrived.clone());
        buffered(arrived.as_deref(), self.duration())
    }

    /// What [`buffered`](Self::buffered) asks. It ends with the track.
    pub(super) fn arrived(&self) -> Option<Weak<Arrived>> {
        let track = self.tracks.get(self.heard)?;
        track.arrived.as_ref().map(Arc::downgrade)
    }

    pub(super) fn set_arrived(&mut self, arrived: Arc<Arrived>) {
        if let Some(track) = self.tracks.front_mut() {
            track.arrived = Some(arrived);
        }
    }

    /// Sample rate and channels of the blocks.
    pub fn spec(&self) -> Spec {
        self.spec
    }

    /// What the track is: codec, container, its own sample rate and channels, and what is left out of it.
    pub fn format(&self) -> &Format {
        &self.format
    }

    /// What the track says of itself: titles, numbers, cover, loudness, chapters.
    pub fn tags(&self) -> &Arc<Tags> {
        &self.tags
    }

    /// Whether [`seek`](Self::seek) is worth calling.
    pub fn is_seekable(&self) -> bool {
        self.tracks
            .get(self.heard)
            .is_some_and(|track| track.source.is_seekable())
    }

    /// Whether sample rate and channels are the same for all tracks.
    pub(super) fn is_fixed(&self) -> bool {
        self.target.sample_rate.is_some() && self.target.channels.is_some()
    }

    /// Tracks are kept until they are [left](Self::leave_track).
    pub(super) fn keep_tracks(&mut self) {
        self.keeps_tracks = true;
    }

    /// The first track is heard no more.
    pub(super) fn leave_track(&mut self) {
        if self.heard > 0 {
            self.heard -= 1;
            self.decoding -= 1;
            self.tracks.pop_front();
        }
    }

    /// The track so many before the one that was given out last is heard still.
    pub(super) fn return_tracks(&mut self, tracks: usize) {
        self.heard = self.heard.saturating_sub(tracks);
    }

    /// Takes a [return](Self::return_tracks) back.
    pub(super) fn leave_again(&mut self, tracks: usize) {
        self.heard += tracks;
    }

    /// A handle that ends a wait for bytes from another thread.
    pub fn interrupter(&self) -> DecodeInterrupter {
        self.interrupter.clone()
    }

    fn next_position(&self) -> u64 {
        self.anchor.1 + (self.emitted - self.anchor.0)
    }

    fn channels(&self) -> usize {
        usize::from(self.spec.channels.count()).max(1)
    }

    fn drop_frames(&mut self, frames: u64) {
        self.emitted += frames;
        self.given_out += usize::try_from(frames).unwrap_or(0) * self.channels();
    }

    /// Puts the next frames into the block.
    fn give(&mut self, frames: u64) {
        self.block.spec = self.spec;
        self.block.position = self.next_position();
        // A block may be a part of what was made: a mark stands within it.
        let samples = usize::try_from(frames).unwrap_or(0) * self.channels();
        let end = self.given_out + samples;
        if self.given_out == 0 && end == self.out.len() {
            // Nearly always. The buffers change places, and both keep their allocation.
            mem::swap(&mut self.block.samples, &mut self.out);
            self.out.clear();
        } else {
            self.block.samples.clear();
            let given = self.out.get(self.given_out..end).unwrap_or_default();
            self.block.samples.extend_from_slice(given);
            self.given_out = end;
            if end == self.out.len() {
                self.out.clear();
                self.given_out = 0;
            }
        }
        self.emitted += frames;
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder")
            .field("format", &self.format)
            .field("spec", &self.spec)
            .field("position", &self.position())
            .field("queued", &self.tracks.len().saturating_sub(1))
            .finish_non_exhaustive()
    }
}

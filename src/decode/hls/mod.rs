//! HLS as one piece of sound: segments of any container, Variant Stream and codec, joined to the frame.
//!
//! ```text
//!   feed ── messages ──▶ demuxer ── packets ──▶ run ── frames ──▶ out
//!              │          renewed at a            renewed at a discontinuity, another
//!              │          discontinuity           codec, another Variant Stream
//!              └─ where segments begin ──▶ time line: which frame a timestamp is
//! ```
//!
//! A decoder is kept while packets follow each other: a new one damages the first frames of a transform codec. Where two runs of
//! the same sound overlap the second one is decoded from before the join and faded in; where they only touch, both stand as is.

mod control;
mod feed;
mod run;
mod sniff;
mod start;
mod timeline;

#[cfg(test)]
mod joins;
#[cfg(test)]
mod script;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, time::Duration};

use bytes::{Bytes, BytesMut};

use self::{
    control::{Segment, Upcoming, Variant},
    feed::{Feed, StreamFeed},
    run::{Out, Outbox, Run},
    timeline::{Anchor, Instant, Timeline},
};
use super::{
    Block, ChannelLayout, DecodeError, DecodeEvent, Format, Spec,
    codec::PacketDecoder,
    demux,
    packet::{CodecParams, Demux, Packet, TimedTag},
    source::{Interrupt, PcmSource, Step, frames_at},
};
use crate::{hls::HlsSource, stream::StreamParams};

/// Packets that are looked at before the first one is decoded: HE-AAC may not be announced.
const PROBED: usize = 4;
/// How often a seek begins further back, because what came was not early enough.
const SEEKS: u32 = 4;
/// Timed tags that may wait for the frames they belong to.
const MAX_TAGS: usize = 64;
/// Frames of one block of silence.
const SILENT_FRAMES: u64 = 4096;

/// An HLS track as PCM.
pub(crate) struct HlsPcm {
    feed: Box<dyn Feed>,
    /// Bytes of which the container is not known yet.
    unknown: BytesMut,
    demux: Option<Box<dyn Demux>>,
    /// What has been received, and waits for the demuxer to be empty.
    upcoming: Option<Upcoming>,
    segment: Option<Segment>,
    variant: Option<Variant>,
    /// A Variant Stream that the next run tells of.
    untold: Option<Variant>,
    /// The next packet begins a line of timestamps of its own.
    discontinuity: bool,
    /// Another edition begins: its timestamps have nothing to do with those before, and its playlist says where it lies.
    edition: bool,
    /// Segments left out on purpose since the last packet.
    gap: Duration,
    /// Packets that are looked at before a run begins.
    probe: Vec<Packet>,
    run: Option<Run>,
    /// A run that another Variant Stream or codec ends, until that one begins.
    old: Option<Run>,
    /// A decoder to be used again.
    idle: Option<(CodecParams, Box<dyn PacketDecoder>)>,
    /// Decoders for what the track will probably be; `None` before anything was asked for.
    likely: Option<Vec<(CodecParams, Box<dyn PacketDecoder>)>>,
    timeline: Timeline,
    /// The place behind the last frame of the last run, and its sample rate. `None` after a seek.
    position: Option<(i64, u32)>,
    target: Option<Target>,
    silence: Option<Silence>,
    /// The packets behind that silence.
    waiting: VecDeque<Packet>,
    tags: Vec<TimedTag>,
    out: Outbox,
    format: Option<Format>,
    duration: Option<Duration>,
    failed: Option<DecodeError>,
    ended: bool,
}

/// Where a seek goes to.
#[derive(Debug, Clone, Copy)]
struct Target {
    time: Duration,
    /// What the source was asked for: the pre-roll before it.
    asked: Duration,
    tries: u32,
}

#[derive(Debug, Clone, Copy)]
struct Silence {
    at: u64,
    left: u64,
    spec: Spec,
}

impl HlsPcm {
    /// Plays `source` from its start. It is read ahead, by a task of its own, from now on.
    pub(crate) fn new(source: HlsSource, params: StreamParams) -> Self {
        Self::with_feed(Box::new(StreamFeed::new(source, params)))
    }

    fn with_feed(feed: Box<dyn Feed>) -> Self {
        Self {
            feed,
            unknown: BytesMut::new(),
            demux: None,
            upcoming: None,
            segment: None,
            variant: None,
            untold: None,
            discontinuity: false,
            edition: false,
            gap: Duration::ZERO,
            probe: Vec::new(),
            run: None,
            old: None,
            idle: None,
            likely: None,
            timeline: Timeline::default(),
            position: None,
            target: None,
            silence: None,
            waiting: VecDeque::new(),
            tags: Vec::new(),
            out: Outbox::default(),
            format: None,
            duration: None,
            failed: None,
            ended: false,
        }
    }

    /// One packet, or one message.
    fn advance(&mut self) -> Result<(), DecodeError> {
        // Packets held back, then those that the demuxer has, and only then the message behind them: one that overtook packets
        // would end their run before they were heard.
        if let Some(packet) = self.waiting.pop_front() {
            return self.place(packet);
        }
        if let Some(demux) = &mut self.demux {
            if let Some(packet) = demux.next_packet()? {
                // Cut off where another Variant Stream goes on, which has all of the segment.
                let is_cut =
                    packet.data.is_empty() && self.upcoming.as_ref().is_some_and(|next| self.goes_over(next));
                return if is_cut { Ok(()) } else { self.packet(packet) };
            }
            while let Some(tag) = demux.next_tag() {
                if self.tags.len() < MAX_TAGS && !demux::is_only_a_timestamp(&tag.id3) {
                    self.tags.push(tag);
                }
            }
        }
        match &self.upcoming {
            // Too few packets to look at are all there are. The run may begin with a seek further back, which forgets the
            // message.
            Some(upcoming) if !self.probe.is_empty() && self.ends_run(upcoming) => self.start(),
            Some(_) => self.apply(),
            None => self.receive(),
        }
    }

    /// A packet of the demuxer. The first ones of a run are collected, until it is known what they are.
    fn packet(&mut self, packet: Packet) -> Result<(), DecodeError> {
        let told = self.demux.as_ref().and_then(|demux| demux.track());
        // The demuxer's description is that of the packet it has just given, and of no earlier one.
        if let (Some(run), Some(told)) = (&mut self.run, told)
            && run.told != *told
        {
            // Another initialization section of the same codec: the decoder goes on, and the join is exact.
            if run.told.codec == told.codec {
                run.renew(told);
            } else {
                self.end_for_another();
            }
        }
        if self.run.is_some() {
            return self.place(packet);
        }
        // What says of itself what it is needs no more than this one.
        self.probe.push(packet);
        let told = self.demux.as_ref().and_then(|demux| demux.track());
        let doubtful = told.is_some_and(|told| demux::may_hide_sbr(&told.codec));
        if doubtful && self.probe.len() < PROBED {
            Ok(())
        } else {
            self.start()
        }
    }

    /// Puts a packet in its place: behind the last one, behind silence in the place of what is missing, or over what came
    /// twice.
    fn place(&mut self, packet: Packet) -> Result<(), DecodeError> {
        let Some(run) = &mut self.run else {
            return Ok(());
        };
        let rate = run.rate();
        let segment = self.segment.unwrap_or_default();
        let mut jump = run.jump(&packet);
        if jump != 0 && !segment.is_near(run.next + jump, rate) {
            // Timestamps that begin anew without a word: what is played goes on.
            let at = Run::instant(&run.told, &packet);
            let frame = run.next;
            run.anchor = Anchor { at, frame, rate };
            self.timeline.set(segment.discontinuity, run.anchor);
            jump = 0;
        }
        // Counted from what was heard last, and not from the last packet: priming and pre-roll are no part of the silence.
        let heard = run.emit_from;
        // Silence up to the packet, and none where packets overlap: those are placed over what came before.
        let missing = run.next + jump - heard;
        run.next += jump;
        if jump > 0 && missing > 0 {
            run.lose(&mut self.out);
            // The silence goes out first. The packet comes again behind it, and is then where it belongs.
            self.waiting.push_front(packet);
            self.be_silent(heard, missing);
            self.gap = Duration::ZERO;
            return Ok(());
        }
        self.decode(&packet)
    }

    /// Silence in the place of frames that are missing.
    fn be_silent(&mut self, at: i64, frames: i64) {
        let told = self
            .run
            .as_ref()
            .map(|run| (run.spec(), run.rate(), run.params.channels));
        let (Some((spec, sample_rate, channels)), Ok(at), Ok(frames @ 1..)) =
            (told, u64::try_from(at), u64::try_from(frames))
        else {
            return;
        };
        let spec = spec.unwrap_or(Spec {
            sample_rate,
            channels: ChannelLayout::from_count(channels),
        });
        self.tell_format(spec);
        self.out.event(if self.gap.is_zero() {
            DecodeEvent::Damaged { at, frames }
        } else {
            DecodeEvent::Gap { at, frames }
        });
        self.silence = Some(Silence {
            at,
            left: frames,
            spec,
        });
    }

    /// Silence for segments that are left out at the end.
    fn silence_of_gap(&mut self) {
        let gap = std::mem::take(&mut self.gap);
        let (Some((at, rate)), Some(format)) = (self.position, &self.format) else {
            return;
        };
        // As the playlist says: no packet tells how long what was left out is.
        let (frames, spec) = (frames_at(gap, rate), format.spec);
        if let (1.., Ok(at)) = (frames, u64::try_from(at)) {
            self.out.event(DecodeEvent::Gap { at, frames });
            self.silence = Some(Silence {
                at,
                left: frames,
                spec,
            });
        }
    }

    fn decode(&mut self, packet: &Packet) -> Result<(), DecodeError> {
        let Some(mut run) = self.run.take() else {
            return Ok(());
        };
        let damage = run.decode(packet, &mut self.out);
        if let Some(spec) = run.spec() {
            self.tell_format_of(&run, spec);
        }
        if let Ok(Some(damage)) = damage {
            let (at, frames) = (damage.at, damage.frames);
            self.out.event(DecodeEvent::Damaged { at, frames });
        }
        // Before the frames they hold for, which go out now.
        self.tell_tags(&run);
        run.give(false, &mut self.out);
        self.run = Some(run);
        damage.map(drop)
    }

    fn tell_format(&mut self, spec: Spec) {
        if let Some(run) = self.run.take() {
            self.tell_format_of(&run, spec);
            self.run = Some(run);
        }
    }

    /// Tells the format of the frames to come, if it is another one, and then the Variant Stream.
    fn tell_format_of(&mut self, run: &Run, spec: Spec) {
        let format = Format {
            codec: run.params.codec,
            container: run.told.container,
            spec,
            bits_per_sample: run.params.bits_per_sample,
            bit_rate: self
                .variant
                .as_ref()
                .map(|variant| variant.bandwidth)
                .filter(|rate| *rate > 0),
            trim: run.told.trim,
        };
        if self.format.as_ref() != Some(&format) {
            self.format = Some(format.clone());
            self.out.event(DecodeEvent::FormatChanged(format));
        }
        if let Some(variant) = self.untold.take() {
            self.out.event(variant.event());
        }
    }

    /// Tells the tags that hold from the frames about to go out.
    fn tell_tags(&mut self, run: &Run) {
        let (told, rate) = (&run.told, run.rate());
        let place = |tag: &TimedTag| {
            let pts = tag.pts.saturating_sub(told.first_pts.unwrap_or(0));
            let at = Instant {
                pts,
                scale: told.time_scale,
                wraps: told.wraps,
            };
            run.anchor.frame_of(at, rate, run.next)
        };
        for tag in self.tags.extract_if(.., |tag| place(tag) < run.next) {
            let at = u64::try_from(place(&tag)).unwrap_or(0);
            self.out.event(DecodeEvent::TimedId3 { at, tag: tag.id3 });
        }
    }

    /// The run at hand ends here, whatever follows.
    fn end_run(&mut self) {
        // The old one first: it waits for a run to fade into, which does not come any more.
        for mut run in [self.old.take(), self.run.take()].into_iter().flatten() {
            run.trim_end();
            run.give(true, &mut self.out);
            self.position = Some((run.next, run.rate()));
            self.idle = Some((run.params, run.decoder));
        }
    }

    /// The run at hand ends where another Variant Stream's, or another codec's, begins.
    fn end_for_another(&mut self) {
        if let Some(mut run) = self.run.take() {
            run.trim_end();
            self.position = Some((run.next, run.rate()));
            self.old = Some(run);
        }
    }

    /// Goes further back, so that enough comes before the target. `false` if that was tried often enough.
    fn seek_earlier(&mut self, frames: i64, rate: u32) -> Result<bool, DecodeError> {
        let (Some(mut target), Some(segment)) = (self.target, self.segment) else {
            return Ok(false);
        };
        if target.tries >= SEEKS || segment.time.is_zero() {
            return Ok(false);
        }
        let missing =
            Duration::from_secs_f64(u32::try_from(frames).map_or(0.0, f64::from) / f64::from(rate.max(1)));
        let before = segment.time.saturating_sub(Duration::from_millis(1));
        // At least one segment earlier, or the same one would come again.
        target.asked = target.asked.saturating_sub(missing).min(before);
        // Bounded: a track whose times lie would be sought back to its start, segment by segment.
        target.tries += 1;
        // A failed seek leaves the target: the next one that is asked for starts from nothing.
        self.forget();
        self.target = Some(target);
        self.feed.seek(target.asked)?;
        Ok(true)
    }

    /// Forgets everything that belongs to the place where playing was.
    fn forget(&mut self) {
        if let Some(run) = self.run.take().or(self.old.take()) {
            self.idle = Some((run.params, run.decoder));
        }
        (self.run, self.old, self.demux, self.upcoming, self.segment) = (None, None, None, None, None);
        self.unknown.clear();
        self.probe.clear();
        self.tags.clear();
        self.out.clear();
        self.waiting.clear();
        (self.silence, self.position, self.target) = (None, None, None);
        (self.discontinuity, self.ended, self.gap, self.failed) = (false, false, Duration::ZERO, None);
        self.edition = false;
    }

    /// A block of silence, if one is due.
    fn silent_block(&mut self, block: &mut Block) -> bool {
        let Some(silence) = &mut self.silence else {
            return false;
        };
        let frames = silence.left.min(SILENT_FRAMES);
        block.samples.clear();
        let channels = u64::from(silence.spec.channels.count());
        block
            .samples
            .resize(usize::try_from(frames * channels).unwrap_or(0), 0.0);
        (block.spec, block.position) = (silence.spec, silence.at);
        silence.at += frames;
        silence.left -= frames;
        if silence.left == 0 {
            self.silence = None;
        }
        frames > 0
    }
}

impl PcmSource for HlsPcm {
    fn next(&mut self, block: &mut Block) -> Result<Step, DecodeError> {
        // Here, as this thread may compute: the source asks for the playlist on another one meanwhile.
        if self.likely.is_none() {
            self.likely = Some(start::likely_decoders());
        }
        loop {
            match self.out.queue.pop_front() {
                Some(Out::Block(mut next)) => {
                    std::mem::swap(block, &mut next);
                    self.out.recycle(next.samples);
                    // Reached: a run that begins later is no reason to seek back any more.
                    self.target = None;
                    return Ok(Step::Block);
                }
                Some(Out::Event(event)) => return Ok(Step::Event(event)),
                None => {}
            }
            if self.silent_block(block) {
                self.target = None;
                return Ok(Step::Block);
            }
            if let Some(error) = &self.failed {
                return Err(error.clone());
            }
            if self.ended {
                return Ok(Step::Ended);
            }
            match self.advance() {
                Err(error) if !error.is_interrupted() => {
                    // What was decoded before is right, and is heard before the error.
                    for run in [&mut self.old, &mut self.run].into_iter().flatten() {
                        run.give(true, &mut self.out);
                    }
                    self.failed = Some(error);
                }
                other => other?,
            }
        }
    }

    fn seek(&mut self, time: Duration) -> Result<(), DecodeError> {
        // Of the decoder at hand: a seek mostly stays within one codec. Where it does not, the run that begins seeks once more.
        let run = self.run.as_ref().or(self.old.as_ref());
        let run = run.map(|run| (run.pre_roll(), run.rate()));
        let idle = self
            .idle
            .as_ref()
            .map(|(params, decoder)| (decoder.pre_roll(), params.sample_rate));
        let (frames, rate) = run.or(idle).unwrap_or((0, 1));
        let pre_roll = Duration::from_secs_f64(f64::from(frames) / f64::from(rate.max(1)));
        // The playlist's times are rounded: a target at a segment's start may lie in the segment before.
        let asked = time.saturating_sub(pre_roll + Duration::from_millis(1));
        self.forget();
        self.target = Some(Target {
            time,
            asked,
            tries: 0,
        });
        self.feed.seek(asked)
    }

    fn duration(&self) -> Option<Duration> {
        self.duration
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn interrupt(&self) -> Interrupt {
        self.feed.interrupt()
    }
}

/// A time as frames.
fn frames(time: Duration, rate: u32) -> i64 {
    i64::try_from(frames_at(time, rate)).unwrap_or(i64::MAX)
}

/// Joins chunks without a copy where there is only one.
fn append(unknown: &mut BytesMut, bytes: &Bytes) -> Bytes {
    if unknown.is_empty() {
        return bytes.clone();
    }
    unknown.extend_from_slice(bytes);
    unknown.split().freeze()
}

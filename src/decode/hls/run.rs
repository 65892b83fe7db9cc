//! One encoder run: packets that belong together, their decoder, and the frames that are not given out yet.

use std::collections::VecDeque;

use super::timeline::{Anchor, Instant, rescale};
use crate::decode::{
    Block, ChannelLayout, Container, DecodeError, DecodeEvent, Spec,
    codec::{PacketDecoder, PacketError},
    packet::{CodecParams, Packet, TrackInfo},
};

/// What goes out, in order.
#[derive(Debug)]
pub(super) enum Out {
    Block(Block),
    Event(DecodeEvent),
}

/// The queue of what goes out, and buffers to be used again.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub(super) queue: VecDeque<Out>,
    spare: Vec<Vec<f32>>,
}

/// The most frames of a packet, in any codec: a block of FLAC (RFC 9639, section 9.1.1).
const LONGEST_PACKET: u32 = 65_536;

/// Buffers kept for blocks to come.
const SPARE: usize = 4;

impl Outbox {
    pub(super) fn event(&mut self, event: DecodeEvent) {
        self.queue.push_back(Out::Event(event));
    }

    /// An empty buffer.
    pub(super) fn buffer(&mut self) -> Vec<f32> {
        self.spare.pop().unwrap_or_default()
    }

    pub(super) fn recycle(&mut self, mut buffer: Vec<f32>) {
        if self.spare.len() < SPARE {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    pub(super) fn clear(&mut self) {
        while let Some(out) = self.queue.pop_front() {
            if let Out::Block(block) = out {
                self.recycle(block.samples);
            }
        }
    }
}

/// The longest cross-fade, in parts of a second: 20 ms.
const FADES_PER_SECOND: u32 = 50;

/// An encoder run that is being decoded.
///
/// ```text
///   packets ──▶ decoder ──▶ │ dropped: priming, pre-roll │ pending │
///                           pending_at = emit_from ──────┘         └── next
/// ```
///
/// The last packet's frames stay pending until the next packet comes: if none does, some of them may be padding. So do the
/// last 20 ms, into which another Variant Stream may be faded.
pub(super) struct Run {
    pub(super) decoder: Box<dyn PacketDecoder>,
    /// As the demuxer told it.
    pub(super) told: TrackInfo,
    /// What the decoder was made for.
    pub(super) params: CodecParams,
    pub(super) anchor: Anchor,
    /// Frames of the decoder for one that the demuxer counts: 2 if it did not know of band replication.
    scale: u32,
    spec: Option<Spec>,
    /// The place of the next packet's first frame.
    pub(super) next: i64,
    /// The timestamp of the last packet, and the frames it had.
    last: Option<(i64, u32)>,
    pending: Vec<f32>,
    pending_at: i64,
    /// Frames before this place are dropped.
    pub(super) emit_from: i64,
    /// Frames of the last packet beyond what the container declares.
    beyond: usize,
    /// Whether a packet was decoded: until then those before the pre-roll are passed over.
    warm: bool,
    /// The last frames of the run before, to be faded into the first ones of this one.
    fade: Vec<f32>,
}

/// A number of frames that timestamps of MPEG's clock gave, to the frame: packets of a run lie a whole number of packets behind
/// its start.
pub(super) fn on_grid(at: i64, start: i64, told: &TrackInfo, params: &CodecParams) -> i64 {
    let packet = i64::from(params.frames_per_packet);
    if !told.wraps || packet == 0 {
        return at;
    }
    let off = (at - start + packet / 2).rem_euclid(packet) - packet / 2;
    if off.abs() <= 2 { at - off } else { at }
}

/// Silence in the place of a packet that could not be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Damage {
    pub(super) at: u64,
    pub(super) frames: u64,
}

impl Run {
    pub(super) fn new(
        decoder: Box<dyn PacketDecoder>,
        told: TrackInfo,
        params: CodecParams,
        anchor: Anchor,
        place: (i64, i64),
    ) -> Self {
        // Band replication that the container does not announce doubles the frames of each packet, and the rate.
        let scale = params.frames_per_packet / told.codec.frames_per_packet.max(1);
        let (next, emit_from) = place;
        Self {
            decoder,
            told,
            params,
            anchor,
            scale: scale.max(1),
            spec: None,
            next,
            last: None,
            pending: Vec::new(),
            pending_at: emit_from,
            emit_from,
            beyond: 0,
            warm: false,
            fade: Vec::new(),
        }
    }

    /// Takes over the decoder's state of the run before, whose packets these follow.
    pub(super) fn follow(&mut self, spec: Option<Spec>) {
        (self.warm, self.spec) = (true, spec);
    }

    pub(super) fn rate(&self) -> u32 {
        self.params.sample_rate
    }

    /// What the decoded frames mean, once there are some.
    pub(super) fn spec(&self) -> Option<Spec> {
        self.spec
    }

    /// A packet's presentation time.
    pub(super) fn instant(told: &TrackInfo, packet: &Packet) -> Instant {
        Instant {
            pts: packet.pts.saturating_sub(told.first_pts.unwrap_or(0)),
            scale: told.time_scale,
            wraps: told.wraps,
        }
    }

    fn frames(&self, packet: &Packet) -> u32 {
        let frames = if packet.frames == 0 {
            self.told.codec.frames_per_packet
        } else {
            packet.frames
        };
        // A container may announce any length, and the silence of a damaged packet is made in one piece. What is missing beyond
        // that is a gap before the next packet.
        frames.min(LONGEST_PACKET).saturating_mul(self.scale)
    }

    /// How many frames lie between the last packet and this one; less than 0 if they overlap. A timestamp is rounded, and
    /// clocks drift: less than half a packet is nothing.
    pub(super) fn jump(&self, packet: &Packet) -> i64 {
        let Some((pts, frames)) = self.last else {
            return 0;
        };
        let at = Instant {
            pts,
            scale: self.told.time_scale,
            wraps: self.told.wraps,
        };
        let anchor = Anchor {
            at,
            frame: 0,
            rate: self.rate(),
        };
        let here = Instant {
            pts: packet.pts,
            ..at
        };
        let jump = anchor
            .frame_of(here, self.rate(), 0)
            .saturating_sub(frames.into());
        if jump.unsigned_abs() < u64::from(self.frames(packet).max(2) / 2) {
            0
        } else {
            on_grid(jump, 0, &self.told, &self.params)
        }
    }

    /// Decodes a packet whose first frame is at `next`. What could not be decoded is silent.
    ///
    /// # Errors
    ///
    /// What no packet of the run survives.
    pub(super) fn decode(
        &mut self,
        packet: &Packet,
        out: &mut Outbox,
    ) -> Result<Option<Damage>, DecodeError> {
        let declared = self.frames(packet);
        let pre_roll = i64::from(self.pre_roll());
        // Far before the target, a packet is counted and not decoded. Once one was decoded all are, as each leans on the last.
        if !self.warm && self.next + i64::from(declared) <= self.emit_from - pre_roll {
            self.next += i64::from(declared);
            self.last = Some((packet.pts, declared));
            return Ok(None);
        }
        self.warm = true;
        let before = self.pending.len();
        let mut damage = None;
        let decoded = if packet.data.is_empty() {
            Err(PacketError::Damaged("lost".into()))
        } else {
            self.decoder.decode(packet, &mut self.pending)
        };
        let frames = match decoded {
            Ok(frames) => {
                // Before the frames are counted: the decoder's rate may be twice the one that places were counted in.
                self.learn(self.decoder.spec(), before, out);
                frames
            }
            Err(PacketError::Fatal(error)) => return Err(error),
            Err(PacketError::Damaged(why)) => {
                log::debug!("a packet of {} bytes is silent: {why}", packet.data.len());
                // What follows the silence is another matter than what stood before it.
                self.give(true, out);
                let channels = ChannelLayout::from_count(self.params.channels);
                let sample_rate = self.rate();
                self.spec.get_or_insert(Spec {
                    sample_rate,
                    channels,
                });
                let silent = self.emit_from.max(self.next)..self.next + i64::from(declared);
                let frames = u64::try_from(silent.end - silent.start).unwrap_or(0);
                damage = u64::try_from(silent.start).ok().map(|at| Damage { at, frames });
                self.pending.resize(declared as usize * self.channels(), 0.0);
                declared as usize
            }
        };
        self.last = Some((packet.pts, u32::try_from(frames).unwrap_or(declared)));
        // Only the last packet of a run is cut short by its container. Which one is the last, the next message tells.
        self.beyond = if packet.frames == 0 {
            0
        } else {
            frames.saturating_sub(declared as usize)
        };
        self.place(frames);
        Ok(damage.filter(|damage| damage.frames > 0))
    }

    /// Counts frames that were just appended, and drops those that are not to be heard.
    fn place(&mut self, frames: usize) {
        let channels = self.channels();
        let end = self.next + i64::try_from(frames).unwrap_or(i64::MAX);
        let appended = self.pending.len().saturating_sub(frames * channels);
        // What is pending from before ends where `emit_from` was moved to, or at `next`.
        // Priming, pre-roll, and what the run before has played already.
        let unheard = usize::try_from(self.emit_from.min(end) - self.next).unwrap_or(0);
        if unheard > 0 {
            self.pending.drain(appended..appended + unheard * channels);
        }
        if appended == 0 {
            self.pending_at = self.next.max(self.emit_from.min(end));
        }
        self.next = end;
        self.emit_from = self.emit_from.max(end);
    }

    /// The decoder says what its frames are: it may know better than the container.
    fn learn(&mut self, spec: Spec, before: usize, out: &mut Outbox) {
        if self.spec == Some(spec) {
            return;
        }
        // A block is of one spec: what is pending is of the old one.
        if self.spec.is_some() {
            let fresh = self.pending.split_off(before);
            self.give(true, out);
            self.pending = fresh;
        }
        // Places are counted at the run's rate, and stay the instants that they are.
        if spec.sample_rate != self.rate() && spec.sample_rate > 0 {
            let from = self.rate();
            for place in [&mut self.next, &mut self.emit_from, &mut self.pending_at] {
                *place = rescale(*place, from, spec.sample_rate);
            }
            self.params.sample_rate = spec.sample_rate;
        }
        self.spec = Some(spec);
    }

    pub(super) fn channels(&self) -> usize {
        let channels = self
            .spec
            .map_or(self.params.channels, |spec| spec.channels.count());
        usize::from(channels).max(1)
    }

    pub(super) fn pre_roll(&self) -> u32 {
        let roll = u32::from(self.told.roll).saturating_mul(self.params.frames_per_packet);
        self.decoder.pre_roll().max(roll)
    }

    fn hold(&self) -> usize {
        // As long as the longest fade, or as the last packet: whichever may still be changed.
        let fade = self.rate() / FADES_PER_SECOND;
        let last = self.last.map_or(0, |(_, frames)| frames);
        fade.max(last) as usize
    }

    /// Puts out what is pending: all of it, or what nothing to come can change.
    pub(super) fn give(&mut self, all: bool, out: &mut Outbox) {
        let channels = self.channels();
        // Held back: should no packet follow, some of them are padding, and should another run follow, they are faded.
        let keep = if all { 0 } else { self.hold() * channels };
        let ready = self.pending.len().saturating_sub(keep);
        let (Some(spec), Ok(position)) = (self.spec, u64::try_from(self.pending_at)) else {
            return;
        };
        if ready == 0 || (!all && self.pending.len() < self.fade.len()) {
            return;
        }
        // All frames of the fade are pending, or none goes out: it is mixed once, and whole.
        self.mix(channels);
        // What is kept moves to a used buffer, and what goes out keeps its own.
        let mut kept = out.buffer();
        kept.extend_from_slice(self.pending.get(ready..).unwrap_or_default());
        let mut samples = std::mem::replace(&mut self.pending, kept);
        samples.truncate(ready);
        self.pending_at += i64::try_from(ready / channels).unwrap_or(0);
        out.queue.push_back(Out::Block(Block {
            samples,
            spec,
            position,
        }));
    }

    /// Fades the run before into the first pending frames. Both are the same sound: their weights add up to 1.
    fn mix(&mut self, channels: usize) {
        // Once: the next blocks are this run's alone.
        let fade = std::mem::take(&mut self.fade);
        let frames = fade.len() / channels;
        let pairs = self
            .pending
            .chunks_exact_mut(channels)
            .zip(fade.chunks_exact(channels));
        for (at, (new, old)) in pairs.enumerate() {
            #[expect(clippy::cast_precision_loss, reason = "a fade has less than 2²⁴ frames")]
            let weight = (at as f32 + 0.5) / frames as f32;
            for (new, old) in new.iter_mut().zip(old) {
                *new = old + (*new - old) * weight;
            }
        }
    }

    /// Packets before the next one are lost: what is pending goes out, and the next frame that is heard is at `next`.
    pub(super) fn lose(&mut self, out: &mut Outbox) {
        self.give(true, out);
        // The silence in the place of what is lost goes out by itself, up to here.
        self.emit_from = self.next;
        self.last = None;
        // What the decoder remembers does not belong to what comes: it would be heard in it.
        self.decoder.reset();
    }

    /// No packet follows the last one: what it has beyond what the container declares is padding.
    pub(super) fn trim_end(&mut self) {
        // Other containers say nothing of it, and units coarser than a frame are rounded.
        let unit = self.rate().div_ceil(self.told.time_scale.max(1)) as usize;
        if self.told.container == Container::FragmentedMp4 && self.beyond >= unit {
            // A seek beyond the end leaves nothing pending, but the end is where it is.
            let left = self.pending.len().saturating_sub(self.beyond * self.channels());
            self.pending.truncate(left);
            self.next -= i64::try_from(self.beyond).unwrap_or(0);
        }
        self.beyond = 0;
    }

    /// Another initialization section of the same codec.
    pub(super) fn renew(&mut self, told: &TrackInfo) {
        let clock = |told: &TrackInfo| (told.time_scale, told.first_pts, told.wraps);
        // Timestamps of two clocks cannot be subtracted: the next packet is taken to follow.
        if clock(&self.told) != clock(told) {
            self.last = None;
        }
        self.told = told.clone();
    }

    /// Ends in favour of a run that begins `overlap` frames before `next`: puts out what is pending but for the end, which
    /// that one is to fade in. How many frames that end has.
    pub(super) fn hand_over(&mut self, other: &mut Run, overlap: i64, out: &mut Outbox) -> i64 {
        let channels = self.channels();
        // No longer than both runs have of it.
        let longest = (self.rate() / FADES_PER_SECOND) as usize;
        let frames = longest
            .min(self.pending.len() / channels)
            .min(usize::try_from(overlap).unwrap_or(0));
        // The other run's frames are at the same places: it decodes from before the join, and is right where it begins.
        other.fade = self.pending.split_off(self.pending.len() - frames * channels);
        self.give(true, out);
        i64::try_from(frames).unwrap_or(0)
    }
}

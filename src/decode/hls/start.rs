//! How a run begins: where its timestamps lie on the track's line, and how it joins what was played before.

use std::time::Duration;

use super::{
    HlsPcm, frames,
    run::{Run, on_grid},
    timeline::{Anchor, Instant, rescale},
};
use crate::decode::{
    Codec, DecodeError,
    codec::{self, PacketDecoder},
    demux,
    packet::{CodecParams, Packet, TrackInfo},
};

impl HlsPcm {
    /// Begins a run with the packets collected.
    pub(super) fn start(&mut self) -> Result<(), DecodeError> {
        let packets = std::mem::take(&mut self.probe);
        let told = self.demux.as_ref().and_then(|demux| demux.track()).cloned();
        let (Some(first), Some(told)) = (packets.first(), told) else {
            return Ok(());
        };
        // One packet may look like it by accident. Of a stream that has it all do, but for those around a damage.
        let has_sbr = demux::may_hide_sbr(&told.codec) && {
            let with = packets.iter().filter(|packet| demux::ends_with_sbr(&packet.data));
            with.count() * 4 >= packets.len() * 3
        };
        let params = if has_sbr {
            demux::with_sbr(&told.codec)
        } else {
            told.codec.clone()
        };
        if self.begin(first, told, params)? {
            // Only now: what was collected to be looked at is decoded by the run that it began.
            self.waiting.extend(packets);
        }
        Ok(())
    }

    /// Begins a run with this packet. `false` if the source was sought once more, because the packet lies too late.
    fn begin(&mut self, first: &Packet, told: TrackInfo, params: CodecParams) -> Result<bool, DecodeError> {
        let rate = params.sample_rate;
        let segment = self.segment.unwrap_or_default();
        let by_playlist = frames(segment.time, rate);
        let here = self.position.map(|(place, from)| rescale(place, from, rate));
        // By the clock of its container: the playlist says when the segment begins, to a few digits.
        let instant = Run::instant(&told, first);
        // Priming comes before the instant that the playlist names.
        let heard = Instant {
            pts: if told.first_pts.is_some() {
                instant.pts.max(0)
            } else {
                instant.pts
            },
            ..instant
        };
        let anchor = self.anchor(heard, rate, here.map(|here| here + frames(self.gap, rate)));
        let place = |instant| {
            let place = anchor.frame_of(instant, rate, here.unwrap_or(by_playlist));
            if anchor.rate == rate {
                on_grid(place, anchor.frame, &told, &params)
            } else {
                place
            }
        };
        let (mut at, mut first_heard) = (place(instant), place(heard));
        // Before a seek further back is begun: what cannot be decoded is told at once.
        let decoder = self.decoder(&params)?;
        let target = self.target.map(|target| frames(target.time, rate));
        // A segment may begin behind the pre-roll that the target needs. Without it the first frames would not be those of
        // an uninterrupted decode.
        if let (Some(target), None) = (target, here) {
            let run = (decoder.pre_roll(), told.roll);
            let pre_roll = u32::from(run.1)
                .saturating_mul(params.frames_per_packet)
                .max(run.0);
            // At the start of a run there is nothing before it that could be decoded first.
            let begins = self.discontinuity || segment.time.is_zero();
            let wanted = target - if begins { 0 } else { i64::from(pre_roll) };
            if at > wanted && self.gap.is_zero() && self.seek_earlier(at - wanted, rate)? {
                self.idle = Some((params, decoder));
                return Ok(false);
            }
        }
        // Kept for seeks back: worked out anew there, from durations that are rounded, it would be a frame off.
        self.timeline.set(segment.discontinuity, anchor);
        // What is heard next: the target of a seek, what follows the last frame, or at the start of all what is behind the
        // priming.
        let from = here.max(target).unwrap_or(first_heard);
        // Clocks coarser than a frame are rounded.
        let rounding = 1 + i64::from(rate / told.time_scale.max(1));
        if let Some(here) = here.filter(|here| (first_heard - here).abs() <= rounding) {
            at += here - first_heard;
            first_heard = here;
        }
        let mut run = Run::new(decoder, told, params, anchor, (at, from));
        self.join(&mut run, here, at);
        (self.discontinuity, self.edition) = (false, false);
        let missing = first_heard - run.emit_from;
        if missing > 0 {
            run.emit_from = first_heard;
        }
        self.run = Some(run);
        self.be_silent(from, missing);
        self.gap = Duration::ZERO;
        Ok(true)
    }

    /// Which frame a new run's timestamps are.
    fn anchor(&self, heard: Instant, rate: u32, here: Option<i64>) -> Anchor {
        let segment = self.segment.unwrap_or_default();
        let by_playlist = frames(segment.time, rate);
        let anchor = |at, frame| Anchor { at, frame, rate };
        // What was played before says nothing of where another edition lies.
        let here = here.filter(|_| !self.edition);
        let known = self.timeline.get(segment.discontinuity);
        let known = known.map(|line| (line, line.frame_of(heard, rate, here.unwrap_or(by_playlist))));
        match (known, here) {
            // What was played up to a discontinuity decides where it goes on; a second time that is the same place.
            (Some((line, place)), Some(here)) if self.discontinuity && (place - here).abs() <= 1 => line,
            // A clock of its own begins: it says nothing of where it lies, and what was played last does.
            (_, Some(here)) if self.discontinuity => anchor(heard, here),
            (Some((line, place)), _) if segment.is_near(place, rate) => line,
            // The clock has jumped without a word: what is played goes on.
            (_, Some(here)) => anchor(heard, here),
            // Sought before anything of this line was played. Most tracks count from 0.
            _ => {
                let zero = anchor(Instant { pts: 0, ..heard }, 0);
                let off = zero.frame_of(heard, rate, by_playlist) - by_playlist;
                let counts_from_zero =
                    !heard.wraps && !segment.time.is_zero() && off.unsigned_abs() < u64::from(rate / 2);
                if counts_from_zero {
                    zero
                } else {
                    anchor(heard, by_playlist)
                }
            }
        }
    }

    /// Joins a new run, whose first packet is at `at`, to what was played before.
    fn join(&mut self, run: &mut Run, here: Option<i64>, at: i64) {
        let Some(mut old) = self.old.take() else {
            return;
        };
        let overlap = here.map_or(0, |here| here - at - i64::from(run.pre_roll()));
        let same_sound = old.rate() == run.rate() && old.params.channels == run.params.channels;
        // Packets of the same shape that follow each other: the transform's halves of two encodings of one sound still fit,
        // which those of a decoder without the packet before would not.
        let continues = here == Some(at) && old.params == run.params;
        let keeps = matches!(run.params.codec, Codec::AacLc | Codec::HeAac | Codec::HeAacV2);
        if continues && keeps {
            old.give(true, &mut self.out);
            run.follow(old.spec());
            std::mem::swap(&mut run.decoder, &mut old.decoder);
        } else if same_sound && overlap > 0 {
            run.emit_from -= old.hand_over(run, overlap, &mut self.out);
        } else {
            old.give(true, &mut self.out);
        }
        self.idle = Some((old.params, old.decoder));
    }

    /// A decoder without a past.
    fn decoder(&mut self, params: &CodecParams) -> Result<Box<dyn PacketDecoder>, DecodeError> {
        // To make one costs tables; what it remembers is of another place.
        if let Some((_, mut decoder)) = self.idle.take().filter(|(known, _)| known == params) {
            decoder.reset();
            return Ok(decoder);
        }
        // One of them at most is ever used: the others are let go with it.
        let likely = self.likely.replace(Vec::new()).unwrap_or_default();
        // Low Complexity of one rate and number of channels is decoded alike, whatever else its config says: MP4 has five bytes
        // for what ADTS has two.
        let is_alike = |known: &CodecParams| {
            let extra_data = known.extra_data.clone();
            let params = params.clone();
            *known == CodecParams { extra_data, ..params }
        };
        match likely.into_iter().find(|(known, _)| is_alike(known)) {
            Some((_, decoder)) => Ok(decoder),
            None => codec::open(params),
        }
    }
}

/// Decoders for AAC as MPEG-TS and packed audio most often have it.
///
/// The tables of one take a fifth of a millisecond. They are made while the playlist is awaited: made when the first packet
/// is there, they would delay the first frame.
pub(super) fn likely_decoders() -> Vec<(CodecParams, Box<dyn PacketDecoder>)> {
    let likely = demux::likely_params().into_iter();
    likely
        .filter_map(|params| {
            let decoder = codec::open(&params).ok()?;
            Some((params, decoder))
        })
        .collect()
}

//! Ogg: Vorbis, Opus and FLAC, through Symphonia's reader.
//!
//! That reader seeks within one part of a chain and knows no other. So each part of a chain is given to a reader of its own,
//! as if it were the whole file; where the file cannot be sought in, the parts follow each other in one reader.

use std::time::Duration;

use symphonia::core::{
    codecs::audio::{AudioCodecParameters, well_known},
    errors::{Error, SeekErrorKind},
    formats::{FormatOptions, FormatReader, SeekMode, SeekTo, Track},
    io::{MediaSourceStream, MediaSourceStreamOptions},
    units::Timestamp,
};
use symphonia::default::formats::OggReader;

use super::{
    chain,
    input::{Input, read_error},
    reader::{Next, PacketReader, Placed},
    view::View,
};
use crate::decode::{
    Codec, Container, DecodeError, Tags, Trim,
    codec::layout,
    error::{MalformedSnafu, UnsupportedCodecSnafu},
    packet::{CodecParams, Packet, TrackInfo},
    source::time_of,
    tags::{add_chapters, add_revision},
    trim,
};

/// Reads the packets of an Ogg file.
pub(super) struct OggPackets {
    input: Input,
    parts: Vec<Part>,
    current: usize,
    reader: OggReader<'static>,
    sound: Sound,
}

/// One part of a chain.
#[derive(Debug, Clone, Copy)]
struct Part {
    start: u64,
    end: Option<u64>,
    begins: Duration,
    plays: Option<Duration>,
}

/// The logical stream that is decoded.
struct Sound {
    serial: u32,
    info: TrackInfo,
    tags: Tags,
    total: Option<u64>,
    /// The timestamp of raw frame 0.
    zero: i64,
}

impl OggPackets {
    /// The track whose first page stands at `start`.
    ///
    /// # Errors
    ///
    /// `UnsupportedCodec`, `Malformed`, `Io`, `Interrupted`.
    pub(super) fn open(input: Input, start: u64) -> Result<Self, DecodeError> {
        let end = input.len().filter(|_| input.is_seekable());
        let begins = match end {
            Some(end) => chain::parts(&input, start, end)?,
            None => vec![start],
        };
        let mut parts = Vec::with_capacity(begins.len());
        let mut time = Some(Duration::ZERO);
        let mut first = None;
        for (number, &start) in begins.iter().enumerate() {
            let end = begins.get(number + 1).copied().or(end);
            let mut part = Part {
                start,
                end,
                begins: time.unwrap_or_default(),
                plays: None,
            };
            let (reader, sound) = match part.open(&input) {
                Ok(opened) => opened,
                // What was cut off within the headers of its last part plays up to there.
                Err(DecodeError::Malformed { .. }) if number > 0 => break,
                Err(error) => return Err(error),
            };
            part.plays = sound.plays();
            time = time.zip(part.plays).map(|(time, plays)| time + plays);
            parts.push(part);
            first.get_or_insert((reader, sound));
        }
        let Some((reader, sound)) = first else {
            return MalformedSnafu { what: "Ogg stream" }.fail();
        };
        Ok(Self {
            input,
            parts,
            current: 0,
            reader,
            sound,
        })
    }

    fn enter(&mut self, part: usize) -> Result<bool, DecodeError> {
        let Some(entered) = self.parts.get(part) else {
            return Ok(false);
        };
        (self.reader, self.sound) = entered.open(&self.input)?;
        self.current = part;
        Ok(true)
    }
}

impl Part {
    fn open(&self, input: &Input) -> Result<(OggReader<'static>, Sound), DecodeError> {
        let view = View::new(input.clone(), bytes::Bytes::new(), self.start, self.end);
        let stream = MediaSourceStream::new(Box::new(view), MediaSourceStreamOptions::default());
        let mut reader =
            OggReader::try_new(stream, FormatOptions::default()).map_err(|error| match error {
                Error::IoError(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
                    read_error(error)
                }
                _ => MalformedSnafu { what: "Ogg stream" }.build(),
            })?;
        let sound = Sound::find(&mut reader)?;
        Ok((reader, sound))
    }
}

impl PacketReader for OggPackets {
    fn info(&self) -> &TrackInfo {
        &self.sound.info
    }

    fn tags(&self) -> Tags {
        self.sound.tags.clone()
    }

    fn next(&mut self) -> Result<Next, DecodeError> {
        loop {
            match self.reader.next_packet() {
                Ok(Some(packet)) if packet.track_id == self.sound.serial => {
                    let (skip_start, skip_end) = (packet.trim_start.get(), packet.trim_end.get());
                    let frames = packet.dur.get() + skip_start + skip_end;
                    return Ok(Next::Packet(Placed {
                        start: u64::try_from(packet.pts.get() - self.sound.zero).unwrap_or(0),
                        skip_start,
                        skip_end,
                        packet: Packet {
                            pts: packet.pts.get(),
                            frames: u32::try_from(frames).unwrap_or(u32::MAX),
                            data: packet.data.into(),
                        },
                    }));
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                // A part that was not found before, as it has the serial numbers of this one.
                Err(Error::ResetRequired) => {
                    self.sound = Sound::find(&mut self.reader)?;
                    return Ok(Next::Chained);
                }
                // Cut off: what was there has been played.
                Err(Error::IoError(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => break,
                Err(Error::IoError(error)) => return Err(read_error(error)),
                Err(_) => return MalformedSnafu { what: "Ogg page" }.fail(),
            }
        }
        let chained = self.enter(self.current + 1)?;
        Ok(if chained { Next::Chained } else { Next::End })
    }

    fn is_seekable(&self) -> bool {
        self.input.is_seekable()
    }

    fn seek(&mut self, frame: u64) -> Result<(), DecodeError> {
        // A reader that has met its end, or an error, is not trusted to find its way back.
        self.enter(self.current)?;
        let frame = i64::try_from(frame).unwrap_or(i64::MAX);
        let target = frame.saturating_add(self.sound.zero).max(0);
        let to = SeekTo::Timestamp {
            ts: Timestamp::new(target),
            track_id: self.sound.serial,
        };
        if target == 0 {
            return Ok(());
        }
        match self.reader.seek(SeekMode::Accurate, to) {
            Ok(_) | Err(Error::SeekError(SeekErrorKind::OutOfRange)) => Ok(()),
            Err(Error::IoError(error)) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
                Err(read_error(error))
            }
            // Bisection ended at a damaged place. From the start every frame can be reached.
            Err(_) => self.enter(self.current).map(drop),
        }
    }

    fn link_at(&mut self, time: Duration) -> Result<Duration, DecodeError> {
        let within = |part: &&Part| part.begins <= time;
        let part = self.parts.iter().filter(within).count().saturating_sub(1);
        if part != self.current {
            self.enter(part)?;
        }
        Ok(self.parts.get(part).map(|part| part.begins).unwrap_or_default())
    }

    fn is_chained(&self) -> bool {
        // One never knows: parts with the same serial numbers are met only where they begin.
        true
    }

    fn duration(&self) -> Option<Duration> {
        self.parts.iter().map(|part| part.plays).sum()
    }

    fn total(&self) -> Option<u64> {
        self.sound.total
    }

    fn bit_rate(&self) -> Option<u64> {
        let part = self.parts.get(self.current)?;
        let (bytes, plays) = (part.end?.checked_sub(part.start)?, part.plays?);
        u64::try_from(u128::from(bytes) * 8_000 / plays.as_millis().max(1)).ok()
    }
}

impl Sound {
    fn find(reader: &mut OggReader<'_>) -> Result<Self, DecodeError> {
        let tags = tags(reader);
        let mut refused = None;
        for track in reader.tracks() {
            let Some(params) = track.codec_params.as_ref().and_then(|params| params.audio()) else {
                continue;
            };
            match Self::of(track, params) {
                Ok(sound) => return Ok(Self { tags, ..sound }),
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.unwrap_or_else(|| {
            let codec = "an Ogg stream that is neither Vorbis nor Opus nor FLAC";
            UnsupportedCodecSnafu { codec }.build()
        }))
    }

    fn of(track: &Track, params: &AudioCodecParameters) -> Result<Self, DecodeError> {
        let codec = match params.codec {
            well_known::CODEC_ID_VORBIS => Codec::Vorbis,
            well_known::CODEC_ID_OPUS => Codec::Opus,
            well_known::CODEC_ID_FLAC => Codec::Flac,
            _ => {
                let codec = "an Ogg stream that is neither Vorbis nor Opus nor FLAC";
                return UnsupportedCodecSnafu { codec }.fail();
            }
        };
        let sample_rate = params.sample_rate.filter(|rate| *rate > 0);
        let (Some(sample_rate), Some(channels)) = (sample_rate, params.channels.as_ref().map(layout)) else {
            return MalformedSnafu { what: "Ogg stream" }.fail();
        };
        let padding = u64::from(track.padding.unwrap_or(0));
        let priming = u64::from(track.delay.unwrap_or(0));
        // Vorbis counts from the first frame of sound, Opus from the first one that is decoded.
        let zero = track.start_ts.get();
        let before = if codec == Codec::Vorbis { priming } else { 0 };
        let total = track.num_frames.map(|frames| frames + before + padding);
        let trim = match codec {
            Codec::Opus => trim::opus(priming, total.map(|_| padding)),
            Codec::Vorbis => {
                let last = track.num_frames.zip(total);
                trim::ogg(Some((0, priming)), last).unwrap_or_default()
            }
            _ => Trim::default(),
        };
        Ok(Self {
            serial: track.id,
            tags: Tags::default(),
            zero,
            total,
            info: TrackInfo {
                container: Container::Ogg,
                codec: CodecParams {
                    codec,
                    sample_rate,
                    channels: channels.count(),
                    bits_per_sample: params.bits_per_sample,
                    frames_per_packet: 0,
                    extra_data: params.extra_data.clone().unwrap_or_default().into(),
                },
                time_scale: sample_rate,
                wraps: false,
                first_pts: None,
                roll: 0,
                trim,
            },
        })
    }

    /// How long it plays.
    fn plays(&self) -> Option<Duration> {
        let Trim { start, end, .. } = self.info.trim;
        let frames = self.total?.saturating_sub(start + end.unwrap_or(0));
        Some(time_of(frames, self.info.codec.sample_rate))
    }
}

/// The tags of the part that begins.
fn tags(reader: &mut OggReader<'_>) -> Tags {
    let mut tags = Tags::default();
    let mut metadata = reader.metadata();
    // The last one is this part's: those before are of the parts before.
    if let Some(revision) = metadata.skip_to_latest() {
        add_revision(revision, &mut tags);
    }
    if let Some(chapters) = reader.chapters() {
        add_chapters(chapters, &mut tags);
    }
    tags
}

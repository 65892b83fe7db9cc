//! FLAC in its own container, through Symphonia's reader.
//!
//! That reader is used for one run of frames only. It keeps the number of the last frame over a seek that lands exactly
//! on a frame, and then takes every frame for one out of order; a dense seek table makes it land exactly. It also takes
//! a tag at the end for the last frame's end. So each seek makes a new reader, over the stream's header and the frames from
//! one place on, and the places are found here.
//!
//! ```text
//!   file   [ ID3v2 │ fLaC │ STREAMINFO │ SEEKTABLE, pictures, … │ frames ………………… │ ID3v1 ]
//!   view           [ fLaC │ STREAMINFO ]              [ frames from the place on ]
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use symphonia::core::{
    errors::Error,
    formats::{FormatOptions, FormatReader},
    io::{MediaSourceStream, MediaSourceStreamOptions},
};
use symphonia::default::formats::FlacReader;

use super::{
    input::{Input, read_error},
    reader::{Next, PacketReader, Placed},
    view::View,
};
use crate::decode::{
    Codec, Container, DecodeError, Tags, Trim,
    error::MalformedSnafu,
    packet::{CodecParams, Packet, TrackInfo},
    tags::{from_flac_comment, from_flac_picture},
};

/// From here on a packet is looked for by decoding on, and not by another jump: about two seconds.
const NEAR: u64 = 96_000;

/// The most jumps of one seek.
const JUMPS: usize = 24;

/// A metadata block of the file, without its content.
struct BlockHeader {
    kind: u8,
    last: bool,
    start: u64,
    length: u64,
}

impl BlockHeader {
    fn body(&self, input: &Input) -> Result<Bytes, DecodeError> {
        input.bytes_at(self.start, usize::try_from(self.length).unwrap_or(0))
    }
}

/// Reads the packets of a FLAC file.
pub(super) struct FlacPackets {
    input: Input,
    info: TrackInfo,
    tags: Tags,
    /// `fLaC` and STREAMINFO, marked as the last block.
    head: Bytes,
    /// Where the frames begin in the file.
    frames: u64,
    total: Option<u64>,
    /// Frame numbers and where they begin, from SEEKTABLE; ascending.
    table: Vec<(u64, u64)>,
    reader: FlacReader<'static>,
    /// A packet that a seek had to read.
    held: Option<Placed>,
}

impl FlacPackets {
    /// The track whose `fLaC` stands at `start`.
    ///
    /// # Errors
    ///
    /// `Malformed`, `Io`, `Interrupted`.
    pub(super) fn open(input: Input, start: u64) -> Result<Self, DecodeError> {
        let malformed = || MalformedSnafu { what: "FLAC header" }.build();
        let mut at = start + 4;
        let mut stream_info = None;
        let mut table = Vec::new();
        let mut tags = Tags::default();
        loop {
            let block = block_header(&input, at)?.ok_or_else(malformed)?;
            match block.kind {
                0 if stream_info.is_none() => {
                    let content = input.bytes_at(block.start, 34)?;
                    stream_info = (block.length == 34 && content.len() == 34).then_some(content);
                }
                3 => table = seek_points(&block.body(&input)?),
                4 => from_flac_comment(&block.body(&input)?, &mut tags),
                6 => from_flac_picture(&block.body(&input)?, &mut tags),
                _ => {}
            }
            at = block.start + block.length;
            if block.last {
                break;
            }
        }
        let stream_info = stream_info.ok_or_else(malformed)?;
        let (params, total) = params(&stream_info).ok_or_else(malformed)?;
        let mut head = BytesMut::with_capacity(42);
        head.put_slice(b"fLaC\x80\x00\x00\x22");
        head.put_slice(&stream_info);
        let head = head.freeze();
        let reader = reader(&input, &head, at)?;
        Ok(Self {
            info: TrackInfo {
                container: Container::Flac,
                time_scale: params.sample_rate,
                codec: params,
                wraps: false,
                first_pts: None,
                roll: 0,
                trim: Trim::default(),
            },
            tags,
            input,
            head,
            frames: at,
            total,
            table,
            reader,
            held: None,
        })
    }

    /// Begins to read at the first frame behind a place, and returns its number; `None` if there is none.
    fn jump(&mut self, place: u64) -> Result<Option<u64>, DecodeError> {
        self.held = None;
        self.reader = match reader(&self.input, &self.head, place) {
            Ok(reader) => reader,
            // No frame begins behind the place.
            Err(DecodeError::Malformed { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(first) = self.read()? else {
            return Ok(None);
        };
        let number = first.start;
        self.held = Some(first);
        Ok(Some(number))
    }

    fn read(&mut self) -> Result<Option<Placed>, DecodeError> {
        let packet = match self.reader.next_packet() {
            Ok(Some(packet)) => packet,
            Ok(None) => return Ok(None),
            Err(Error::IoError(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Ok(None);
            }
            Err(Error::IoError(error)) => return Err(read_error(error)),
            // Its reader passes over damage by itself: what it refuses leaves nothing to go on with.
            Err(_) => return MalformedSnafu { what: "FLAC frame" }.fail(),
        };
        let start = u64::try_from(packet.pts.get()).unwrap_or(0);
        let frames = packet.dur.get();
        Ok(Some(Placed {
            start,
            skip_start: 0,
            skip_end: 0,
            packet: Packet {
                pts: packet.pts.get(),
                frames: u32::try_from(frames).unwrap_or(u32::MAX),
                data: packet.data.into(),
            },
        }))
    }
}

impl PacketReader for FlacPackets {
    fn info(&self) -> &TrackInfo {
        &self.info
    }

    fn tags(&self) -> Tags {
        self.tags.clone()
    }

    fn next(&mut self) -> Result<Next, DecodeError> {
        let packet = match self.held.take() {
            Some(held) => Some(held),
            None => self.read()?,
        };
        Ok(packet.map_or(Next::End, Next::Packet))
    }

    fn is_seekable(&self) -> bool {
        self.input.is_seekable()
    }

    fn seek(&mut self, frame: u64) -> Result<(), DecodeError> {
        // Without an end there is no place to jump to by share.
        let Some(end) = self.input.len().filter(|_| self.input.is_seekable()) else {
            return Err(DecodeError::SeekUnsupported);
        };
        // Frame numbers grow with the place. `low` is at or before the frame sought, `high` behind it.
        let mut low = (0, self.frames);
        let mut high = (self.total.unwrap_or(u64::MAX), end);
        for &(number, offset) in &self.table {
            let place = self.frames.saturating_add(offset);
            if number <= frame && place < end {
                low = (number, place);
            } else if number > frame {
                high = (number.min(high.0), place.min(high.1));
                break;
            }
        }
        for _ in 0..JUMPS {
            if frame.saturating_sub(low.0) <= NEAR {
                break;
            }
            // As far between them as the frame is, if every frame is as long; a little before that.
            let (frames, bytes) = (high.0.saturating_sub(low.0).max(1), high.1.saturating_sub(low.1));
            // Frames differ in length: a jump lands near, and the next one nearer. Bisection would need twice as many.
            let share = u128::from(frame - low.0) * u128::from(bytes) / u128::from(frames);
            let share = u64::try_from(share).unwrap_or(0).min(bytes);
            let margin = bytes / 64 + 8192;
            let place = low.1 + share.saturating_sub(margin).max(bytes / 64);
            match self.jump(place)? {
                Some(number) if number <= frame => low = (number, place),
                Some(number) => high = (number, place),
                None => high.1 = place,
            }
            // A frame is as long: what is between is walked.
            if high.1 <= low.1 + 8192 {
                break;
            }
        }
        // A table is written by the encoder, and an editor may have cut the frames behind it.
        if self.jump(low.1)?.is_none_or(|number| number > frame) {
            // The table lies, or this part is damaged.
            self.table.clear();
            self.jump(self.frames)?;
        }
        // On to the packet that holds the frame.
        loop {
            match self.held.take() {
                Some(held) if held.start + u64::from(held.packet.frames) > frame => {
                    self.held = Some(held);
                    return Ok(());
                }
                _ => match self.read()? {
                    Some(packet) => self.held = Some(packet),
                    None => return Ok(()),
                },
            }
        }
    }

    fn total(&self) -> Option<u64> {
        self.total
    }

    fn bit_rate(&self) -> Option<u64> {
        let bytes = self.input.len()?.checked_sub(self.frames)?;
        let bits = u128::from(bytes) * 8 * u128::from(self.info.codec.sample_rate);
        u64::try_from(bits / u128::from(self.total?.max(1))).ok()
    }
}

/// A reader of the frames from `place` on. It has looked for the first one.
fn reader(input: &Input, head: &Bytes, place: u64) -> Result<FlacReader<'static>, DecodeError> {
    let view = View::new(input.clone(), head.clone(), place, None).hides_tag();
    let stream = MediaSourceStream::new(Box::new(view), MediaSourceStreamOptions::default());
    FlacReader::try_new(stream, FormatOptions::default()).map_err(|error| match error {
        Error::IoError(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => read_error(error),
        _ => MalformedSnafu { what: "FLAC stream" }.build(),
    })
}

fn block_header(input: &Input, at: u64) -> Result<Option<BlockHeader>, DecodeError> {
    let bytes = input.bytes_at(at, 4)?;
    let Ok([kind, length @ ..]) = <[u8; 4]>::try_from(&*bytes) else {
        return Ok(None);
    };
    let [a, b, c] = length;
    Ok(Some(BlockHeader {
        kind: kind & 0x7f,
        last: kind & 0x80 != 0,
        start: at + 4,
        length: u64::from(u32::from_be_bytes([0, a, b, c])),
    }))
}

/// SEEKTABLE (RFC 9639, 8.5), in ascending order and without placeholders.
fn seek_points(content: &[u8]) -> Vec<(u64, u64)> {
    let number = |bytes: &[u8]| bytes.try_into().map(u64::from_be_bytes);
    let mut points: Vec<(u64, u64)> = content
        .chunks_exact(18)
        .filter_map(|point| {
            let (frame, offset) = (number(point.get(..8)?).ok()?, number(point.get(8..16)?).ok()?);
            (frame != u64::MAX).then_some((frame, offset))
        })
        .collect();
    points.sort_unstable();
    points.dedup();
    points
}

/// STREAMINFO (RFC 9639, 8.2): what a decoder has to know, and how many frames there are.
pub(super) fn params(stream_info: &Bytes) -> Option<(CodecParams, Option<u64>)> {
    let packed = u64::from_be_bytes(stream_info.get(10..18)?.try_into().ok()?);
    let sample_rate = u32::try_from(packed >> 44).ok()?;
    let block = u16::from_be_bytes(stream_info.get(2..4)?.try_into().ok()?);
    let smallest = u16::from_be_bytes(stream_info.get(..2)?.try_into().ok()?);
    let total = packed & 0xf_ffff_ffff;
    let params = CodecParams {
        codec: Codec::Flac,
        sample_rate,
        channels: u16::try_from(packed >> 41 & 7).ok()? + 1,
        bits_per_sample: u32::try_from((packed >> 36 & 31) + 1).ok(),
        frames_per_packet: if smallest == block { u32::from(block) } else { 0 },
        extra_data: stream_info.clone(),
    };
    (sample_rate > 0).then_some((params, (total > 0).then_some(total)))
}

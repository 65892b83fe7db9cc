//! Uncompressed sound: WAVE, RF64 and BW64, AIFF and AIFF-C. Ours: Symphonia refuses a length of 0 and RF64.
//!
//! ```text
//!   RIFF size WAVE │ fmt  … │ data size …………      RF64 -1 WAVE │ ds64 sizes │ fmt  … │ data -1 …………
//!   FORM size AIFF │ COMM … │ SSND size …………
//! ```

use bytes::Bytes;

use super::{
    input::Input,
    reader::{Next, PacketReader, Placed},
};
use crate::decode::{
    ChannelLayout, Codec, Container, DecodeError, Tags, Trim,
    codec::pcm::Storage,
    error::{MalformedSnafu, UnsupportedCodecSnafu},
    packet::{CodecParams, Packet, TrackInfo},
    tags::{from_id3, from_info},
};

/// Frames of one packet.
const PACKET: u64 = 4096;

/// The longest chunk of tags that is read.
const TAGS: usize = 16 << 20;

/// More chunks than these before the sound, and the file is none of ours.
const CHUNKS: usize = 256;

/// Reads the samples of a WAVE or AIFF file, some thousand frames at a time.
#[derive(Debug)]
pub(super) struct PcmPackets {
    input: Input,
    info: TrackInfo,
    tags: Tags,
    start: u64,
    /// `None` where the file goes on as long as there are bytes.
    frames: Option<u64>,
    frame_bytes: u64,
    next: u64,
}

/// What the headers say of the samples.
struct Samples {
    storage: Storage,
    layout: ChannelLayout,
    sample_rate: u32,
    bits: u32,
}

struct Chunk {
    name: [u8; 4],
    start: u64,
    length: u64,
}

impl Chunk {
    fn read(input: &Input, at: u64, big: bool) -> Result<Option<Self>, DecodeError> {
        let head = input.bytes_at(at, 8)?;
        // Fewer than eight bytes are the end: files are cut off, and some have a byte too many there.
        let Ok([a, b, c, d, length @ ..]) = <[u8; 8]>::try_from(&*head) else {
            return Ok(None);
        };
        let length = if big {
            u32::from_be_bytes(length)
        } else {
            u32::from_le_bytes(length)
        };
        Ok(Some(Self {
            name: [a, b, c, d],
            start: at + 8,
            length: u64::from(length),
        }))
    }

    /// Chunks begin at even places.
    fn end(&self) -> u64 {
        // The byte that fills up is not counted in the length.
        self.start.saturating_add(self.length.next_multiple_of(2))
    }

    fn content(&self, input: &Input, most: usize) -> Result<Bytes, DecodeError> {
        input.bytes_at(self.start, usize::try_from(self.length).unwrap_or(most).min(most))
    }
}

impl PcmPackets {
    /// The WAVE file whose `RIFF` or `RF64` stands at `start`.
    ///
    /// # Errors
    ///
    /// `UnsupportedCodec`, `Malformed`, `Io`, `Interrupted`.
    pub(super) fn wave(input: Input, start: u64) -> Result<Self, DecodeError> {
        let head = input.bytes_at(start, 12)?;
        // Believed for nothing but whether lengths were known when it was written: many writers get it wrong.
        let riff = number(&head, 4).unwrap_or(0);
        // In the order in which they stand: only what comes before the sound is read. A network may have no more to give for
        // now.
        let (mut samples, mut long) = (None, None);
        let mut tags = Tags::default();
        let mut at = start + 12;
        for _ in 0..CHUNKS {
            let Some(chunk) = Chunk::read(&input, at, false)? else {
                break;
            };
            match &chunk.name {
                // RF64 has the lengths of 64 bits here, and all ones in the places where RIFF has them.
                b"ds64" => {
                    // The file's length, and behind it that of the sound.
                    let content = chunk.content(&input, 16)?;
                    long = content
                        .get(8..16)
                        .and_then(|size| size.try_into().ok())
                        .map(u64::from_le_bytes);
                }
                b"LIST" => from_info(&chunk.content(&input, TAGS)?, &mut tags),
                b"id3 " | b"ID3 " => from_id3(chunk.content(&input, TAGS)?, &mut tags),
                b"fmt " => samples = Some(wave_format(&chunk.content(&input, 64)?)?),
                b"data" => {
                    // Sound before its format says nothing. Nor could it be found again by a source that cannot go back.
                    let Some(samples) = samples else {
                        break;
                    };
                    // A length that was not known when the header was written is 0, or all ones, and so is the whole file's.
                    let unknown = riff == u32::MAX || u64::from(riff) + 8 <= chunk.start - start;
                    let length = match (long, u32::try_from(chunk.length)) {
                        (Some(long), Ok(u32::MAX)) => Some(long),
                        (_, Ok(u32::MAX)) => None,
                        (_, Ok(0)) if unknown => None,
                        _ => Some(chunk.length),
                    };
                    let new = Self::new(input, Container::Wav, &samples, chunk.start, length)?;
                    return Ok(Self { tags, ..new });
                }
                _ => {}
            }
            at = chunk.end();
        }
        MalformedSnafu { what: "WAVE header" }.fail()
    }

    /// The AIFF file whose `FORM` stands at `start`.
    ///
    /// # Errors
    ///
    /// As [`wave`](Self::wave).
    pub(super) fn aiff(input: Input, start: u64) -> Result<Self, DecodeError> {
        let compressed = *input.bytes_at(start + 8, 4)? == *b"AIFC";
        let (mut samples, mut sound) = (None, None);
        let mut tags = Tags::default();
        let mut at = start + 12;
        for _ in 0..CHUNKS {
            let Some(chunk) = Chunk::read(&input, at, true)? else {
                break;
            };
            match &chunk.name {
                b"ID3 " => from_id3(chunk.content(&input, TAGS)?, &mut tags),
                b"COMM" => samples = Some(aiff_format(&chunk.content(&input, 64)?, compressed)?),
                b"SSND" => {
                    let head = chunk.content(&input, 8)?;
                    let offset = head
                        .get(..4)
                        .and_then(|bytes| bytes.try_into().ok())
                        .map_or(0, u32::from_be_bytes);
                    // For blocks on tape: frames may begin some bytes further in.
                    let skip = 8 + u64::from(offset);
                    sound = Some((chunk.start + skip, chunk.length.saturating_sub(skip)));
                }
                _ => {}
            }
            // Either of the two chunks may be the first one.
            if let (Some((samples, frames)), Some((start, length))) = (&samples, sound) {
                // The chunk has a byte more where its length is odd, and the frames are counted: the lesser of both is sound.
                let bytes = u64::from(*frames).saturating_mul(frame_bytes(samples));
                let new = Self::new(input, Container::Aiff, samples, start, Some(length.min(bytes)))?;
                return Ok(Self { tags, ..new });
            }
            at = chunk.end();
        }
        MalformedSnafu { what: "AIFF header" }.fail()
    }

    fn new(
        input: Input,
        container: Container,
        samples: &Samples,
        start: u64,
        length: Option<u64>,
    ) -> Result<Self, DecodeError> {
        let frame_bytes = frame_bytes(samples);
        if frame_bytes == 0 || samples.sample_rate == 0 {
            return MalformedSnafu { what: "PCM header" }.fail();
        }
        // A file that was cut off plays up to there.
        let there = input.len().map(|len| len.saturating_sub(start));
        let length = match (length, there) {
            (Some(length), Some(there)) => Some(length.min(there)),
            (length, there) => length.or(there),
        };
        Ok(Self {
            info: TrackInfo {
                container,
                codec: CodecParams {
                    codec: Codec::Pcm,
                    sample_rate: samples.sample_rate,
                    channels: samples.layout.count(),
                    bits_per_sample: Some(samples.bits),
                    frames_per_packet: 0,
                    extra_data: samples.storage.header(samples.layout).into(),
                },
                time_scale: samples.sample_rate,
                wraps: false,
                first_pts: None,
                roll: 0,
                trim: Trim::default(),
            },
            input,
            start,
            frames: length.map(|length| length / frame_bytes),
            frame_bytes,
            next: 0,
            tags: Tags::default(),
        })
    }
}

impl PacketReader for PcmPackets {
    fn info(&self) -> &TrackInfo {
        &self.info
    }

    fn tags(&self) -> Tags {
        self.tags.clone()
    }

    fn next(&mut self) -> Result<Next, DecodeError> {
        // A file without a known end is read until there is nothing.
        let left = self
            .frames
            .map_or(PACKET, |frames| frames.saturating_sub(self.next));
        let most = usize::try_from(PACKET.min(left) * self.frame_bytes).unwrap_or(0);
        let data = self
            .input
            .bytes_at(self.start + self.next * self.frame_bytes, most)?;
        // Some bytes of a frame at the end of a cut file are none.
        let frames = data.len() as u64 / self.frame_bytes;
        if frames == 0 {
            return Ok(Next::End);
        }
        let start = self.next;
        self.next += frames;
        Ok(Next::Packet(Placed {
            start,
            skip_start: 0,
            skip_end: 0,
            packet: Packet {
                data,
                pts: i64::try_from(start).unwrap_or(i64::MAX),
                frames: u32::try_from(frames).unwrap_or(0),
            },
        }))
    }

    fn is_seekable(&self) -> bool {
        self.input.is_seekable()
    }

    fn seek(&mut self, frame: u64) -> Result<(), DecodeError> {
        self.next = frame;
        Ok(())
    }

    fn resumes(&self) -> bool {
        true
    }

    fn total(&self) -> Option<u64> {
        self.frames
    }

    fn bit_rate(&self) -> Option<u64> {
        Some(self.frame_bytes * 8 * u64::from(self.info.codec.sample_rate))
    }
}

fn frame_bytes(samples: &Samples) -> u64 {
    samples.storage.bytes() as u64 * u64::from(samples.layout.count())
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn unsupported(codec: &str) -> DecodeError {
    UnsupportedCodecSnafu { codec }.build()
}

/// `WAVEFORMATEX` and `WAVEFORMATEXTENSIBLE`.
fn wave_format(content: &[u8]) -> Result<Samples, DecodeError> {
    let malformed = || MalformedSnafu { what: "WAVE format" }.build();
    let half = |at: usize| Some(u16::from_le_bytes(content.get(at..at + 2)?.try_into().ok()?));
    let mut tag = half(0).ok_or_else(malformed)?;
    let channels = half(2).filter(|count| *count > 0).ok_or_else(malformed)?;
    let sample_rate = number(content, 4).ok_or_else(malformed)?;
    let bits = half(14).ok_or_else(malformed)?;
    let mut layout = ChannelLayout::from_count(channels);
    let mut valid = bits;
    if tag == 0xfffe {
        tag = half(24).ok_or_else(malformed)?;
        // Bits that are valid stand at the top: a sample of 20 bits in 24 has its scale by the 24.
        valid = half(18)
            .filter(|valid| (1..=bits).contains(valid))
            .unwrap_or(bits);
        // A mask that has another number of places than there are channels tells nothing of where they are heard.
        let places = ChannelLayout::from_mask(number(content, 20).unwrap_or(0));
        if places.count() == channels {
            layout = places;
        }
    }
    let bytes = u8::try_from(bits.div_ceil(8)).unwrap_or(0);
    let storage = match (tag, bytes) {
        (1, 1..=4) => Storage::Int {
            bytes,
            signed: bytes > 1,
            big: false,
        },
        (3, 4 | 8) => Storage::Float { bytes, big: false },
        (6, 1) => Storage::ALaw,
        (7, 1) => Storage::MuLaw,
        (2 | 0x11 | 0x69, _) => return Err(unsupported("ADPCM")),
        (0x50, _) => return Err(unsupported("MPEG audio in WAVE")),
        (0x55, _) => return Err(unsupported("MP3 in WAVE")),
        _ => return Err(unsupported(&format!("WAVE format {tag:#06x} of {bits} bits"))),
    };
    Ok(Samples {
        storage,
        layout,
        sample_rate,
        bits: u32::from(valid),
    })
}

/// The `COMM` chunk, and how many frames it says there are.
fn aiff_format(content: &[u8], compressed: bool) -> Result<(Samples, u32), DecodeError> {
    let malformed = || MalformedSnafu { what: "AIFF format" }.build();
    let half = |at: usize| Some(u16::from_be_bytes(content.get(at..at + 2)?.try_into().ok()?));
    let channels = half(0).filter(|count| *count > 0).ok_or_else(malformed)?;
    let frames = content
        .get(2..6)
        .and_then(|bytes| bytes.try_into().ok())
        .map(u32::from_be_bytes);
    let bits = half(6).ok_or_else(malformed)?;
    let sample_rate = content.get(8..18).and_then(extended).ok_or_else(malformed)?;
    let bytes = u8::try_from(bits.div_ceil(8)).unwrap_or(0);
    let int = |big, signed| match bytes {
        1..=4 => Ok(Storage::Int { bytes, signed, big }),
        _ => Err(unsupported(&format!("AIFF of {bits} bits"))),
    };
    let kind = if compressed {
        content.get(18..22).unwrap_or(b"NONE")
    } else {
        b"NONE"
    };
    let storage = match kind {
        b"NONE" | b"twos" | b"in24" | b"in32" => int(true, true)?,
        b"sowt" => int(false, true)?,
        b"raw " => int(true, false)?,
        b"fl32" | b"FL32" => Storage::Float { bytes: 4, big: true },
        b"fl64" | b"FL64" => Storage::Float { bytes: 8, big: true },
        b"alaw" | b"ALAW" => Storage::ALaw,
        b"ulaw" | b"ULAW" => Storage::MuLaw,
        other => return Err(unsupported(&format!("AIFF-C {}", String::from_utf8_lossy(other)))),
    };
    let samples = Samples {
        bits: u32::try_from(storage.bytes() * 8)
            .unwrap_or(0)
            .min(u32::from(bits).max(8)),
        storage,
        layout: ChannelLayout::from_count(channels),
        sample_rate,
    };
    Ok((samples, frames.ok_or_else(malformed)?))
}

/// A sample rate as an 80-bit float (IEEE 754 extended), to the nearest integer.
fn extended(bytes: &[u8]) -> Option<u32> {
    let exponent = u16::from_be_bytes(bytes.get(..2)?.try_into().ok()?);
    let mantissa = u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?);
    // The mantissa's top bit is worth 2 to this.
    let power = u32::from(exponent).checked_sub(16_383)?;
    let shift = 63_u32.checked_sub(power)?;
    let rounded = (u128::from(mantissa) + (1 << shift >> 1)) >> shift;
    u32::try_from(rounded).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::io::Cursor;

    use super::*;

    fn wave(riff: &[u8; 4], riff_length: u32, extra: &[u8], data_length: u32, data: &[u8]) -> Vec<u8> {
        let mut file = riff.to_vec();
        file.extend(riff_length.to_le_bytes());
        file.extend(b"WAVE");
        file.extend(extra);
        file.extend(b"fmt \x10\0\0\0\x01\0\x02\0\x44\xac\0\0\x10\xb1\x02\0\x04\0\x10\0");
        file.extend(b"data");
        file.extend(data_length.to_le_bytes());
        file.extend(data);
        file
    }

    fn frames(file: Vec<u8>) -> u64 {
        let input = Input::from_reader(Cursor::new(file)).unwrap();
        PcmPackets::wave(input, 0).unwrap().total().unwrap()
    }

    #[test]
    fn lengths_that_were_not_known_when_written_are_those_of_the_file() {
        let data = [1; 400];
        assert_eq!(frames(wave(b"RIFF", 436, b"", 400, &data)), 100);
        assert_eq!(frames(wave(b"RIFF", 0, b"", 0, &data)), 100, "0");
        assert_eq!(
            frames(wave(b"RIFF", u32::MAX, b"", u32::MAX, &data)),
            100,
            "all ones"
        );
        assert_eq!(frames(wave(b"RIFF", 4036, b"", 4000, &data)), 100, "cut off");
        let ds64 = [&b"ds64\x1c\0\0\0"[..], &[0; 8], &300_u64.to_le_bytes(), &[0; 12]].concat();
        assert_eq!(
            frames(wave(b"RF64", u32::MAX, &ds64, u32::MAX, &data)),
            75,
            "RF64"
        );
    }

    #[test]
    fn no_sound_is_no_sound_where_the_length_is_believed() {
        let list = b"LIST\x04\0\0\0INFO";
        assert_eq!(frames(wave(b"RIFF", 48, b"", 0, list)), 0);
    }

    #[test]
    fn a_rate_in_80_bits_is_read() {
        assert_eq!(extended(b"\x40\x0e\xac\x44\0\0\0\0\0\0"), Some(44_100));
        assert_eq!(extended(b"\x40\x0e\xbb\x80\0\0\0\0\0\0"), Some(48_000));
        assert_eq!(extended(b"\0\0\0\0\0\0\0\0\0\0"), None);
    }

    #[test]
    fn what_is_no_pcm_is_refused_by_name() {
        let mut file = wave(b"RIFF", 436, b"", 400, &[0; 400]);
        file[20] = 0x11;
        let input = Input::from_reader(Cursor::new(file)).unwrap();
        let refused = PcmPackets::wave(input, 0).unwrap_err();
        assert_eq!(refused.to_string(), "cannot decode ADPCM");
    }
}

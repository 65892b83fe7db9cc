//! The boxes of MP4 that say what a track is (ISO/IEC 14496-12): pure functions over whole boxes.

use bytes::Bytes;

use super::{aac, bits::Fields};
use crate::decode::{
    Codec, DecodeError,
    error::{MalformedSnafu, UnsupportedCodecSnafu},
    packet::CodecParams,
};

/// A box's type.
pub(crate) type Kind = [u8; 4];

/// The boxes in `bytes`, one after another, each with its body. Ends at the first one that does not fit.
pub(crate) fn boxes(bytes: &Bytes) -> impl Iterator<Item = (Kind, Bytes)> + use<> {
    let mut rest = bytes.clone();
    std::iter::from_fn(move || {
        let header = Header::read(&rest)?;
        let size = header
            .size
            .map_or(Some(rest.len()), |size| usize::try_from(size).ok())?;
        // A box that was cut off is none: half a table would be read as a whole one.
        if size > rest.len() {
            return None;
        }
        let mut whole = rest.split_to(size);
        drop(whole.split_to(header.length));
        Some((header.kind, whole))
    })
}

/// The first box of a type.
pub(crate) fn child(bytes: &Bytes, kind: Kind) -> Option<Bytes> {
    boxes(bytes)
        .find(|(found, _)| *found == kind)
        .map(|(_, body)| body)
}

/// A box at the end of a path of types.
pub(crate) fn descendant(bytes: &Bytes, path: &[&Kind]) -> Option<Bytes> {
    path.iter()
        .try_fold(bytes.clone(), |bytes, kind| child(&bytes, **kind))
}

/// What stands before a box's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    /// Of the header itself.
    pub(crate) length: usize,
    /// Of the whole box; `None` if it goes on to the end.
    pub(crate) size: Option<u64>,
}

impl Header {
    /// The longest header.
    pub(crate) const LONGEST: usize = 16;

    /// `None` if there are too few bytes, or it says that it is shorter than itself.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let size = fields.u32()?;
        let kind = fields.bytes(4)?.try_into().ok()?;
        let (length, size) = match size {
            0 => (8, None),
            1 => (16, Some(fields.u64()?)),
            _ => (8, Some(u64::from(size))),
        };
        size.is_none_or(|size| size >= length as u64)
            .then_some(Self { kind, length, size })
    }
}

/// A full box's version, flags and rest.
pub(crate) fn full(bytes: &[u8]) -> Option<(u8, u32, Fields<'_>)> {
    let mut fields = Fields(bytes);
    let word = fields.u32()?;
    Some(((word >> 24) as u8, word & 0x00ff_ffff, fields))
}

/// `mdhd` and `mvhd`: units per second.
pub(crate) fn time_scale(header: &[u8]) -> Option<u32> {
    let (version, _, mut fields) = full(header)?;
    // Two times, of creation and of the last change, before it.
    fields.bytes(if version == 1 { 16 } else { 8 })?;
    fields.u32().filter(|scale| *scale > 0)
}

/// `tkhd`: the track's number.
pub(crate) fn track_id(header: &[u8]) -> Option<u32> {
    let (version, _, mut fields) = full(header)?;
    fields.bytes(if version == 1 { 16 } else { 8 })?;
    fields.u32()
}

/// `mehd`: how long a fragmented movie plays with all its fragments, in units of the movie.
pub(crate) fn fragments_duration(header: &[u8]) -> Option<u64> {
    let (version, _, mut fields) = full(header)?;
    fields.u32_or_u64(version == 1).filter(|units| *units > 0)
}

/// What a segment index says of the fragments behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentIndex {
    /// Units per second.
    pub(crate) time_scale: u32,
    /// How long they play together, in these units.
    pub(crate) duration: u64,
    /// How many bytes behind the index they end.
    pub(crate) end: u64,
}

/// `sidx` (ISO/IEC 14496-12, 8.16.3); `None` for an index of indexes, whose fragments stand in no order that it tells.
pub(crate) fn segment_index(body: &[u8]) -> Option<SegmentIndex> {
    let (version, _, mut fields) = full(body)?;
    fields.u32()?;
    let time_scale = fields.u32().filter(|scale| *scale > 0)?;
    fields.u32_or_u64(version > 0)?;
    let mut end = fields.u32_or_u64(version > 0)?;
    fields.u16()?;
    let mut duration = 0_u64;
    for _ in 0..fields.u16()? {
        let (size, units) = (fields.u32()?, fields.u32()?);
        fields.u32()?;
        // It points to another index.
        if size >> 31 != 0 {
            return None;
        }
        end = end.checked_add(size.into())?;
        duration += u64::from(units);
    }
    Some(SegmentIndex {
        time_scale,
        duration,
        end,
    })
}

/// `elst`: where the first edit that is not empty begins, in the track's time scale, and how long it is, in the movie's;
/// 0 if it goes on to the end. `None` if there is none, or more than one: then the track is put together of pieces.
pub(crate) fn edit(list: &[u8]) -> Option<(i64, u64)> {
    let (version, _, mut fields) = full(list)?;
    let count = fields.u32()?;
    let mut edit = None;
    for _ in 0..count {
        let duration = fields.u32_or_u64(version == 1)?;
        let start = if version == 1 {
            i64::from_be_bytes(fields.bytes(8)?.try_into().ok()?)
        } else {
            i64::from(i32::from_be_bytes(fields.bytes(4)?.try_into().ok()?))
        };
        fields.bytes(4)?;
        // -1 is an empty edit: a delay before the track, which is not ours to play.
        // Two edits are two pieces of the track: to play the first alone, or both as one, would be wrong either way.
        if start >= 0 && edit.replace((start, duration)).is_some() {
            return None;
        }
    }
    edit
}

/// `sgpd` of type `roll`: how many packets before a place have to be decoded for it.
pub(crate) fn roll(description: &[u8]) -> Option<u16> {
    let (version, _, mut fields) = full(description)?;
    if fields.bytes(4)? != b"roll" {
        return None;
    }
    match version {
        0 => {}
        // A default length, or one before each entry.
        1 => {
            if fields.u32()? == 0 {
                fields.bytes(8)?;
                return Some(fields.u16()?.cast_signed().unsigned_abs());
            }
        }
        _ => drop(fields.u32()?),
    }
    fields.u32()?;
    Some(fields.u16()?.cast_signed().unsigned_abs())
}

/// The sample entry of `stsd` that is decoded.
///
/// # Errors
///
/// `UnsupportedCodec` by name, `Malformed`.
pub(crate) fn sample_entry(description: &Bytes) -> Result<CodecParams, DecodeError> {
    let what = "sample description";
    // Behind version, flags and the number of entries. The first one is decoded: no encoder of music changes the codec in the
    // middle of a track.
    let entries = description
        .get(8..)
        .map_or_else(Bytes::new, |rest| description.slice_ref(rest));
    let Some((kind, entry)) = boxes(&entries).next() else {
        return MalformedSnafu { what }.fail();
    };
    // By name, and before the first frame: an app shows this to people.
    let refused = match &kind {
        b"enca" => Some("encrypted MP4 (Common Encryption)".to_owned()),
        b"ac-3" => Some("AC-3".to_owned()),
        b"ec-3" => Some("E-AC-3".to_owned()),
        b"ac-4" => Some("AC-4".to_owned()),
        b"mp4a" | b"fLaC" | b"Opus" | b"alac" | b".mp3" => None,
        other => Some(format!("\"{}\"", String::from_utf8_lossy(other).escape_debug())),
    };
    if let Some(codec) = refused {
        return UnsupportedCodecSnafu { codec }.fail();
    }
    let params = audio_entry(&entry).and_then(|(channels, rate, children)| match &kind {
        // The codec's own header decides where there is one: the entry's fields are 16 bits wide, and often left at a default.
        b"mp4a" => elementary_stream(&child(&children, *b"esds")?, channels, rate),
        b".mp3" => Some(Ok(mp3(channels, rate))),
        b"fLaC" => flac(&child(&children, *b"dfLa")?).map(Ok),
        b"Opus" => opus(&child(&children, *b"dOps")?).map(Ok),
        _ => alac(&child(&children, *b"alac")?).map(Ok),
    });
    params.unwrap_or_else(|| MalformedSnafu { what }.fail())
}

/// `AudioSampleEntry`: channels, sample rate, and the boxes in it.
fn audio_entry(entry: &Bytes) -> Option<(u16, u32, Bytes)> {
    let mut fields = Fields(entry);
    // Six reserved bytes and the number of a data reference.
    fields.bytes(8)?;
    let version = fields.u16()?;
    fields.bytes(6)?;
    let channels = fields.u16()?;
    fields.bytes(6)?;
    // 16.16 fixed point, and too small for 96 kHz: the codec's own header has the last word where there is one.
    let rate = fields.u32()? >> 16;
    // QuickTime's versions have more fields.
    fields.bytes(match version {
        1 => 16,
        2 => 36,
        _ => 0,
    })?;
    Some((channels, rate, entry.slice_ref(fields.0)))
}

/// The length of an MPEG-4 descriptor, seven bits in each byte.
fn descriptor<'a>(fields: &mut Fields<'a>) -> Option<(u8, Fields<'a>)> {
    let tag = fields.u8()?;
    let mut length = 0_usize;
    for _ in 0..4 {
        let byte = fields.u8()?;
        length = length << 7 | usize::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            break;
        }
    }
    // Some writers count wrong: what is there is read.
    let body = fields.bytes(length.min(fields.0.len()))?;
    Some((tag, Fields(body)))
}

/// `esds` (ISO/IEC 14496-1, 7.2.6.5).
fn elementary_stream(body: &Bytes, channels: u16, rate: u32) -> Option<Result<CodecParams, DecodeError>> {
    let (_, _, mut fields) = full(body)?;
    let (3, mut stream) = descriptor(&mut fields)? else {
        return None;
    };
    stream.u16()?;
    let flags = stream.u8()?;
    // Optional fields, each by its flag: none of them matters here, and what stands behind them does.
    if flags & 0x80 != 0 {
        stream.u16()?;
    }
    if flags & 0x40 != 0 {
        let length = stream.u8()?;
        stream.bytes(length.into())?;
    }
    if flags & 0x20 != 0 {
        stream.u16()?;
    }
    let (4, mut config) = descriptor(&mut stream)? else {
        return None;
    };
    let object = config.u8()?;
    config.bytes(12)?;
    match object {
        // MPEG-4 AAC, and MPEG-2's three profiles, whose packets are the same.
        0x40 | 0x66..=0x68 => {
            let (5, specific) = descriptor(&mut config)? else {
                return None;
            };
            Some(aac::params(&body.slice_ref(specific.0)))
        }
        0x69 | 0x6b => Some(Ok(mp3(channels, rate))),
        other => {
            let codec = match other {
                0xa5 => "AC-3".to_owned(),
                0xa6 => "E-AC-3".to_owned(),
                0xa9 | 0xac => "DTS".to_owned(),
                0xad => "Opus in mp4a".to_owned(),
                0xdd => "Vorbis in MP4".to_owned(),
                _ => format!("MPEG-4 object type {other:#x}"),
            };
            Some(UnsupportedCodecSnafu { codec }.fail())
        }
    }
}

fn mp3(channels: u16, sample_rate: u32) -> CodecParams {
    CodecParams {
        codec: Codec::Mp3,
        sample_rate,
        channels,
        bits_per_sample: None,
        // MPEG-2 and 2.5 have half as many, and those are the lower rates.
        frames_per_packet: if sample_rate < 32_000 { 576 } else { 1152 },
        extra_data: Bytes::new(),
    }
}

/// `dfLa`: FLAC's metadata blocks, `STREAMINFO` first (RFC 9639, 8.2).
fn flac(body: &Bytes) -> Option<CodecParams> {
    let (_, _, mut fields) = full(body)?;
    let header = fields.u32()?;
    let info = fields.bytes(34).filter(|_| header << 1 >> 25 == 0)?;
    let mut streaminfo = Fields(info);
    let (smallest, largest) = (streaminfo.u16()?, streaminfo.u16()?);
    streaminfo.bytes(6)?;
    let packed = streaminfo.u64()?;
    let field = |shift: u32, mask: u64| u32::try_from(packed >> shift & mask).ok();
    Some(CodecParams {
        codec: Codec::Flac,
        sample_rate: field(44, 0xf_ffff).filter(|rate| *rate > 0)?,
        channels: u16::try_from(field(41, 7)? + 1).ok()?,
        bits_per_sample: Some(field(36, 31)? + 1),
        // A block size that varies is told by each packet.
        frames_per_packet: if smallest == largest { largest.into() } else { 0 },
        extra_data: body.slice_ref(info),
    })
}

/// `dOps` (Encapsulation of Opus in ISO BMFF, 4.3.2), as the header that Ogg has (RFC 7845, 5.1).
fn opus(body: &Bytes) -> Option<CodecParams> {
    let mut fields = Fields(body);
    // Of this box, and not that of the header in Ogg, which is always 1.
    let _version = fields.u8()?;
    let channels = fields.u8()?;
    let (pre_skip, rate, gain) = (fields.u16()?, fields.u32()?, fields.u16()?);
    let mut header = b"OpusHead\x01".to_vec();
    header.push(channels);
    header.extend(pre_skip.to_le_bytes());
    header.extend(rate.to_le_bytes());
    header.extend(gain.to_le_bytes());
    let mapping = fields.u8()?;
    header.push(mapping);
    if mapping != 0 {
        header.extend(fields.bytes(2 + usize::from(channels))?);
    }
    Some(CodecParams {
        codec: Codec::Opus,
        sample_rate: 48_000,
        channels: u16::from(channels),
        bits_per_sample: None,
        frames_per_packet: 0,
        extra_data: header.into(),
    })
}

/// The frames that an Opus decoder gives before the encoder's input.
pub(crate) fn pre_skip(params: &CodecParams) -> Option<u16> {
    let bytes = params
        .extra_data
        .get(10..12)
        .filter(|_| params.codec == Codec::Opus)?;
    Some(u16::from_le_bytes(bytes.try_into().ok()?))
}

/// The ALAC cookie.
fn alac(body: &Bytes) -> Option<CodecParams> {
    let (_, _, mut fields) = full(body)?;
    let cookie = fields.0;
    let frames = fields.u32()?;
    fields.u8()?;
    let bits = fields.u8()?;
    fields.bytes(3)?;
    let channels = fields.u8()?;
    fields.bytes(10)?;
    let rate = fields.u32()?;
    Some(CodecParams {
        codec: Codec::Alac,
        sample_rate: rate,
        channels: channels.into(),
        bits_per_sample: Some(bits.into()),
        frames_per_packet: frames,
        extra_data: body.slice_ref(cookie),
    })
}

//! What AAC says of itself: `AudioSpecificConfig`, and the traces of spectral band replication in a packet.

use bytes::Bytes;

use super::bits::Bits;
use crate::decode::{
    Codec, DecodeError,
    error::{MalformedSnafu, UnsupportedCodecSnafu},
    packet::CodecParams,
};

/// `ID_FIL`, what a fill element begins with.
const FILL: u16 = 6;

/// Sample rates by index (ISO/IEC 14496-3, table 1.18).
const RATES: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350,
];

/// The sample rate with this index.
pub(super) fn rate(index: u32) -> Option<u32> {
    RATES.get(usize::try_from(index).ok()?).copied()
}

/// Channels of a channel configuration; `None` where a program config element tells.
pub(super) fn channels(configuration: u32) -> Option<u16> {
    [0, 1, 2, 3, 4, 5, 6, 8]
        .get(usize::try_from(configuration).ok()?)
        .copied()
        .filter(|channels| *channels > 0)
}

fn object_type(bits: &mut Bits<'_>) -> Option<u32> {
    match bits.read(5)? {
        31 => Some(32 + bits.read(6)?),
        object => Some(object),
    }
}

fn explicit_rate(bits: &mut Bits<'_>) -> Option<u32> {
    match bits.read(4)? {
        15 => bits.read(24),
        index => rate(index),
    }
}

/// The fields of an `AudioSpecificConfig` (ISO/IEC 14496-3, 1.6.2.1) that decide what comes out.
struct Config {
    object: u32,
    core_rate: u32,
    configuration: u32,
    short_frames: bool,
    /// The rate after spectral band replication, if that is announced.
    extension_rate: Option<u32>,
    parametric_stereo: bool,
    /// Whether it says that there is replication, or that there is none.
    explicit: bool,
}

fn config(bytes: &[u8]) -> Option<Config> {
    let mut bits = Bits::new(bytes);
    let mut object = object_type(&mut bits)?;
    let core_rate = explicit_rate(&mut bits)?;
    let configuration = bits.read(4)?;
    let (mut extension_rate, mut parametric_stereo, mut explicit) = (None, false, false);
    // Announced before the core's own type: HE-AAC is 5, with parametric stereo 29.
    if object == 5 || object == 29 {
        (parametric_stereo, explicit) = (object == 29, true);
        extension_rate = Some(explicit_rate(&mut bits)?);
        object = object_type(&mut bits)?;
    }
    let mut short_frames = false;
    if matches!(object, 1..=4 | 6 | 7 | 17 | 19..=23) {
        short_frames = bits.read(1)? == 1;
        if bits.read(1)? == 1 {
            bits.skip(14)?;
        }
        let extension = bits.read(1)?;
        if extension == 1 {
            // Only scalable and error resilient types have more here; none of them is decoded.
            bits.skip(1)?;
        }
    }
    // Announced behind the core's: old decoders stop before it.
    if extension_rate.is_none() && configuration != 0 && bits.left() >= 16 && bits.read(11)? == 0x2b7 {
        explicit = true;
        if object_type(&mut bits)? == 5 && bits.read(1)? == 1 {
            extension_rate = Some(explicit_rate(&mut bits)?);
            if bits.left() >= 12 && bits.read(11)? == 0x548 {
                parametric_stereo = bits.read(1)? == 1;
            }
        }
    }
    Some(Config {
        object,
        core_rate,
        configuration,
        short_frames,
        extension_rate,
        parametric_stereo,
        explicit,
    })
}

/// Whether AAC that says to be Low Complexity may be more: nothing says that there is no band replication.
pub(crate) fn may_hide_sbr(params: &CodecParams) -> bool {
    // It doubles the rate, and never beyond 48 kHz in practice. To look for it elsewhere would hold the first frame back.
    params.codec == Codec::AacLc
        && params.sample_rate <= 24_000
        && config(&params.extra_data).is_some_and(|config| !config.explicit)
}

/// The same AAC with band replication, which doubles its rate. The new config announces it.
pub(crate) fn with_sbr(params: &CodecParams) -> CodecParams {
    let doubled = params.sample_rate * 2;
    let index = |rate: u32| {
        RATES
            .iter()
            .position(|known| *known == rate)
            .and_then(|at| u32::try_from(at).ok())
    };
    let announced = config(&params.extra_data).and_then(|config| {
        // A rate without an index stays implicit: the decoder finds it out by itself then.
        let (core, extension) = (index(config.core_rate)?, index(doubled)?);
        // Type 5, core rate, channels, rate, type 2, three flags that are 0.
        let bits = 5 << 27 | core << 23 | (config.configuration & 15) << 19 | extension << 15 | 2 << 10;
        Some(Bytes::copy_from_slice(&bits.to_be_bytes()))
    });
    CodecParams {
        codec: Codec::HeAac,
        sample_rate: doubled,
        frames_per_packet: params.frames_per_packet * 2,
        extra_data: announced.unwrap_or_else(|| params.extra_data.clone()),
        ..params.clone()
    }
}

/// What a decoder has to know, from an `AudioSpecificConfig`.
///
/// # Errors
///
/// `UnsupportedCodec` for other object types than Low Complexity, `Malformed`.
pub(super) fn params(config_bytes: &Bytes) -> Result<CodecParams, DecodeError> {
    let what = "AudioSpecificConfig";
    let Some(config) = config(config_bytes).filter(|config| config.core_rate > 0) else {
        return MalformedSnafu { what }.fail();
    };
    if config.object != 2 {
        let name = match config.object {
            1 => "AAC Main",
            3 => "AAC SSR",
            4 => "AAC LTP",
            17 => "ER AAC LC",
            23 => "AAC-LD",
            39 => "AAC-ELD",
            42 => "xHE-AAC",
            _ => "an unknown kind of AAC",
        };
        let codec = format!("{name} (object type {})", config.object);
        return UnsupportedCodecSnafu { codec }.fail();
    }
    let Some(channels) = channels(config.configuration) else {
        let codec = "AAC with a program config element";
        return UnsupportedCodecSnafu { codec }.fail();
    };
    // 960 is what digital radio has.
    let core_frames = if config.short_frames { 960 } else { 1024 };
    // What is announced is what is heard: a decoder of the core alone would play at half the rate, without an error.
    let (codec, sample_rate) = match config.extension_rate {
        Some(_) if config.parametric_stereo => (Codec::HeAacV2, config.extension_rate),
        Some(_) => (Codec::HeAac, config.extension_rate),
        None => (Codec::AacLc, None),
    };
    let sample_rate = sample_rate.unwrap_or(config.core_rate);
    // A rate that is no multiple of the core's is an announcement gone wrong.
    let Some(scale) = (sample_rate % config.core_rate == 0).then(|| sample_rate / config.core_rate) else {
        return MalformedSnafu { what }.fail();
    };
    Ok(CodecParams {
        codec,
        sample_rate,
        channels: if config.parametric_stereo { 2 } else { channels },
        bits_per_sample: None,
        frames_per_packet: core_frames * scale.clamp(1, 2),
        extra_data: config_bytes.clone(),
    })
}

/// The `AudioSpecificConfig` of AAC in ADTS, whose headers hold the same three fields.
pub(super) fn config_of_adts(object: u32, rate_index: u32, configuration: u32) -> Bytes {
    let word = (object & 31) << 11 | (rate_index & 15) << 7 | (configuration & 15) << 3;
    let [_, _, high, low] = word.to_be_bytes();
    Bytes::copy_from_slice(&[high, low])
}

/// What ADTS mostly holds: Low Complexity in stereo, of 44.1 kHz or 48 kHz.
pub(crate) fn likely_params() -> Vec<CodecParams> {
    let likely = [4, 3].map(|rate_index| params(&config_of_adts(2, rate_index, 2)));
    likely.into_iter().flatten().collect()
}

/// Whether a packet ends with a fill element that holds spectral band replication, as each packet of HE-AAC does.
///
/// ADTS cannot announce it, and MP4 need not. A decoder that does not know it plays half the rate without an error, so the
/// packet itself is asked. Its elements cannot be told apart without decoding them, but their end can: a fill element says
/// how long it is, and ends where the end mark stands. One packet in hundreds matches by chance; ask several.
pub(crate) fn ends_with_sbr(packet: &[u8]) -> bool {
    // Any bit may be its first one. Only where its ID stands is the rest worth reading: this is done before the first frame.
    let behind = packet.iter().skip(1).chain([&0]);
    packet
        .iter()
        .zip(behind)
        .enumerate()
        .any(|(at, (first, second))| {
            let word = u16::from_be_bytes([*first, *second]);
            (0..8)
                .any(|bit| (word << bit) >> 13 == FILL && is_replication(packet, at * 8 + bit) == Some(true))
        })
}

/// Whether a fill element with replication begins at this bit, and nothing but more fill elements comes before the end mark.
fn is_replication(packet: &[u8], at: usize) -> Option<bool> {
    let mut bits = Bits::new(packet);
    bits.skip(at)?;
    if bits.read(3)? != u32::from(FILL) {
        return Some(false);
    }
    if !matches!(fill(&mut bits)?, 0xd | 0xe) {
        return Some(false);
    }
    loop {
        match bits.read(3)? {
            // An encoder of a constant bit rate fills up.
            6 => fill(&mut bits).map(drop)?,
            // ID_END; what is left fills the last byte.
            7 => return Some(bits.left() < 8),
            _ => return Some(false),
        }
    }
}

/// Passes over a fill element, behind its ID; the type of what it holds, which is 0 for nothing.
fn fill(bits: &mut Bits<'_>) -> Option<u32> {
    let mut count = usize::try_from(bits.read(4)?).ok()?;
    if count == 15 {
        count += usize::try_from(bits.read(8)?).ok()?.checked_sub(1)?;
    }
    if count == 0 {
        return Some(0);
    }
    let kind = bits.read(4)?;
    bits.skip(count * 8 - 4)?;
    Some(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &'static [u8]) -> Result<CodecParams, DecodeError> {
        params(&Bytes::from_static(bytes))
    }

    #[test]
    fn low_complexity_is_told_with_and_without_the_word_that_there_is_no_replication() {
        for bytes in [&[0x12, 0x10][..], &[0x12, 0x10, 0x56, 0xe5, 0x00]] {
            let params = of(bytes).unwrap();
            assert_eq!(
                (
                    params.codec,
                    params.sample_rate,
                    params.channels,
                    params.frames_per_packet
                ),
                (Codec::AacLc, 44_100, 2, 1024)
            );
            assert!(!may_hide_sbr(&params), "it would double the rate to 88.2 kHz");
        }
        // Core 22.05 kHz, stereo.
        assert!(may_hide_sbr(&of(&[0x13, 0x90]).unwrap()));
        assert!(!may_hide_sbr(&of(&[0x13, 0x90, 0x56, 0xe5, 0x00]).unwrap()));
        let half = with_sbr(&of(&[0x13, 0x90]).unwrap());
        let told = super::params(&half.extra_data).unwrap();
        assert_eq!(
            (told.codec, told.sample_rate, told.channels),
            (Codec::HeAac, 44_100, 2)
        );
        assert_eq!((half.sample_rate, half.frames_per_packet), (44_100, 2048));
    }

    /// P6: both ways to announce HE-AAC give the rate that is heard.
    #[test]
    fn he_aac_is_told_by_the_rate_it_has_after_replication() {
        // Type 5, core 22.05 kHz, stereo, 44.1 kHz, type 2.
        let before = of(&[0x2b, 0x92, 0x08, 0x00]).unwrap();
        // Type 2, core 22.05 kHz, stereo; 0x2b7, type 5, present, 44.1 kHz.
        let behind = of(&[0x13, 0x90, 0x56, 0xe5, 0xa0]).unwrap();
        for params in [before, behind] {
            assert_eq!(
                (
                    params.codec,
                    params.sample_rate,
                    params.channels,
                    params.frames_per_packet
                ),
                (Codec::HeAac, 44_100, 2, 2048)
            );
        }
        // Type 29, core 22.05 kHz, mono, 44.1 kHz, type 2.
        let stereo = of(&[0xeb, 0x8a, 0x08, 0x00]).unwrap();
        assert_eq!(
            (stereo.codec, stereo.sample_rate, stereo.channels),
            (Codec::HeAacV2, 44_100, 2)
        );
    }

    #[test]
    fn other_kinds_are_refused_by_name() {
        let message = |bytes| of(bytes).unwrap_err().to_string();
        assert_eq!(message(&[0x0a, 0x10]), "cannot decode AAC Main (object type 1)");
        assert_eq!(
            message(&[0xf9, 0x46, 0x40]),
            "cannot decode xHE-AAC (object type 42)"
        );
        assert_eq!(
            message(&[0x12, 0x00]),
            "cannot decode AAC with a program config element"
        );
        assert_eq!(message(&[0x12]), "malformed AudioSpecificConfig");
    }

    #[test]
    fn an_adts_header_makes_the_same_config() {
        assert_eq!(config_of_adts(2, 4, 2), Bytes::from_static(&[0x12, 0x10]));
    }

    #[test]
    fn a_packet_that_ends_with_replication_is_seen() {
        // Five bits of something, a fill element of two bytes whose type is 13, the end mark, padding.
        let bits = "01001".to_owned() + "110" + "0010" + "1101000011110000" + "111" + "0";
        assert_eq!(bits.len(), 32);
        let packet = u32::from_str_radix(&bits, 2).unwrap().to_be_bytes();
        assert!(ends_with_sbr(&packet));
        // More filling behind it.
        let stuffed = "01001".to_owned() + "110" + "0001" + "11010000" + "110" + "0000" + "111" + "00";
        assert!(ends_with_sbr(
            &u32::from_str_radix(&stuffed, 2).unwrap().to_be_bytes()
        ));
        let filler = bits.replacen("1101000011110000", "0000000011110000", 1);
        assert!(!ends_with_sbr(
            &u32::from_str_radix(&filler, 2).unwrap().to_be_bytes()
        ));
    }
}

//! What is being decoded: codec, container, sample rate, channels, and what was left out.

use std::fmt;

/// A codec: how the packets of a track are encoded.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// MPEG-1, 2 and 2.5 audio, layer 3. Layers 1 and 2 are refused by name.
    Mp3,
    /// AAC Low Complexity (ISO/IEC 14496-3).
    AacLc,
    /// AAC with spectral band replication, and with parametric stereo where `HeAacV2` is said.
    HeAac,
    /// HE-AAC with parametric stereo.
    HeAacV2,
    /// Free Lossless Audio Codec (RFC 9639).
    Flac,
    /// Vorbis I.
    Vorbis,
    /// Apple Lossless Audio Codec.
    Alac,
    /// Opus (RFC 6716).
    Opus,
    /// Uncompressed samples, A-law and mu-law among them.
    Pcm,
}

impl Codec {
    /// Whether the decoder gives back the encoder's input bit for bit.
    pub fn is_lossless(self) -> bool {
        matches!(self, Self::Flac | Self::Alac | Self::Pcm)
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mp3 => "MP3",
            Self::AacLc => "AAC-LC",
            Self::HeAac => "HE-AAC",
            Self::HeAacV2 => "HE-AAC v2",
            Self::Flac => "FLAC",
            Self::Vorbis => "Vorbis",
            Self::Alac => "ALAC",
            Self::Opus => "Opus",
            Self::Pcm => "PCM",
        })
    }
}

/// A container: how packets are stored.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Container {
    /// MP4, M4A, MOV (ISO/IEC 14496-12).
    Mp4,
    /// Fragmented MP4, as in HLS.
    FragmentedMp4,
    /// MPEG-2 Transport Stream (ISO/IEC 13818-1).
    MpegTs,
    /// AAC frames behind ADTS headers, one after another.
    Adts,
    /// MPEG audio frames, one after another.
    Mpeg,
    /// Ogg (RFC 3533).
    Ogg,
    /// FLAC's own.
    Flac,
    /// WAVE, RF64 among it.
    Wav,
    /// AIFF and AIFF-C.
    Aiff,
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mp4 => "MP4",
            Self::FragmentedMp4 => "fragmented MP4",
            Self::MpegTs => "MPEG-TS",
            Self::Adts => "ADTS",
            Self::Mpeg => "MPEG audio",
            Self::Ogg => "Ogg",
            Self::Flac => "FLAC",
            Self::Wav => "WAV",
            Self::Aiff => "AIFF",
        })
    }
}

/// The channels of a frame: how many there are, and where each is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChannelLayout {
    count: u16,
    mask: u32,
}

impl ChannelLayout {
    /// One channel.
    pub const MONO: Self = Self { count: 1, mask: 0x4 };
    /// Left and right.
    pub const STEREO: Self = Self { count: 2, mask: 0x3 };

    /// `count` channels in the usual places for that number: mono, stereo, 3.0, 4.0, 5.0, 5.1, 6.1, 7.1. Any other number has
    /// no places.
    pub fn from_count(count: u16) -> Self {
        let mask = match count {
            1 => 0x4,
            2 => 0x3,
            3 => 0x7,
            4 => 0x33,
            5 => 0x37,
            6 => 0x3f,
            7 => 0x70f,
            8 => 0x63f,
            _ => 0,
        };
        Self { count, mask }
    }

    /// Channels whose places are the bits of `mask`, as in `dwChannelMask` of a WAVE file: bit 0 is front left, bit 1 front
    /// right, bit 2 front centre, bit 3 LFE, bits 4 and 5 back left and right, bits 9 and 10 side left and right. The
    /// samples of a frame stand in the order of the bits.
    pub fn from_mask(mask: u32) -> Self {
        let count = u16::try_from(mask.count_ones()).unwrap_or(0);
        Self { count, mask }
    }

    /// How many channels there are.
    pub fn count(self) -> u16 {
        self.count
    }

    /// Their places as bits, see [`from_mask`](Self::from_mask); 0 if they have none.
    pub fn mask(self) -> u32 {
        self.mask
    }
}

/// What a block's samples mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Spec {
    /// Frames per second.
    pub sample_rate: u32,
    /// The channels of each frame.
    pub channels: ChannelLayout,
}

/// Which rule told how many frames at a track's start and end are not the encoder's input.
///
/// The rules in the order in which they are trusted; the first one that says something is used.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TrimRule {
    /// An edit list of MP4 (`elst`).
    EditList,
    /// iTunes' gapless tag (`iTunSMPB`).
    ITunSmpb,
    /// The Xing, Info or LAME header of an MP3 file.
    Lame,
    /// Pre-skip and the last page's granule position of Ogg Opus, or what the container says in their place.
    OpusPreSkip,
    /// The granule positions of Ogg Vorbis.
    OggGranule,
    /// Nothing says anything; nothing is left out.
    #[default]
    None,
}

/// The frames left out at a track's start and end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Trim {
    /// Frames left out at the start: priming.
    pub start: u64,
    /// Frames left out at the end: padding. `None` where it is known only when the end is reached.
    pub end: Option<u64>,
    /// What told.
    pub rule: TrimRule,
}

/// What is being decoded.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    /// The codec.
    pub codec: Codec,
    /// The container.
    pub container: Container,
    /// The track's own sample rate and channels.
    pub spec: Spec,
    /// Bits of one sample, where the codec is lossless.
    pub bits_per_sample: Option<u32>,
    /// Bits per second, on average, where that is known.
    pub bit_rate: Option<u64>,
    /// What is left out at start and end.
    pub trim: Trim,
}

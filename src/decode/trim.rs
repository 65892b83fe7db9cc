//! How many frames at a track's start and end are not the encoder's input: each rule a pure function, and their order.
//!
//! A rule counts frames as the decoder gives them out, with nothing left out yet.

use super::{Trim, TrimRule};

/// The delay of an MP3 decoder, in frames: LAME counts its own delay only.
const MP3_DECODER_DELAY: u64 = 529;

/// A time in a track's units as frames, rounded to the nearest; 0 if it is before the start.
pub(crate) fn to_frames(time: i64, time_scale: u32, sample_rate: u32) -> u64 {
    let (time, scale) = (u128::try_from(time).unwrap_or(0), u128::from(time_scale.max(1)));
    let frames = (time * u128::from(sample_rate) + scale / 2) / scale;
    u64::try_from(frames).unwrap_or(u64::MAX)
}

/// What the rules say of one track. A rule that has nothing to say is `None`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Declared {
    pub(crate) edit_list: Option<Trim>,
    pub(crate) itun_smpb: Option<Trim>,
    pub(crate) lame: Option<Trim>,
    pub(crate) opus: Option<Trim>,
    pub(crate) ogg: Option<Trim>,
}

impl Declared {
    /// The first rule that says something, in the order of trust. Where none does, nothing is left out.
    pub(crate) fn choose(self) -> Trim {
        // Edit lists are the container's own, and editors that cut a track write them; iTunes' tag stays behind as it was.
        // An encoder's header is older still.
        let rules = [self.edit_list, self.itun_smpb, self.lame, self.opus, self.ogg];
        rules.into_iter().flatten().next().unwrap_or_default()
    }
}

/// One edit of MP4, and the track it is made on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Edit {
    /// Where it begins, in units of `time_scale`.
    pub(crate) start: i64,
    /// How long it is, in units of `movie_scale`; 0 if it goes on to the end.
    pub(crate) duration: u64,
    pub(crate) movie_scale: u32,
    pub(crate) time_scale: u32,
    /// How long all packets are together, in units of `time_scale`; 0 if that is not known.
    pub(crate) media_duration: u64,
}

/// An edit list (ISO/IEC 14496-12, 8.6.6). `decoded` frames are what the decoder makes of all packets, if that is known.
pub(crate) fn edit_list(edit: Edit, sample_rate: u32, decoded: Option<u64>) -> Trim {
    let units = |units: u64, scale| to_frames(i64::try_from(units).unwrap_or(i64::MAX), scale, sample_rate);
    // The start counts in the track's units, and the duration in the movie's.
    let start = to_frames(edit.start, edit.time_scale, sample_rate);
    let media_end = (edit.media_duration > 0).then(|| units(edit.media_duration, edit.time_scale));
    let edit_end = (edit.duration > 0).then(|| start.saturating_add(units(edit.duration, edit.movie_scale)));
    // A movie's unit is often a millisecond, rounded or cut off: the packets' own lengths are exact, and are believed
    // where the two say the same. An edit that ends earlier by more than that is meant.
    let unit = u64::from(sample_rate.div_ceil(edit.movie_scale.max(1)));
    let end = match (edit_end, media_end) {
        (Some(edit), Some(media)) if edit.abs_diff(media) <= unit => Some(media),
        (Some(edit), Some(media)) => Some(edit.min(media)),
        (edit, media) => edit.or(media),
    };
    Trim {
        start,
        end: end.zip(decoded).map(|(end, decoded)| decoded.saturating_sub(end)),
        rule: TrimRule::EditList,
    }
}

/// iTunes' tag: four hexadecimal numbers and more, of which the second is the priming, the third the padding and the fourth
/// the length. `decoded` is as in [`edit_list`].
pub(crate) fn itun_smpb(text: &str, decoded: Option<u64>) -> Option<Trim> {
    let mut fields = text.split_ascii_whitespace().skip(1);
    let mut field = || u64::from_str_radix(fields.next()?, 16).ok();
    let (start, padding) = (field()?, field()?);
    let length = field().filter(|length| *length > 0);
    // Better than the padding, where both are there: some tools change the one and leave the other.
    let by_length = length
        .zip(decoded)
        .and_then(|(length, decoded)| decoded.checked_sub(start)?.checked_sub(length));
    // The tag of a file that was cut, or of another one: it asks for more than there is.
    if decoded.is_some_and(|decoded| start.saturating_add(padding) > decoded) {
        return None;
    }
    Some(Trim {
        start,
        end: Some(by_length.unwrap_or(padding)),
        rule: TrimRule::ITunSmpb,
    })
}

/// What an MP3 file's first frame says: it holds no sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lame {
    /// How many frames of sound follow it, each of 1 152 or 576 frames of PCM, where it says so.
    pub(crate) packets: Option<u32>,
    /// How many bytes it and they have, where it says so.
    pub(crate) bytes: Option<u32>,
    /// Priming and padding as the encoder counts them, where it says so.
    pub(crate) delays: Option<(u16, u16)>,
}

impl Lame {
    /// Reads an MPEG audio frame with a `Xing` or `Info` header; `None` if it has none.
    pub(crate) fn read(frame: &[u8]) -> Option<Self> {
        let [_, second, _, fourth, ..] = frame else {
            return None;
        };
        // Side information, whose length depends on version and channels, is all zeros in this frame.
        let side = match (second >> 3 & 1 == 1, fourth >> 6 == 3) {
            (true, false) => 32,
            (true, true) | (false, false) => 17,
            (false, true) => 9,
        };
        let tag = frame.get(4 + side..)?;
        let rest = tag.strip_prefix(b"Xing").or_else(|| tag.strip_prefix(b"Info"))?;
        let word = |at: usize| Some(u32::from_be_bytes(rest.get(at..at + 4)?.try_into().ok()?));
        let flags = word(0)?;
        let packets = if flags & 1 == 0 { None } else { word(4) };
        let after = if flags & 1 == 0 { 4 } else { 8 };
        let bytes = if flags & 2 == 0 { None } else { word(after) };
        // Frames, bytes, the table of contents, quality: each is there by its flag.
        let widths = [(1, 4), (2, 4), (4, 100), (8, 4)];
        let fields: usize = widths
            .iter()
            .filter(|(flag, _)| flags & flag != 0)
            .map(|(_, width)| width)
            .sum();
        let delays = rest.get(4 + fields..).and_then(|encoder| {
            // Nine characters name the encoder; twelve bytes on there are twice twelve bits.
            let named =
                encoder.starts_with(b"LAME") || encoder.starts_with(b"Lav") || encoder.starts_with(b"L3.99");
            let [high, middle, low] = encoder.get(21..24)?.try_into().ok()?;
            let [high, middle, low]: [u16; 3] = [high, middle, low].map(u16::from);
            // Others put other bytes there, or nothing.
            named.then_some((high << 4 | middle >> 4, (middle & 15) << 8 | low))
        });
        Some(Self {
            packets,
            bytes,
            delays,
        })
    }

    /// The frames to be left out.
    pub(crate) fn trim(self) -> Option<Trim> {
        let (delay, padding) = self.delays?;
        Some(Trim {
            start: u64::from(delay) + MP3_DECODER_DELAY,
            // The decoder's delay moves the end as well: that much less of the last frames is padding.
            end: Some(u64::from(padding).saturating_sub(MP3_DECODER_DELAY)),
            rule: TrimRule::Lame,
        })
    }
}

/// Opus (RFC 7845, 4.2 and 4.4): the pre-skip, and what the last page's granule position leaves out.
pub(crate) fn opus(pre_skip: u64, end: Option<u64>) -> Trim {
    Trim {
        start: pre_skip,
        end,
        rule: TrimRule::OpusPreSkip,
    }
}

/// Ogg Vorbis (Vorbis I, A.2): the granule positions of the first and of the last page that ends a packet, against the
/// frames decoded up to each.
pub(crate) fn ogg(first: Option<(u64, u64)>, last: Option<(u64, u64)>) -> Option<Trim> {
    let beyond = |(granule, decoded): (u64, u64)| decoded.saturating_sub(granule);
    let start = first.map_or(0, beyond);
    // The last page counts from the track's start: what was left out there is no padding.
    let end = last.map(|page| beyond(page).saturating_sub(start));
    (first.is_some() || last.is_some()).then_some(Trim {
        start,
        end,
        rule: TrimRule::OggGranule,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trim(start: u64, end: u64, rule: TrimRule) -> Trim {
        Trim {
            start,
            end: Some(end),
            rule,
        }
    }

    /// P1: the edit list before iTunes' tag before LAME's, and nothing where nothing says anything.
    #[test]
    fn the_first_rule_that_says_something_is_used() {
        let mut declared = Declared {
            edit_list: Some(trim(1, 1, TrimRule::EditList)),
            itun_smpb: Some(trim(2, 2, TrimRule::ITunSmpb)),
            lame: Some(trim(3, 3, TrimRule::Lame)),
            opus: Some(trim(4, 4, TrimRule::OpusPreSkip)),
            ogg: Some(trim(5, 5, TrimRule::OggGranule)),
        };
        let mut used = Vec::new();
        for forget in [
            |declared: &mut Declared| declared.edit_list = None,
            |declared: &mut Declared| declared.itun_smpb = None,
            |declared: &mut Declared| declared.lame = None,
            |declared: &mut Declared| declared.opus = None,
            |declared: &mut Declared| declared.ogg = None,
        ] {
            used.push(declared.choose().start);
            forget(&mut declared);
        }
        assert_eq!(used, [1, 2, 3, 4, 5]);
        assert_eq!(
            declared.choose(),
            Trim {
                start: 0,
                end: None,
                rule: TrimRule::None
            }
        );
    }

    #[test]
    fn an_edit_in_milliseconds_ends_where_its_packets_do() {
        let edit = Edit {
            start: 1024,
            duration: 19_999,
            movie_scale: 1000,
            time_scale: 44_100,
            media_duration: 883_024,
        };
        // 863 packets of 1 024 frames; the last one is declared to be shorter.
        assert_eq!(
            edit_list(edit, 44_100, Some(863 * 1024)),
            trim(1024, 688, TrimRule::EditList)
        );
        // One that ends earlier is meant.
        let early = Edit {
            duration: 10_000,
            ..edit
        };
        let expected = trim(1024, 863 * 1024 - 1024 - 441_000, TrimRule::EditList);
        assert_eq!(edit_list(early, 44_100, Some(863 * 1024)), expected);
        // A movie whose unit is the frame needs no packets.
        let exact = Edit {
            duration: 882_000,
            movie_scale: 44_100,
            media_duration: 0,
            ..edit
        };
        assert_eq!(
            edit_list(exact, 44_100, Some(863 * 1024)),
            trim(1024, 688, TrimRule::EditList)
        );
        // Without an end there is none to leave out.
        let open = Edit {
            duration: 0,
            media_duration: 0,
            ..edit
        };
        assert_eq!(edit_list(open, 44_100, None).end, None);
    }

    #[test]
    fn itunes_tag_is_hexadecimal() {
        let text = " 00000000 00000840 000001CA 00000000003F31F6 00000000 00000000";
        let decoded = 0x840 + 0x1ca + 0x3f_31f6;
        assert_eq!(
            itun_smpb(text, Some(decoded)),
            Some(trim(2112, 458, TrimRule::ITunSmpb))
        );
        assert_eq!(itun_smpb(text, None), Some(trim(2112, 458, TrimRule::ITunSmpb)));
        // The length is exact where the padding is not.
        assert_eq!(itun_smpb(text, Some(decoded + 5)).unwrap().end, Some(463));
        assert_eq!(itun_smpb(text, Some(100)), None);
        assert_eq!(itun_smpb("0 840", None), None);
        assert_eq!(itun_smpb("0 84x 1", None), None);
    }

    #[test]
    fn lames_delay_grows_by_the_decoders() {
        let mut frame = vec![0_u8; 417];
        frame[..4].copy_from_slice(&[0xff, 0xfb, 0x90, 0x64]);
        assert_eq!(Lame::read(&frame), None);
        frame[36..40].copy_from_slice(b"Info");
        frame[43] = 15;
        frame[44..48].copy_from_slice(&767_u32.to_be_bytes());
        frame[156..165].copy_from_slice(b"LAME3.100");
        // 576 frames before, 1 584 behind.
        frame[177..180].copy_from_slice(&[0x24, 0x06, 0x30]);
        let lame = Lame::read(&frame).unwrap();
        assert_eq!(
            lame,
            Lame {
                packets: Some(767),
                bytes: Some(0),
                delays: Some((576, 1584))
            }
        );
        assert_eq!(lame.trim(), Some(trim(1105, 1055, TrimRule::Lame)));
        // Without LAME's own part nothing is said of delays.
        frame[156..165].fill(0);
        assert_eq!(Lame::read(&frame).unwrap().trim(), None);
        assert_eq!(Lame::read(&frame[..42]), None);
    }

    #[test]
    fn opus_and_vorbis_say_it_by_positions() {
        assert_eq!(opus(312, Some(100)), trim(312, 100, TrimRule::OpusPreSkip));
        assert_eq!(
            ogg(None, Some((882_000, 882_176))),
            Some(trim(0, 176, TrimRule::OggGranule))
        );
        assert_eq!(
            ogg(Some((4000, 4096)), Some((8000, 8192))),
            Some(trim(96, 96, TrimRule::OggGranule))
        );
        assert_eq!(ogg(None, None), None);
    }

    #[test]
    fn times_are_rounded_to_the_nearest_frame() {
        assert_eq!(to_frames(90_000, 90_000, 44_100), 44_100);
        assert_eq!(to_frames(1, 90_000, 44_100), 0);
        assert_eq!(to_frames(2, 90_000, 44_100), 1);
        assert_eq!(to_frames(-5, 90_000, 44_100), 0);
        assert_eq!(to_frames(i64::MAX, 1, u32::MAX), u64::MAX);
    }
}

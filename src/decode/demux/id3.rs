//! `ID3v2` tags before packed audio: how long one is, and the timestamp of Apple's private frame in it.

use super::bits::Fields;

/// The header of a tag.
pub(crate) const HEADER: usize = 10;

/// The owner of the private frame that holds a segment's timestamp (RFC 8216, 3.4).
const TIMESTAMP_OWNER: &[u8] = b"com.apple.streaming.transportStreamTimestamp\0";

fn synchsafe(bytes: &[u8]) -> Option<usize> {
    bytes.iter().try_fold(0_usize, |size, byte| {
        (byte & 0x80 == 0).then_some(size << 7 | usize::from(*byte))
    })
}

/// The length of the tag at the start of `bytes`, header and footer included; `None` if there is no tag.
pub(crate) fn length(bytes: &[u8]) -> Option<usize> {
    let header = bytes.get(..HEADER)?;
    let (magic, rest) = header.split_at_checked(3)?;
    let [major, revision, flags, size @ ..] = rest else {
        return None;
    };
    if magic != b"ID3" || *major == 0xff || *revision == 0xff {
        return None;
    }
    let footer = if flags & 0x10 == 0 { 0 } else { HEADER };
    Some(HEADER + synchsafe(size)? + footer)
}

/// The frames of a whole tag, each with its identifier.
fn frames(tag: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let major = tag.get(3).copied().unwrap_or(0);
    let mut fields = Fields(tag.get(HEADER..).unwrap_or_default());
    std::iter::from_fn(move || {
        // Behind the last one there may be padding.
        let id = fields.bytes(4).filter(|id| *id != [0; 4])?;
        let size = fields.bytes(4)?;
        // Version 2.4 has seven bits in each byte of a size; some writers of it have eight.
        let plain = usize::try_from(u32::from_be_bytes(size.try_into().ok()?)).ok()?;
        let size = if major >= 4 {
            synchsafe(size).unwrap_or(plain)
        } else {
            plain
        };
        fields.bytes(2)?;
        Some((id, fields.bytes(size)?))
    })
}

fn timestamp_frame<'a>((id, body): (&[u8], &'a [u8])) -> Option<&'a [u8]> {
    // Others put frames of their own into PRIV.
    body.strip_prefix(TIMESTAMP_OWNER).filter(|_| id == b"PRIV")
}

/// The 33-bit timestamp in a whole tag, in units of 90 kHz. Its upper bits are not always zero, and mean nothing.
pub(super) fn timestamp(tag: &[u8]) -> Option<i64> {
    let value = frames(tag).find_map(timestamp_frame)?;
    Fields(value)
        .u64()
        .and_then(|value| i64::try_from(value & ((1 << 33) - 1)).ok())
}

/// Whether a whole tag says nothing to a listener.
pub(crate) fn is_only_a_timestamp(tag: &[u8]) -> bool {
    frames(tag).all(|frame| timestamp_frame(frame).is_some())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A tag of version 2.4 with one private frame.
    pub(in crate::decode::demux) fn tag(timestamp: u64) -> Vec<u8> {
        let size = u8::try_from(TIMESTAMP_OWNER.len() + 8).unwrap();
        let mut tag = b"ID3\x04\0\0\0\0\0".to_vec();
        tag.push(size + 10);
        tag.extend(b"PRIV\0\0\0");
        tag.extend([size, 0, 0]);
        tag.extend(TIMESTAMP_OWNER);
        tag.extend(timestamp.to_be_bytes());
        tag
    }

    #[test]
    fn the_timestamp_is_read_and_its_upper_bits_are_not() {
        let tag = tag(0xffff_fffe_0000_0007);
        assert_eq!(length(&tag), Some(tag.len()));
        assert_eq!(timestamp(&tag), Some(7));
        let high = super::tests::tag(0x1_0000_0007);
        assert_eq!(timestamp(&high), Some(0x1_0000_0007));
    }

    #[test]
    fn a_title_is_more_than_a_timestamp() {
        let mut tag = tag(7);
        assert!(is_only_a_timestamp(&tag));
        tag.extend(b"TIT2\0\0\0\x02\0\0\x03A");
        assert!(!is_only_a_timestamp(&tag));
        assert_eq!(timestamp(&tag), Some(7));
    }

    #[test]
    fn cut_and_foreign_bytes_are_no_tag() {
        let tag = tag(7);
        for cut in 0..tag.len() {
            assert_eq!(timestamp(&tag[..cut]), None);
        }
        assert_eq!(length(b"ID4\x04\0\0\0\0\0\0"), None);
        assert_eq!(length(b"ID3\x04\0\0\0\x80\0\0"), None);
    }
}

//! Program specific information of MPEG-TS (ISO/IEC 13818-1, 2.4.4): which packets hold the sound.

use super::{bits::Fields, frames::Kind};
use crate::decode::{
    DecodeError,
    error::{UnsupportedCodecSnafu, UnsupportedContainerSnafu},
};

/// The longest section of these tables, its header included.
const MAX_SECTION: usize = 1024 + 3;

/// Puts a section together from the payloads of several packets.
#[derive(Debug, Default)]
pub(super) struct Section {
    bytes: Vec<u8>,
    /// Whether the start of the section that `bytes` holds was seen.
    begun: bool,
}

impl Section {
    /// Takes a packet's payload, and gives each whole section whose checksum is right to `found`.
    pub(super) fn push(&mut self, payload: &[u8], starts: bool, mut found: impl FnMut(&[u8])) {
        if !starts {
            if self.begun {
                self.append(payload, &mut found);
            }
            return;
        }
        let Some((pointer, rest)) = payload.split_first() else {
            return;
        };
        // The end of the section before may stand in front of the one that starts here. A pointer beyond the packet is damage.
        let Some((old, new)) = rest.split_at_checked((*pointer).into()) else {
            self.begun = false;
            return;
        };
        if self.begun {
            self.append(old, &mut found);
        }
        self.bytes.clear();
        self.begun = true;
        self.append(new, &mut found);
    }

    fn append(&mut self, bytes: &[u8], found: &mut impl FnMut(&[u8])) {
        self.bytes.extend_from_slice(bytes);
        loop {
            let Some(&[table, high, low]) = self.bytes.get(..3) else {
                return;
            };
            // Twelve bits; the four above them are flags.
            let length = 3 + usize::from(u16::from_be_bytes([high & 15, low]));
            // Stuffing, or nothing that is read here.
            if table == 0xff || length > MAX_SECTION {
                self.begun = false;
                return;
            }
            let Some(section) = self.bytes.get(..length) else {
                return;
            };
            // A damaged table that were believed would point to another stream, or to none, up to the next one.
            if crc(section) == 0 {
                found(section);
            }
            self.bytes.drain(..length);
        }
    }
}

/// The checksum of MPEG-2's tables, which is 0 over a section with its own behind it.
fn crc(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte) << 24, |crc, _| {
            let carry = if crc >> 31 == 1 { 0x04c1_1db7 } else { 0 };
            crc << 1 ^ carry
        })
    })
}

/// A section's body, if it is of this table and holds now.
fn body(section: &[u8], table: u8) -> Option<Fields<'_>> {
    let mut fields = Fields(section);
    if fields.u8()? != table {
        return None;
    }
    fields.bytes(4)?;
    // A table that holds only later is sent ahead of its time.
    let current = fields.u8()? & 1 == 1;
    // The checksum at the end was looked at when the section was put together.
    fields.bytes(2)?;
    let length = fields.0.len().checked_sub(4)?;
    current.then_some(Fields(fields.bytes(length)?))
}

/// Which packets hold the program map: the first program's.
pub(super) fn program_map_pid(section: &[u8]) -> Option<u16> {
    let mut fields = body(section, 0)?;
    loop {
        let (program, pid) = (fields.u16()?, fields.u16()? & 0x1fff);
        // Program 0 names the network's own table, and no program.
        if program != 0 {
            return Some(pid);
        }
    }
}

/// What a program map says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ProgramMap {
    /// The first stream of sound that is read.
    pub(super) audio: Option<(u16, Kind)>,
    /// The stream of timed ID3 tags.
    pub(super) id3: Option<u16>,
}

/// Reads a program map; `None` if the section is none.
///
/// # Errors
///
/// Names what sound there is, if none of it is read.
pub(super) fn program_map(section: &[u8]) -> Option<Result<ProgramMap, DecodeError>> {
    let mut fields = body(section, 2)?;
    fields.u16()?;
    let length = fields.u16()? & 0x0fff;
    fields.bytes(length.into())?;
    let (mut map, mut refused) = (ProgramMap::default(), None);
    while let Some(kind) = fields.u8() {
        let pid = fields.u16()? & 0x1fff;
        let length = fields.u16()? & 0x0fff;
        let descriptors = fields.bytes(length.into())?;
        match sound(kind, descriptors) {
            // The first one: others are translations and comments, and an app has no say here.
            Some(Ok(kind)) => map.audio = map.audio.or(Some((pid, kind))),
            // Told only if nothing else can be heard: a programme may have the same sound twice.
            Some(Err(name)) => refused = refused.or(Some(name)),
            None if kind == 0x15 && is_id3(descriptors) => map.id3 = map.id3.or(Some(pid)),
            None => {}
        }
    }
    if map.audio.is_some() {
        return Some(Ok(map));
    }
    Some(match refused {
        Some(codec) => UnsupportedCodecSnafu { codec }.fail(),
        None => UnsupportedContainerSnafu {
            container: "MPEG-TS without sound",
        }
        .fail(),
    })
}

/// What sound a stream type is: one that is read, or the name of one that is not.
fn sound(kind: u8, descriptors: &[u8]) -> Option<Result<Kind, &'static str>> {
    let has = |wanted: u8| each(descriptors).any(|(tag, _)| tag == wanted);
    let registered = |name: &[u8]| each(descriptors).any(|(tag, body)| tag == 5 && body.starts_with(name));
    Some(match kind {
        0x0f => Ok(Kind::Adts),
        0x03 | 0x04 => Ok(Kind::Mpeg),
        0x11 => Err("AAC in LATM"),
        0x1c => Err("AAC without ADTS"),
        0x81 => Err("AC-3"),
        0x87 => Err("E-AC-3"),
        0x82 | 0x85 | 0x86 | 0x8a => Err("DTS"),
        0x80 if registered(b"HDMV") => Err("LPCM"),
        0xc1 | 0xc2 | 0xcf => Err("SAMPLE-AES"),
        // Private data, which only its descriptors name.
        0x06 if has(0x6a) || registered(b"AC-3") => Err("AC-3"),
        0x06 if has(0x7a) || registered(b"EAC3") => Err("E-AC-3"),
        0x06 if registered(b"Opus") => Err("Opus in MPEG-TS"),
        0x06 if has(0x7b) => Err("DTS"),
        _ => return None,
    })
}

/// Whether a metadata stream says that it holds ID3 tags.
fn is_id3(descriptors: &[u8]) -> bool {
    // Metadata descriptor: application format and its identifier, metadata format and its identifier. Some packagers
    // leave it out; of metadata in a stream of sound there is no other kind.
    let mut found = each(descriptors).filter(|(tag, _)| *tag == 0x26).peekable();
    found.peek().is_none() || found.any(|(_, body)| body.windows(4).any(|name| name == b"ID3 "))
}

/// The descriptors, each with its tag.
fn each(descriptors: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut fields = Fields(descriptors);
    std::iter::from_fn(move || {
        let (tag, length) = (fields.u8()?, fields.u8()?);
        Some((tag, fields.bytes(length.into())?))
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A section of a table with its checksum.
    pub(in crate::decode::demux) fn section(table: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len() + 9).unwrap();
        let mut section = vec![table];
        section.extend((0xb000 | length).to_be_bytes());
        section.extend([0, 1, 0xc1, 0, 0]);
        section.extend(body);
        let sum = crc(&section).to_be_bytes();
        section.extend(sum);
        section
    }

    /// A program map of streams, each with its type, packets and descriptors.
    pub(in crate::decode::demux) fn map(streams: &[(u8, u16, &[u8])]) -> Vec<u8> {
        let mut body = vec![0xe1, 0, 0xf0, 0];
        for (kind, pid, descriptors) in streams {
            body.push(*kind);
            body.extend((0xe000 | pid).to_be_bytes());
            body.extend((0xf000 | u16::try_from(descriptors.len()).unwrap()).to_be_bytes());
            body.extend(*descriptors);
        }
        section(2, &body)
    }

    fn read(streams: &[(u8, u16, &[u8])]) -> Result<ProgramMap, String> {
        program_map(&map(streams))
            .unwrap()
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_first_sound_that_is_read_is_taken() {
        let expected = ProgramMap {
            audio: Some((257, Kind::Adts)),
            id3: Some(300),
        };
        let id3 = [0x26, 4, b'I', b'D', b'3', b' '];
        let streams: [(u8, u16, &[u8]); 4] = [
            (0x1b, 256, &[]),
            (0x81, 256, &[]),
            (0x0f, 257, &[]),
            (0x15, 300, &id3),
        ];
        assert_eq!(read(&streams), Ok(expected));
        assert_eq!(read(&[(0x04, 7, &[])]).unwrap().audio, Some((7, Kind::Mpeg)));
    }

    /// P6: what is not decoded is known by name before the first frame.
    #[test]
    fn sound_that_is_not_read_is_refused_by_name() {
        let message = |kind, descriptors| read(&[(kind, 257, descriptors)]).unwrap_err();
        assert_eq!(message(0x11, &[]), "cannot decode AAC in LATM");
        assert_eq!(message(0x81, &[]), "cannot decode AC-3");
        assert_eq!(message(0x06, &[0x7a, 0]), "cannot decode E-AC-3");
        assert_eq!(message(0x06, b"\x05\x04Opus"), "cannot decode Opus in MPEG-TS");
        assert_eq!(message(0xcf, &[]), "cannot decode SAMPLE-AES");
        assert_eq!(message(0x1b, &[]), "cannot read MPEG-TS without sound");
    }

    #[test]
    fn a_section_over_several_packets_is_put_together() {
        let long = map(&[(
            0x0f,
            257,
            &[0x05, 250].iter().copied().chain([7; 250]).collect::<Vec<_>>(),
        )]);
        let mut payloads: Vec<Vec<u8>> = long.chunks(100).map(<[u8]>::to_vec).collect();
        payloads[0].insert(0, 0);
        let mut section = Section::default();
        let mut found = Vec::new();
        // The end of one, and the start of the next one in the same packet.
        let mut last = payloads.pop().unwrap();
        last.insert(0, u8::try_from(last.len()).unwrap());
        last.extend(map(&[(0x0f, 258, &[])]));
        for (at, payload) in payloads.iter().enumerate() {
            section.push(payload, at == 0, |section| found.push(section.to_vec()));
        }
        section.push(&last, true, |section| found.push(section.to_vec()));
        assert_eq!(found, [long, map(&[(0x0f, 258, &[])])]);
    }

    #[test]
    fn a_section_with_a_wrong_checksum_is_none() {
        let mut bad = [&[0][..], &map(&[(0x0f, 257, &[])])].concat();
        let mut found = 0;
        Section::default().push(&bad, true, |_| found += 1);
        assert_eq!(found, 1);
        bad[10] ^= 1;
        Section::default().push(&bad, true, |_| found += 1);
        assert_eq!(found, 1);
    }
}

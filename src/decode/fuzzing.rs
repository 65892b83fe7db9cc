//! What the fuzz targets in `fuzz/` reach: only there is `cfg(fuzzing)` set.

use std::time::Duration;

use bytes::Bytes;

use super::{
    Codec,
    codec::{self, PacketError},
    demux::{FragmentedMp4, Packed, TransportStream},
    file::{self, Input},
    packet::{CodecParams, Demux, Packet},
};

fn pushed(demux: &mut dyn Demux, bytes: &[u8]) {
    // The first byte says how the rest is cut into segments and pushes.
    let Some((cut, bytes)) = bytes.split_first() else {
        return;
    };
    // Primes and odd numbers: cuts fall at every place in a box or a packet.
    let (segment, push) = (usize::from(cut >> 4) * 97 + 1, usize::from(cut & 15) * 31 + 1);
    let mut packets = 0_usize;
    for segment in bytes.chunks(segment.max(bytes.len() / 3 + 1)) {
        demux.start_segment(Duration::ZERO);
        for bytes in segment.chunks(push) {
            demux.push(Bytes::copy_from_slice(bytes));
            packets += drain(demux);
        }
        demux.end_segment();
        packets += drain(demux);
    }
    demux.finish();
    packets += drain(demux);
    // Packets that nothing in the bytes stands for would be silence without an end.
    assert!(
        packets <= bytes.len(),
        "{packets} packets in {} bytes",
        bytes.len()
    );
}

fn drain(demux: &mut dyn Demux) -> usize {
    let mut packets = 0;
    while let Ok(Some(_)) = demux.next_packet() {
        packets += 1;
    }
    while demux.next_tag().is_some() {}
    packets
}

/// Reads `bytes` as fragmented MP4.
pub fn fragmented_mp4(bytes: &[u8]) {
    pushed(&mut FragmentedMp4::default(), bytes);
}

/// Reads `bytes` as a transport stream.
pub fn transport_stream(bytes: &[u8]) {
    pushed(&mut TransportStream::default(), bytes);
}

/// Reads `bytes` as packed AAC and as packed MPEG audio.
pub fn packed(bytes: &[u8]) {
    pushed(&mut Packed::adts(), bytes);
    pushed(&mut Packed::mpeg(), bytes);
}

/// Decodes `bytes` as packets of one of the codecs, each behind its length.
///
/// # Panics
///
/// If a decoder gives a number that is none, or says that there are other frames than it gives.
pub fn packets(bytes: &[u8]) {
    let Some((kind, mut rest)) = bytes.split_first() else {
        return;
    };
    // Headers that are right: wrong ones are refused before a packet is looked at.
    let (codec, channels, extra): (_, _, &[u8]) = match kind % 8 {
        0 => (Codec::AacLc, 2, &[0x12, 0x10]),
        1 => (Codec::HeAac, 2, &[0x2b, 0x92, 0x08, 0x00]),
        2 => (Codec::HeAacV2, 2, &[0xeb, 0x8a, 0x08, 0x00]),
        3 => (Codec::Opus, 2, b"OpusHead\x01\x02\0\0\x80\xbb\0\0\0\0\0"),
        4 => (Codec::Opus, 1, b"OpusHead\x01\x01\0\0\x80\xbb\0\0\0\0\0"),
        5 => (
            Codec::Opus,
            3,
            b"OpusHead\x01\x03\0\0\x80\xbb\0\0\0\0\x01\x02\x01\0\x02\x01",
        ),
        6 => (Codec::Mp3, 2, &[]),
        _ => (Codec::AacLc, 6, &[0x12, 0x30]),
    };
    let params = CodecParams {
        codec,
        sample_rate: 44_100,
        channels,
        bits_per_sample: None,
        frames_per_packet: 1024,
        extra_data: Bytes::copy_from_slice(extra),
    };
    let Ok(mut decoder) = codec::open(&params) else {
        return;
    };
    let mut out = Vec::new();
    while let Some((length, tail)) = rest.split_first() {
        let (data, tail) = tail.split_at(tail.len().min(usize::from(*length) * 4));
        rest = tail;
        out.clear();
        let data = Bytes::copy_from_slice(data);
        let frames = match decoder.decode(
            &Packet {
                data,
                pts: 0,
                frames: 1024,
            },
            &mut out,
        ) {
            Ok(frames) => frames,
            // Goes on: what damage leaves in the decoder is what is looked for.
            Err(PacketError::Damaged(_)) => 0,
            Err(PacketError::Fatal(_)) => return,
        };
        assert_eq!(out.len(), frames * usize::from(decoder.spec().channels.count()));
        assert!(out.iter().all(|sample| !sample.is_nan()));
    }
}

/// Reads `bytes` as an Ogg file: as they are, and as the bodies of pages whose checksums hold.
///
/// # Panics
///
/// If there are more packets than the bytes stand for.
pub fn ogg(bytes: &[u8]) {
    if bytes.starts_with(b"OggS") {
        file::fuzz_ogg(input(bytes.to_vec()), bytes.len());
        return;
    }
    let pages = pages(bytes).unwrap_or_default();
    let length = pages.len();
    file::fuzz_ogg(input(pages), length);
}

/// Reads `bytes` as a file of whatever they are.
pub fn file(bytes: &[u8]) {
    file::fuzz(&input(bytes.to_vec()));
}

fn input(bytes: Vec<u8>) -> Input {
    Input::from_reader(std::io::Cursor::new(bytes)).expect("a cursor can be sought in")
}

/// Headers of one of the codecs, and pages as the bytes say.
fn pages(bytes: &[u8]) -> Option<Vec<u8>> {
    let (kind, mut rest) = bytes.split_first()?;
    let headers: &[&[u8]] = match kind % 3 {
        0 => &[b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0", b"OpusTags"],
        1 => &[
            b"\x01vorbis\0\0\0\0\x02\x44\xac\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xb8\x01",
            // One mode, of long blocks: 6 bits of how many, 41 of the mode, and the frame of it all.
            b"\x05vorbis\x40\0\0\0\0\x80",
        ],
        _ => &[
            b"\x7fFLAC\x01\0\0\0fLaC\0\0\0\x22\x10\0\x10\0\0\0\0\0\0\0\x0a\xc4\x42\xf0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        ],
    };
    let mut all = Vec::new();
    let (mut sequence, mut granule) = (0_u32, 0_i64);
    for (number, header) in headers.iter().enumerate() {
        all.extend(file::one_page(
            7,
            sequence,
            if number == 0 { 2 } else { 0 },
            0,
            header,
        ));
        sequence += 1;
    }
    while let Some(([control, steps, length], tail)) = rest.split_first_chunk::<3>() {
        let (body, tail) = tail.split_at(tail.len().min(usize::from(*length) * 3));
        rest = tail;
        // None, far ahead, back, and as music has it.
        granule = match control >> 3 & 7 {
            0 => -1,
            1 => granule.wrapping_mul(1 << (steps % 63)),
            2 => granule.wrapping_sub(i64::from(*steps)),
            _ => granule.wrapping_add(i64::from(*steps) * 64),
        };
        let step = if control & 0x40 == 0 { 1 } else { u32::from(*steps) };
        if control & 0x80 != 0 {
            all.extend(b"garbage");
        }
        // Now and then a page of another stream.
        let serial = if *steps == 255 { 8 } else { 7 };
        all.extend(file::one_page(serial, sequence, control & 7, granule, body));
        sequence = sequence.wrapping_add(step);
    }
    Some(all)
}

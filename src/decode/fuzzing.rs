//! What the fuzz targets in `fuzz/` reach: only there is `cfg(fuzzing)` set.

use std::time::Duration;

use bytes::Bytes;

use super::{
    Codec,
    codec::{self, PacketError},
    demux::{FragmentedMp4, Packed, TransportStream},
    packet::{CodecParams, Demux, Packet},
};

fn pushed(demux: &mut dyn Demux, bytes: &[u8]) {
    // The first byte says how the rest is cut into segments and pushes.
    let Some((cut, bytes)) = bytes.split_first() else {
        return;
    };
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
            Err(PacketError::Damaged(_)) => 0,
            Err(PacketError::Fatal(_)) => return,
        };
        assert_eq!(out.len(), frames * usize::from(decoder.spec().channels.count()));
        assert!(out.iter().all(|sample| !sample.is_nan()));
    }
}

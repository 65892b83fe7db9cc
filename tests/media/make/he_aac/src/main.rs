//! Encodes 44.1 kHz stereo s16le from standard input as HE-AAC in ADTS: `make-he-aac 1|2 BITS_PER_SECOND < pcm > adts`.
//!
//! What the tests hear is not made by the library that decodes it. Built only to make the media again.

use std::io::{self, Read, Write};

use fdk_aac::enc::{AudioObjectType, BitRate, ChannelMode, Encoder, EncoderParams, Transport};

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let audio_object_type = match arguments.next().as_deref() {
        Some("2") => AudioObjectType::Mpeg4HeAacV2,
        _ => AudioObjectType::Mpeg4HeAac,
    };
    let rate = arguments.next().and_then(|rate| rate.parse().ok()).unwrap_or(48_000);
    let encoder = Encoder::new(EncoderParams {
        bit_rate: BitRate::Cbr(rate),
        sample_rate: 44_100,
        transport: Transport::Adts,
        channels: ChannelMode::Stereo,
        audio_object_type,
    })
    .map_err(|error| io::Error::other(format!("{error:?}")))?;
    let mut bytes = Vec::new();
    io::stdin().read_to_end(&mut bytes)?;
    let mut pcm: Vec<i16> = bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect();
    // The encoder's own delay comes out behind the last sample.
    pcm.resize(pcm.len() + 2 * 8192, 0);
    let (mut at, mut packet) = (0, vec![0; 8192]);
    while at < pcm.len() {
        let info = encoder
            .encode(&pcm[at..], &mut packet)
            .map_err(|error| io::Error::other(format!("{error:?}")))?;
        io::stdout().write_all(&packet[..info.output_size])?;
        if info.input_consumed == 0 && info.output_size == 0 {
            break;
        }
        at += info.input_consumed;
    }
    Ok(())
}

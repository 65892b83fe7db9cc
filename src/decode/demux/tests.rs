//! The demuxers against ffmpeg's, on the bundled trees (`tests/media/packets.json`) and, where ffmpeg is installed, on what
//! it makes on the spot.

use std::{fmt::Write as _, fs, path::Path, process::Command, time::Duration};

use bytes::Bytes;
use kithara_test_support::media;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{FragmentedMp4, Packed, TransportStream};
use crate::decode::{
    DecodeError,
    packet::{Demux, Packet},
};

fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

fn crc(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

fn drain(demux: &mut dyn Demux, packets: &mut Vec<Packet>) -> Result<(), DecodeError> {
    while let Some(packet) = demux.next_packet()? {
        packets.push(packet);
    }
    Ok(())
}

/// All packets of some parts: an initialization section, if there is one, and segments.
pub(super) fn packets(
    demux: &mut dyn Demux,
    init: Option<&[u8]>,
    segments: &[Vec<u8>],
    chunk: usize,
) -> Result<Vec<Packet>, DecodeError> {
    let mut packets = Vec::new();
    if let Some(init) = init {
        demux.push(Bytes::copy_from_slice(init));
        drain(demux, &mut packets)?;
    }
    for segment in segments {
        demux.start_segment(Duration::ZERO);
        // Drained after each push, as when bytes arrive slowly: packets held until the end would not be noticed otherwise.
        for bytes in segment.chunks(chunk) {
            demux.push(Bytes::copy_from_slice(bytes));
            drain(demux, &mut packets)?;
        }
        demux.end_segment();
        drain(demux, &mut packets)?;
    }
    demux.finish();
    drain(demux, &mut packets)?;
    Ok(packets)
}

fn demux(container: &str) -> Box<dyn Demux> {
    match container {
        "fmp4" => Box::new(FragmentedMp4::default()),
        "mpegts" => Box::new(TransportStream::default()),
        "packed" => Box::new(Packed::adts()),
        "mp3" => Box::new(Packed::mpeg()),
        other => panic!("{other}"),
    }
}

fn table() -> Value {
    serde_json::from_slice(&fs::read(media().join("packets.json")).unwrap()).unwrap()
}

fn parts(row: &Value) -> Vec<Vec<u8>> {
    let read = |part: &Value| {
        let bytes = fs::read(media().join(part["path"].as_str().unwrap())).unwrap();
        let end = |at: usize| usize::try_from(part["range"][at].as_u64().unwrap()).unwrap();
        if part["range"].is_null() {
            bytes
        } else {
            bytes[end(0)..end(1)].to_vec()
        }
    };
    row["parts"].as_array().unwrap().iter().map(read).collect()
}

/// The packets of a row of the table, pushed in chunks.
fn read(row: &Value, chunk: usize) -> (Box<dyn Demux>, Vec<Packet>) {
    let container = row["container"].as_str().unwrap();
    let mut demux = demux(container);
    let mut parts = parts(row);
    let init = (container == "fmp4").then(|| parts.remove(0));
    let packets = packets(&mut *demux, init.as_deref(), &parts, chunk).unwrap();
    (demux, packets)
}

#[test]
fn packets_of_the_bundled_trees_are_those_of_ffmpeg() {
    for (name, row) in table().as_object().unwrap() {
        let (demux, packets) = read(row, usize::MAX);
        let number = |key: &str| row[key].as_u64().unwrap();
        assert_eq!(packets.len() as u64, number("packets"), "{name}");
        // One checksum over the lengths and checksums of all, so that the table stays small.
        let lines = packets.iter().fold(String::new(), |mut lines, packet| {
            writeln!(lines, "{} {:08x}", packet.data.len(), crc(&packet.data)).unwrap();
            lines
        });
        assert_eq!(sha256(&lines), row["sha256"].as_str().unwrap(), "{name}");
        let track = demux.track().unwrap();
        assert_eq!(
            u64::from(track.codec.sample_rate),
            number("sample_rate"),
            "{name}"
        );
        // Every packet at its time; packed audio begins at ten seconds.
        let first = row["first_pts"].as_i64().unwrap_or(900_000);
        for (index, packet) in packets.iter().enumerate() {
            let ticks = index as u64 * number("frames") * u64::from(track.time_scale) / number("sample_rate");
            let off = packet.pts - first - i64::try_from(ticks).unwrap();
            assert!(off.abs() <= 1, "{name}: packet {index} is {off} off");
            if index + 1 < packets.len() {
                assert_eq!(u64::from(packet.frames), number("frames"), "{name}: {index}");
            }
        }
        let all: u64 = packets.iter().map(|packet| u64::from(packet.frames)).sum();
        let declared = row["declared"].as_u64().unwrap_or(packets.len() as u64 * 1024);
        assert_eq!(all, declared, "{name}");
    }
}

#[test]
fn any_split_of_the_bytes_gives_the_same_packets() {
    for (name, row) in table().as_object().unwrap() {
        // Their segments are made as those of the third rung: byte by byte, that one takes long enough.
        if name.contains("aac-80") || name.contains("aac-112") {
            continue;
        }
        let (_, whole) = read(row, usize::MAX);
        for chunk in [1, 100, 188, 1000, 65_536] {
            assert!(read(row, chunk).1 == whole, "{name} in chunks of {chunk}");
        }
    }
}

/// P6: bytes turned, cut out or put in, anywhere: no panic, packets still come, and all that come have their time.
#[test]
fn damage_costs_some_packets_and_moves_none() {
    for (name, row) in table().as_object().unwrap() {
        if !["hls/ts/", "hls/packed/", "hls/plain/aac-48/"]
            .iter()
            .any(|tree| name.starts_with(tree))
        {
            continue;
        }
        let container = row["container"].as_str().unwrap();
        let mut parts = parts(row);
        let init = (container == "fmp4").then(|| parts.remove(0));
        let good = packets(&mut *demux(container), init.as_deref(), &parts, 5000).unwrap();
        let mut random = 0x9e37_79b9_u64;
        let mut below = |limit: usize| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(random >> 33).unwrap() % limit
        };
        let mut worst = 0;
        for round in 0..60 {
            let mut bad = parts.clone();
            // In the middle: what stands before it and behind it is to be as it was.
            let segment = &mut bad[1];
            let at = below(segment.len() - 2000);
            match round % 4 {
                0 => segment[at] ^= 1 << below(8),
                1 => drop(segment.drain(at..at + 1 + below(300))),
                // A whole packet of MPEG-TS, which leaves no trace but in a counter.
                2 => drop(segment.drain(at / 188 * 188..(at / 188 + 1) * 188)),
                _ => drop(segment.splice(at..at, vec![0x47; 1 + below(300)])),
            }
            let found = packets(&mut *demux(container), init.as_deref(), &bad, 5000).unwrap();
            for packet in &found {
                let known = good.iter().find(|good| good.data == packet.data);
                if let Some(good) = known {
                    worst = worst.max((good.pts - packet.pts).abs());
                }
            }
            // A box that is damaged hides the rest of its segment.
            let missing = good.len().saturating_sub(found.len());
            let bearable = if container == "fmp4" {
                good.len() / 3 + 1
            } else {
                4
            };
            assert!(
                missing <= bearable,
                "{name}, round {round}: {missing} packets are missing"
            );
        }
        // Packed audio has one time for each segment. In between, what is lost is judged by its length, and so is what was
        // put in: up to two packets' bytes.
        let bearable = if container == "packed" { 2 * 2090 } else { 2 };
        assert!(worst <= bearable, "{name}: a packet is {worst} ticks off");
    }
}

/// What ffmpeg makes of a second of noise; `None` without ffmpeg.
fn made(dir: &Path, arguments: &[&str], name: &str) -> Option<Vec<u8>> {
    let path = dir.join(name);
    let noise = [
        "-v",
        "error",
        "-f",
        "lavfi",
        "-i",
        "anoisesrc=d=1.5:r=44100:a=0.3:seed=7",
        "-ac",
        "2",
    ];
    let made = Command::new("ffmpeg")
        .args(noise)
        .args(arguments)
        .arg("-y")
        .arg(&path)
        .status();
    made.ok().filter(std::process::ExitStatus::success)?;
    fs::read(path).ok()
}

/// Sizes and checksums of the packets that ffmpeg's own demuxer finds, without ADTS headers.
fn ffmpegs(path: &Path) -> Vec<(usize, u32)> {
    let run = |more: &[&str]| {
        let mut command = Command::new("ffmpeg");
        command
            .args(["-v", "error", "-copyts", "-i"])
            .arg(path)
            .args(["-map", "0:a", "-c", "copy"]);
        command
            .args(more)
            .args(["-f", "framehash", "-hash", "crc32", "-"]);
        command.output().unwrap()
    };
    // ADTS headers are no part of packets here. The filter refuses what is no AAC.
    let bare = run(&["-bsf:a", "aac_adtstoasc"]);
    let output = if bare.status.success() { bare } else { run(&[]) };
    let text = String::from_utf8(output.stdout).unwrap();
    let rows = text.lines().filter(|line| !line.starts_with('#'));
    rows.map(|line| {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        (
            fields[4].parse().unwrap(),
            u32::from_str_radix(fields[5], 16).unwrap(),
        )
    })
    .collect()
}

#[test]
fn packets_of_what_ffmpeg_makes_are_those_it_finds_itself() {
    let dir = tempfile::tempdir().unwrap();
    let fragmented = [
        "-movflags",
        "frag_every_frame+empty_moov+default_base_moof",
        "-frag_duration",
        "400000",
    ];
    let delayed = [
        "-movflags",
        "frag_keyframe+delay_moov",
        "-frag_duration",
        "300000",
    ];
    let plain: [&str; 0] = [];
    let cases: [(&str, &[&str], &[&str], &str); 9] = [
        ("fmp4", &["-c:a", "aac"], &fragmented, "aac.mp4"),
        ("fmp4", &["-c:a", "aac", "-b:a", "64k"], &delayed, "delayed.mp4"),
        ("fmp4", &["-c:a", "flac", "-strict", "-2"], &delayed, "flac.mp4"),
        ("fmp4", &["-c:a", "alac"], &fragmented, "alac.mp4"),
        ("fmp4", &["-c:a", "libopus", "-ar", "48000"], &delayed, "opus.mp4"),
        ("fmp4", &["-c:a", "libmp3lame"], &delayed, "mp3.mp4"),
        ("mpegts", &["-c:a", "aac"], &plain, "aac.ts"),
        (
            "mpegts",
            &["-c:a", "libmp3lame", "-write_xing", "0"],
            &plain,
            "mp3.ts",
        ),
        ("mp3", &["-c:a", "libmp3lame", "-b:a", "64k"], &plain, "plain.mp3"),
    ];
    for (container, codec, muxer, name) in cases {
        let Some(bytes) = made(dir.path(), &[codec, muxer].concat(), name) else {
            eprintln!("left out: no ffmpeg that makes {name}");
            continue;
        };
        let found = packets(&mut *demux(container), None, &[bytes], 1000).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|packet| (packet.data.len(), crc(&packet.data)))
            .collect();
        assert!(!found.is_empty(), "{name}");
        assert_eq!(found, ffmpegs(&dir.path().join(name)), "{name}");
    }
}

/// P6: known before the first packet, and by name.
#[test]
fn sound_in_ts_that_is_not_read_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    for (codec, name) in [("ac3", "AC-3"), ("eac3", "E-AC-3"), ("mp2", "MPEG audio layer 2")] {
        let Some(bytes) = made(dir.path(), &["-c:a", codec], "refused.ts") else {
            continue;
        };
        let error = packets(&mut TransportStream::default(), None, &[bytes], 1000).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot decode {name}"));
    }
    if let Some(bytes) = made(dir.path(), &["-c:a", "aac", "-mpegts_flags", "latm"], "latm.ts") {
        let error = packets(&mut TransportStream::default(), None, &[bytes], 1000).unwrap_err();
        assert_eq!(error.to_string(), "cannot decode AAC in LATM");
    }
}

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::io::Cursor;

use super::*;

/// Frames of layer 3 of a constant bit rate, each with a number in its data: at 44.1 kHz 128 kbit/s, at 22.05 kHz 64 kbit/s.
fn run(rate: u32, numbers: std::ops::Range<u32>) -> Vec<u8> {
    let (head, bytes) = match rate {
        44_100 => ([0xff, 0xfb, 0x90, 0x64], 144 * 128_000),
        22_050 => ([0xff, 0xf3, 0x80, 0x64], 72 * 64_000),
        other => panic!("{other}"),
    };
    let mut file = Vec::new();
    for (place, number) in (0_u32..).zip(numbers) {
        let end = u64::from(place + 1) * bytes / u64::from(rate);
        let length = end - u64::from(place) * bytes / u64::from(rate);
        let mut frame = vec![0; length as usize];
        frame[..4].copy_from_slice(&head);
        // The byte that makes up for what rounding leaves out.
        frame[2] |= if length > bytes / u64::from(rate) { 2 } else { 0 };
        frame[40..44].copy_from_slice(&number.to_be_bytes());
        file.extend(frame);
    }
    file
}

/// A file of its own: a header that counts its frames and bytes, and those frames.
fn with_header(numbers: std::ops::Range<u32>) -> Vec<u8> {
    let count = numbers.end - numbers.start;
    let frames = run(44_100, numbers);
    let mut header = vec![0; 417];
    header[..4].copy_from_slice(&[0xff, 0xfb, 0x90, 0x64]);
    header[36..44].copy_from_slice(b"Info\0\0\0\x03");
    header[44..48].copy_from_slice(&count.to_be_bytes());
    let bytes = u32::try_from(frames.len() + 417).unwrap();
    header[48..52].copy_from_slice(&bytes.to_be_bytes());
    [header, frames].concat()
}

fn open(file: Vec<u8>) -> FramePackets {
    FramePackets::open(Input::from_reader(Cursor::new(file)).unwrap(), 0).unwrap()
}

/// The next packet's start, in frames of its part, and the number in it.
fn packet(reader: &mut FramePackets) -> Option<(u64, u32)> {
    loop {
        match reader.next().unwrap() {
            Next::Packet(placed) => {
                let number = placed.packet.data[40..44].try_into().unwrap();
                return Some((placed.start, u32::from_be_bytes(number)));
            }
            Next::Chained => {}
            Next::End => return None,
        }
    }
}

#[test]
fn places_in_the_second_of_two_files_are_those_that_are_played() {
    let file = [with_header(0..3000), with_header(3000..6000)].concat();
    let mut reader = open(file.clone());
    let mut played = 0;
    while let Some((start, number)) = packet(&mut reader) {
        assert_eq!(start, u64::from(number) * 1152);
        played += 1;
    }
    assert_eq!(played, 6000);
    for number in [5000, 3000, 10, 5999, 2999] {
        for reader in [&mut reader, &mut open(file.clone())] {
            reader.seek(u64::from(number) * 1152).unwrap();
            assert_eq!(packet(reader), Some((u64::from(number) * 1152, number)));
        }
    }
}

#[test]
fn a_seek_goes_into_the_part_of_its_time() {
    let parts = [
        (44_100, 0..1001, 1152),
        (22_050, 1001..2500, 576),
        (44_100, 2500..4000, 1152),
    ];
    let file = parts
        .clone()
        .map(|(rate, numbers, _)| run(rate, numbers))
        .concat();
    let mut played = open(file.clone());
    let numbers: Vec<u32> = std::iter::from_fn(|| packet(&mut played))
        .map(|(_, number)| number)
        .collect();
    assert!(numbers == (0..4000).collect::<Vec<u32>>());
    // Both kinds of frame play as long: 1152 at 44.1 kHz.
    let time = |number: u32| time_of(u64::from(number) * 1152, 44_100);
    let whole = played.duration().unwrap();
    assert!(whole.abs_diff(time(4000)) <= Duration::from_nanos(4));
    let mut fresh = open(file.clone());
    for number in [3999, 5, 1500, 999, 1000, 1001, 1002, 2499, 2500, 2501, 3000, 0] {
        let (rate, numbers, length) = parts
            .iter()
            .find(|(_, numbers, _)| numbers.contains(&number))
            .unwrap();
        for reader in [&mut played, &mut fresh, &mut open(file.clone())] {
            let middle = time(number) + Duration::from_millis(9);
            let begins = reader.link_at(middle).unwrap();
            assert_eq!(reader.info().codec.sample_rate, *rate, "{number}");
            assert!(
                begins.abs_diff(time(numbers.start)) <= Duration::from_nanos(4),
                "{number}"
            );
            reader
                .seek(frames_at(middle.checked_sub(begins).unwrap(), *rate))
                .unwrap();
            let start = u64::from(number - numbers.start) * length;
            assert_eq!(packet(reader), Some((start, number)));
        }
    }
}

//! A fetcher that obeys the demand, over a slow "network": B2, B3, B16 and 20 000 seeks.

use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use futures_lite::future::block_on;
use kithara::io::Reader;
use kithara::storage::Writer;

use crate::stage::{LONG, Reset, Stage, content, within};

/// Fetches what is waited for, `piece` bytes at a time, until nobody reads any more. Counts the bytes.
fn obey(mut writer: Writer<Reset>, bytes: &[u8], piece: u64, fetched: &AtomicU64) {
    let mut demand = writer.demand();
    while let Some(now) = block_on(demand.changed()) {
        if let Some(range) = now.waiting.first() {
            let end = range.end.min(range.start + piece);
            let part = &bytes[usize::try_from(range.start).unwrap()..usize::try_from(end).unwrap()];
            fetched.fetch_add(writer.write_at(range.start, part).unwrap(), Ordering::SeqCst);
        }
    }
}

/// Fault B2: scrubbing at random failed for good after 3 to 9 seeks. B1: bytes equal, always.
#[test]
fn b2_twenty_thousand_seeks_over_a_trickle_give_no_wrong_byte() {
    within(LONG, || {
        const LEN: u64 = 4 << 20;
        let stage = Stage::new();
        let track = stage.open();
        let bytes = Arc::new(content(usize::try_from(LEN).unwrap()));
        let mut writer = track.writer().unwrap();
        writer.set_len(LEN).unwrap();
        let fetcher = {
            let bytes = bytes.clone();
            thread::spawn(move || obey(writer, &bytes, 700, &AtomicU64::new(0)))
        };
        let mut reader = Reader::new(&track);
        drop(track);
        let mut random = 1_u64;
        let mut buffer = vec![0; 3000];
        for _ in 0..20_000 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let at = (random >> 20) % LEN;
            let want = usize::try_from(random % 3000).unwrap() + 1;
            reader.seek(SeekFrom::Start(at)).unwrap();
            let count = reader.read(&mut buffer[..want]).unwrap();
            let from = usize::try_from(at).unwrap();
            assert!(
                count > 0 && buffer[..count] == bytes[from..from + count],
                "{count} bytes at {at}"
            );
        }
        drop(reader);
        fetcher.join().unwrap();
    });
}

/// Faults B3 and B16: the last 8 KiB waited for the whole download; demuxers that bisect played nothing until its end.
#[test]
fn b3_b16_the_tail_and_a_bisection_cost_only_their_own_bytes() {
    within(LONG, || {
        const LEN: u64 = 64 << 20;
        let stage = Stage::new();
        let track = stage.open();
        let bytes = Arc::new(content(usize::try_from(LEN).unwrap()));
        let cost = Arc::new(AtomicU64::new(0));
        let mut writer = track.writer().unwrap();
        writer.set_len(LEN).unwrap();
        let fetcher = {
            let (bytes, cost) = (bytes.clone(), cost.clone());
            thread::spawn(move || obey(writer, &bytes, u64::MAX / 2, &cost))
        };
        let mut reader = Reader::new(&track);
        drop(track);
        let mut tail = Vec::new();
        reader.seek(SeekFrom::End(-8192)).unwrap();
        reader.read_to_end(&mut tail).unwrap();
        assert!(tail == bytes[bytes.len() - 8192..]);
        assert!(cost.load(Ordering::SeqCst) <= 8192);
        let (mut low, mut high) = (0, LEN);
        while high - low > 4096 {
            let middle = low + (high - low) / 2;
            reader.seek(SeekFrom::Start(middle)).unwrap();
            reader.read_exact(&mut [0; 512]).unwrap();
            if middle % 3 == 0 {
                low = middle;
            } else {
                high = middle;
            }
        }
        assert!(cost.load(Ordering::SeqCst) <= 8192 + 20 * 512);
        drop(reader);
        fetcher.join().unwrap();
    });
}

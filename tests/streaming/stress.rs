//! Real threads, real files: what the model proves of the waits, seen with the file under them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use kithara::storage::{Found, Waited};

use crate::stage::{LONG, Stage, content, within};

/// B1, B4, B5: many readers wait for random ranges while two writers in turn bring the pieces in random order.
#[test]
fn b5_no_wait_is_lost_and_no_byte_is_wrong_among_many_threads() {
    for round in 0..8 {
        within(LONG, move || one_round(round));
    }
}

fn one_round(round: u64) {
    const LEN: usize = 1 << 18;
    const PIECE: usize = 1 << 11;
    let stage = Stage::new();
    let track = stage.open();
    let bytes = Arc::new(content(LEN));
    let done = Arc::new(AtomicBool::new(false));

    let readers: Vec<_> = (0..6)
        .map(|reader| {
            let (track, bytes) = (track.clone(), bytes.clone());
            thread::spawn(move || {
                let mut random = Random(round * 100 + reader);
                for _ in 0..200 {
                    let start = random.below(LEN as u64 + 100);
                    let range = start..start + 1 + random.below(5000);
                    let mut buffer = vec![0; 5000];
                    match track.wait_range_blocking(range.clone()).unwrap() {
                        Waited::Present(present) => {
                            let len = usize::try_from(present.end - present.start).unwrap();
                            assert_eq!(
                                track.read_at(start, &mut buffer[..len]).unwrap(),
                                Found::Bytes(len)
                            );
                            let from = usize::try_from(start).unwrap();
                            assert!(buffer[..len] == bytes[from..from + len], "{present:?}");
                            assert!(present.end == range.end || present.end == LEN as u64);
                        }
                        Waited::End { len } => assert!(len == LEN as u64 && start >= len),
                    }
                }
            })
        })
        .collect();

    let writers: Vec<_> = (0..2)
        .map(|number| {
            let (track, bytes, done) = (track.clone(), bytes.clone(), done.clone());
            thread::spawn(move || {
                let mut random = Random(round * 1000 + number);
                let mut pieces: Vec<usize> = (0..LEN / PIECE).collect();
                while !pieces.is_empty() && !done.load(Ordering::SeqCst) {
                    let Ok(mut writer) = futures_lite::future::block_on(track.next_writer()) else {
                        return;
                    };
                    for _ in 0..8 {
                        if pieces.is_empty() {
                            break;
                        }
                        let at = usize::try_from(random.below(pieces.len() as u64)).unwrap();
                        let start = pieces.swap_remove(at) * PIECE;
                        writer
                            .write_at(start as u64, &bytes[start..start + PIECE])
                            .unwrap();
                    }
                    if track.missing(0..LEN as u64).is_empty() {
                        writer.commit(LEN as u64).unwrap();
                        done.store(true, Ordering::SeqCst);
                    }
                }
            })
        })
        .collect();
    for thread in readers.into_iter().chain(writers) {
        thread.join().unwrap();
    }
    assert!(std::fs::read(stage.target()).unwrap() == *bytes);
}

/// A small generator; its seed is in the test's own code, so a failure repeats.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

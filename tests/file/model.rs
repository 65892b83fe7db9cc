//! Random histories against a plain `Vec<u8>`.

use std::io::{Read, Seek, SeekFrom};
use std::time::Instant;

use futures_lite::future::block_on;
use kithara::file::{FileError, FileParams, FileReader, FileSource, OpenMode};
use kithara_test_support::Rule;
use proptest::prelude::*;

use crate::*;

const LEN: u64 = 600_000;

#[derive(Debug, Clone)]
enum Step {
    Read(usize),
    Seek(i64),
    SeekEnd(i64),
    /// The server misbehaves for the next request.
    Fault(Fault),
    /// The reader is dropped and the file opened again.
    Reopen,
    /// So is the cache.
    Restart,
    /// No read for a moment: the driver runs ahead.
    Pause,
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    Reset(u64),
    Truncate(u64),
    Busy,
    Close,
    Slow,
    IgnoreRange,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fault = prop_oneof![
        (0..300_000_u64).prop_map(Fault::Reset),
        (0..300_000_u64).prop_map(Fault::Truncate),
        Just(Fault::Busy),
        Just(Fault::Close),
        Just(Fault::Slow),
        Just(Fault::IgnoreRange),
    ];
    let step = prop_oneof![
        6 => (0..100_000_usize).prop_map(Step::Read),
        3 => (-700_000..700_000_i64).prop_map(Step::Seek),
        1 => (-700_000..10_000_i64).prop_map(Step::SeekEnd),
        3 => fault.prop_map(Step::Fault),
        1 => Just(Step::Reopen),
        1 => Just(Step::Restart),
        1 => Just(Step::Pause),
    ];
    prop::collection::vec(step, 1..40)
}

fn rule(fault: Fault) -> Rule {
    let once = Rule::new().first(1);
    match fault {
        Fault::Reset(at) => once.reset_after(at),
        Fault::Truncate(at) => once.truncate_after(at),
        Fault::Busy => once.answer(503, "busy"),
        Fault::Close => once.close(),
        Fault::Slow => once.trickle(2_000_000),
        Fault::IgnoreRange => once.ignore_range(),
    }
}

struct History {
    stage: Stage,
    model: Vec<u8>,
    reader: Option<FileReader>,
    position: u64,
    cached: bool,
}

impl History {
    fn open(&mut self) {
        let params = if self.cached {
            self.stage.params()
        } else {
            FileParams::uncached(client()).window_bytes(256 * 1024)
        };
        let source = FileSource::new(self.stage.url(), params);
        let mut reader = block_on(source.open_reader(OpenMode::Online)).unwrap();
        reader.seek(SeekFrom::Start(self.position)).unwrap();
        self.reader = Some(reader);
    }

    fn seek(&mut self, to: SeekFrom) {
        let target = match to {
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => LEN.checked_add_signed(by),
            SeekFrom::Start(at) => Some(at),
        };
        let found = self.reader.as_mut().unwrap().seek(to);
        match target {
            Some(target) => {
                assert_eq!(found.unwrap(), target);
                self.position = target;
            }
            None => assert_eq!(found.unwrap_err().kind(), std::io::ErrorKind::InvalidInput),
        }
    }

    fn read(&mut self, len: usize) {
        let mut buffer = vec![0xa5; len];
        let start = Instant::now();
        let outcome = self.reader.as_mut().unwrap().read(&mut buffer);
        assert!(start.elapsed() < Duration::from_secs(10), "a read without an end");
        let here = usize::try_from(self.position).unwrap();
        match outcome {
            Ok(count) => {
                let rest = self.model.get(here..).unwrap_or_default();
                assert_eq!(
                    count == 0,
                    rest.is_empty() || len == 0,
                    "at {here}: {count} of {len}"
                );
                assert!(buffer[..count] == rest[..count], "a wrong byte at {here}");
                self.position += count as u64;
            }
            // A server that forgets its ranges cannot go back: typed, and opened again it plays.
            Err(error) => {
                let cause = FileError::of(&error).unwrap_or_else(|| panic!("{error:?}"));
                assert!(
                    matches!(cause, FileError::NotSeekable { .. } | FileError::Net { .. }),
                    "{cause:?}"
                );
                self.reader = None;
                self.open();
            }
        }
    }

    fn run(&mut self, steps: &[Step]) {
        self.open();
        let mut faults = 0;
        let mut jumps = 0;
        for step in steps {
            match step {
                Step::Read(len) => self.read(*len),
                Step::Seek(by) => self.seek(SeekFrom::Current(*by)),
                Step::SeekEnd(by) => self.seek(SeekFrom::End(*by)),
                Step::Fault(fault) => drop(self.stage.server.rule("/a.bin", rule(*fault))),
                Step::Reopen | Step::Restart => {
                    self.reader = None;
                    if matches!(step, Step::Restart) {
                        self.stage.restart();
                    }
                    self.open();
                }
                Step::Pause => std::thread::yield_now(),
            }
            faults += usize::from(matches!(step, Step::Fault(_)));
            jumps += usize::from(!matches!(step, Step::Read(_) | Step::Fault(_)));
        }
        self.seek(SeekFrom::Start(LEN.min(self.position)));
        while self.position < LEN {
            self.read(100_000);
        }
        self.read(1);
        // Each jump costs a request or two (a hole behind it), each fault one more and a resumption.
        let most = 4 + 3 * jumps + 4 * faults + if self.cached { 0 } else { steps.len() * 2 };
        let requests = self.stage.requests();
        assert!(
            requests <= most,
            "{requests} requests, {jumps} jumps, {faults} faults"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, max_shrink_iters: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// B1, B2, B6 to B11, D1 to D9 in any order: what is read is what a `Vec` has at that place.
    #[test]
    fn whatever_happens_the_bytes_are_those_of_the_file(steps in steps(), cached in prop::bool::weighted(0.75)) {
        let mut history = History {
            stage: Stage::new(LEN),
            model: pattern().range(0, usize::try_from(LEN).unwrap()),
            reader: None,
            position: 0,
            cached,
        };
        history.run(&steps);
    }
}

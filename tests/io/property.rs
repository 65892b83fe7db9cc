//! A plain `Vec<u8>` as the model: whatever is written, read, sought, failed, recorded and killed, in whatever order,
//! never a wrong byte and never a false end.

use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;

use kithara::io::{Reader, WaitError};
use kithara::storage::{StreamingError, Writer};
use proptest::prelude::*;

use crate::stage::{Reset, Resource, Stage, content};

const LEN: usize = 2000;

#[derive(Debug, Clone)]
enum Act {
    Write(Range<usize>),
    Read(usize),
    Seek(Way, i64),
    SetLen,
    Fail(u32),
    DropWriter,
    Checkpoint,
    Commit,
    Kill,
}

#[derive(Debug, Clone, Copy)]
enum Way {
    Start,
    Current,
    End,
}

fn act() -> impl Strategy<Value = Act> {
    let range = (0..LEN, 1_usize..400).prop_map(|(start, len)| start..(start + len).min(LEN));
    let way = prop_oneof![Just(Way::Start), Just(Way::Current), Just(Way::End)];
    let reach = i64::try_from(LEN).unwrap() + 50;
    prop_oneof![
        8 => range.prop_map(Act::Write),
        8 => (0_usize..600).prop_map(Act::Read),
        6 => (way, -reach..reach).prop_map(|(way, distance)| Act::Seek(way, distance)),
        1 => Just(Act::SetLen),
        1 => any::<u32>().prop_map(Act::Fail),
        1 => Just(Act::DropWriter),
        1 => Just(Act::Checkpoint),
        2 => Just(Act::Commit),
        1 => Just(Act::Kill),
    ]
}

/// What must be so.
#[derive(Clone)]
struct Model {
    bytes: Vec<u8>,
    present: Vec<bool>,
    len: Option<usize>,
    position: u64,
    failed: Option<u32>,
    complete: bool,
    recorded: (Vec<bool>, Option<usize>),
}

struct World {
    stage: Stage,
    track: Resource,
    writer: Option<Writer<Reset>>,
    reader: Reader<Reset>,
    model: Model,
}

/// A reader whose reads end where they would wait.
fn impatient(track: &Resource) -> Reader<Reset> {
    let reader = Reader::new(track);
    reader.interrupter().interrupt();
    reader
}

impl World {
    fn new() -> Self {
        let stage = Stage::new();
        let track = stage.open();
        let model = Model {
            bytes: content(LEN),
            present: vec![false; LEN],
            len: None,
            position: 0,
            failed: None,
            complete: false,
            recorded: (vec![false; LEN], None),
        };
        Self {
            reader: impatient(&track),
            writer: None,
            stage,
            track,
            model,
        }
    }

    fn writer(&mut self) -> Option<&mut Writer<Reset>> {
        if self.writer.is_none() {
            match self.track.writer() {
                Ok(writer) => self.writer = Some(writer),
                Err(StreamingError::Committed { .. }) => assert!(self.model.complete),
                Err(other) => panic!("{other}"),
            }
            if self.writer.is_some() {
                self.model.failed = None;
            }
        }
        self.writer.as_mut()
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Write(range) => {
                let part = self.model.bytes[range.clone()].to_vec();
                let fresh = self.model.present[range.clone()]
                    .iter()
                    .filter(|there| !**there)
                    .count();
                let Some(writer) = self.writer() else { return };
                match writer.write_at(range.start as u64, &part) {
                    Ok(new) => {
                        assert_eq!(new, fresh as u64);
                        self.model.present[range.clone()].fill(true);
                    }
                    Err(StreamingError::Committed { .. }) => assert!(self.model.complete),
                    Err(other) => panic!("{other}"),
                }
            }
            Act::Read(count) => self.read(*count),
            Act::Seek(way, distance) => self.seek(*way, *distance),
            Act::SetLen => {
                if let Some(writer) = self.writer() {
                    writer.set_len(LEN as u64).unwrap();
                    self.model.len = Some(LEN);
                }
            }
            Act::Fail(number) => {
                if !self.model.complete && self.writer().is_some() {
                    self.writer.take().unwrap().fail(Reset(*number));
                    self.model.failed = Some(*number);
                }
            }
            Act::DropWriter => self.writer = None,
            Act::Checkpoint => {
                if let Some(writer) = self.writer() {
                    writer.checkpoint().run().unwrap();
                    self.model.recorded = (self.model.present.clone(), self.model.len);
                }
            }
            Act::Commit => {
                let whole = self.model.present.iter().all(|there| *there);
                let complete = self.model.complete;
                let Some(writer) = self.writer() else { return };
                match writer.commit(LEN as u64) {
                    Ok(()) => {
                        assert!(whole && !complete);
                        self.model.complete = true;
                    }
                    Err(StreamingError::Incomplete { .. }) => assert!(!whole),
                    Err(StreamingError::Committed { .. }) => assert!(complete),
                    Err(other) => panic!("{other}"),
                }
                self.model.len = Some(LEN);
            }
            Act::Kill => self.kill(),
        }
    }

    fn read(&mut self, count: usize) {
        let model = &mut self.model;
        let mut buffer = vec![0; count];
        let from = usize::try_from(model.position).unwrap();
        let there = model
            .present
            .get(from..)
            .unwrap_or_default()
            .iter()
            .take_while(|there| **there)
            .count();
        match self.reader.read(&mut buffer) {
            Ok(0) if count > 0 => assert!(model.len.is_some_and(|len| from >= len), "a false end at {from}"),
            Ok(read) => {
                assert_eq!(read, count.min(there));
                assert!(
                    read == 0 || buffer[..read] == model.bytes[from..from + read],
                    "wrong bytes at {from}"
                );
                model.position += read as u64;
            }
            Err(error) => {
                assert!(
                    there == 0 && model.len.is_none_or(|len| from < len),
                    "{error}, but there is something"
                );
                let wait = error
                    .get_ref()
                    .unwrap()
                    .downcast_ref::<WaitError<Reset>>()
                    .unwrap();
                let cause = wait.cause().map(|cause| cause.0);
                assert_eq!(cause, model.failed);
                assert_eq!(wait.is_interrupted(), model.failed.is_none());
            }
        }
    }

    fn seek(&mut self, way: Way, distance: i64) {
        let model = &mut self.model;
        let (to, base) = match way {
            Way::Start => (SeekFrom::Start(distance.unsigned_abs()), Some(0)),
            Way::Current => (SeekFrom::Current(distance), Some(model.position)),
            Way::End => (SeekFrom::End(distance), model.len.map(|len| len as u64)),
        };
        let distance = if matches!(way, Way::Start) {
            distance.abs()
        } else {
            distance
        };
        let expected = base.and_then(|base| base.checked_add_signed(distance));
        assert_eq!(self.reader.seek(to).ok(), expected);
        model.position = expected.unwrap_or(model.position);
        assert_eq!(self.reader.stream_position().unwrap(), model.position);
    }

    /// Everything dropped without a word, then opened again as the next process would.
    fn kill(&mut self) {
        let model = &mut self.model;
        self.writer = None;
        let elsewhere = Stage::new().open();
        self.reader = impatient(&elsewhere);
        self.track = elsewhere;
        assert_eq!(self.stage.target().exists(), model.complete);
        if model.complete {
            assert!(std::fs::read(self.stage.target()).unwrap() == model.bytes);
            std::fs::remove_file(self.stage.target()).unwrap();
            model.recorded = (vec![false; LEN], None);
            model.complete = false;
        }
        self.track = self.stage.open();
        (model.present, model.len) = model.recorded.clone();
        if model.present.iter().all(|there| !there) && self.track.len().is_none() {
            // A record without ranges need not survive.
            model.len = None;
        }
        model.position = 0;
        model.failed = None;
        self.reader = impatient(&self.track);
        self.check_ranges();
    }

    fn check_ranges(&self) {
        let mut found = vec![false; LEN];
        for range in self.track.available() {
            found[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()].fill(true);
        }
        assert!(found == self.model.present);
        assert_eq!(self.track.len(), self.model.len.map(|len| len as u64));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// B1, B6, B7, B10, B11, B13, B14, B15 in every mixture.
    #[test]
    fn never_a_wrong_byte_and_never_a_false_end(acts in proptest::collection::vec(act(), 1..80)) {
        let mut world = World::new();
        for act in &acts {
            world.act(act);
            world.check_ranges();
        }
    }
}

//! The contract suite passes what is right and names what is wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use futures_lite::{StreamExt, future, stream};
use kithara::stream::contract::{Contract, Offline};
use kithara::stream::{Message, Source, SourceStream, StreamError, StreamParams};

use crate::tape::{self, Act, Torn};

#[path = "../../examples/own_source.rs"]
mod own_source;

const LENGTH: u64 = 5000;

/// A source with one mistake, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Nothing,
    OpensAtZero,
    ForgetsItsPosition,
    EndsEarly,
    SwapsChunks,
    PlaysZerosBehindTheEnd,
    MovesWhenItRefuses,
    AcceptsButStays,
    RefusesWithItsOwnError,
    KnowsNoTime,
    StaysWhatTimeIsSought,
    HidesItsClock,
    HasNoClock,
    NeverEndsTheSameTwice,
    EndsInsteadOfFailing,
    FailsOnlyAfterWrongBytes,
    ConnectsOffline,
}

struct Faulty {
    wrong: Wrong,
    position: Option<u64>,
    opens: usize,
    fails: bool,
    dialled: Arc<AtomicUsize>,
}

fn faulty(wrong: Wrong) -> Faulty {
    Faulty {
        wrong,
        position: None,
        opens: 0,
        fails: false,
        dialled: Arc::default(),
    }
}

type Error = StreamError<Torn>;

impl Source for Faulty {
    type Error = Torn;
    type Control = ();

    fn open(&mut self, params: &StreamParams) -> Result<SourceStream<(), Torn>, Error> {
        self.opens += 1;
        if !params.is_offline() || self.wrong == Wrong::ConnectsOffline {
            self.dialled.fetch_add(1, SeqCst);
        }
        let position = match self.wrong {
            Wrong::OpensAtZero => 0,
            Wrong::ForgetsItsPosition => self.position.take().unwrap_or(0),
            _ => self.position.unwrap_or(0),
        };
        let end = match self.wrong {
            Wrong::EndsEarly => LENGTH - 1,
            Wrong::NeverEndsTheSameTwice if self.opens > 1 => LENGTH - 1,
            _ => LENGTH,
        };
        let rest = tape::bytes(position.min(end), end);
        let mut chunks: Vec<_> = rest
            .chunks(700)
            .map(|chunk| Ok(Message::Data(Bytes::copy_from_slice(chunk))))
            .collect();
        if self.wrong == Wrong::SwapsChunks && chunks.len() > 3 {
            chunks.swap(1, 2);
        }
        if self.wrong == Wrong::PlaysZerosBehindTheEnd && position > end {
            chunks.push(Ok(Message::Data(Bytes::from_static(&[0]))));
        }
        if self.fails {
            chunks.truncate(2);
            match self.wrong {
                Wrong::EndsInsteadOfFailing => {}
                Wrong::FailsOnlyAfterWrongBytes => {
                    chunks.push(Ok(Message::Data(Bytes::from_static(b"<html>"))));
                    chunks.push(Err(StreamError::source(Torn { code: 1 })));
                }
                _ => chunks.push(Err(StreamError::source(Torn { code: 1 }))),
            }
        }
        Ok(stream::iter(chunks).boxed())
    }

    fn seek_bytes(&mut self, position: u64) -> Result<(), Error> {
        match self.wrong {
            Wrong::AcceptsButStays => return Ok(()),
            Wrong::RefusesWithItsOwnError => return Err(StreamError::source(Torn { code: 2 })),
            Wrong::MovesWhenItRefuses if position > LENGTH => {
                self.position = Some(0);
                return Err(StreamError::source(Torn { code: 416 }));
            }
            _ => self.position = Some(position),
        }
        Ok(())
    }

    fn supports_seek(&self) -> bool {
        !matches!(self.wrong, Wrong::AcceptsButStays | Wrong::RefusesWithItsOwnError)
    }

    fn seek_time(&mut self, time: Duration) -> Result<(), Error> {
        match self.wrong {
            Wrong::KnowsNoTime | Wrong::Nothing => Err(StreamError::SeekNotSupported),
            Wrong::StaysWhatTimeIsSought => Ok(()),
            Wrong::HasNoClock => Err(StreamError::source(Torn { code: 3 })),
            _ => self.seek_bytes(u64::try_from(time.as_millis()).unwrap()),
        }
    }

    fn supports_seek_time(&self) -> bool {
        self.supports_seek()
            && !matches!(
                self.wrong,
                Wrong::Nothing | Wrong::HidesItsClock | Wrong::HasNoClock
            )
    }
}

fn contract(wrong: Wrong) -> Contract<Faulty> {
    let dialled = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&dialled);
    Contract::new(move || faulty(wrong), tape::bytes(0, LENGTH))
        .failing(move || Faulty {
            fails: true,
            ..faulty(wrong)
        })
        .offline(
            move || Faulty {
                dialled: Arc::clone(&dialled),
                ..faulty(wrong)
            },
            Offline::Plays,
        )
        .connections(move || counted.load(SeqCst))
}

#[test]
fn what_is_right_passes() {
    future::block_on(contract(Wrong::Nothing).check()).unwrap();
}

#[test]
fn the_tests_own_tape_keeps_the_contract() {
    let contract = Contract::new(|| tape::playing(LENGTH, 333).0, tape::bytes(0, LENGTH))
        .failing(|| tape::scripted(LENGTH, &[Act::Data(100), Act::Note(1), Act::Fail(7)]).0)
        .offline(|| tape::scripted(LENGTH, &[Act::Fail(7)]).0, Offline::Fails);
    future::block_on(contract.check()).unwrap();
}

#[test]
fn the_source_of_the_example_keeps_the_contract() {
    let bytes: Bytes = (0..1_u64 << 20).map(|value| value.to_le_bytes()[0]).collect();
    future::block_on(Contract::new(own_source::Counter::default, bytes).check()).unwrap();
}

#[test]
fn a_boxed_source_keeps_the_contract() {
    type Boxed = Box<dyn Source<Error = Torn, Control = u32>>;
    let make = || -> Boxed { Box::new(tape::playing(LENGTH, 333).0) };
    future::block_on(Contract::new(make, tape::bytes(0, LENGTH)).check()).unwrap();
}

#[test]
fn what_is_wrong_is_named() {
    let mistakes = [
        (Wrong::OpensAtZero, "reopens where it was"),
        (Wrong::ForgetsItsPosition, "reopens where it was"),
        (Wrong::EndsEarly, "plays to its end"),
        (Wrong::SwapsChunks, "plays to its end"),
        (Wrong::PlaysZerosBehindTheEnd, "has nothing behind its end"),
        (Wrong::MovesWhenItRefuses, "a refused seek moves nothing"),
        (Wrong::AcceptsButStays, "refuses a seek it cannot do"),
        (Wrong::RefusesWithItsOwnError, "refuses a seek it cannot do"),
        (Wrong::KnowsNoTime, "seeks by time, or says it cannot"),
        (Wrong::StaysWhatTimeIsSought, "seeks by time, or says it cannot"),
        (Wrong::HidesItsClock, "seeks by time, or says it cannot"),
        (Wrong::HasNoClock, "seeks by time, or says it cannot"),
        (Wrong::NeverEndsTheSameTwice, "reopens where it was"),
        (Wrong::EndsInsteadOfFailing, "fails after the right bytes"),
        (Wrong::FailsOnlyAfterWrongBytes, "fails after the right bytes"),
        (Wrong::ConnectsOffline, "keeps offline"),
    ];
    for (wrong, rule) in mistakes {
        let violation = future::block_on(contract(wrong).check()).unwrap_err();
        assert_eq!(violation.rule(), rule, "{wrong:?}: {violation}");
        assert!(!violation.detail().is_empty());
    }
}

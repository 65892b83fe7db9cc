//! Random programs against a plain model, one poll at a time.
//!
//! The source writes down what it yields; the model follows which of it the consumer may and must receive, which seek
//! has to be answered how, and which task has to be woken. Everything is checked after every step.
//!
//! `PROPTEST_CASES=1000000 cargo test --release --test stream model` is the long run.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;

use bytes::Bytes;
use kithara::stream::{Driver, Handle, Message, Messages, Position, Stream, StreamError, StreamParams};
use proptest::prelude::*;

use crate::step::Step;
use crate::tape::Torn;

mod world;

use self::world::{Act, How, Made, Scripted, Shared, World};

type Error = StreamError<Torn>;

#[derive(Debug, Clone)]
enum Move {
    /// As an executor would: only if it was woken.
    RunDriver,
    RunConsumer,
    /// At any time.
    PollDriver,
    PollConsumer,
    Seek(usize, How),
    ForgetAnswer(usize),
    CloneHandle(usize),
    DropHandle(usize),
    Release,
    DropConsumer,
    DropDriver,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Done(How),
    Superseded,
    Closed,
}

type Seek = Pin<Box<dyn Future<Output = Result<(), Error>>>>;

struct Asked {
    future: Option<Seek>,
    step: Step,
    how: How,
    due: Option<Answer>,
}

#[expect(clippy::struct_excessive_bools, reason = "a model remembers what happened")]
struct Bench {
    world: Shared,
    params: (usize, usize),
    messages: Option<Messages<Scripted>>,
    driver: Option<Driver<Scripted>>,
    inline: bool,
    consumer_step: Step,
    driver_step: Step,
    driver_ran: bool,
    consumer_ran: bool,
    handles: Vec<Handle<Torn>>,
    asked: Vec<Asked>,
    /// Items of the current era that the consumer has had, and bytes of the next.
    era: usize,
    had: usize,
    had_bytes: usize,
    /// Bytes of the current era that the consumer has had.
    era_bytes: usize,
    /// How many seeks there were, so that each has a target of its own.
    seeks: u64,
    ended: bool,
    driver_dropped: bool,
}

impl Bench {
    fn new(inline: bool, max_chunks: u16, max_bytes: usize, scripts: Vec<Vec<Act>>) -> Self {
        let world = Arc::new(Mutex::new(World {
            scripts: scripts.into(),
            alive: true,
            ..World::default()
        }));
        let params = StreamParams::default()
            .max_chunks(max_chunks.try_into().unwrap())
            .max_bytes(max_bytes.try_into().unwrap());
        let source = Scripted(Arc::clone(&world));
        let (stream, driver) = if inline {
            (Stream::inline(source, params), None)
        } else {
            let (stream, driver) = Stream::with_driver(source, params);
            (stream, Some(driver))
        };
        Self {
            world,
            params: (max_chunks.into(), max_bytes),
            handles: vec![stream.handle()],
            messages: Some(stream.into_messages()),
            driver,
            inline,
            consumer_step: Step::new(),
            driver_step: Step::new(),
            driver_ran: false,
            consumer_ran: false,
            asked: Vec::new(),
            era: 0,
            had: 0,
            had_bytes: 0,
            era_bytes: 0,
            seeks: 0,
            ended: false,
            driver_dropped: false,
        }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// Whether nothing can be commanded any more.
    fn is_closed(&self) -> bool {
        self.ended || self.messages.is_none() || self.driver_dropped || self.world().panicked
    }

    /// The seeks that wait are answered so.
    fn answer(&mut self, answer: impl Fn(How) -> Answer) {
        for asked in &mut self.asked {
            if asked.due.is_none() {
                asked.due = Some(answer(asked.how));
            }
        }
    }

    /// Where the source stands now is where the consumer goes on.
    fn follow(&mut self) {
        let era = self.world().eras.len().saturating_sub(1);
        if era != self.era {
            (self.era, self.had, self.had_bytes, self.era_bytes) = (era, 0, 0, 0);
        }
    }

    fn run(&mut self, step: &Move) {
        match *step {
            Move::RunDriver if self.driver_ran && self.driver_step.woken() == 0 => {}
            Move::RunDriver | Move::PollDriver => self.poll_driver(),
            Move::RunConsumer if self.consumer_ran && self.consumer_step.woken() == 0 => {}
            Move::RunConsumer | Move::PollConsumer => self.poll_consumer(),
            Move::Seek(which, how) => self.seek(which, how),
            Move::ForgetAnswer(which) => {
                if let Some(asked) = self.asked.get_mut(which) {
                    asked.future = None;
                }
            }
            Move::CloneHandle(which) => {
                if let Some(handle) = self.handles.get(which).cloned() {
                    self.handles.push(handle);
                }
            }
            Move::DropHandle(which) => {
                if which < self.handles.len() {
                    self.handles.remove(which);
                }
            }
            Move::Release => {
                let waker = {
                    let mut world = self.world();
                    world.permits += 1;
                    world.waiting.take()
                };
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            Move::DropConsumer => {
                let watched =
                    self.driver.is_some() && self.driver_ran && self.messages.is_some() && !self.ended;
                self.messages = None;
                assert!(
                    !watched || self.driver_step.is_woken(),
                    "S1: the driver must be woken"
                );
                self.answer(|_| Answer::Closed);
            }
            Move::DropDriver => {
                if self.driver.take().is_some() {
                    self.driver_dropped = true;
                    self.answer(|_| Answer::Closed);
                    self.consumer_ran = false;
                }
            }
        }
        self.check();
    }

    fn poll_driver(&mut self) {
        let Some(driver) = &mut self.driver else { return };
        self.driver_ran = true;
        let ready = self.driver_step.poll(driver).is_ready();
        let leaving = self.ended || self.messages.is_none();
        if ready {
            self.driver = None;
            self.driver_dropped = true;
            assert!(
                leaving || self.world().panicked,
                "a driver that nobody stopped must go on"
            );
        } else {
            assert!(!leaving, "S1: the driver must end");
        }
        if leaving {
            return;
        }
        self.answer(Answer::Done);
        self.follow();
    }

    fn poll_consumer(&mut self) {
        let Some(messages) = &mut self.messages else {
            return;
        };
        self.consumer_ran = true;
        let polled = self.consumer_step.next(messages);
        if self.ended {
            assert!(matches!(polled, Poll::Ready(None)), "S3: the end stays");
            return;
        }
        if self.inline {
            self.follow();
        }
        let made: Vec<Made> = self.world().eras.get(self.era).cloned().unwrap_or_default();
        // Empty chunks are nobody's.
        while matches!(made.get(self.had), Some(Made::Data(data)) if data.is_empty()) {
            self.had += 1;
        }
        let next = made.get(self.had);
        let start = self.world().starts.get(self.era).copied().unwrap_or_default();
        let messages = self.messages.as_ref().expect("polled just now");
        let stands = (messages.generation(), messages.position());
        if !matches!(
            polled,
            Poll::Pending | Poll::Ready(Some(Err(StreamError::DriverGone { .. })))
        ) {
            let due = Position::Bytes(start + self.era_bytes as u64);
            assert_eq!(stands, (self.era as u64, due), "S12");
        }
        let gone = self.driver_dropped || self.world().panicked;
        match (polled, next) {
            (Poll::Pending, _) => {
                assert!(!gone, "S3: an error is due");
                let coming = self.inline || !self.driver_ran || self.driver_step.is_woken();
                assert!(next.is_none() || coming, "made but not delivered: {next:?}");
                return;
            }
            (Poll::Ready(Some(Ok(Message::Data(chunk)))), Some(Made::Data(whole))) => {
                assert_eq!(chunk, whole.slice(self.had_bytes..self.had_bytes + chunk.len()));
                if self.had_bytes == 0 && (whole.len() <= self.params.1 || self.inline) {
                    assert_eq!(chunk.len(), whole.len(), "cut without need");
                }
                assert!(chunk.len() <= self.params.1 || self.inline, "S4");
                self.had_bytes += chunk.len();
                self.era_bytes += chunk.len();
                if self.had_bytes < whole.len() {
                    self.consumer_ran = false;
                    return;
                }
            }
            (Poll::Ready(Some(Ok(Message::Control(note)))), Some(Made::Note(it))) => assert_eq!(note, *it),
            (
                Poll::Ready(Some(Err(StreamError::Source {
                    source: Torn { code },
                }))),
                Some(Made::Fail(it)),
            ) => {
                assert_eq!(code, *it);
                self.end();
            }
            (Poll::Ready(None), Some(Made::End)) => self.end(),
            (Poll::Ready(Some(Err(StreamError::DriverGone { panic }))), _) if gone => {
                assert_eq!(panic.is_some(), self.world().panicked);
                // At most what was in its hand is missing.
                let left = made
                    .iter()
                    .skip(self.had)
                    .filter(|made| **made != Made::Data(Bytes::new()));
                assert!(left.count() <= 1);
                self.end();
            }
            (polled, next) => panic!("received {polled:?} where {next:?} is due"),
        }
        (self.had, self.had_bytes) = (self.had + 1, 0);
        // Ready: an executor would go on.
        self.consumer_ran = false;
    }

    fn end(&mut self) {
        self.ended = true;
        self.answer(|_| Answer::Closed);
    }

    fn seek(&mut self, which: usize, how: How) {
        let Some(handle) = self.handles.get(which).cloned() else {
            return;
        };
        let closed = self.is_closed();
        self.seeks += 1;
        let target = 4 * self.seeks + how as u64;
        let mut future: Seek = Box::pin(async move { handle.seek_bytes(target).await });
        let step = Step::new();
        let polled = step.poll(&mut future);
        if !closed {
            self.answer(|_| Answer::Superseded);
        }
        let due = match (closed, self.inline) {
            (true, _) => Some(Answer::Closed),
            (false, true) => Some(Answer::Done(how)),
            (false, false) => None,
        };
        if self.inline && !closed {
            self.follow();
            if how == How::Accept {
                assert!(
                    !self.consumer_ran || self.consumer_step.is_woken(),
                    "the consumer must be woken"
                );
            }
        }
        let asleep = self.driver_ran && !self.driver_step.is_woken();
        assert!(
            closed || self.driver.is_none() || !asleep,
            "S5: the driver must be woken"
        );
        let mut asked = Asked {
            future: Some(future),
            step,
            how,
            due,
        };
        if let Poll::Ready(answer) = polled {
            Self::compare(&asked, &answer);
            asked.future = None;
        }
        self.asked.push(asked);
    }

    fn compare(asked: &Asked, answer: &Result<(), Error>) {
        let right = match asked.due {
            Some(Answer::Done(How::Accept)) => answer.is_ok(),
            Some(Answer::Done(How::Unsupported)) => matches!(answer, Err(StreamError::SeekNotSupported)),
            Some(Answer::Done(How::Refuse)) => {
                matches!(
                    answer,
                    Err(StreamError::Source {
                        source: Torn { code: 416 }
                    })
                )
            }
            Some(Answer::Done(How::OpenFails)) => {
                matches!(
                    answer,
                    Err(StreamError::Source {
                        source: Torn { code: 404 }
                    })
                )
            }
            Some(Answer::Superseded) => matches!(answer, Err(StreamError::SeekSuperseded)),
            Some(Answer::Closed) => matches!(answer, Err(StreamError::ChannelClosed)),
            None => false,
        };
        assert!(right, "answered {answer:?} where {:?} is due", asked.due);
    }

    fn check(&mut self) {
        for asked in &mut self.asked {
            let Some(future) = &mut asked.future else { continue };
            match asked.step.poll(future) {
                Poll::Ready(answer) => {
                    asked.future = None;
                    Self::compare(asked, &answer);
                }
                Poll::Pending => assert!(asked.due.is_none(), "S6: {:?} is due", asked.due),
            }
        }
        let world = self.world.lock().unwrap();
        assert!(world.live <= 1, "the old stream is still open");
        if let (false, Some(made)) = (self.inline, world.eras.get(self.era)) {
            let left = made
                .iter()
                .skip(self.had)
                .filter(|made| !matches!(made, Made::Data(data) if data.is_empty()));
            let bytes = |made: &Made| {
                if let Made::Data(data) = made {
                    data.len()
                } else {
                    0
                }
            };
            let queued: usize = left.clone().map(bytes).sum::<usize>() - self.had_bytes;
            let hand = made.last().map_or(0, bytes);
            assert!(left.count() <= self.params.0 + 1, "S4: chunks");
            assert!(queued <= self.params.1 + hand, "S4: bytes");
        }
        assert!(
            self.messages.is_some() || !self.inline || !world.alive,
            "S1: inline"
        );
    }

    /// Runs each task that was woken until none is, as an executor would. Then nothing may be left undone.
    fn finish(mut self) {
        for _ in 0..100_000 {
            let driver = self.driver.is_some() && (!self.driver_ran || self.driver_step.woken() > 0);
            let consumer = self.messages.is_some()
                && !self.ended
                && (!self.consumer_ran || self.consumer_step.woken() > 0);
            if driver {
                self.run(&Move::PollDriver);
            }
            if consumer {
                self.run(&Move::PollConsumer);
            }
            if !driver && !consumer {
                break;
            }
        }
        assert!(
            self.asked.iter().all(|asked| asked.due.is_some()),
            "S6: everybody is answered"
        );
        if self.messages.is_some() && !self.ended {
            let world = self.world();
            assert!(
                world.waiting.is_some() && world.permits == 0,
                "asleep although the source is ready"
            );
            let made = &world.eras[self.era];
            assert!(
                made[self.had..]
                    .iter()
                    .all(|made| *made == Made::Data(Bytes::new()))
            );
            drop(world);
        }
        self.run(&Move::DropConsumer);
        if self.driver.is_some() {
            self.poll_driver();
        }
        assert!(self.driver.is_none());
        assert!(!self.world().alive, "S1");
        assert_eq!(self.world().live, 0, "S1");
        assert_eq!(Arc::strong_count(&self.world), 1, "A11");
    }
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        12 => (0..40_usize).prop_map(Act::Data),
        4 => Just(Act::Note),
        4 => Just(Act::Wait),
        1 => Just(Act::Fail),
        1 => Just(Act::Panic),
        1 => Just(Act::FailToOpen),
    ]
}

fn how() -> impl Strategy<Value = How> {
    prop_oneof![
        6 => Just(How::Accept),
        1 => Just(How::Unsupported),
        1 => Just(How::Refuse),
        1 => Just(How::OpenFails),
    ]
}

fn step() -> impl Strategy<Value = Move> {
    prop_oneof![
        12 => Just(Move::RunDriver),
        12 => Just(Move::RunConsumer),
        4 => Just(Move::PollDriver),
        4 => Just(Move::PollConsumer),
        6 => (0..3_usize, how()).prop_map(|(which, how)| Move::Seek(which, how)),
        1 => (0..10_usize).prop_map(Move::ForgetAnswer),
        1 => (0..3_usize).prop_map(Move::CloneHandle),
        1 => (0..3_usize).prop_map(Move::DropHandle),
        4 => Just(Move::Release),
        1 => Just(Move::DropConsumer),
        1 => Just(Move::DropDriver),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2048),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// S1 to S9, S12.
    #[test]
    fn a_stream_does_what_the_model_says(
        inline: bool,
        max_chunks in 1..6_u16,
        max_bytes in prop_oneof![1..20_usize, 20..200_usize],
        scripts in prop::collection::vec(prop::collection::vec(act(), 0..12), 0..12),
        steps in prop::collection::vec(step(), 0..80),
    ) {
        let mut bench = Bench::new(inline, max_chunks, max_bytes, scripts);
        for step in steps {
            bench.run(&step);
        }
        bench.finish();
    }
}

//! The decode thread: decodes as long as what it fills has room.
//!
//! ```text
//!   commands ─▶ ┌────────┐ blocks ┌──────┐
//!               │ worker ├───────▶│ sink │──▶ ring or channel ──▶ app
//!               └───┬────┘        └──────┘
//!                   └─ events, places ─▶ time line ──▶ handles
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::{
    link::{Answer, Command, Link},
    meter::Meter,
    timeline::Playing,
};
use crate::decode::{DecodeError, DecodeEvent, Decoder, Spec, source::frames_at};

/// What the decode thread fills.
pub(super) trait Sink {
    /// Takes some of a block's samples, whole frames. `at` is how many samples were taken before, `position` the place of the
    /// first one in its track.
    fn put(&mut self, samples: &[f32], spec: Spec, at: u64, position: u64) -> Put;

    /// No more samples follow the first `at`, unless a command goes on; with an error, because of that. Whether it was taken:
    /// if not, it is to be tried again when the thread is woken.
    fn end(&mut self, at: u64, error: Option<&DecodeError>) -> bool;
}

/// What became of a block.
pub(super) enum Put {
    /// So many samples were taken.
    Taken(usize),
    /// None: there is no room. To be tried again after this time, or when the thread is woken.
    Full(Duration),
}

pub(super) struct Worker<S> {
    decoder: Decoder,
    sink: S,
    link: Arc<Link>,
    meter: Arc<Meter>,
    written: u64,
    spec: Spec,
    /// The samples of a block that are not in the ring yet, from `hand_at` on.
    hand: Vec<f32>,
    hand_at: usize,
    hand_position: u64,
    /// What is known of the track that is decoded.
    playing: Option<Arc<Playing>>,
    /// The position that the next block has, if it follows the last one.
    expected: Option<u64>,
    /// Where tracks begin that are not heard yet.
    begins: VecDeque<u64>,
    over: bool,
    /// Decoding has failed: only a seek or a skip goes on.
    failed: bool,
    /// How decoding ended, if the sink has not taken that yet.
    ending: Option<Result<(), DecodeError>>,
}

/// How often a thread with nothing to decode looks whether a track is heard by now.
const LATER: Duration = Duration::from_millis(50);

/// What to do next.
pub(super) enum Next {
    GoOn,
    Sleep(Duration),
    /// Until there is a command.
    Rest,
}

impl<S: Sink> Worker<S> {
    pub(super) fn new(mut decoder: Decoder, sink: S, link: Arc<Link>) -> Self {
        decoder.keep_tracks();
        let spec = decoder.spec();
        Self {
            meter: Arc::clone(&link.meter),
            decoder,
            sink,
            link,
            written: 0,
            spec,
            hand: Vec::new(),
            hand_at: 0,
            hand_position: 0,
            playing: None,
            expected: None,
            begins: VecDeque::new(),
            over: false,
            failed: false,
            ending: None,
        }
    }

    pub(super) fn run(mut self) {
        // Whatever ends this thread, a panic too: nobody is to wait for it.
        let _gone = Gone(Arc::clone(&self.link));
        while !self.link.is_closed() {
            // Before decoding: a seek that waits makes the next block useless.
            if let Some(command) = self.link.next_command() {
                self.obey(command);
                self.link.listeners.notify_all();
                continue;
            }
            let next = self.step();
            self.link.listeners.notify_untimed();
            match next {
                // A wake that came since the look at the commands ends the park at once: none is missed.
                Next::GoOn => {}
                Next::Sleep(time) => thread::park_timeout(time),
                Next::Rest => thread::park(),
            }
        }
    }

    /// Decodes a block, or moves on what there is of one.
    pub(super) fn step(&mut self) -> Next {
        // Whenever it looks, as a pull tells nothing: tracks that are over hold their files and connections.
        while self
            .begins
            .front()
            .is_some_and(|begin| *begin <= self.meter.heard())
        {
            self.begins.pop_front();
            self.decoder.leave_track();
        }
        // Before the next block, and before the end: samples go out in the order they were made.
        if self.hand_at < self.hand.len() {
            return self.pass_on();
        }
        if let Some(ending) = &self.ending {
            if !self.sink.end(self.written, ending.as_ref().err()) {
                return Next::Rest;
            }
            self.ending = None;
        }
        if self.over {
            // Tracks that are not heard yet are left when they are; a seek before that goes back to them.
            return if self.begins.is_empty() {
                Next::Rest
            } else {
                Next::Sleep(LATER)
            };
        }
        match self.decoder.next_block() {
            Ok(Some(block)) => {
                let (spec, position) = (block.spec(), block.position());
                self.hand.clear();
                self.hand.extend_from_slice(block.samples());
                // Copied, as the decoder keeps its block for the next call.
                (self.hand_at, self.hand_position) = (0, position);
                let events = self.take_events();
                // The place first: an app that is told of a new track and asks where it is finds itself in that one.
                self.tell_place(spec, position);
                self.tell(events);
            }
            Ok(None) => {
                let events = self.take_events();
                self.tell(events);
                self.end(Ok(()));
            }
            Err(DecodeError::Interrupted) => {
                // The next track may have begun before the wait for its bytes was ended. A seek that is told of it here goes
                // to the track that is heard, and not to that one.
                let events = self.take_events();
                self.tell(events);
            }
            Err(error) => {
                let events = self.take_events();
                self.tell(events);
                // Before the end is set: a pull that finds the end finds why in the time line.
                self.link.timeline().event(self.written, Err(error.clone()));
                self.end(Err(error));
            }
        }
        Next::GoOn
    }

    fn end(&mut self, ending: Result<(), DecodeError>) {
        self.over = true;
        self.failed = ending.is_err();
        self.ending = Some(ending);
        // Behind all that was written: a pull that is at the end has heard all.
        self.meter.set_end(Some(self.written));
    }

    /// Hands on as much of the block as there is room for.
    fn pass_on(&mut self) -> Next {
        let left = self.hand.get(self.hand_at..).unwrap_or_default();
        let taken = match self.sink.put(left, self.spec, self.written, self.hand_position) {
            Put::Taken(taken) => taken,
            Put::Full(time) => return Next::Sleep(time),
        };
        // A sink takes whole frames.
        let frames = taken / usize::from(self.spec.channels.count()).max(1);
        self.hand_at += taken;
        self.hand_position += frames as u64;
        self.written += taken as u64;
        // Behind the samples: a listener counts on what a pull can have.
        self.meter.set_written(self.written);
        Next::GoOn
    }

    /// The events of what was decoded last. What they change is looked up anew.
    fn take_events(&mut self) -> Vec<DecodeEvent> {
        let mut events = Vec::new();
        while let Some(event) = self.decoder.next_event() {
            match &event {
                DecodeEvent::TrackChanged => {
                    self.begins.push_back(self.written);
                    (self.playing, self.expected) = (None, None);
                }
                DecodeEvent::FormatChanged(_) | DecodeEvent::TagsChanged(_) => {
                    (self.playing, self.expected) = (None, None);
                }
                _ => {}
            }
            events.push(event);
        }
        events
    }

    fn tell(&self, events: Vec<DecodeEvent>) {
        for event in events {
            self.link.timeline().event(self.written, Ok(event));
        }
    }

    /// The next sample that is written has this spec and this place in its track.
    fn tell_place(&mut self, spec: Spec, position: u64) {
        if spec != self.spec {
            (self.spec, self.expected) = (spec, None);
        }
        if self.expected != Some(position) {
            let playing = self
                .playing
                .get_or_insert_with(|| Arc::new(Playing::of(&self.decoder)));
            let playing = Arc::clone(playing);
            let mut timeline = self.link.timeline();
            // Here too, for an app that never asks what is heard: each place holds its track's tags, cover and all.
            timeline.forget(self.meter.heard());
            timeline.anchor(self.written, playing, spec, position);
        }
        let frames = self.hand.len() / usize::from(spec.channels.count()).max(1);
        self.expected = Some(position + frames as u64);
    }

    pub(super) fn obey(&mut self, command: Command) {
        match command {
            Command::Then(next) => {
                self.decoder.then(*next);
                // Where it was decoded ahead of what is heard, the end was not told yet, and is none any more.
                self.link.timeline().take_back_end(self.written);
                // A track that failed would only fail again, and be told a second time.
                if !self.failed {
                    (self.over, self.ending) = (false, None);
                    self.meter.set_end(None);
                }
            }
            Command::Seek { time, answer } => self.leave(&answer, |decoder| decoder.seek(time)),
            Command::Skip { answer } => self.leave(&answer, |decoder| match decoder.skip() {
                Ok(true) => Ok(()),
                Ok(false) => Err(DecodeError::NothingQueued),
                Err(error) => Err(error),
            }),
        }
    }

    /// Goes elsewhere: what is in the ring is not heard any more.
    fn leave(&mut self, answer: &Answer, mut go: impl FnMut(&mut Decoder) -> Result<(), DecodeError>) {
        // What is heard now, and not what is decoded, is what is left.
        let heard = self.meter.heard();
        while self.begins.front().is_some_and(|begin| *begin <= heard) {
            self.begins.pop_front();
            self.decoder.leave_track();
        }
        // The decoder is ahead of the ring: it goes back to the track that is heard.
        self.decoder.return_tracks(self.begins.len());
        // A source may be slow to be sought in, and another command may come meanwhile.
        let gone = loop {
            match go(&mut self.decoder) {
                // The interrupt that brought this command may end a wait of its own.
                Err(DecodeError::Interrupted) if !self.link.is_superseded() => {}
                Err(DecodeError::Interrupted) => break Err(DecodeError::SeekSuperseded),
                other => break other,
            }
        };
        if matches!(
            gone,
            Err(DecodeError::SeekUnsupported | DecodeError::NothingQueued)
        ) {
            // Nothing was left.
            self.decoder.leave_again(self.begins.len());
            drop(answer.try_send(gone));
            return;
        }
        // What was decoded ahead is of the place that is left.
        self.begins.clear();
        self.hand.clear();
        self.hand_at = 0;
        (self.playing, self.expected) = (None, None);
        (self.over, self.failed, self.ending) = (false, false, None);
        // The end first: a pull that has dropped the stale samples stands exactly where the old end was.
        self.meter.set_end(None);
        {
            // Under the lock, as handles look: what is heard and where that is change in one go.
            let mut timeline = self.link.timeline();
            self.meter.set_stale_to(self.written);
            timeline.cut(heard);
            let playing = Arc::new(Playing::of(&self.decoder));
            let spec = self.decoder.spec();
            let position = frames_at(self.decoder.position(), spec.sample_rate);
            timeline.anchor(self.written, playing, spec, position);
        }
        // Whoever asked may have stopped waiting.
        drop(answer.try_send(gone));
    }
}

/// Dropped when the thread ends.
struct Gone(Arc<Link>);

impl Drop for Gone {
    fn drop(&mut self) {
        // Stopped, this changes nothing; after a panic the app hears an end.
        self.0.meter.set_end(Some(0));
        self.0.refuse_all();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::sync::OnceLock;

    use super::super::testing::{FRAMES, tone, tone_with};
    use super::*;

    /// All that was put, with where in its track it belongs.
    #[derive(Default)]
    struct Heap(Vec<(u64, Vec<f32>)>);

    impl Sink for Heap {
        fn put(&mut self, samples: &[f32], _spec: Spec, _at: u64, position: u64) -> Put {
            self.0.push((position, samples.to_vec()));
            Put::Taken(samples.len())
        }

        fn end(&mut self, _at: u64, _error: Option<&DecodeError>) -> bool {
            true
        }
    }

    /// A seek's interrupt may come at any moment, at the one between two tracks too.
    #[test]
    fn p7_a_seek_between_two_tracks_stays_in_the_one_that_is_heard() {
        let interrupter = Arc::new(OnceLock::new());
        let mut first = tone_with(0.1, Arc::clone(&interrupter));
        first.then(tone_with(0.2, Arc::clone(&interrupter)));
        assert!(interrupter.set(first.interrupter()).is_ok());
        let link = Arc::new(Link::new(first.interrupter(), Arc::default()));
        let mut worker = Worker::new(first, Heap::default(), Arc::clone(&link));
        // Decodes the first track, hands it on, and is interrupted.
        for _ in 0..3 {
            worker.step();
        }
        assert_eq!(worker.written, FRAMES);
        // Nothing was pulled, so the first track is heard.
        let _answered = link.seek(Duration::from_millis(1));
        worker.obey(link.next_command().unwrap());
        while worker.sink.0.len() < 2 {
            worker.step();
        }
        let (position, frames) = worker.sink.0.last().unwrap();
        assert_eq!((*position, frames.first()), (8, Some(&0.1)));
    }

    /// Told when the last frame is heard, an end that another track has followed since would be no end.
    #[test]
    fn p9_the_end_that_another_track_follows_is_not_told() {
        let first = tone(0.1);
        let link = Arc::new(Link::new(first.interrupter(), Arc::default()));
        let mut worker = Worker::new(first, Heap::default(), Arc::clone(&link));
        while !worker.over {
            worker.step();
        }
        link.then(tone(0.2));
        worker.obey(link.next_command().unwrap());
        while !worker.over {
            worker.step();
        }
        let told = std::iter::from_fn(|| link.timeline().due(u64::MAX));
        let told: Vec<_> = told.map(Result::unwrap).collect();
        let ends = told.iter().filter(|event| **event == DecodeEvent::Ended);
        assert_eq!(ends.count(), 1, "{told:?}");
        assert_eq!(told.last(), Some(&DecodeEvent::Ended));
        assert!(told.contains(&DecodeEvent::TrackChanged));
    }
}

//! A source that does what a test tells it to, and remembers what was done to it.
//!
//! Byte `i` of a tape is byte `i % 8` of the big-endian number `i / 8`, so any eight bytes tell where they are from.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use kithara::stream::{Message, Source, SourceStream, StreamError, StreamParams};
use snafu::Snafu;

/// What an opened tape does next. When nothing is left it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Data(usize),
    Note(u32),
    Fail(u32),
    /// Pending until `Deck::release`.
    Wait,
    Panic,
    /// Everything from here to the length of the tape, in chunks of so many bytes.
    Play(usize),
}

#[derive(Debug, Clone, PartialEq, Eq, Snafu)]
#[snafu(display("torn at {code}"))]
pub struct Torn {
    pub code: u32,
}

pub type Error = StreamError<Torn>;

/// How a tape answers seeks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Seeks {
    #[default]
    Accepted,
    Unsupported,
    Refused,
    OpenFails,
    Panics,
}

type OnOpen = Box<dyn FnMut(u64) -> Vec<Act> + Send>;

/// What a test sees of its tape.
pub struct Deck {
    pub opens: AtomicUsize,
    pub polls: AtomicUsize,
    /// Opened and not dropped yet.
    pub live: AtomicUsize,
    /// How many were not when the source itself was dropped.
    pub orphans: AtomicUsize,
    pub offline: Mutex<Vec<bool>>,
    pub seeks: Mutex<Vec<u64>>,
    pub answers: Mutex<Seeks>,
    pub panic_on_drop: Mutex<bool>,
    on_open: Mutex<OnOpen>,
    permits: AtomicUsize,
    waiting: Mutex<Vec<Waker>>,
    pub length: u64,
    /// Fails to receive once the source has been dropped.
    pub gone: async_channel::Receiver<()>,
}

impl Deck {
    /// Lets one `Act::Wait` pass.
    pub fn release(&self) {
        self.permits.fetch_add(1, SeqCst);
        self.wake();
    }

    /// Wakes the task that polled a waiting tape, without letting it pass.
    pub fn wake(&self) {
        for waker in self.waiting.lock().unwrap().drain(..) {
            waker.wake();
        }
    }

    pub fn answer_seeks(&self, how: Seeks) {
        *self.answers.lock().unwrap() = how;
    }

    pub fn live(&self) -> usize {
        self.live.load(SeqCst)
    }

    pub fn orphans(&self) -> usize {
        self.orphans.load(SeqCst)
    }

    pub fn is_source_alive(&self) -> bool {
        !self.gone.is_closed()
    }

    pub fn seeks(&self) -> Vec<u64> {
        self.seeks.lock().unwrap().clone()
    }

    fn answer(&self) -> Seeks {
        *self.answers.lock().unwrap()
    }
}

pub struct Tape {
    deck: Arc<Deck>,
    position: u64,
    _alive: async_channel::Sender<()>,
}

/// A tape of `length` bytes; `on_open` says what it does when opened at a position.
pub fn tape(length: u64, on_open: impl FnMut(u64) -> Vec<Act> + Send + 'static) -> (Tape, Arc<Deck>) {
    let (alive, gone) = async_channel::bounded(1);
    let deck = Arc::new(Deck {
        opens: AtomicUsize::new(0),
        polls: AtomicUsize::new(0),
        live: AtomicUsize::new(0),
        orphans: AtomicUsize::new(0),
        offline: Mutex::default(),
        seeks: Mutex::default(),
        answers: Mutex::default(),
        panic_on_drop: Mutex::default(),
        on_open: Mutex::new(Box::new(on_open)),
        permits: AtomicUsize::new(0),
        waiting: Mutex::default(),
        length,
        gone,
    });
    (
        Tape {
            deck: Arc::clone(&deck),
            position: 0,
            _alive: alive,
        },
        deck,
    )
}

/// A tape that plays from wherever it is opened to its end.
pub fn playing(length: u64, chunk: usize) -> (Tape, Arc<Deck>) {
    tape(length, move |_| vec![Act::Play(chunk)])
}

/// A tape that does `acts` on the first open and plays to its end after a seek.
pub fn scripted(length: u64, acts: &[Act]) -> (Tape, Arc<Deck>) {
    let mut first = Some(acts.to_vec());
    tape(length, move |_| {
        first.take().unwrap_or_else(|| vec![Act::Play(64)])
    })
}

/// Panics without the noise.
pub fn snap(text: &str) -> ! {
    std::panic::resume_unwind(Box::new(text.to_owned()))
}

/// The bytes of a tape from `start` to `end`.
pub fn bytes(start: u64, end: u64) -> Bytes {
    (start..end)
        .map(|i| (i / 8).to_be_bytes()[usize::try_from(i % 8).unwrap()])
        .collect()
}

impl Source for Tape {
    type Error = Torn;
    type Control = u32;

    fn open(&mut self, params: &StreamParams) -> Result<SourceStream<u32, Torn>, Error> {
        self.deck.offline.lock().unwrap().push(params.is_offline());
        let first = self.deck.opens.fetch_add(1, SeqCst) == 0;
        if !first && self.deck.answer() == Seeks::OpenFails {
            return Err(StreamError::source(Torn { code: 404 }));
        }
        let acts = (self.deck.on_open.lock().unwrap())(self.position);
        if acts.first() == Some(&Act::Fail(0)) {
            return Err(StreamError::source(Torn { code: 0 }));
        }
        self.deck.live.fetch_add(1, SeqCst);
        Ok(Box::pin(Playing {
            deck: Arc::clone(&self.deck),
            position: self.position,
            acts: acts.into(),
        }))
    }

    fn seek_bytes(&mut self, position: u64) -> Result<(), Error> {
        self.deck.seeks.lock().unwrap().push(position);
        match self.deck.answer() {
            Seeks::Accepted | Seeks::OpenFails => self.position = position,
            Seeks::Unsupported => return Err(StreamError::SeekNotSupported),
            Seeks::Refused => return Err(StreamError::source(Torn { code: 416 })),
            Seeks::Panics => snap("the tape snapped while winding"),
        }
        Ok(())
    }

    fn supports_seek(&self) -> bool {
        self.deck.answer() != Seeks::Unsupported
    }

    /// A byte plays for a millisecond.
    fn seek_time(&mut self, time: Duration) -> Result<(), Error> {
        self.seek_bytes(u64::try_from(time.as_millis()).unwrap())
    }

    fn supports_seek_time(&self) -> bool {
        self.supports_seek()
    }
}

impl Drop for Tape {
    fn drop(&mut self) {
        self.deck.orphans.fetch_add(self.deck.live(), SeqCst);
        assert!(
            !*self.deck.panic_on_drop.lock().unwrap(),
            "the tape snapped in the bin"
        );
    }
}

struct Playing {
    deck: Arc<Deck>,
    position: u64,
    acts: VecDeque<Act>,
}

impl futures_core::Stream for Playing {
    type Item = Result<Message<u32>, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        this.deck.polls.fetch_add(1, SeqCst);
        let Some(act) = this.acts.pop_front() else {
            return Poll::Ready(None);
        };
        let length = match act {
            Act::Data(length) => length,
            Act::Note(note) => return Poll::Ready(Some(Ok(Message::Control(note)))),
            Act::Fail(code) => return Poll::Ready(Some(Err(StreamError::source(Torn { code })))),
            Act::Panic => snap("the tape snapped"),
            Act::Wait => {
                this.deck.waiting.lock().unwrap().push(cx.waker().clone());
                let pass = this
                    .deck
                    .permits
                    .fetch_update(SeqCst, SeqCst, |permits| permits.checked_sub(1));
                if pass.is_ok() {
                    return Pin::new(this).poll_next(cx);
                }
                this.acts.push_front(Act::Wait);
                return Poll::Pending;
            }
            Act::Play(chunk) => {
                let left = usize::try_from(this.deck.length.saturating_sub(this.position)).unwrap();
                if left == 0 {
                    return Poll::Ready(None);
                }
                this.acts.push_front(Act::Play(chunk));
                left.min(chunk)
            }
        };
        let end = this.position + length as u64;
        let data = bytes(this.position, end);
        this.position = end;
        Poll::Ready(Some(Ok(Message::Data(data))))
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        self.deck.live.fetch_sub(1, SeqCst);
    }
}

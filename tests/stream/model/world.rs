//! A source that follows a script and writes down what it yields.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use kithara::stream::{Message, Source, SourceStream, StreamError, StreamParams};

use super::Error;
use crate::tape::{Torn, snap};

#[derive(Debug, Clone)]
pub(super) enum Act {
    Data(usize),
    Note,
    Wait,
    Fail,
    Panic,
    FailToOpen,
}

/// What the source says to a seek. Travels in the position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Accept,
    Unsupported,
    Refuse,
    OpenFails,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Made {
    Data(Bytes),
    Note(u32),
    Fail(u32),
    End,
}

#[derive(Default)]
pub(super) struct World {
    pub(super) scripts: VecDeque<Vec<Act>>,
    /// What was made since each accepted open.
    pub(super) eras: Vec<Vec<Made>>,
    /// Where each of them started.
    pub(super) starts: Vec<u64>,
    pub(super) position: u64,
    pub(super) made: u32,
    pub(super) permits: usize,
    pub(super) waiting: Option<Waker>,
    pub(super) live: usize,
    pub(super) panicked: bool,
    pub(super) alive: bool,
}

impl World {
    fn serial(&mut self) -> u32 {
        self.made += 1;
        self.made
    }
}

pub(super) type Shared = Arc<Mutex<World>>;

pub(super) struct Scripted(pub(super) Shared);

impl Source for Scripted {
    type Error = Torn;
    type Control = u32;

    fn open(&mut self, _: &StreamParams) -> Result<SourceStream<u32, Torn>, Error> {
        let mut world = self.0.lock().unwrap();
        if world.position % 4 == How::OpenFails as u64 {
            world.position = 0;
            return Err(StreamError::source(Torn { code: 404 }));
        }
        let script: VecDeque<_> = world.scripts.pop_front().unwrap_or_default().into();
        if matches!(script.front(), Some(Act::FailToOpen)) && world.eras.is_empty() {
            let code = world.serial();
            world.eras.push(vec![Made::Fail(code)]);
            world.starts.push(0);
            return Err(StreamError::source(Torn { code }));
        }
        let start = world.position;
        world.eras.push(Vec::new());
        world.starts.push(start);
        world.live += 1;
        Ok(Box::pin(Opened {
            world: Arc::clone(&self.0),
            script,
        }))
    }

    fn seek_bytes(&mut self, position: u64) -> Result<(), Error> {
        let mut world = self.0.lock().unwrap();
        match position % 4 {
            1 => return Err(StreamError::SeekNotSupported),
            2 => return Err(StreamError::source(Torn { code: 416 })),
            _ => world.position = position,
        }
        Ok(())
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.0.lock().unwrap().alive = false;
    }
}

pub(super) struct Opened {
    world: Shared,
    script: VecDeque<Act>,
}

impl futures_core::Stream for Opened {
    type Item = Result<Message<u32>, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let mut world = this.world.lock().unwrap();
        let (made, item) = loop {
            break match this.script.pop_front() {
                Some(Act::Data(length)) => {
                    let serial = world.serial();
                    let data: Bytes = (0..length)
                        .map(|i| (serial as usize * 31 + i * 7).to_le_bytes()[0])
                        .collect();
                    (Made::Data(data.clone()), Some(Ok(Message::Data(data))))
                }
                Some(Act::Note) => {
                    let note = world.serial();
                    (Made::Note(note), Some(Ok(Message::Control(note))))
                }
                Some(Act::Wait) if world.permits > 0 => {
                    world.permits -= 1;
                    continue;
                }
                Some(Act::Wait) => {
                    this.script.push_front(Act::Wait);
                    world.waiting = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                Some(Act::Fail) => {
                    let code = world.serial();
                    (Made::Fail(code), Some(Err(StreamError::source(Torn { code }))))
                }
                Some(Act::Panic) => {
                    world.panicked = true;
                    drop(world);
                    snap("snapped");
                }
                Some(Act::FailToOpen) => continue,
                None => (Made::End, None),
            };
        };
        world.eras.last_mut().unwrap().push(made);
        Poll::Ready(item)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.world.lock().unwrap().live -= 1;
    }
}

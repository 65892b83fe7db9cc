//! One part on its way from the server, for all streams that want it.
//!
//! ```text
//!   driver ── push ─▶ [chunk][chunk][chunk] ◀── next ── reader, reader
//!                       │
//!                       ├ kept:     what no reader needs makes room. A reader that comes too late waits for the commit, and
//!                       │           goes on from the cache
//!                       └ not kept: the driver waits for the one reader
//! ```

use std::{
    collections::VecDeque,
    future::poll_fn,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Poll, Waker},
    time::Instant,
};

use bytes::{Buf, Bytes};

use super::super::{HlsError, pending_commits::Bypassed, track::MediaResource};

/// How many bytes of a part are held for readers that may come. Four parts are on their way at most.
const HELD_LIMIT: u64 = 1 << 20;
/// How many bytes are held for a reader that is there, where the part is kept. The driver waits for it then: it would have to
/// wait for the whole part.
const READ_LIMIT: u64 = 4 << 20;

/// Why a transfer gives no more bytes of a part that is not over.
#[derive(Debug, Clone)]
pub(in crate::hls) enum Left {
    /// The cache has the part.
    Cached,
    /// Nothing fetches it any more.
    GivenUp,
    /// Another Variant Stream goes on in its place.
    Switched,
    /// What fetched it has panicked: code of the app's.
    Panicked,
    /// There is another edition.
    NewEdition,
    /// What the server says of the part is not what it said of it earlier.
    Contradicted,
    /// What is read is not what was read before.
    Changed,
    Failed(HlsError),
}

/// A part on its way.
pub(in crate::hls) struct Transfer {
    pub(super) media: Arc<MediaResource>,
    /// Whether it is fetched though what the server says of it contradicts what is known.
    pub(super) is_trusted: bool,
    state: Mutex<State>,
}

struct State {
    chunks: VecDeque<Bytes>,
    /// The position of the first chunk in the part's plaintext.
    start: u64,
    /// The position behind the last chunk.
    end: u64,
    /// How many bytes the server says there are.
    announced: Option<u64>,
    /// When the last chunk came.
    last: Instant,
    /// Whether the cache takes it. Assumed before it is known.
    is_kept: bool,
    is_begun: bool,
    /// Where its readers are.
    readers: Vec<Arc<AtomicU64>>,
    /// The proven end, or why there is none.
    body: Option<Result<(), Left>>,
    /// Whether it is in the cache, when that is decided.
    settled: Option<bool>,
    /// What is not kept.
    bypassed: Option<Bypassed>,
    /// Those who wait for a change.
    waiting: Vec<Waker>,
    /// The driver, while it waits for room.
    writer: Option<Waker>,
}

/// What a transfer came to.
pub(super) enum Ended {
    /// It is in the cache: this many bytes of plaintext.
    Kept(u64),
    /// It is not in the cache, and its bytes wait for a reader.
    Held,
    Left(Left),
}

impl Transfer {
    pub(super) fn new(media: Arc<MediaResource>, is_kept: bool, is_trusted: bool) -> Self {
        Self {
            media,
            is_trusted,
            state: Mutex::new(State {
                chunks: VecDeque::new(),
                start: 0,
                end: 0,
                announced: None,
                last: Instant::now(),
                is_kept,
                is_begun: false,
                readers: Vec::new(),
                body: None,
                settled: None,
                bypassed: None,
                waiting: Vec::new(),
                writer: None,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No change panics halfway.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a change, and wakes those who wait for one.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let waiting = {
            let mut state = self.lock();
            change(&mut state);
            mem::take(&mut state.waiting)
        };
        // Not under the lock: a waker is foreign code.
        for waker in waiting {
            waker.wake();
        }
    }

    /// Whether this call begins it. Each transfer is begun once.
    pub(super) fn begin(&self) -> bool {
        let mut state = self.lock();
        state.last = Instant::now();
        !mem::replace(&mut state.is_begun, true)
    }

    /// Whether one more reader may read this resource here, under the URL that it has by now, from its first byte on.
    pub(super) fn serves(&self, media: &MediaResource) -> bool {
        let state = self.lock();
        let is_there = match &state.body {
            Some(Err(_)) => false,
            // What is not kept waits for one reader. Of two the slower one would hold the other up.
            _ if !state.is_kept => state.start == 0 && state.readers.is_empty(),
            _ => true,
        };
        drop(state);
        is_there && self.media.locator.url == media.locator.url && self.media.is_same(media)
    }

    /// Whether a reader holds it.
    pub(super) fn is_read(&self) -> bool {
        !self.lock().readers.is_empty()
    }

    /// When its last chunk came, or it was begun.
    pub(super) fn last(&self) -> Instant {
        self.lock().last
    }

    /// Nothing fetches it any more, nor keeps it.
    pub(super) fn give_up(&self) {
        self.change(|state| {
            state.body.get_or_insert(Err(Left::GivenUp));
            state.settled.get_or_insert(false);
        });
    }

    /// Whether it waits for a reader, and not for the server.
    pub(super) fn is_held_up(&self) -> bool {
        self.lock().writer.is_some()
    }

    /// How many bytes the server says there are, where it says so.
    pub(super) fn announced(&self) -> Option<u64> {
        self.lock().announced
    }

    pub(super) fn set_announced(&self, bytes: Option<u64>) {
        self.lock().announced = bytes;
    }

    /// Whether its end has not come.
    pub(super) fn is_under_way(&self) -> bool {
        let state = self.lock();
        state.is_begun && state.body.is_none()
    }

    /// Ends it: another Variant Stream goes on in its place. Its readers are to be woken without a lock. `None` if its end has
    /// come.
    pub(super) fn switch(&self) -> Option<Vec<Waker>> {
        let mut state = self.lock();
        if state.body.is_some() {
            return None;
        }
        state.body = Some(Err(Left::Switched));
        Some(mem::take(&mut state.waiting))
    }

    /// The bytes of plaintext that have come.
    pub(super) fn len(&self) -> u64 {
        self.lock().end
    }

    pub(super) fn is_kept(&self) -> bool {
        self.lock().is_kept
    }

    /// Takes over whether the cache takes it.
    pub(super) fn set_kept(&self, is_kept: bool) {
        self.lock().is_kept = is_kept;
    }

    /// Something is not kept, or not read from the cache.
    pub(super) fn bypass(&self, bypassed: Bypassed) {
        self.change(|state| {
            state.bypassed.get_or_insert(bypassed);
        });
    }

    /// Gives the next plaintext to the readers. Waits where only they have it, until they have taken enough.
    pub(super) async fn push(&self, chunk: Bytes) {
        self.change(|state| {
            state.end += chunk.len() as u64;
            state.last = Instant::now();
            state.chunks.push_back(chunk);
            state.make_room();
        });
        poll_fn(|task| {
            let mut state = self.lock();
            state.make_room();
            if !state.is_full() {
                return Poll::Ready(());
            }
            state.writer = Some(task.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// The body is over.
    pub(super) fn end(&self, body: Result<(), Left>) {
        self.change(|state| {
            state.body.get_or_insert(body);
        });
    }

    /// The commit is over, or there is none.
    pub(super) fn settle(&self, is_kept: bool) {
        self.change(|state| (state.is_kept, state.settled) = (is_kept, Some(is_kept)));
    }

    /// Whether it has come whole, and is not in the cache yet.
    pub(super) fn is_committing(&self) -> bool {
        let state = self.lock();
        matches!(state.body, Some(Ok(()))) && state.settled.is_none()
    }

    /// What it came to; `None` while it is on its way or being committed.
    pub(super) fn ended(&self) -> Option<Ended> {
        let state = self.lock();
        match (&state.body, state.settled) {
            (Some(Err(left)), _) => Some(Ended::Left(left.clone())),
            (Some(Ok(())), Some(true)) => Some(Ended::Kept(state.end)),
            (Some(Ok(())), Some(false)) => Some(Ended::Held),
            _ => None,
        }
    }

    /// A reader from the first byte on.
    pub(super) fn reader(self: &Arc<Self>) -> TransferReader {
        let position = Arc::new(AtomicU64::new(0));
        self.lock().readers.push(position.clone());
        TransferReader {
            transfer: self.clone(),
            position,
            is_told: false,
        }
    }
}

impl State {
    fn wait(&mut self, waker: &Waker) {
        if !self.waiting.iter().any(|waiting| waiting.will_wake(waker)) {
            self.waiting.push(waker.clone());
        }
    }

    /// Where the readers are that have not been left behind.
    fn reader_positions(&self) -> impl Iterator<Item = u64> {
        let positions = self
            .readers
            .iter()
            .map(|position| position.load(Ordering::Relaxed));
        positions.filter(|position| *position >= self.start)
    }

    /// Lets go of what need not be held.
    fn make_room(&mut self) {
        while self.end - self.start >= HELD_LIMIT
            && let Some(first) = self.chunks.front()
        {
            let next = self.start + first.len() as u64;
            let slowest = self.reader_positions().min();
            let is_needed = slowest.map_or(!self.is_kept, |slowest| slowest < next);
            if is_needed {
                return;
            }
            self.start = next;
            self.chunks.pop_front();
        }
    }

    /// Whether the driver waits for a reader.
    fn is_full(&self) -> bool {
        let held = self.end - self.start;
        if self.is_kept {
            held >= READ_LIMIT && self.reader_positions().next().is_some()
        } else {
            held >= HELD_LIMIT
        }
    }
}

/// Reads a transfer from its first byte on.
pub(in crate::hls) struct TransferReader {
    transfer: Arc<Transfer>,
    position: Arc<AtomicU64>,
    /// Whether what is not kept was told.
    is_told: bool,
}

impl TransferReader {
    /// The next plaintext; `None` at the proven end.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub(in crate::hls) async fn next(&mut self) -> Result<Option<Bytes>, Left> {
        poll_fn(|task| {
            let mut state = self.transfer.lock();
            let position = self.position.load(Ordering::Relaxed);
            if let Some(chunk) = chunk_at(&state, position) {
                self.position
                    .store(position + chunk.len() as u64, Ordering::Relaxed);
                state.make_room();
                let writer = state.writer.take();
                drop(state);
                if let Some(writer) = writer {
                    writer.wake();
                }
                return Poll::Ready(Ok(Some(chunk)));
            }
            let is_behind = position < state.start;
            match &state.body {
                Some(Err(left)) => return Poll::Ready(Err(left.clone())),
                Some(Ok(())) if !is_behind => return Poll::Ready(Ok(None)),
                _ => {}
            }
            // What this reader wants is held no more.
            match state.settled {
                Some(true) if is_behind => return Poll::Ready(Err(Left::Cached)),
                None if is_behind && state.is_kept => {}
                _ if is_behind => return Poll::Ready(Err(Left::GivenUp)),
                _ => {}
            }
            state.wait(task.waker());
            Poll::Pending
        })
        .await
    }

    /// What is not kept, once.
    pub(in crate::hls) fn take_bypassed(&mut self) -> Option<Bypassed> {
        let bypassed = self.transfer.lock().bypassed.clone().filter(|_| !self.is_told)?;
        self.is_told = true;
        Some(bypassed)
    }
}

impl Drop for TransferReader {
    fn drop(&mut self) {
        let writer = {
            let mut state = self.transfer.lock();
            state
                .readers
                .retain(|reader| !Arc::ptr_eq(reader, &self.position));
            state.writer.take()
        };
        // It may have waited for this one.
        if let Some(writer) = writer {
            writer.wake();
        }
    }
}

/// The rest of the chunk that holds a position, if that is held.
fn chunk_at(state: &State, position: u64) -> Option<Bytes> {
    let mut distance = position.checked_sub(state.start)?;
    for chunk in &state.chunks {
        let len = chunk.len() as u64;
        if distance < len {
            let mut chunk = chunk.clone();
            chunk.advance(usize::try_from(distance).ok()?);
            return Some(chunk);
        }
        distance -= len;
    }
    None
}

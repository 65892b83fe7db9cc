//! What is fetched in front of the streams of a source, into the cache.
//!
//! ```text
//!   player ─ place, demand ─▶ Window ─┐
//!   player ─ place, demand ─▶ Window ─┤ next part         (of each stream one)
//!     ▲                               ▼
//!     │                             Driver ─ one thread ─▶ server
//!     │ plaintext, as it comes        │
//!     └────────── Transfer ◀──────────┴─▶ commit ─▶ cache
//! ```
//!
//! The rule: **the look-ahead decides nothing.** What fails ahead is left to the stream: when the part's turn has come the stream
//! asks for it again, and knows what to do about an error, another edition, or a URL that has expired. By then the cause may be
//! over.
//!
//! The driver runs while a stream is open, and goes on while no one reads: a decoder that is paused gets its minutes ahead all
//! the same. With the last stream it ends, and its connections close.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_channel::Sender;
use atomic_waker::AtomicWaker;

mod driver;
mod transfer;
mod window;

pub(super) use self::transfer::{Left, TransferReader};
use self::{driver::Driver, window::Window};
use super::{
    HlsControl,
    pending_commits::Bypassed,
    source_state::SourceState,
    track::{MediaResource, Track},
};
use crate::rt;

/// What the streams of a source want, and what is on its way.
pub(super) struct LookAhead {
    state: Arc<SourceState>,
    shared: Mutex<Shared>,
    driver: AtomicWaker,
}

#[derive(Default)]
struct Shared {
    windows: Vec<Window>,
    last_id: u64,
    is_driven: bool,
    /// Each is closed when nothing is on its way to the disk.
    flushing: Vec<Sender<()>>,
}

impl LookAhead {
    pub(super) fn new(state: Arc<SourceState>) -> Arc<Self> {
        Arc::new(Self {
            state,
            shared: Mutex::default(),
            driver: AtomicWaker::new(),
        })
    }

    pub(super) fn state(&self) -> &Arc<SourceState> {
        &self.state
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // A panic under it could leave a window out of step with its parts, which its stream sets right with the next part.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn window(&mut self, id: u64) -> Option<&mut Window> {
        self.windows.iter_mut().find(|window| window.id == id)
    }

    /// The transfer of a resource, whichever stream wants it.
    fn transfer(&self, media: &MediaResource) -> Option<Arc<transfer::Transfer>> {
        let parts = self.windows.iter().flat_map(Window::parts);
        let mut transfers = parts.map(|(_, transfer)| transfer);
        transfers.find(|transfer| transfer.serves(media)).cloned()
    }
}

impl Shared {
    /// Reads a part that is on its way, for the stream of a window.
    fn join(&mut self, id: u64, number: usize, media: &MediaResource) -> Option<TransferReader> {
        let own = self
            .window(id)?
            .transfer(number)
            .filter(|transfer| transfer.serves(media));
        let transfer = own.cloned().or_else(|| self.transfer(media))?;
        self.window(id)?.add(number, transfer.clone());
        Some(transfer.reader())
    }
}

/// One stream's place in the look-ahead. Dropping it ends what was fetched for that stream alone.
pub(super) struct LookAheadPlace {
    look_ahead: Arc<LookAhead>,
    id: Option<u64>,
    /// Where the look-ahead ends.
    until: Duration,
}

impl LookAheadPlace {
    pub(super) fn new(look_ahead: Arc<LookAhead>) -> Self {
        Self {
            look_ahead,
            id: None,
            until: Duration::MAX,
        }
    }

    /// Nothing that plays at this time or later is fetched ahead. Before the first [`set`](Self::set).
    pub(super) fn set_until(&mut self, time: Duration) {
        self.until = time;
    }

    /// The stream is at this part of `track`, and reads `section` before it.
    pub(super) fn set(&mut self, track: &Arc<Track>, section: Option<usize>, position: usize) {
        let mut shared = self.look_ahead.lock();
        let id = self.id.unwrap_or_else(|| {
            shared.last_id += 1;
            let id = shared.last_id;
            shared.windows.push(Window::new(id, track.clone(), self.until));
            id
        });
        if let Some(window) = shared.window(id) {
            window.place(track, section, position);
        }
        drop(shared);
        self.id = Some(id);
        self.drive();
    }

    /// Nothing is fetched ahead any more.
    pub(super) fn leave(&mut self) {
        let Some(id) = self.id.take() else { return };
        let mut shared = self.look_ahead.lock();
        let (gone, stay) = std::mem::take(&mut shared.windows)
            .into_iter()
            .partition(|window| window.id == id);
        shared.windows = stay;
        drop(shared);
        // Not under the lock: with a window its transfers go, and with them what they hold.
        drop::<Vec<Window>>(gone);
        self.look_ahead.driver.wake();
    }

    /// Reads a part that is on its way.
    pub(super) fn join(&self, number: usize, media: &MediaResource) -> Option<TransferReader> {
        let mut shared = self.look_ahead.lock();
        let reader = shared.join(self.id?, number, media)?;
        drop(shared);
        // It may be one that has yielded to others.
        self.look_ahead.driver.wake();
        Some(reader)
    }

    /// Has a part fetched, whatever else is on its way.
    pub(super) fn demand(
        &self,
        number: usize,
        media: &Arc<MediaResource>,
        is_trusted: bool,
    ) -> Option<TransferReader> {
        let transfer = Arc::new(transfer::Transfer::new(
            media.clone(),
            self.look_ahead.state.fetcher.cache().is_some(),
            is_trusted,
        ));
        let mut shared = self.look_ahead.lock();
        // The driver may have begun it since.
        if !is_trusted && let Some(reader) = shared.join(self.id?, number, media) {
            return Some(reader);
        }
        let reader = transfer.reader();
        shared.window(self.id?)?.demand(number, transfer);
        drop(shared);
        self.drive();
        Some(reader)
    }

    /// Whether the network gave a part that the cache has by now, for this stream.
    pub(super) fn was_fetched(&self, number: usize) -> bool {
        let mut shared = self.look_ahead.lock();
        let Some(id) = self.id else { return false };
        // What the driver has not noticed yet may be in the cache already.
        shared.window(id).is_some_and(|window| {
            window.settle(Instant::now());
            window.was_fetched(number)
        })
    }

    /// What is told of it where a segment starts.
    pub(super) fn buffered(&self) -> Option<HlsControl> {
        let mut shared = self.look_ahead.lock();
        let (ahead, bytes) = shared.window(self.id?)?.buffered();
        Some(HlsControl::Buffered { ahead, bytes })
    }

    /// What is not kept, or not read from the cache, once.
    pub(super) fn take_bypassed(&self) -> Option<Bypassed> {
        let mut shared = self.look_ahead.lock();
        shared.window(self.id?)?.bypassed.take()
    }

    /// Waits until what was read is on the disk.
    pub(super) async fn flush(&self) {
        // Nothing was read that is not on the disk, and others' writes are not waited for.
        if self.id.is_none() {
            return;
        }
        let look_ahead = &self.look_ahead;
        let (sender, flushed) = async_channel::bounded(1);
        {
            let mut shared = look_ahead.lock();
            if !shared.is_driven {
                return;
            }
            shared.flushing.push(sender);
        }
        look_ahead.driver.wake();
        // Nothing is sent: the channel closes.
        flushed.recv().await.ok();
    }

    /// Wakes the driver, or starts it.
    fn drive(&self) {
        let look_ahead = &self.look_ahead;
        if std::mem::replace(&mut look_ahead.lock().is_driven, true) {
            look_ahead.driver.wake();
        } else {
            rt::spawn_on_thread(Driver::new(look_ahead.clone()));
        }
    }
}

impl Drop for LookAheadPlace {
    fn drop(&mut self) {
        self.leave();
    }
}

impl fmt::Debug for LookAhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LookAhead").finish_non_exhaustive()
    }
}

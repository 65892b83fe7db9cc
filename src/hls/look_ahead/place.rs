//! A stream's side of the look-ahead.

use std::{
    future::poll_fn,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use super::{
    super::{
        HlsControl,
        pending_commits::Bypassed,
        track::{MediaResource, Track},
    },
    driver::Driver,
    plan::{Choosing, Follow, Plan},
    shared::LookAhead,
    transfer::{Transfer, TransferReader},
    window::At,
};
use crate::rt;

/// One stream's place in the look-ahead. Dropping it ends what was fetched for that stream alone.
pub(in crate::hls) struct LookAheadPlace {
    look_ahead: Arc<LookAhead>,
    id: Option<u64>,
    /// Where the look-ahead ends.
    until: Duration,
}

impl LookAheadPlace {
    pub(in crate::hls) fn new(look_ahead: Arc<LookAhead>) -> Self {
        Self {
            look_ahead,
            id: None,
            until: Duration::MAX,
        }
    }

    /// Nothing that plays at this time or later is fetched ahead. Before the first [`set`](Self::set).
    pub(in crate::hls) fn set_until(&mut self, time: Duration) {
        self.until = time;
    }

    /// The stream is here in `track`.
    pub(in crate::hls) fn set(&mut self, track: &Arc<Track>, at: At, choosing: Choosing) {
        let mut shared = self.look_ahead.lock();
        let id = self.id.unwrap_or_else(|| {
            shared.last_id += 1;
            let id = shared.last_id;
            shared.plans.push(Plan::new(id, track.clone(), self.until));
            id
        });
        let plan = shared.plan(id);
        let gone = plan.map(|plan| plan.place(track, at, choosing));
        // What the stream may fetch is the server's own, and may be under other URLs by now.
        let fetcher = &self.look_ahead.state.fetcher;
        let number = track.facts().number;
        if choosing == Choosing::Online
            && let Some(ladder) = &mut shared.ladder
            && !ladder.is_known(number, track)
            && ladder.takes(fetcher, track)
        {
            ladder.set_known(number, track.clone());
        }
        drop(shared);
        // Not under the lock: with a window its transfers go, and with them what they hold.
        drop(gone);
        self.id = Some(id);
        self.drive();
    }

    /// Which list the stream reads from this part on, where a segment begins. Behind [`set`](Self::set).
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub(in crate::hls) async fn follow(&self, number: usize) -> Follow {
        let follow = poll_fn(|task| {
            let mut shared = self.look_ahead.lock();
            // Without a driver nobody would decide: it has panicked.
            let is_driven = shared.is_driven;
            let plan = self.id.and_then(|id| shared.plan(id)).filter(|_| is_driven);
            plan.map_or(Poll::Ready(Follow::Stay), |plan| plan.follow(number, task))
        });
        self.look_ahead.driver.wake();
        follow.await
    }

    /// Whether another list goes on in the place of this part.
    pub(in crate::hls) fn ends_at(&self, number: usize) -> bool {
        let mut shared = self.look_ahead.lock();
        let plan = self.id.and_then(|id| shared.plan(id));
        plan.is_some_and(|plan| plan.ends_at(number))
    }

    /// A part of a Variant Stream has failed: it is not chosen for a while. With `is_away` the server is, and what the cache has comes
    /// first.
    pub(in crate::hls) fn refuse(&self, variant: usize, part: usize, is_away: bool) {
        if let Some(ladder) = &mut self.look_ahead.lock().ladder {
            ladder.refuse(variant, Instant::now());
            ladder.forget_kept(variant, part);
            if is_away {
                ladder.set_away(Instant::now());
            }
        }
    }

    /// The stream has read so many bytes of the part that it is at.
    pub(in crate::hls) fn set_read(&self, bytes: u64) {
        let mut shared = self.look_ahead.lock();
        if let Some(plan) = self.id.and_then(|id| shared.plan(id)) {
            plan.set_read(bytes);
        }
    }

    /// Nothing is fetched ahead any more.
    pub(in crate::hls) fn leave(&mut self) {
        let Some(id) = self.id.take() else { return };
        let mut shared = self.look_ahead.lock();
        let (gone, stay) = std::mem::take(&mut shared.plans)
            .into_iter()
            .partition(|plan| plan.id == id);
        shared.plans = stay;
        drop(shared);
        // Not under the lock: with a plan its transfers go, and with them what they hold.
        drop::<Vec<Plan>>(gone);
        self.look_ahead.driver.wake();
    }

    /// Reads a part that is on its way.
    pub(in crate::hls) fn join(&self, number: usize, media: &MediaResource) -> Option<TransferReader> {
        let mut shared = self.look_ahead.lock();
        let reader = shared.join(self.id?, number, media)?;
        drop(shared);
        // It may be one that has yielded to others.
        self.look_ahead.driver.wake();
        Some(reader)
    }

    /// Has a part fetched, whatever else is on its way.
    pub(in crate::hls) fn demand(
        &self,
        number: usize,
        media: &Arc<MediaResource>,
        is_trusted: bool,
    ) -> Option<TransferReader> {
        let transfer = Arc::new(Transfer::new(
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
    pub(in crate::hls) fn was_fetched(&self, number: usize) -> bool {
        let mut shared = self.look_ahead.lock();
        let Some(id) = self.id else { return false };
        // What the driver has not noticed yet may be in the cache already.
        shared.window(id).is_some_and(|window| {
            window.settle(Instant::now());
            window.was_fetched(number)
        })
    }

    /// What is told of it where a segment starts.
    pub(in crate::hls) fn buffered(&self) -> Option<HlsControl> {
        let mut shared = self.look_ahead.lock();
        let (ahead, bytes) = shared.plan(self.id?)?.told();
        Some(HlsControl::Buffered { ahead, bytes })
    }

    /// What is not kept, or not read from the cache, once.
    pub(in crate::hls) fn take_bypassed(&self) -> Option<Bypassed> {
        let mut shared = self.look_ahead.lock();
        shared.window(self.id?)?.bypassed.take()
    }

    /// Waits until what was read is on the disk.
    pub(in crate::hls) async fn flush(&self) {
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

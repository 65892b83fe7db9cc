//! The future that fetches: it starts what is next, drops what is not wanted any more, and notes how each has ended.
//!
//! ```text
//!   ┌▶ drop the tasks that may not run ─▶ finish removals ─▶ what ends, is told ─▶ start what is next
//!   │                                                                                   │
//!   └── a task has ended │ the app has changed something │ something is due ◀── wait ───┘
//! ```
//!
//! No task is spawned: all are polled with this future, and end with it.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering},
    task::Poll,
    time::{Duration, Instant, SystemTime},
};

use async_channel::Sender;

use super::{
    Cause, Change, DownloadId, DownloadRequest, Downloads, Failure, OfflineError,
    inner::{Inner, progress_of},
    saved::{Saved, Wanted},
    task,
    verdict::GRAIN,
};
use crate::{cache::CacheError, media::Progress, rt};

/// How often what the app alone knows is asked for: its own check of validity.
const CHECK_EVERY: Duration = Duration::from_secs(60);
/// How soon a removal that something in use has held up is tried again.
const REMOVE_EVERY: Duration = Duration::from_secs(1);
/// How long a removal waits for what its own task had open.
const REMOVE_WAIT: Duration = Duration::from_millis(20);
const REMOVE_TRIES: u32 = 50;

/// A download that is being fetched. Dropped, it stops.
struct Task {
    id: DownloadId,
    /// What it was begun with.
    request: DownloadRequest,
    work: Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>,
    /// Closed with the task, after its work was dropped: fields are dropped in their order.
    _running: Sender<()>,
}

/// Ends the run.
struct Running(Arc<Inner>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.is_running.store(false, Ordering::Release);
        // What was being fetched is queued from here on: its tasks are gone.
        for id in self.0.with_wanted(Wanted::Queued) {
            self.0.change(&id, |_| true);
        }
    }
}

impl Downloads {
    /// Fetches what is queued, for as long as it is polled. It does not end by itself: [`idle`](Self::idle) tells when there is
    /// nothing to do. Dropping it stops all that is being fetched, at once; the next run goes on.
    ///
    /// It works on any executor. No poll waits for the disk.
    ///
    /// # Errors
    ///
    /// [`OfflineError::Running`] at once, if it runs already. [`OfflineError::Cache`] where a change cannot be kept.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops all downloads. What they fetched stays.
    pub async fn run(&self) -> Result<(), OfflineError> {
        let inner = &self.inner;
        if inner.is_running.swap(true, Ordering::AcqRel) {
            return Err(OfflineError::Running);
        }
        // Before the tasks, and so dropped after them.
        let _running = Running(inner.clone());
        let mut tasks: Vec<Task> = Vec::new();
        // Completed ones whose verdict may soon be believed after a restart.
        let mut unsettled: Vec<(Instant, DownloadId)> = Vec::new();
        loop {
            tasks.retain(|task| inner.table().may_go_on(&task.id, &task.request));
            let mut due = CHECK_EVERY;
            for id in inner.with_wanted(Wanted::Removing) {
                if !inner.try_removal(&id).await? {
                    due = due.min(REMOVE_EVERY);
                }
            }
            due = due.min(inner.check_ends().await?);
            let now = Instant::now();
            for (_, id) in unsettled.extract_if(.., |(at, _)| *at <= now) {
                // Looked at again, it is kept. A failure shows with the app's own look.
                drop(inner.stored(&id).await);
            }
            for (at, _) in &unsettled {
                due = due.min(at.saturating_duration_since(now));
            }
            while tasks.len() < inner.settings.parallel
                && let Some(task) = inner.start_next()
            {
                tasks.push(task);
            }
            if let Some((number, outcome)) = wait(inner, &mut tasks, due).await {
                let task = tasks.swap_remove(number);
                let (id, request) = (task.id.clone(), task.request.clone());
                // Gone before the look: what it has open would count as in use.
                drop(task);
                let failure = match outcome {
                    Ok(()) => inner.came_to_its_end(&id).await?,
                    failed => failed.err(),
                };
                match failure {
                    None => unsettled.push((Instant::now() + GRAIN + Duration::from_millis(500), id)),
                    Some(failure) => inner.failed(&id, &request, failure).await?,
                }
            }
        }
    }
}

/// Waits for the end of a task, for something that the app has changed, or for `due`.
async fn wait(inner: &Inner, tasks: &mut [Task], due: Duration) -> Option<(usize, Result<(), Failure>)> {
    let mut woken = pin!(inner.wake.1.recv());
    let mut timer = pin!(rt::sleep(due));
    poll_fn(|cx| {
        for (number, task) in tasks.iter_mut().enumerate() {
            if let Poll::Ready(outcome) = task.work.as_mut().poll(cx) {
                return Poll::Ready(Some((number, outcome)));
            }
        }
        if woken.as_mut().poll(cx).is_ready() || timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        Poll::Pending
    })
    .await
}

impl Inner {
    fn start_next(self: &Arc<Self>) -> Option<Task> {
        let (running, stopped) = async_channel::bounded(1);
        let mut table = self.table();
        let id = table.next()?;
        let entry = table.entries.get_mut(&id)?;
        entry.task = Some(stopped);
        let request = entry.saved.request.clone();
        let watches = table.change(&id);
        drop(table);
        for watch in watches {
            let _ = watch.try_send(());
        }
        let work = Box::pin(task::fetch(self.clone(), id.clone(), request.clone()));
        Some(Task {
            id,
            request,
            work,
            _running: running,
        })
    }

    /// A download's task has fetched all that it was to fetch. It is complete if its files say so. Returns why it has failed.
    async fn came_to_its_end(&self, id: &DownloadId) -> Result<Option<Failure>, OfflineError> {
        let (request, stored) = match self.stored(id).await {
            Ok(found) => found,
            // Removed meanwhile.
            Err(OfflineError::Unknown { .. }) => return Ok(None),
            Err(error) => return Ok(Some(Failure::new(Cause::Other, error))),
        };
        if !stored.is_complete() {
            let hole = stored.holes.first().map(ToString::to_string).unwrap_or_default();
            return Ok(Some(Failure::new(Cause::Other, hole)));
        }
        let completed = |saved: &mut Saved| (saved.wanted, saved.failure) = (Wanted::Completed, None);
        let told = |progress: &mut Progress| *progress = progress_of(&stored);
        self.keep_then_tell(id, &request, completed, told).await?;
        Ok(None)
    }

    /// The task that was begun with `request` has failed. If something else was asked for meanwhile, the download stays queued,
    /// and is begun anew.
    async fn failed(
        &self,
        id: &DownloadId,
        request: &DownloadRequest,
        failure: Failure,
    ) -> Result<(), OfflineError> {
        log::warn!("a download has failed: {failure}");
        let failed = |saved: &mut Saved| {
            (saved.wanted, saved.failure) = (Wanted::Failed, Some(failure.clone()));
        };
        self.keep_then_tell(id, request, failed, |_| ()).await?;
        Ok(())
    }

    /// Tells what ends soon and what has ended, and unpins that. Returns how soon the next is due.
    async fn check_ends(&self) -> Result<Duration, OfflineError> {
        let (now, mut due) = (SystemTime::now(), CHECK_EVERY);
        let infos = self.table().sorted();
        for info in infos.iter().filter(|info| !info.is_expired) {
            let at = info.valid_until;
            if self.end_of(info).is_some() {
                self.expire(&info.id).await?;
            } else if let Some(at) = at {
                let left = at.duration_since(now).unwrap_or_default();
                let until_told = left.saturating_sub(self.settings.notice);
                if until_told.is_zero() {
                    due = due.min(left);
                    self.tell_end(&info.id, at);
                } else {
                    due = due.min(until_told);
                }
            }
        }
        Ok(due.max(Duration::from_millis(1)))
    }

    fn tell_end(&self, id: &DownloadId, at: SystemTime) {
        let is_new = self.table().entries.get_mut(id).is_some_and(|entry| {
            let was_told = std::mem::replace(&mut entry.is_end_told, true);
            !was_told
        });
        if is_new {
            let id = id.clone();
            self.tell(&Change::Expiring { id, at });
        }
    }

    async fn expire(&self, id: &DownloadId) -> Result<(), OfflineError> {
        let request = self.request(id)?;
        // Unpinned, and not removed: the app may extend it, and then nothing is fetched again.
        self.cache.unpin(&request.asset_id()).await?;
        self.change(id, |table| {
            let entry = table.entries.get_mut(id);
            entry.is_some_and(|entry| {
                entry.saved.is_expired = true;
                true
            })
        });
        self.persist(id).await?;
        self.tell(&Change::Expired(id.clone()));
        Ok(())
    }

    /// Removes a download for good, whose wish is kept. Waits a moment for what its own task had open.
    pub(super) async fn finish_removal(&self, id: &DownloadId) -> Result<(), OfflineError> {
        let task = self.table().entries.get(id).and_then(|entry| entry.task.clone());
        if let Some(task) = task.filter(|_| self.is_running.load(Ordering::Acquire)) {
            // Closing the channel is the signal, so the error is what is awaited.
            let _ = task.recv().await;
        }
        for _ in 0..REMOVE_TRIES {
            if self.try_removal(id).await? {
                return Ok(());
            }
            rt::sleep(REMOVE_WAIT).await;
        }
        Ok(())
    }

    fn forget(&self, id: &DownloadId) {
        let mut table = self.table();
        let forgotten = table.entries.remove(id);
        let watches = table.watchers.note(&Change::Removed(id.clone()));
        drop(table);
        drop(forgotten);
        self.wake(watches);
    }

    /// `false` while something of it is in use.
    async fn try_removal(&self, id: &DownloadId) -> Result<bool, OfflineError> {
        let Ok(info) = self.info(id) else {
            return Ok(true);
        };
        if self
            .table()
            .entries
            .get(id)
            .is_some_and(|entry| entry.saved.wanted != Wanted::Removing)
        {
            // Asked for again.
            return Ok(true);
        }
        let asset = info.request.asset_id();
        let is_shared = self.table().entries.values().any(|other| {
            other.saved.id != *id
                && other.saved.wanted != Wanted::Removing
                && other.saved.request.asset_id() == asset
        });
        let removed = if is_shared {
            // Another download has files of this asset. This one's goes, and the asset stays.
            match self
                .settings
                .file(&info.request, self.settings.access_of(&info.request))
                .path()
            {
                Some(path) => self.cache.remove_entry(&asset, &path).await.map(drop),
                None => Ok(()),
            }
        } else {
            self.cache.unpin(&asset).await?;
            self.cache.remove(&asset).await.map(drop)
        };
        match removed {
            Err(CacheError::InUse { .. }) => return Ok(false),
            removed => removed?,
        }
        self.forget(id);
        // Last: cut off before it, the removal is done again, and finds nothing.
        self.persist(id).await?;
        Ok(true)
    }
}

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
use async_lock::MutexGuard;
use futures_lite::future;

use super::{
    Cause, Change, DownloadId, DownloadInfo, DownloadRequest, Downloads, Failure, Kind, OfflineError, State,
    inner::{Inner, progress_of},
    saved::{Saved, Wanted},
    table::Entry,
    task,
    verdict::GRAIN,
};
use crate::{cache::CacheError, media::Progress, rt};

/// How often what the app alone knows is asked for: its own check of validity.
const CHECK_EVERY: Duration = Duration::from_secs(60);
/// How soon a removal that something in use has held up is tried again.
const REMOVE_EVERY: Duration = Duration::from_secs(1);
/// How long a removal waits in all, for its own task and for what that had open.
const REMOVE_WAIT: Duration = Duration::from_secs(1);
const REMOVE_PAUSE: Duration = Duration::from_millis(20);

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
    /// [`OfflineError::Running`] at once, if it runs already. What goes wrong with one download is its
    /// [failure](super::DownloadInfo::failure), and the others go on.
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
        // When the app was asked last whether all of them may be played still.
        let mut asked = None;
        loop {
            tasks.retain(|task| inner.table().may_go_on(&task.id, &task.request));
            let mut due = inner.find_waiting(&mut tasks).min(CHECK_EVERY);
            for id in inner.with_wanted(Wanted::Removing) {
                // Not waited for: an app that holds its own removal without polling it would hold up all downloads.
                let removed = match inner.removals.try_lock() {
                    Some(turn) => inner.try_removal(&id, turn).await,
                    None => Ok(false),
                };
                match removed {
                    Ok(true) => {}
                    Ok(false) => due = due.min(REMOVE_EVERY),
                    // It must not end the others. Tried again with what happens next.
                    Err(error) => inner.removal_failed(&id, &error).await,
                }
            }
            let now = Instant::now();
            let is_asked = asked.is_none_or(|asked| now.saturating_duration_since(asked) >= CHECK_EVERY);
            asked = if is_asked { Some(now) } else { asked };
            due = due.min(inner.check_ends(is_asked).await);
            for (_, id) in unsettled.extract_if(.., |(at, _)| *at <= now) {
                // Looked at again, it is kept. A failure shows with the app's own look.
                drop(inner.stored(&id).await);
            }
            for (at, _) in &unsettled {
                due = due.min(at.saturating_duration_since(now));
            }
            while let Some(task) = inner.start_next() {
                tasks.push(task);
            }
            if let Some((number, outcome)) = wait(inner, &mut tasks, due).await {
                let task = tasks.swap_remove(number);
                let (id, request) = (task.id.clone(), task.request.clone());
                // Gone before the look: what it has open would count as in use.
                drop(task);
                let failure = match outcome {
                    Ok(()) => inner.came_to_its_end(&id).await,
                    failed => failed.err(),
                };
                match failure {
                    None => unsettled.push((Instant::now() + GRAIN + Duration::from_millis(500), id)),
                    Some(failure) => inner.failed(&id, &request, failure).await,
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
        let (mut table, now) = (self.table(), Instant::now());
        let id = table.next(self.settings.parallel, now)?;
        let entry = table.entries.get_mut(&id)?;
        entry.begin(stopped, now);
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

    /// Finds the tasks that wait, and drops those that give their places to others. Returns when to look again.
    fn find_waiting(&self, tasks: &mut Vec<Task>) -> Duration {
        let now = Instant::now();
        let client = self.settings.access.client.as_ref();
        let free_since = client.and_then(|client| client.background_free_since(now));
        let limit = self.settings.stall_limit;
        let mut table = self.table();
        let (silent, due) = table.find_silent(limit, free_since, now);
        let (mut dropped, turns_due) = table.end_turns(now);
        drop(table);
        for id in &silent {
            self.change_quietly(id, |_| true);
        }
        loop {
            tasks.retain(|task| !dropped.contains(&task.id));
            // Dropped outside of the table's lock: what it has open is foreign code to that.
            dropped = self.table().surplus(self.settings.parallel).into_iter().collect();
            if dropped.is_empty() {
                return due.min(turns_due).max(Duration::from_millis(1));
            }
        }
    }

    /// A removal has failed, not for what is in use: the app is told why, and nothing waits for its end any more.
    async fn removal_failed(&self, id: &DownloadId, error: &OfflineError) {
        log::warn!("a download cannot be removed yet: {error}");
        let failure = self.failure(error).await;
        // The runner is not woken: it would try at once again, and again.
        self.change_quietly(id, |entry| {
            let is_new = !entry.is_stuck && entry.saved.wanted == Wanted::Removing;
            if is_new {
                (entry.is_stuck, entry.saved.failure) = (true, Some(failure));
            }
            is_new
        });
    }

    /// A download's task has fetched all that it was to fetch. It is complete if its files say so. Returns why it has failed.
    async fn came_to_its_end(&self, id: &DownloadId) -> Option<Failure> {
        let (request, stored) = match self.stored(id).await {
            Ok(found) => found,
            // Removed meanwhile.
            Err(OfflineError::Unknown { .. }) => return None,
            Err(error) => return Some(self.failure(&error).await),
        };
        if !stored.is_complete() {
            let hole = stored.holes.first().map(ToString::to_string).unwrap_or_default();
            return Some(Failure::new(Cause::Other, hole));
        }
        // A removal that the app took back may have unpinned it after the task had pinned it.
        if let Err(error) = self.cache.pin(&request.asset_id()).await {
            return Some(self.failure(&error.into()).await);
        }
        let completed = |saved: &mut Saved| (saved.wanted, saved.failure) = (Wanted::Completed, None);
        let told = |progress: &mut Progress| *progress = progress_of(&stored);
        let kept = self.keep_then_tell(id, &request, completed, told).await;
        // What cannot be kept is not told: it would be forgotten with the next restart.
        match kept {
            Ok(_) => None,
            Err(error) => Some(self.failure(&error).await),
        }
    }

    /// The task that was begun with `request` has failed. If something else was asked for meanwhile, the download stays queued,
    /// and is begun anew.
    async fn failed(&self, id: &DownloadId, request: &DownloadRequest, failure: Failure) {
        log::warn!("a download has failed: {failure}");
        let failed = |saved: &mut Saved| {
            (saved.wanted, saved.failure) = (Wanted::Failed, Some(failure.clone()));
        };
        if let Err(error) = self.keep_then_tell(id, request, failed, |_| ()).await {
            // Told all the same. Not told, it would be begun at once again, and fail again; the next session does that once.
            log::warn!("the failure cannot be kept: {error}");
            self.change(id, |table| table.apply_to_queued(id, request, failed));
        }
    }

    /// Tells what ends soon and what has ended, and unpins that; what may be played again is pinned again. Returns how soon the
    /// next is due. Those that may end by the app's own check alone are looked at only if it `is_asked`.
    async fn check_ends(&self, is_asked: bool) -> Duration {
        let (now, mut due) = (SystemTime::now(), CHECK_EVERY);
        let is_asked = is_asked && self.settings.validity.is_some();
        let infos = self.table().that_may_end(is_asked);
        for info in &infos {
            let has_ended = match self.check_end(info).await {
                Ok(has_ended) => has_ended,
                Err(error) => {
                    // It holds in this session, and the next one finds it again. The other downloads go on.
                    log::warn!("the end of a download cannot be kept: {error}");
                    continue;
                }
            };
            if has_ended {
                continue;
            }
            if let Some(at) = info.valid_until {
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
        due.max(Duration::from_millis(1))
    }

    /// Whether a download's time is over. Where that is other than before it is told and kept.
    pub(super) async fn check_end(&self, info: &DownloadInfo) -> Result<bool, OfflineError> {
        let has_ended = self.end_of(info).is_some();
        if has_ended != info.is_expired {
            self.note_end(info, has_ended).await?;
        }
        Ok(has_ended)
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

    /// A download's time is over, or is not any more: the app's own check may say so, and a clock may be set back.
    async fn note_end(&self, info: &DownloadInfo, has_ended: bool) -> Result<(), OfflineError> {
        let id = &info.id;
        let is_noted = self.change(id, |table| {
            let entry = table.entries.get_mut(id);
            // What was extended or removed since the look has not ended by it. The next look tells.
            let entry = entry.filter(|entry| {
                entry.saved.request == info.request && entry.saved.wanted != Wanted::Removing
            });
            entry.is_some_and(|entry| {
                entry.saved.is_expired = has_ended;
                entry.is_end_told &= has_ended;
                true
            })
        });
        if !is_noted {
            return Ok(());
        }
        let kept = self.keep_end(id, &info.request, has_ended).await;
        if has_ended {
            self.tell(&Change::Expired(id.clone()));
        }
        kept
    }

    async fn keep_end(
        &self,
        id: &DownloadId,
        request: &DownloadRequest,
        has_ended: bool,
    ) -> Result<(), OfflineError> {
        let asset = request.asset_id();
        if !has_ended {
            self.cache.pin(&asset).await?;
        } else if !self.table().is_needed(&asset) {
            // Unpinned, and not removed: the app may extend it, and then nothing is fetched again.
            self.cache.unpin(&asset).await?;
        }
        self.persist(id).await
    }

    /// Removes a download for good, whose wish is kept. Waits a moment for what its own task had open.
    pub(super) async fn finish_removal(&self, id: &DownloadId) -> Result<(), OfflineError> {
        let until = Instant::now() + REMOVE_WAIT;
        // A run that is held and not polled drops no task, and gives back no turn: what is not done by then is left to it.
        let left = || rt::sleep(until.saturating_duration_since(Instant::now()));
        let task = self.table().entries.get(id).and_then(|entry| entry.task.clone());
        if let Some(task) = task.filter(|_| self.is_running.load(Ordering::Acquire)) {
            // Closing the channel is the signal, so the error is what is awaited.
            let gone = async {
                let _ = task.recv().await;
            };
            let too_late = async {
                left().await;
            };
            future::or(gone, too_late).await;
        }
        loop {
            let turn = async { Some(self.removals.lock().await) };
            let too_late = async {
                left().await;
                None
            };
            let Some(turn) = future::or(turn, too_late).await else {
                return Ok(());
            };
            if self.try_removal(id, turn).await? || Instant::now() >= until {
                return Ok(());
            }
            rt::sleep(REMOVE_PAUSE).await;
        }
    }

    /// `false` if the app has asked for it again: then it stays, and only its bytes are gone.
    fn forget(&self, id: &DownloadId) -> bool {
        let mut table = self.table();
        // Under the same lock as the wish: taken off after a look of its own, a download that was asked for in between would be
        // lost.
        let is_meant = |entry: &Entry| entry.saved.wanted == Wanted::Removing;
        if !table.entries.get(id).is_some_and(is_meant) {
            return false;
        }
        let forgotten = table.entries.remove(id);
        let watches = table.watchers.note(&Change::Removed(id.clone()));
        drop(table);
        drop(forgotten);
        self.wake(watches);
        true
    }

    /// Removes what is a download's own, of an asset that other downloads have files of.
    async fn remove_part(
        &self,
        request: &DownloadRequest,
        others: &[DownloadRequest],
    ) -> Result<(), CacheError> {
        let asset = request.asset_id();
        let path = |request: &DownloadRequest| {
            let access = self.settings.access_of(request);
            self.settings.file(request, access).path()
        };
        if request.kind == Kind::File {
            return match path(request) {
                Some(path) => self.cache.remove_entry(&asset, &path).await.map(drop),
                None => Ok(()),
            };
        }
        // A track is more than its playlist. There is one of it in an asset, so that the others are files.
        let kept: Vec<_> = others.iter().filter_map(path).collect();
        for entry in self.cache.entries(&asset).await? {
            if !kept.contains(&entry.path) {
                self.cache.remove_entry(&asset, &entry.path).await?;
            }
        }
        Ok(())
    }

    /// `false` while something of it is in use.
    async fn try_removal(&self, id: &DownloadId, _turn: MutexGuard<'_, ()>) -> Result<bool, OfflineError> {
        let Ok(info) = self.info(id) else {
            return Ok(true);
        };
        if info.state != State::Removing {
            // Asked for again.
            return Ok(true);
        }
        let asset = info.request.asset_id();
        let (others, is_needed) = {
            let table = self.table();
            (table.others_of(id, &asset), table.is_needed(&asset))
        };
        if !is_needed {
            self.cache.unpin(&asset).await?;
        }
        let removed = if others.is_empty() {
            self.cache.remove(&asset).await.map(drop)
        } else {
            self.remove_part(&info.request, &others).await
        };
        match removed {
            Err(CacheError::InUse { .. }) => return Ok(false),
            removed => removed?,
        }
        if self.forget(id) {
            // Last: cut off before it, the removal is done again, and finds nothing.
            self.persist(id).await?;
        }
        Ok(true)
    }
}

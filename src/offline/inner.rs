//! What all handles of the downloads share: the table, and the order in which it comes to the disk.
//!
//! The rule: **what is on the disk is never older than what an app was told.** The table changes first, under its lock; one write
//! at a time follows, of the table as it is then.

use std::{
    sync::{Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
    time::{Instant, SystemTime},
};

use async_channel::{Receiver, Sender};

use super::{
    Change, DownloadId, DownloadInfo, DownloadRequest, Kind, OfflineError, State,
    builder::DownloadsBuilder,
    saved::{self, Saved, Wanted},
    store,
    table::{Entry, Table},
    verdict::Verdict,
};
use crate::{
    cache::{AssetCache, AssetId},
    media::{Progress, Stored, Total},
    rt,
};

pub(super) struct Inner {
    pub(super) cache: AssetCache,
    pub(super) settings: DownloadsBuilder,
    table: Mutex<Table>,
    /// Held from the look at the table to the end of the write: of two changes the later one is on the disk in the end.
    writes: async_lock::Mutex<()>,
    /// Held from the look at a wish to remove until the download is forgotten: of two removals the later one finds it gone.
    pub(super) removals: async_lock::Mutex<()>,
    /// Held from the look for room until what is to come is in the table. Tasks alone wait for it.
    pub(super) room: async_lock::Mutex<()>,
    /// Something for the runner to look at. One place: what matters is that there is something.
    pub(super) wake: (Sender<()>, Receiver<()>),
    pub(super) is_running: AtomicBool,
}

impl Inner {
    pub(super) fn new(cache: AssetCache, settings: DownloadsBuilder, table: Table) -> Self {
        Self {
            cache,
            settings,
            table: Mutex::new(table),
            writes: async_lock::Mutex::new(()),
            removals: async_lock::Mutex::new(()),
            room: async_lock::Mutex::new(()),
            wake: async_channel::bounded(1),
            is_running: AtomicBool::new(false),
        }
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        // Each change leaves the table right after each store: a panic elsewhere leaves nothing half done.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the runner look, and tells the watches. Not under the table's lock: wakers are foreign code.
    pub(super) fn wake(&self, watches: Vec<Sender<()>>) {
        for watch in watches {
            let _ = watch.try_send(());
        }
        let _ = self.wake.0.try_send(());
    }

    /// Changes the table, and tells of it if `change` says that there is something to tell.
    pub(super) fn change(&self, id: &DownloadId, change: impl FnOnce(&mut Table) -> bool) -> bool {
        let mut table = self.table();
        let is_changed = change(&mut table);
        let watches = if is_changed { table.change(id) } else { Vec::new() };
        drop(table);
        self.wake(watches);
        is_changed
    }

    /// Changes one download, and tells the watches of it if `change` says so. The runner has nothing to do for it.
    pub(super) fn change_quietly(&self, id: &DownloadId, change: impl FnOnce(&mut Entry) -> bool) {
        let mut table = self.table();
        let is_changed = table.entries.get_mut(id).is_some_and(change);
        let watches = if is_changed { table.change(id) } else { Vec::new() };
        drop(table);
        for watch in watches {
            let _ = watch.try_send(());
        }
    }

    pub(super) fn id_of(&self, request: &DownloadRequest) -> DownloadId {
        let asset = request.asset_id();
        match request.kind {
            Kind::Hls => DownloadId::from_text(&asset.name()),
            // Several files may be of one asset.
            Kind::File => {
                let source = self.settings.file(request, self.settings.access_of(request));
                let path = source.path();
                let path = path.as_ref().map_or("", |path| path.as_str());
                DownloadId::from_text(&format!("{}.{path}", asset.name()))
            }
        }
    }

    pub(super) fn info(&self, id: &DownloadId) -> Result<DownloadInfo, OfflineError> {
        let info = self.table().info(id);
        info.ok_or_else(|| OfflineError::Unknown { id: id.clone() })
    }

    pub(super) fn request(&self, id: &DownloadId) -> Result<DownloadRequest, OfflineError> {
        Ok(self.info(id)?.request)
    }

    pub(super) fn playable(&self, id: &DownloadId, kind: Kind) -> Result<DownloadRequest, OfflineError> {
        let info = self.info(id)?;
        if info.request.kind != kind || info.state == State::Removing {
            return Err(OfflineError::Unknown { id: id.clone() });
        }
        // By the clock, and not by what was told: nothing need run for the end to come.
        match self.end_of(&info) {
            Some(since) => Err(OfflineError::Expired { since }),
            None => Ok(info.request),
        }
    }

    /// Since when a download may not be played offline any more.
    pub(super) fn end_of(&self, info: &DownloadInfo) -> Option<SystemTime> {
        let now = SystemTime::now();
        let is_refused = || self.settings.validity.as_ref().is_some_and(|check| !check(info));
        saved::has_ended(&info.request, now).or_else(|| is_refused().then_some(now))
    }

    pub(super) fn with_wanted(&self, wanted: Wanted) -> Vec<DownloadId> {
        let table = self.table();
        let found = table
            .entries
            .iter()
            .filter(|(_, entry)| entry.saved.wanted == wanted);
        found.map(|(id, _)| id.clone()).collect()
    }

    pub(super) async fn set_wanted(
        &self,
        id: &DownloadId,
        from: &[Wanted],
        to: Wanted,
    ) -> Result<(), OfflineError> {
        self.info(id)?;
        let is_changed = self.change(id, |table| {
            let Some(entry) = table.entries.get_mut(id) else {
                return false;
            };
            let is_changed = from.contains(&entry.saved.wanted);
            if is_changed {
                entry.saved.wanted = to;
                entry.saved.failure = None;
                entry.is_stuck = false;
            }
            is_changed
        });
        if is_changed {
            self.persist(id).await?;
        }
        Ok(())
    }

    /// Puts a download on the disk as it is in the table, or takes it off if it is not there.
    pub(super) async fn persist(&self, id: &DownloadId) -> Result<(), OfflineError> {
        let _turn = self.writes.lock().await;
        let entry = self.table().entries.get(id).map(|entry| entry.saved.write());
        store::write(&self.cache, id, entry).await?;
        Ok(())
    }

    /// Changes what is kept of a queued download: first on the disk, then in the table. How a task has ended is told by what the
    /// table says, and must not be forgotten by a process that ends as soon as it is told. `false` if the app has changed
    /// its mind meanwhile: what is told is of `request`, and says nothing of another.
    pub(super) async fn keep_then_tell(
        &self,
        id: &DownloadId,
        request: &DownloadRequest,
        apply: impl Fn(&mut Saved),
        tell: impl FnOnce(&mut Progress),
    ) -> Result<bool, OfflineError> {
        let _turn = self.writes.lock().await;
        let is_meant = |saved: &&Saved| saved.wanted == Wanted::Queued && saved.request == *request;
        let kept = self
            .table()
            .entries
            .get(id)
            .map(|entry| &entry.saved)
            .filter(is_meant)
            .cloned();
        let Some(mut saved) = kept else {
            return Ok(false);
        };
        apply(&mut saved);
        store::write(&self.cache, id, Some(saved.write())).await?;
        Ok(self.change(id, |table| {
            let entry = table.entries.get_mut(id);
            // What the app wants by now is written behind this, by its own call.
            let entry = entry.filter(|entry| is_meant(&&entry.saved));
            entry.is_some_and(|entry| {
                apply(&mut entry.saved);
                tell(&mut entry.progress);
                true
            })
        }))
    }

    /// What the cache has of a download: remembered while that holds, else found by looking. And the request that was looked at.
    pub(super) async fn stored(&self, id: &DownloadId) -> Result<(DownloadRequest, Stored), OfflineError> {
        // Both at once: the verdict is of this request.
        let found = self
            .table()
            .entries
            .get(id)
            .map(|entry| (entry.saved.request.clone(), entry.verdict.clone()));
        let (request, verdict) = found.ok_or_else(|| OfflineError::Unknown { id: id.clone() })?;
        let asset = request.asset_id();
        let cache = self.cache.blocking().clone();
        let begun = rt::unblock(move || match verdict {
            Some(verdict) if verdict.holds(&cache, &asset) => Err(verdict.stored),
            _ => Ok(Verdict::begin(&cache, &asset)),
        })
        .await;
        let begun = match begun {
            Ok(begun) => begun,
            Err(remembered) => return Ok((request, remembered)),
        };
        // Boxed: it is large, and most calls do not come here.
        let stored = Box::pin(self.settings.look(&request)).await?;
        let verdict = begun.map(|(footprint, made)| Verdict {
            stored: stored.clone(),
            footprint,
            made,
        });
        self.found(id, &request, stored.clone(), verdict).await?;
        Ok((request, stored))
    }

    /// Something was found of a download, of what `request` asks for. One that is said to be complete, and is not, is queued again.
    pub(super) async fn found(
        &self,
        id: &DownloadId,
        request: &DownloadRequest,
        stored: Stored,
        verdict: Option<Verdict>,
    ) -> Result<(), OfflineError> {
        let mut is_kept_other = false;
        self.change(id, |table| {
            let entry = table.entries.get_mut(id);
            // Of one that was asked for meanwhile it says nothing.
            let Some(entry) = entry.filter(|entry| entry.saved.request == *request) else {
                return false;
            };
            let (before, was) = (entry.progress, entry.saved.wanted);
            if entry.state() != State::Downloading {
                entry.progress = progress_of(&stored);
            }
            if entry.saved.wanted == Wanted::Completed && !stored.is_complete() {
                log::warn!("a download that was complete has {} holes", stored.holes.len());
                (entry.saved.wanted, entry.saved.verdict) = (Wanted::Queued, None);
            }
            entry.verdict.clone_from(&verdict);
            // Kept once it may be believed after a restart: until then each session would look again.
            if entry.saved.wanted == Wanted::Completed
                && let Some(verdict) = verdict.filter(Verdict::is_settled)
                && entry.saved.verdict.as_ref() != Some(&verdict)
            {
                entry.saved.verdict = Some(verdict);
                is_kept_other = true;
            }
            is_kept_other |= entry.saved.wanted != was;
            entry.progress != before || entry.saved.wanted != was
        });
        if is_kept_other {
            self.persist(id).await?;
        }
        Ok(())
    }

    /// The completed ones of which it is not known that they are so still.
    pub(super) async fn doubtful(&self) -> Vec<DownloadId> {
        let completed: Vec<(DownloadId, AssetId, Option<Verdict>)> = {
            let table = self.table();
            let completed = table
                .entries
                .iter()
                .filter(|(_, entry)| entry.state() == State::Completed);
            completed
                .map(|(id, entry)| (id.clone(), entry.saved.request.asset_id(), entry.verdict.clone()))
                .collect()
        };
        let cache = self.cache.blocking().clone();
        // One hop for all of them.
        rt::unblock(move || {
            let holds = |asset: &AssetId, verdict: &Option<Verdict>| {
                verdict
                    .as_ref()
                    .is_some_and(|verdict| verdict.holds(&cache, asset))
            };
            let doubtful = completed
                .into_iter()
                .filter(|(_, asset, verdict)| !holds(asset, verdict));
            doubtful.map(|(id, _, _)| id).collect()
        })
        .await
    }

    pub(super) fn doubt(&self, id: &DownloadId) {
        self.change(id, |table| {
            let entry = table.entries.get_mut(id);
            // One that the app has paused or removed meanwhile stays so.
            let entry = entry.filter(|entry| entry.saved.wanted == Wanted::Completed);
            entry.is_some_and(|entry| {
                entry.saved.wanted = Wanted::Queued;
                true
            })
        });
    }

    pub(super) fn note_progress(&self, id: &DownloadId, progress: Progress) {
        let mut table = self.table();
        let Some(entry) = table.entries.get_mut(id) else {
            return;
        };
        let is_for_the_runner = entry.note(progress, Instant::now());
        let watches = table.change(id);
        drop(table);
        if is_for_the_runner {
            // Its place is free, or it takes one.
            return self.wake(watches);
        }
        // The runner has nothing to look at for this.
        for watch in watches {
            let _ = watch.try_send(());
        }
    }

    pub(super) fn note_away(&self, id: &DownloadId) {
        let progress = self.table().entries.get(id).map(|entry| entry.progress);
        if let Some(progress) = progress {
            let is_away = true;
            self.note_progress(id, Progress { is_away, ..progress });
        }
    }

    /// Tells something that is told once.
    pub(super) fn tell(&self, change: &Change) {
        let watches = self.table().watchers.note(change);
        self.wake(watches);
    }
}

pub(super) fn progress_of(stored: &Stored) -> Progress {
    Progress {
        bytes: stored.bytes,
        total: if stored.is_complete() {
            Total::Exact(stored.bytes)
        } else {
            stored.total
        },
        time: stored.time,
        duration: stored.duration,
        is_complete: stored.is_complete(),
        ..Progress::default()
    }
}

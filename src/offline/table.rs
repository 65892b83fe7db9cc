//! All downloads of a session in memory, and which one is next.
//!
//! ```text
//!          add                                 ┌── a hole is found ──┐
//!           │       its turn, its gates open   ▼                     │
//!           └────▶ queued ─────────────────▶ downloading ──────▶ completed
//!                 ▲ ▲   │                      │      │
//!                 │ │   │ pause                │ pause│ a cause that does not pass
//!                 │ └───┼──── runner dropped ──┤      ▼
//!          resume │     ▼                      │    failed ── resume ──▶ queued
//!                 └── paused ◀─────────────────┘
//!
//!          any ── remove ──▶ removing ──▶ gone
//! ```
//!
//! The rule: **nothing here waits or reads the disk.** `downloading` is never kept: it is true while a task runs.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashSet},
    time::{Instant, SystemTime},
};

use async_channel::{Receiver, Sender};

use super::{
    Change, DownloadId, DownloadRequest, Failure,
    saved::{Saved, Wanted, has_ended},
    verdict::Verdict,
    watch::Watchers,
};
use crate::{
    cache::AssetId,
    media::{Progress, Total},
};

/// Where a download is.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// It waits for its turn, for a gate, or for [`Downloads::run`](super::Downloads::run).
    Queued,
    /// It is being fetched.
    Downloading,
    /// The app has it wait.
    Paused,
    /// All of it is in the cache.
    Completed,
    /// It has failed, and waits for the app.
    Failed,
    /// It is being removed.
    Removing,
}

/// A download at one moment.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct DownloadInfo {
    /// Which one.
    pub id: DownloadId,
    /// What was asked for.
    pub request: DownloadRequest,
    /// Where it is.
    pub state: State,
    /// How far it is, as far as this session knows: a download that has not been looked at since the start has 0 bytes.
    pub progress: Progress,
    /// Why it failed, or cannot be removed.
    pub failure: Option<Failure>,
    /// The gates that it needs and that are closed.
    pub closed_gates: Vec<String>,
    /// Until when it may be played offline.
    pub valid_until: Option<SystemTime>,
    /// Whether that time is over.
    pub is_expired: bool,
}

#[expect(clippy::struct_excessive_bools, reason = "four independent facts")]
pub(super) struct Entry {
    pub(super) saved: Saved,
    /// Closed when the task that fetches it is gone. `None` while there is none.
    pub(super) task: Option<Receiver<()>>,
    pub(super) progress: Progress,
    /// What was found last.
    pub(super) verdict: Option<Verdict>,
    /// Whether it was told that it ends soon.
    pub(super) is_end_told: bool,
    /// Bytes of it up to which its task has taken room.
    pub(super) granted: u64,
    /// When a byte of it came last, or its task began.
    pub(super) came: Instant,
    /// Since when its task waits: for the network, or for a server that is silent. It counts for none of those at once then.
    pub(super) waits_since: Option<Instant>,
    /// Whether all of it has come, and its task syncs it. It needs no place then: the next one is fetched meanwhile.
    pub(super) has_all: bool,
    /// Whether it waits because nothing has come for too long.
    pub(super) is_silent: bool,
    /// Its task has waited for long, and was given up for others. It is not begun again before this.
    pub(super) rests_until: Option<Instant>,
    /// Its removal has failed, in a way that does not pass with what is in use.
    pub(super) is_stuck: bool,
}

#[derive(Default)]
pub(super) struct Table {
    pub(super) entries: BTreeMap<DownloadId, Entry>,
    open_gates: HashSet<String>,
    next_order: u64,
    pub(super) watchers: Watchers,
}

impl Entry {
    pub(super) fn new(saved: Saved) -> Self {
        let mut progress = Progress::default();
        if let Some(Verdict { stored, .. }) = saved
            .verdict
            .as_ref()
            .filter(|_| saved.wanted == Wanted::Completed)
        {
            progress.bytes = stored.bytes;
            progress.total = stored.total;
            (progress.time, progress.duration) = (stored.time, stored.duration);
            progress.is_complete = true;
        }
        Self {
            verdict: saved.verdict.clone(),
            saved,
            task: None,
            progress,
            is_end_told: false,
            granted: 0,
            came: Instant::now(),
            waits_since: None,
            has_all: false,
            is_silent: false,
            rests_until: None,
            is_stuck: false,
        }
    }

    /// A task begins to fetch it, of which `stopped` is closed with it.
    pub(super) fn begin(&mut self, stopped: Receiver<()>, now: Instant) {
        self.task = Some(stopped);
        (self.came, self.granted, self.has_all) = (now, 0, false);
        (self.waits_since, self.rests_until, self.is_silent) = (None, None, false);
        self.progress.is_away = false;
    }

    pub(super) fn has_task(&self) -> bool {
        self.task.as_ref().is_some_and(|task| !task.is_closed())
    }

    /// Whether its task fetches now, and so has a place.
    pub(super) fn has_place(&self) -> bool {
        self.has_task() && !self.waits() && !self.has_all
    }

    pub(super) fn waits(&self) -> bool {
        self.has_task() && self.waits_since.is_some()
    }

    /// Its task tells how far it is. Returns whether it needs a place where it did not, or does not any more.
    pub(super) fn note(&mut self, progress: Progress, now: Instant) -> bool {
        if progress.bytes > self.progress.bytes {
            (self.came, self.is_silent) = (now, false);
        }
        // Silence ends with a byte, and with nothing else that a task may tell.
        let is_away = progress.is_away || self.is_silent;
        // Told as complete it is committed, or there was nothing to fetch.
        let has_all = matches!(progress.total, Total::Exact(all) if all > 0 && progress.bytes >= all);
        let did_need = self.waits_since.is_none() && !self.has_all;
        self.has_all = has_all;
        self.waits_since = is_away.then(|| self.waits_since.unwrap_or(now));
        self.progress = Progress {
            is_away,
            // Complete is what the look says that follows, and not the source.
            is_complete: false,
            ..progress
        };
        did_need != (!is_away && !has_all)
    }

    /// Where its turn is: by priority, then by age.
    pub(super) fn turn(&self) -> (Reverse<i32>, u64) {
        (Reverse(self.saved.request.priority), self.saved.order)
    }

    /// Has the app's new wish in place of the one before.
    pub(super) fn ask(&mut self, saved: Saved) {
        let (old, new) = (&self.saved.request, &saved.request);
        let is_removed = self.saved.wanted == Wanted::Removing;
        // What was found of the old request says nothing of this one: kept, the part that was added would count as there.
        if is_removed || old.selection != new.selection || old.url != new.url {
            self.verdict = None;
            self.progress.is_complete = false;
        }
        if is_removed {
            self.progress = Progress::default();
        }
        if old.valid_until != new.valid_until {
            self.is_end_told = false;
        }
        // Asked for, it is asked for now.
        (self.rests_until, self.is_stuck) = (None, false);
        self.saved = saved;
    }

    pub(super) fn state(&self) -> State {
        match self.saved.wanted {
            Wanted::Removing => State::Removing,
            Wanted::Paused => State::Paused,
            Wanted::Failed => State::Failed,
            _ if self.has_task() => State::Downloading,
            Wanted::Completed => State::Completed,
            Wanted::Queued => State::Queued,
        }
    }
}

impl Table {
    /// Takes in what was kept.
    pub(super) fn load(&mut self, saved: Saved) {
        self.next_order = self.next_order.max(saved.order + 1);
        self.entries.insert(saved.id.clone(), Entry::new(saved));
    }

    pub(super) fn order(&mut self) -> u64 {
        self.next_order += 1;
        self.next_order - 1
    }

    pub(super) fn set_gate(&mut self, gate: &str, open: bool) {
        if open {
            self.open_gates.insert(gate.to_owned());
        } else {
            self.open_gates.remove(gate);
        }
    }

    fn closed_gates(&self, entry: &Entry) -> Vec<String> {
        let needs = entry.saved.request.needs.iter();
        needs
            .filter(|gate| !self.open_gates.contains(*gate))
            .cloned()
            .collect()
    }

    pub(super) fn info(&self, id: &DownloadId) -> Option<DownloadInfo> {
        let entry = self.entries.get(id)?;
        Some(DownloadInfo {
            id: id.clone(),
            request: entry.saved.request.clone(),
            state: entry.state(),
            progress: entry.progress,
            failure: entry.saved.failure.clone(),
            closed_gates: self.closed_gates(entry),
            valid_until: entry.saved.request.valid_until,
            is_expired: entry.saved.is_expired,
        })
    }

    pub(super) fn change(&self, id: &DownloadId) -> Vec<Sender<()>> {
        self.info(id).map_or_else(Vec::new, |info| {
            self.watchers.note(&Change::Changed(Box::new(info)))
        })
    }

    /// All of them: what ends first before what ends later, and that before what does not end; then by their turn.
    pub(super) fn sorted(&self) -> Vec<DownloadInfo> {
        let mut ids: Vec<_> = self.entries.iter().collect();
        ids.sort_by_key(|(_, entry)| {
            let end = entry.saved.request.valid_until;
            (end.is_none(), end, entry.turn())
        });
        ids.iter().filter_map(|(id, _)| self.info(id)).collect()
    }

    /// Those that are not being removed and have an end, or have had one; or all of them.
    pub(super) fn that_may_end(&self, all: bool) -> Vec<DownloadInfo> {
        let may_end = |entry: &Entry| {
            let has_end = entry.saved.request.valid_until.is_some() || entry.saved.is_expired;
            entry.saved.wanted != Wanted::Removing && (all || has_end)
        };
        let found = self.entries.iter().filter(|(_, entry)| may_end(entry));
        found.filter_map(|(id, _)| self.info(id)).collect()
    }

    /// Whether a download may be fetched now.
    pub(super) fn may_run(&self, id: &DownloadId) -> bool {
        self.entries.get(id).is_some_and(|entry| {
            entry.saved.wanted == Wanted::Queued
                && !entry.saved.is_expired
                // By the clock too: its end may not be noted yet.
                && has_ended(&entry.saved.request, SystemTime::now()).is_none()
                && self.closed_gates(entry).is_empty()
        })
    }

    /// Whether a task that was begun with a request may go on. With another URL or limit it is begun anew: what the old one
    /// fetches may be refused, or too much, where the new one is not.
    pub(super) fn may_go_on(&self, id: &DownloadId, begun_with: &DownloadRequest) -> bool {
        self.may_run(id)
            && self.entries.get(id).is_some_and(|entry| {
                let now = &entry.saved.request;
                now.url == begun_with.url && now.max_bytes == begun_with.max_bytes
            })
    }

    /// Changes what is kept of a download, if it is queued for this request still.
    pub(super) fn apply_to_queued(
        &mut self,
        id: &DownloadId,
        request: &DownloadRequest,
        apply: impl FnOnce(&mut Saved),
    ) -> bool {
        let entry = self.entries.get_mut(id).map(|entry| &mut entry.saved);
        let saved = entry.filter(|saved| saved.wanted == Wanted::Queued && saved.request == *request);
        saved.map(apply).is_some()
    }

    /// Whether an asset is to stay in the cache for a download: for one that has not ended and is not being removed.
    pub(super) fn is_needed(&self, asset: &AssetId) -> bool {
        self.entries.values().any(|Entry { saved, .. }| {
            let is_wanted = saved.wanted != Wanted::Removing && !saved.is_expired;
            is_wanted && saved.request.asset_id() == *asset
        })
    }

    /// The other downloads that have files of an asset, as far as they are not being removed.
    pub(super) fn others_of(&self, id: &DownloadId, asset: &AssetId) -> Vec<DownloadRequest> {
        let others = self.entries.values().map(|entry| &entry.saved);
        let others = others.filter(|saved| saved.id != *id && saved.wanted != Wanted::Removing);
        let requests = others.map(|saved| &saved.request);
        requests
            .filter(|request| request.asset_id() == *asset)
            .cloned()
            .collect()
    }

    /// Whether anything is being fetched or removed, or may be. What cannot be removed is not waited for.
    pub(super) fn is_busy(&self) -> bool {
        let is_going = |entry: &Entry| entry.saved.wanted == Wanted::Removing && !entry.is_stuck;
        self.entries
            .iter()
            .any(|(id, entry)| is_going(entry) || self.may_run(id))
    }

    /// Bytes that the tasks of other downloads have taken room for, and that have not come yet.
    pub(super) fn still_to_come(&self, but: &DownloadId) -> u64 {
        let others = self.entries.iter().filter(|(id, _)| *id != but);
        let fetched = others.filter(|(_, entry)| entry.has_task());
        fetched
            .map(|(_, entry)| entry.granted.saturating_sub(entry.progress.bytes))
            .sum()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::Kind;
    use super::*;
    use crate::net::Url;

    pub(in super::super) fn saved(name: &str, priority: i32, order: u64, wanted: Wanted) -> Saved {
        let url = Url::parse("http://h/a").unwrap();
        Saved {
            id: DownloadId::from_text(name),
            request: DownloadRequest::new(Kind::File, url).priority(priority),
            wanted,
            order,
            failure: None,
            verdict: None,
            is_expired: false,
        }
    }

    fn next(table: &Table) -> Option<String> {
        let next = table.next(3, Instant::now());
        next.map(|id| id.as_str().to_owned())
    }

    /// O4: by priority, then by age; a task that runs, a closed gate and a pause are passed over.
    #[test]
    fn o4_the_next_one_is_the_oldest_of_the_highest_priority_that_may_run() {
        let mut table = Table::default();
        for (name, priority, order) in [("old", 0, 1), ("young", 0, 7), ("urgent", 5, 9), ("gated", 9, 2)] {
            let mut saved = saved(name, priority, order, Wanted::Queued);
            saved.request.needs = (name == "gated")
                .then(|| "unmetered".to_owned())
                .into_iter()
                .collect();
            table.load(saved);
        }
        table.load(saved("paused", 9, 0, Wanted::Paused));
        assert_eq!(next(&table).as_deref(), Some("urgent"));
        let (running, task) = async_channel::bounded(1);
        let urgent = table.entries.get_mut(&DownloadId::from_text("urgent")).unwrap();
        urgent.begin(task, Instant::now());
        assert_eq!(urgent.state(), State::Downloading);
        assert_eq!(next(&table).as_deref(), Some("old"));
        table.set_gate("unmetered", true);
        assert_eq!(next(&table).as_deref(), Some("gated"));
        table.set_gate("unmetered", false);
        // Its runner is gone: it is queued, whatever its task was doing.
        drop(running);
        assert_eq!(next(&table).as_deref(), Some("urgent"));
        assert_eq!(table.order(), 10, "behind all that were kept");
    }

    /// O8: what ends first is listed first.
    #[test]
    fn o8_the_list_begins_with_what_ends_first() {
        let mut table = Table::default();
        let end = |seconds| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        for (name, order, valid_until) in [("b", 1, Some(end(20))), ("c", 0, None), ("a", 2, Some(end(10)))] {
            let mut saved = saved(name, 0, order, Wanted::Completed);
            saved.request.valid_until = valid_until;
            table.load(saved);
        }
        let sorted: Vec<_> = table.sorted().iter().map(|info| info.id.to_string()).collect();
        assert_eq!(sorted, ["a", "b", "c"]);
    }
}

//! Room for what a download is going to take.
//!
//! ```text
//!   total exact   ── all that is missing, once, before it comes ──▶ taken, or StorageFull
//!   total a guess ── a step more than has come, again and again ──▶ taken, or StorageFull
//! ```
//!
//! The rule: **what is taken is counted before it comes.** No room is refused by a guess alone: a track of which too much was
//! said would never begin. So the guess decides only in the last two steps before a limit. What is fetched in front of the
//! bytes that are noted is a step at most (`DownloadsBuilder::tracks`), and so the limit holds to within the last segment.

use std::{
    collections::HashMap,
    fmt,
    time::{Duration, Instant},
};

use futures_lite::StreamExt as _;

use super::{Cause, DownloadId, DownloadRequest, Failure, OfflineError, error, inner::Inner};
use crate::{
    media::{Download, Progress, Total},
    rt,
};

/// The room of one task.
pub(super) struct Room<'a> {
    inner: &'a Inner,
    id: &'a DownloadId,
    /// The download's own limit.
    max_bytes: Option<u64>,
    step: u64,
    /// Parts of which each is fetched whole: none of a file.
    parts: u64,
    /// Bytes of the download up to which room is taken.
    granted: u64,
}

/// How long it is waited for that a failed source gives up what it has open.
const GIVEN_UP: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How many parts may be on their way in front of what is noted.
const AHEAD: u64 = 4;

/// How much is taken at once where it is not known how much is to come: little beside the limit, and much beside a look.
pub(super) fn step(limit: u64) -> u64 {
    (limit / 16).clamp(64 << 10, 1 << 20)
}

/// How much more to take with `have` there; `None` if that is too little. `ahead` is what may come in front of what is noted.
fn share(progress: &Progress, have: u64, step: u64, ahead: u64) -> Option<u64> {
    let missing = progress.total.bytes().saturating_sub(progress.bytes);
    match progress.total {
        Total::Exact(_) => Some(missing).filter(|missing| *missing <= have),
        _ if have >= ahead.saturating_add(2 * step) => Some(step),
        Total::Estimated(_) => Some(missing.max(1)).filter(|missing| *missing <= have),
        Total::AtLeast(_) => None,
    }
}

impl<'a> Room<'a> {
    pub(super) fn new(inner: &'a Inner, id: &'a DownloadId, request: &DownloadRequest) -> Self {
        let limits = [inner.settings.max_bytes, request.max_bytes];
        let least = limits.into_iter().flatten().min();
        Self {
            inner,
            id,
            max_bytes: request.max_bytes,
            step: step(least.unwrap_or(u64::MAX)),
            parts: 0,
            granted: 0,
        }
    }

    /// What is downloaded is made of so many parts.
    #[cfg(feature = "hls")]
    pub(super) fn has_parts(&mut self, parts: usize) {
        self.parts = parts as u64;
    }

    /// A guess, as the total is: no more than a few steps, so that too high a guess refuses nothing.
    fn ahead(&self, progress: &Progress) -> u64 {
        let part = progress.total.bytes().checked_div(self.parts).unwrap_or(0);
        part.saturating_mul(AHEAD).min(self.step * AHEAD)
    }

    /// Polls a source's download to its end: each progress is held against the room, and told. `whole` makes the source's
    /// progress that of all that is downloaded; `cause` tells what an app can do about a failure.
    pub(super) async fn follow<E: fmt::Display>(
        &mut self,
        mut download: Download<E>,
        cause: impl Fn(&E) -> Cause,
        whole: impl Fn(Progress) -> Progress,
    ) -> Result<(), Failure> {
        // Before anything comes it is told how much that is.
        download.allow(0);
        while let Some(progress) = download.next().await {
            match progress {
                Ok(progress) => {
                    let all = whole(progress);
                    self.note(all).await?;
                    let left = self.granted.saturating_sub(all.bytes);
                    // Where the length is known room for all of it is taken, or it is there.
                    let is_all = all.total.is_exact();
                    download.allow(if is_all {
                        u64::MAX
                    } else {
                        progress.bytes.saturating_add(left)
                    });
                }
                Err(error) => {
                    let total = whole(download.progress()).total.bytes();
                    // What it has open is given up first: what is left of a full disk shows behind that.
                    drop(download);
                    let mut failure = Failure::of(&error, cause);
                    if failure.is_full() {
                        failure.cause = self.inner.missing(self.id, total).await;
                    }
                    return Err(failure);
                }
            }
        }
        Ok(())
    }

    async fn note(&mut self, progress: Progress) -> Result<(), Failure> {
        let is_taken = match progress.total {
            Total::Exact(all) => all <= self.granted,
            _ => progress.bytes < self.granted,
        };
        // What is committed already is there, whatever is left.
        if is_taken || progress.is_complete {
            self.inner.note_progress(self.id, progress);
            return Ok(());
        }
        let ahead = self.ahead(&progress);
        let own = match self.max_bytes {
            Some(limit) => {
                let have = limit.saturating_sub(progress.bytes);
                let share = share(&progress, have, self.step, ahead);
                let need = progress.total.bytes().max(progress.bytes.saturating_add(1));
                Some(share.ok_or_else(|| Failure::full(need, limit, "the download's own limit"))?)
            }
            None => None,
        };
        self.granted = self
            .inner
            .take_room(self.id, progress, [self.step, ahead], own)
            .await?;
        Ok(())
    }
}

impl Inner {
    /// Takes room for what is to come of a download, of which its own limit lets `own` bytes come. Returns the bytes of it up to
    /// which room is taken.
    async fn take_room(
        &self,
        id: &DownloadId,
        progress: Progress,
        [step, ahead]: [u64; 2],
        own: Option<u64>,
    ) -> Result<u64, Failure> {
        // Two that look at once would each find room for itself, and none for both.
        let _turn = self.room.lock().await;
        let (to_come, assets) = {
            let table = self.table();
            let mut assets: HashMap<_, u64> = HashMap::new();
            for (other, entry) in &table.entries {
                let came = if other == id {
                    progress.bytes
                } else {
                    entry.progress.bytes
                };
                *assets.entry(entry.saved.request.asset_id()).or_default() += came;
            }
            (table.still_to_come(id), assets)
        };
        let cache = self.cache.blocking().clone();
        let room = match rt::unblock(move || cache.room_beside(&assets)).await {
            Ok(room) => room,
            Err(error) => return Err(self.failure(&error.into()).await),
        };
        let left = |all: u64, taken: u64| all.saturating_sub(taken).saturating_sub(to_come);
        let need = progress.total.bytes().saturating_sub(progress.bytes);
        let within = |have: u64, of: &str| {
            let share = share(&progress, have, step, ahead);
            share.ok_or_else(|| Failure::full(need.max(1), have, of))
        };
        let budget = match self.settings.max_bytes {
            Some(limit) => Some(within(left(limit, room.own), "the budget of all downloads")?),
            None => None,
        };
        let cache = match progress.total {
            Total::Exact(_) => {
                let have = left(room.max_bytes, room.held);
                Some(within(have, "the cache beside what is pinned")?)
            }
            // The cache refuses each write that has no room, and needs no steps for that.
            _ => None,
        };
        let more = [own, budget, cache].into_iter().flatten().min();
        let granted = more.map(|more| progress.bytes.saturating_add(more));
        if let Some(entry) = self.table().entries.get_mut(id) {
            entry.granted = granted.unwrap_or(0);
        }
        // Under the turn still: the next look must see what is to come beside what has come.
        self.note_progress(id, progress);
        Ok(granted.unwrap_or(u64::MAX))
    }

    /// The figures of a full disk: what is missing of a download of `total` bytes, and what is free.
    async fn missing(&self, id: &DownloadId, total: u64) -> Cause {
        let Ok(request) = self.request(id) else {
            return Cause::FULL;
        };
        let until = Instant::now() + GIVEN_UP;
        loop {
            // Of what has come the disk keeps what could be recorded. A file's thread gives the rest up in its own time, and the
            // look removes what nothing is recorded of.
            let stored = Box::pin(self.settings.look(&request)).await;
            let have = self.free_on_disk().await;
            if have > 0 || Instant::now() >= until {
                let (bytes, all) =
                    stored.map_or((0, Total::AtLeast(0)), |stored| (stored.bytes, stored.total));
                let all = match all {
                    Total::AtLeast(_) => total,
                    all => all.bytes(),
                };
                let need = all.saturating_sub(bytes);
                return Cause::StorageFull { need, have };
            }
            rt::sleep(LOOK_EVERY).await;
        }
    }

    /// Bytes that the disk has room for; 0 where it does not tell.
    async fn free_on_disk(&self) -> u64 {
        let cache = self.cache.blocking().clone();
        rt::unblock(move || cache.free_on_disk()).await.unwrap_or(0)
    }

    /// A failure as an app can act on it.
    pub(super) async fn failure(&self, error: &OfflineError) -> Failure {
        let mut failure = error::of_offline(error);
        if failure.is_full() {
            let have = self.free_on_disk().await;
            failure.cause = Cause::StorageFull { need: 0, have };
        }
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// O6: a guess refuses nothing while there is room for two steps, and decides near the limit.
    #[test]
    fn o6_room_is_taken_by_what_is_known_of_the_length() {
        let of = |bytes, total| Progress {
            bytes,
            total,
            ..Progress::default()
        };
        assert_eq!(share(&of(10, Total::Exact(30)), 20, 5, 0), Some(20));
        assert_eq!(share(&of(10, Total::Exact(31)), 20, 5, 0), None);
        assert_eq!(share(&of(10, Total::Estimated(900)), 10, 5, 0), Some(5));
        assert_eq!(share(&of(10, Total::Estimated(900)), 9, 5, 0), None);
        assert_eq!(share(&of(10, Total::Estimated(19)), 9, 5, 0), Some(9));
        assert_eq!(share(&of(10, Total::AtLeast(10)), 10, 5, 0), Some(5));
        assert_eq!(share(&of(10, Total::AtLeast(10)), 9, 5, 0), None);
        assert_eq!(
            share(&of(10, Total::Estimated(10)), 0, 5, 0),
            None,
            "it is longer than was guessed"
        );
    }
}

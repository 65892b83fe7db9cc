//! Which downloads are fetched at once: places, and whom they are given to.
//!
//! ```text
//!   begun ─▶ has a place ─▶ has come whole: is synced, without a place ─▶ ended
//!                │ no byte for a while,   ▲ a byte: the last in turn of the others
//!                ▼ or the network is away │ gives its place back
//!             waits, without a place ─────┴──▶ a turn is over: it rests for as long, while others are tried
//! ```
//!
//! The rule: **a dead host holds up nothing but its own downloads.**

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::{
    DownloadId,
    table::{Entry, Table},
};
use crate::net::Url;

/// How many may wait at once, for each that may be fetched: each has connections and, of a file, a thread.
const WAITING: usize = 4;
/// How long one waits, and then rests, while others might take its place.
const TURN: Duration = Duration::from_secs(60);

impl Table {
    /// The next one to be fetched, of those that may run and that no task fetches, where less than `parallel` are being fetched.
    ///
    /// What has come and is synced is not counted, so that neither the network nor the disk waits for the other. And
    /// what waits is not counted: a host that is dead must not hold up the others. As many of one host as may be fetched at
    /// once are tried, so that a dead one does not take the places of those that wait either.
    pub(super) fn next(&self, parallel: usize, now: Instant) -> Option<DownloadId> {
        let (mut running, mut synced, mut waiting, mut hosts) = (0, 0, 0, HashMap::new());
        for entry in self.entries.values().filter(|entry| entry.has_task()) {
            if entry.waits() {
                waiting += 1;
                *hosts.entry(host(&entry.saved.request.url)).or_insert(0) += 1;
            } else if entry.has_all {
                synced += 1;
            } else {
                running += 1;
            }
        }
        // Where the disk is slower than the network, what has come waits for it, and nothing more is fetched.
        if running >= parallel || synced > parallel || waiting >= parallel.saturating_mul(WAITING) {
            return None;
        }
        let is_tried = |entry: &Entry| {
            hosts
                .get(&host(&entry.saved.request.url))
                .is_some_and(|count| *count >= parallel)
        };
        let rests = |entry: &Entry| entry.rests_until.is_some_and(|until| until > now);
        let free = self
            .entries
            .iter()
            .filter(|(id, entry)| !entry.has_task() && !rests(entry) && self.may_run(id) && !is_tried(entry));
        let first = free.min_by_key(|(_, entry)| entry.turn());
        first.map(|(id, _)| id.clone())
    }

    /// The one that gives its place back, where more than `parallel` are being fetched: something that waited goes on.
    pub(super) fn surplus(&self, parallel: usize) -> Option<DownloadId> {
        let running = || self.entries.iter().filter(|(_, entry)| entry.has_place());
        let last = running().max_by_key(|(_, entry)| entry.turn());
        last.filter(|_| running().count() > parallel)
            .map(|(id, _)| id.clone())
    }

    /// Finds those whose server has been silent for `limit`: they wait from now on. `free_since` is since when none of them
    /// had to give way to what is played; `None` while they have to. Returns when to look again.
    pub(super) fn find_silent(
        &mut self,
        limit: Duration,
        free_since: Option<Instant>,
        now: Instant,
    ) -> (Vec<DownloadId>, Duration) {
        let (mut found, mut due) = (Vec::new(), limit);
        for (id, entry) in &mut self.entries {
            if !entry.has_task() || entry.waits() {
                continue;
            }
            let Some(free_since) = free_since else { continue };
            let silent = now.saturating_duration_since(entry.came.max(free_since));
            if silent >= limit {
                entry.is_silent = true;
                entry.note(entry.progress, now);
                found.push(id.clone());
            } else {
                due = due.min(limit.saturating_sub(silent));
            }
        }
        (found, due)
    }

    /// One whose task has waited for long, while others have none. It rests from now on. With it, when to look again.
    pub(super) fn end_turns(&mut self, now: Instant) -> (Vec<DownloadId>, Duration) {
        let (mut found, mut due) = (Vec::new(), TURN);
        let has_others = self
            .entries
            .iter()
            .any(|(id, entry)| !entry.has_task() && entry.rests_until.is_none() && self.may_run(id));
        for (id, entry) in &mut self.entries {
            if let Some(until) = entry.rests_until {
                due = due.min(until.saturating_duration_since(now));
                entry.rests_until = Some(until).filter(|until| *until > now);
            }
            if !entry.waits() || !has_others {
                continue;
            }
            let waited = now.saturating_duration_since(entry.waits_since.unwrap_or(now));
            if waited >= TURN {
                entry.rests_until = Some(now + TURN);
                found.push(id.clone());
            } else {
                due = due.min(TURN.saturating_sub(waited));
            }
        }
        (found, due)
    }
}

/// Whom a URL asks.
fn host(url: &Url) -> (&str, Option<&str>, Option<u16>) {
    (url.scheme(), url.host_str(), url.port_or_known_default())
}

#[cfg(test)]
mod tests {
    use async_channel::Sender;

    use super::super::{saved::Wanted, table::tests::saved};
    use super::*;
    use crate::media::{Progress, Total};

    /// Begins the task that is next, and returns its name and what ends it.
    fn start(table: &mut Table, parallel: usize, now: Instant) -> Option<(DownloadId, Sender<()>)> {
        let id = table.next(parallel, now)?;
        let (running, stopped) = async_channel::bounded(1);
        table.entries.get_mut(&id).unwrap().begin(stopped, now);
        Some((id, running))
    }

    fn away(table: &mut Table, name: &str, is_away: bool, now: Instant) {
        let entry = table.entries.get_mut(&DownloadId::from_text(name)).unwrap();
        let bytes = entry.progress.bytes + u64::from(!is_away);
        let progress = Progress {
            bytes,
            is_away,
            ..Progress::default()
        };
        assert!(entry.note(progress, now), "{name}");
    }

    /// O4: what waits for a dead host counts for none, as many of them as may be fetched at once wait, and another host's go on.
    /// What comes back takes its place from the last one.
    #[test]
    fn o4_a_dead_host_does_not_hold_up_the_others() {
        let (mut table, now) = (Table::default(), Instant::now());
        for (name, order, host) in [
            ("d1", 0, "dead"),
            ("d2", 1, "dead"),
            ("d3", 2, "dead"),
            ("a1", 3, "alive"),
            ("a2", 4, "alive"),
        ] {
            let mut saved = saved(name, 0, order, Wanted::Queued);
            saved.request.url = Url::parse(&format!("http://{host}/{name}")).unwrap();
            table.load(saved);
        }
        let mut tasks = Vec::new();
        let mut begin = |table: &mut Table, expected: &[&str]| {
            let begun: Vec<_> = std::iter::from_fn(|| start(table, 2, now)).collect();
            let names: Vec<_> = begun.iter().map(|(id, _)| id.as_str().to_owned()).collect();
            assert_eq!(names, expected);
            tasks.extend(begun);
        };
        begin(&mut table, &["d1", "d2"]);
        away(&mut table, "d1", true, now);
        begin(&mut table, &["d3"]);
        away(&mut table, "d2", true, now);
        begin(&mut table, &["a1"]);
        away(&mut table, "d3", true, now);
        begin(&mut table, &["a2"]);
        assert_eq!(table.surplus(2), None);
        away(&mut table, "d1", false, now);
        assert_eq!(table.surplus(2).unwrap().as_str(), "a2");
    }

    /// O4: silence is no byte for a while, but for the while in which they give way to what is played.
    #[test]
    fn o4_a_silent_server_is_waited_for_and_what_gives_way_is_not_silent() {
        let (mut table, now) = (Table::default(), Instant::now());
        table.load(saved("a", 0, 0, Wanted::Queued));
        let task = start(&mut table, 1, now).unwrap();
        let second = Duration::from_secs(1);
        let mut silent = |at, free_since| table.find_silent(second * 10, free_since, at).0.len();
        assert_eq!(silent(now + second * 9, Some(now)), 0);
        assert_eq!(silent(now + second * 30, None), 0, "a song plays");
        assert_eq!(silent(now + second * 31, Some(now + second * 30)), 0);
        assert_eq!(silent(now + second * 40, Some(now + second * 30)), 1);
        // Nothing but a byte ends it.
        let entry = table.entries.get_mut(&task.0).unwrap();
        assert!(!entry.note(Progress::default(), now) && entry.waits());
        away(&mut table, "a", false, now + second * 41);
        assert!(!table.entries[&task.0].waits());
    }

    /// O4: one that has waited for long rests, so that each is tried in the end.
    #[test]
    fn o4_what_waits_for_long_rests_while_others_are_tried() {
        let (mut table, now) = (Table::default(), Instant::now());
        table.load(saved("a", 0, 0, Wanted::Queued));
        let task = start(&mut table, 1, now).unwrap();
        away(&mut table, "a", true, now);
        assert!(table.end_turns(now + TURN).0.is_empty(), "it is in nobody's way");
        table.load(saved("b", 0, 1, Wanted::Queued));
        assert_eq!(table.next(1, now), None, "of the same host");
        assert_eq!(table.end_turns(now + TURN / 2), (Vec::new(), TURN / 2));
        assert_eq!(table.end_turns(now + TURN).0, [task.0]);
        drop(task.1);
        assert_eq!(table.next(1, now + TURN).unwrap().as_str(), "b");
        table.entries.remove(&DownloadId::from_text("b"));
        assert_eq!(table.next(1, now + TURN), None);
        assert!(table.next(1, now + TURN * 2).is_some());
    }

    /// O4: what has come whole and is synced leaves its place to the next one, as many as may be fetched at once.
    #[test]
    fn o4_what_is_synced_has_no_place() {
        let (mut table, now) = (Table::default(), Instant::now());
        for (order, name) in (0..).zip(["a", "b", "c", "d"]) {
            table.load(saved(name, 0, order, Wanted::Queued));
        }
        let bytes = |bytes, total| Progress {
            bytes,
            total,
            ..Progress::default()
        };
        let a = start(&mut table, 1, now).unwrap();
        let note = |table: &mut Table, id: &DownloadId, progress| {
            table.entries.get_mut(id).unwrap().note(progress, now)
        };
        assert!(!note(&mut table, &a.0, bytes(10, Total::AtLeast(10))));
        assert!(!note(&mut table, &a.0, bytes(10, Total::Exact(11))));
        assert_eq!(table.next(1, now), None);
        assert!(
            note(&mut table, &a.0, bytes(11, Total::Exact(11))),
            "the runner looks"
        );
        assert_eq!(table.surplus(1), None);
        let b = start(&mut table, 1, now).unwrap();
        assert_eq!(b.0.as_str(), "b");
        assert_eq!(table.next(1, now), None);
        assert!(note(&mut table, &b.0, bytes(11, Total::Exact(11))));
        assert_eq!(table.next(1, now), None, "the disk is behind");
        // The file was another one meanwhile, and is fetched anew.
        assert!(note(&mut table, &a.0, bytes(0, Total::Exact(12))));
        assert_eq!(table.surplus(1), None);
        drop(b);
        assert_eq!(table.next(1, now), None);
        drop(a);
        // Begun again, it has a place, whatever was known of it before.
        let again = start(&mut table, 1, now).unwrap();
        assert_eq!(again.0.as_str(), "a");
        assert_eq!(table.next(1, now), None);
    }
}

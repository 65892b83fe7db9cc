//! Power cuts after every change.
#![allow(
    clippy::print_stderr,
    reason = "a failed check says which of the many cuts it was"
)]

use std::num::NonZero;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use super::*;
use kithara::storage::testing::read_range;

impl Run {
    /// Checks what a machine finds that lost power after `changes` changes.
    fn check(&self, changes: usize, found: &FakeDisk) {
        // Removals that the cut took back: opening evicts until the limit holds.
        let over = found.bytes_in("/assets") + INDEX > MAX_BYTES;
        let cache = open(found, self.durability).unwrap();
        let after = view(&cache);
        // The step under way at the cut, or the last one, if the cut came just after it.
        let at = self
            .taken
            .iter()
            .position(|taken| changes <= taken.changes.end)
            .unwrap();
        let nothing = View::default();
        let before = at.checked_sub(1).map_or(&nothing, |at| &self.taken[at].after);
        let (begun, now) = (&self.taken[..=at], &self.taken[at].after);
        for name in names().chain((0..ASSETS).map(|a| (a, RECORD))) {
            let versions = begun.iter().enumerate().filter(|(_, taken)| match taken.step {
                Step::Put(put, _) | Step::Stream(put, _) => put == name,
                Step::Record(a, _) => (a, RECORD) == name,
                _ => false,
            });
            // The last version whose put had returned at the cut.
            let acknowledged = versions
                .clone()
                .rfind(|(n, taken)| taken.done && (*n < at || changes >= taken.changes.end));
            let full = self.durability == Durability::Full;
            let first = acknowledged.filter(|_| full).map_or(0, |(n, _)| n);
            let allowed: Vec<u64> = versions
                .filter(|(n, _)| *n >= first)
                .map(|(_, taken)| taken.version)
                .collect();
            let there = after.entries.get(&name);
            if let Some(there) = there {
                assert!(
                    allowed.contains(there),
                    "{name:?} is {there}, not one of {allowed:?}"
                );
            } else if full {
                let stood = before.entries.contains_key(&name) && now.entries.contains_key(&name);
                let held = before.pinned.contains(&name.0) && now.pinned.contains(&name.0);
                let evicted = over && !held;
                assert!(!stood || evicted, "{name:?} is gone: one of {allowed:?}");
            }
        }
        for number in 0..ASSETS {
            let (was, is) = (before.pinned.contains(&number), now.pinned.contains(&number));
            let there = after.pinned.contains(&number);
            assert!(
                there == was || there == is,
                "pin of {number}: {there}, was {was}, is {is}"
            );
        }
        sound(found, &cache);
    }
}

fn random_step(dice: &mut Dice) -> Step {
    let name = (
        u8::try_from(dice.below(ASSETS.into())).unwrap(),
        u8::try_from(dice.below(PATHS.into())).unwrap(),
    );
    let len = usize::try_from(8 + dice.below(1800)).unwrap();
    match dice.below(26) {
        0..=9 => Step::Put(name, len),
        10..=12 => Step::Stream(name, len),
        13 => Step::Drop(name, len),
        14 => Step::RemoveEntry(name),
        15 => Step::Remove(name.0),
        16 => Step::Pin(name.0),
        17 => Step::Unpin(name.0),
        18 => Step::Lease(name.0),
        19 => Step::Unlease,
        20 => Step::Get(name),
        21 | 22 => Step::Checkpoint,
        23 => Step::Record(name.0, len / 8 + 8),
        24 => Step::RemoveEntry((name.0, RECORD)),
        _ => Step::Reopen,
    }
}

/// Cuts the power `times` times after each change of a run, and returns how many machines were checked.
fn cut(run: &Run, times: u64, seed: u64) -> u64 {
    let states = AtomicU64::new(0);
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for worker in 0..workers {
            let states = &states;
            scope.spawn(move || {
                for changes in (worker..=run.disk.changes()).step_by(workers) {
                    states.fetch_add(cut_after(run, changes, times, seed), Ordering::Relaxed);
                }
            });
        }
    });
    states.into_inner()
}

fn cut_after(run: &Run, changes: usize, times: u64, seed: u64) -> u64 {
    for time in 0..times {
        let mut dice = Dice(seed ^ (changes as u64) << 20 ^ time << 50);
        let context = Context(format!(
            "{changes} changes, seed {seed:#x}, time {time}: {:?}",
            run.durability
        ));
        let found = run.disk.power_cut(changes, &mut dice);
        run.check(changes, &found);
        if time == 0 {
            // The power fails again while the cache opens and is used.
            let during = usize::try_from(dice.below(found.changes() as u64 + 1)).unwrap();
            let again = found.power_cut(during, &mut dice);
            let cache = open(&again, run.durability).unwrap();
            view(&cache);
            sound(&again, &cache);
        }
        drop(context);
    }
    times + 1
}

/// Says where a failed check was.
struct Context(String);

impl Drop for Context {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("it was: {}", self.0);
        }
    }
}

/// Steps so far apart that each finds the times of all directories old enough to be relied on.
const SLOW: Duration = Duration::from_secs(100);

fn cut_story(durability: Durability) {
    for pace in [Duration::ZERO, SLOW] {
        let run = run(&story(), durability, pace);
        let started = Instant::now();
        // The whole crate optimised does some thousands a second.
        let states = cut(&run, if cfg!(debug_assertions) { 5 } else { 40 }, 0x5eed);
        eprintln!(
            "{states} states of {} changes in {:?}",
            run.disk.changes(),
            started.elapsed()
        );
        assert!(states > 1000);
    }
}

/// C2, C3, C5, C10, faults C1, C2, C12, C13: acknowledged puts are there, whole.
#[test]
fn a_power_cut_after_any_change_takes_back_no_acknowledged_put() {
    cut_story(Durability::Full);
}

/// C2: under `Ordered` a power cut may take back the newest writes, but never a part of one.
#[test]
fn a_power_cut_leaves_old_new_or_nothing_under_ordered_durability() {
    cut_story(Durability::Ordered);
}

/// The same with steps at random.
#[test]
fn a_power_cut_in_a_random_session_leaves_a_sound_cache() {
    let sessions = std::env::var("KITHARA_SESSIONS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(8);
    for seed in 0..sessions {
        let mut dice = Dice(seed);
        let steps: Vec<_> = (0..40).map(|_| random_step(&mut dice)).collect();
        let durability = if seed % 3 == 0 {
            Durability::Ordered
        } else {
            Durability::Full
        };
        let pace = if seed % 2 == 0 { Duration::ZERO } else { SLOW };
        let context = Context(format!("… session {seed}, {durability:?}, {pace:?} apart"));
        cut(&run(&steps, durability, pace), 2, seed);
        drop(context);
    }
}

/// What survives every one of a hundred power cuts now.
fn survives(disk: &FakeDisk, asset: &AssetId, path: &CachePath) -> bool {
    (0..100).all(|seed| {
        let found = disk.power_cut(disk.changes(), &mut Dice(seed));
        let store = store_on(&found, Durability::Full).unwrap();
        store.exists(asset, path).unwrap()
    })
}

/// C2, faults C13, C20: a folder that was removed or replaced from outside, and made anew for a put, is durable like the first
/// one.
#[test]
fn a_put_into_a_folder_made_anew_survives_a_power_cut() {
    let (a, x) = (asset(0), path(0));
    // The asset's own, its shard, and the one of all assets.
    let asset_dir = PathBuf::from(dir_of(&a));
    let folders: Vec<_> = asset_dir.ancestors().take(3).collect();
    for (folder, replaced) in [(0, false), (0, true), (1, false), (2, false)] {
        let disk = FakeDisk::default();
        let store = store_on(&disk, Durability::Full).unwrap();
        store.put(&a, &x, content(1, 100)).unwrap();
        let dir = folders[folder];
        disk.remove_dir_all(dir).unwrap();
        if replaced {
            drop(disk.create_new(dir).unwrap());
        }
        disk.sync_dir(dir.parent().unwrap()).unwrap();
        store.put(&a, &x, content(2, 100)).unwrap();
        assert!(survives(&disk, &a, &x), "{}, {replaced}", dir.display());
    }
}

/// C2, R3: the folder of a partial file need not be durable; that of an entry it has become is.
#[test]
fn a_committed_partial_entry_survives_a_power_cut() {
    let disk = FakeDisk::default();
    let store = store_on(&disk, Durability::Full).unwrap();
    let (a, x) = (asset(0), path(0));
    let partial = store.partial(&a, &x).unwrap().unwrap();
    partial.prepare().unwrap();
    let place = partial.place().clone();
    // What a whole entry looks like, footer and all.
    let whole = FakeDisk::default();
    let other = store_on(&whole, Durability::Full).unwrap();
    other.put(&a, &x, content(1, 100)).unwrap();
    let entry = whole.open(&place.target).unwrap();
    let len = entry.metadata().unwrap().len;
    let bytes = read_range(&*entry, 0, len).unwrap();
    let mut file = disk.create_new(&place.partial).unwrap();
    file.append(&[bytes]).unwrap();
    file.sync().unwrap();
    let mut rename = || {
        disk.replace(&place.partial, &place.target, Durability::Full)
            .unwrap();
        Ok(len)
    };
    partial.commit(&mut rename).unwrap();
    assert!(survives(&disk, &a, &x));
}

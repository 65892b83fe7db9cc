//! The whole cache on a disk that loses its power after every change, and that fails at every call.
//!
//! What was done is recorded with the number of changes the disk had seen before and after. For each power cut that
//! says exactly which versions of each entry may be found afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::ops::{Deref, Range};
use std::panic::catch_unwind;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;
use std::time::Instant;

use bytes::Bytes;

use super::store::{Stamp, Store as _};
use super::{
    AssetId, BlockingCache, CacheError, CachePath, Durability, EvictingStore, FsStore, IndexStore, Lease,
    LeaseStore, Lru,
};
use crate::storage::fake_disk::{Dice, FakeDisk, Fault};

const MAX_BYTES: u64 = 6000 + INDEX;
/// What the index is allowed to take.
const INDEX: u64 = 4000;

type Name = (u8, u8);

#[derive(Clone, Copy, Debug)]
enum Step {
    Put(Name, usize),
    /// Written in parts, then committed.
    Stream(Name, usize),
    /// Written in parts, then dropped.
    Drop(Name, usize),
    RemoveEntry(Name),
    Remove(u8),
    Pin(u8),
    Unpin(u8),
    Lease(u8),
    Unlease,
    Get(Name),
    Checkpoint,
    Clear,
    /// Closed and opened again.
    Reopen,
}

/// What is there at a moment: the number of each entry's version, and which assets are pinned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct View {
    entries: BTreeMap<Name, u64>,
    pinned: BTreeSet<u8>,
}

/// A step that was taken, the changes the disk had seen before and after it, and what was there then.
#[derive(Debug)]
struct Taken {
    step: Step,
    changes: Range<usize>,
    /// The version it wrote, or would have written.
    version: u64,
    done: bool,
    after: View,
}

const ASSETS: u8 = 5;
const PATHS: u8 = 3;

fn asset(number: u8) -> AssetId {
    static IDS: LazyLock<Vec<AssetId>> = LazyLock::new(|| {
        (0..=ASSETS)
            .map(|n| AssetId::from_key(&format!("track {n}")).unwrap())
            .collect()
    });
    IDS[usize::from(number)].clone()
}

fn path(number: u8) -> CachePath {
    static TEXTS: [&str; PATHS as usize] = ["playlist.m3u8", "v1/seg-1.m4s", "V1/Seg-1.m4s"];
    static ALL: LazyLock<Vec<CachePath>> =
        LazyLock::new(|| TEXTS.iter().map(|text| CachePath::parse(text).unwrap()).collect());
    ALL[usize::from(number)].clone()
}

fn names() -> impl Iterator<Item = Name> {
    (0..ASSETS).flat_map(|a| (0..PATHS).map(move |p| (a, p)))
}

/// The bytes of a version. They name it, and differ from every other version's nearly everywhere.
fn content(version: u64, len: usize) -> Bytes {
    let mut dice = Dice(version);
    let mut bytes = version.to_le_bytes().to_vec();
    while bytes.len() < len.max(8) {
        bytes.extend_from_slice(&dice.roll().to_le_bytes());
    }
    bytes.truncate(len.max(8));
    bytes.into()
}

/// The version that bytes are, if they are one, whole.
fn version(bytes: &Bytes) -> u64 {
    let version = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert_eq!(*bytes, content(version, bytes.len()), "mixed or partial");
    version
}

struct Run {
    disk: FakeDisk,
    durability: Durability,
    cache: Option<Session>,
    leases: Vec<Lease>,
    taken: Vec<Taken>,
    next_version: u64,
}

/// A cache whose keeper is the test: what its thread does is done here, in order.
struct Session {
    cache: BlockingCache,
    index: IndexStore<FsStore>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.cache.tidy();
        self.index.seal();
    }
}

impl Deref for Session {
    type Target = BlockingCache;

    fn deref(&self) -> &BlockingCache {
        &self.cache
    }
}

fn open(disk: &FakeDisk, durability: Durability) -> Result<Session, CacheError> {
    let files = FsStore::on(Arc::new(disk.clone()), Path::new("/"), durability)?;
    let index = IndexStore::open(files, true)?;
    let protected = LeaseStore::new(index.clone());
    let leases = protected.leases().clone();
    let store = EvictingStore::new(protected, Lru::new(), MAX_BYTES).starting_after(index.newest());
    // What fails here is tried again by the first write.
    let _ = index.look().and_then(|()| store.settle());
    let cache = BlockingCache::in_memory(store, leases);
    cache.tidy();
    Ok(Session { cache, index })
}

fn view(cache: &BlockingCache) -> View {
    let mut view = View::default();
    for name in names() {
        if let Some(bytes) = cache.get_untouched(&asset(name.0), &path(name.1)) {
            view.entries.insert(name, version(&bytes));
        }
    }
    for number in 0..ASSETS {
        if cache
            .asset(&asset(number))
            .unwrap()
            .is_some_and(|info| info.pinned)
        {
            view.pinned.insert(number);
        }
    }
    view
}

impl BlockingCache {
    fn get_untouched(&self, asset: &AssetId, path: &CachePath) -> Option<Bytes> {
        self.contains(asset, path)
            .unwrap()
            .then(|| self.get(asset, path).unwrap().unwrap())
    }
}

impl Run {
    fn new(disk: FakeDisk, durability: Durability) -> Self {
        let cache = Some(open(&disk, durability).unwrap());
        Self {
            disk,
            durability,
            cache,
            leases: Vec::new(),
            taken: Vec::new(),
            next_version: 1,
        }
    }

    fn cache(&self) -> &BlockingCache {
        &self.cache.as_ref().unwrap().cache
    }

    fn take(&mut self, step: Step) -> Result<(), CacheError> {
        let start = self.disk.changes();
        let version = self.next_version;
        self.next_version += 1;
        let result = self.perform(step, version);
        let end = self.disk.changes();
        let after = self
            .cache
            .as_ref()
            .map_or_else(View::default, |cache| self.disk.aside(|| view(cache)));
        self.taken.push(Taken {
            step,
            changes: start..end,
            version,
            done: result.is_ok(),
            after,
        });
        result
    }

    fn perform(&mut self, step: Step, version: u64) -> Result<(), CacheError> {
        let cache = self.cache().clone();
        match step {
            Step::Put((a, p), len) => cache.put_atomic(&asset(a), &path(p), content(version, len))?,
            Step::Stream((a, p), len) | Step::Drop((a, p), len) => {
                let mut staged = cache.stage(&asset(a), &path(p))?;
                let bytes = content(version, len);
                let (head, tail) = (bytes.slice(..bytes.len() / 3), bytes.slice(bytes.len() / 3..));
                staged.write(&[head])?;
                staged.write(&[tail])?;
                if let Step::Stream(..) = step {
                    staged.commit()?;
                    cache.tidy();
                }
            }
            Step::RemoveEntry((a, p)) => drop(cache.remove_entry(&asset(a), &path(p))?),
            Step::Remove(a) => match cache.remove(&asset(a)) {
                Err(CacheError::InUse { .. }) => {}
                removed => drop(removed?),
            },
            Step::Pin(a) => cache.pin(&asset(a))?,
            Step::Unpin(a) => cache.unpin(&asset(a))?,
            Step::Lease(a) => self.leases.push(cache.lease(&asset(a))),
            Step::Unlease => drop(self.leases.pop()),
            Step::Get((a, p)) => drop(cache.get(&asset(a), &path(p))?),
            Step::Checkpoint => cache.checkpoint()?,
            Step::Clear => drop(cache.clear()?),
            Step::Reopen => {
                self.leases.clear();
                drop(cache);
                drop(self.cache.take());
                self.cache = Some(open(&self.disk, self.durability)?);
            }
        }
        Ok(())
    }

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
        for name in names() {
            let versions = begun.iter().enumerate().filter(|(_, taken)| match taken.step {
                Step::Put(put, _) | Step::Stream(put, _) => put == name,
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

/// The accounts equal the disk, and count at least what is on it.
fn accounts(disk: &FakeDisk, cache: &BlockingCache, when: &str) {
    let stats = disk.aside(|| cache.stats().unwrap());
    assert_eq!(
        stats.asset_bytes,
        disk.bytes_in("/assets"),
        "accounts and disk differ {when}: {:?}",
        disk.files()
    );
    assert!(
        stats.bytes >= disk.bytes(),
        "more on disk than counted {when}: {:?}",
        disk.files()
    );
}

/// Nothing of ours is left over, the accounts equal the disk, what is listed can be read, and the cache works.
fn sound(disk: &FakeDisk, cache: &BlockingCache) {
    let files = disk.files();
    let leftovers: Vec<_> = files
        .iter()
        .filter(|file| file.contains("/.") && !file.ends_with("/.pin") || file.starts_with("/trash/"))
        .collect();
    assert!(leftovers.is_empty(), "left over: {leftovers:?}");
    accounts(disk, cache, "after opening");
    let mut entries = 0;
    for info in cache.assets().unwrap() {
        let listed = cache.entries(&info.id).unwrap();
        entries += info.files;
        assert_eq!(info.files, listed.len() as u64, "{files:?}");
        for entry in listed {
            let opened = cache.open(&info.id, &entry.path).unwrap().unwrap();
            assert!(opened.verify(&info.id, &entry.path).unwrap());
        }
    }
    assert_eq!(cache.stats().unwrap().entries, entries);
    match cache.put_atomic(&asset(ASSETS), &path(0), content(7, 100)) {
        // What is pinned may fill it.
        Err(CacheError::CacheFull { .. }) => return,
        put => put.unwrap(),
    }
    assert!(cache.get(&asset(ASSETS), &path(0)).unwrap().is_some());
    accounts(disk, cache, "after a put");
    assert!(disk.bytes() <= MAX_BYTES, "{} bytes after a put", disk.bytes());
}

/// A put, overwrites, growth, a writer dropped, evictions, removals, pins, checkpoints and a second session.
fn story() -> Vec<Step> {
    use Step::*;
    vec![
        Put((0, 0), 900),
        Put((0, 1), 700),
        Checkpoint,
        Put((1, 0), 300),
        Put((0, 0), 200),
        Put((0, 0), 1200),
        Stream((2, 2), 500),
        Drop((2, 2), 600),
        Pin(2),
        Get((1, 0)),
        Put((3, 0), 1500),
        Lease(1),
        Put((3, 1), 1300),
        Stream((4, 0), 2000),
        Checkpoint,
        Put((0, 2), 1800),
        Unlease,
        Put((3, 2), 100),
        RemoveEntry((3, 2)),
        Unpin(2),
        Put((1, 0), 800),
        Remove(1),
        Put((1, 1), 250),
        Reopen,
        Get((2, 2)),
        Put((4, 1), 900),
        Put((0, 0), 1000),
        Pin(0),
        Put((2, 2), 64),
        Checkpoint,
        Put((3, 0), 1700),
        Clear,
        Put((1, 2), 333),
        Reopen,
        Unpin(0),
        Put((0, 1), 8),
    ]
}

fn random_step(dice: &mut Dice) -> Step {
    let name = (
        u8::try_from(dice.below(ASSETS.into())).unwrap(),
        u8::try_from(dice.below(PATHS.into())).unwrap(),
    );
    let len = usize::try_from(8 + dice.below(1800)).unwrap();
    match dice.below(24) {
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
        _ => Step::Reopen,
    }
}

/// Takes all steps; refusals of the limit are fine.
fn run(steps: &[Step], durability: Durability) -> Run {
    let mut run = Run::new(FakeDisk::default(), durability);
    for &step in steps {
        match run.take(step) {
            Ok(()) | Err(CacheError::CacheFull { .. }) => {}
            Err(error) => panic!("{step:?}: {error}"),
        }
        accounts(&run.disk, run.cache(), &format!("after {step:?}"));
    }
    assert!(
        run.disk.peak() <= MAX_BYTES,
        "{} bytes at the most",
        run.disk.peak()
    );
    run
}

/// Cuts the power `times` times after each change of a run, and says how many machines were looked at.
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

fn cut_story(durability: Durability) {
    let run = run(&story(), durability);
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
        let context = Context(format!("… session {seed}, {durability:?}"));
        cut(&run(&steps, durability), 2, seed);
        drop(context);
    }
}

/// Runs the story with a fault, and checks after each step what a failed call may and may not have done.
fn fail_story(steps: &[Step], fault: Fault) {
    let mut run = Run::new(FakeDisk::default(), Durability::Full);
    run.disk.set_fault(Some(fault));
    let mut before = View::default();
    for &step in steps {
        let result = run.take(step);
        if run.cache.is_none() {
            // It could not be opened, and said so.
            run.disk.set_fault(None);
            run.cache = Some(open(&run.disk, Durability::Full).unwrap());
        }
        match &result {
            Ok(()) | Err(CacheError::CacheFull { .. } | CacheError::Io { .. }) => {}
            Err(error) => panic!("{step:?}: {error}"),
        }
        let after = run.disk.aside(|| view(run.cache()));
        let version = run.next_version - 1;
        for name in names() {
            let (was, is) = (before.entries.get(&name), after.entries.get(&name));
            let written = matches!(step, Step::Put(put, _) | Step::Stream(put, _) if put == name);
            let removed = matches!(step, Step::RemoveEntry(gone) if gone == name);
            match is {
                Some(is) if written && *is == version => {}
                Some(_) => assert!(
                    is == was && !(written && result.is_ok()),
                    "{step:?} changed {name:?}"
                ),
                None => assert!(!(written && result.is_ok()), "{step:?} is not there"),
            }
            if was.is_some() && is.is_none() && !removed {
                let held = run.leases.iter().any(|lease| *lease.asset() == asset(name.0));
                assert!(
                    !held && !before.pinned.contains(&name.0),
                    "{step:?} took {name:?}"
                );
            }
        }
        before = after;
    }
    run.disk.set_fault(None);
    assert!(
        run.disk.peak() <= MAX_BYTES,
        "{} bytes at the most",
        run.disk.peak()
    );
    // What could not be removed may still be there; all else is as if nothing had happened.
    run.cache().checkpoint().unwrap();
    let before = view(run.cache());
    let staged: Vec<_> = run
        .disk
        .files()
        .into_iter()
        .filter(|file| file.contains("/.stage"))
        .collect();
    let failing = run.disk.call_name(fault.at);
    assert!(
        staged.is_empty() || failing == "remove_file",
        "left over: {staged:?}"
    );
    if staged.is_empty() {
        accounts(&run.disk, run.cache(), "in the end");
    }
    drop(run.cache.take());
    let disk = run.disk.settled();
    let cache = open(&disk, Durability::Full).unwrap();
    assert_eq!(view(&cache), before);
    sound(&disk, &cache);
}

/// C11, fault C10: every call of the disk fails once, or from then on, with each error.
#[test]
fn a_disk_that_fails_at_any_call_gives_a_typed_error_and_true_accounts() {
    let steps = story();
    let whole = run(&steps, Durability::Full);
    let calls = whole.disk.calls();
    let errors = [
        libc::ENOSPC,
        libc::EIO,
        libc::EROFS,
        libc::EMFILE,
        libc::EDQUOT,
        libc::EACCES,
    ];
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= calls {
                        return;
                    }
                    for turn in 0..2 {
                        let fault = Fault {
                            at,
                            lasting: turn == 1,
                            error: errors[(at + turn) % errors.len()],
                        };
                        if catch_unwind(|| fail_story(&steps, fault)).is_err() {
                            failed.lock().unwrap().push((whole.disk.call_name(at), fault));
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(
        failed.is_empty(),
        "{} of {}: {failed:#?}",
        failed.len(),
        2 * calls
    );
}

/// C11, fault C19: a disk smaller than the limit. What fits after evicting is stored.
#[test]
fn on_a_full_disk_assets_are_evicted_and_the_put_tried_once_more() {
    let mut run = Run::new(FakeDisk::default(), Durability::Full);
    run.disk.set_room(Some(MAX_BYTES / 2));
    for step in story() {
        match run.take(step) {
            Ok(()) => {}
            Err(error) => assert!(error.is_full(), "{step:?}: {error}"),
        }
        accounts(&run.disk, run.cache(), &format!("after {step:?}"));
    }
    run.take(Step::Clear).unwrap();
    for number in 0..ASSETS {
        run.take(Step::Unpin(number)).unwrap();
        run.take(Step::Put((number, 0), 1500)).unwrap();
    }
    assert!(run.cache().contains(&asset(ASSETS - 1), &path(0)).unwrap());
}

/// C8: a session whose clock ran ahead has left an index with uses in the future. What is used now is still the newest.
#[test]
fn uses_recorded_by_a_clock_that_ran_ahead_are_older_than_uses_now() {
    let disk = FakeDisk::default();
    let session = open(&disk, Durability::Full).unwrap();
    let tomorrow = Stamp(Stamp::now().0 + 86_400_000_000);
    for number in 0..3 {
        session
            .put_atomic(&asset(number), &path(0), content(number.into(), 1700))
            .unwrap();
        session.index.touch(&asset(number), tomorrow);
    }
    drop(session);
    let session = open(&disk, Durability::Full).unwrap();
    session.get(&asset(0), &path(0)).unwrap().unwrap();
    session.put_atomic(&asset(3), &path(0), content(3, 3500)).unwrap();
    let there = |number| session.contains(&asset(number), &path(0)).unwrap();
    assert!(there(0) && there(3), "used last");
    assert!(!there(1) && !there(2));
}

/// C5, fault C10: eight threads under a limit that a few entries fill. The disk counts at every change.
#[test]
fn a_crowd_never_takes_the_disk_above_the_limit() {
    let disk = FakeDisk::default();
    let session = open(&disk, Durability::Ordered).unwrap();
    thread::scope(|scope| {
        for worker in 0..8 {
            let cache = &session.cache;
            scope.spawn(move || {
                let mut dice = Dice(worker);
                for round in 0..150 {
                    let name = names().nth(usize::try_from(dice.below(15)).unwrap()).unwrap();
                    let len = usize::try_from(dice.below(2500)).unwrap();
                    let done = if dice.coin(7) {
                        cache.put_atomic(&asset(name.0), &path(name.1), content(worker * 1000 + round, len))
                    } else {
                        cache.get(&asset(name.0), &path(name.1)).map(|read| {
                            assert!(read.as_ref().map(version).is_none_or(|version| version < 8000));
                        })
                    };
                    match done {
                        Ok(()) | Err(CacheError::CacheFull { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    assert!(disk.peak() <= MAX_BYTES, "{} bytes at the most", disk.peak());
    accounts(&disk, &session, "after the crowd");
}

//! A clock that goes back, and one that ran ahead.

use super::*;
use kithara::cache::{AssetInfo, EvictingStore, LeaseStore, MaxAge, MemoryStore, Store, Timestamp};

const DAY: Duration = Duration::from_secs(86_400);

/// All assets, the least recently used first.
fn order(cache: &BlockingCache) -> Vec<u8> {
    let number = |id: &AssetId| (0..=ASSETS).find(|&n| asset(n) == *id).unwrap();
    let assets = cache.assets().unwrap();
    assets.iter().map(|info| number(&info.id)).collect()
}

fn put(cache: &BlockingCache, number: u8, len: usize) {
    let bytes = content(number.into(), len);
    cache.put_atomic(&asset(number), &path(0), bytes).unwrap();
}

fn play(cache: &BlockingCache, number: u8) {
    cache.get(&asset(number), &path(0)).unwrap().unwrap();
}

/// C8: a session whose clock ran ahead has left an index with uses in the future. What is used now is still the newest.
#[test]
fn uses_recorded_by_a_clock_that_ran_ahead_are_older_than_uses_now() {
    let disk = FakeDisk::default();
    let session = open(&disk, Durability::Full).unwrap();
    let tomorrow = Timestamp::now().0 + u64::try_from(DAY.as_micros()).unwrap();
    for number in 0..3 {
        session
            .put_atomic(&asset(number), &path(0), content(number.into(), 1700))
            .unwrap();
        let accounts = session.index().accounts();
        accounts.touch(&asset(number), Timestamp(tomorrow)).unwrap();
    }
    drop(session);
    let session = open(&disk, Durability::Full).unwrap();
    session.get(&asset(0), &path(0)).unwrap().unwrap();
    session.put_atomic(&asset(3), &path(0), content(3, 3500)).unwrap();
    let there = |number| session.contains(&asset(number), &path(0)).unwrap();
    assert!(there(0) && there(3), "used last");
    assert!(!there(1) && !there(2));
}

/// C8: the same where the layers are put together by hand, as soon as they know what is there.
#[test]
fn uses_now_are_newer_than_any_that_the_layers_below_tell_of() {
    let index = IndexStore::scanned(MemoryStore::new()).unwrap();
    let tomorrow = Timestamp::now().0 + u64::try_from(DAY.as_micros()).unwrap();
    index.put(&asset(0), &path(0), content(0, 100)).unwrap();
    index.accounts().touch(&asset(0), Timestamp(tomorrow)).unwrap();
    let below = IndexStore::scanned(index).unwrap();
    below.accounts().touch(&asset(0), Timestamp(tomorrow)).unwrap();
    let store = stack(below, Lru::new(), MAX_BYTES);
    store.put(&asset(1), &path(0), content(1, 100)).unwrap();
    let used = |number| store.asset(&asset(number)).unwrap().unwrap().last_access;
    assert!(used(1) > used(0));
    // And where they tell it later.
    let inner = IndexStore::scanned(MemoryStore::new()).unwrap();
    let outer = IndexStore::scanned(inner.clone()).unwrap();
    inner.put(&asset(0), &path(0), content(0, 100)).unwrap();
    inner.accounts().touch(&asset(0), Timestamp(tomorrow)).unwrap();
    testing::refresh(&outer, &asset(0));
    outer.put(&asset(1), &path(0), content(1, 100)).unwrap();
    let used = |number| outer.asset(&asset(number)).unwrap().unwrap().last_access;
    assert!(used(1) > used(0) && used(0) > Timestamp(tomorrow));
}

/// C8: a clock that is set back, and back again, while the cache is open. What was used last is the newest all the same,
/// goes last, and is remembered so.
#[test]
fn a_clock_set_back_within_a_session_leaves_uses_in_their_order() {
    let disk = FakeDisk::default();
    let session = open(&disk, Durability::Full).unwrap();
    for number in 0..4 {
        set_clock_back(DAY * number.into());
        put(&session, number, 1100);
    }
    assert_eq!(order(&session), [0, 1, 2, 3]);
    set_clock_back(DAY * 9);
    play(&session, 1);
    set_clock_back(DAY * 20);
    play(&session, 0);
    assert_eq!(order(&session), [2, 3, 1, 0]);
    put(&session, 4, 3600);
    assert_eq!(order(&session), [1, 0, 4]);
    drop(session);
    let session = open(&disk, Durability::Full).unwrap();
    assert_eq!(order(&session), [1, 0, 4]);
    sound(&disk, &session);
}

/// C8: each session's clock is a day behind the one before: after a clean close the order is kept, after a crash that of
/// the last checkpoint.
#[test]
fn a_clock_set_back_between_sessions_leaves_uses_in_their_order() {
    let disk = FakeDisk::default();
    let session = open(&disk, Durability::Full).unwrap();
    for number in 0..3 {
        put(&session, number, 1100);
    }
    drop(session);
    let mut wanted = vec![0, 1, 2];
    for day in 1..6 {
        set_clock_back(DAY * day);
        let session = open(&disk, Durability::Full).unwrap();
        assert_eq!(order(&session), wanted);
        play(&session, wanted[0]);
        wanted.rotate_left(1);
        assert_eq!(order(&session), wanted);
        session.checkpoint().unwrap();
        // Lost with the power below.
        play(&session, wanted[0]);
        let crashed = disk.power_cut(disk.changes(), &mut Dice(1));
        assert_eq!(order(&open(&crashed, Durability::Full).unwrap()), wanted);
        wanted.rotate_left(1);
        drop(session);
    }
    // What was recorded in the days ahead goes first.
    let session = open(&disk, Durability::Full).unwrap();
    put(&session, 4, 3500);
    assert_eq!(order(&session), [wanted[1], wanted[2], 4]);
    sound(&disk, &session);
}

/// C8: what was put after the last checkpoint is, after a kill, no older than what was there before.
#[test]
fn what_was_put_just_before_a_kill_is_not_the_first_to_go() {
    let disk = FakeDisk::default();
    set_clock_back(DAY);
    let session = open(&disk, Durability::Full).unwrap();
    put(&session, 0, 1100);
    session.checkpoint().unwrap();
    set_clock_back(Duration::ZERO);
    put(&session, 1, 1100);
    let killed = disk.settled();
    assert_eq!(order(&open(&killed, Durability::Full).unwrap()), [0, 1]);
}

/// C3, C8: without an index the times of the files are all there is, and they may lie in the future. What is used now is
/// newer.
#[test]
fn files_from_the_future_are_older_than_uses_now() {
    let disk = FakeDisk::default();
    let session = open(&disk, Durability::Full).unwrap();
    for number in 0..3 {
        put(&session, number, 1100);
    }
    drop(session);
    disk.aside(|| {
        disk.remove_file(Path::new("/index/snapshot")).unwrap();
    });
    set_clock_back(DAY * 3);
    let session = open(&disk, Durability::Full).unwrap();
    play(&session, 1);
    put(&session, 3, 3000);
    let left = order(&session);
    assert_eq!(left[left.len() - 2..], [1, 3]);
    sound(&disk, &session);
}

/// C8: what a scan finds is older than what was used in this session, whatever its files' times say. The scan may come across
/// it after the use.
#[test]
fn what_a_scan_finds_later_is_older_than_what_was_used_before() {
    let disk = FakeDisk::default();
    set_clock_back(DAY * 3);
    let first = scanned_index(&disk);
    first.put(&asset(0), &path(0), content(0, 100)).unwrap();
    testing::seal(&first);
    set_clock_back(Duration::ZERO);
    let foreign = store_on(&disk, Durability::Full).unwrap();
    foreign.put(&asset(1), &path(0), content(1, 100)).unwrap();
    set_clock_back(DAY * 3);
    let second = IndexStore::open(store_on(&disk, Durability::Full).unwrap(), true).unwrap();
    second.accounts().touch(&asset(0), Timestamp::default()).unwrap();
    second.scan().unwrap();
    let used = |number| second.asset(&asset(number)).unwrap().unwrap().last_access;
    assert!(used(1) < used(0));
}

/// C3: a change from outside is found by the next session, also if this session wrote to the asset afterwards and so gave its
/// directory a new time.
#[test]
fn a_change_from_outside_is_found_though_the_cache_wrote_after_it() {
    for scanned in [false, true] {
        let disk = FakeDisk::default();
        let index = || {
            let files = store_on(&disk, Durability::Full).unwrap();
            IndexStore::open(files, true).unwrap()
        };
        let put = |index: &IndexStore<FsStore>, file| {
            index.put(&asset(0), &path(file), content(1, 500)).unwrap();
        };
        set_clock_back(Duration::from_secs(100));
        let first = index();
        first.scan().unwrap();
        put(&first, 0);
        testing::seal(&first);
        set_clock_back(Duration::from_secs(90));
        let second = index();
        if scanned {
            second.scan().unwrap();
        }
        disk.aside(|| {
            let dir = dir_of(&asset(0));
            let mut foreign = disk.create_new(&Path::new(&dir).join("foreign")).unwrap();
            foreign.append(&[content(1, 300)]).unwrap();
        });
        set_clock_back(Duration::from_secs(80));
        put(&second, 1);
        set_clock_back(Duration::ZERO);
        testing::seal(&second);
        let third = index();
        third.scan().unwrap();
        let bytes = |info: Option<AssetInfo>| info.unwrap().bytes;
        let there = third.inner().asset(&asset(0)).unwrap();
        assert_eq!(bytes(third.asset(&asset(0)).unwrap()), bytes(there), "{scanned}");
    }
}

/// C3, fault C20: a change from outside is found by the next miss, though a file was staged in the folder since.
#[test]
fn a_change_from_outside_is_found_though_the_cache_staged_a_file_after_it() {
    let disk = FakeDisk::default();
    let index = scanned_index(&disk);
    set_clock_back(Duration::from_secs(100));
    index.put(&asset(0), &path(0), content(1, 500)).unwrap();
    set_clock_back(Duration::from_secs(50));
    let file = format!("{}/{}", dir_of(&asset(0)), path(0));
    disk.aside(|| disk.remove_file(Path::new(&file)).unwrap());
    set_clock_back(Duration::ZERO);
    let staged = index.stage(&asset(0), &path(1)).unwrap();
    assert!(index.get(&asset(0), &path(0)).unwrap().is_none());
    assert!(index.asset(&asset(0)).unwrap().is_none());
    drop(staged);
}

/// C3, C5: a partial file grows in place, and its folder's time does not tell.
#[test]
fn a_partial_file_that_grew_is_counted_though_the_index_did_not_hear_of_it() {
    let disk = FakeDisk::default();
    let index = || scanned_index(&disk);
    set_clock_back(Duration::from_secs(1000));
    let first = index();
    first.put(&asset(0), &path(0), content(1, 500)).unwrap();
    let dir = dir_of(&asset(0));
    let partial = Path::new(&dir).join(".part-seg");
    disk.aside(|| {
        let record = partial.with_file_name(".part-seg~ranges");
        for (file, len) in [(&partial, 300), (&record, 10)] {
            disk.create_new(file).unwrap().append(&[content(1, len)]).unwrap();
        }
    });
    testing::seal(&first);
    set_clock_back(Duration::from_secs(500));
    testing::seal(&index());
    disk.aside(|| {
        disk.open_partial(&partial)
            .unwrap()
            .append(&[content(1, 400)])
            .unwrap();
    });
    set_clock_back(Duration::ZERO);
    let last = index();
    let bytes = |info: Option<AssetInfo>| info.unwrap().bytes;
    let there = last.inner().asset(&asset(0)).unwrap();
    assert_eq!(bytes(last.asset(&asset(0)).unwrap()), bytes(there));
}

/// Ages are never negative: what was used in what is now the future is not too old, and neither is what is used now.
#[test]
fn a_clock_set_back_makes_nothing_too_old() {
    let index = IndexStore::scanned(MemoryStore::new()).unwrap();
    let store = stack(index, MaxAge::new(DAY / 2), MAX_BYTES);
    let there = || {
        (0..3)
            .filter(|&n| store.exists(&asset(n), &path(0)).unwrap())
            .count()
    };
    let put = |n: u8| store.put(&asset(n), &path(0), content(n.into(), 100)).unwrap();
    put(0);
    set_clock_back(DAY * 3);
    put(1);
    store.checkpoint().unwrap();
    put(2);
    store.checkpoint().unwrap();
    assert_eq!(there(), 3);
    // And a clock that is right again makes too old only what is.
    set_clock_back(Duration::ZERO);
    store.checkpoint().unwrap();
    assert_eq!(there(), 3);
}

/// Ages are told by no clock that is behind the last access: what was too old then is too old.
#[test]
fn a_clock_set_back_makes_nothing_young_again() {
    let index = IndexStore::scanned(MemoryStore::new()).unwrap();
    let store = stack(index, MaxAge::new(DAY / 2), MAX_BYTES);
    set_clock_back(DAY * 3);
    put_in(&store, 0);
    set_clock_back(Duration::ZERO);
    put_in(&store, 1);
    set_clock_back(DAY * 3);
    store.checkpoint().unwrap();
    set_clock_back(Duration::ZERO);
    let there = |n| store.exists(&asset(n), &path(0)).unwrap();
    assert!(!there(0) && there(1));
}

fn put_in(store: &impl Store, number: u8) {
    store
        .put(&asset(number), &path(0), content(number.into(), 100))
        .unwrap();
}

/// A session over what is on the disk, whose assets may be no older than `limit`.
fn aging(disk: &FakeDisk, limit: Duration) -> impl Store + Checkpoints {
    stack(scanned_index(disk), MaxAge::new(limit), MAX_BYTES)
}

trait Checkpoints {
    /// How many assets are there after a checkpoint.
    fn left(&self) -> usize;
    fn seal(&self);
}

impl Checkpoints for EvictingStore<LeaseStore<IndexStore<FsStore>>, MaxAge> {
    fn left(&self) -> usize {
        self.checkpoint().unwrap();
        self.list().unwrap().len()
    }

    fn seal(&self) {
        testing::seal(self.inner().inner());
    }
}

/// W63: after one session under a clock of the future, ages still grow.
#[test]
fn w63_a_session_under_a_clock_of_the_future_does_not_freeze_ages() {
    let disk = FakeDisk::default();
    let future = aging(&disk, DAY);
    put_in(&future, 0);
    future.seal();
    drop(future);
    // The clock that is right now is three days behind that one's.
    set_clock_back(DAY * 3);
    let session = aging(&disk, Duration::ZERO);
    put_in(&session, 1);
    // Both were used before this moment, if only just.
    assert_eq!(session.left(), 0);
}

/// W63: a clock that starts in the past, as one without a battery does, and is set right while the cache is open. Nothing
/// becomes too old by that.
#[test]
fn w63_a_clock_that_is_set_right_in_a_session_makes_nothing_too_old() {
    let disk = FakeDisk::default();
    let first = aging(&disk, DAY);
    put_in(&first, 0);
    first.seal();
    drop(first);
    set_clock_back(DAY * 10_000);
    let session = aging(&disk, DAY);
    put_in(&session, 1);
    set_clock_back(Duration::ZERO);
    put_in(&session, 2);
    assert_eq!(session.left(), 3);
    session.seal();
    drop(session);
    assert_eq!(aging(&disk, DAY).left(), 3, "nor for the next session");
}

/// W63: what was used under the clock of the future is too old like all else, once its time has come.
#[test]
fn w63_what_was_used_in_the_future_ages_from_there() {
    let disk = FakeDisk::default();
    set_clock_back(DAY * 10);
    let future = aging(&disk, DAY);
    put_in(&future, 0);
    future.seal();
    drop(future);
    set_clock_back(DAY * 13);
    let session = aging(&disk, DAY);
    put_in(&session, 1);
    assert_eq!(session.left(), 2);
    session.seal();
    drop(session);
    // Later than all of it by more than the limit.
    set_clock_back(Duration::ZERO);
    let later = aging(&disk, DAY);
    assert_eq!(later.left(), 0);
}

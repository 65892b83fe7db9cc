//! A disk that is full before the cache is, and one that counts at every change.

use std::thread;

use super::*;

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

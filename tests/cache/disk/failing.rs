//! A disk that fails at every call.

use std::num::NonZero;
use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::*;
use kithara::cache::Timestamp;
use kithara::storage::testing::{Fault, Later};

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
            Ok(())
            | Err(CacheError::CacheFull { .. } | CacheError::Io { .. } | CacheError::Unremovable { .. }) => {}
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

/// C2, C11: part of what could not be written may be in the file: the version is never committed, though the next write would
/// go well.
#[test]
fn a_staged_entry_that_a_write_failed_for_is_never_committed() {
    let disk = FakeDisk::default();
    let store = store_on(&disk, Durability::Full).unwrap();
    let mut staged = store.stage(&asset(0), &path(0)).unwrap();
    staged.write(&[content(1, 100)]).unwrap();
    disk.set_room(Some(100));
    let error = staged.write(&[content(2, 100)]).unwrap_err();
    assert!(error.is_full(), "{error}");
    disk.set_room(None);
    let error = staged.write(&[content(3, 100)]).unwrap_err();
    assert!(matches!(error, CacheError::Abandoned), "{error}");
    staged.commit().unwrap_err();
    assert!(!store.exists(&asset(0), &path(0)).unwrap());
    assert_eq!(disk.bytes(), 0);
}

/// C5, C8, C11, fault C10: the first put of an asset failed after the rename, because the directory could not be synced. The
/// asset is like any other: it has a last access, and is evicted when room is needed.
#[test]
fn an_asset_whose_first_put_failed_in_the_end_may_go() {
    let put = |session: &ManualCache, number, len| {
        session.put_atomic(&asset(number), &path(0), content(number.into(), len))
    };
    let whole = FakeDisk::default();
    let first = open(&whole, Durability::Full).unwrap();
    put(&first, 0, 3000).unwrap();
    let at = (0..whole.calls()).rfind(|&call| whole.call_name(call) == "sync_dir");
    let disk = FakeDisk::default();
    let session = open(&disk, Durability::Full).unwrap();
    disk.set_fault(Some(Fault {
        at: at.unwrap(),
        later: Later::Work,
        error: libc::EIO,
    }));
    put(&session, 0, 3000).unwrap_err();
    let info = session.asset(&asset(0)).unwrap().unwrap();
    assert_ne!(info.last_access, Timestamp::default());
    put(&session, 1, 4500).unwrap();
    assert!(!session.contains(&asset(0), &path(0)).unwrap());
    accounts(&disk, &session, "in the end");
}

/// C11, fault C10: every call of the disk fails once, or from then on, with each error.
#[test]
fn a_disk_that_fails_at_any_call_gives_a_typed_error_and_true_accounts() {
    let steps = story();
    let whole = run(&steps, Durability::Full, Duration::ZERO);
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
                    for (way, later) in [Later::Work, Later::SameFail].into_iter().enumerate() {
                        let fault = Fault {
                            at,
                            later,
                            error: errors[(at + way) % errors.len()],
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

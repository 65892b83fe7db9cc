//! What machines do: a disk that is full, no file descriptors left, a lock holder killed, the clock set back.

use std::fs::{File, FileTimes};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use kithara::cache::{AssetCache, BlockingCache, CacheError};

use crate::child;
use crate::scene::{asset, close, content, du, files, open, path, prepare, say, sound, version};

/// Runs a child under a shell command that ends in `exec "$@"`.
pub(crate) fn under(shell: &str, scene: &str, root: &Path) -> Result<(), String> {
    let child = child::command(scene, root);
    let mut command = Command::new("sh");
    command
        .args(["-c", shell, "sh"])
        .arg(child.get_program())
        .args(child.get_args());
    for (name, value) in child.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let output = command.output().unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    if output.status.success() && text.contains("played ok") {
        Ok(())
    } else {
        Err(text)
    }
}

pub(crate) fn child(scene: &str, root: &Path) {
    match scene {
        "full" => full(root),
        "descriptors" => descriptors(root),
        "short" => short(root),
        other => crate::places::child(other, root),
    }
    println!("\nplayed ok");
}

/// C11, fault C19: a real file system of 2 MiB under a limit of 100.
#[test]
fn a_full_file_system_evicts_and_then_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mounted = |unshare: &str| {
        let shell = format!(
            r#"exec unshare {unshare} sh -c 'mount -t tmpfs -o size=2m none "$0" && exec "$@"' "{}" "$@""#,
            dir.path().display()
        );
        (
            Command::new("unshare")
                .args(unshare.split(' '))
                .args(["mount", "-t", "tmpfs", "none"])
                .arg(dir.path())
                .status(),
            shell,
        )
    };
    for unshare in ["-Urm", "-m"] {
        let (tried, shell) = mounted(unshare);
        if tried.is_ok_and(|status| status.success()) {
            return under(&shell, "full", dir.path()).unwrap();
        }
    }
    say("SKIPPED: a full file system needs `unshare -Urm`, or root");
}

fn full(root: &Path) {
    let cache = AssetCache::builder(root.join("cache"))
        .max_bytes(100 << 20)
        .open_blocking()
        .unwrap();
    let blocking = cache.blocking();
    // Ten times what there is room for: what was used least goes.
    for n in 0..200_u8 {
        blocking
            .put_atomic(&asset(&n.to_string()), &path("a"), content(n, 100_000))
            .unwrap();
        check_full(&root.join("cache"), blocking);
    }
    assert!(blocking.get(&asset("199"), &path("a")).unwrap().is_some());
    assert!(blocking.get(&asset("0"), &path("a")).unwrap().is_none());
    // Nothing may go: it is told, and nothing is lost.
    let before: Vec<_> = blocking.assets().unwrap();
    for info in &before {
        blocking.pin(&info.id).unwrap();
    }
    for _ in 0..5 {
        let error = blocking
            .put_atomic(&asset("big"), &path("a"), content(7, 1_500_000))
            .unwrap_err();
        assert!(error.is_full(), "{error:?}");
        check_full(&root.join("cache"), blocking);
    }
    for info in &before {
        assert!(blocking.get(&info.id, &path("a")).unwrap().is_some());
        blocking.unpin(&info.id).unwrap();
    }
    blocking
        .put_atomic(&asset("big"), &path("a"), content(7, 1_500_000))
        .unwrap();
    drop(before);
    let root = root.join("cache");
    check_full(&root, blocking);
    close(cache);
    let cache = AssetCache::builder(&root)
        .max_bytes(100 << 20)
        .open_blocking()
        .unwrap();
    assert_eq!(
        version(&cache.blocking().get(&asset("big"), &path("a")).unwrap().unwrap()),
        7
    );
}

fn check_full(root: &Path, cache: &BlockingCache) {
    // Asked first: it waits for nothing, the trash may still be on its way out.
    let stats = cache.stats().unwrap();
    let files = files(root);
    assert!(
        !files.iter().any(|(file, _)| file.contains("/.stage")),
        "left over: {files:?}"
    );
    let on_disk: u64 = files
        .iter()
        .filter(|(file, _)| file.starts_with("assets/"))
        // Its limit is no small one, so entries count in whole units.
        .map(|(_, len)| len.next_multiple_of(4096))
        .sum();
    assert_eq!(stats.asset_bytes, on_disk, "{files:?}");
}

/// C11: no descriptor is left for the file to be written, or read.
#[test]
fn a_process_without_file_descriptors_gets_typed_errors_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    under(r#"ulimit -n 48; exec "$@""#, "descriptors", dir.path()).unwrap();
}

/// C11: no file may be longer than 32 KiB, so that a write is cut short and its rest fails.
#[test]
fn a_write_that_is_cut_short_is_an_error_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    under(r#"trap '' XFSZ; ulimit -f 64; exec "$@""#, "short", dir.path()).unwrap();
}

fn short(root: &Path) {
    let opened = AssetCache::builder(root).open_blocking().unwrap();
    let cache = opened.blocking();
    cache
        .put_atomic(&asset("old"), &path("a"), content(3, 20_000))
        .unwrap();
    for name in ["old", "fresh"] {
        let error = cache
            .put_atomic(&asset(name), &path("a"), content(9, 100_000))
            .unwrap_err();
        let CacheError::Io { source, .. } = &error else {
            panic!("{error:?}")
        };
        assert_eq!(source.kind(), std::io::ErrorKind::FileTooLarge);
        check_full(root, cache);
    }
    assert_eq!(
        version(&cache.get(&asset("old"), &path("a")).unwrap().unwrap()),
        3
    );
    assert!(cache.get(&asset("fresh"), &path("a")).unwrap().is_none());
    cache
        .put_atomic(&asset("fresh"), &path("a"), content(4, 20_000))
        .unwrap();
    check_full(root, cache);
}

/// The system's number of an error, which stands below the one that names the path.
fn os_error(error: &std::io::Error) -> Option<i32> {
    let mut error: &(dyn std::error::Error + 'static) = error;
    loop {
        if let Some(number) = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::raw_os_error)
        {
            return Some(number);
        }
        error = error.source()?;
    }
}

fn descriptors(root: &Path) {
    let cache = open(root).unwrap();
    let blocking = cache.blocking();
    prepare(blocking);
    futures_lite::future::block_on(cache.progress().finished());
    let mut held = Vec::new();
    let error = loop {
        match blocking.open(&asset("new"), &path("a")) {
            Ok(entry) => held.push(entry.unwrap()),
            Err(error) => break error,
        }
        assert!(held.len() < 100);
    };
    let too_many =
        |error: &CacheError| matches!(error, CacheError::Io { source, .. } if os_error(source) == Some(24));
    assert!(too_many(&error), "{error:?}");
    let before = du(root);
    for _ in 0..20 {
        for name in ["old", "fresh"] {
            let error = blocking
                .put_atomic(&asset(name), &path("b"), content(9, 1000))
                .unwrap_err();
            assert!(too_many(&error), "{error:?}");
        }
        assert_eq!(du(root), before);
    }
    for entry in &held {
        assert_eq!(version(&entry.read().unwrap()), 20, "who has it open reads on");
    }
    held.clear();
    blocking
        .put_atomic(&asset("old"), &path("b"), content(9, 1000))
        .unwrap();
    sound(root, &cache);
}

/// C7, C9, faults C4, C12, C26: the lock and the leases of a killed process are gone with it.
#[test]
fn a_killed_lock_holder_leaves_neither_lock_nor_lease() {
    let dir = tempfile::tempdir().unwrap();
    let mut holder = child::command("hold", dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "holding"));
    let refused = open(dir.path()).unwrap_err();
    assert!(refused.is_locked(), "{refused}");
    holder.kill().unwrap();
    holder.wait().unwrap();
    let cache = open(dir.path()).unwrap();
    let stats = cache.blocking().stats().unwrap();
    assert_eq!((stats.leased, stats.pinned, stats.assets), (0, 1, 3));
    assert!(
        cache.blocking().remove(&asset("old")).unwrap(),
        "leased by nobody"
    );
    sound(dir.path(), &cache);
}

/// C8: files from a day that has not come yet, as after the clock was set back. What is used now is still the newest.
#[test]
fn after_the_clock_was_set_back_recency_still_follows_use() {
    for index_lost in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let cache = open(root).unwrap();
        for name in ["a", "b", "c"] {
            cache
                .blocking()
                .put_atomic(&asset(name), &path("x"), content(1, 90_000))
                .unwrap();
        }
        close(cache);
        if index_lost {
            std::fs::remove_dir_all(root.join("index")).unwrap();
        }
        let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
        for name in ["a", "b", "c"] {
            let id = asset(name).name();
            let dir = root.join("assets").join(&id[..2]).join(&id);
            File::open(dir)
                .unwrap()
                .set_times(FileTimes::new().set_modified(tomorrow))
                .unwrap();
        }
        let cache = open(root).unwrap();
        futures_lite::future::block_on(cache.progress().finished());
        let blocking = cache.blocking();
        blocking.get(&asset("b"), &path("x")).unwrap().unwrap();
        blocking
            .put_atomic(&asset("d"), &path("x"), content(1, 90_000))
            .unwrap();
        // Room for one of the three that were there, and that is the one in use.
        blocking
            .put_atomic(&asset("e"), &path("x"), content(1, 180_000))
            .unwrap();
        let there = |name: &str| blocking.contains(&asset(name), &path("x")).unwrap();
        assert!(there("b") && there("e"), "index lost: {index_lost}");
        assert!(!there("a") && !there("c"), "index lost: {index_lost}");
        sound(root, &cache);
    }
}

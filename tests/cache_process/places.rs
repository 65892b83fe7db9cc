//! W25, W45, W46, C5, C31, C34: file systems as they are. Each needs root, or a program that may be missing; what cannot be had
//! here is skipped, with a word.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use kithara::cache::{AssetCache, CacheError, Durability, MissingProtection};

use crate::child;
use crate::machine::under;
use crate::scene::{asset, content, path, say};

const LIMIT: u64 = 4 << 20;

/// Whether a shell command works here; if not, `what` is skipped.
fn works(what: &str, shell: &str, dir: &Path) -> bool {
    let tried = Command::new("sh")
        .args(["-c", shell, "sh"])
        .arg(dir)
        .output()
        .unwrap();
    if !tried.status.success() {
        say(&format!(
            "SKIPPED: {what}: {}",
            String::from_utf8_lossy(&tried.stderr).trim()
        ));
    }
    tried.status.success()
}

/// Plays a scene in a mount namespace of its own, after `mount` has run in it with the folder as `$1`.
fn mounted(what: &str, mount: &str, scene: &str, dir: &Path) {
    let tried = format!(r#"unshare -m sh -c '{mount}' sh "$1""#);
    if works(what, &tried, dir) {
        let shell = format!(
            r#"exec unshare -m sh -c 'set -- "{}" "$@"; {mount} && shift && exec "$@"' sh "$@""#,
            dir.display()
        );
        under(&shell, scene, dir).unwrap();
    }
}

fn builder(root: &Path) -> AssetCache {
    AssetCache::builder(root)
        .max_bytes(LIMIT)
        .durability(Durability::Ordered)
        .open_blocking()
        .unwrap()
}

/// Fills a cache to its limit: the assets 0..20, the oldest first.
fn fill(root: &Path) {
    let cache = builder(root);
    for n in 0..20_u8 {
        put(&cache, n).unwrap();
    }
    crate::scene::close(cache);
}

fn put(cache: &AssetCache, n: u8) -> Result<(), CacheError> {
    cache
        .blocking()
        .put_atomic(&asset(&n.to_string()), &path("a"), content(n, 190_000))
}

fn is_there(cache: &AssetCache, n: u8) -> bool {
    let entry = cache.blocking().get(&asset(&n.to_string()), &path("a")).unwrap();
    entry.is_some_and(|bytes| bytes == content(n, 190_000))
}

/// What the regular files below `dir` take on the disk.
fn taken(dir: &Path) -> u64 {
    let each = |entry: std::fs::DirEntry| match entry.path().symlink_metadata() {
        Ok(meta) if meta.is_dir() => taken(&entry.path()),
        Ok(meta) if meta.is_file() => meta.blocks() * 512,
        _ => 0,
    };
    std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(each)
        .sum()
}

pub(crate) fn child(scene: &str, root: &Path) {
    match scene {
        "overlay" => overlay(root),
        "read-only" => read_only(root),
        "no-locks" => no_locks(root),
        "exfat" => exfat(root),
        "crowd" => crowd(root),
        other => panic!("no scene {other}"),
    }
}

/// W45, C34: what is in the lower layer of an overlay cannot be moved. It is evicted all the same.
#[test]
fn w45_on_an_overlay_the_assets_of_the_lower_layer_are_evicted() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["lower", "upper", "work", "root"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    fill(&dir.path().join("lower/cache"));
    let mount = r#"mount -t overlay none -o "lowerdir=$1/lower,upperdir=$1/upper,workdir=$1/work" "$1/root""#;
    mounted("an overlay needs root", mount, "overlay", dir.path());
}

fn overlay(dir: &Path) {
    let root = dir.join("root/cache");
    let probe = dir.join("root/cache/assets");
    let moved = std::fs::rename(&probe, dir.join("root/moved")).unwrap_err();
    assert_eq!(moved.kind(), std::io::ErrorKind::CrossesDevices);
    let cache = builder(&root);
    for n in 20..40 {
        put(&cache, n).unwrap();
        assert!(is_there(&cache, n));
    }
    assert!(!is_there(&cache, 0) && !is_there(&cache, 15) && is_there(&cache, 39));
    assert!(cache.blocking().remove(&asset("39")).unwrap());
    cache.blocking().checkpoint().unwrap();
    assert!(taken(&root) <= LIMIT, "{}", taken(&root));
    assert!(cache.missing_protection().is_empty());
}

/// Ends the immutability of a file, also when a test fails.
struct Immutable<'a>(&'a Path);

impl Drop for Immutable<'_> {
    fn drop(&mut self) {
        let _ = Command::new("chattr").arg("-i").arg(self.0).output();
    }
}

/// W45, C34: an immutable folder is told, and the next victims go. An immutable file in one goes to the trash and counts there.
#[test]
fn w45_what_is_immutable_stops_nothing_else() {
    for whole in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("cache");
        fill(&root);
        let oldest = asset("0");
        let folder = root.join("assets").join(&oldest.name()[..2]).join(oldest.name());
        let stuck = if whole { folder.clone() } else { folder.join("a") };
        if !works("immutable files need root and ext4", r#"chattr +i "$1""#, &stuck) {
            return;
        }
        let guard = Immutable(&stuck);
        let cache = builder(&root);
        for n in 20..40 {
            put(&cache, n).unwrap_or_else(|error| panic!("{n}: {error}"));
        }
        assert!(!is_there(&cache, 1) && is_there(&cache, 39));
        assert_eq!(is_there(&cache, 0), whole);
        if whole {
            let error = cache.blocking().remove(&oldest).unwrap_err();
            assert!(error.is_unremovable(), "{error:?}");
        }
        assert!(taken(&root) <= LIMIT);
        crate::scene::close(cache);
        // In the trash of an earlier session it counts, and stops nothing.
        let cache = builder(&root);
        for n in 40..60 {
            put(&cache, n).unwrap_or_else(|error| panic!("{n}: {error}"));
        }
        assert!(taken(&root) <= LIMIT, "{}", taken(&root));
        crate::scene::close(cache);
        let found = stuck.exists();
        drop(guard);
        if !found {
            // It stands in the trash, under another name.
            let moved = std::fs::read_dir(root.join("trash"))
                .unwrap()
                .flatten()
                .next()
                .unwrap();
            drop(Immutable(&moved.path().join("a")));
        }
        let cache = builder(&root);
        cache.blocking().remove(&oldest).unwrap();
        crate::scene::close(cache);
    }
}

/// W25, C31: a read-only mount plays what it has.
#[test]
fn w25_a_read_only_mount_is_read() {
    let dir = tempfile::tempdir().unwrap();
    fill(&dir.path().join("cache"));
    let mount = r#"mount --bind "$1" "$1" && mount -o remount,ro,bind "$1""#;
    mounted("a read-only mount needs root", mount, "read-only", dir.path());
}

/// W25, C31: another user's folder plays what it has.
#[test]
fn w25_another_users_folder_is_read() {
    let dir = tempfile::tempdir().unwrap();
    fill(&dir.path().join("cache"));
    let probe = r#"chmod -R a+rX "$1" && setpriv --reuid=65534 --regid=65534 --clear-groups ls "$1/cache" /proc/self/exe"#;
    let exe = std::env::current_exe().unwrap();
    if works("another user needs root and setpriv", probe, dir.path())
        && works(
            "another user needs this test program",
            r#"setpriv --reuid=65534 --regid=65534 --clear-groups test -x "$1""#,
            &exe,
        )
    {
        let shell = r#"exec setpriv --reuid=65534 --regid=65534 --clear-groups "$@""#;
        under(shell, "read-only", dir.path()).unwrap();
    }
}

fn read_only(dir: &Path) {
    let root = dir.join("cache");
    let (cache, second) = (builder(&root), builder(&root));
    for cache in [&cache, &second] {
        assert!(cache.is_read_only());
        assert!(is_there(cache, 19));
        assert!(cache.blocking().stats().unwrap().assets >= 18);
        assert!(put(cache, 20).unwrap_err().is_read_only());
        assert!(cache.blocking().remove(&asset("19")).unwrap_err().is_read_only());
        assert!(cache.blocking().pin(&asset("19")).unwrap_err().is_read_only());
        cache.blocking().checkpoint().unwrap();
    }
}

/// W25, C31: a kernel that answers ENOLCK to every lock. The cache opens, says so, and keeps everything.
#[test]
fn w25_without_locks_the_cache_opens_and_says_so() {
    if !crate::trace::works() {
        return;
    }
    for error in ["ENOLCK", "EOPNOTSUPP", "ENOSYS"] {
        let dir = tempfile::tempdir().unwrap();
        let shell = format!(
            r#"exec strace -f -qq -o /dev/null -e trace=flock -e signal=none -e inject=flock:error={error} "$@""#
        );
        under(&shell, "no-locks", dir.path()).unwrap();
    }
}

fn no_locks(dir: &Path) {
    let root = dir.join("cache");
    let cache = builder(&root);
    assert_eq!(cache.missing_protection(), [MissingProtection::FileLocks]);
    for n in 0..30 {
        put(&cache, n).unwrap();
    }
    let partial = cache
        .blocking()
        .partial(&asset("p"), &path("a"))
        .unwrap()
        .unwrap();
    let resource = partial.open::<std::io::Error>().unwrap();
    let mut writer = resource.writer().unwrap();
    writer.write_at(0, &content(1, 1000)).unwrap();
    partial.commit(&mut writer, 1000).unwrap();
    let again = AssetCache::builder(&root).open_blocking();
    assert!(again.unwrap_err().is_locked(), "within a process");
}

/// C31: exFAT, which knows neither holes nor owners.
#[test]
fn w25_an_exfat_image_keeps_what_it_is_given() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("root")).unwrap();
    let make =
        r#"truncate -s 64M "$1/image" && mkfs.exfat "$1/image" && command -v mount.exfat-fuse && losetup -f"#;
    if !works(
        "exFAT needs mkfs.exfat, mount.exfat-fuse and a loop device",
        make,
        dir.path(),
    ) {
        return;
    }
    let lent = Command::new("losetup")
        .args(["-f", "--show"])
        .arg(dir.path().join("image"))
        .output()
        .unwrap();
    let device = String::from_utf8_lossy(&lent.stdout).trim().to_owned();
    if device.is_empty() {
        return say("SKIPPED: exFAT needs a loop device");
    }
    // Not `exec`: the file system is a process, and ends with the mount.
    let shell = format!(
        r#"unshare -m sh -c 'mount.exfat-fuse {device} "{0}/root" && "$@"; code=$?; umount "{0}/root"; exit $code' sh "$@""#,
        dir.path().display()
    );
    let played = under(&shell, "exfat", dir.path());
    let _ = Command::new("losetup").args(["-d", &device]).status();
    played.unwrap();
}

fn exfat(dir: &Path) {
    let root = dir.join("root/cache");
    fill(&root);
    let cache = builder(&root);
    for n in 20..40 {
        put(&cache, n).unwrap();
        assert!(is_there(&cache, n));
    }
    assert!(!is_there(&cache, 0));
    let pinned = asset("39");
    cache.blocking().pin(&pinned).unwrap();
    let partial = cache
        .blocking()
        .partial(&asset("p"), &path("a"))
        .unwrap()
        .unwrap();
    let resource = partial.open::<std::io::Error>().unwrap();
    let mut writer = resource.writer().unwrap();
    writer.write_at(0, &content(7, 100_000)).unwrap();
    let checkpoint = writer.checkpoint();
    partial.reserve_record(&checkpoint).unwrap();
    checkpoint.run().unwrap();
    drop((writer, resource, partial));
    crate::scene::close(cache);
    let cache = builder(&root);
    assert!(cache.blocking().asset(&pinned).unwrap().unwrap().pinned);
    let partial = cache
        .blocking()
        .partial(&asset("p"), &path("a"))
        .unwrap()
        .unwrap();
    let resource = partial.open::<std::io::Error>().unwrap();
    assert_eq!(resource.available().first(), Some(&(0..100_000)));
    partial.commit(&mut resource.writer().unwrap(), 100_000).unwrap();
    assert!(taken(&root) <= LIMIT, "{}", taken(&root));
}

/// The files below `dir`, each with its length and what it takes.
fn listing(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.path().symlink_metadata() {
            Ok(meta) if meta.is_dir() => found.extend(listing(&entry.path())),
            Ok(meta) => found.push(format!(
                "{} {} {}",
                entry.path().display(),
                meta.len(),
                meta.blocks() * 512
            )),
            Err(_) => {}
        }
    }
    found
}

/// W46, C5: eight threads put, read, remove, and jump about in partial files. The process is stopped for each sample, and the disk is never
/// over the limit. `KITHARA_SAMPLES` says how many.
#[test]
fn w46_no_exact_sample_of_a_crowd_is_over_the_limit() {
    let samples = std::env::var("KITHARA_SAMPLES").map_or(60, |text| text.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let mut crowd = child::command("crowd", dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Kept to the end: the child prints once more.
    let mut told = BufReader::new(crowd.stdout.take().unwrap()).lines();
    assert!(told.any(|line| line.unwrap() == "begun"));
    let pid = crowd.id().to_string();
    let send = |signal: &str| {
        let sent = Command::new("kill").args([signal, &pid]).status();
        assert!(sent.unwrap().success());
    };
    let (mut over, mut most, mut full) = (Vec::new(), 0, 0);
    for n in 0..samples {
        // Not to synchronise: the samples are taken at any moment.
        thread::sleep(Duration::from_millis(3 + n % 11));
        send("-STOP");
        // All of its threads: one may be in a call that moves a folder while it is walked.
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        for task in tasks.flatten() {
            let status = task.path().join("status");
            while std::fs::read_to_string(&status).is_ok_and(|status| !status.contains("T (stopped)")) {
                thread::yield_now();
            }
        }
        let bytes = taken(dir.path());
        most = most.max(bytes);
        full += u64::from(bytes > LIMIT / 10 * 9);
        if bytes > LIMIT {
            over.push((bytes, listing(dir.path())));
        }
        send("-CONT");
    }
    drop(crowd.stdin.take());
    told.for_each(drop);
    assert!(crowd.wait().unwrap().success());
    say(&format!(
        "{samples} samples, {} over {LIMIT}, {most} at the most, {full} above nine tenths",
        over.len()
    ));
    assert!(over.is_empty(), "{over:#?}");
    assert!(full > samples / 4, "it was not full");
}

fn crowd(root: &Path) {
    let opened = builder(root);
    let over = std::sync::atomic::AtomicBool::new(false);
    println!("\nbegun");
    std::io::stdout().flush().unwrap();
    thread::scope(|scope| {
        for worker in 0..8_u32 {
            let (cache, over) = (opened.blocking(), &over);
            scope.spawn(move || {
                let mut state = worker + 1;
                let mut dice = |below: u32| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 8) % below
                };
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    let name = asset(&dice(60).to_string());
                    match dice(10) {
                        0..5 => drop(cache.put_atomic(&name, &path("a"), content(1, dice(90_000) as usize))),
                        5 => drop(cache.remove(&name)),
                        6 => drop(cache.get(&name, &path("a"))),
                        _ => scrub(cache, &name, &mut dice),
                    }
                }
            });
        }
        let _ = std::io::stdin().read_line(&mut String::new());
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// Jumps about in a file of 4 MB, records it now and then, and leaves it.
fn scrub(
    cache: &kithara::cache::BlockingCache,
    name: &kithara::cache::AssetId,
    dice: &mut impl FnMut(u32) -> u32,
) {
    let Ok(Some(partial)) = cache.partial(name, &path("p")) else {
        return;
    };
    let Ok(resource) = partial.open::<std::io::Error>() else {
        return;
    };
    let mut writer = resource.writer().unwrap();
    for _ in 0..dice(60) {
        let (at, len) = (u64::from(dice(4_000_000)), 1 + dice(3000) as usize);
        if writer.write_at(at, &content(2, len)).is_err() {
            break;
        }
        if dice(20) == 0 {
            let checkpoint = writer.checkpoint();
            if partial.reserve_record(&checkpoint).is_ok() {
                let _ = checkpoint.run();
            }
        }
    }
}

//! Each system call of a write failing with each error it can give: typed errors, true accounts, no leftover.

use crate::kill::each;
use crate::scene::{Scene, du, files};
use crate::trace::Call;
use crate::{child, trace};

/// The errors a call can give.
fn errors(call: &str) -> &'static [&'static str] {
    match call {
        "open" | "openat" | "creat" | "mkdir" | "mkdirat" => {
            &["EMFILE", "EACCES", "EROFS", "ENOSPC", "EDQUOT", "EIO"]
        }
        "write" | "writev" | "pwrite64" | "pwritev" => &["ENOSPC", "EDQUOT", "EIO", "EINTR"],
        "fsync" | "fdatasync" => &["EIO", "ENOSPC", "EDQUOT"],
        "rename" | "renameat" | "renameat2" => &["EIO", "ENOSPC", "EROFS", "EACCES", "EDQUOT"],
        "unlink" | "unlinkat" | "rmdir" => &["EIO", "EROFS", "EACCES"],
        "read" | "pread64" => &["EIO", "EINTR"],
        "flock" => &["EIO", "ENOLCK"],
        "stat" | "lstat" | "fstat" | "newfstatat" | "statx" => &["EIO", "EACCES"],
        _ => &["EIO"],
    }
}

/// What a child said of itself after an injected error.
struct Said {
    done: bool,
    /// The error hit what cannot fail; that proves nothing.
    void: bool,
    text: String,
}

impl Said {
    fn line(&self, start: &str) -> Option<&str> {
        self.text.lines().find_map(|line| line.strip_prefix(start))
    }
}

fn inject(scene: Scene, call: &Call, error: &str) -> Said {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let log = dir.path().join("trace");
    let output = trace::run(
        &child::command(&format!("{scene:?}"), &root),
        &log,
        call,
        &format!("error={error}"),
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let case = || {
        let trace = std::fs::read_to_string(&log).unwrap_or_default();
        format!(
            "{scene:?}, {error} at {call:?}\n{text}\n{}\n{trace}",
            String::from_utf8_lossy(&output.stderr)
        )
    };
    // Threads take turns, so that the call hit may be the child's word to this test or the runtime's to itself: as if it
    // had been killed there.
    if String::from_utf8_lossy(&output.stderr).contains("failed printing to stdout")
        || trace::hit_a_wake_up(&log)
    {
        scene.check(&root, false, false);
        return Said {
            done: false,
            void: true,
            text,
        };
    }
    assert!(output.status.success(), "the process did not survive: {}", case());
    let said = Said {
        done: text.contains("played ok"),
        void: false,
        text: text.clone(),
    };
    if let Some(error) = said.line("played error ") {
        assert!(
            ["Io", "CacheFull", "Unremovable"]
                .iter()
                .any(|typed| error.starts_with(typed)),
            "untyped: {}",
            case()
        );
    } else {
        assert!(said.done, "{}", case());
    }
    if let Some(accounts) = said.line("accounts ") {
        let figures: Vec<u64> = accounts
            .split(' ')
            .map(|figure| figure.parse().unwrap())
            .collect();
        let assets: u64 = files(&root)
            .iter()
            .filter(|(file, _)| file.starts_with("assets/"))
            .map(|(_, len)| len)
            .sum();
        // A file that cannot be removed stays, and is swept by the next session.
        if !call.0.starts_with("unlink") {
            assert_eq!(figures[0], assets, "accounts and disk differ: {}", case());
        }
        assert!(figures[1] >= du(&root), "more on disk than counted: {}", case());
        assert_eq!(
            said.line("readable "),
            Some("true"),
            "another entry cannot be read: {}",
            case()
        );
    }
    let checked =
        std::panic::catch_unwind(|| scene.check(&root, said.done, matches!(error, "ENOSPC" | "EDQUOT")));
    assert!(checked.is_ok(), "{}", case());
    said
}

fn dry(scene: Scene) -> Vec<Call> {
    let dir = tempfile::tempdir().unwrap();
    trace::calls(
        &child::command(&format!("{scene:?}"), &dir.path().join("root")),
        &dir.path().join("trace"),
    )
}

fn fail_at_each_call(scene: Scene) {
    if !trace::works() {
        return;
    }
    let cases: Vec<(Call, &str)> = dry(scene)
        .into_iter()
        .flat_map(|call| errors(&call.0).iter().map(move |error| (call.clone(), *error)))
        .collect();
    each(&cases, |_, (call, error)| {
        let said = inject(scene, call, error);
        if *error == "EINTR" {
            assert!(
                said.done || said.void,
                "{scene:?}: {call:?} was interrupted and not taken up again"
            );
        }
    });
}

macro_rules! failing {
    ($($test:ident: $scene:ident),*) => {
        $(
            #[test]
            fn $test() {
                fail_at_each_call(Scene::$scene);
            }
        )*
    };
}

// C11, faults C10, C19.
failing! {
    any_call_of_a_put_can_fail: Put,
    any_call_of_an_overwrite_can_fail: Overwrite,
    any_call_of_a_streamed_body_can_fail: Stream,
    any_call_of_an_eviction_can_fail: Evict,
    any_call_of_a_removal_can_fail: Remove,
    any_call_of_a_pin_can_fail: Pin,
    any_call_of_an_unpin_can_fail: Unpin,
    any_call_of_a_checkpoint_can_fail: Checkpoint,
    any_call_of_opening_can_fail: Open
}

/// C11: a failed sync is told, also the directory's, which comes after the rename.
#[test]
fn a_failed_sync_is_never_taken_for_a_success() {
    if !trace::works() {
        return;
    }
    let syncs: Vec<Call> = dry(Scene::Overwrite)
        .into_iter()
        .filter(|(name, _)| name == "fsync")
        .collect();
    assert!(syncs.len() >= 2, "the data's and the directory's: {syncs:?}");
    for sync in syncs {
        assert!(
            !inject(Scene::Overwrite, &sync, "EIO").done,
            "{sync:?} failed and the put said Ok"
        );
    }
}

//! A process killed at each of its system calls leaves a sound cache.

use std::num::NonZero;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::scene::Scene;
use crate::{child, trace};

/// Runs `work` on each item, on as many threads as there are processors.
pub(crate) fn each<T: Sync>(items: &[T], work: impl Fn(usize, &T) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(|| {
                while let Some((n, item)) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|n| Some((n, items.get(n)?)))
                {
                    work(n, item);
                }
            });
        }
    });
}

fn kill_at_each_call(scene: Scene) {
    if !trace::works() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let name = format!("{scene:?}");
    let calls = trace::calls(
        &child::command(&name, &dir.path().join("dry")),
        &dir.path().join("trace"),
    );
    scene.check(&dir.path().join("dry"), true, false);
    let killed = AtomicUsize::new(0);
    each(&calls, |n, call| {
        let root = dir.path().join(n.to_string());
        let trace = dir.path().join(format!("{n}.trace"));
        let output = trace::run(&child::command(&name, &root), &trace, call, "signal=SIGKILL");
        let said = String::from_utf8_lossy(&output.stdout);
        if output.status.signal() == Some(9) || output.status.code() == Some(137) {
            killed.fetch_add(1, Ordering::Relaxed);
        }
        let done = said.contains("played ok");
        let checked = std::panic::catch_unwind(|| scene.check(&root, done, false));
        assert!(
            checked.is_ok(),
            "{scene:?} killed at {call:?}, done: {done}\n{}",
            std::fs::read_to_string(&trace).unwrap_or_default()
        );
    });
    let killed = killed.into_inner();
    assert!(
        killed * 2 >= calls.len(),
        "only {killed} of {} were killed",
        calls.len()
    );
}

macro_rules! killed {
    ($($test:ident: $scene:ident),*) => {
        $(
            #[test]
            fn $test() {
                kill_at_each_call(Scene::$scene);
            }
        )*
    };
}

// C2, C3, C5, C7, C10, faults C3, C12, C23.
killed! {
    a_process_killed_at_any_call_of_a_put_leaves_all_or_nothing: Put,
    a_process_killed_at_any_call_of_an_overwrite_leaves_old_or_new: Overwrite,
    a_process_killed_at_any_call_of_a_streamed_body_leaves_all_or_nothing: Stream,
    a_process_killed_at_any_call_of_an_eviction_leaves_whole_assets_or_none: Evict,
    a_process_killed_at_any_call_of_a_removal_leaves_nothing_over: Remove,
    a_process_killed_at_any_call_of_an_entrys_removal_leaves_it_or_not: RemoveEntry,
    a_process_killed_at_any_call_of_a_record_leaves_old_or_new: Record,
    a_process_killed_at_any_call_of_a_pin_leaves_it_or_not: Pin,
    a_process_killed_at_any_call_of_an_unpin_leaves_it_or_not: Unpin,
    a_process_killed_at_any_call_of_a_checkpoint_loses_nothing: Checkpoint,
    a_process_killed_at_any_call_of_opening_and_closing_loses_nothing: Open,
    a_process_killed_at_any_call_of_making_a_root_can_be_followed_by_another: Create
}

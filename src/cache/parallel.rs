//! Work on many directories at once.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::error::CacheError;

/// More threads do not make a disk answer sooner.
const MAX_THREADS: usize = 8;
/// Starting a thread costs as much as reading a few directories.
const ITEMS_PER_THREAD: usize = 8;

/// Runs `work` on every item, on several threads, until it fails on one of them. Returns the first error.
pub(super) fn for_each<T: Sync>(
    items: &[T],
    work: impl Fn(&T) -> Result<(), CacheError> + Sync,
) -> Result<(), CacheError> {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(None);
    // Each thread takes the next item when it is free: directories differ much in size.
    let run = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = work(item) {
                // The other threads find nothing more to do.
                next.store(items.len(), Ordering::Relaxed);
                // The value is there or not, whatever panics.
                failed
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .get_or_insert(error);
            }
        }
    };
    thread::scope(|scope| {
        let threads = thread::available_parallelism()
            .map_or(1, NonZero::get)
            .min(MAX_THREADS)
            .min(items.len() / ITEMS_PER_THREAD);
        for _ in 1..threads {
            // If no thread can be started, this one does all the work.
            let _ = thread::Builder::new()
                .name("kithara-scan".into())
                .spawn_scoped(scope, run);
        }
        run();
    });
    failed
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .map_or(Ok(()), Err)
}

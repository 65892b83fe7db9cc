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

/// Runs `work` on every item, on several threads, until it fails on one of them. Returns what it made, in no order, or the
/// first error.
pub(super) fn map<T: Sync, U: Send>(
    items: &[T],
    work: impl Fn(&T) -> Result<U, CacheError> + Sync,
) -> Result<Vec<U>, CacheError> {
    let next = AtomicUsize::new(0);
    let made = Mutex::new(Ok(Vec::new()));
    // Each thread takes the next item when it is free: directories differ much in size.
    let run = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            let done = work(item);
            // Nothing panics half-way through a push.
            let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
            match (&mut *made, done) {
                (Ok(made), Ok(done)) => made.push(done),
                (Ok(_), Err(error)) => {
                    // The other threads find nothing more to do.
                    next.store(items.len(), Ordering::Relaxed);
                    *made = Err(error);
                }
                (Err(_), _) => {}
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
    made.into_inner().unwrap_or_else(PoisonError::into_inner)
}

//! One fetch for all callers that want the same entry.
//!
//! ```text
//!  caller A: permit ──▶ cell locked: A fetches ──▶ fills the cell, returns
//!  caller B: permit ──▶ waits for the cell's lock ────▶ finds it filled, returns
//!  caller C: permit ──▶ waits …    (if A fails or is dropped, B fetches instead)
//! ```
//!
//! A cell lives as long as a caller fetches or waits. The last one takes it out of the map, so that the fetched bytes are
//! not kept any longer than they are wanted.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use async_lock::{Mutex as AsyncMutex, MutexGuardArc};
use bytes::Bytes;

use super::id::AssetId;
use super::path::CachePath;

/// The entries that are being fetched.
#[derive(Clone, Default)]
pub(super) struct SingleFlight {
    cells: Arc<Mutex<HashMap<(AssetId, CachePath), FetchCell>>>,
}

/// Locked by the caller that fetches. Holds the fetched bytes for the callers that wait.
type FetchCell = Arc<AsyncMutex<Option<Bytes>>>;

thread_local! {
    /// The cells whose fetches are being polled further up this thread's stack, by address. Each lives at least as long as
    /// that poll.
    static POLLED: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// The right to fetch an entry. Dropping the permit passes it to the next waiting caller, with whatever `fetched` holds.
pub(super) struct FetchPermit {
    pub(super) fetched: MutexGuardArc<Option<Bytes>>,
    // Dropped after the guard, which is a reference to the cell too.
    waiter: FetchWaiter,
}

/// A caller that waits for an entry, or fetches it.
struct FetchWaiter {
    single_flight: SingleFlight,
    entry: (AssetId, CachePath),
    cell: FetchCell,
}

impl SingleFlight {
    /// Waits for the right to fetch the entry.
    pub(super) async fn permit(&self, asset: &AssetId, path: &CachePath) -> FetchPermit {
        let entry = (asset.bare(), path.clone());
        let cell = Arc::clone(self.lock().entry(entry.clone()).or_default());
        // One reference for the map, one for each waiter, one for the guard, and no other: by their number the last waiter
        // is told.
        let waiter = FetchWaiter {
            single_flight: self.clone(),
            entry,
            cell,
        };
        let fetched = waiter.cell.lock_arc().await;
        FetchPermit { fetched, waiter }
    }

    /// Whether the calling task is part of the fetch of this very entry. Waiting for a permit, it would wait for itself.
    pub(super) fn is_polled_here(&self, asset: &AssetId, path: &CachePath) -> bool {
        let cell = self.lock().get(&(asset.bare(), path.clone())).map(address);
        cell.is_some_and(|cell| POLLED.with_borrow(|polled| polled.contains(&cell)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(AssetId, CachePath), FetchCell>> {
        // A map is whole after every call made on it.
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn address(cell: &FetchCell) -> usize {
    Arc::as_ptr(cell).addr()
}

impl FetchPermit {
    /// Runs a fetch, marked so that [`is_polled_here`](SingleFlight::is_polled_here) sees it ask for its own entry.
    pub(super) async fn run<F: Future>(&self, fetch: F) -> F::Output {
        let mut fetch = pin!(fetch);
        poll_fn(|cx| {
            let _polled = Polled::new(address(&self.waiter.cell));
            fetch.as_mut().poll(cx)
        })
        .await
    }
}

/// Marks a cell as being polled for as long as this lives.
struct Polled;

impl Polled {
    fn new(cell: usize) -> Self {
        POLLED.with_borrow_mut(|polled| polled.push(cell));
        Self
    }
}

impl Drop for Polled {
    fn drop(&mut self) {
        POLLED.with_borrow_mut(Vec::pop);
    }
}

impl Drop for FetchWaiter {
    fn drop(&mut self) {
        let mut cells = self.single_flight.lock();
        // References are taken and given up under this lock only. If the map's is the only one left, no caller waits, and
        // none can begin to before the cell is out of the map.
        drop(std::mem::take(&mut self.cell));
        if cells
            .get(&self.entry)
            .is_some_and(|cell| Arc::strong_count(cell) == 1)
        {
            let cell = cells.remove(&self.entry);
            drop(cells);
            drop(cell);
        }
    }
}

impl fmt::Debug for SingleFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SingleFlight")
            .field("entries", &self.lock().len())
            .finish()
    }
}

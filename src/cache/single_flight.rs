//! One fetch for all who want the same entry.

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

/// Entries being fetched.
#[derive(Clone, Default)]
pub(super) struct SingleFlight {
    cells: Arc<Mutex<HashMap<(AssetId, CachePath), FetchCell>>>,
}

/// Held by the one who fetches; holds what was fetched for those who wait. Its references are those who wait or fetch.
type FetchCell = Arc<AsyncMutex<Option<Bytes>>>;

thread_local! {
    /// Cells whose fetches are being polled further up this thread's stack, by address: each lives as long as that.
    static POLLED: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// The right to fetch an entry. Dropping it passes it on to the next who waits; whatever it holds then is handed to all
/// of them.
pub(super) struct FetchPermit {
    pub(super) fetched: MutexGuardArc<Option<Bytes>>,
    // Dropped after the guard.
    waiter: FetchWaiter,
}

/// A place in the queue for an entry.
struct FetchWaiter {
    single_flight: SingleFlight,
    entry: (AssetId, CachePath),
    cell: FetchCell,
}

impl SingleFlight {
    /// Waits for the turn to fetch the entry.
    pub(super) async fn permit(&self, asset: &AssetId, path: &CachePath) -> FetchPermit {
        let entry = (asset.bare(), path.clone());
        let cell = Arc::clone(self.lock().entry(entry.clone()).or_default());
        // The seat's is the only reference but for the map's and the guard's, so that the last to leave is seen.
        let waiter = FetchWaiter {
            single_flight: self.clone(),
            entry,
            cell,
        };
        let fetched = waiter.cell.lock_arc().await;
        FetchPermit { fetched, waiter }
    }

    /// Whether whoever asks is part of the fetch of this very entry: it would wait for itself.
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
    /// Runs a fetch so that it [can be told](Flights::is_polled_here) when it asks for its own entry.
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
        // Given up under the lock, under which alone references are taken: with only the map's left, nobody waits.
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

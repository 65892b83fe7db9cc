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
pub(super) struct Flights {
    flights: Arc<Mutex<HashMap<(AssetId, CachePath), Flight>>>,
}

/// Held by the one who fetches; holds what was fetched for those who wait. Its references are those who wait or fetch.
type Flight = Arc<AsyncMutex<Option<Bytes>>>;

thread_local! {
    /// Flights whose fetches are being polled further up this thread's stack, by address: each lives as long as that.
    static POLLED: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// The right to fetch an entry. Dropping it passes it on to the next who waits; whatever it holds then is handed to all
/// of them.
pub(super) struct Turn {
    pub(super) fetched: MutexGuardArc<Option<Bytes>>,
    // Dropped after the guard.
    seat: Seat,
}

/// A place in the queue for an entry.
struct Seat {
    flights: Flights,
    entry: (AssetId, CachePath),
    flight: Flight,
}

impl Flights {
    /// Waits for the turn to fetch the entry.
    pub(super) async fn turn(&self, asset: &AssetId, path: &CachePath) -> Turn {
        let entry = (asset.bare(), path.clone());
        let flight = Arc::clone(self.lock().entry(entry.clone()).or_default());
        // The seat's is the only reference but for the map's and the guard's, so that the last to leave is seen.
        let seat = Seat {
            flights: self.clone(),
            entry,
            flight,
        };
        let fetched = seat.flight.lock_arc().await;
        Turn { fetched, seat }
    }

    /// Whether whoever asks is part of the fetch of this very entry: it would wait for itself.
    pub(super) fn is_polled_here(&self, asset: &AssetId, path: &CachePath) -> bool {
        let flight = self.lock().get(&(asset.bare(), path.clone())).map(address);
        flight.is_some_and(|flight| POLLED.with_borrow(|polled| polled.contains(&flight)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(AssetId, CachePath), Flight>> {
        // A map is whole after every call made on it.
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn address(flight: &Flight) -> usize {
    Arc::as_ptr(flight).addr()
}

impl Turn {
    /// Runs a fetch so that it [can be told](Flights::is_polled_here) when it asks for its own entry.
    pub(super) async fn run<F: Future>(&self, fetch: F) -> F::Output {
        let mut fetch = pin!(fetch);
        poll_fn(|cx| {
            let _polled = Polled::new(address(&self.seat.flight));
            fetch.as_mut().poll(cx)
        })
        .await
    }
}

/// Notes a flight as long as this lives.
struct Polled;

impl Polled {
    fn new(flight: usize) -> Self {
        POLLED.with_borrow_mut(|polled| polled.push(flight));
        Self
    }
}

impl Drop for Polled {
    fn drop(&mut self) {
        POLLED.with_borrow_mut(Vec::pop);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut flights = self.flights.lock();
        // Given up under the lock, under which alone references are taken: with only the map's left, nobody waits.
        drop(std::mem::take(&mut self.flight));
        if flights
            .get(&self.entry)
            .is_some_and(|flight| Arc::strong_count(flight) == 1)
        {
            let flight = flights.remove(&self.entry);
            drop(flights);
            drop(flight);
        }
    }
}

impl fmt::Debug for Flights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights")
            .field("entries", &self.lock().len())
            .finish()
    }
}

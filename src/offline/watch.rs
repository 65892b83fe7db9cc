//! What changes, told to the app.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, ready},
    time::SystemTime,
};

use async_channel::{Receiver, Sender};
use futures_core::Stream;

use super::{DownloadId, DownloadInfo};

/// Something about a download is other than before.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub enum Change {
    /// It was added, or its state, its progress or its request changed: how it is now. Boxed, as it is large beside the others.
    Changed(Box<DownloadInfo>),
    /// It was removed, and its bytes are gone.
    Removed(DownloadId),
    /// It may not be played offline from `at` on.
    Expiring {
        /// Which one.
        id: DownloadId,
        /// When it ends.
        at: SystemTime,
    },
    /// It may not be played offline any more. It is unpinned, and its bytes are there.
    Expired(DownloadId),
}

/// The changes of all downloads, as a stream. It begins with each download as it is.
///
/// An app that does not listen for a while misses nothing but what lies between: of each download the latest is told. So it
/// takes no more memory than there are downloads. It ends when the last [`Downloads`](super::Downloads) is dropped.
#[derive(Debug)]
pub struct Watch {
    pending: Arc<Mutex<Pending>>,
    // Boxed, so that this is `Unpin`: a receiver registers itself where it stands.
    wake: Pin<Box<Receiver<()>>>,
}

#[derive(Debug, Default)]
struct Pending {
    latest: BTreeMap<DownloadId, Change>,
    /// What is told once, and must not be replaced by a later change.
    once: VecDeque<Change>,
}

/// The other ends of all watches.
#[derive(Debug, Default)]
pub(super) struct Watchers(Vec<(Weak<Mutex<Pending>>, Sender<()>)>);

fn lock(pending: &Mutex<Pending>) -> MutexGuard<'_, Pending> {
    // Each change is one call on a collection, which a panic elsewhere cannot leave half done.
    pending.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watchers {
    pub(super) fn add(&mut self, infos: impl Iterator<Item = DownloadInfo>) -> Watch {
        let latest = infos
            .map(|info| (info.id.clone(), Change::Changed(Box::new(info))))
            .collect();
        let pending = Arc::new(Mutex::new(Pending {
            latest,
            ..Pending::default()
        }));
        // One place: what matters is that something is there, and not how much.
        let (sender, wake) = async_channel::bounded(1);
        self.0.retain(|(pending, _)| pending.strong_count() > 0);
        self.0.push((Arc::downgrade(&pending), sender));
        Watch {
            pending,
            wake: Box::pin(wake),
        }
    }

    /// Notes a change. Returns what wakes the watches: a waker is foreign code, and is run without a lock.
    #[must_use]
    pub(super) fn note(&self, change: &Change) -> Vec<Sender<()>> {
        let mut wakes = Vec::new();
        for (pending, wake) in &self.0 {
            let Some(pending) = pending.upgrade() else {
                continue;
            };
            let mut pending = lock(&pending);
            match change {
                Change::Changed(info) => {
                    drop(pending.latest.insert(info.id.clone(), change.clone()));
                }
                Change::Removed(id) => drop(pending.latest.insert(id.clone(), change.clone())),
                Change::Expiring { .. } | Change::Expired(_) => pending.once.push_back(change.clone()),
            }
            drop(pending);
            wakes.push(wake.clone());
        }
        wakes
    }
}

impl Stream for Watch {
    type Item = Change;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Change>> {
        loop {
            let mut pending = lock(&self.pending);
            let next = pending.once.pop_front();
            let next = next.or_else(|| pending.latest.pop_first().map(|(_, change)| change));
            drop(pending);
            if let Some(change) = next {
                return Poll::Ready(Some(change));
            }
            // The look first, the wait second: what comes in between leaves its mark in the channel.
            if ready!(self.wake.as_mut().poll_next(cx)).is_none() {
                return Poll::Ready(None);
            }
        }
    }
}

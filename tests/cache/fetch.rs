//! C12: one fetch for all callers that want the same entry.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::pending;
use std::pin::{Pin, pin};
use std::sync::{Arc, mpsc};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use async_channel::bounded;
use bytes::Bytes;
use futures_lite::future::{block_on, poll_once, zip};
use kithara::cache::{AssetCache, AssetId, CachePath};

fn names() -> (AssetId, CachePath) {
    (
        AssetId::from_key("track").unwrap(),
        CachePath::parse("seg").unwrap(),
    )
}

#[test]
fn callers_at_once_share_one_fetch() {
    let cache = AssetCache::memory(1 << 20);
    let (asset, path) = names();
    let (open, gate) = bounded::<()>(1);
    let fetches = Cell::new(0);
    let fetch = || async {
        fetches.set(fetches.get() + 1);
        let _ = gate.recv().await;
        Ok::<_, Infallible>(Bytes::from_static(b"whole"))
    };
    block_on(async {
        let callers = zip(
            zip(
                cache.get_or_fetch(&asset, &path, fetch),
                cache.get_or_fetch(&asset, &path, fetch),
            ),
            async {
                while fetches.get() == 0 {
                    futures_lite::future::yield_now().await;
                }
                open.close();
            },
        );
        let ((a, b), ()) = callers.await;
        assert_eq!((a.unwrap(), b.unwrap()), ("whole".into(), "whole".into()));
        assert_eq!(fetches.get(), 1);
        assert_eq!(cache.get(&asset, &path).await.unwrap().unwrap(), "whole");
    });
}

/// Fault C14.
#[test]
fn a_dropped_fetch_hands_over_and_a_failed_one_does_not_poison() {
    let cache = AssetCache::memory(1 << 20);
    let (asset, path) = names();
    block_on(async {
        let (begun, begins) = bounded::<()>(1);
        let mut first = Box::pin(cache.get_or_fetch(&asset, &path, || async {
            begun.send(()).await.unwrap();
            pending::<Result<Bytes, &str>>().await
        }));
        futures_lite::future::or(async { drop(first.as_mut().await) }, async {
            begins.recv().await.unwrap();
        })
        .await;
        let mut second = pin!(cache.get_or_fetch(&asset, &path, || async { Err("refused") }));
        assert!(poll_once(second.as_mut()).await.is_none());
        drop(first);
        assert_eq!(second.await.unwrap_err(), "refused");
        let third = cache
            .get_or_fetch(&asset, &path, || async { Ok::<_, &str>("here".into()) })
            .await;
        assert_eq!(third.unwrap(), "here");
    });
    // Nothing is kept of fetches that are over.
    assert!(
        format!("{cache:?}").contains("SingleFlight { entries: 0 }"),
        "{cache:?}"
    );
}

/// Polls a future that is not ready, and waits between two polls until it was woken.
struct Steps<F> {
    future: F,
    waker: Waker,
    woken: mpsc::Receiver<()>,
    is_polled: bool,
}

struct Woken(mpsc::Sender<()>);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        // A wake after the last step is of no interest.
        let _ = self.0.send(());
    }
}

impl<F: Future + Unpin> Steps<F> {
    fn new(future: F) -> Self {
        let (wakes, woken) = mpsc::channel();
        Self {
            future,
            waker: Arc::new(Woken(wakes)).into(),
            woken,
            is_polled: false,
        }
    }

    fn next(&mut self) {
        // A step whose blocking call was over at once has gone on to what it waits for next, and is not woken: then there is
        // nothing to do, and after a while that is known.
        if std::mem::replace(&mut self.is_polled, true) {
            let _ = self.woken.recv_timeout(Duration::from_secs(2));
        }
        let polled = Pin::new(&mut self.future).poll(&mut Context::from_waker(&self.waker));
        assert!(polled.is_pending());
    }
}

/// C16: bytes that cannot be kept are returned, to waiting callers too.
#[test]
fn what_does_not_fit_is_fetched_and_returned() {
    let cache = AssetCache::memory(3);
    let (asset, path) = names();
    let (open, gate) = bounded::<()>(1);
    let fetches = Cell::new(0);
    let fetch = || async {
        fetches.set(fetches.get() + 1);
        let _ = gate.recv().await;
        Ok::<_, Infallible>(Bytes::from_static(b"too long"))
    };
    let get = || cache.get_or_fetch(&asset, &path, fetch);
    let (mut first, mut second) = (pin!(get()), pin!(get()));
    // The first caller reads the cache before and after it has the permit, and then fetches.
    let mut steps = Steps::new(first.as_mut());
    while fetches.get() == 0 {
        steps.next();
    }
    // The second one reads the cache once. Its next step finds the permit taken.
    let mut steps = Steps::new(second.as_mut());
    steps.next();
    steps.next();
    block_on(async {
        open.close();
        let (a, b) = zip(first, second).await;
        assert_eq!((a.unwrap(), b.unwrap()), ("too long".into(), "too long".into()));
    });
    assert_eq!(fetches.get(), 1);
    assert!(block_on(cache.get(&asset, &path)).unwrap().is_none());
}

/// A fetch that asks for its own entry, directly or through another's fetch, gets it instead of waiting for itself.
#[test]
fn a_fetch_that_asks_for_its_own_entry_does_not_wait_for_itself() {
    type Answer = Result<Bytes, Infallible>;
    let (done, answer) = mpsc::channel();
    // On a thread of its own, so that a wait without end is seen.
    std::thread::spawn(move || {
        let cache = AssetCache::memory(1 << 20);
        let (asset, path) = names();
        let other = CachePath::parse("other").unwrap();
        let inner = || async { Answer::Ok("inner".into()) };
        let between = || async {
            let bytes = cache.get_or_fetch(&asset, &path, inner).await?;
            Answer::Ok([&bytes[..], b" between"].concat().into())
        };
        let outer = || async {
            let bytes = cache.get_or_fetch(&asset, &path, inner).await?;
            assert_eq!(bytes, "inner");
            let bytes = cache.get_or_fetch(&asset, &other, between).await?;
            Answer::Ok([&bytes[..], b" outer"].concat().into())
        };
        let got = block_on(cache.get_or_fetch(&asset, &path, outer)).unwrap();
        let kept = block_on(cache.get(&asset, &path)).unwrap().unwrap();
        let between = block_on(cache.get(&asset, &other)).unwrap().unwrap();
        done.send((got, kept, between)).unwrap();
    });
    let answer = answer.recv_timeout(std::time::Duration::from_secs(20));
    let (got, kept, between) = answer.expect("waits for itself");
    assert_eq!(got, "inner between outer");
    assert_eq!(kept, got);
    assert_eq!(between, "inner between");
}

/// Two callers on one thread, neither inside the other, share one fetch all the same.
#[test]
fn callers_on_one_thread_are_not_taken_for_parts_of_each_other() {
    let cache = AssetCache::memory(1 << 20);
    let (asset, path) = names();
    let fetches = Cell::new(0);
    let fetch = || async {
        fetches.set(fetches.get() + 1);
        futures_lite::future::yield_now().await;
        Ok::<_, Infallible>(Bytes::from_static(b"whole"))
    };
    let get = || cache.get_or_fetch(&asset, &path, fetch);
    let (a, b) = block_on(zip(get(), get()));
    assert_eq!((a.unwrap(), b.unwrap()), ("whole".into(), "whole".into()));
    assert_eq!(fetches.get(), 1);
}

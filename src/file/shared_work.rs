//! A driver's work, which a reading thread may run while it waits for a byte.
//!
//! Two run it, never both at once: the driver's own task, and behind a jump the thread that reads. The work has one waker, the
//! [`Router`]: it wakes the one whose turn it is.
//!
//! ```text
//!                    enter                      leave, or handed over
//!   turn: driver ───────────▶ turn: reader ─────────────────────▶ turn: driver
//!     a wake-up goes            a wake-up goes to the reader,       what woke meanwhile
//!     to the driver's task      or waits until it parks             wakes the driver's task
//! ```
//!
//! A reading thread must not wait for the disk. So it writes nothing: what it has stored stays in memory, and it hands over.

use std::cell::Cell;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use futures_lite::future;

use crate::storage::Fetcher;

pub(super) type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Whose poll of the work this is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PolledBy {
    Driver,
    Reader,
    /// A reader, which has found something to do that is not its business.
    ReaderHandsOver,
}

thread_local! {
    static POLLED_BY: Cell<PolledBy> = const { Cell::new(PolledBy::Driver) };
}

/// Gives back what [`POLLED_BY`] was: a hook of the app's may read another file within a poll.
struct Mark(PolledBy);

impl Drop for Mark {
    fn drop(&mut self) {
        POLLED_BY.set(self.0);
    }
}

/// Whether a reading thread runs the work now.
pub(super) fn is_run_by_reader() -> bool {
    POLLED_BY.get() != PolledBy::Driver
}

/// If a reading thread runs the work, its turn ends with this poll.
pub(super) fn hand_over() {
    if is_run_by_reader() {
        POLLED_BY.set(PolledBy::ReaderHandsOver);
    }
}

/// If a reading thread runs the work, lets it look for its byte before more is done.
pub(super) async fn let_reader_look() {
    if is_run_by_reader() {
        future::yield_now().await;
    }
}

/// Runs `part` on the driver's task alone: what may wait for the disk, or is the app's code. A reading thread that comes to it
/// hands over.
pub(super) async fn by_driver<F: Future>(part: F) -> F::Output {
    let mut part = pin!(part);
    poll_fn(|cx| {
        if is_run_by_reader() {
            hand_over();
            return Poll::Pending;
        }
        part.as_mut().poll(cx)
    })
    .await
}

/// Runs `part` as if a reading thread did.
#[cfg(test)]
pub(super) fn as_reader<T>(part: impl FnOnce() -> T) -> T {
    let _mark = Mark(POLLED_BY.replace(PolledBy::Reader));
    part()
}

enum TurnOf {
    Driver,
    /// With its waker once it waits.
    Reader(Option<Waker>),
    /// The reader has not left yet, and runs the work no more: the driver does.
    HandedOver,
}

struct Route {
    turn: TurnOf,
    /// Of the driver's task.
    driver: Option<Waker>,
    /// Whether the work was woken since it was polled last.
    is_woken: bool,
}

/// The work's waker.
struct Router(Mutex<Route>);

impl Router {
    fn route(&self) -> MutexGuard<'_, Route> {
        // No foreign code runs under the lock: poisoning says nothing.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The reader runs the work no more. Wakes the driver if there is something to do, or `always`.
    fn end_turn(&self, turn: TurnOf, always: bool) {
        let mut route = self.route();
        // Dropped outside of the lock: a waker's destructor is the executor's code.
        let stale = std::mem::replace(&mut route.turn, turn);
        let is_due = always || route.is_woken;
        let waker = route.driver.take_if(|_| is_due);
        drop(route);
        drop(stale);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Wake for Router {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut route = self.route();
        route.is_woken = true;
        // Taken: a clone would run the executor's code under the lock. Its next poll brings another.
        let Route { turn, driver, .. } = &mut *route;
        let waker = match turn {
            TurnOf::Driver | TurnOf::HandedOver => driver.take(),
            TurnOf::Reader(waker) => waker.take(),
        };
        drop(route);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

pub(super) struct SharedWork {
    /// `None` once it is done, or given up.
    work: Mutex<Option<Work>>,
    router: Arc<Router>,
}

impl SharedWork {
    pub(super) fn new(work: Work) -> Self {
        let route = Route {
            turn: TurnOf::Driver,
            driver: None,
            is_woken: true,
        };
        Self {
            work: Mutex::new(Some(work)),
            router: Arc::new(Router(Mutex::new(route))),
        }
    }

    fn work(&self) -> MutexGuard<'_, Option<Work>> {
        // A panic in a poll ends the work, see `run` and `close`.
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the work in the driver's own task, unless a reader has the turn.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let mut route = self.router.route();
        let stale = route.driver.replace(waker);
        let is_readers = matches!(route.turn, TurnOf::Reader(_));
        // Before the poll: what wakes during the poll counts.
        route.is_woken &= is_readers;
        drop(route);
        drop(stale);
        if is_readers {
            // The end of its turn wakes this task, if there is something to do.
            return Poll::Pending;
        }
        let mut work = self.work();
        let done = poll_once(&mut work, &self.router);
        let finished = work.take_if(|_| done.is_ready());
        drop(work);
        drop(finished);
        // A reader that came during the poll has found the work taken, and waits. What has woken the work since is its to do.
        let mut route = self.router.route();
        let is_due = route.is_woken || done.is_ready();
        let waker = match &mut route.turn {
            TurnOf::Reader(waker) if is_due => waker.take(),
            _ => None,
        };
        drop(route);
        if let Some(waker) = waker {
            waker.wake();
        }
        done
    }

    /// Drops the work. If a reader runs it at this moment, after its poll.
    pub(super) fn close(&self) {
        let work = self.work().take();
        drop(work);
    }
}

fn poll_once(work: &mut Option<Work>, router: &Arc<Router>) -> Poll<()> {
    let waker = Waker::from(Arc::clone(router));
    match work {
        Some(work) => work.as_mut().poll(&mut Context::from_waker(&waker)),
        None => Poll::Ready(()),
    }
}

impl Fetcher for SharedWork {
    fn enter(&self) -> bool {
        // The work tells what it does at this level. A logger is the app's code, and may block.
        if log::log_enabled!(log::Level::Debug) {
            return false;
        }
        let mut route = self.router.route();
        let is_free = matches!(route.turn, TurnOf::Driver);
        if is_free {
            route.turn = TurnOf::Reader(None);
        }
        is_free
    }

    fn run(&self, waker: &Waker) -> bool {
        let waker = waker.clone();
        let mut route = self.router.route();
        let TurnOf::Reader(own) = &mut route.turn else {
            return false;
        };
        let stale = own.replace(waker);
        let is_woken = route.is_woken;
        drop(route);
        drop(stale);
        if !is_woken {
            return false;
        }
        // Taken, the driver runs it, and wakes this thread at the end of its poll if there is more to do. Poisoned, a poll of the
        // driver's has panicked, which drops the work.
        let Ok(mut work) = self.work.try_lock() else {
            return false;
        };
        if work.is_none() {
            return false;
        }
        self.router.route().is_woken = false;
        let mark = Mark(POLLED_BY.replace(PolledBy::Reader));
        // A panic ends the download, as it does in the driver's task, and not the app's reading thread.
        let polled = catch_unwind(AssertUnwindSafe(|| poll_once(&mut work, &self.router)));
        let hands_over = POLLED_BY.get() == PolledBy::ReaderHandsOver;
        drop(mark);
        let is_done = !matches!(polled, Ok(Poll::Pending));
        let finished = work.take_if(|_| is_done);
        drop(work);
        drop(finished);
        if is_done || hands_over {
            self.router.end_turn(TurnOf::HandedOver, true);
        }
        true
    }

    fn leave(&self) {
        self.router.end_turn(TurnOf::Driver, false);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::thread::{self, ThreadId};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Count {
        fn waker(self: &Arc<Self>) -> Waker {
            Waker::from(Arc::clone(self))
        }

        fn get(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// What a test has of the work: who polled it, its waker, and what the next poll does.
    #[derive(Default)]
    struct Script {
        polled_by: Mutex<Vec<ThreadId>>,
        waker: Mutex<Option<Waker>>,
        ends: AtomicBool,
        hands_over: AtomicBool,
        panics: AtomicBool,
    }

    impl Script {
        fn work(self: &Arc<Self>) -> SharedWork {
            let script = Arc::clone(self);
            SharedWork::new(Box::pin(std::future::poll_fn(move |cx| {
                script.polled_by.lock().unwrap().push(thread::current().id());
                *script.waker.lock().unwrap() = Some(cx.waker().clone());
                assert!(!script.panics.load(Ordering::SeqCst), "as scripted");
                if script.hands_over.load(Ordering::SeqCst) {
                    hand_over();
                }
                if script.ends.load(Ordering::SeqCst) {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })))
        }

        fn wake(&self) {
            let waker = self.waker.lock().unwrap().clone();
            waker.unwrap().wake();
        }

        fn polls(&self) -> usize {
            self.polled_by.lock().unwrap().len()
        }
    }

    fn poll(work: &SharedWork, driver: &Arc<Count>) -> Poll<()> {
        work.poll(&mut Context::from_waker(&driver.waker()))
    }

    #[test]
    fn a_wake_up_goes_to_the_one_whose_turn_it_is() {
        let (script, driver, reader) = <(Arc<Script>, Arc<Count>, Arc<Count>)>::default();
        let work = script.work();
        assert!(poll(&work, &driver).is_pending());
        script.wake();
        assert_eq!(driver.get(), 1);
        assert!(poll(&work, &driver).is_pending());
        assert!(work.enter());
        assert!(!work.enter(), "one reader at a time");
        assert!(!work.run(&reader.waker()), "nothing to do");
        script.wake();
        assert_eq!((driver.get(), reader.get()), (1, 1));
        assert!(poll(&work, &driver).is_pending());
        assert_eq!(script.polls(), 2, "the driver leaves it to the reader");
        assert!(work.run(&reader.waker()));
        assert!(!work.run(&reader.waker()));
        assert_eq!(script.polls(), 3);
        work.leave();
        assert_eq!(driver.get(), 1, "nothing is left to do");
        script.wake();
        assert_eq!((driver.get(), reader.get()), (2, 1));
    }

    #[test]
    fn what_woke_in_a_turn_and_was_not_done_wakes_the_driver() {
        let (script, driver, reader) = <(Arc<Script>, Arc<Count>, Arc<Count>)>::default();
        let work = script.work();
        assert!(poll(&work, &driver).is_pending());
        assert!(work.enter());
        script.wake();
        assert_eq!(driver.get(), 0);
        work.leave();
        assert_eq!((driver.get(), reader.get()), (1, 0));
        assert!(poll(&work, &driver).is_pending());
        assert_eq!(script.polls(), 2);
    }

    #[test]
    fn a_turn_that_is_handed_over_ends_and_no_other_reader_takes_it() {
        let (script, driver, reader) = <(Arc<Script>, Arc<Count>, Arc<Count>)>::default();
        let work = script.work();
        assert!(poll(&work, &driver).is_pending());
        assert!(work.enter());
        script.wake();
        script.hands_over.store(true, Ordering::SeqCst);
        assert!(work.run(&reader.waker()));
        assert_eq!(driver.get(), 1);
        script.wake();
        assert_eq!((driver.get(), reader.get()), (1, 0), "it is woken already");
        assert!(!work.run(&reader.waker()) && !work.enter());
        assert!(poll(&work, &driver).is_pending());
        assert_eq!(script.polls(), 3);
        work.leave();
        assert!(work.enter());
    }

    /// Also where a reader comes when the part has been begun.
    #[test]
    fn what_is_the_drivers_alone_no_reader_runs() {
        let (driver, reader) = <(Arc<Count>, Arc<Count>)>::default();
        let (sender, receiver) = async_channel::bounded::<()>(1);
        let work = SharedWork::new(Box::pin(by_driver(async move {
            receiver.recv().await.ok();
            assert!(!is_run_by_reader());
        })));
        assert!(poll(&work, &driver).is_pending());
        assert!(work.enter());
        sender.try_send(()).unwrap();
        assert_eq!((driver.get(), reader.get()), (0, 0));
        assert!(work.run(&reader.waker()), "it hands over");
        assert_eq!(driver.get(), 1);
        assert_eq!(poll(&work, &driver), Poll::Ready(()));
        work.leave();
    }

    #[test]
    fn work_that_a_reader_ends_or_that_panics_ends_the_driver() {
        for panics in [false, true] {
            let (script, driver, reader) = <(Arc<Script>, Arc<Count>, Arc<Count>)>::default();
            let work = script.work();
            assert!(poll(&work, &driver).is_pending());
            assert!(work.enter());
            script.wake();
            script.ends.store(!panics, Ordering::SeqCst);
            script.panics.store(panics, Ordering::SeqCst);
            assert!(work.run(&reader.waker()));
            assert_eq!(driver.get(), 1);
            assert_eq!(poll(&work, &driver), Poll::Ready(()));
            assert!(!is_run_by_reader());
            assert_eq!(Arc::strong_count(&script), 1, "dropped with what it has open");
        }
    }

    /// S1: a driver that is dropped ends its work, also while a thread reads.
    #[test]
    fn closed_in_a_turn_the_work_is_dropped() {
        let script = Arc::new(Script::default());
        let work = script.work();
        assert!(work.enter());
        work.close();
        assert_eq!(Arc::strong_count(&script), 1);
        assert!(!work.run(Waker::noop()));
        work.leave();
    }
}

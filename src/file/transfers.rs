//! The transfers of a download, where two threads reach them: the driver's, and the one that ends the download.
//!
//! The driver holds transfers only while it polls them, and not while it writes to the disk. So the thread that drops the
//! last reader closes them at once, whatever the driver is doing:
//!
//! ```text
//!   driver                          thread that drops the last reader
//!   take the transfers out
//!     poll them, no lock held       phase := CANCELLED
//!   put them back                   close what is in
//!   phase CANCELLED? close them     cancel the token: what is out loses its sockets
//! ```
//!
//! The driver takes them out because polling runs wakers. Those are the executor's code and may come back here: under the
//! lock that would be a deadlock.

use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::{Context, Poll};

use bytes::Bytes;

use super::schedule::{Slot, Span};
use super::transfer::{Transfer, TransferEvent};
use crate::net::{CancelToken, Request};

/// A caller opens the file. Dropping the caller's future cancels.
const OPENING: u8 = 0;
/// The file is open. Other sources may share the download, and only the drop of the last reader cancels.
const OPEN: u8 = 1;
const CANCELLED: u8 = 2;

#[derive(Default)]
pub(super) struct Transfers {
    /// [`OPENING`] comes first, [`CANCELLED`] is final.
    phase: AtomicU8,
    slots: Mutex<Slots>,
    cancel_token: CancelToken,
}

#[derive(Default)]
pub(super) struct Slots {
    pub(super) main: Option<Transfer>,
    pub(super) side: Option<Transfer>,
    /// Replaced by a jump. Kept for the bytes that it has received already.
    abandoned: Option<Transfer>,
    /// A connection that is being made for the next jump.
    spare: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Slots {
    pub(super) fn slot(&mut self, slot: Slot) -> &mut Option<Transfer> {
        match slot {
            Slot::Main => &mut self.main,
            Slot::Side => &mut self.side,
        }
    }

    /// The side transfer comes first. A parked main transfer is polled only as long as its head is to come.
    fn poll(&mut self, continue_main: bool, cx: &mut Context<'_>) -> Poll<(Slot, TransferEvent)> {
        // Before the transfers: a fast one always has bytes, and the connection would never be made.
        if let Some(spare) = &mut self.spare
            && spare.as_mut().poll(cx).is_ready()
        {
            self.spare = None;
        }
        if let Some(side) = &mut self.side
            && let Poll::Ready(event) = side.poll(cx)
        {
            return Poll::Ready((Slot::Side, event));
        }
        let main = self.main.as_mut();
        if let Some(main) = main.filter(|main| continue_main || main.waits_for_head())
            && let Poll::Ready(event) = main.poll(cx)
        {
            return Poll::Ready((Slot::Main, event));
        }
        Poll::Pending
    }
}

impl Transfers {
    /// Works on the transfers, which are taken out meanwhile. For the driver alone: a second caller would find none.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Slots) -> T) -> T {
        let mut slots = std::mem::take(&mut *self.lock());
        let value = work(&mut slots);
        *self.lock() = slots;
        // A `cancel` that came meanwhile found nothing to close. It has left that to this check, which therefore follows
        // the putting back.
        if self.is_cancelled() {
            self.cancel();
        }
        value
    }

    /// Held only to move the transfers.
    fn lock(&self) -> MutexGuard<'_, Slots> {
        // They are moved whole, and no foreign code runs under the lock: poisoning says nothing.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn poll(&self, continue_main: bool, cx: &mut Context<'_>) -> Poll<(Slot, TransferEvent)> {
        let event = self.with(|slots| slots.poll(continue_main, cx));
        // A cancelled connection may look like one that came to the end of its file: the event says nothing.
        if self.is_cancelled() {
            return Poll::Pending;
        }
        event
    }

    /// Makes `request` end when these are cancelled.
    pub(super) fn attach(&self, request: Request) -> Request {
        request.cancelled_by(self.cancel_token.clone())
    }

    /// The spans of main and side.
    pub(super) fn spans(&self) -> (Option<Span>, Option<Span>) {
        let span = |transfer: &Option<Transfer>| transfer.as_ref().map(|transfer| transfer.span);
        self.with(|slots| (span(&slots.main), span(&slots.side)))
    }

    /// Puts a transfer in the place of the one there, which is kept for [`salvage`](Self::salvage). Returns whether there
    /// was one that was not done.
    pub(super) fn start(&self, slot: Slot, transfer: Transfer) -> bool {
        // One abandoned transfer at a time: a reader that jumps about must not gather connections.
        let (older, is_jump) = self.with(|slots| {
            let abandoned = slots.slot(slot).replace(transfer);
            let abandoned = abandoned.filter(|transfer| !transfer.span.is_done());
            let is_jump = abandoned.is_some();
            (std::mem::replace(&mut slots.abandoned, abandoned), is_jump)
        });
        drop(older);
        is_jump
    }

    /// Makes a connection for the next jump, unless one is being made.
    pub(super) fn prepare(&self, connection: impl Future<Output = ()> + Send + 'static) {
        self.with(|slots| {
            if slots.spare.is_none() {
                slots.spare = Some(Box::pin(connection));
            }
        });
    }

    /// The next bytes of a transfer and their position, if they have come already.
    pub(super) fn ready_data(&self, slot: Slot) -> Option<(u64, Bytes)> {
        self.with(|slots| slots.slot(slot).as_mut()?.ready_data())
    }

    /// The next bytes that the abandoned transfer has received already, and their position. When there are none left, it
    /// is closed.
    pub(super) fn salvage(&self) -> Option<(u64, Bytes)> {
        let (data, done) = self.with(|slots| {
            let data = slots.abandoned.as_mut().and_then(Transfer::ready_data);
            let done = slots.abandoned.take_if(|_| data.is_none());
            (data, done)
        });
        drop(done);
        data
    }

    /// Takes a transfer out, to be closed.
    pub(super) fn take(&self, slot: Slot) -> Option<Transfer> {
        self.with(|slots| slots.slot(slot).take())
    }

    /// Closes all transfers. Others may follow.
    pub(super) fn clear(&self) {
        let slots = self.with(std::mem::take);
        drop(slots);
    }

    pub(super) fn close_abandoned(&self) {
        let abandoned = self.with(|slots| slots.abandoned.take());
        drop(abandoned);
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.phase.load(Ordering::SeqCst) == CANCELLED
    }

    /// The file is open: dropping the caller's future no longer cancels. `false` if it has done so.
    pub(super) fn mark_open(&self) -> bool {
        self.leave_opening_phase(OPEN)
    }

    /// One exchange decides between the caller's drop and the opened file. Exactly one of the two succeeds.
    fn leave_opening_phase(&self, to: u8) -> bool {
        let left = self
            .phase
            .compare_exchange(OPENING, to, Ordering::SeqCst, Ordering::SeqCst);
        left.is_ok()
    }

    /// Closes all connections, now and from now on, without waiting. A transfer that the driver holds at this moment loses
    /// its socket at once, and is dropped when the driver puts it back.
    pub(super) fn cancel(&self) {
        // The phase comes first: the driver checks it after it has put transfers back.
        self.phase.store(CANCELLED, Ordering::SeqCst);
        let slots = match self.slots.try_lock() {
            Ok(mut slots) => std::mem::take(&mut *slots),
            Err(TryLockError::Poisoned(poisoned)) => std::mem::take(&mut *poisoned.into_inner()),
            // The driver is moving them, and sees the phase afterwards.
            Err(TryLockError::WouldBlock) => Slots::default(),
        };
        drop(slots);
        self.cancel_token.cancel();
    }
}

/// Held by the caller that opens a file. Dropped while the file opens, it cancels.
pub(super) struct CancelOnDrop(pub(super) Arc<Transfers>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if self.0.leave_opening_phase(CANCELLED) {
            self.0.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpListener;
    use std::sync::atomic::AtomicUsize;
    use std::task::{Wake, Waker};
    use std::thread::{self, ThreadId};
    use std::time::Duration;

    use super::*;
    use crate::net::{HttpClient, RetryPolicy, Url};

    /// A main transfer whose connection is open and whose head never comes. Returns the server's end.
    fn connected(transfers: &Transfers) -> std::net::TcpStream {
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/", server.local_addr().expect("bound"));
        let request = transfers.attach(Request::get(Url::parse(&url).expect("a url")));
        let client = HttpClient::builder()
            .retry(RetryPolicy::none())
            .build()
            .expect("a client");
        transfers.start(
            Slot::Main,
            Transfer::start(&client, request, Span { next: 0, end: None }),
        );
        assert!(
            transfers
                .poll(true, &mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
        let (mut socket, _) = server.accept().expect("a connection");
        let head_sent = std::future::poll_fn(|cx| {
            assert!(transfers.poll(true, cx).is_pending());
            socket.set_nonblocking(true).expect("a socket");
            match socket.read(&mut [0; 1024]) {
                Ok(read) if read > 0 => Poll::Ready(()),
                _ => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
            }
        });
        futures_lite::future::block_on(head_sent);
        socket.set_nonblocking(false).expect("a socket");
        let long = Some(Duration::from_secs(20));
        socket.set_read_timeout(long).expect("a socket");
        socket
    }

    fn is_closed(socket: &mut std::net::TcpStream) -> bool {
        match socket.read(&mut [0; 8]) {
            Ok(count) => count == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }

    /// N5, S1.
    #[test]
    fn cancelling_closes_at_once_and_for_good() {
        let transfers = Transfers::default();
        let mut socket = connected(&transfers);
        transfers.cancel();
        assert!(is_closed(&mut socket));
        assert_eq!(transfers.spans(), (None, None));
        let client = HttpClient::new().expect("a client");
        let request = Request::get(Url::parse("http://127.0.0.1:9/").expect("a url"));
        let span = Span { next: 0, end: None };
        transfers.start(Slot::Side, Transfer::start(&client, request, span));
        assert_eq!(
            transfers.spans(),
            (None, None),
            "what is started later is closed too"
        );
    }

    /// N5: the driver polls while the last reader is dropped.
    #[test]
    fn transfers_are_closed_while_the_driver_holds_them() {
        let transfers = Transfers::default();
        let mut socket = connected(&transfers);
        transfers.with(|slots| {
            transfers.cancel();
            assert!(slots.main.is_some(), "not waited for");
            assert!(is_closed(&mut socket));
        });
        assert_eq!(transfers.spans(), (None, None), "and dropped next");
    }

    /// Fault C14: other sources may share an open download.
    #[test]
    fn the_caller_cancels_a_file_that_opens_and_not_one_that_is_open() {
        let transfers = Arc::new(Transfers::default());
        let opener = CancelOnDrop(Arc::clone(&transfers));
        assert!(transfers.mark_open());
        drop(opener);
        assert!(!transfers.is_cancelled());
        transfers.cancel();
        assert!(transfers.is_cancelled());
        let transfers = Arc::new(Transfers::default());
        drop(CancelOnDrop(Arc::clone(&transfers)));
        assert!(transfers.is_cancelled() && !transfers.mark_open());
    }

    /// A body without a length ends with its connection. A cancelled one would pass for a complete file.
    #[test]
    fn events_of_a_cancelled_transfer_are_not_delivered() {
        let transfers = Transfers::default();
        let _socket = connected(&transfers);
        let event = transfers.with(|slots| {
            transfers.cancel();
            slots.poll(true, &mut Context::from_waker(Waker::noop()))
        });
        assert!(matches!(event, Poll::Ready((_, TransferEvent::Failed(_)))));
        let transfers = Transfers::default();
        let _socket = connected(&transfers);
        transfers.cancel_token.cancel();
        transfers.phase.store(CANCELLED, Ordering::SeqCst);
        assert!(
            transfers
                .poll(true, &mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
    }

    /// S1: nothing goes on after the drop.
    #[test]
    fn cancelling_drops_the_connection_that_is_being_made() {
        let transfers = Transfers::default();
        let (alive, dropped) = std::sync::mpsc::channel::<()>();
        transfers.prepare(async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        });
        assert!(
            transfers
                .poll(true, &mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
        transfers.cancel();
        let gone = Err(std::sync::mpsc::TryRecvError::Disconnected);
        assert_eq!(dropped.try_recv(), gone);
    }

    /// Fault C25: a poll wakes or drops an executor's waker, which may come back here.
    #[test]
    fn wakers_run_without_the_lock() {
        struct ProbingWaker {
            transfers: Arc<Transfers>,
            runs: Arc<AtomicUsize>,
            polled_on: ThreadId,
        }
        impl ProbingWaker {
            fn probe(&self) {
                // The reactor's thread may call this while the test moves the transfers.
                let by_the_poll = thread::current().id() == self.polled_on;
                assert!(!by_the_poll || self.transfers.slots.try_lock().is_ok());
                self.runs.fetch_add(1, Ordering::SeqCst);
            }
        }
        impl Wake for ProbingWaker {
            fn wake(self: Arc<Self>) {
                self.probe();
            }
        }
        impl Drop for ProbingWaker {
            fn drop(&mut self) {
                self.probe();
            }
        }
        let transfers = Arc::new(Transfers::default());
        let _socket = connected(&transfers);
        let runs = Arc::new(AtomicUsize::new(0));
        let waker = |runs: &Arc<AtomicUsize>| {
            Waker::from(Arc::new(ProbingWaker {
                transfers: Arc::clone(&transfers),
                runs: Arc::clone(runs),
                polled_on: thread::current().id(),
            }))
        };
        assert!(
            transfers
                .poll(true, &mut Context::from_waker(&waker(&runs)))
                .is_pending()
        );
        let before = runs.load(Ordering::SeqCst);
        // The connection drops the first waker when it takes this one.
        let last = waker(&Arc::default());
        assert!(transfers.poll(true, &mut Context::from_waker(&last)).is_pending());
        assert!(runs.load(Ordering::SeqCst) > before, "run by the poll");
        transfers.clear();
    }
}

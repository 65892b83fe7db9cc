//! The connections of a fetch, where two can get at them: its driver, and whoever ends it.
//!
//! The driver has them only while it polls them, and not while it writes to the disk; so the thread that drops the
//! last reader closes them there and then, whatever the driver is doing (N5). To poll them it takes them out: polling
//! runs wakers, which are the executor's code and may come back here. What is out just then is hung up over its head.

use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::{Context, Poll};

use bytes::Bytes;

use super::schedule::{Slot, Span};
use super::transfer::{Transfer, TransferEvent};
use crate::net::{CancelToken, Request};

/// The file is being opened, for one who asked and may give up.
const OPENING: u8 = 0;
/// It is open: others may read along, and only the last reader's drop ends it.
const OPEN: u8 = 1;
const CANCELLED: u8 = 2;

/// What is under way, and whether it is called off.
#[derive(Default)]
pub(super) struct Transfers {
    /// [`OPENING`] comes first, [`CALLED_OFF`] is the end.
    phase: AtomicU8,
    slots: Mutex<Slots>,
    cancel_token: CancelToken,
}

#[derive(Default)]
pub(super) struct Slots {
    pub(super) main: Option<Transfer>,
    pub(super) side: Option<Transfer>,
    /// Given up, but for what it has received already.
    abandoned: Option<Transfer>,
    /// A connection being made for the next jump.
    spare: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Slots {
    pub(super) fn transfer(&mut self, slot: Slot) -> &mut Option<Transfer> {
        match slot {
            Slot::Main => &mut self.main,
            Slot::Side => &mut self.side,
        }
    }

    /// The side lane first; the main one only if so, or if its head is still to come.
    fn poll(&mut self, continue_main: bool, cx: &mut Context<'_>) -> Poll<(Slot, TransferEvent)> {
        // First, as a fast lane is never out of bytes.
        if let Some(spare) = &mut self.spare
            && spare.as_mut().poll(cx).is_ready()
        {
            self.spare = None;
        }
        if let Some(transfer) = &mut self.side
            && let Poll::Ready(event) = transfer.poll(cx)
        {
            return Poll::Ready((Slot::Side, event));
        }
        if let Some(transfer) = self
            .main
            .as_mut()
            .filter(|transfer| continue_main || transfer.is_asking())
            && let Poll::Ready(event) = transfer.poll(cx)
        {
            return Poll::Ready((Slot::Main, event));
        }
        Poll::Pending
    }
}

impl Transfers {
    /// Works on the lanes, which are not here meanwhile. For the driver alone: of two at a time one would find none.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Slots) -> T) -> T {
        let mut slots = std::mem::take(&mut *self.lock());
        let value = work(&mut slots);
        *self.lock() = slots;
        // Whoever called it off meanwhile has left the closing to this.
        if self.is_cancelled() {
            self.cancel();
        }
        value
    }

    /// For as long as it takes to move them.
    fn lock(&self) -> MutexGuard<'_, Slots> {
        // Lanes are moved whole, and no foreign code runs meanwhile.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn poll(&self, continue_main: bool, cx: &mut Context<'_>) -> Poll<(Slot, TransferEvent)> {
        let event = self.with(|slots| slots.poll(continue_main, cx));
        // A connection that is hung up may look like one that came to the end of its file.
        if self.is_cancelled() {
            return Poll::Pending;
        }
        event
    }

    /// Has it end with the others when they are called off.
    pub(super) fn attach(&self, request: Request) -> Request {
        request.cancelled_by(self.cancel_token.clone())
    }

    /// Where the lanes are.
    pub(super) fn spans(&self) -> (Option<Span>, Option<Span>) {
        let span = |transfer: &Option<Transfer>| transfer.as_ref().map(|transfer| transfer.span);
        self.with(|slots| (span(&slots.main), span(&slots.side)))
    }

    /// Starts a lane in the place of the one there, which is kept for [`rescue`](Self::rescue). Whether there was one, and it
    /// had not come to its end.
    pub(super) fn start(&self, slot: Slot, transfer: Transfer) -> bool {
        let (older, is_jump) = self.with(|slots| {
            let stale = slots.transfer(slot).replace(transfer);
            let stale = stale.filter(|transfer| !transfer.span.is_done());
            let is_jump = stale.is_some();
            (std::mem::replace(&mut slots.abandoned, stale), is_jump)
        });
        drop(older);
        is_jump
    }

    /// Has a connection made for the next jump, unless that is under way.
    pub(super) fn prepare(&self, making: impl Future<Output = ()> + Send + 'static) {
        self.with(|slots| {
            if slots.spare.is_none() {
                slots.spare = Some(Box::pin(making));
            }
        });
    }

    /// The next bytes that the lane given up has received already, and their place. Afterwards it is closed.
    pub(super) fn salvage(&self) -> Option<(u64, Bytes)> {
        let (bytes, stale) =
            self.with(
                |slots| match slots.abandoned.as_mut().and_then(Transfer::ready_data) {
                    Some(TransferEvent::Data(at, bytes)) => (Some((at, bytes)), None),
                    _ => (None, slots.abandoned.take()),
                },
            );
        drop(stale);
        bytes
    }

    /// Takes a lane out, to be closed.
    pub(super) fn take(&self, slot: Slot) -> Option<Transfer> {
        self.with(|slots| slots.transfer(slot).take())
    }

    /// Closes all of them. Others may follow.
    pub(super) fn clear(&self) {
        let slots = self.with(std::mem::take);
        drop(slots);
    }

    /// Closes the lane given up.
    pub(super) fn close_abandoned(&self) {
        let abandoned = self.with(|slots| slots.abandoned.take());
        drop(abandoned);
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.phase.load(Ordering::SeqCst) == CANCELLED
    }

    /// Ends the opening. From now on whoever asked for it cannot call it off any more; `false` if he has.
    pub(super) fn mark_open(&self) -> bool {
        self.leave_opening_phase(OPEN)
    }

    fn leave_opening_phase(&self, to: u8) -> bool {
        let left = self
            .phase
            .compare_exchange(OPENING, to, Ordering::SeqCst, Ordering::SeqCst);
        left.is_ok()
    }

    /// Closes all connections, now and from now on, without waiting. Those that the driver is at this moment are
    /// cut off, and dropped as its next step.
    pub(super) fn cancel(&self) {
        self.phase.store(CANCELLED, Ordering::SeqCst);
        let slots = match self.slots.try_lock() {
            Ok(mut slots) => std::mem::take(&mut *slots),
            Err(TryLockError::Poisoned(poisoned)) => std::mem::take(&mut *poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => Slots::default(),
        };
        drop(slots);
        self.cancel_token.cancel();
    }
}

/// Of whoever asked for a file. Dropped while it opens, it calls the fetch off.
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

    /// A lane whose connection is open and whose head never comes, and the server's end of it.
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
            Transfer::ask(&client, request, Span { next: 0, end: None }),
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
    fn calling_off_closes_at_once_and_for_good() {
        let transfers = Transfers::default();
        let mut socket = connected(&transfers);
        transfers.cancel();
        assert!(is_closed(&mut socket));
        assert_eq!(transfers.spans(), (None, None));
        let client = HttpClient::new().expect("a client");
        let request = Request::get(Url::parse("http://127.0.0.1:9/").expect("a url"));
        let span = Span { next: 0, end: None };
        transfers.start(Slot::Side, Transfer::ask(&client, request, span));
        assert_eq!(
            transfers.spans(),
            (None, None),
            "what is started later is closed too"
        );
    }

    /// N5: the driver is at the lanes while the last reader is dropped.
    #[test]
    fn lanes_are_closed_over_the_head_of_whoever_holds_them() {
        let transfers = Transfers::default();
        let mut socket = connected(&transfers);
        transfers.with(|slots| {
            transfers.cancel();
            assert!(slots.main.is_some(), "not waited for");
            assert!(is_closed(&mut socket));
        });
        assert_eq!(transfers.spans(), (None, None), "and dropped next");
    }

    /// Fault C14: others may have joined what is open.
    #[test]
    fn who_asked_calls_off_what_is_opening_and_not_what_is_open() {
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

    /// A body without a length ends with its connection: one that was hung up would be taken for a whole file.
    #[test]
    fn what_comes_of_a_lane_that_is_hung_up_is_not_told() {
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
    fn calling_off_drops_the_connection_that_is_being_made() {
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

    /// Fault C25: an executor's waker that is woken or dropped by a poll may come back here.
    #[test]
    fn wakers_run_without_the_lock() {
        struct Nosy {
            transfers: Arc<Transfers>,
            found: Arc<AtomicUsize>,
            polled_on: ThreadId,
        }
        impl Nosy {
            fn check(&self) {
                // The reactor's thread may come by while the test moves the lanes.
                let by_the_poll = thread::current().id() == self.polled_on;
                assert!(!by_the_poll || self.transfers.slots.try_lock().is_ok());
                self.found.fetch_add(1, Ordering::SeqCst);
            }
        }
        impl Wake for Nosy {
            fn wake(self: Arc<Self>) {
                self.check();
            }
        }
        impl Drop for Nosy {
            fn drop(&mut self) {
                self.check();
            }
        }
        let transfers = Arc::new(Transfers::default());
        let _socket = connected(&transfers);
        let found = Arc::new(AtomicUsize::new(0));
        let nosy = |found: &Arc<AtomicUsize>| {
            Waker::from(Arc::new(Nosy {
                transfers: Arc::clone(&transfers),
                found: Arc::clone(found),
                polled_on: thread::current().id(),
            }))
        };
        assert!(
            transfers
                .poll(true, &mut Context::from_waker(&nosy(&found)))
                .is_pending()
        );
        let before = found.load(Ordering::SeqCst);
        // The connection lets go of the first waker as it takes this one.
        let last = nosy(&Arc::default());
        assert!(transfers.poll(true, &mut Context::from_waker(&last)).is_pending());
        assert!(found.load(Ordering::SeqCst) > before, "run by the poll");
        transfers.clear();
    }
}

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

use super::lane::{Event, Lane};
use super::plan::{Span, Which};
use crate::net::{CancelToken, Request};

/// The file is being opened, for one who asked and may give up.
const OPENING: u8 = 0;
/// It is open: others may read along, and only the last reader's drop ends it.
const OPEN: u8 = 1;
const CALLED_OFF: u8 = 2;

/// What is under way, and whether it is called off.
#[derive(Default)]
pub(super) struct Lines {
    /// [`OPENING`] comes first, [`CALLED_OFF`] is the end.
    phase: AtomicU8,
    lanes: Mutex<Lanes>,
    cancel: CancelToken,
}

#[derive(Default)]
pub(super) struct Lanes {
    pub(super) main: Option<Lane>,
    pub(super) side: Option<Lane>,
    /// Given up, but for what it has received already.
    old: Option<Lane>,
    /// A connection being made for the next jump.
    spare: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Lanes {
    pub(super) fn lane(&mut self, which: Which) -> &mut Option<Lane> {
        match which {
            Which::Main => &mut self.main,
            Which::Side => &mut self.side,
        }
    }

    /// The side lane first; the main one only if so, or if its head is still to come.
    fn poll(&mut self, go_main: bool, cx: &mut Context<'_>) -> Poll<(Which, Event)> {
        // First, as a fast lane is never out of bytes.
        if let Some(spare) = &mut self.spare
            && spare.as_mut().poll(cx).is_ready()
        {
            self.spare = None;
        }
        if let Some(lane) = &mut self.side
            && let Poll::Ready(event) = lane.poll(cx)
        {
            return Poll::Ready((Which::Side, event));
        }
        if let Some(lane) = self.main.as_mut().filter(|lane| go_main || lane.is_asking())
            && let Poll::Ready(event) = lane.poll(cx)
        {
            return Poll::Ready((Which::Main, event));
        }
        Poll::Pending
    }
}

impl Lines {
    /// Works on the lanes, which are not here meanwhile. For the driver alone: of two at a time one would find none.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Lanes) -> T) -> T {
        let mut lanes = std::mem::take(&mut *self.lock());
        let value = work(&mut lanes);
        *self.lock() = lanes;
        // Whoever called it off meanwhile has left the closing to this.
        if self.is_called_off() {
            self.call_off();
        }
        value
    }

    /// For as long as it takes to move them.
    fn lock(&self) -> MutexGuard<'_, Lanes> {
        // Lanes are moved whole, and no foreign code runs meanwhile.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn poll(&self, go_main: bool, cx: &mut Context<'_>) -> Poll<(Which, Event)> {
        let event = self.with(|lanes| lanes.poll(go_main, cx));
        // A connection that is hung up may look like one that came to the end of its file.
        if self.is_called_off() {
            return Poll::Pending;
        }
        event
    }

    /// Has it end with the others when they are called off.
    pub(super) fn take_along(&self, request: Request) -> Request {
        request.cancelled_by(self.cancel.clone())
    }

    /// Where the lanes are.
    pub(super) fn spans(&self) -> (Option<Span>, Option<Span>) {
        let span = |lane: &Option<Lane>| lane.as_ref().map(|lane| lane.span);
        self.with(|lanes| (span(&lanes.main), span(&lanes.side)))
    }

    /// Starts a lane in the place of the one there, which is kept for [`rescue`](Self::rescue). Whether there was one, and it
    /// had not come to its end.
    pub(super) fn start(&self, which: Which, lane: Lane) -> bool {
        let (older, is_jump) = self.with(|lanes| {
            let stale = lanes.lane(which).replace(lane);
            let stale = stale.filter(|lane| !lane.span.is_over());
            let is_jump = stale.is_some();
            (std::mem::replace(&mut lanes.old, stale), is_jump)
        });
        drop(older);
        is_jump
    }

    /// Has a connection made for the next jump, unless that is under way.
    pub(super) fn prepare(&self, making: impl Future<Output = ()> + Send + 'static) {
        self.with(|lanes| {
            if lanes.spare.is_none() {
                lanes.spare = Some(Box::pin(making));
            }
        });
    }

    /// The next bytes that the lane given up has received already, and their place. Afterwards it is closed.
    pub(super) fn rescue(&self) -> Option<(u64, Bytes)> {
        let (bytes, over) = self.with(|lanes| match lanes.old.as_mut().and_then(Lane::at_hand) {
            Some(Event::Data(at, bytes)) => (Some((at, bytes)), None),
            _ => (None, lanes.old.take()),
        });
        drop(over);
        bytes
    }

    /// Takes a lane out, to be closed.
    pub(super) fn take(&self, which: Which) -> Option<Lane> {
        self.with(|lanes| lanes.lane(which).take())
    }

    /// Closes all of them. Others may follow.
    pub(super) fn clear(&self) {
        let lanes = self.with(std::mem::take);
        drop(lanes);
    }

    /// Closes the lane given up.
    pub(super) fn close_old(&self) {
        let old = self.with(|lanes| lanes.old.take());
        drop(old);
    }

    pub(super) fn is_called_off(&self) -> bool {
        self.phase.load(Ordering::SeqCst) == CALLED_OFF
    }

    /// Ends the opening. From now on whoever asked for it cannot call it off any more; `false` if he has.
    pub(super) fn has_opened(&self) -> bool {
        self.leave_opening(OPEN)
    }

    fn leave_opening(&self, to: u8) -> bool {
        let left = self
            .phase
            .compare_exchange(OPENING, to, Ordering::SeqCst, Ordering::SeqCst);
        left.is_ok()
    }

    /// Closes all connections, now and from now on, without waiting. Those that the driver is at this moment are
    /// cut off, and dropped as its next step.
    pub(super) fn call_off(&self) {
        self.phase.store(CALLED_OFF, Ordering::SeqCst);
        let lanes = match self.lanes.try_lock() {
            Ok(mut lanes) => std::mem::take(&mut *lanes),
            Err(TryLockError::Poisoned(poisoned)) => std::mem::take(&mut *poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => Lanes::default(),
        };
        drop(lanes);
        self.cancel.cancel();
    }
}

/// Of whoever asked for a file. Dropped while it opens, it calls the fetch off.
pub(super) struct CallOff(pub(super) Arc<Lines>);

impl Drop for CallOff {
    fn drop(&mut self) {
        if self.0.leave_opening(CALLED_OFF) {
            self.0.call_off();
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
    fn connected(lines: &Lines) -> std::net::TcpStream {
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/", server.local_addr().expect("bound"));
        let request = lines.take_along(Request::get(Url::parse(&url).expect("a url")));
        let client = HttpClient::builder()
            .retry(RetryPolicy::none())
            .build()
            .expect("a client");
        lines.start(
            Which::Main,
            Lane::ask(&client, request, Span { next: 0, end: None }),
        );
        assert!(
            lines
                .poll(true, &mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
        let (mut socket, _) = server.accept().expect("a connection");
        let head_sent = std::future::poll_fn(|cx| {
            assert!(lines.poll(true, cx).is_pending());
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
        let lines = Lines::default();
        let mut socket = connected(&lines);
        lines.call_off();
        assert!(is_closed(&mut socket));
        assert_eq!(lines.spans(), (None, None));
        let client = HttpClient::new().expect("a client");
        let request = Request::get(Url::parse("http://127.0.0.1:9/").expect("a url"));
        let span = Span { next: 0, end: None };
        lines.start(Which::Side, Lane::ask(&client, request, span));
        assert_eq!(lines.spans(), (None, None), "what is started later is closed too");
    }

    /// N5: the driver is at the lanes while the last reader is dropped.
    #[test]
    fn lanes_are_closed_over_the_head_of_whoever_holds_them() {
        let lines = Lines::default();
        let mut socket = connected(&lines);
        lines.with(|lanes| {
            lines.call_off();
            assert!(lanes.main.is_some(), "not waited for");
            assert!(is_closed(&mut socket));
        });
        assert_eq!(lines.spans(), (None, None), "and dropped next");
    }

    /// Fault C14: others may have joined what is open.
    #[test]
    fn who_asked_calls_off_what_is_opening_and_not_what_is_open() {
        let lines = Arc::new(Lines::default());
        let opener = CallOff(Arc::clone(&lines));
        assert!(lines.has_opened());
        drop(opener);
        assert!(!lines.is_called_off());
        lines.call_off();
        assert!(lines.is_called_off());
        let lines = Arc::new(Lines::default());
        drop(CallOff(Arc::clone(&lines)));
        assert!(lines.is_called_off() && !lines.has_opened());
    }

    /// A body without a length ends with its connection: one that was hung up would be taken for a whole file.
    #[test]
    fn what_comes_of_a_lane_that_is_hung_up_is_not_told() {
        let lines = Lines::default();
        let _socket = connected(&lines);
        let event = lines.with(|lanes| {
            lines.call_off();
            lanes.poll(true, &mut Context::from_waker(Waker::noop()))
        });
        assert!(matches!(event, Poll::Ready((_, Event::Failed(_)))));
        let lines = Lines::default();
        let _socket = connected(&lines);
        lines.cancel.cancel();
        lines.phase.store(CALLED_OFF, Ordering::SeqCst);
        assert!(
            lines
                .poll(true, &mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
    }

    /// S1: nothing goes on after the drop.
    #[test]
    fn calling_off_drops_the_connection_that_is_being_made() {
        let lines = Lines::default();
        let (alive, dropped) = std::sync::mpsc::channel::<()>();
        lines.prepare(async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        });
        assert!(
            lines
                .poll(true, &mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
        lines.call_off();
        let gone = Err(std::sync::mpsc::TryRecvError::Disconnected);
        assert_eq!(dropped.try_recv(), gone);
    }

    /// Fault C25: an executor's waker that is woken or dropped by a poll may come back here.
    #[test]
    fn wakers_run_without_the_lock() {
        struct Nosy {
            lines: Arc<Lines>,
            looked: Arc<AtomicUsize>,
            polled_on: ThreadId,
        }
        impl Nosy {
            fn look(&self) {
                // The reactor's thread may come by while the test moves the lanes.
                let by_the_poll = thread::current().id() == self.polled_on;
                assert!(!by_the_poll || self.lines.lanes.try_lock().is_ok());
                self.looked.fetch_add(1, Ordering::SeqCst);
            }
        }
        impl Wake for Nosy {
            fn wake(self: Arc<Self>) {
                self.look();
            }
        }
        impl Drop for Nosy {
            fn drop(&mut self) {
                self.look();
            }
        }
        let lines = Arc::new(Lines::default());
        let _socket = connected(&lines);
        let looked = Arc::new(AtomicUsize::new(0));
        let nosy = |looked: &Arc<AtomicUsize>| {
            Waker::from(Arc::new(Nosy {
                lines: Arc::clone(&lines),
                looked: Arc::clone(looked),
                polled_on: thread::current().id(),
            }))
        };
        assert!(
            lines
                .poll(true, &mut Context::from_waker(&nosy(&looked)))
                .is_pending()
        );
        let before = looked.load(Ordering::SeqCst);
        // The connection lets go of the first waker as it takes this one.
        let last = nosy(&Arc::default());
        assert!(lines.poll(true, &mut Context::from_waker(&last)).is_pending());
        assert!(looked.load(Ordering::SeqCst) > before, "run by the poll");
        lines.clear();
    }
}

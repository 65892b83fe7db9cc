//! The seam to the runtime: tasks, blocking threads, timers and sockets. The only file that names `async_std`.
//!
//! async-std is discontinued (RUSTSEC-2025-0052). To replace it, replace this file.

#[cfg(any(feature = "cache", feature = "tls"))]
use std::cell::Cell;
#[cfg(feature = "file")]
use std::collections::VecDeque;
#[cfg(feature = "net")]
use std::io;
#[cfg(feature = "net")]
use std::net::SocketAddr;
#[cfg(any(feature = "file", feature = "hls"))]
use std::panic::AssertUnwindSafe;
#[cfg(any(feature = "file", feature = "hls"))]
use std::sync::atomic::{AtomicUsize, Ordering};
#[cfg(any(feature = "file", feature = "hls"))]
use std::sync::{Mutex, PoisonError};
#[cfg(any(feature = "decode", feature = "net"))]
use std::time::Duration;

#[cfg(any(feature = "file", feature = "hls"))]
use async_channel::WeakReceiver;
#[cfg(any(feature = "file", feature = "hls"))]
use async_executor::Executor;
#[cfg(any(feature = "file", feature = "hls"))]
use futures_lite::FutureExt as _;

/// Runs `future` on the global executor until it ends. There is no handle: the caller makes sure that the future ends by
/// itself.
#[cfg(any(feature = "stream", feature = "net"))]
pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) {
    // Dropping async-std's handle detaches the task. It does not stop it.
    drop(async_std::task::spawn(future));
}

#[cfg(any(feature = "cache", feature = "tls"))]
thread_local! {
    /// Whether this thread belongs to one future, which may block it.
    static MAY_BLOCK: Cell<bool> = const { Cell::new(false) };
}

/// Runs `poll`, which [`unblock`] takes for one on a shared thread: work that waits for the disk goes to others, and what is
/// polled beside it goes on.
#[cfg(feature = "hls")]
pub(crate) fn without_blocking<T>(poll: impl FnOnce() -> T) -> T {
    let _mark = Mark(MAY_BLOCK.replace(false));
    poll()
}

/// How many futures have a thread of their own at once.
///
/// Threads come from a pool that all blocking work shares, cache calls among it. Were each open file to keep one, some
/// hundred files would leave none for the calls.
#[cfg(any(feature = "file", feature = "hls"))]
const OWN_THREADS: usize = 32;
/// How many threads the futures share that came later.
#[cfg(any(feature = "file", feature = "hls"))]
const SHARED_THREADS: usize = 4;

/// Gives back what [`MAY_BLOCK`] was.
#[cfg(any(feature = "file", feature = "hls"))]
struct Mark(bool);

#[cfg(any(feature = "file", feature = "hls"))]
impl Drop for Mark {
    fn drop(&mut self) {
        MAY_BLOCK.set(self.0);
    }
}

/// Runs `future` on a thread of its own, where its polls may block, until it ends by itself. Where there are
/// [many](OWN_THREADS) such futures, it shares some threads with others.
///
/// While a future with its own thread waits, that thread polls the reactor itself, if no other thread does. Bytes that come
/// in then wake it directly. After a pause it is the runtime's own thread that polls the reactor: the first bytes of an
/// answer wake that thread, which wakes the future's (seen with `strace -f` in `benches/file.rs -- seeks`).
#[cfg(any(feature = "file", feature = "hls"))]
pub(crate) fn spawn_on_thread(future: impl Future<Output = ()> + Send + 'static) {
    static IN_USE: AtomicUsize = AtomicUsize::new(0);
    /// Gives the place back, after a panic too.
    struct Place;
    impl Drop for Place {
        fn drop(&mut self) {
            IN_USE.fetch_sub(1, Ordering::Relaxed);
        }
    }
    if IN_USE.fetch_add(1, Ordering::Relaxed) >= OWN_THREADS {
        drop(Place);
        spawn_on_shared_thread(future);
        return;
    }
    let place = Place;
    drop(async_std::task::spawn_blocking(move || {
        let _place = place;
        // The thread belongs to a pool and runs other work afterwards, so the mark is taken back, after a panic too.
        let _mark = Mark(MAY_BLOCK.replace(true));
        async_std::task::block_on(future);
    }));
}

/// Runs `future` on threads that it shares. [`unblock`] hops from there: work that waits for another of these futures, as
/// a claim does for the holder before it, would otherwise hold up the very thread that is to end the wait.
#[cfg(any(feature = "file", feature = "hls"))]
fn spawn_on_shared_thread(future: impl Future<Output = ()> + Send + 'static) {
    static EXECUTOR: Executor<'static> = Executor::new();
    /// Each future holds a receiver. The threads end when there is none left.
    static IN_USE: Mutex<Option<WeakReceiver<()>>> = Mutex::new(None);
    // The lock guards one pointer, which a panic cannot leave half written.
    let mut in_use = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
    let held = in_use
        .as_ref()
        .and_then(WeakReceiver::upgrade)
        .unwrap_or_else(|| {
            let (sender, receiver) = async_channel::bounded::<()>(1);
            for _ in 0..SHARED_THREADS {
                let sender = sender.clone();
                drop(async_std::task::spawn_blocking(move || {
                    async_std::task::block_on(EXECUTOR.run(sender.closed()));
                }));
            }
            *in_use = Some(receiver.downgrade());
            receiver
        });
    drop(in_use);
    // A panic ends its future, as it does on a thread of its own, and not the thread of the others.
    let future = AssertUnwindSafe(future).catch_unwind();
    let running = async move {
        let _held = held;
        drop(future.await);
    };
    EXECUTOR.spawn(running).detach();
}

/// How much work of [`unblock_detached`] is done at once. Were it all, some hundred files that come to be recorded at the
/// same moment would start as many threads, and the disk would be no faster for it.
#[cfg(feature = "file")]
const BACKGROUND_THREADS: usize = 4;

#[cfg(feature = "file")]
struct Background {
    queue: VecDeque<Box<dyn FnOnce() + Send>>,
    threads: usize,
}

/// Runs `work` on a thread that may block, in its turn. The caller does not wait for it, and `work` for no other of its kind.
#[cfg(feature = "file")]
pub(crate) fn unblock_detached(work: impl FnOnce() + Send + 'static) {
    static BACKGROUND: Mutex<Background> = Mutex::new(Background {
        queue: VecDeque::new(),
        threads: 0,
    });
    // No work runs under the lock, so a panic in one leaves the queue whole.
    let lock = || BACKGROUND.lock().unwrap_or_else(PoisonError::into_inner);
    let mut background = lock();
    background.queue.push_back(Box::new(work));
    if background.threads == BACKGROUND_THREADS {
        return;
    }
    background.threads += 1;
    drop(background);
    drop(async_std::task::spawn_blocking(move || {
        loop {
            let mut background = lock();
            let Some(work) = background.queue.pop_front() else {
                // Under the lock that found the queue empty: what is added next starts a thread.
                background.threads -= 1;
                return;
            };
            drop(background);
            // A panic ends its work, and not what waits behind it.
            drop(std::panic::catch_unwind(AssertUnwindSafe(work)));
        }
    }));
}

/// Runs `work` as [`unblock_detached`] does, and waits for it. If this thread may block, it is this one, at once.
///
/// # Cancel safety
///
/// Dropping the future does not stop `work`.
#[cfg(feature = "file")]
pub(crate) async fn unblock_in_turn(work: impl FnOnce() + Send + 'static) {
    if MAY_BLOCK.get() {
        return work();
    }
    let (done, is_done) = async_channel::bounded::<()>(1);
    unblock_detached(move || {
        let _done = done;
        work();
    });
    // The channel closes when the work ends, in a panic too.
    let _ = is_done.recv().await;
}

/// Runs `work` on a thread that may block, and returns its value. If this thread may block, it is this one.
///
/// # Cancel safety
///
/// Dropping the future does not stop `work`: it runs to its end and its value is dropped there.
#[cfg(any(feature = "cache", feature = "tls"))]
pub(crate) async fn unblock<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    // Saves the hop of 60 to 70 µs.
    if MAY_BLOCK.get() {
        return work();
    }
    async_std::task::spawn_blocking(work).await
}

/// Resolves after `duration`, on any executor.
#[cfg(any(feature = "decode", feature = "net"))]
pub(crate) async fn sleep(duration: Duration) {
    async_std::task::sleep(duration).await;
}

/// A connected TCP socket that speaks `futures_io`.
#[cfg(feature = "net")]
pub(crate) type TcpStream = async_std::net::TcpStream;

/// The addresses of a host name.
///
/// # Cancel safety
///
/// Dropping the future does not stop the resolver. Its answer is dropped.
#[cfg(feature = "net")]
pub(crate) async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    use async_std::net::ToSocketAddrs;
    Ok((host, port).to_socket_addrs().await?.collect())
}

/// Connects to one address. Dropping the future closes the socket.
#[cfg(feature = "net")]
pub(crate) async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    TcpStream::connect(address).await
}

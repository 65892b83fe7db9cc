//! The seam to the runtime: tasks, blocking threads, timers and sockets. The only file that names `async_std`.
//!
//! async-std is discontinued (RUSTSEC-2025-0052). To replace it, replace this file.

#[cfg(any(feature = "cache", feature = "tls"))]
use std::cell::Cell;
#[cfg(feature = "net")]
use std::io;
#[cfg(feature = "net")]
use std::net::SocketAddr;
#[cfg(any(feature = "decode", feature = "net"))]
use std::time::Duration;

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

/// Runs `future` on a thread of its own, where its polls may block, until it ends by itself.
///
/// While the future waits, its thread polls the reactor itself. So bytes that come in wake this thread directly, and not
/// another one that wakes it.
#[cfg(feature = "file")]
pub(crate) fn spawn_on_thread(future: impl Future<Output = ()> + Send + 'static) {
    drop(async_std::task::spawn_blocking(move || {
        // The thread belongs to a pool and runs other work afterwards, so the mark is taken back.
        let before = MAY_BLOCK.replace(true);
        async_std::task::block_on(future);
        MAY_BLOCK.set(before);
    }));
}

/// Runs `work` on a thread that may block. The caller does not wait for it.
#[cfg(feature = "file")]
pub(crate) fn unblock_detached(work: impl FnOnce() + Send + 'static) {
    drop(async_std::task::spawn_blocking(work));
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

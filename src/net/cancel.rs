//! Lets one thread cancel requests whose sockets another thread is using.
//!
//! A connection is closed by dropping it. While a thread reads from it, no other thread has it to drop. But any thread can
//! shut the socket down. A cancel token knows the sockets of its requests for that:
//!
//! ```text
//! connection taken ───────── attach ──▶ the token knows the socket
//!                                        │  cancel: all known sockets are shut down
//! body read to its end ───── detach ──▶ forgotten, and only then back into the pool
//! ```
//!
//! The order at the end matters. If the connection were in the pool first, it could serve another request already, and a
//! late `cancel` would end that one.

use std::net::Shutdown;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::rt::TcpStream;

/// Cancels the requests that carry it, those under way and those to come. Clones are the same token.
#[derive(Clone, Default)]
pub(crate) struct CancelToken(Arc<Mutex<Attached>>);

#[derive(Default)]
struct Attached {
    cancelled: bool,
    /// Sockets in use by requests. Weak, so that the token keeps no socket open.
    sockets: Vec<Weak<TcpStream>>,
}

impl CancelToken {
    /// Shuts all sockets down, at once. A thread that reads from one gets an error or an end. Neither says anything about
    /// the body.
    #[cfg(feature = "file")]
    pub(crate) fn cancel(&self) {
        let mut attached = self.lock();
        attached.cancelled = true;
        // Shut down under the lock: otherwise a socket could be detached, and serve another request, before its turn.
        // Dropped after the lock is released: the last owner of a socket drops wakers, which are foreign code.
        let sockets: Vec<_> = attached.sockets.iter().filter_map(Weak::upgrade).collect();
        for socket in &sockets {
            shut_down(socket);
        }
        drop(attached);
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.lock().cancelled
    }

    /// A request is about to go out on `socket`.
    pub(super) fn attach(&self, socket: &Weak<TcpStream>) {
        let mut attached = self.lock();
        // Forget the sockets that were closed, so that the list does not grow with the requests.
        attached.sockets.retain(|socket| socket.strong_count() > 0);
        attached.sockets.push(Weak::clone(socket));
        // Cancelled before this request had a socket: `cancel` could not shut it down, so it is done here.
        let too_late = attached.cancelled;
        drop(attached);
        if too_late && let Some(socket) = socket.upgrade() {
            shut_down(&socket);
        }
    }

    /// Forgets `socket`. True if it was not shut down, and may serve another request.
    pub(super) fn detach(&self, socket: &Weak<TcpStream>) -> bool {
        let mut attached = self.lock();
        attached.sockets.retain(|one| !Weak::ptr_eq(one, socket));
        !attached.cancelled
    }

    fn lock(&self) -> MutexGuard<'_, Attached> {
        // Each change is one call on the list or one assignment, so a panic elsewhere leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a connection that another thread owns. Errors are ignored: they say that the peer has closed it already.
fn shut_down(socket: &TcpStream) {
    // Disconnecting sends a reset at once. It also reaches a server that waits for room to write.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if rustix::net::connect_unspec(socket).is_ok() {
        return;
    }
    let socket = socket2::SockRef::from(socket);
    // Elsewhere the reset is sent when the owner closes the socket, thanks to a linger time of zero. Without a reset, a
    // server that waits for room to write would wait for about a minute: a socket that was shut down announces no room.
    let _ = socket.set_linger(Some(Duration::ZERO));
    let _ = socket.shutdown(Shutdown::Both);
}

#[cfg(test)]
#[cfg(feature = "file")]
mod tests {
    use futures_lite::StreamExt as _;
    use futures_lite::future::block_on;
    use kithara_test_support::{Content, Pattern, Rule, Server};

    use super::super::{Body, HttpClient, NetError, Request, Response, RetryPolicy, Url};
    use super::*;

    const LEN: usize = 8 << 20;

    fn server() -> Server {
        let server = Server::empty().expect("a port");
        server.serve("/short", Content::bytes(*b"0123456789"));
        server.serve("/long", Content::pattern(&Pattern::new(1), LEN as u64));
        server
    }

    fn client() -> HttpClient {
        let builder = HttpClient::builder().retry(RetryPolicy::none());
        builder.build().expect("valid settings")
    }

    fn get(server: &Server, path: &str) -> Request {
        Request::get(Url::parse(&server.url(path)).expect("a url"))
    }

    fn rest(body: &mut Body) -> Result<usize, NetError> {
        block_on(async {
            let mut sum = 0;
            while let Some(chunk) = body.next().await {
                sum += chunk?.len();
            }
            Ok(sum)
        })
    }

    fn idle(client: &HttpClient, count: usize) -> bool {
        format!("{client:?}").contains(&format!("idle_connections: {count},"))
    }

    /// S1: whichever thread holds the body, the server sees the close.
    #[test]
    fn a_body_that_no_thread_polls_is_cancelled() {
        let server = server();
        let gate = server.gate();
        server.rule("/short", Rule::new().gate_after(5, &gate));
        // The first body waits for its server. The second one's server waits for room, where a reset can be sent at once.
        let blocked = cfg!(any(target_os = "linux", target_os = "android"));
        for path in ["/short", "/long"].into_iter().take(1 + usize::from(blocked)) {
            let token = CancelToken::default();
            let request = get(&server, path).cancelled_by(token.clone());
            let mut body = block_on(client().send(request)).expect("a head").into_body();
            block_on(body.next()).expect("a chunk").expect("bytes");
            token.cancel();
            server.wait_until(|log| log.open_connections() == 0);
            assert!(rest(&mut body).is_err(), "no false end");
        }
    }

    #[test]
    fn a_token_does_nothing_to_the_next_request_on_its_connection() {
        let (server, client) = (server(), client());
        let token = CancelToken::default();
        let request = get(&server, "/short").cancelled_by(token.clone());
        let response = block_on(client.send(request)).expect("a head");
        assert_eq!(rest(&mut response.into_body()).expect("whole"), 10);
        token.cancel();
        assert!(idle(&client, 1), "nor to a connection in the pool");
        let gate = server.gate();
        server.rule("/long", Rule::new().gate_after(1000, &gate));
        let response = block_on(client.send(get(&server, "/long"))).expect("a head");
        token.cancel();
        gate.open();
        assert_eq!(rest(&mut response.into_body()).expect("whole"), LEN);
        assert_eq!(server.connections(), 1);
    }

    #[test]
    fn a_cancelled_connection_is_not_kept() {
        let (server, client) = (server(), client());
        let token = CancelToken::default();
        let request = get(&server, "/short").cancelled_by(token.clone());
        let mut body = block_on(client.send(request)).expect("a head").into_body();
        server.wait_until(|log| log.requests.iter().any(|request| request.body_sent == 10));
        token.cancel();
        // All of it may have come before.
        let _ = rest(&mut body);
        assert!(idle(&client, 0));
    }

    #[test]
    fn a_cancelled_token_lets_no_request_out() {
        let (server, client) = (server(), client());
        let token = CancelToken::default();
        token.cancel();
        let ask = |request| block_on(client.send(request)).map(Response::into_body);
        ask(get(&server, "/short").cancelled_by(token.clone())).expect_err("cut off");
        assert_eq!(
            rest(&mut ask(get(&server, "/short")).expect("a head")).expect("whole"),
            10
        );
        // Neither on a connection that was kept, nor on one made in its place.
        ask(get(&server, "/short").cancelled_by(token)).expect_err("cut off");
        assert_eq!((server.requests().len(), server.connections()), (1, 2));
    }
}

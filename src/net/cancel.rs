//! Closing a connection over the head of whoever is at it.
//!
//! A connection is closed by dropping it, and belongs to one thread at a time: while that one reads, no other has it to
//! drop. But any thread may cut its socket off, if it knows which one that is. It knows from when the connection is taken
//! for a request until it is given back, and not a moment longer: the next request on it is somebody else's.

use std::net::Shutdown;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::rt::TcpStream;

/// Ends the requests that carry it, those on their way and those to come. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct CancelToken(Arc<Mutex<Attached>>);

#[derive(Default)]
struct Attached {
    cancelled: bool,
    /// Weak: whoever has a connection closes it.
    sockets: Vec<Weak<TcpStream>>,
}

impl CancelToken {
    /// Cuts all requests that are on their way off, at once. What whoever reads them meets, an error or an end, means
    /// nothing.
    #[cfg(feature = "file")]
    pub(crate) fn cancel(&self) {
        let mut attached = self.lock();
        attached.cancelled = true;
        // Under the lock, so that none is given back meanwhile. Let go of without it: the last owner of a socket drops
        // wakers, which are foreign code.
        let sockets: Vec<_> = attached.sockets.iter().filter_map(Weak::upgrade).collect();
        for socket in &sockets {
            shut_down(socket);
        }
        drop(attached);
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.lock().cancelled
    }

    /// A request goes out on `socket`.
    pub(super) fn attach(&self, socket: &Weak<TcpStream>) {
        let mut attached = self.lock();
        // The others were closed.
        attached.sockets.retain(|socket| socket.strong_count() > 0);
        attached.sockets.push(Weak::clone(socket));
        let too_late = attached.cancelled;
        drop(attached);
        if too_late && let Some(socket) = socket.upgrade() {
            shut_down(&socket);
        }
    }

    /// From now on `socket` is no business of this one. Whether it never was cut off.
    pub(super) fn detach(&self, socket: &Weak<TcpStream>) -> bool {
        let mut attached = self.lock();
        attached.sockets.retain(|one| !Weak::ptr_eq(one, socket));
        !attached.cancelled
    }

    fn lock(&self) -> MutexGuard<'_, Attached> {
        // Each change is one call on the list or one assignment, which a panic elsewhere does not break.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a connection without its owner. It fails where the other end was faster.
fn shut_down(socket: &TcpStream) {
    // A reset, which reaches a server that waits for room to write as well.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if rustix::net::connect_unspec(socket).is_ok() {
        return;
    }
    let socket = socket2::SockRef::from(socket);
    // The reset follows when the owner closes it. Without one, a server that was told there is no room waits for a minute:
    // a socket that is shut down never tells it of any.
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

    /// S1: whoever has the body in hand, the server sees the close.
    #[test]
    fn a_body_that_nobody_polls_is_cut_off() {
        let server = server();
        let gate = server.gate();
        server.rule("/short", Rule::new().gate_after(5, &gate));
        // One waits for its server; for room in front of the other its server waits, where a reset can be sent at once.
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
    fn a_handle_kept_does_nothing_to_the_next_request() {
        let (server, client) = (server(), client());
        let token = CancelToken::default();
        let request = get(&server, "/short").cancelled_by(token.clone());
        let response = block_on(client.send(request)).expect("a head");
        assert_eq!(rest(&mut response.into_body()).expect("whole"), 10);
        token.cancel();
        assert!(idle(&client, 1), "nor to the pool");
        let gate = server.gate();
        server.rule("/long", Rule::new().gate_after(1000, &gate));
        let response = block_on(client.send(get(&server, "/long"))).expect("a head");
        token.cancel();
        gate.open();
        assert_eq!(rest(&mut response.into_body()).expect("whole"), LEN);
        assert_eq!(server.connections(), 1);
    }

    #[test]
    fn what_was_cut_off_is_not_kept() {
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
    fn afterwards_nothing_is_asked_any_more() {
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

//! The pool: idle connections kept for the next request, and a limit for each host.
//!
//! ```text
//! request ─▶ permit ─▶ idle connection, ─▶ body ─▶ end: first the connection is idle,
//!            waits if   else a new one                  then the permit is released
//!            none left
//! ```
//!
//! Each exchange holds a permit, from before it looks for a connection until its body ends or is dropped. Only the holder
//! of a permit opens a connection, and only if none is idle. So a host never has more connections than permits.
//!
//! What is idle may be dead without a word: the machine slept, the network changed, a router forgot. One that is silent
//! makes all idle ones of its peer suspect ([`Pool::forget`]). A *generation* keeps those out that were in use when the app
//! said that the network changed ([`Pool::forget_all`]).
//!
//! The order at the end: the connection is put back first, the permit is released second. A request that waits for the
//! permit then finds the connection. In the other order it would open a new one, and there would be one too many.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use async_lock::{Semaphore, SemaphoreGuardArc};
use futures_lite::future;
use snafu::OptionExt as _;
use url::Url;

use super::cancel::CancelToken;
use super::connection::Connection;
use super::courtesy::{Courtesy, Priority};
use super::error::NoneFreeSnafu;
use super::limits::IdleTimer;
use super::peer::Peer;
use super::{NetError, redacted};
use crate::rt;

/// How long a connection may be idle. Servers commonly close idle connections after 60 to 75 s, and a request on a
/// connection that was just closed costs a try.
const MAX_IDLE: Duration = Duration::from_secs(50);

/// How many connections may be idle, over all hosts.
const MAX_IDLE_CONNECTIONS: usize = 32;

pub(super) struct Pool {
    per_host: usize,
    courtesy: Arc<Courtesy>,
    peers: Mutex<Peers>,
}

#[derive(Default)]
struct Peers {
    known: HashMap<Peer, Known>,
    /// How often all connections were forgotten. Those made before are not kept.
    generation: u64,
    /// Whether the task that closes old connections runs. It runs while there are idle connections.
    sweeping: bool,
}

struct Known {
    permits: Arc<Semaphore>,
    /// Those that the background may hold: one less, so that the foreground need not wait for the end of a download.
    background: Arc<Semaphore>,
    /// The longest idle first.
    idle: Vec<(Connection, Instant)>,
}

impl Pool {
    pub(super) fn new(per_host: usize) -> Self {
        Self {
            per_host: per_host.max(1),
            courtesy: Arc::default(),
            peers: Mutex::default(),
        }
    }

    /// The right to one connection to the host of `url`. Waits for it, no longer than `limit`: all connections may be held
    /// by bodies whose consumers pause.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the queue.
    pub(super) async fn acquire(
        self: &Arc<Self>,
        url: &Url,
        limit: Duration,
        cancel: Option<CancelToken>,
        priority: &Priority,
    ) -> Result<PooledConnection, NetError> {
        let peer = Peer::of(url)?;
        let (permits, background) = self.permits(&peer);
        let was_background = priority.is_background();
        let background = if was_background {
            // Without a limit: it waits its turn, and that is no failure. First the right to one of the few, then the turn: what
            // waits for its turn holds no connection. One that is raised meanwhile waits for neither: the few may all be held
            // by what gives way to it.
            let turn = async {
                let held = background.acquire_arc().await;
                self.courtesy.may_ask(priority).await;
                Some(held)
            };
            let raised = async {
                priority.raised().await;
                None
            };
            future::or(turn, raised).await
        } else {
            None
        };
        // Of one that was raised here: it waits as a request of the foreground from here on, and the background for it.
        let _waiting = if was_background {
            self.courtesy.wait(priority)
        } else {
            None
        };
        let permit = match permits.try_acquire_arc() {
            Some(permit) => Some(permit),
            None => IdleTimer::default().within(limit, permits.acquire_arc()).await,
        };
        let permit = permit.with_context(|| NoneFreeSnafu {
            url: redacted(url),
            host: peer.host.to_string(),
            connections: self.per_host,
            limit,
        })?;
        let mut pooled = self.pooled(peer, permit, cancel);
        pooled.background = background;
        Ok(pooled)
    }

    pub(super) fn courtesy(&self) -> &Arc<Courtesy> {
        &self.courtesy
    }

    fn pooled(
        self: &Arc<Self>,
        peer: Peer,
        permit: SemaphoreGuardArc,
        cancel: Option<CancelToken>,
    ) -> PooledConnection {
        PooledConnection {
            connection: None,
            cancel,
            _permit: permit,
            background: None,
            generation: self.lock().generation,
            pool: Arc::clone(self),
            peer,
        }
    }

    /// The right to one connection ahead of need. `None` if one is idle already, or the host has no permit left.
    #[cfg(feature = "file")]
    pub(super) fn try_acquire_spare(self: &Arc<Self>, url: &Url) -> Option<PooledConnection> {
        let peer = Peer::of(url).ok()?;
        let permit = self.permits(&peer).0.try_acquire_arc()?;
        // The permit first, the look second. A connection given back after the look came with a permit of its own, so the
        // limit holds.
        let is_needed = |known: &Known| known.idle.is_empty();
        if !self.lock().known.get(&peer).is_some_and(is_needed) {
            return None;
        }
        Some(self.pooled(peer, permit, None))
    }

    /// Closes the idle connections to `peer`.
    pub(super) fn forget(&self, peer: &Peer) {
        // The map's entry stays: its permits may be held, and a new entry would have the same number again.
        let idle = |known: &mut Known| std::mem::take(&mut known.idle);
        let forgotten = self.lock().known.get_mut(peer).map(idle);
        // Outside the lock: closing a connection drops wakers, which are foreign code.
        drop(forgotten);
    }

    /// Closes all idle connections. Those in use are closed when they are given back.
    pub(super) fn forget_all(&self) {
        let mut peers = self.lock();
        // Under one lock with the taking: a connection that is given back meanwhile is among the idle ones, or of an old
        // generation.
        peers.generation += 1;
        let forgotten: Vec<_> = peers
            .known
            .values_mut()
            .flat_map(|known| std::mem::take(&mut known.idle))
            .collect();
        drop(peers);
        drop(forgotten);
    }

    /// Whether a request now would find a permit.
    #[cfg(feature = "file")]
    pub(super) fn has_room(&self, url: &Url) -> bool {
        Peer::of(url).is_ok_and(|peer| self.permits(&peer).0.try_acquire_arc().is_some())
    }

    /// Those of all requests, and those of the background.
    fn permits(&self, peer: &Peer) -> (Arc<Semaphore>, Arc<Semaphore>) {
        let mut peers = self.lock();
        if let Some(known) = peers.known.get(peer) {
            return (Arc::clone(&known.permits), Arc::clone(&known.background));
        }
        // Here, where the map grows, so that it does not grow with every host ever asked.
        peers.known.retain(|_, known| !known.is_unused());
        let permits = Arc::new(Semaphore::new(self.per_host));
        let background = Arc::new(Semaphore::new(self.per_host.saturating_sub(1).max(1)));
        let known = Known {
            permits: Arc::clone(&permits),
            background: Arc::clone(&background),
            idle: Vec::new(),
        };
        peers.known.insert(peer.clone(), known);
        (permits, background)
    }

    /// The connection that was given back last. The server may have closed it since: only the next request finds out.
    fn take(&self, peer: &Peer) -> Option<Connection> {
        // The last one in: it is the least likely to have been closed by the server, and the others grow old and are swept,
        // so that a burst of requests leaves no crowd of connections.
        let (connection, since) = self.lock().known.get_mut(peer)?.idle.pop()?;
        // Too old: then the others are older still, and the next sweep closes them.
        (since.elapsed() < MAX_IDLE).then_some(connection)
    }

    fn put(self: &Arc<Self>, peer: &Peer, connection: Connection, generation: u64) {
        let mut peers = self.lock();
        if peers.generation != generation {
            // The lock first, as the connection's drop runs foreign code.
            drop(peers);
            return;
        }
        let Some(known) = peers.known.get_mut(peer) else {
            return;
        };
        known.idle.push((connection, Instant::now()));
        let surplus = peers.take_surplus();
        let start_sweeping = !std::mem::replace(&mut peers.sweeping, true);
        drop(peers);
        // Outside the lock: closing a connection drops wakers, which are foreign code.
        drop(surplus);
        if start_sweeping {
            rt::spawn(sweep(Arc::downgrade(self)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Peers> {
        // Each change under the lock is one call on a collection, so a panic elsewhere leaves it whole.
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn is_unused(&self) -> bool {
        // The count is 1 when no request holds or awaits a permit. It is read under the lock, and a new reference is only
        // made under the lock, so it cannot grow meanwhile.
        self.idle.is_empty()
            && Arc::strong_count(&self.permits) == 1
            && Arc::strong_count(&self.background) == 1
    }
}

impl Peers {
    fn idle(&self) -> usize {
        self.known.values().map(|known| known.idle.len()).sum()
    }

    /// Takes the longest idle connection out if there are too many.
    fn take_surplus(&mut self) -> Option<Connection> {
        if self.idle() <= MAX_IDLE_CONNECTIONS {
            return None;
        }
        let with_oldest = self
            .known
            .values_mut()
            .filter(|known| !known.idle.is_empty())
            .min_by_key(|known| known.idle.first().map(|(_, since)| *since))?;
        Some(with_oldest.idle.remove(0).0)
    }

    /// Takes out the connections that were idle for too long.
    fn take_expired(&mut self) -> Vec<Connection> {
        let mut expired = Vec::new();
        for known in self.known.values_mut() {
            let old = known
                .idle
                .partition_point(|(_, since)| since.elapsed() >= MAX_IDLE);
            expired.extend(known.idle.drain(..old).map(|(connection, _)| connection));
        }
        self.known.retain(|_, known| !known.is_unused());
        self.sweeping = self.known.values().any(|known| !known.idle.is_empty());
        expired
    }
}

/// Closes connections that were idle for too long, until none is left or the client is gone.
async fn sweep(pool: Weak<Pool>) {
    loop {
        rt::sleep(MAX_IDLE).await;
        // Weak over the sleep: a client that was dropped must not live for another sweep, with its sockets.
        let Some(pool) = pool.upgrade() else { return };
        let mut peers = pool.lock();
        let expired = peers.take_expired();
        // Decided and recorded under one lock. Otherwise a connection could come in just before this task ends, and no task
        // would close it.
        let go_on = peers.sweeping;
        drop(peers);
        drop(expired);
        if !go_on {
            return;
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("per_host", &self.per_host)
            .field("idle_connections", &self.lock().idle())
            .finish_non_exhaustive()
    }
}

/// The right to one connection to a peer, and that connection once there is one. Dropped, it closes the connection, and
/// then releases the permit.
pub(super) struct PooledConnection {
    // Dropped before the permit: the limit counts connections that are still open.
    connection: Option<Connection>,
    /// The request's token. It knows the connection's socket while the request runs.
    cancel: Option<CancelToken>,
    _permit: SemaphoreGuardArc,
    /// Of a request of the background.
    background: Option<SemaphoreGuardArc>,
    /// The pool's, before the connection was taken or made: one forgotten meanwhile is not kept.
    generation: u64,
    pool: Arc<Pool>,
    peer: Peer,
}

impl PooledConnection {
    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Takes an idle connection, if there is one.
    pub(super) fn reuse(&mut self) -> Option<&mut Connection> {
        let kept = self.pool.take(&self.peer)?;
        Some(self.open(kept))
    }

    /// Whether the request was cancelled, so that no other connection is of use.
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancel.as_ref().is_some_and(CancelToken::is_cancelled)
    }

    /// Closes the connection and keeps the right to another.
    pub(super) fn close(&mut self) {
        self.connection = None;
    }

    /// Closes the connection, which was silent, and with it the idle ones of the peer: what killed one has killed them all.
    pub(super) fn close_all(&mut self) {
        self.close();
        self.pool.forget(&self.peer);
    }

    /// Takes a connection for the request, and makes it known to the request's token.
    pub(super) fn open(&mut self, connection: Connection) -> &mut Connection {
        if let Some(cancel) = &self.cancel {
            cancel.attach(connection.tcp());
        }
        self.connection.insert(connection)
    }

    pub(super) fn connection(&mut self) -> Option<&mut Connection> {
        self.connection.as_mut()
    }

    /// Gives the connection back to the pool, if it can take another request.
    pub(super) fn give_back(mut self) {
        if let Some(mut connection) = self.connection.take()
            && connection.is_reusable()
            // Detached before it is in the pool: a cancel that comes later must not shut down another request's socket.
            // One that came before has shut it down, so it is not kept.
            && self
                .cancel
                .as_ref()
                .is_none_or(|cancel| cancel.detach(connection.tcp()))
        {
            self.pool.put(&self.peer, connection, self.generation);
        }
    }
}

#[cfg(test)]
#[cfg(feature = "file")]
mod tests {
    use std::net::TcpListener;

    use super::super::{HttpClient, Request};
    use super::*;

    /// How many connections came in, without waiting.
    fn accepted(server: &TcpListener) -> Vec<std::net::TcpStream> {
        server.set_nonblocking(true).expect("a socket");
        std::iter::from_fn(|| server.accept().ok())
            .map(|(stream, _)| stream)
            .collect()
    }

    fn server() -> (TcpListener, Url) {
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/", server.local_addr().expect("bound"));
        (server, Url::parse(&url).expect("a url"))
    }

    #[test]
    fn one_connection_is_made_ahead_and_no_second() {
        let (server, url) = server();
        let client = HttpClient::new().expect("a client");
        future::block_on(client.preconnect(&url));
        future::block_on(client.preconnect(&url));
        let sockets = accepted(&server);
        assert_eq!(sockets.len(), 1);
        drop(client);
        let (socket, mut byte) = (sockets.first().expect("one"), [0]);
        socket.set_nonblocking(false).expect("a socket");
        let read = std::io::Read::read(&mut &*socket, &mut byte);
        assert_eq!(read.ok(), Some(0), "closed with its pool, and nothing was sent");
    }

    /// O7: all places of the background are held, and what waits for one is begun to be played: it takes the place that is kept
    /// for the foreground.
    #[test]
    fn o7_a_request_that_is_raised_while_it_waits_goes_on() {
        let (_server, url) = server();
        let pool = Arc::new(Pool::new(2));
        let (held, raised) = (Priority::new(true), Priority::new(true));
        let acquire = |priority| {
            let pool = pool.clone();
            let url = url.clone();
            async move { pool.acquire(&url, Duration::from_secs(5), None, priority).await }
        };
        future::block_on(async {
            let _held = acquire(&held).await.expect("the one place");
            let mut waits = Box::pin(acquire(&raised));
            assert!(future::poll_once(&mut waits).await.is_none());
            raised.raise();
            let too_late = async {
                rt::sleep(Duration::from_secs(5)).await;
                None
            };
            let found = future::or(async { Some(waits.await) }, too_late).await;
            assert!(found.expect("it goes on").is_ok());
        });
    }

    #[test]
    fn none_is_made_where_there_is_no_room_or_no_server() {
        let (server, url) = server();
        let client = HttpClient::builder()
            .max_connections_per_host(1)
            .build()
            .expect("a client");
        let mut asking = Box::pin(client.send(Request::get(url.clone())));
        future::block_on(async {
            assert!(client.has_room(&url));
            assert!(future::poll_once(&mut asking).await.is_none());
            assert!(!client.has_room(&url));
            client.preconnect(&url).await;
        });
        assert_eq!(accepted(&server).len(), 1, "the request's own");
        drop((asking, server));
        future::block_on(client.preconnect(&url));
    }
}

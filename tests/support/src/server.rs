//! The listener, the state all connections share, and the end of them.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::connection;
use crate::content::Content;
use crate::log::{Connection, Log, Recorded};
use crate::rule::{Gate, GateState, Rule, RuleHandle, Slot};

/// How long a test waits for what must happen.
const DEADLINE: Duration = Duration::from_secs(10);

/// One HTTP/1.1 server on loopback. See the [crate's docs](crate) for an example.
///
/// It knows `GET` and `HEAD`, single ranges (206, 416), `If-Range`, `If-None-Match`, strong `ETag`s, `Last-Modified` and
/// keep-alive. Dropping it stops it.
pub struct Server {
    shared: Arc<Shared>,
    addr: SocketAddr,
    listener: Mutex<Option<JoinHandle<()>>>,
}

/// What connections, gates, handles and the server have in common.
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Notified after every change of the state.
    pub(crate) changed: Condvar,
    pub(crate) root: Option<PathBuf>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) log: Log,
    pub(crate) rules: Vec<Slot>,
    /// Rules taken back, for their counts.
    pub(crate) retired: Vec<Slot>,
    pub(crate) gates: Vec<GateState>,
    pub(crate) routes: HashMap<String, Content>,
    pub(crate) sockets: HashMap<usize, Arc<TcpStream>>,
    peers: Vec<Peer>,
    threads: Vec<JoinHandle<()>>,
    next_rule: usize,
    stopping: bool,
    outage: Outage,
}

/// Whether the server is away.
#[derive(Default, PartialEq)]
enum Outage {
    #[default]
    None,
    /// It is to begin, and to last so long.
    Asked(Duration),
    Now,
}

/// What the threads of one connection tell each other.
#[derive(Default)]
pub(crate) struct Peer {
    /// It is over: the client has closed, or its thread is about to.
    pub(crate) gone: bool,
    /// The server ended it.
    pub(crate) ended: bool,
    /// How often something has been read from it.
    pub(crate) reads: usize,
}

impl State {
    /// Of a connection that was accepted.
    #[expect(
        clippy::indexing_slicing,
        reason = "a connection's number is its index from before its thread starts"
    )]
    pub(crate) fn peer(&mut self, connection: usize) -> &mut Peer {
        &mut self.peers[connection]
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("addr", &self.addr)
            .field("root", &self.shared.root)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Server {
    /// Serves the files under `root` on a free port of `127.0.0.1`.
    ///
    /// # Errors
    ///
    /// If no port can be had.
    pub fn start(root: impl AsRef<Path>) -> io::Result<Self> {
        Self::bind(Some(root.as_ref()), (Ipv4Addr::LOCALHOST, 0).into())
    }

    /// Serves only what [`Server::serve`] adds.
    ///
    /// # Errors
    ///
    /// If no port can be had.
    pub fn empty() -> io::Result<Self> {
        Self::bind(None, (Ipv4Addr::LOCALHOST, 0).into())
    }

    /// Serves the files under `root` at this address: that of a server that was stopped, say, after an outage.
    ///
    /// # Errors
    ///
    /// If the address is in use.
    pub fn start_at(root: impl AsRef<Path>, addr: SocketAddr) -> io::Result<Self> {
        Self::bind(Some(root.as_ref()), addr)
    }

    fn bind(root: Option<&Path>, addr: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(addr)?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            root: root.map(Path::to_path_buf),
        });
        let accepting = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("test-server".into())
            .spawn(move || accept(&accepting, listener, addr))?;
        Ok(Self {
            shared,
            addr,
            listener: Mutex::new(Some(thread)),
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The URL of a path (with its leading `/`).
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Serves `content` under this exact path (percent-decoded, no query) from now on, before any file of that name.
    pub fn serve(&self, path: impl Into<String>, content: Content) {
        self.shared.lock().routes.insert(path.into(), content);
    }

    /// Serves bytes in memory; short for [`Server::serve`] with [`Content::bytes`].
    pub fn serve_bytes(&self, path: impl Into<String>, bytes: impl Into<Arc<[u8]>>) {
        self.serve(path, Content::bytes(bytes));
    }

    /// Applies `rule` to a path: exact, or a prefix if it ends in `*`; whatever the query, or with it if it contains
    /// `?`. Paths are compared as sent, not decoded.
    pub fn rule(&self, path: impl Into<String>, rule: Rule) -> RuleHandle {
        let mut state = self.shared.lock();
        let id = state.next_rule;
        state.next_rule += 1;
        state.rules.push(Slot::new(id, path.into(), rule));
        RuleHandle {
            shared: Arc::downgrade(&self.shared),
            id,
        }
    }

    /// Takes all rules back.
    pub fn clear_rules(&self) {
        self.shared.retire(|_| true);
    }

    /// A new gate, closed.
    pub fn gate(&self) -> Gate {
        let mut state = self.shared.lock();
        state.gates.push(GateState::default());
        Gate {
            shared: Arc::downgrade(&self.shared),
            id: state.gates.len() - 1,
        }
    }

    /// A copy of everything so far. A client may hold the last bytes before they are written down here, so a test that
    /// has just read them asks with [`Server::wait_until`].
    pub fn log(&self) -> Log {
        self.shared.lock().log.clone()
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.lock().log.requests.clone()
    }

    /// How many connections have been accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.lock().log.connections.len()
    }

    /// How many connections are open.
    pub fn open_connections(&self) -> usize {
        self.shared.lock().log.open_connections()
    }

    /// The bytes of all bodies so far.
    pub fn bytes_sent(&self) -> u64 {
        self.shared.lock().log.bytes_sent()
    }

    /// Waits until `condition` holds; it is asked again after every change, under the server's lock, so it must look
    /// at the log it is given and not at the server.
    ///
    /// # Panics
    ///
    /// After ten seconds, with the log.
    #[track_caller]
    pub fn wait_until(&self, mut condition: impl FnMut(&Log) -> bool) {
        self.shared.expect("the condition", |state| condition(&state.log));
    }

    /// The same with another limit, and an answer instead of a panic.
    pub fn wait_within(&self, limit: Duration, mut condition: impl FnMut(&Log) -> bool) -> bool {
        self.shared.wait_for(limit, |state| condition(&state.log)).is_ok()
    }

    /// Ends all open connections at once, whatever they are doing, as a network that drops. New ones are welcome.
    pub fn cut(&self) {
        self.shared.cut();
    }

    /// Is away for `time` from now on: open connections end, and new ones are refused. Returns when it is away.
    ///
    /// # Panics
    ///
    /// If it is not away after ten seconds.
    pub fn outage(&self, time: Duration) {
        self.shared.lock().outage = Outage::Asked(time);
        let has_begun = |state: &State| !matches!(state.outage, Outage::Asked(_));
        // The listener blocks in accept; a connection wakes it. More than one: in the outage before this one it is refused,
        // and the listener that comes back then would not be woken.
        for _ in 0..100 {
            _ = TcpStream::connect_timeout(&self.addr, Duration::from_secs(1));
            if self.shared.wait_for(Duration::from_millis(50), has_begun).is_ok() {
                return;
            }
        }
        self.shared.expect("the outage to begin", has_begun);
    }

    /// Closes the listener and all connections and waits for their threads. The log remains; a second call does nothing.
    pub fn stop(&self) {
        let Some(listener) = self
            .listener
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        else {
            return;
        };
        self.shared.update(|state| state.stopping = true);
        // The listener blocks in accept; a connection wakes it, and it sees `stopping` before it counts that one.
        while !listener.is_finished()
            && TcpStream::connect_timeout(&self.addr, Duration::from_secs(1)).is_err()
        {}
        _ = listener.join();
        self.cut();
        let threads = std::mem::take(&mut self.shared.lock().threads);
        for thread in threads {
            _ = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    /// A panic elsewhere leaves no half-made state: every change is a single assignment or push.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and tells everybody.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    fn cut(&self) {
        self.update(|state| {
            let State { sockets, peers, .. } = state;
            for (id, socket) in sockets {
                if let Some(peer) = peers.get_mut(*id) {
                    peer.ended = true;
                }
                _ = socket.shutdown(Shutdown::Both);
            }
        });
    }

    pub(crate) fn retire(&self, mut which: impl FnMut(&Slot) -> bool) {
        let mut state = self.lock();
        let (retired, rules) = std::mem::take(&mut state.rules)
            .into_iter()
            .partition(|slot| which(slot));
        state.rules = rules;
        let mut retired: Vec<Slot> = retired;
        state.retired.append(&mut retired);
    }

    /// Waits until `ready` answers, or says `None` at `deadline`.
    pub(crate) fn wait<T>(
        &self,
        deadline: Option<Instant>,
        mut ready: impl FnMut(&mut State) -> Option<T>,
    ) -> Option<T> {
        let mut state = self.lock();
        loop {
            if let Some(result) = ready(&mut state) {
                return Some(result);
            }
            state = match deadline {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return None;
                    }
                    self.changed
                        .wait_timeout(state, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
    }

    fn wait_for(&self, limit: Duration, mut condition: impl FnMut(&State) -> bool) -> Result<(), String> {
        let deadline = Instant::now() + limit;
        self.wait(Some(deadline), |state| condition(state).then_some(()))
            .ok_or_else(|| describe(&self.lock().log))
    }

    #[track_caller]
    pub(crate) fn expect(&self, what: &str, condition: impl FnMut(&State) -> bool) {
        if let Err(log) = self.wait_for(DEADLINE, condition) {
            panic!("waited {DEADLINE:?} for {what} in vain; the server saw\n{log}");
        }
    }
}

fn describe(log: &Log) -> String {
    let mut text = format!(
        "{} connections, {} open\n",
        log.connections.len(),
        log.open_connections()
    );
    for request in &log.requests {
        let range = request.header("Range").unwrap_or("-");
        let Recorded {
            method,
            path,
            connection,
            status,
            body_sent,
            ended,
            ..
        } = request;
        _ = writeln!(
            text,
            "#{connection} {method} {path} {range} -> {status:?}, {body_sent} bytes, {ended:?}"
        );
    }
    text
}

fn accept(shared: &Arc<Shared>, mut listener: TcpListener, addr: SocketAddr) {
    loop {
        let accepted = listener.accept();
        let mut state = shared.lock();
        if state.stopping {
            return;
        }
        if let Outage::Asked(time) = state.outage {
            drop(state);
            drop((accepted, listener));
            let Some(back) = away(shared, addr, time) else {
                return;
            };
            listener = back;
            continue;
        }
        let Ok((socket, _)) = accepted else { continue };
        _ = socket.set_nodelay(true);
        let socket = Arc::new(socket);
        let id = state.log.connections.len();
        state.log.connections.push(Connection {
            accepted_at: Instant::now(),
            closed_at: None,
            requests: 0,
        });
        state.peers.push(Peer::default());
        state.sockets.insert(id, Arc::clone(&socket));
        let serving = Arc::clone(shared);
        let thread = thread::Builder::new()
            .name(format!("test-server-{id}"))
            .spawn(move || connection::serve(&serving, id, socket));
        state.threads.retain(|thread| !thread.is_finished());
        if let Ok(thread) = thread {
            state.threads.push(thread);
        } else {
            state.sockets.remove(&id);
            if let Some(connection) = state.log.connections.get_mut(id) {
                connection.closed_at = Some(Instant::now());
            }
        }
        drop(state);
        shared.changed.notify_all();
    }
}

/// Sits an outage out. The port stays taken by a socket that does not listen, so that connections are refused and nobody
/// else gets it. `None` if the server is to stop, or cannot come back.
fn away(shared: &Shared, addr: SocketAddr, time: Duration) -> Option<TcpListener> {
    let placeholder = Socket::new(Domain::IPV4, Type::STREAM, None).ok()?;
    placeholder.set_reuse_address(true).ok()?;
    placeholder.bind(&addr.into()).ok()?;
    shared.cut();
    shared.update(|state| state.outage = Outage::Now);
    let back_at = Instant::now() + time;
    shared.wait(Some(back_at), |state| state.stopping.then_some(()));
    let stopping = shared.update(|state| {
        state.outage = Outage::None;
        state.stopping
    });
    if stopping {
        return None;
    }
    placeholder.listen(128).ok()?;
    Some(placeholder.into())
}

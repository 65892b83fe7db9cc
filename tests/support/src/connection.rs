//! One connection: reads heads, answers them, and obeys the rule that took the request.
//!
//! All reading, writing and waiting happens on the connection's own thread. While it waits it cannot read, so a second
//! thread, started at the first wait, watches the socket for the client's close.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Component, Path};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::content::{Content, Open, content_type};
use crate::log::{Asked, Ended, Recorded, parse_range};
use crate::rule::{Act, Framing, Reply, Rule};
use crate::server::{Shared, State};

/// The longest head that is read.
const MAX_HEAD: usize = 64 * 1024;
/// The steps of a trickle in a second.
const STEPS: u64 = 50;

pub(crate) fn serve(shared: &Arc<Shared>, id: usize, socket: Arc<TcpStream>) {
    let mut connection = Connection {
        shared: Arc::clone(shared),
        id,
        socket,
        inbox: Vec::new(),
        served: 0,
        watcher: None,
    };
    let mut goodbye = Goodbye::KeepAlive;
    while goodbye == Goodbye::KeepAlive {
        goodbye = match connection.read_head() {
            Some(request) => connection.answer(request),
            None => Goodbye::Close,
        };
    }
    connection.close(goodbye);
}

struct Connection {
    shared: Arc<Shared>,
    id: usize,
    socket: Arc<TcpStream>,
    /// Bytes read and not yet used.
    inbox: Vec<u8>,
    served: usize,
    watcher: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Goodbye {
    KeepAlive,
    Close,
    Reset,
}

/// A response before it is sent.
struct Plan {
    status: u16,
    headers: Vec<(String, String)>,
    content: Open,
    start: u64,
    len: u64,
    framing: Framing,
    close: bool,
    /// The announced length is not `len`.
    lies: bool,
}

impl Connection {
    /// The next request, or `None` at the end of the connection.
    fn read_head(&mut self) -> Option<Recorded> {
        let end = loop {
            if let Some(at) = self.inbox.windows(4).position(|window| window == b"\r\n\r\n") {
                break at;
            }
            let mut buffer = [0; 4096];
            let read = (&*self.socket).read(&mut buffer).ok().filter(|read| *read > 0)?;
            self.shared.update(|state| state.peer(self.id).reads += 1);
            self.inbox.extend_from_slice(buffer.get(..read)?);
            if self.inbox.len() > MAX_HEAD {
                return None;
            }
        };
        let head: Vec<u8> = self.inbox.drain(..end + 4).collect();
        let head = String::from_utf8_lossy(&head);
        let mut lines = head.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, path, version) = (words.next()?, words.next()?, words.next()?);
        let mut headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
            .collect();
        if version == "HTTP/1.0" {
            headers.push(("Connection".into(), "close".into()));
        }
        let reused = self.served > 0;
        self.served += 1;
        Some(Recorded {
            method: method.to_owned(),
            path: path.to_owned(),
            headers,
            connection: self.id,
            reused,
            status: None,
            body_sent: 0,
            ended: Ended::Not,
            ruled: false,
            received_at: Instant::now(),
            ended_at: None,
        })
    }

    fn answer(&mut self, mut request: Recorded) -> Goodbye {
        let (number, rule, route) = self.shared.update(|state| {
            let rule = state.rules.iter_mut().find_map(|slot| slot.take(&request));
            request.ruled = rule.is_some();
            let route = decode(request.path_only()).and_then(|path| state.routes.get(&path).cloned());
            if let Some(connection) = state.log.connections.get_mut(self.id) {
                connection.requests += 1;
            }
            state.log.requests.push(request.clone());
            (state.log.requests.len() - 1, rule, route)
        });
        let rule = rule.unwrap_or_default();
        let result = self.respond(number, &request, &rule, route);
        let (ended, goodbye) = match result {
            Ok(goodbye) => (Ended::Complete, goodbye),
            Err((ended, goodbye)) => (ended, goodbye),
        };
        self.shared.update(|state| {
            if let Some(record) = state.log.requests.get_mut(number) {
                record.ended = ended;
                record.ended_at = Some(Instant::now());
            }
        });
        goodbye
    }

    fn respond(
        &mut self,
        number: usize,
        request: &Recorded,
        rule: &Rule,
        route: Option<Content>,
    ) -> Result<Goodbye, (Ended, Goodbye)> {
        for act in &rule.before {
            self.act(act)?;
        }
        let mut plan = plan(self.shared.root.as_deref(), request, rule, route);
        let mut head = format!("HTTP/1.1 {} {}\r\n", plan.status, reason(plan.status));
        for (name, value) in &plan.headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        head += "\r\n";
        let headless = request.method == "HEAD" || matches!(plan.status, 204 | 304);
        if headless {
            self.send(number, plan.status, head.as_bytes(), &[])?;
        } else {
            self.send_body(number, rule, &mut plan, head.into_bytes())?;
            if plan.lies {
                return Err((Ended::Fault, Goodbye::Close));
            }
        }
        let close = plan.close || rule.close_after || (plan.framing == Framing::Close && !headless);
        Ok(if close { Goodbye::Close } else { Goodbye::KeepAlive })
    }

    /// Sends the head, which waits in `lead` so that it leaves together with the first bytes of the body, and the body.
    fn send_body(
        &mut self,
        number: usize,
        rule: &Rule,
        plan: &mut Plan,
        mut lead: Vec<u8>,
    ) -> Result<(), (Ended, Goodbye)> {
        let mut sent = 0;
        let mut acts = rule.during.iter().peekable();
        let started = Instant::now();
        loop {
            while let Some((_, act)) = acts.next_if(|(at, _)| *at <= sent) {
                self.send(number, plan.status, &std::mem::take(&mut lead), &[])?;
                self.act(act)?;
            }
            if sent == plan.len {
                break;
            }
            let mut room = acts.peek().map_or(plan.len, |(at, _)| plan.len.min(*at)) - sent;
            if let Some(rate) = rule.pace {
                let nanos = u128::from(sent) * 1_000_000_000 / u128::from(rate);
                self.send(number, plan.status, &std::mem::take(&mut lead), &[])?;
                self.pause(
                    started.checked_add(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))),
                )?;
                room = room.min((rate / STEPS).max(1));
            }
            let piece = match plan.content.piece(plan.start + sent, room) {
                Ok(piece) if !piece.is_empty() => piece,
                // The file shrank since it was opened: the announced length has become a lie.
                _ => return Err((Ended::Fault, Goodbye::Close)),
            };
            let len = piece.len() as u64;
            if plan.framing == Framing::Chunked {
                lead.extend(format!("{len:x}\r\n").bytes());
            }
            self.send(number, plan.status, &lead, piece)?;
            lead.clear();
            if plan.framing == Framing::Chunked {
                lead.extend(b"\r\n");
            }
            sent += len;
        }
        if plan.framing == Framing::Chunked {
            lead.extend(b"0\r\n\r\n");
        }
        self.send(number, plan.status, &lead, &[])
    }

    /// Writes `framing`, then `body`, of which the log counts every byte the kernel took.
    fn send(
        &self,
        number: usize,
        status: u16,
        mut framing: &[u8],
        mut body: &[u8],
    ) -> Result<(), (Ended, Goodbye)> {
        while !(framing.is_empty() && body.is_empty()) {
            let written = match (&*self.socket).write_vectored(&[IoSlice::new(framing), IoSlice::new(body)]) {
                Ok(0) => return Err(self.lost()),
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Err(self.lost()),
            };
            let of_framing = written.min(framing.len());
            let of_body = written - of_framing;
            framing = framing.get(of_framing..).unwrap_or_default();
            body = body.get(of_body..).unwrap_or_default();
            self.shared.update(|state| {
                if let Some(record) = state.log.requests.get_mut(number) {
                    if framing.is_empty() {
                        record.status = Some(status);
                    }
                    record.body_sent += of_body as u64;
                }
            });
        }
        Ok(())
    }

    fn act(&mut self, act: &Act) -> Result<(), (Ended, Goodbye)> {
        match act {
            Act::Delay(time) => self.pause(Instant::now().checked_add(*time)),
            Act::Stall => self.pause(None),
            Act::Reset => Err((Ended::Fault, Goodbye::Reset)),
            Act::Close => Err((Ended::Fault, Goodbye::Close)),
            Act::Gate(gate) => {
                self.shared.update(|state| {
                    if let Some(gate) = state.gates.get_mut(gate.id) {
                        gate.arrived += 1;
                    }
                });
                self.wait(None, |state| match state.gates.get_mut(gate.id) {
                    Some(gate) if gate.open => true,
                    Some(gate) if gate.passes > 0 => {
                        gate.passes -= 1;
                        true
                    }
                    Some(_) => false,
                    None => true,
                })
            }
        }
    }

    fn pause(&mut self, until: Option<Instant>) -> Result<(), (Ended, Goodbye)> {
        self.wait(until, |_| false)
    }

    /// Waits until `ready` or `deadline`; fails when the connection is over first.
    fn wait(
        &mut self,
        deadline: Option<Instant>,
        mut ready: impl FnMut(&mut State) -> bool,
    ) -> Result<(), (Ended, Goodbye)> {
        self.watch();
        let id = self.id;
        self.shared
            .wait(deadline, |state| {
                let peer = state.peer(id);
                if peer.ended {
                    Some(Err((Ended::Stopped, Goodbye::Close)))
                } else if peer.gone {
                    Some(Err((Ended::ClientClosed, Goodbye::Close)))
                } else {
                    ready(state).then_some(Ok(()))
                }
            })
            .unwrap_or(Ok(()))
    }

    /// Why a write failed.
    fn lost(&self) -> (Ended, Goodbye) {
        let ended = self.shared.lock().peer(self.id).ended;
        (
            if ended {
                Ended::Stopped
            } else {
                Ended::ClientClosed
            },
            Goodbye::Close,
        )
    }

    /// Starts the watcher, if it is not there yet.
    fn watch(&mut self) {
        if self.watcher.is_none() {
            let (shared, id, socket) = (Arc::clone(&self.shared), self.id, Arc::clone(&self.socket));
            let watcher = thread::Builder::new().name(format!("test-server-{id}-watch"));
            self.watcher = watcher.spawn(move || watch(&shared, id, socket)).ok();
        }
    }

    fn close(self, goodbye: Goodbye) {
        if goodbye == Goodbye::Reset {
            // The reset is sent when the last owner lets go, so the watcher has to; this wakes it and sends nothing.
            _ = socket2::SockRef::from(&*self.socket).set_linger(Some(Duration::ZERO));
            _ = self.socket.shutdown(Shutdown::Read);
        } else {
            _ = self.socket.shutdown(Shutdown::Both);
        }
        self.shared.update(|state| {
            state.peer(self.id).gone = true;
            state.sockets.remove(&self.id);
        });
        if let Some(watcher) = self.watcher {
            _ = watcher.join();
        }
        drop(self.socket);
        self.shared.update(|state| {
            if let Some(connection) = state.log.connections.get_mut(self.id) {
                connection.closed_at = Some(Instant::now());
            }
        });
    }
}

/// Watches for the client's close until the connection is over. A client that has sent its next request without
/// waiting for the answer cannot be watched until that one has been read.
fn watch(shared: &Shared, id: usize, socket: Arc<TcpStream>) {
    loop {
        // Taken before the look: bytes seen by it are read later than this, so the wait below ends when they have been.
        let reads = shared.lock().peer(id).reads;
        if !matches!(socket.peek(&mut [0]), Ok(1..)) {
            // Let go first: who learns of the end may have to reset the socket, which needs it alone.
            drop(socket);
            shared.update(|state| state.peer(id).gone = true);
            return;
        }
        let over = shared.wait(None, |state| {
            let peer = state.peer(id);
            (peer.gone || peer.reads != reads).then_some(peer.gone)
        });
        if over == Some(true) {
            return;
        }
    }
}

/// What a request is answered with.
fn plan(root: Option<&Path>, request: &Recorded, rule: &Rule, route: Option<Content>) -> Plan {
    let verbatim = |status: u16, body: &[u8]| (status, Content::bytes(body));
    let found = match &rule.reply {
        Reply::Verbatim { status, body } => Err((*status, body.clone())),
        _ if request.method != "GET" && request.method != "HEAD" => {
            Err(verbatim(405, b"method not allowed\n"))
        }
        Reply::Content(content) => Ok(content.clone()),
        Reply::Path => route
            .or_else(|| file(root?, request.path_only()))
            .ok_or_else(|| verbatim(404, b"not found\n")),
    };
    let found = found.and_then(|content| content.open().map_err(|_| verbatim(404, b"not found\n")));
    match found {
        Ok(content) => plan_content(request, rule, content),
        Err((status, body)) => match body.open() {
            Ok(content) => {
                let len = content.len;
                finish(
                    request,
                    rule,
                    Draft {
                        status,
                        headers: Vec::new(),
                        content,
                        start: 0,
                        len,
                    },
                )
            }
            Err(error) => unreachable!("bytes in memory do not fail to open: {error}"),
        },
    }
}

struct Draft {
    status: u16,
    headers: Vec<(String, String)>,
    content: Open,
    start: u64,
    len: u64,
}

/// Ranges and validators (RFC 9110, 13 and 14).
fn plan_content(request: &Recorded, rule: &Rule, content: Open) -> Plan {
    let etag = said(rule, "ETag", content.etag.clone());
    let modified = said(rule, "Last-Modified", content.last_modified());
    let size = content.len;
    let mut headers = vec![(
        "Content-Type".to_owned(),
        content_type(request.path_only()).to_owned(),
    )];
    headers.extend(etag.clone().map(|etag| ("ETag".to_owned(), etag)));
    headers.extend(
        modified
            .clone()
            .map(|modified| ("Last-Modified".to_owned(), modified)),
    );
    if !rule.ignore_range {
        headers.push(("Accept-Ranges".into(), "bytes".into()));
    }
    let mut draft = Draft {
        status: 200,
        headers,
        content,
        start: 0,
        len: size,
    };

    let matches = |sent: &str| etag.as_deref() == Some(sent) && !sent.starts_with("W/");
    if request.header("If-None-Match").is_some_and(matches) {
        (draft.status, draft.len) = (304, 0);
        return finish(request, rule, draft);
    }
    let fresh = request
        .header("If-Range")
        .is_none_or(|sent| matches(sent) || modified.as_deref() == Some(sent));
    let asked = request
        .header("Range")
        .and_then(parse_range)
        .filter(|_| fresh && !rule.ignore_range);
    let span = match (rule.serve_range, asked) {
        (Some((start, end)), _) => Some(Ok((start.min(size), end.min(size)))),
        (None, None) => None,
        (None, Some(Asked::Last(0))) => Some(Err(())),
        (None, Some(Asked::Last(last))) => Some(if size > 0 {
            Ok((size - last.min(size), size))
        } else {
            Err(())
        }),
        (None, Some(Asked::From(first) | Asked::Closed(first, _))) if first >= size => Some(Err(())),
        (None, Some(Asked::From(first))) => Some(Ok((first, size))),
        (None, Some(Asked::Closed(first, last))) => Some(Ok((first, last.saturating_add(1).min(size)))),
    };
    let total = if rule.hides_total {
        "*".to_owned()
    } else {
        size.to_string()
    };
    match span {
        None => {}
        Some(Ok((start, end))) => {
            let block = rule.block.unwrap_or(1);
            let (start, end) = (start - start % block, end.next_multiple_of(block).min(size));
            let end = end.min(start.saturating_add(rule.max_part.unwrap_or(u64::MAX)));
            (draft.status, draft.start, draft.len) = (206, start, end.saturating_sub(start));
            let last = end.saturating_sub(1);
            draft
                .headers
                .push(("Content-Range".into(), format!("bytes {start}-{last}/{total}")));
        }
        Some(Err(())) => {
            (draft.status, draft.len) = (416, 0);
            if !rule.hides_total {
                draft
                    .headers
                    .push(("Content-Range".into(), format!("bytes */{size}")));
            }
        }
    }
    finish(request, rule, draft)
}

/// What a header field says once the rule has had its word.
fn said(rule: &Rule, name: &str, truth: String) -> Option<String> {
    let word = rule
        .headers
        .iter()
        .rev()
        .find(|(key, _)| key.eq_ignore_ascii_case(name));
    word.map_or(Some(truth), |(_, value)| value.clone())
}

/// Framing, and the rule's header fields.
fn finish(request: &Recorded, rule: &Rule, draft: Draft) -> Plan {
    let Draft {
        status,
        mut headers,
        content,
        start,
        len,
    } = draft;
    let close = request
        .headers
        .iter()
        .any(|(name, value)| name.eq_ignore_ascii_case("Connection") && value.eq_ignore_ascii_case("close"));
    let truth = len.to_string();
    match rule.framing {
        Framing::Length if matches!(status, 204 | 304) => {}
        Framing::Length => headers.push(("Content-Length".into(), truth.clone())),
        Framing::Chunked => headers.push(("Transfer-Encoding".into(), "chunked".into())),
        Framing::Close => {}
    }
    if close || rule.framing == Framing::Close {
        headers.push(("Connection".into(), "close".into()));
    }
    for (name, value) in &rule.headers {
        headers.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
        headers.extend(value.clone().map(|value| (name.clone(), value)));
    }
    let announced = headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("Content-Length"));
    let lies = announced.map_or(rule.framing == Framing::Length, |(_, value)| *value != truth);
    Plan {
        status,
        headers,
        content,
        start,
        len,
        framing: rule.framing,
        close,
        lies,
    }
}

/// The file a path names, if it stays inside `root`.
fn file(root: &Path, path: &str) -> Option<Content> {
    let path = decode(path)?;
    let relative = Path::new(path.trim_start_matches('/'));
    let inside = relative
        .components()
        .all(|component| matches!(component, Component::Normal(_)));
    inside.then(|| Content::file(root.join(relative)))
}

/// Percent-decoding; `None` for what is not UTF-8 then.
fn decode(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let hex = (byte == b'%').then(|| tail.get(..2)).flatten();
        let decoded = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(decoded.unwrap_or(byte));
        rest = if decoded.is_some() { tail.get(2..)? } else { tail };
    }
    String::from_utf8(bytes).ok()
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        410 => "Gone",
        416 => "Range Not Satisfiable",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Status",
    }
}

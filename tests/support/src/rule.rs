//! What goes wrong, when, and for whom.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::content::Content;
use crate::log::Recorded;
use crate::server::Shared;

/// One way to answer, or not to.
///
/// A rule is given to [`Server::rule`](crate::Server::rule) together with a path. Of a path's rules, in the order they
/// were given, the first that wants a request takes it and no other sees it, so *fail twice, then be slow once, then
/// work* is three lines:
///
/// ```
/// # use kithara_test_support::{Rule, Server, media};
/// # let server = Server::start(media())?;
/// server.rule("/a.mp3", Rule::new().first(2).answer(503, ""));
/// server.rule("/a.mp3", Rule::new().first(1).trickle(64_000));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// Everything a rule says holds together: `.ignore_range().trickle(1000).reset_after(500)` ignores the range, is slow,
/// and resets. What happens *after n bytes* counts the body of this response; things at the same place happen in the
/// order they were said; what lies behind the end of the body does not happen.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    pub(crate) when: When,
    pub(crate) before: Vec<Act>,
    /// Sorted by the number of body bytes sent.
    pub(crate) during: Vec<(u64, Act)>,
    pub(crate) pace: Option<u64>,
    pub(crate) reply: Reply,
    pub(crate) headers: Vec<(String, Option<String>)>,
    pub(crate) ignore_range: bool,
    pub(crate) serve_range: Option<(u64, u64)>,
    pub(crate) max_part: Option<u64>,
    pub(crate) block: Option<u64>,
    pub(crate) hides_total: bool,
    pub(crate) framing: Framing,
    pub(crate) close_after: bool,
}

/// Which requests a rule wants.
#[derive(Clone, Debug, Default)]
pub(crate) struct When {
    skip: usize,
    first: Option<usize>,
    method: Option<&'static str>,
    range: Option<RangeIs>,
    reused: bool,
}

#[derive(Clone, Copy, Debug)]
enum RangeIs {
    Absent,
    StartsAt(u64),
    StartsFrom(u64),
}

/// Something that happens at one point of a response.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Gate(Gate),
    Delay(Duration),
    Stall,
    Reset,
    Close,
}

#[derive(Clone, Debug, Default)]
pub(crate) enum Reply {
    /// What the path stands for.
    #[default]
    Path,
    /// Something else in its place, with ranges and validators.
    Content(Content),
    /// Just this.
    Verbatim { status: u16, body: Content },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Framing {
    #[default]
    Length,
    Chunked,
    Close,
}

/// For whom.
impl Rule {
    /// A rule that takes every request and changes nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes only the first `requests` it wants (after those skipped).
    #[must_use]
    pub fn first(mut self, requests: usize) -> Self {
        self.when.first = Some(requests);
        self
    }

    /// Lets the first `requests` it would want pass.
    #[must_use]
    pub fn skip(mut self, requests: usize) -> Self {
        self.when.skip = requests;
        self
    }

    /// Wants only requests of this method.
    #[must_use]
    pub fn method(mut self, method: &'static str) -> Self {
        self.when.method = Some(method);
        self
    }

    /// Wants only requests for a range that starts at byte `first`.
    #[must_use]
    pub fn range_start(mut self, first: u64) -> Self {
        self.when.range = Some(RangeIs::StartsAt(first));
        self
    }

    /// Wants only requests for a range that starts at byte `first` or behind it.
    #[must_use]
    pub fn range_from(mut self, first: u64) -> Self {
        self.when.range = Some(RangeIs::StartsFrom(first));
        self
    }

    /// Wants only requests without a `Range`.
    #[must_use]
    pub fn without_range(mut self) -> Self {
        self.when.range = Some(RangeIs::Absent);
        self
    }

    /// Wants only requests that are not the first on their connection.
    #[must_use]
    pub fn reused(mut self) -> Self {
        self.when.reused = true;
        self
    }
}

/// When.
impl Rule {
    /// Holds the request at `gate` before anything is answered.
    #[must_use]
    pub fn gate(mut self, gate: &Gate) -> Self {
        self.before.push(Act::Gate(gate.clone()));
        self
    }

    /// Holds the response at `gate` after the head and `bytes` of the body.
    #[must_use]
    pub fn gate_after(self, bytes: u64, gate: &Gate) -> Self {
        self.during(bytes, Act::Gate(gate.clone()))
    }

    /// Waits before anything is answered.
    #[must_use]
    pub fn delay(mut self, time: Duration) -> Self {
        self.before.push(Act::Delay(time));
        self
    }

    /// Waits after the head and `bytes` of the body.
    #[must_use]
    pub fn delay_after(self, bytes: u64, time: Duration) -> Self {
        self.during(bytes, Act::Delay(time))
    }

    /// Sends the body at this speed, in about fifty steps a second.
    #[must_use]
    pub fn trickle(mut self, bytes_per_second: u64) -> Self {
        self.pace = Some(bytes_per_second.max(1));
        self
    }
}

/// How it fails.
impl Rule {
    /// Never answers: silent until the client closes or the server stops.
    #[must_use]
    pub fn never_answer(mut self) -> Self {
        self.before.push(Act::Stall);
        self
    }

    /// Sends nothing more after the head and `bytes` of the body, until the client closes or the server stops.
    #[must_use]
    pub fn stall_after(self, bytes: u64) -> Self {
        self.during(bytes, Act::Stall)
    }

    /// Resets the connection (RST) instead of answering.
    #[must_use]
    pub fn reset(mut self) -> Self {
        self.before.push(Act::Reset);
        self
    }

    /// Resets the connection (RST) after the head and `bytes` of the body. The client's kernel may throw away bytes it
    /// had received but not handed over.
    #[must_use]
    pub fn reset_after(self, bytes: u64) -> Self {
        self.during(bytes, Act::Reset)
    }

    /// Closes the connection (FIN) instead of answering.
    #[must_use]
    pub fn close(mut self) -> Self {
        self.before.push(Act::Close);
        self
    }

    /// Closes the connection (FIN) after the head, which announced more, and `bytes` of the body.
    #[must_use]
    pub fn truncate_after(self, bytes: u64) -> Self {
        self.during(bytes, Act::Close)
    }

    /// Closes the connection (FIN) after a complete response that did not say so, as an idle limit does.
    #[must_use]
    pub fn close_after(mut self) -> Self {
        self.close_after = true;
        self
    }

    fn during(mut self, bytes: u64, act: Act) -> Self {
        let at = self.during.partition_point(|(place, _)| *place <= bytes);
        self.during.insert(at, (bytes, act));
        self
    }
}

/// What it says.
impl Rule {
    /// Answers with this status and body, whatever was asked: no ranges, no validators, no type but those
    /// [`Rule::header`] adds.
    #[must_use]
    pub fn answer(mut self, status: u16, body: impl AsRef<[u8]>) -> Self {
        self.reply = Reply::Verbatim {
            status,
            body: Content::bytes(body.as_ref()),
        };
        self
    }

    /// Answers with this status and `Location`.
    #[must_use]
    pub fn redirect(self, status: u16, location: impl Into<String>) -> Self {
        self.answer(status, "").header("Location", location)
    }

    /// Serves something else under the path, ranges and validators included: the file has changed.
    #[must_use]
    pub fn content(mut self, content: Content) -> Self {
        self.reply = Reply::Content(content);
        self
    }

    /// Sets a header field, in place of the true one if there is one. A false `Content-Length` (any text) closes the
    /// connection after the true body; a changed `ETag` or `Last-Modified` is what `If-Range` is compared with.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), Some(value.into())));
        self
    }

    /// Leaves a header field out.
    #[must_use]
    pub fn without_header(mut self, name: impl Into<String>) -> Self {
        self.headers.push((name.into(), None));
        self
    }

    /// Leaves `ETag` and `Last-Modified` out.
    #[must_use]
    pub fn without_validators(self) -> Self {
        self.without_header("ETag").without_header("Last-Modified")
    }

    /// Announces this length. The true body follows, then the connection closes.
    #[must_use]
    pub fn content_length(self, bytes: u64) -> Self {
        self.header("Content-Length", bytes.to_string())
    }

    /// Sends this `Content-Range`, say `bytes 9-3/10`, above the bytes that were asked for.
    #[must_use]
    pub fn content_range(self, value: impl Into<String>) -> Self {
        self.header("Content-Range", value)
    }

    /// Answers 200 with the whole, as a server that knows no ranges, and without `Accept-Ranges`.
    #[must_use]
    pub fn ignore_range(mut self) -> Self {
        self.ignore_range = true;
        self
    }

    /// Answers 206 with the bytes `start..end` and a true `Content-Range`, whatever range was asked for.
    #[must_use]
    pub fn serve_range(mut self, start: u64, end: u64) -> Self {
        self.serve_range = Some((start, end));
        self
    }

    /// Answers a range with no more than its first `bytes`, as proxies do that cap it.
    #[must_use]
    pub fn max_part(mut self, bytes: u64) -> Self {
        self.max_part = Some(bytes.max(1));
        self
    }

    /// Answers a range with the blocks of `bytes` that hold it, as caches do that keep blocks.
    #[must_use]
    pub fn whole_blocks(mut self, bytes: u64) -> Self {
        self.block = Some(bytes.max(1));
        self
    }

    /// Tells no length: `Content-Range` ends in `/*`, and a 416 has none.
    #[must_use]
    pub fn hide_total(mut self) -> Self {
        self.hides_total = true;
        self
    }

    /// Announces no length: the end of the body is the end of the connection.
    #[must_use]
    pub fn no_length(mut self) -> Self {
        self.framing = Framing::Close;
        self
    }

    /// Sends the body in chunks, without a length.
    #[must_use]
    pub fn chunked(mut self) -> Self {
        self.framing = Framing::Chunked;
        self
    }
}

impl When {
    fn meets(&self, request: &Recorded) -> bool {
        let range = match self.range {
            None => true,
            Some(RangeIs::Absent) => request.header("Range").is_none(),
            Some(RangeIs::StartsAt(first)) => request.range_start() == Some(first),
            Some(RangeIs::StartsFrom(first)) => request.range_start().is_some_and(|start| start >= first),
        };
        range && self.method.is_none_or(|method| method == request.method) && (!self.reused || request.reused)
    }
}

/// A rule in its place.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) id: usize,
    pattern: String,
    rule: Arc<Rule>,
    met: usize,
    pub(crate) hits: usize,
}

impl Slot {
    pub(crate) fn new(id: usize, pattern: String, rule: Rule) -> Self {
        Self {
            id,
            pattern,
            rule: Arc::new(rule),
            met: 0,
            hits: 0,
        }
    }

    /// The rule, if it takes this request.
    pub(crate) fn take(&mut self, request: &Recorded) -> Option<Arc<Rule>> {
        let path = if self.pattern.contains('?') {
            &request.path
        } else {
            request.path_only()
        };
        let fits = match self.pattern.strip_suffix('*') {
            Some(prefix) => path.starts_with(prefix),
            None => path == self.pattern,
        };
        let when = &self.rule.when;
        if !fits || when.first.is_some_and(|first| self.hits >= first) || !when.meets(request) {
            return None;
        }
        self.met += 1;
        if self.met <= when.skip {
            return None;
        }
        self.hits += 1;
        Some(Arc::clone(&self.rule))
    }
}

/// A rule that has been given to a server.
#[derive(Clone, Debug)]
pub struct RuleHandle {
    pub(crate) shared: Weak<Shared>,
    pub(crate) id: usize,
}

impl RuleHandle {
    /// How many requests it has taken: a fault test that sees none has proved nothing.
    pub fn hits(&self) -> usize {
        let Some(shared) = self.shared.upgrade() else {
            return 0;
        };
        let state = shared.lock();
        state
            .rules
            .iter()
            .chain(&state.retired)
            .find(|slot| slot.id == self.id)
            .map_or(0, |slot| slot.hits)
    }

    /// Takes the rule back. Requests it has already taken keep to it.
    pub fn remove(&self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.retire(|slot| slot.id == self.id);
        }
    }
}

/// Where requests wait until the test lets them go on. Closed when made by [`Server::gate`](crate::Server::gate).
///
/// A request that waits still notices its client closing, and the server stopping.
#[derive(Clone, Debug)]
pub struct Gate {
    pub(crate) shared: Weak<Shared>,
    pub(crate) id: usize,
}

/// What the server's state holds of a gate.
#[derive(Debug, Default)]
pub(crate) struct GateState {
    pub(crate) open: bool,
    pub(crate) passes: usize,
    pub(crate) arrived: usize,
}

impl Gate {
    /// Lets all go on, those to come too.
    pub fn open(&self) {
        self.change(|gate| gate.open = true);
    }

    /// Holds those to come again.
    pub fn close(&self) {
        self.change(|gate| (gate.open, gate.passes) = (false, 0));
    }

    /// Lets `requests` go on, those waiting or the next to come.
    pub fn pass(&self, requests: usize) {
        self.change(|gate| gate.passes += requests);
    }

    /// How many have reached the gate so far, held or not.
    pub fn arrived(&self) -> usize {
        let Some(shared) = self.shared.upgrade() else {
            return 0;
        };
        let state = shared.lock();
        state.gates.get(self.id).map_or(0, |gate| gate.arrived)
    }

    /// Waits until `requests` have reached the gate since it was made.
    ///
    /// # Panics
    ///
    /// After ten seconds.
    #[track_caller]
    pub fn wait_arrived(&self, requests: usize) {
        let Some(shared) = self.shared.upgrade() else {
            panic!("the server of this gate is gone")
        };
        shared.expect("requests at the gate", |state| {
            state
                .gates
                .get(self.id)
                .is_some_and(|gate| gate.arrived >= requests)
        });
    }

    fn change(&self, change: impl FnOnce(&mut GateState)) {
        if let Some(shared) = self.shared.upgrade() {
            shared.lock().gates.get_mut(self.id).map(change);
            shared.changed.notify_all();
        }
    }
}

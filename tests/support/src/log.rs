//! What the server saw and did.

use std::time::Instant;

/// How a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// Not yet: it is being answered, held at a gate, or stalled.
    Not,
    /// All that was announced has been sent.
    Complete,
    /// The client closed or reset the connection first.
    ClientClosed,
    /// A rule ended it: reset, closed early, or closed because the announced length was a lie.
    Fault,
    /// [`Server::stop`](crate::Server::stop) or [`Server::cut`](crate::Server::cut) ended it.
    Stopped,
}

/// One request and what became of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Recorded {
    /// The method, as sent.
    pub method: String,
    /// The path with its query, as sent.
    pub path: String,
    /// The header fields in their order, names as sent.
    pub headers: Vec<(String, String)>,
    /// Which connection it came on: an index into [`Log::connections`].
    pub connection: usize,
    /// Whether an earlier request came on the same connection.
    pub reused: bool,
    /// The status, once the head has been sent.
    pub status: Option<u16>,
    /// The bytes of the body the kernel has taken so far, without chunk framing.
    pub body_sent: u64,
    /// How it ended.
    pub ended: Ended,
    /// Whether a rule took this request.
    pub ruled: bool,
    /// When its head had been read.
    pub received_at: Instant,
    /// When it ended.
    pub ended_at: Option<Instant>,
}

impl Recorded {
    /// The value of a header field, its name in any case; the first of several.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Where a `Range` of the form `bytes=first-` or `bytes=first-last` starts.
    pub fn range_start(&self) -> Option<u64> {
        match parse_range(self.header("Range")?)? {
            Asked::From(first) | Asked::Closed(first, _) => Some(first),
            Asked::Last(_) => None,
        }
    }

    /// The path without its query.
    pub fn path_only(&self) -> &str {
        self.path.split_once('?').map_or(&self.path, |(path, _)| path)
    }
}

/// One connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Connection {
    /// When it was accepted.
    pub accepted_at: Instant,
    /// When the server saw or made its end. While the server has nothing to write and nothing to read (a gate, a delay,
    /// a stall) it still watches for the client's.
    pub closed_at: Option<Instant>,
    /// How many requests came on it.
    pub requests: usize,
}

/// Everything so far, in order.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Log {
    /// The requests, in the order their heads were read.
    pub requests: Vec<Recorded>,
    /// The connections, in the order they were accepted.
    pub connections: Vec<Connection>,
}

impl Log {
    /// The requests for one path, whatever their query. A trailing `*` makes it a prefix.
    pub fn to<'a>(&'a self, path: &'a str) -> impl DoubleEndedIterator<Item = &'a Recorded> {
        self.requests
            .iter()
            .filter(move |request| match path.strip_suffix('*') {
                Some(prefix) => request.path_only().starts_with(prefix),
                None => request.path_only() == path,
            })
    }

    /// How many connections are open.
    pub fn open_connections(&self) -> usize {
        self.connections
            .iter()
            .filter(|connection| connection.closed_at.is_none())
            .count()
    }

    /// The bytes of all bodies.
    pub fn bytes_sent(&self) -> u64 {
        self.requests.iter().map(|request| request.body_sent).sum()
    }
}

/// A `Range` of one part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// `bytes=first-`
    From(u64),
    /// `bytes=first-last`, inclusive
    Closed(u64, u64),
    /// `bytes=-n`
    Last(u64),
}

/// `None` for what a server may ignore: several parts, other units, nonsense.
pub(crate) fn parse_range(value: &str) -> Option<Asked> {
    let digits = |text: &str| {
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            text.parse::<u64>().ok()
        } else {
            None
        }
    };
    let (first, last) = value.trim().strip_prefix("bytes=")?.split_once('-')?;
    match (first, last) {
        ("", last) => digits(last).map(Asked::Last),
        (first, "") => digits(first).map(Asked::From),
        (first, last) => {
            let (first, last) = (digits(first)?, digits(last)?);
            (first <= last).then_some(Asked::Closed(first, last))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_rfc_9110_writes_them() {
        assert_eq!(parse_range("bytes=0-"), Some(Asked::From(0)));
        assert_eq!(parse_range("bytes=5-9"), Some(Asked::Closed(5, 9)));
        assert_eq!(parse_range("bytes=-4"), Some(Asked::Last(4)));
        for ignored in [
            "bytes=9-5",
            "bytes=0-1,3-4",
            "items=0-1",
            "bytes=-",
            "bytes=a-b",
            "bytes=+1-2",
        ] {
            assert_eq!(parse_range(ignored), None, "{ignored}");
        }
    }
}

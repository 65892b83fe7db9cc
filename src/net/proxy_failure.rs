//! Why a proxy did not lead to a host.

use std::fmt;
use std::io;

use super::IoError;

/// Why a proxy did not lead to a host: in [`NetError::Proxy`](super::NetError::Proxy).
#[non_exhaustive]
#[derive(Debug, Clone)]
pub enum ProxyFailure {
    /// The proxy itself cannot be reached, or its connection broke.
    Unreachable(IoError),
    /// It refuses to connect, with this status. 407 asks for credentials.
    Status(u16),
    /// It refuses to connect, with this reply of SOCKS 5 (RFC 1928, section 6).
    Socks(u8),
    /// It takes no way to say who asks that the client knows, or does not know who asks.
    Credentials,
    /// Its answer is not of its protocol.
    Protocol,
}

impl ProxyFailure {
    /// Whether the same attempt may succeed a little later.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            // What a proxy answers for a host out of reach, or for itself while it is busy. Another status is a decision.
            Self::Status(status) => matches!(status, 429 | 500 | 502..=504),
            // A failure in general, a network or a host out of reach, a refusal by the host, too many hops.
            Self::Socks(reply) => matches!(reply, 1 | 3..=6),
            // The same words again would be refused again.
            Self::Credentials | Self::Protocol => false,
        }
    }
}

impl fmt::Display for ProxyFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) => write!(f, "cannot be reached: {error}"),
            Self::Status(status) => write!(f, "answers with status {status}"),
            // With the number: proxies put their own meanings into replies.
            Self::Socks(reply) => write!(f, "answers with SOCKS reply {reply}: {}", meaning(*reply)),
            Self::Credentials => f.write_str("does not take the credentials"),
            Self::Protocol => f.write_str("answers with something else than its protocol"),
        }
    }
}

/// What a reply means (RFC 1928, section 6).
fn meaning(reply: u8) -> &'static str {
    match reply {
        1 => "general failure",
        2 => "not allowed",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "too many hops",
        7 => "command not supported",
        8 => "kind of address not supported",
        _ => "unknown",
    }
}

impl From<io::Error> for ProxyFailure {
    fn from(error: io::Error) -> Self {
        Self::Unreachable(error.into())
    }
}

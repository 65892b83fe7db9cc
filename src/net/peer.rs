//! The host that a connection leads to.

use url::{Host, Url};

use super::error::UnsupportedUrlSnafu;
use super::{NetError, redacted};

/// A host, its port, and whether TLS is spoken there. Connections to equal peers can stand in for each other.
///
/// It is the host of the URL, whatever the socket is connected to: certificates are checked against it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Peer {
    pub(super) tls: bool,
    pub(super) host: Host<String>,
    pub(super) port: u16,
}

impl Peer {
    pub(super) fn of(url: &Url) -> Result<Self, NetError> {
        let tls = url.scheme() == "https";
        match (url.host(), url.port_or_known_default()) {
            // The port is always named, so that a URL with `:443` and one without share their connections.
            (Some(host), Some(port)) if tls || url.scheme() == "http" => Ok(Self {
                tls,
                host: host.to_owned(),
                port,
            }),
            _ => UnsupportedUrlSnafu { url: redacted(url) }.fail(),
        }
    }
}

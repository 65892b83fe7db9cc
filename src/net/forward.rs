//! Requests that a proxy forwards: how they are addressed.

use http::HeaderValue;
use http::header::PROXY_AUTHORIZATION;
use url::{Position, Url};

use super::error::UnsupportedUrlSnafu;
use super::socket::Socket;
use super::{NetError, redacted};

/// What a way to a peer ends in.
#[derive(Debug)]
pub(super) struct Dialled {
    pub(super) socket: Socket,
    /// How requests are to be addressed, where a proxy forwards them.
    pub(super) forward: Option<Forward>,
}

impl From<Socket> for Dialled {
    fn from(socket: Socket) -> Self {
        Self {
            socket,
            forward: None,
        }
    }
}

/// A proxy that reads each request and sends one of its own (RFC 9112, section 3.2.2).
#[derive(Debug, Clone)]
pub(super) struct Forward {
    authorization: Option<HeaderValue>,
    /// The proxy, as it is shown.
    pub(super) proxy: String,
}

impl Forward {
    pub(super) fn new(authorization: Option<HeaderValue>, proxy: String) -> Self {
        Self { authorization, proxy }
    }

    /// Makes a request for `url` one that the proxy understands: it names the whole URL, and says who asks.
    pub(super) fn address<B>(&self, message: &mut http::Request<B>, url: &Url) -> Result<(), NetError> {
        let unsupported = || UnsupportedUrlSnafu { url: redacted(url) }.build();
        // Without the user's name and password: those are in a header, and a proxy writes its request lines into logs.
        let authority = &url[Position::BeforeHost..Position::AfterPort];
        let target = format!("http://{authority}{}", message.uri());
        *message.uri_mut() = target.parse().map_err(|_| unsupported())?;
        // With each request, as a proxy asks per message. It takes the header out before it passes the request on.
        if let Some(value) = &self.authorization {
            message.headers_mut().insert(PROXY_AUTHORIZATION, value.clone());
        }
        Ok(())
    }
}

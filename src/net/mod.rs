//! An HTTP/1.1 client for media.
//!
//! Bytes come whole, from the right place, of one and the same file; or there is an error.
//!
//! ```text
//! HttpClient ── send(Request) ──▶ Response ── into_body() ──▶ Body
//!    │                               │                        a Stream of
//!   Pool of connections           bytes(limit)                Result<Bytes, NetError>
//!    │                            whole, gunzipped
//!   Connector: name, dial, proxy, TLS
//! ```
//!
//! - **No false end.** A body ends where its file or its range does. A reset, a short body, a wrong `Content-Range`, a
//!   file that changed, an error page: each is a [`NetError`]. None is an end, and none yields other bytes.
//! - **Parts as servers send them.** A 206 says itself which part it is. One that is shorter than the range asked for, or
//!   begins before it, is taken for what it is, and the rest is asked for.
//! - **Retries.** What may pass (no connection, silence, status 408, 429, 5xx) is tried again, with a growing wait. A
//!   body that breaks off is resumed where it stopped, if the server gave a [`Validator`]: it proves that the rest is of
//!   the same file.
//! - **Limits** for connecting, for the head of a response, for each gap in a body, for redirects, for connections, and
//!   for bodies read whole. There is no limit for the time of a whole body.
//! - **Dropping cancels.** No task stands between a body and its socket. Dropping a body, or the future of a request,
//!   closes the socket at once. (One background task closes idle connections, while there are any.)
//! - **No secrets in errors, logs or `Debug`**: no query, no credentials, no header values. Custom headers go to the
//!   origin they were given for, and to no other. Credentials in a URL hold for its origin. A [`RequestHook`] signs requests,
//!   and renews them when a server refuses.
//! - **Old radio servers**: `ICY 200 OK`, Shoutcast's greeting, is read as HTTP/1.0.
//!
//! `https` needs the feature `tls`: rustls with the platform's certificates, or with Mozilla's (`webpki-roots`).
//!
//! Proxies come from the environment (`HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`) or from
//! [`HttpClientBuilder::proxy`]. Cookies are kept in a [`CookieJar`], where a request has one.
//!
//! There is no HTTP/2. HTTP/2 gains nothing for long bodies and one range after the other,
//! and costs more: over loopback, hyper reads 512 MiB from nginx at 3 378 MiB/s by HTTP/1.1 and at 1 169 MiB/s by HTTP/2,
//! for 0.20 s and 0.63 s of CPU time a GiB. A range of 4 KiB takes 87 µs and 111 µs (`--bin http2` of `benches/peers`).

mod body;
mod builder;
mod bulk;
mod cancel;
mod change;
mod check;
mod client;
mod client_headers;
mod connect;
mod connection;
mod cookie_date;
mod cookies;
mod courtesy;
mod credentials;
mod dial;
mod error;
mod exchange;
mod forward;
mod framing;
mod gunzip;
mod hook;
mod hyper_io;
mod icy;
mod limits;
mod odd_line;
mod peer;
mod pool;
mod proxy;
mod proxy_failure;
mod range;
mod redirect;
mod request;
mod response;
mod retry;
mod shown;
mod socket;
mod speed;
#[cfg(feature = "tls")]
mod tls;
mod traffic;
mod transport_error;
mod tunnel;
mod validator;
mod wire;

pub use body::Body;
pub use builder::HttpClientBuilder;
#[cfg(feature = "file")]
pub(crate) use cancel::CancelToken;
pub use change::Change;
pub use client::HttpClient;
pub use cookies::CookieJar;
pub(crate) use courtesy::Priority;
pub use error::{NetError, Phase};
#[cfg(feature = "tls")]
pub use futures_rustls::rustls;
pub use hook::{Outgoing, Refused, Renewal, Renewing, RequestHook};
pub use http::HeaderMap;
pub use proxy::Proxy;
pub use proxy_failure::ProxyFailure;
pub use range::{ByteRange, ContentRange};
pub use request::Request;
pub use response::Response;
pub use retry::RetryPolicy;
pub use shown::{UrlDisplay, redacted, set_url_display};
pub use traffic::Traffic;
pub use transport_error::{IoError, TransportError};
pub use url::Url;
#[cfg(feature = "file")]
pub(crate) use validator::SentValidators;
pub use validator::Validator;

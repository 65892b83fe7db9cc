//! An HTTP/1.1 client for media: bytes come whole, from the right place, of one and the same file, or not at all.
//!
//! ```text
//! HttpClient ── send(Request) ──▶ Response ── into_body() ──▶ Body: Stream<Item = Result<Bytes, NetError>>
//!     │                              │
//!   Pool of connections           bytes(limit): whole, gunzipped
//! ```
//!
//! - **No false end.** A body ends where its file or its range does. A reset, a short body, a wrong `Content-Range`, a
//!   file that changed, an error page: each is a [`NetError`], never an end and never other bytes.
//! - **It goes on.** What may pass (no connection, silence, 408, 429, 5xx) is tried again with a growing wait; a body
//!   that broke off is resumed where it stopped, if the server gave a [`Validator`] that proves it is the same file.
//! - **Everything is limited** but the time that a whole body takes: connecting, waiting for the head, gaps, redirects,
//!   connections, bodies read whole.
//! - **Dropping is cancelling.** No task stands between a body and its socket, so dropping a body, or the future of a
//!   request, closes the socket at once. (One task in the background closes idle connections, while there are any.)
//! - **Nothing is told on.** Errors, logs and `Debug` show no query, no credentials and no header values; custom headers
//!   go to the origin that they were given for and to no other.
//! - **Old radio plays.** Shoutcast's `ICY 200 OK` is taken for the HTTP/1.0 response that it is.
//!
//! `https` needs the feature `tls`: rustls with the platform's certificates, or Mozilla's with `webpki-roots`. There are
//! no cookies, no proxies and no HTTP/2. For this work, long bodies and one range after the other, HTTP/2 costs and gains nothing:
//! of 512 MiB over loopback hyper's client reads 3 378 MiB/s from nginx by HTTP/1.1 and 1 169 by HTTP/2, for 0.20 and 0.63 s of
//! CPU time a GiB, and of ranges of 4 KiB each takes 87 and 111 µs (`--bin http2` of `benches/peers`).

mod body;
mod builder;
mod bulk;
mod cancel;
mod check;
mod client;
mod connect;
mod connection;
mod dial;
mod error;
mod gunzip;
mod icy;
mod limits;
mod peer;
mod pool;
mod range;
mod redirect;
mod request;
mod response;
mod retry;
mod socket;
#[cfg(feature = "tls")]
mod tls;
mod traffic;
mod transport_error;
mod validator;
mod wire;

pub use body::Body;
pub use builder::HttpClientBuilder;
#[cfg(feature = "file")]
pub(crate) use cancel::CancelToken;
pub use client::HttpClient;
pub use error::{NetError, Phase, redacted};
#[cfg(feature = "tls")]
pub use futures_rustls::rustls;
pub use http::HeaderMap;
pub use range::{ByteRange, ContentRange};
pub use request::Request;
pub use response::Response;
pub use retry::RetryPolicy;
pub use traffic::Traffic;
pub use transport_error::{IoError, TransportError};
pub use url::Url;
pub use validator::Validator;

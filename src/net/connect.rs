//! Connections are made here, behind one seam.
//!
//! ```text
//! HttpClient ── peer, URL ──▶ Connector ──▶ dyn Connect ──▶ Socket: TCP, or
//!                             time limit    name, dial,       TLS over it
//!                             traffic       proxy, TLS
//!                                           (here: Routed)
//! ```
//!
//! Client and pool know the [`Connector`]. Another way to a peer is one more implementation of [`Connect`].

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use snafu::{IntoError, OptionExt};
use url::Url;

use super::connection::Connection;
use super::dial::dial;
use super::error::{ConnectSnafu, Phase, ProxySnafu, TimeoutSnafu};
use super::forward::{Dialled, Forward};
use super::limits::IdleTimer;
use super::peer::Peer;
use super::proxy::{Proxies, ProxyKind};
use super::socket::{Socket, Tcp};
use super::traffic::{Meter, Traffic};
use super::tunnel::connect_through;
use super::{NetError, redacted};

/// A way to a peer: resolves, dials, and shakes hands where the peer speaks TLS.
///
/// # Contract
///
/// - The socket is ready for the first byte of an HTTP request to `peer`.
/// - The peer's certificate is checked against `peer.host`, wherever the socket leads. [`Security`] does that.
/// - The future has no time limit of its own. Dropping it closes every socket it has opened.
/// - All bytes go through a [`Tcp`] with this `meter`.
pub(super) trait Connect: fmt::Debug + Send + Sync {
    fn connect<'a>(&'a self, peer: &'a Peer, url: &'a Url, meter: &'a Arc<Meter>) -> Connecting<'a>;
}

pub(super) type Connecting<'a> = Pin<Box<dyn Future<Output = Result<Dialled, NetError>> + Send + 'a>>;

/// Makes the connections of a client: over any [`Connect`], with a time limit, counted.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    way: Arc<dyn Connect>,
    meter: Arc<Meter>,
}

impl Connector {
    pub(super) fn new(way: impl Connect + 'static) -> Self {
        Self {
            way: Arc::new(way),
            meter: Arc::default(),
        }
    }

    /// The same way, counted from zero: clones of a builder share the way, but each client has its own traffic.
    pub(super) fn with_own_meter(mut self) -> Self {
        self.meter = Arc::default();
        self
    }

    pub(super) fn traffic(&self) -> Traffic {
        self.meter.read()
    }

    /// Resolves, connects and shakes hands, in `limit` at most.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the socket.
    pub(super) async fn connect(
        &self,
        peer: &Peer,
        url: &Url,
        limit: Duration,
    ) -> Result<Connection, NetError> {
        // Before anything is dialled: without TLS there is nothing to say to this peer.
        #[cfg(not(feature = "tls"))]
        if peer.tls {
            return super::error::TlsDisabledSnafu { url: redacted(url) }.fail();
        }
        // Counted before it is made: one that fails has cost the network as much.
        self.meter.connection();
        let mut timer = IdleTimer::default();
        let dialled = timer
            .within(limit, self.way.connect(peer, url, &self.meter))
            .await;
        let dialled = dialled.with_context(|| TimeoutSnafu {
            url: redacted(url),
            phase: Phase::Connect,
            limit,
        })??;
        // The timer goes along: the system call that armed it is not repeated for the first head.
        Ok(Connection::new(dialled, timer))
    }
}

/// Straight to the peer's own address, or through the proxy that leads there.
#[derive(Debug)]
pub(super) struct Routed {
    pub(super) proxies: Proxies,
    pub(super) security: Security,
}

impl Connect for Routed {
    fn connect<'a>(&'a self, peer: &'a Peer, url: &'a Url, meter: &'a Arc<Meter>) -> Connecting<'a> {
        Box::pin(async move {
            let dialled = async |peer| dial(peer).await.and_then(|tcp| Tcp::new(tcp, Arc::clone(meter)));
            // A setting that cannot be read is an error. Going straight to the host would show it what the proxy is to hide.
            let Some(proxy) = self.proxies.to(peer).transpose()? else {
                let tcp = dialled(peer).await;
                let tcp = tcp.map_err(|source| ConnectSnafu { url: redacted(url) }.into_error(source))?;
                return Ok(self.security.secure(tcp, peer, url).await?.into());
            };
            let failed = |failure| {
                let (url, proxy) = (redacted(url), proxy.shown());
                ProxySnafu { url, proxy, failure }.build()
            };
            let mut tcp = dialled(&proxy.peer).await.map_err(|error| failed(error.into()))?;
            // Proxies commonly connect through to port 443 alone, and forward what they can read.
            if proxy.kind == ProxyKind::Http && !peer.tls {
                let authorization = proxy.authorization();
                return Ok(Dialled {
                    socket: Socket::Plain(tcp),
                    forward: Some(Forward::new(authorization, proxy.shown())),
                });
            }
            // The proxy is told the name and resolves it: the client's network may have no names for hosts outside.
            connect_through(proxy, peer, &mut tcp).await.map_err(failed)?;
            // TLS inside the tunnel, and with the peer: the proxy sees neither URL nor bytes.
            Ok(self.security.secure(tcp, peer, url).await?.into())
        })
    }
}

/// The step from TCP to what HTTP is spoken over: TLS for `https`, nothing for `http`.
#[derive(Debug, Clone, Default)]
pub(super) struct Security {
    #[cfg(feature = "tls")]
    tls: super::tls::Tls,
}

impl Security {
    #[cfg(feature = "tls")]
    pub(super) fn with_tls_config(config: Arc<futures_rustls::rustls::ClientConfig>) -> Self {
        Self {
            tls: super::tls::Tls::with_config(config),
        }
    }

    #[cfg_attr(
        not(feature = "tls"),
        expect(clippy::unused_async, reason = "with `tls` the handshake is awaited")
    )]
    pub(super) async fn secure(&self, tcp: Tcp, peer: &Peer, url: &Url) -> Result<Socket, NetError> {
        #[cfg(feature = "tls")]
        if peer.tls {
            return self.tls.handshake(peer, url, tcp).await;
        }
        #[cfg(not(feature = "tls"))]
        let _ = (peer, url);
        Ok(Socket::Plain(tcp))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::thread;

    use futures_lite::future::block_on;

    use super::super::{HttpClient, Request, RetryPolicy};
    use super::*;
    use crate::rt;

    /// Takes every request to one address, whatever its host.
    #[derive(Debug)]
    struct Detour {
        to: SocketAddr,
        security: Security,
    }

    impl Connect for Detour {
        fn connect<'a>(&'a self, peer: &'a Peer, url: &'a Url, meter: &'a Arc<Meter>) -> Connecting<'a> {
            Box::pin(async move {
                let dialled = rt::connect(self.to).await;
                let tcp = dialled.and_then(|tcp| Tcp::new(tcp, Arc::clone(meter)));
                let tcp = tcp.map_err(|source| ConnectSnafu { url: redacted(url) }.into_error(source))?;
                Ok(self.security.secure(tcp, peer, url).await?.into())
            })
        }
    }

    /// A client whose connections all lead to a server that runs `serve` for each of them.
    fn detoured(security: Security, serve: impl Fn(TcpStream) + Clone + Send + 'static) -> HttpClient {
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        let to = server.local_addr().expect("bound");
        thread::spawn(move || {
            for socket in server.incoming().flatten() {
                let serve = serve.clone();
                thread::spawn(move || serve(socket));
            }
        });
        let builder = HttpClient::builder().retry(RetryPolicy::none());
        let builder = builder.connector(Connector::new(Detour { to, security }));
        builder.build().expect("valid settings")
    }

    fn get(client: &HttpClient, url: &str) -> Result<Vec<u8>, NetError> {
        let request = Request::get(Url::parse(url).expect("a url"));
        block_on(async { Ok(client.send(request).await?.bytes(100).await?.to_vec()) })
    }

    /// The host that was asked for, as the body.
    fn echo_host(mut socket: TcpStream) {
        let mut head = Vec::new();
        let mut byte = [0];
        while socket.read_exact(&mut byte).is_ok() {
            head.push(byte[0]);
            if head.ends_with(b"\r\n\r\n") {
                let text = String::from_utf8(std::mem::take(&mut head)).expect("ascii");
                let host = text
                    .lines()
                    .find_map(|line| line.strip_prefix("host: "))
                    .expect("a host");
                let length = host.len();
                let _ = write!(
                    socket,
                    "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{host}"
                );
            }
        }
    }

    #[test]
    fn another_way_to_connect_serves_client_and_pool_as_well() {
        let client = detoured(Security::default(), echo_host);
        for host in ["music.invalid", "music.invalid", "news.invalid:81"] {
            assert_eq!(
                get(&client, &format!("http://{host}/")).expect("served"),
                host.as_bytes()
            );
        }
        let traffic = client.traffic();
        assert_eq!(
            traffic.connections, 2,
            "the second request found the first one's connection"
        );
        assert!(traffic.received_bytes > 0);
    }

    /// N6: the name in the handshake is the URL's, wherever the socket leads, and nothing follows a failed handshake.
    #[cfg(feature = "tls")]
    #[test]
    fn the_host_of_the_url_is_checked_wherever_the_socket_leads() {
        use futures_rustls::rustls::crypto::ring;
        use futures_rustls::rustls::{ClientConfig, RootCertStore};

        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let (report, reported) = std::sync::mpsc::channel();
        let security = Security::with_tls_config(Arc::new(config));
        let client = detoured(security, move |mut socket| {
            // The head of a record and the rest of it: the client's hello. The answer is no handshake.
            let mut hello = vec![0; 5];
            socket.read_exact(&mut hello).expect("a record");
            let length = usize::from(u16::from_be_bytes([hello[3], hello[4]]));
            hello.resize(5 + length, 0);
            socket.read_exact(&mut hello[5..]).expect("a hello");
            socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").expect("open");
            let mut rest = Vec::new();
            let _ = socket.read_to_end(&mut rest);
            report.send((hello, rest)).expect("awaited");
        });
        let error = get(&client, "https://music.invalid/?secret").expect_err("no handshake");
        assert!(matches!(error, NetError::TlsHandshake { .. }), "{error:?}");
        let (hello, rest) = reported.recv().expect("the server's report");
        let has = |bytes: &[u8], text: &[u8]| bytes.windows(text.len()).any(|part| part == text);
        assert!(has(&hello, b"music.invalid"));
        assert!(!has(&rest, b"secret"));
    }
}

//! TLS through rustls with ring. Each configuration names its crypto provider. The process-wide default is neither read
//! nor set, so an app may use another one.

use std::fmt;
use std::sync::Arc;

use async_lock::OnceCell;
use futures_rustls::TlsConnector;
use futures_rustls::rustls::crypto::{CryptoProvider, ring};
use futures_rustls::rustls::pki_types::ServerName;
use futures_rustls::rustls::{self, ClientConfig};
use snafu::{IntoError, ResultExt};
use url::{Host, Url};

use super::error::{TlsHandshakeSnafu, TlsSetupSnafu, UnsupportedUrlSnafu};
use super::peer::Peer;
use super::socket::{Socket, Tcp};
use super::{NetError, redacted};
use crate::rt;

/// The TLS settings of a client: the app's own, or made at the first handshake.
#[derive(Clone, Default)]
pub(super) struct Tls {
    config: Arc<OnceCell<Arc<ClientConfig>>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An app's configuration may hold a client's private key.
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    pub(super) fn with_config(config: Arc<ClientConfig>) -> Self {
        Self {
            config: Arc::new(OnceCell::from(http1_only(config))),
        }
    }

    pub(super) async fn handshake(&self, peer: &Peer, url: &Url, tcp: Tcp) -> Result<Socket, NetError> {
        let name =
            server_name(&peer.host).ok_or_else(|| UnsupportedUrlSnafu { url: redacted(url) }.build())?;
        // On a thread that may block: a platform's certificate store is many files. Once: the cell lets one caller make the
        // settings, and the others wait. If that caller is cancelled, another one makes them.
        let config = self
            .config
            .get_or_try_init(|| rt::unblock(default_config))
            .await
            .context(TlsSetupSnafu)?;
        // The name is the URL's, wherever the socket leads: no proxy and no resolver chooses whose certificate is asked for.
        let stream = TlsConnector::from(Arc::clone(config)).connect(name, tcp).await;
        let stream = stream.map_err(|source| TlsHandshakeSnafu { url: redacted(url) }.into_error(source))?;
        Ok(Socket::Tls(Box::new(stream)))
    }
}

fn server_name(host: &Host<String>) -> Option<ServerName<'static>> {
    match host {
        Host::Domain(name) => ServerName::try_from(name.clone()).ok(),
        // Addresses have certificates too, but are not sent in the handshake (RFC 6066, section 3).
        Host::Ipv4(address) => Some(ServerName::IpAddress(std::net::IpAddr::from(*address).into())),
        Host::Ipv6(address) => Some(ServerName::IpAddress(std::net::IpAddr::from(*address).into())),
    }
}

fn default_config() -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    Ok(http1_only(Arc::new(trusting(builder, provider)?)))
}

type WantsVerifier = rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>;

#[cfg(not(feature = "webpki-roots"))]
fn trusting(builder: WantsVerifier, provider: Arc<CryptoProvider>) -> Result<ClientConfig, rustls::Error> {
    let verifier = rustls_platform_verifier::Verifier::new(provider)?;
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

#[cfg(feature = "webpki-roots")]
#[expect(
    clippy::unnecessary_wraps,
    reason = "the platform's verifier, in its place, can fail"
)]
fn trusting(builder: WantsVerifier, _: Arc<CryptoProvider>) -> Result<ClientConfig, rustls::Error> {
    let roots: rustls::RootCertStore = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// The same settings, offering HTTP/1.1 only. With `h2` in the offer a server could choose what this client does not speak.
fn http1_only(config: Arc<ClientConfig>) -> Arc<ClientConfig> {
    let mut config = Arc::unwrap_or_clone(config);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

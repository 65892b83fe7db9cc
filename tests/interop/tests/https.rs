//! N6: https, with a certificate made for the test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use futures_lite::future;
use kithara::file::{FileParams, FileSource, OpenMode};
use kithara::net::rustls::crypto::{CryptoProvider, ring};
use kithara::net::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use kithara::net::rustls::server::WebPkiClientVerifier;
use kithara::net::rustls::{
    ClientConfig, RootCertStore, ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion,
};
use kithara::net::{
    HttpClient, HttpClientBuilder, NetError, Phase, Proxy, ProxyFailure, Request, RetryPolicy, Url,
};
use kithara_interop::{builder, fetch, open_cache, pattern, server_with, url};
use kithara_test_support::{FakeProxy, ProxyPlan, Rule, Server};

/// A TLS server that answers each request on each connection with the same bytes.
struct Https {
    addr: SocketAddr,
    certificate: CertificateDer<'static>,
    heads: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
}

type Plain = StreamOwned<ServerConnection, std::net::TcpStream>;

impl Https {
    /// `answer` is run once for each request head, until it fails.
    fn start(answer: impl Fn(&mut Plain, usize) -> std::io::Result<()> + Send + Sync + 'static) -> Self {
        let (certificate, key) = made_certificate();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        Self::with(config, certificate, answer)
    }

    /// A server that takes only clients with a certificate of its own.
    fn asking_for_certificates(versions: &[&'static SupportedProtocolVersion]) -> Self {
        let (certificate, key) = made_certificate();
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        Self::with(config, certificate, answer_with(10))
    }

    fn with(
        mut config: ServerConfig,
        certificate: CertificateDer<'static>,
        answer: impl Fn(&mut Plain, usize) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let answer = Arc::new(answer);
        let heads = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&heads);
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        thread::spawn(move || {
            for (number, socket) in listener.incoming().enumerate() {
                counted.fetch_add(1, Ordering::SeqCst);
                let (config, answer, heard) = (Arc::clone(&config), Arc::clone(&answer), Arc::clone(&heard));
                thread::spawn(move || {
                    let session = ServerConnection::new(config).unwrap();
                    let mut stream = StreamOwned::new(session, socket.unwrap());
                    while let Some(head) = read_head(&mut stream) {
                        heard.lock().unwrap().push(head);
                        if answer(&mut stream, number).is_err() {
                            return;
                        }
                    }
                    // A client that is refused has sent its request by then. Closed with it unread, the socket would be
                    // reset, and the alert that says why could be lost on the way.
                    let _ = stream.sock.shutdown(std::net::Shutdown::Write);
                    let _ = std::io::copy(&mut stream.sock, &mut std::io::sink());
                });
            }
        });
        Self {
            addr,
            certificate,
            heads,
            connections,
        }
    }

    /// How many connections came in so far.
    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The heads of the requests so far.
    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    fn url(&self) -> Url {
        Url::parse(&format!("https://localhost:{}/", self.addr.port())).unwrap()
    }

    fn trusting(&self) -> HttpClientBuilder {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        // An app may share its settings with a client that knows more.
        config.alpn_protocols = vec![b"h2".to_vec()];
        builder().tls_config(Arc::new(config))
    }
}

fn made_certificate() -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    (made.cert.der().clone(), key)
}

fn read_head(stream: &mut Plain) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

fn answer_with(length: usize) -> impl Fn(&mut Plain, usize) -> std::io::Result<()> + Send + Sync {
    move |stream, _| {
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n")?;
        stream.write_all(&pattern().range(0, length))
    }
}

#[test]
fn n6_a_trusted_server_is_read_from_and_its_connection_kept() {
    let server = Https::start(|stream, number| {
        assert_eq!(stream.conn.alpn_protocol(), Some(b"http/1.1".as_slice()));
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{number}")
    });
    let client = server.trusting().build().unwrap();
    for _ in 0..3 {
        assert_eq!(fetch(&client, Request::get(server.url())).unwrap(), b"0");
    }
    assert!(
        CryptoProvider::get_default().is_none(),
        "the process's own choice is left alone"
    );
}

#[test]
fn n6_a_large_body_arrives_whole() {
    let server = Https::start(answer_with(3 << 20));
    let bytes = fetch(&server.trusting().build().unwrap(), Request::get(server.url())).unwrap();
    assert_eq!(bytes, pattern().range(0, 3 << 20));
}

/// N5: a long body is read past hyper, and its connection is kept all the same.
#[test]
fn n5_the_connection_of_a_long_body_is_kept_under_tls() {
    const LEN: usize = 3 << 20;
    let server = Https::start(|stream, number| {
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {LEN}\r\n\r\n")?;
        stream.write_all(&vec![b'0' + u8::try_from(number).unwrap(); LEN])
    });
    let client = server.trusting().build().unwrap();
    for _ in 0..3 {
        assert!(fetch(&client, Request::get(server.url())).unwrap() == vec![b'0'; LEN]);
    }
    assert_eq!(server.heads().len(), 3);
}

/// The platform does not know the certificate; with the feature `webpki-roots`, Mozilla does not.
#[test]
fn n6_a_server_that_nobody_vouches_for_is_refused() {
    let server = Https::start(answer_with(10));
    let error = fetch(&builder().build().unwrap(), Request::get(server.url())).unwrap_err();
    match &error {
        NetError::TlsHandshake { source, .. } => {
            assert!(source.to_string().contains("certificate"), "{source}");
        }
        // A machine without a certificate store trusts nobody.
        NetError::TlsSetup { .. } => {}
        _ => panic!("{error}"),
    }
    assert!(!error.is_transient());
    let mut other_name = server.url();
    other_name.set_host(Some("127.0.0.1")).unwrap();
    let error = fetch(&server.trusting().build().unwrap(), Request::get(other_name)).unwrap_err();
    assert!(matches!(error, NetError::TlsHandshake { .. }), "{error}");
}

/// N1: without TLS's own farewell a close is no end, even where HTTP names none.
#[test]
fn n1_a_connection_cut_under_tls_is_no_end() {
    let server = Https::start(|stream, _| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nsome")?;
        stream.flush()?;
        stream.sock.shutdown(std::net::Shutdown::Both)?;
        Err(std::io::ErrorKind::Other.into())
    });
    let client = server.trusting().retry(RetryPolicy::none()).build().unwrap();
    let error = fetch(&client, Request::get(server.url())).unwrap_err();
    assert!(
        matches!(error, NetError::Interrupted { received: 4, .. }),
        "{error}"
    );
}

/// W23: where the app takes an unproven end, TLS's farewell is not asked for. A body with a length is cut all the same.
#[test]
fn w23_an_unproven_end_is_taken_without_a_farewell() {
    for (framing, ends) in [
        ("", true),
        ("connection: close\r\n", true),
        ("content-length: 10\r\n", false),
        ("transfer-encoding: chunked\r\n", false),
    ] {
        let server = Https::start(move |stream, _| {
            let body = if framing.contains("chunked") {
                "4\r\nsome\r\n"
            } else {
                "some"
            };
            write!(stream, "HTTP/1.1 200 OK\r\n{framing}\r\n{body}")?;
            stream.flush()?;
            stream.sock.shutdown(std::net::Shutdown::Both)?;
            Err(std::io::ErrorKind::Other.into())
        });
        let client = server.trusting().retry(RetryPolicy::none()).build().unwrap();
        let get = || Request::get(server.url());
        fetch(&client, get()).expect_err("nothing said that it may end so");
        match fetch(&client, get().accept_unproven_end(true)) {
            Ok(bytes) => assert!(ends && bytes == b"some", "{framing}"),
            Err(error) => assert!(!ends && error.is_transient(), "{framing}: {error}"),
        }
    }
}

/// W23, for a file: the flag holds what it promises under TLS, too.
#[test]
fn w23_a_file_ends_without_a_farewell_where_the_app_says_so() {
    let sound = b"\xff\xfb\x90\x64".repeat(1000);
    let sent = sound.clone();
    let server = Https::start(move |stream, _| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\n\r\n")?;
        stream.write_all(&sent)?;
        stream.flush()?;
        stream.sock.shutdown(std::net::Shutdown::Both)?;
        Err(std::io::ErrorKind::Other.into())
    });
    let root = tempfile::tempdir().unwrap();
    let client = server.trusting().retry(RetryPolicy::none()).build().unwrap();
    let params = FileParams::new(client, open_cache(root.path(), 1 << 30)).accept_unproven_end(true);
    let source = FileSource::new(server.url(), params);
    let mut reader = future::block_on(source.open_reader(OpenMode::Online)).unwrap();
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    assert!(bytes == sound);
}

/// W23: what the server refuses for want of a client certificate will be refused again.
#[test]
fn w23_a_missing_client_certificate_does_not_pass() {
    for versions in [
        &[&kithara::net::rustls::version::TLS13][..],
        &[&kithara::net::rustls::version::TLS12],
    ] {
        let server = Https::asking_for_certificates(versions);
        let client = server.trusting().build().unwrap();
        let error = fetch(&client, Request::get(server.url())).unwrap_err();
        assert!(matches!(error, NetError::TlsHandshake { .. }), "{error:?}");
        assert!(!error.is_transient());
        assert_eq!(server.connections(), 1);
    }
}

/// W20, N6: for https a proxy connects through, and the peer's certificate is checked behind it.
#[test]
fn w20_https_goes_through_a_proxy_and_is_checked_behind_it() {
    let server = Https::start(answer_with(1000));
    let http = FakeProxy::http(ProxyPlan::to(server.addr).credentials("user", "pass")).unwrap();
    let socks = FakeProxy::socks5(ProxyPlan::to(server.addr)).unwrap();
    for (text, fake) in [
        (format!("http://user:pass@{}", http.addr()), &http),
        (format!("socks5://{}", socks.addr()), &socks),
    ] {
        let proxied = || Proxy::parse(&text).unwrap();
        let client = server.trusting().proxy(proxied()).build().unwrap();
        for _ in 0..2 {
            let url = Url::parse("https://localhost:444/").unwrap();
            assert_eq!(
                fetch(&client, Request::get(url)).unwrap(),
                pattern().range(0, 1000)
            );
        }
        // Kept, so that one way was enough.
        assert_eq!(fake.seen().len(), 1);
        assert!(fake.seen()[0].ends_with("localhost:444"), "{:?}", fake.seen());
        let stranger = builder()
            .proxy(proxied())
            .retry(RetryPolicy::none())
            .build()
            .unwrap();
        let error = fetch(&stranger, Request::get(Url::parse("https://localhost/").unwrap())).unwrap_err();
        assert!(
            matches!(error, NetError::TlsHandshake { .. } | NetError::TlsSetup { .. }),
            "{error:?}"
        );
    }
    assert!(!server.heads().join("").to_lowercase().contains("proxy-"));
}

/// N11: a proxy that does not connect through is told with its status, and shows no password.
#[test]
fn n11_a_proxy_that_does_not_connect_through_is_told() {
    let server = Https::start(answer_with(10));
    for (plan, status, transient) in [
        (ProxyPlan::to(server.addr).refuse(403), Some(403), false),
        (ProxyPlan::to(server.addr).refuse(502), Some(502), true),
        (
            ProxyPlan::to(server.addr).credentials("user", "other"),
            Some(407),
            false,
        ),
        (ProxyPlan::to(server.addr).garbage(), None, false),
    ] {
        let fake = FakeProxy::http(plan).unwrap();
        let proxy = Proxy::parse(&format!("http://user:secret@{}", fake.addr())).unwrap();
        let client = server
            .trusting()
            .proxy(proxy)
            .retry(RetryPolicy::none())
            .build()
            .unwrap();
        let error = fetch(&client, Request::get(server.url())).unwrap_err();
        match (&error, status) {
            (
                NetError::Proxy {
                    failure: ProxyFailure::Status(told),
                    ..
                },
                Some(status),
            ) => assert_eq!(*told, status),
            (
                NetError::Proxy {
                    failure: ProxyFailure::Protocol,
                    ..
                },
                None,
            ) => {}
            _ => panic!("{error:?}"),
        }
        assert_eq!(error.is_transient(), transient);
        assert!(!format!("{error} {error:?}").contains("secret"));
    }
    assert_eq!(server.heads().len(), 0);
}

/// N2: the handshake counts as connecting.
#[test]
fn n2_a_handshake_has_a_limit() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("https://{}/", silent.local_addr().unwrap())).unwrap();
    let limit = Duration::from_millis(200);
    let client = builder()
        .connect_timeout(limit)
        .retry(RetryPolicy::none())
        .build()
        .unwrap();
    let error = fetch(&client, Request::get(url)).unwrap_err();
    assert!(
        matches!(
            error,
            NetError::Timeout {
                phase: Phase::Connect,
                ..
            } | NetError::TlsSetup { .. }
        ),
        "{error}"
    );
}

/// N4: a way out of https is refused, unless allowed.
#[test]
fn n4_a_redirect_out_of_https_is_refused_unless_allowed() {
    let plain = server_with(10);
    let location = plain.url("/a.bin");
    let server = Https::start(move |stream, _| {
        write!(
            stream,
            "HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"
        )
    });
    let get = |client: HttpClient| fetch(&client, Request::get(server.url()));
    let error = get(server.trusting().build().unwrap()).unwrap_err();
    assert!(matches!(error, NetError::InsecureRedirect { .. }), "{error}");
    assert_eq!(
        get(server.trusting().insecure_redirects(true).build().unwrap())
            .unwrap()
            .len(),
        10
    );
    assert_eq!(plain.requests().len(), 1);
}

/// N7: http and https on one host are two origins.
#[test]
fn n7_another_scheme_is_another_origin() {
    let server =
        Https::start(|stream, _| stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"));
    let plain = Server::empty().unwrap();
    plain.rule("/", Rule::new().redirect(302, server.url().as_str()));
    let request = Request::get(url(&plain, "/")).header("authorization", "secret");
    assert_eq!(
        fetch(&server.trusting().build().unwrap(), request).unwrap(),
        b"ok"
    );
    assert_eq!(plain.requests()[0].header("authorization"), Some("secret"));
    assert!(!server.heads().join("").contains("secret"));
}

/// N5, under TLS: no farewell is waited for.
#[test]
fn n5_a_dropped_body_closes_its_connection_under_tls() {
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(tell);
    let server = Https::start(move |stream, _| {
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")?;
        while stream.write_all(&[0; 8192]).is_ok() {}
        tell.lock().unwrap().send(()).unwrap();
        Err(std::io::ErrorKind::Other.into())
    });
    let client = server.trusting().build().unwrap();
    let response = future::block_on(client.send(Request::get(server.url()))).unwrap();
    drop(response);
    told.recv_timeout(Duration::from_secs(10)).unwrap();
}

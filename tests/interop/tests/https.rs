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
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use futures_lite::future;
use kithara::net::rustls::crypto::{CryptoProvider, ring};
use kithara::net::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use kithara::net::rustls::{ClientConfig, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use kithara::net::{HttpClient, HttpClientBuilder, NetError, Phase, Request, RetryPolicy, Url};
use kithara_interop::{builder, fetch, pattern, server_with, url};
use kithara_test_support::{Rule, Server};

/// A TLS server that answers each request on each connection with the same bytes.
struct Https {
    addr: SocketAddr,
    certificate: CertificateDer<'static>,
    heads: Arc<Mutex<Vec<String>>>,
}

type Plain = StreamOwned<ServerConnection, std::net::TcpStream>;

impl Https {
    /// `answer` is run once for each request head, until it fails.
    fn start(answer: impl Fn(&mut Plain, usize) -> std::io::Result<()> + Send + Sync + 'static) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let answer = Arc::new(answer);
        let heads = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&heads);
        thread::spawn(move || {
            for (number, socket) in listener.incoming().enumerate() {
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
                });
            }
        });
        Self {
            addr,
            certificate,
            heads,
        }
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

//! HTTP/2 beside HTTP/1.1: `cargo run --release --manifest-path benches/peers/Cargo.toml --bin http2`.
//!
//! hyper's client, in one thread, over cleartext loopback (HTTP/2 with prior knowledge), against nginx and against hyper's
//! server, each in a process of its own and each speaking both. A body of 512 MiB, and 100 ranges of 4 KiB one after the
//! other, on one connection that is open before. Medians of seven rounds in rotated order; CPU time is the client's.

use std::convert::Infallible;
use std::io::{BufRead as _, Read as _};
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cpu_time::ProcessTime;
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

const LARGE: u64 = 512 << 20;
const SMALL: u64 = 4096;
const RANGES: u64 = 100;
const ROUNDS: usize = 7;
/// What hyper's server sends at a time.
const CHUNK: u64 = 256 << 10;

fn main() {
    if std::env::args().nth(1).as_deref() == Some("serve") {
        return serve();
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    println!(
        "{:8} {:28} {:>7} {:>10} {:>12} {:>12}",
        "server", "client", "MiB/s", "CPU s/GiB", "us a range", "CPU us"
    );
    for server in [Server::nginx(), Some(Server::hyper())].into_iter().flatten() {
        let mut rounds = [const { Vec::new() }; WAYS.len()];
        for round in 0..ROUNDS {
            for turn in 0..WAYS.len() {
                let which = (round + turn) % WAYS.len();
                rounds[which].push(runtime.block_on(run(&WAYS[which], &server)));
            }
        }
        for (way, rounds) in WAYS.iter().zip(rounds) {
            let median = |of: fn(&Round) -> Duration| {
                let mut values: Vec<_> = rounds.iter().map(of).collect();
                values.sort_unstable();
                values[values.len() / 2].as_secs_f64()
            };
            println!(
                "{:8} {:28} {:7.0} {:10.2} {:12.0} {:12.0}",
                server.name,
                way.name,
                (LARGE >> 20) as f64 / median(|round| round.body.0),
                median(|round| round.body.1) * (1_u64 << 30) as f64 / LARGE as f64,
                median(|round| round.ranges.0) * 1e6 / RANGES as f64,
                median(|round| round.ranges.1) * 1e6 / RANGES as f64,
            );
        }
    }
}

/// How a client is set up.
struct Way {
    name: &'static str,
    kind: Kind,
}

enum Kind {
    Http1 { read_at_once: Option<usize> },
    Http2 { window: Option<u32> },
}

const WAYS: [Way; 5] = [
    Way {
        name: "HTTP/1.1",
        kind: Kind::Http1 { read_at_once: None },
    },
    Way {
        name: "HTTP/1.1, reads of 256 KiB",
        kind: Kind::Http1 {
            read_at_once: Some(256 << 10),
        },
    },
    Way {
        name: "HTTP/2, windows of 64 KiB",
        kind: Kind::Http2 { window: Some(65_535) },
    },
    Way {
        name: "HTTP/2, hyper's windows",
        kind: Kind::Http2 { window: None },
    },
    Way {
        name: "HTTP/2, windows of 16 MiB",
        kind: Kind::Http2 {
            window: Some(16 << 20),
        },
    },
];

/// Acknowledges at once, as kithara's sockets do: a server that waits for it would otherwise wait 40 ms for each range.
struct Prompt(TcpStream);

impl AsyncRead for Prompt {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let read = Pin::new(&mut self.0).poll_read(cx, buf);
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if read.is_pending() {
            let _ = socket2::SockRef::from(&self.0).set_tcp_quickack(true);
        }
        read
    }
}

impl AsyncWrite for Prompt {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

struct Round {
    body: (Duration, Duration),
    ranges: (Duration, Duration),
}

enum Client {
    Http1(conn::http1::SendRequest<Empty<Bytes>>),
    Http2(conn::http2::SendRequest<Empty<Bytes>>),
}

impl Client {
    async fn connect(way: &Way, server: &Server) -> Self {
        let addr = match way.kind {
            Kind::Http1 { .. } => server.http1,
            Kind::Http2 { .. } => server.http2,
        };
        let socket = TcpStream::connect(addr).await.expect("a connection");
        socket.set_nodelay(true).expect("a socket");
        let io = TokioIo::new(Prompt(socket));
        match way.kind {
            Kind::Http1 { read_at_once } => {
                let mut builder = conn::http1::Builder::new();
                if let Some(bytes) = read_at_once {
                    builder.max_buf_size(bytes);
                }
                let (requests, work) = builder.handshake(io).await.expect("a handshake");
                tokio::spawn(work);
                Self::Http1(requests)
            }
            Kind::Http2 { window } => {
                let mut builder = conn::http2::Builder::new(TokioExecutor::new());
                if let Some(bytes) = window {
                    builder
                        .initial_stream_window_size(bytes)
                        .initial_connection_window_size(bytes);
                    if bytes > 1 << 20 {
                        builder.max_frame_size(1 << 20);
                    }
                }
                let (requests, work) = builder.handshake(io).await.expect("a handshake");
                tokio::spawn(work);
                Self::Http2(requests)
            }
        }
    }

    async fn fetch(&mut self, path: &str, range: Option<u64>) -> u64 {
        // HTTP/2 takes the authority from an absolute URL, HTTP/1.1 a path and a host.
        let uri = match self {
            Self::Http1(_) => path.to_owned(),
            Self::Http2(_) => format!("http://localhost{path}"),
        };
        let mut request = Request::get(uri);
        if let Self::Http1(_) = self {
            request = request.header("host", "localhost");
        }
        if let Some(start) = range {
            request = request.header("range", format!("bytes={start}-{}", start + SMALL - 1));
        }
        let request = request.body(Empty::new()).expect("a request");
        let response = match self {
            Self::Http1(requests) => {
                requests.ready().await.expect("a connection");
                requests.send_request(request).await
            }
            Self::Http2(requests) => requests.send_request(request).await,
        };
        let mut body = response.expect("a response").into_body();
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            length += frame
                .expect("bytes")
                .data_ref()
                .map_or(0, |data| data.len() as u64);
        }
        length
    }
}

async fn run(way: &Way, server: &Server) -> Round {
    let mut client = Client::connect(way, server).await;
    assert_eq!(client.fetch("/large", Some(0)).await, SMALL);
    let started = (Instant::now(), ProcessTime::now());
    assert_eq!(client.fetch("/large", None).await, LARGE);
    let body = (started.0.elapsed(), started.1.elapsed());
    let started = (Instant::now(), ProcessTime::now());
    for range in 0..RANGES {
        assert_eq!(client.fetch("/large", Some(range << 20)).await, SMALL);
    }
    let ranges = (started.0.elapsed(), started.1.elapsed());
    Round { body, ranges }
}

/// A server in a process of its own, one address for each protocol.
struct Server {
    name: &'static str,
    http1: SocketAddr,
    http2: SocketAddr,
    process: Child,
    _root: Option<tempfile::TempDir>,
}

impl Server {
    fn hyper() -> Self {
        let mut process = Command::new(std::env::current_exe().expect("a path"))
            .arg("serve")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a server");
        let output = process.stdout.take().expect("its output");
        let mut lines = std::io::BufReader::new(output).lines();
        let mut addr = || {
            let line = lines.next().expect("a line").expect("a line");
            line.parse().expect("an address")
        };
        let (http1, http2) = (addr(), addr());
        Self {
            name: "hyper",
            http1,
            http2,
            process,
            _root: None,
        }
    }

    /// `None` if nginx is not installed or knows no HTTP/2.
    fn nginx() -> Option<Self> {
        let root = tempfile::tempdir().ok()?;
        let free = || std::net::TcpListener::bind("127.0.0.1:0")?.local_addr();
        let (http1, http2) = (free().ok()?, free().ok()?);
        let file = std::fs::File::create(root.path().join("large")).ok()?;
        file.set_len(LARGE).ok()?;
        let folder = root.path().display();
        let settings = format!(
            "daemon off; master_process off; pid {folder}/pid;
             events {{ worker_connections 256; }}
             http {{
                 access_log off; sendfile on; keepalive_requests 1000000;
                 client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
                 uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
                 server {{ listen {http1}; listen {http2} http2; root {folder}; }}
             }}"
        );
        std::fs::write(root.path().join("conf"), settings).ok()?;
        // Ends with this process, however that ends.
        let process = Command::new("sh")
            .args(["-c", "nginx -e stderr -c $0/conf & read line; kill $!"])
            .arg(root.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let server = Self {
            name: "nginx",
            http1,
            http2,
            process,
            _root: Some(root),
        };
        let ready = (0..10_000).any(|_| std::net::TcpStream::connect(http2).is_ok());
        ready.then_some(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

fn serve() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    for is_http2 in [false, true] {
        let listener = runtime
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .expect("a port");
        println!("{}", listener.local_addr().expect("bound"));
        runtime.spawn(accept(listener, is_http2));
    }
    // Until the parent is gone.
    let _ = std::io::stdin().read(&mut [0]);
}

async fn accept(listener: TcpListener, is_http2: bool) {
    while let Ok((socket, _)) = listener.accept().await {
        let _ = socket.set_nodelay(true);
        let io = TokioIo::new(socket);
        let service = hyper::service::service_fn(async |request: Request<Incoming>| answer(&request));
        tokio::spawn(async move {
            if is_http2 {
                let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = builder
                    .max_send_buf_size(1 << 20)
                    .serve_connection(io, service)
                    .await;
            } else {
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(io, service)
                    .await;
            }
        });
    }
}

type Chunks =
    StreamBody<tokio_stream::Iter<Box<dyn Iterator<Item = Result<Frame<Bytes>, Infallible>> + Send>>>;

fn answer(request: &Request<Incoming>) -> Result<Response<Chunks>, Infallible> {
    static ZEROS: [u8; CHUNK as usize] = [0; CHUNK as usize];
    let length = match request.headers().get("range") {
        Some(_) => SMALL,
        None => LARGE,
    };
    let frames = (0..length.div_ceil(CHUNK)).map(move |chunk| {
        let left = (length - chunk * CHUNK).min(CHUNK) as usize;
        Ok(Frame::data(Bytes::from_static(&ZEROS[..left])))
    });
    let frames: Box<dyn Iterator<Item = _> + Send> = Box::new(frames);
    let response = Response::builder().header("content-length", length);
    Ok(response
        .body(StreamBody::new(tokio_stream::iter(frames)))
        .expect("a response"))
}

//! Proxies that lead to one address, whatever host they are asked for.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// A proxy on loopback. It takes every request for its one destination and writes down what it was asked for.
///
/// It runs until the process ends.
#[derive(Clone, Debug)]
pub struct FakeProxy {
    addr: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

/// What a [`FakeProxy`] does.
#[derive(Clone, Debug)]
pub struct ProxyPlan {
    to: SocketAddr,
    credentials: Option<(String, String)>,
    refusal: Option<u16>,
    garbage: bool,
}

impl ProxyPlan {
    /// Leads to `to`.
    pub fn to(to: SocketAddr) -> Self {
        Self {
            to,
            credentials: None,
            refusal: None,
            garbage: false,
        }
    }

    /// Asks for this name and password.
    #[must_use]
    pub fn credentials(mut self, name: &str, password: &str) -> Self {
        self.credentials = Some((name.to_owned(), password.to_owned()));
        self
    }

    /// Refuses to connect: with this status, or with this reply of SOCKS.
    #[must_use]
    pub fn refuse(mut self, code: u16) -> Self {
        self.refusal = Some(code);
        self
    }

    /// Answers with something else than its protocol.
    #[must_use]
    pub fn garbage(mut self) -> Self {
        self.garbage = true;
        self
    }
}

impl FakeProxy {
    /// An HTTP proxy: it forwards requests that name a whole URL, and connects through on `CONNECT`.
    ///
    /// # Errors
    ///
    /// If no port can be had.
    pub fn http(plan: ProxyPlan) -> io::Result<Self> {
        Self::start(plan, serve_http)
    }

    /// A SOCKS 5 proxy.
    ///
    /// # Errors
    ///
    /// If no port can be had.
    pub fn socks5(plan: ProxyPlan) -> io::Result<Self> {
        Self::start(plan, serve_socks5)
    }

    fn start(plan: ProxyPlan, serve: fn(TcpStream, &ProxyPlan, &Log) -> io::Result<()>) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let addr = listener.local_addr()?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Log(Arc::clone(&seen));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (plan, log) = (plan.clone(), log.clone());
                thread::spawn(move || drop(serve(client, &plan, &log)));
            }
        });
        Ok(Self { addr, seen })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What it was asked for, one line for each request: `CONNECT host:port`, `GET http://host/path`, `socks host:port`.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[derive(Clone)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn push(&self, line: impl Into<String>) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(line.into());
    }
}

fn serve_http(mut client: TcpStream, plan: &ProxyPlan, log: &Log) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap_or_default();
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    log.push(format!("{method} {target}"));
    if plan.garbage {
        return client.write_all(b"what?\r\n\r\n");
    }
    let asked = lines
        .clone()
        .filter_map(|line| line.split_once(": "))
        .find(|(name, _)| name.eq_ignore_ascii_case("proxy-authorization"));
    let wanted = plan
        .credentials
        .as_ref()
        .map(|(name, password)| format!("Basic {}", base64(&format!("{name}:{password}"))));
    if wanted.is_some() && asked.map(|(_, value)| value.to_owned()) != wanted {
        return client.write_all(
            b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        );
    }
    if let Some(status) = plan.refusal {
        return client.write_all(
            format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes(),
        );
    }
    let mut server = TcpStream::connect(plan.to)?;
    if method == "CONNECT" {
        client.write_all(b"HTTP/1.1 200 Connection established\r\nX-Proxy: fake\r\n\r\n")?;
    } else {
        // One request for each connection, as a proxy may do.
        let path = target
            .split_once("://")
            .and_then(|(_, rest)| rest.find('/').and_then(|at| rest.get(at..)));
        let own = |line: &&str| line.to_ascii_lowercase().starts_with("proxy-");
        let fields: Vec<_> = lines.filter(|line| !line.is_empty() && !own(line)).collect();
        let request = format!(
            "{method} {} HTTP/1.1\r\n{}\r\nConnection: close\r\n\r\n",
            path.unwrap_or("/"),
            fields.join("\r\n")
        );
        server.write_all(request.as_bytes())?;
    }
    relay(client, server)
}

fn serve_socks5(mut client: TcpStream, plan: &ProxyPlan, log: &Log) -> io::Result<()> {
    let [version, count] = read::<2>(&mut client)?;
    let mut methods = vec![0; usize::from(count)];
    client.read_exact(&mut methods)?;
    if plan.garbage || version != 5 {
        return client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    }
    if let Some((name, password)) = &plan.credentials {
        if !methods.contains(&2) {
            return client.write_all(&[5, 0xff]);
        }
        client.write_all(&[5, 2])?;
        let _version = read::<1>(&mut client)?;
        let (told_name, told_password) = (text(&mut client)?, text(&mut client)?);
        let is_right = (&told_name, &told_password) == (name, password);
        client.write_all(&[1, u8::from(!is_right)])?;
        if !is_right {
            return Ok(());
        }
    } else {
        client.write_all(&[5, 0])?;
    }
    let [_, _, _, kind] = read::<4>(&mut client)?;
    let host = match kind {
        1 => std::net::Ipv4Addr::from(read::<4>(&mut client)?).to_string(),
        4 => std::net::Ipv6Addr::from(read::<16>(&mut client)?).to_string(),
        _ => text(&mut client)?,
    };
    log.push(format!(
        "socks {host}:{}",
        u16::from_be_bytes(read::<2>(&mut client)?)
    ));
    let reply = plan.refusal.map_or(0, |code| u8::try_from(code).unwrap_or(1));
    // A name for its own address: the longest kind of reply.
    client.write_all(&[&[5, reply, 0, 3, 5][..], b"proxy", &[0, 80]].concat())?;
    if reply != 0 {
        return Ok(());
    }
    relay(client, TcpStream::connect(plan.to)?)
}

fn read<const N: usize>(from: &mut TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A text with its length in front.
fn text(from: &mut TcpStream) -> io::Result<String> {
    let [length] = read::<1>(from)?;
    let mut bytes = vec![0; usize::from(length)];
    from.read_exact(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Carries bytes both ways until either side ends.
fn relay(client: TcpStream, server: TcpStream) -> io::Result<()> {
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || {
        drop(io::copy(&mut from_client, &mut to_server));
        drop(to_server.shutdown(Shutdown::Both));
    });
    let (mut from_server, mut to_client) = (server, client);
    drop(io::copy(&mut from_server, &mut to_client));
    to_client.shutdown(Shutdown::Both)
}

fn base64(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut coded = String::new();
    for group in text.as_bytes().chunks(3) {
        let bits = (0..3).fold(0_usize, |bits, i| {
            bits << 8 | usize::from(group.get(i).copied().unwrap_or(0))
        });
        for i in 0..4 {
            let letter = ALPHABET
                .get(bits >> (18 - 6 * i) & 63)
                .copied()
                .map_or('=', char::from);
            coded.push(if i <= group.len() { letter } else { '=' });
        }
    }
    coded
}

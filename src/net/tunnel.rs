//! Through a proxy: `CONNECT` (RFC 9110, section 9.3.6) and SOCKS 5 (RFC 1928, RFC 1929). Both end with a socket that leads to
//! the peer. Both name the peer as the URL does, so that the proxy resolves its name.

use futures_lite::io::{AsyncReadExt as _, AsyncWriteExt as _};
use url::Host;

use super::ProxyFailure;
use super::peer::Peer;
use super::proxy::{Proxy, ProxyKind};
use super::socket::Tcp;

/// The longest head of a proxy's answer.
const MAX_HEAD: usize = 16 * 1024;

/// Has `proxy`, at the other end of `tcp`, connect to `peer`.
///
/// # Cancel safety
///
/// Not cancel safe: part of the talk may have taken place. Drop the socket, too.
pub(super) async fn connect_through(proxy: &Proxy, peer: &Peer, tcp: &mut Tcp) -> Result<(), ProxyFailure> {
    match proxy.kind {
        ProxyKind::Http => connect(proxy, peer, tcp).await,
        ProxyKind::Socks5 => socks5(proxy, peer, tcp).await,
    }
}

async fn connect(proxy: &Proxy, peer: &Peer, tcp: &mut Tcp) -> Result<(), ProxyFailure> {
    let authority = format!("{}:{}", peer.host, peer.port);
    let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n").into_bytes();
    if let Some(value) = proxy.authorization() {
        request.extend([b"Proxy-Authorization: ", value.as_bytes(), b"\r\n"].concat());
    }
    request.extend(b"\r\n");
    tcp.write_all(&request).await?;
    loop {
        match read_status(tcp).await? {
            // An interim answer (RFC 9110, section 15.2). The one that counts follows.
            100..=199 => {}
            200..=299 => return Ok(()),
            status => return Err(ProxyFailure::Status(status)),
        }
    }
}

/// Reads one head, and tells its status.
async fn read_status(tcp: &mut Tcp) -> Result<u16, ProxyFailure> {
    // Byte by byte: what follows the head belongs to the peer, and cannot be put back. It is some hundred bytes, once.
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && !head.ends_with(b"\n\n") {
        let mut byte = [0];
        tcp.read_exact(&mut byte).await?;
        head.extend(byte);
        if head.len() > MAX_HEAD {
            return Err(ProxyFailure::Protocol);
        }
    }
    let line = String::from_utf8_lossy(&head);
    let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5));
    status
        .and_then(|status| status.parse().ok())
        .ok_or(ProxyFailure::Protocol)
}

async fn socks5(proxy: &Proxy, peer: &Peer, tcp: &mut Tcp) -> Result<(), ProxyFailure> {
    const VERSION: u8 = 5;
    let credentials = credentials(proxy)?;
    // No credentials, or name and password: what the client has.
    let methods: &[u8] = if credentials.is_some() {
        &[VERSION, 2, 0, 2]
    } else {
        &[VERSION, 1, 0]
    };
    tcp.write_all(methods).await?;
    match (read::<2>(tcp).await?, credentials) {
        // A proxy may take no credentials although the client has some: it chooses (RFC 1928, section 3).
        ([VERSION, 0], _) => {}
        ([VERSION, 2], Some(credentials)) => {
            tcp.write_all(&credentials).await?;
            let [_, verdict] = read::<2>(tcp).await?;
            if verdict != 0 {
                return Err(ProxyFailure::Credentials);
            }
        }
        ([VERSION, _], _) => return Err(ProxyFailure::Credentials),
        _ => return Err(ProxyFailure::Protocol),
    }
    // Version, the command to connect, a reserved byte, and the address.
    let mut request = vec![VERSION, 1, 0];
    match &peer.host {
        Host::Ipv4(address) => {
            request.push(1);
            request.extend(address.octets());
        }
        Host::Ipv6(address) => {
            request.push(4);
            request.extend(address.octets());
        }
        // The name goes out as it is, and the proxy resolves it: where there is a proxy, names may not resolve here, and asking
        // for them would show the network where the user goes.
        Host::Domain(name) => {
            request.push(3);
            request.push(u8::try_from(name.len()).map_err(|_| ProxyFailure::Protocol)?);
            request.extend(name.bytes());
        }
    }
    request.extend(peer.port.to_be_bytes());
    tcp.write_all(&request).await?;
    let [version, reply, _, kind] = read::<4>(tcp).await?;
    if version != VERSION {
        return Err(ProxyFailure::Protocol);
    }
    if reply != 0 {
        return Err(ProxyFailure::Socks(reply));
    }
    // The proxy's own address and port, which say nothing to a client. They are read: what follows is the peer's.
    let length = match kind {
        1 => 4,
        4 => 16,
        3 => {
            let [length] = read::<1>(tcp).await?;
            usize::from(length)
        }
        _ => return Err(ProxyFailure::Protocol),
    };
    let mut address = vec![0; length + 2];
    tcp.read_exact(&mut address).await?;
    Ok(())
}

/// Name and password as RFC 1929 sends them, if the proxy's URL has them.
fn credentials(proxy: &Proxy) -> Result<Option<Vec<u8>>, ProxyFailure> {
    let Some((name, password)) = proxy.credentials() else {
        return Ok(None);
    };
    let mut message = vec![1];
    for text in [name, password] {
        message.push(u8::try_from(text.len()).map_err(|_| ProxyFailure::Credentials)?);
        message.extend(text);
    }
    Ok(Some(message))
}

async fn read<const N: usize>(tcp: &mut Tcp) -> Result<[u8; N], ProxyFailure> {
    let mut bytes = [0; N];
    tcp.read_exact(&mut bytes).await?;
    Ok(bytes)
}

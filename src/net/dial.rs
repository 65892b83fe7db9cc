//! From a host to a TCP socket: the name is resolved, and the addresses are raced (RFC 8305).

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use futures_lite::future;
use url::Host;

use super::peer::Peer;
use crate::rt::{self, TcpStream};

/// How long an address may stay silent before the next one is tried beside it (RFC 8305, section 8).
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// A socket to `peer`.
///
/// # Cancel safety
///
/// Dropping the future closes every socket it has begun to connect.
pub(super) async fn dial(peer: &Peer) -> io::Result<TcpStream> {
    let addresses = match &peer.host {
        Host::Domain(name) => alternating(rt::resolve(name, peer.port).await?),
        Host::Ipv4(address) => vec![SocketAddr::new(IpAddr::from(*address), peer.port)],
        Host::Ipv6(address) => vec![SocketAddr::new(IpAddr::from(*address), peer.port)],
    };
    // Connected is enough: whether the peer is the right one, TLS decides afterwards.
    first_to_answer(addresses.into_iter()).await
}

/// IPv6 and IPv4 in turn, beginning with the kind that the resolver put first (RFC 8305, section 4).
fn alternating(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|a| a.is_ipv6() == first_is_v6);
    let mut mixed = Vec::with_capacity(first.len() + second.len());
    let mut second = second.into_iter();
    for address in first {
        mixed.push(address);
        mixed.extend(second.next());
    }
    mixed.extend(second);
    mixed
}

/// Tries each address and takes the first that answers. The next address is tried when the one before fails or stays
/// silent for [`NEXT_ADDRESS_AFTER`]. The sockets that came too late are closed.
async fn first_to_answer(mut addresses: std::vec::IntoIter<SocketAddr>) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
    let mut trying = Vec::new();
    loop {
        match addresses.next() {
            Some(address) => trying.push(Box::pin(rt::connect(address))),
            // No address is left, and each attempt has failed.
            None if trying.is_empty() => return Err(failure),
            None => {}
        }
        // Dropped and made anew each round, which loses nothing: the attempts themselves are in `trying`.
        let one_ended = async { Some(first_to_end(&mut trying).await) };
        let time_for_the_next = async {
            match addresses.len() {
                // No further address: only the attempts under way can end this round.
                0 => future::pending().await,
                _ => rt::sleep(NEXT_ADDRESS_AFTER).await,
            }
            None
        };
        match future::or(one_ended, time_for_the_next).await {
            Some(Ok(stream)) => return Ok(stream),
            // The last failure is the one told. The next round tries the next address at once.
            Some(Err(error)) => failure = error,
            None => {}
        }
    }
}

/// The value of the first future that has one, which is taken out.
async fn first_to_end<T>(futures: &mut Vec<Pin<Box<impl Future<Output = T>>>>) -> T {
    poll_fn(|cx| {
        let mut polled = futures
            .iter_mut()
            .enumerate()
            .map(|(i, future)| (i, future.as_mut().poll(cx)));
        let ended = polled.find_map(|(i, poll)| match poll {
            Poll::Ready(value) => Some((i, value)),
            Poll::Pending => None,
        });
        match ended {
            Some((i, value)) => {
                // Out of the list at once: a future that has ended must not be polled again.
                drop(futures.swap_remove(i));
                Poll::Ready(value)
            }
            None => Poll::Pending,
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts
            .iter()
            .map(|text| text.parse().expect("an address"))
            .collect()
    }

    #[test]
    fn both_kinds_of_address_get_their_turn() {
        let given = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]);
        let mixed = addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"]);
        assert_eq!(alternating(given), mixed);
        assert_eq!(alternating(Vec::new()), Vec::new());
    }

    #[test]
    fn an_address_that_refuses_does_not_hide_one_that_answers() {
        let open = TcpListener::bind("127.0.0.1:0").expect("a port");
        let closed = TcpListener::bind("127.0.0.1:0")
            .and_then(|l| l.local_addr())
            .expect("a port that was free");
        let open_at = open.local_addr().expect("bound");
        future::block_on(async {
            let stream = first_to_answer(vec![closed, open_at].into_iter())
                .await
                .expect("one answers");
            assert_eq!(stream.peer_addr().expect("connected"), open_at);
            let refused = first_to_answer(vec![closed].into_iter())
                .await
                .expect_err("none answers");
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            let nowhere = first_to_answer(Vec::new().into_iter())
                .await
                .expect_err("none is there");
            assert_eq!(nowhere.kind(), io::ErrorKind::NotFound);
        });
    }
}

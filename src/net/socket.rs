//! The socket that HTTP is spoken over: TCP, with or without TLS, tuned for replies.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use futures_lite::io::{AsyncRead, AsyncWrite};

use super::traffic::Meter;
use crate::rt::TcpStream;

/// A TCP socket that acknowledges what it has received before it waits for more.
///
/// A server that corks its reply (`tcp_nopush` in nginx, a common default) sends the last, short part only after the parts
/// before it are acknowledged. Linux delays acknowledgements by up to 40 ms. So each small reply would take 40 ms longer.
#[derive(Debug)]
pub(super) struct Tcp {
    /// The only strong reference, except while a cancel token shuts the socket down.
    inner: Arc<TcpStream>,
    meter: Arc<Meter>,
    /// Whether something was read since the last acknowledgement.
    unacknowledged: bool,
}

impl Tcp {
    pub(super) fn new(inner: TcpStream, meter: Arc<Meter>) -> io::Result<Self> {
        // A request is one small write. Nagle's algorithm would hold it back until the last one is acknowledged.
        inner.set_nodelay(true)?;
        Ok(Self {
            inner: Arc::new(inner),
            meter,
            unacknowledged: false,
        })
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn acknowledge(&self) {
        // The kernel forgets the option as it sees fit, so it is set before each wait and not once. A failure costs a delay
        // and nothing else.
        let _ = socket2::SockRef::from(&*self.inner).set_tcp_quickack(true);
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn acknowledge(&self) {}
}

impl AsyncRead for Tcp {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = Pin::new(&mut &*self.inner).poll_read(cx, buf);
        match &read {
            Poll::Ready(Ok(bytes)) => {
                self.meter.received(*bytes);
                self.unacknowledged = true;
            }
            // Not after each read: while bytes come, the kernel acknowledges every second segment anyway, and each call
            // would cost a system call.
            Poll::Pending if std::mem::take(&mut self.unacknowledged) => self.acknowledge(),
            Poll::Ready(Err(_)) | Poll::Pending => {}
        }
        read
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self.inner).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self.inner).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self.inner).poll_close(cx)
    }
}

/// What a connection speaks HTTP over.
#[derive(Debug)]
pub(super) enum Socket {
    Plain(Tcp),
    #[cfg(feature = "tls")]
    Tls(Box<futures_rustls::client::TlsStream<Tcp>>),
}

impl Socket {
    /// The TCP socket below, for a cancel token.
    pub(super) fn tcp(&self) -> Weak<TcpStream> {
        let tcp = match self {
            Self::Plain(tcp) => tcp,
            #[cfg(feature = "tls")]
            Self::Tls(tls) => tls.get_ref().0,
        };
        Arc::downgrade(&tcp.inner)
    }
}

macro_rules! either {
    ($socket:expr, $io:ident => $call:expr) => {
        match $socket.get_mut() {
            Socket::Plain($io) => $call,
            #[cfg(feature = "tls")]
            Socket::Tls($io) => $call,
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        either!(self, io => Pin::new(io).poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, io => Pin::new(io).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, io => Pin::new(io).poll_flush(cx))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, io => Pin::new(io).poll_close(cx))
    }
}

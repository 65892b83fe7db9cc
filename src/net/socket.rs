//! The bytes' way in: a TCP socket, with or without TLS, tuned for replies.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use futures_lite::io::{AsyncRead, AsyncWrite};

use super::traffic::Meter;
use crate::rt::TcpStream;

/// A TCP socket that acknowledges at once what it is about to wait behind.
///
/// A server that corks its reply (`tcp_nopush` in nginx, a common default) sends the last, short part only after
/// the parts before it are acknowledged, and Linux delays that by 40 ms unless it is told, before each wait, not to.
#[derive(Debug)]
pub(super) struct Tcp {
    /// Shared with nobody but for the moment in which it is shut down.
    inner: Arc<TcpStream>,
    meter: Arc<Meter>,
    /// Whether something was read since the last acknowledgement.
    unacknowledged: bool,
}

impl Tcp {
    pub(super) fn new(inner: TcpStream, meter: Arc<Meter>) -> io::Result<Self> {
        inner.set_nodelay(true)?;
        Ok(Self {
            inner: Arc::new(inner),
            meter,
            unacknowledged: false,
        })
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn acknowledge(&self) {
        // Only a delay is lost if this fails.
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
    /// What is below, for whoever wants it shut.
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

//! What bytes travel over: TCP, or TLS over it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

pin_project! {
    /// A connection's byte stream.
    #[project = Projection]
    pub(super) enum Transport {
        Plain { #[pin] stream: TcpStream },
        Tls { #[pin] stream: Box<TlsStream<TcpStream>> },
    }
}

impl Transport {
    /// Sends what is written at once, however little it is.
    pub(super) fn set_nodelay(&self) -> io::Result<()> {
        match self {
            Self::Plain { stream } => stream.set_nodelay(true),
            Self::Tls { stream } => stream.get_ref().0.set_nodelay(true),
        }
    }

    /// Whether no byte has come that was not read, as far as is known by now.
    pub(super) fn has_nothing_unread(&self) -> bool {
        let socket = match self {
            Self::Plain { stream } => stream,
            Self::Tls { stream } => stream.get_ref().0,
        };
        match socket.try_read(&mut [0]) {
            Ok(read) => read == 0,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }

    /// Reads bytes that are for nobody, below TLS: after its farewell it takes none.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let socket = match self {
            Self::Plain { stream } => stream,
            Self::Tls { stream } => stream.get_mut().0,
        };
        Pin::new(socket).poll_read(cx, buf)
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.project() {
            Projection::Plain { stream } => stream.poll_read(cx, buf),
            Projection::Tls { stream } => stream.poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.project() {
            Projection::Plain { stream } => stream.poll_write(cx, bytes),
            Projection::Tls { stream } => stream.poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.project() {
            Projection::Plain { stream } => stream.poll_flush(cx),
            Projection::Tls { stream } => stream.poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.project() {
            Projection::Plain { stream } => stream.poll_shutdown(cx),
            Projection::Tls { stream } => stream.poll_shutdown(cx),
        }
    }
}

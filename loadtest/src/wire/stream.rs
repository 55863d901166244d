//! A connection: plain TCP or TLS over it.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

pub(super) enum Stream {
    Plain(TcpStream),
    /// TLS over TCP; boxed, as a session is a kilobyte and more.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.write_all(bytes).await,
            Self::Tls(tls) => {
                tls.write_all(bytes).await?;
                tls.flush().await
            }
        }
    }

    /// Reads what is there, or waits for it; 0 is the end.
    pub(super) async fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.read(into).await,
            Self::Tls(tls) => tls.read(into).await,
        }
    }

    /// Whether an idle connection can no longer be used: the server closed it, or has sent
    /// something that nobody asked for. Costs no system call while nothing has arrived.
    pub(super) fn is_spent(&self) -> bool {
        let tcp = match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
        };
        !matches!(
            tcp.try_read(&mut [0; 1]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock
        )
    }
}

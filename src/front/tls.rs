//! TLS handshakes: bounded in number and in time, and none of them behind those who only hold a connection open.

use std::{
    cell::RefCell,
    collections::HashSet,
    mem,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use tokio::{net::TcpStream, pin, sync::Semaphore};
use tokio_rustls::TlsAcceptor;

use super::{
    connection::Connection,
    times::{ConnectionPhase, Cut},
    transport::Transport,
    worker::Worker,
};
use crate::limits::{HANDSHAKE_PERMIT_MS, HANDSHAKES_MAX, KNOWN_ADDRESSES_MAX};

/// Accepts TLS on one worker.
pub(super) struct Acceptor {
    tls: TlsAcceptor,
    strangers: Semaphore,
    known: Semaphore,
    addresses: RefCell<KnownAddresses>,
}

impl Acceptor {
    /// Accepts with this configuration; HTTP/2 is offered before HTTP/1.1.
    pub(super) fn new(config: Arc<rustls::ServerConfig>) -> Self {
        let mut config = Arc::unwrap_or_clone(config);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self {
            tls: Arc::new(config).into(),
            strangers: Semaphore::new(HANDSHAKES_MAX),
            known: Semaphore::new(HANDSHAKES_MAX),
            addresses: RefCell::default(),
        }
    }

    /// The stream after the handshake, and whether HTTP/2 was agreed upon.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
        peer: Option<SocketAddr>,
        connection: &Rc<Connection>,
        worker: &Worker,
    ) -> Option<(Transport, bool)> {
        // A peer that sends nothing takes no permit.
        stream.readable().await.ok()?;
        connection.enter(ConnectionPhase::Handshake);
        let address = peer.map(|peer| peer.ip());
        let is_known = address.is_some_and(|address| self.addresses.borrow().contain(address));
        let permit = if is_known { &self.known } else { &self.strangers }.acquire().await.ok()?;

        let handshake = self.tls.accept(stream);
        pin!(handshake);
        let stream = match tokio::time::timeout(Duration::from_millis(HANDSHAKE_PERMIT_MS), &mut handshake).await {
            Ok(stream) => stream,
            Err(_) => {
                // A slow peer may go on, but others do not wait for it.
                drop(permit);
                handshake.await
            }
        };
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(address = address.map(display), %error, "a TLS handshake failed");
                worker.count(Cut::FailedHandshake);
                return None;
            }
        };
        if let Some(address) = address {
            self.addresses.borrow_mut().add(address);
        }
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        connection.enter(ConnectionPhase::Silent);
        Some((Transport::Tls { stream: Box::new(stream) }, is_http2))
    }
}

/// Addresses that have completed a handshake lately, as many as there is room for.
#[derive(Default)]
struct KnownAddresses {
    recent: HashSet<IpAddr>,
    earlier: HashSet<IpAddr>,
}

impl KnownAddresses {
    fn contain(&self, address: IpAddr) -> bool {
        self.recent.contains(&address) || self.earlier.contains(&address)
    }

    fn add(&mut self, address: IpAddr) {
        if self.recent.len() >= KNOWN_ADDRESSES_MAX / 2 {
            self.earlier = mem::take(&mut self.recent);
        }
        self.recent.insert(address);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn addresses_are_remembered_within_a_bound() {
        let mut known = KnownAddresses::default();
        let address = |number: usize| IpAddr::V4(Ipv4Addr::from(number as u32));
        for number in 0..3 * KNOWN_ADDRESSES_MAX {
            known.add(address(number));
            assert!(known.contain(address(number)));
        }
        assert!(!known.contain(address(0)));
        assert!(known.recent.len() + known.earlier.len() <= KNOWN_ADDRESSES_MAX);
    }
}

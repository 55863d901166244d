//! Where requests go: a base URL, resolved once, with its TLS settings.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use rustls::HandshakeKind;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use url::Url;

use super::WireError;
use super::stream::Stream;
use super::tls::{Tls, TlsClient};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) struct Target {
    shown: String,
    /// Tried in this order; a single one once the server was reached.
    addresses: Vec<SocketAddr>,
    authority: String,
    prefix: String,
    tls: Option<Tls>,
    connections: AtomicU64,
    full: AtomicU64,
    resumed: AtomicU64,
}

/// Connections that were opened to a server, and the TLS handshakes on them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) connections: u64,
    /// Handshakes with certificates and signatures.
    full: u64,
    /// Those that resumed a session.
    resumed: u64,
}

impl Opened {
    pub(crate) fn since(self, then: Self) -> Self {
        Self {
            connections: self.connections - then.connections,
            full: self.full - then.full,
            resumed: self.resumed - then.resumed,
        }
    }

    pub(crate) fn handshakes(self) -> u64 {
        self.full + self.resumed
    }

    /// The share of the handshakes that resumed a session; `None` if there were none at all.
    pub(crate) fn resumed_share(self) -> Option<f64> {
        let all = self.handshakes();
        (all > 0).then(|| self.resumed as f64 / all as f64)
    }

    #[cfg(test)]
    pub(crate) fn of(connections: u64, full: u64, resumed: u64) -> Self {
        Self { connections, full, resumed }
    }
}

impl Target {
    /// Reads the URL and the CA, resolves the host, and makes sure that something listens there.
    pub(crate) async fn reach(url: &str, ca: Option<&Path>) -> anyhow::Result<Arc<Self>> {
        let mut target = Self::resolve(url, ca).await?;
        let reached = target.connect_tcp().await;
        match reached.and_then(|tcp| tcp.peer_addr().map_err(WireError::Connect)) {
            Ok(address) => target.addresses = vec![address],
            Err(error) => bail!(error.advice(&target)),
        }
        Ok(Arc::new(target))
    }

    /// As [`Target::reach`], for a server that may not listen yet.
    pub(crate) async fn expect(url: &str, ca: Option<&Path>) -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Self::resolve(url, ca).await?))
    }

    async fn resolve(url: &str, ca: Option<&Path>) -> anyhow::Result<Self> {
        let parsed =
            Url::parse(url).with_context(|| format!("--url {url}: expected http://host:port or https://host:port"))?;
        let secure = match parsed.scheme() {
            "https" => true,
            "http" => false,
            other => bail!("--url {url}: the scheme must be http or https, not {other}"),
        };
        let host = parsed.host_str().with_context(|| format!("--url {url}: the host is missing"))?;
        let bare_host = host.trim_matches(['[', ']']);
        let port = parsed.port_or_known_default().expect("http and https have default ports");
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host((bare_host, port))
            .await
            .with_context(|| format!("--url {url}: cannot resolve the host {host}"))?
            .collect();
        let tls = if secure {
            let name = ServerName::try_from(bare_host.to_owned())
                .with_context(|| format!("--url {url}: {host} cannot be a TLS server name"))?;
            Some(Tls::trusting(ca, name)?)
        } else {
            None
        };
        Ok(Self {
            shown: url.trim_end_matches('/').to_owned(),
            addresses,
            authority: format!("{host}:{port}"),
            prefix: parsed.path().trim_end_matches('/').to_owned(),
            tls,
            connections: AtomicU64::new(0),
            full: AtomicU64::new(0),
            resumed: AtomicU64::new(0),
        })
    }

    /// Value of the `Host` header.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// What stands before `/api/…` in a path; usually empty.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// What was opened up to now, by all links.
    pub(crate) fn opened(&self) -> Opened {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Opened { connections: count(&self.connections), full: count(&self.full), resumed: count(&self.resumed) }
    }

    /// A client with sessions of its own, if the server speaks TLS.
    pub(super) fn tls_client(&self) -> Option<TlsClient> {
        self.tls.as_ref().map(Tls::client)
    }

    /// A new connection, of this client.
    pub(super) async fn connect(&self, tls: Option<&TlsClient>) -> Result<Stream, WireError> {
        let tcp = self.connect_tcp().await?;
        let stream = match tls {
            None => Stream::Plain(tcp),
            Some(client) => {
                let stream = tokio::time::timeout(CONNECT_TIMEOUT, client.connect(tcp))
                    .await
                    .map_err(|_| WireError::Timeout(CONNECT_TIMEOUT))?
                    .map_err(WireError::Tls)?;
                match stream.get_ref().1.handshake_kind() {
                    Some(HandshakeKind::Resumed) => self.resumed.fetch_add(1, Ordering::Relaxed),
                    Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest) | None => {
                        self.full.fetch_add(1, Ordering::Relaxed)
                    }
                };
                Stream::Tls(Box::new(stream))
            }
        };
        self.connections.fetch_add(1, Ordering::Relaxed);
        Ok(stream)
    }

    async fn connect_tcp(&self) -> Result<TcpStream, WireError> {
        let tcp = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(self.addresses.as_slice()))
            .await
            .map_err(|_| WireError::Timeout(CONNECT_TIMEOUT))?
            .map_err(WireError::Connect)?;
        tcp.set_nodelay(true).map_err(WireError::Connect)?;
        Ok(tcp)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

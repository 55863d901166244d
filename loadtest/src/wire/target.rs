//! Where requests go: a base URL, resolved once, with its TLS settings.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;

use super::WireError;
use super::stream::Stream;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) struct Target {
    shown: String,
    /// Tried in this order; a single one once the server was reached.
    addresses: Vec<SocketAddr>,
    authority: String,
    prefix: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    full: AtomicU64,
    resumed: AtomicU64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Handshakes {
    /// Those with certificates and signatures.
    full: u64,
    resumed: u64,
}

impl Handshakes {
    pub(crate) fn since(self, then: Self) -> Self {
        Self { full: self.full - then.full, resumed: self.resumed - then.resumed }
    }

    /// The share that resumed a session; `None` if there were none at all.
    pub(crate) fn resumed_share(self) -> Option<f64> {
        let all = self.full + self.resumed;
        (all > 0).then(|| self.resumed as f64 / all as f64)
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
            Some((TlsConnector::from(Arc::new(client_config(ca)?)), name))
        } else {
            None
        };
        Ok(Self {
            shown: url.trim_end_matches('/').to_owned(),
            addresses,
            authority: format!("{host}:{port}"),
            prefix: parsed.path().trim_end_matches('/').to_owned(),
            tls,
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

    /// The TLS handshakes up to now, of all links.
    pub(crate) fn handshakes(&self) -> Handshakes {
        Handshakes { full: self.full.load(Ordering::Relaxed), resumed: self.resumed.load(Ordering::Relaxed) }
    }

    /// A new connection. TLS sessions are resumed where the server allows it: all links share the tickets that it
    /// gives, as the connections of one client do.
    pub(super) async fn connect(&self) -> Result<Stream, WireError> {
        let tcp = self.connect_tcp().await?;
        match &self.tls {
            None => Ok(Stream::Plain(tcp)),
            Some((connector, name)) => {
                let session = connector.connect(name.clone(), tcp);
                match tokio::time::timeout(CONNECT_TIMEOUT, session).await {
                    Ok(Ok(stream)) => {
                        match stream.get_ref().1.handshake_kind() {
                            Some(HandshakeKind::Resumed) => self.resumed.fetch_add(1, Ordering::Relaxed),
                            Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest) | None => {
                                self.full.fetch_add(1, Ordering::Relaxed)
                            }
                        };
                        Ok(Stream::Tls(Box::new(stream)))
                    }
                    Ok(Err(cause)) => Err(WireError::Tls(cause)),
                    Err(_) => Err(WireError::Timeout(CONNECT_TIMEOUT)),
                }
            }
        }
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

fn client_config(ca: Option<&Path>) -> anyhow::Result<ClientConfig> {
    let Some(path) = ca else {
        bail!("an https:// URL needs --ca: the server's CA is in its data folder, as in `--ca data/tls/ca.pem`");
    };
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).with_context(|| {
        format!(
            "--ca {}: cannot be read; a server with its own CA keeps it in its data folder, tls/ca.pem",
            path.display()
        )
    })?;
    for certificate in certificates {
        let certificate = certificate.with_context(|| format!("--ca {}: not a PEM file", path.display()))?;
        roots.add(certificate).with_context(|| format!("--ca {}: not a CA certificate", path.display()))?;
    }
    if roots.is_empty() {
        bail!("--ca {}: has no certificate in it", path.display());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

//! TLS as a client speaks it: whom it trusts, and the sessions that it resumes.

use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A client speaks to one server; rustls counts in tickets, of which it keeps eight for each.
const TICKETS: usize = 8;

/// What the clients of a server have in common.
pub(super) struct Tls {
    config: ClientConfig,
    name: ServerName<'static>,
}

/// One client. Each ticket is good for one session, and a store that many connections share has none left for most of
/// them: an agent has a store of its own, and so has each of these.
pub(super) struct TlsClient {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Tls {
    pub(super) fn trusting(ca: Option<&Path>, name: ServerName<'static>) -> anyhow::Result<Self> {
        Ok(Self { config: client_config(ca)?, name })
    }

    /// One that has no session yet.
    pub(super) fn client(&self) -> TlsClient {
        let mut config = self.config.clone();
        config.resumption = Resumption::in_memory_sessions(TICKETS);
        TlsClient { connector: Arc::new(config).into(), name: self.name.clone() }
    }
}

impl TlsClient {
    pub(super) async fn connect(&self, tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.connector.connect(self.name.clone(), tcp).await
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

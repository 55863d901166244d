//! Whom a client trusts.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

/// Whom a client trusts, and what it calls the server.
#[derive(Clone)]
pub struct Trust {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) name: ServerName<'static>,
}

impl Trust {
    /// The authority in this file.
    pub fn in_file(path: &Path) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(path).unwrap()).unwrap();
        Self::of(roots)
    }

    /// Nobody.
    pub fn nobody() -> Self {
        Self::of(RootCertStore::empty())
    }

    fn of(roots: RootCertStore) -> Self {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { config: Arc::new(config), name: ServerName::try_from("localhost").unwrap() }
    }

    /// Offers this protocol in the handshake (ALPN), and no other.
    pub fn speaking(mut self, protocol: &[u8]) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = vec![protocol.to_vec()];
        self.config = Arc::new(config);
        self
    }

    /// Expects the certificate to be for this name.
    pub fn named(mut self, name: &'static str) -> Self {
        self.name = ServerName::try_from(name).unwrap();
        self
    }
}

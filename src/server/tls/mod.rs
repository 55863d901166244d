//! TLS: with certificates from files, or with a certificate authority of our own in the data folder.
//!
//! Promises: what cannot be used is reported with its setting, its file and the cause, before anything is written; nothing
//! that is there is written over but the server certificate, which is created anew at every start.
//!
//! - `pem`: certificates and keys in PEM form.
//! - `pair`: a certificate and the key that goes with it.
//! - `authority`: the authority of our own, and what it signs.
//! - `tickets`: the keys with which clients resume their sessions.
//! - `validity`: from when to when a certificate is good.

mod authority;
mod pair;
mod pem;
#[cfg(test)]
mod tests;
mod tickets;
mod validity;

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    CipherSuite, ServerConfig,
    crypto::ring,
    sign::{CertifiedKey, SingleCertAndKey},
};

use self::{authority::Authority, validity::Validity};
pub use self::{tickets::Tickets, validity::ExpiryWatch};
use crate::{
    config::{TlsConfig, TlsMode},
    fleet::Timestamp,
    limits::CLOCK_UNSET_BEFORE_MS,
    process::named_file::{FileError, FileErrors, NamedFile},
};

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error(transparent)]
    Files(#[from] FileErrors),
    #[error("a certificate cannot be made: {0}")]
    Generate(#[from] rcgen::Error),
    /// The created or read certificate cannot be served.
    #[error("the certificate cannot be used: {0}")]
    Rustls(#[from] rustls::Error),
}

impl From<FileError> for TlsError {
    fn from(error: FileError) -> Self {
        Self::Files(error.into())
    }
}

/// TLS, ready to be used by a listener.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The configuration for the listener.
    pub server: ServerConfig,
    /// What clients must trust, when it is our own authority.
    pub ca_file: Option<PathBuf>,
    /// Whether that authority was just created, so that nobody can trust it yet.
    pub ca_is_new: bool,
    /// When the first of the certificates that a client checks expires.
    pub expires: Timestamp,
    /// The keys with which clients resume their sessions.
    pub tickets: Arc<Tickets>,
}

impl Tls {
    /// TLS as configured; `None` if it is off. `listen` is the address it is for.
    pub fn new(config: &TlsConfig, data_dir: &Path, listen: IpAddr, now: Timestamp) -> Result<Option<Self>, TlsError> {
        match &config.mode {
            TlsMode::Off => Ok(None),
            TlsMode::Files { cert, key } => {
                let pair = pair::read(&cert_file(cert), &key_file(key))?;
                let expires = validity::first_end(&pair.cert)?;
                // The folder is not made for them alone: it may be that nothing else is to be written.
                let tickets = Tickets::open(data_dir.is_dir().then(|| tls_folder(data_dir)).as_deref());
                let server = server_config(pair, tickets.clone())?;
                Ok(Some(Self { server, ca_file: None, ca_is_new: false, expires, tickets }))
            }
            TlsMode::SelfSigned => {
                let found = Authority::look(data_dir)?;
                let ca_is_new = found.is_none();
                let authority = found.map_or_else(|| Authority::make(data_dir, now), Ok)?;
                let (names, _) = subject_names(&config.names, listen, &hostname());
                let pair = authority.sign(names, data_dir, now)?;
                let expires = validity::first_end(&pair.cert)?.min(authority.validity.end);
                let ca_file = Some(authority.file.path);
                let tickets = Tickets::open(Some(&tls_folder(data_dir)));
                let server = server_config(pair, tickets.clone())?;
                Ok(Some(Self { server, ca_file, ca_is_new, expires, tickets }))
            }
        }
    }

    /// Looks at all files as [`Tls::new`] would, and writes nothing: what is to be warned of, or what cannot be used.
    pub fn check(
        config: &TlsConfig,
        data_dir: &Path,
        listen: IpAddr,
        now: Timestamp,
    ) -> Result<Vec<String>, FileErrors> {
        match &config.mode {
            TlsMode::Off => Ok(Vec::new()),
            TlsMode::Files { cert, key } => {
                let (cert, key) = (cert_file(cert), key_file(key));
                let pair = pair::read(&cert, &key)?;
                Ok(validity::warnings(&cert, &pair.cert, now)?)
            }
            TlsMode::SelfSigned => {
                let mut warnings = Vec::new();
                if let Some(authority) = Authority::look(data_dir)? {
                    let remedy =
                        "to have another made, remove it and its ca-key.pem, and tell every agent of the new one";
                    warnings.extend(
                        authority.validity.warning(now).map(|what| format!("{}: {what}; {remedy}", authority.file)),
                    );
                }
                if now.as_millis() < CLOCK_UNSET_BEFORE_MS {
                    warnings.push(format!(
                        "the clock of this machine stands at {now}: set it, or clients whose clocks are right will refuse \
                         the certificates that are made now"
                    ));
                }
                warnings.extend(subject_names(&config.names, listen, &hostname()).1);
                Ok(warnings)
            }
        }
    }
}

/// Looks at a file of authorities that somebody else reads: what is to be warned of, or why it cannot be used.
pub fn check_authorities(file: &NamedFile, now: Timestamp) -> Result<Vec<String>, FileError> {
    validity::warnings(file, &pem::certificates(file)?, now)
}

fn tls_folder(data_dir: &Path) -> PathBuf {
    NamedFile::in_data_dir(data_dir, "tls").path
}

fn cert_file(path: &Path) -> NamedFile {
    NamedFile::new("tls.cert_file", path)
}

fn key_file(path: &Path) -> NamedFile {
    NamedFile::new("tls.key_file", path)
}

/// Every name under which this machine may be called, and a warning if it calls itself what no certificate can hold.
fn subject_names(names: &[String], listen: IpAddr, hostname: &str) -> (Vec<String>, Option<String>) {
    let mut all = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    if !listen.is_unspecified() {
        all.push(listen.to_string());
    }
    let usable = crate::config::certificate_name(hostname);
    let warning = (usable.is_none() && !hostname.is_empty()).then(|| {
        format!(
            "the name of this machine, {hostname:?}, cannot stand in a certificate and is left out; name those that \
             agents use in tls.names"
        )
    });
    all.extend(usable);
    all.extend(names.iter().cloned());
    all.sort();
    all.dedup();
    (all, warning)
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

fn server_config(pair: CertifiedKey, tickets: Arc<Tickets>) -> Result<ServerConfig, TlsError> {
    let mut provider = ring::default_provider();
    // A handshake hashes a good deal, and processors have instructions for SHA-256 but not for SHA-384, which most clients put
    // first: that was a sixth of its processor time.
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    config.ignore_client_order = true;
    config.ticketer = tickets;
    // One for each connection: whoever resumes gets a new one with it.
    config.send_tls13_tickets = 1;
    Ok(config)
}

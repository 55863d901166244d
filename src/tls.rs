//! TLS: with certificates from files, or with a certificate authority of our own in the data folder.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::{clock::Clock, config::TlsConfig, config::TlsMode, private_file};

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        error: String,
    },
    /// A certificate cannot be made.
    #[error("a certificate cannot be made: {0}")]
    Generate(#[from] rcgen::Error),
    /// Certificate and key do not go together, or are of an unknown kind.
    #[error("the certificate cannot be used: {0}")]
    Rustls(#[from] rustls::Error),
}

/// TLS, ready to be used by a listener.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The configuration for the listener.
    pub server: ServerConfig,
    /// What clients must trust, when it is our own authority.
    pub ca_file: Option<PathBuf>,
}

/// Days for which a certificate of ours is good; it is made anew at every start.
const CERTIFICATE_DAYS: i64 = 825;
/// Days for which our authority is good.
const AUTHORITY_DAYS: i64 = 3_650;
const DAY_MS: i64 = 24 * 3_600 * 1_000;

impl Tls {
    /// TLS as configured; `None` if it is off. `listen` is the address it is for.
    pub fn new(config: &TlsConfig, data_dir: &Path, listen: IpAddr, clock: &Clock) -> Result<Option<Self>, TlsError> {
        match &config.mode {
            TlsMode::Off => Ok(None),
            TlsMode::Files { cert, key } => {
                let chain = CertificateDer::pem_file_iter(cert)
                    .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                    .map_err(|error| file_error(cert, error))?;
                if chain.is_empty() {
                    return Err(file_error(cert, "there is no certificate in it"));
                }
                let key = PrivateKeyDer::from_pem_file(key).map_err(|error| file_error(key, error))?;
                Ok(Some(Self { server: server_config(chain, key)?, ca_file: None }))
            }
            TlsMode::SelfSigned => Self::self_signed(&config.names, data_dir, listen, clock).map(Some),
        }
    }

    /// A certificate signed by the authority in `data_dir/tls`, which is made if there is none.
    fn self_signed(names: &[String], data_dir: &Path, listen: IpAddr, clock: &Clock) -> Result<Self, TlsError> {
        let folder = data_dir.join("tls");
        let (ca_file, key_file) = (folder.join("ca.pem"), folder.join("ca-key.pem"));
        private_file::create_folder(&folder).map_err(|error| file_error(&folder, error))?;
        if !ca_file.exists() || !key_file.exists() {
            let (certificate, key) = make_authority(clock)?;
            write_private(&key_file, &key)?;
            fs::write(&ca_file, certificate).map_err(|error| file_error(&ca_file, error))?;
        }
        let read = |path: &Path| fs::read_to_string(path).map_err(|error| file_error(path, error));
        let authority_key = KeyPair::from_pem(&read(&key_file)?).map_err(|error| file_error(&key_file, error))?;
        let authority =
            Issuer::from_ca_cert_pem(&read(&ca_file)?, authority_key).map_err(|error| file_error(&ca_file, error))?;

        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(subject_names(names, listen))?;
        params.distinguished_name.push(DnType::CommonName, "Guardbeat");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = validity(clock, CERTIFICATE_DAYS);
        let certificate = params.signed_by(&key, &authority)?;
        // For whoever wants to look at it, or to serve it elsewhere; it is made anew at the next start.
        write_private(&folder.join("server-key.pem"), &key.serialize_pem())?;
        let server_file = folder.join("server.pem");
        fs::write(&server_file, certificate.pem()).map_err(|error| file_error(&server_file, error))?;

        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| file_error(&key_file, error))?;
        Ok(Self { server: server_config(vec![certificate.der().clone()], key)?, ca_file: Some(ca_file) })
    }
}

fn make_authority(clock: &Clock) -> Result<(String, String), TlsError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Guardbeat local CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = validity(clock, AUTHORITY_DAYS);
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

/// From yesterday, for clients whose clocks are behind.
fn validity(clock: &Clock, days: i64) -> (time::OffsetDateTime, time::OffsetDateTime) {
    let now = clock.wall().as_millis();
    let moment = |millis: i64| {
        time::OffsetDateTime::from_unix_timestamp(millis / 1_000).unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
    };
    (moment(now - DAY_MS), moment(now + days * DAY_MS))
}

/// Every name under which this machine may be called.
fn subject_names(names: &[String], listen: IpAddr) -> Vec<String> {
    let mut all = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    if !listen.is_unspecified() {
        all.push(listen.to_string());
    }
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    all.push(hostname.trim().to_owned());
    all.extend(names.iter().cloned());
    all.retain(|name| !name.is_empty());
    all.sort();
    all.dedup();
    all
}

fn server_config(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    // Tickets let an agent that connects for every heartbeat resume its session, without memory for it here.
    config.ticketer = ring::Ticketer::new()?;
    Ok(config)
}

fn write_private(path: &Path, content: &str) -> Result<(), TlsError> {
    private_file::write(path, content).map_err(|error| file_error(path, error))
}

fn file_error(path: &Path, error: impl ToString) -> TlsError {
    TlsError::File { path: path.into(), error: error.to_string() }
}

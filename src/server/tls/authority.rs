//! A certificate authority of our own, kept in the data folder, and what it signs.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::{
    crypto::ring::sign::any_supported_type,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
    sign::CertifiedKey,
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use super::{
    TlsError, Validity, pair,
    pem::{certificates, private_key},
};
use crate::{
    fleet::Timestamp,
    limits::{AUTHORITY_DAYS, CERTIFICATE_DAYS},
    process::{
        named_file::{FileError, FileErrors, NamedFile},
        private_file::{self, PRIVATE, PUBLIC},
    },
};

const DAY_MS: i64 = 24 * 3_600 * 1_000;

/// An authority that can sign.
pub(in crate::server) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate.
    pub(in crate::server) file: NamedFile,
    pub(in crate::server) validity: Validity,
}

impl Authority {
    /// The one in the data folder; none if there is nothing of one.
    pub(in crate::server) fn look(data_dir: &Path) -> Result<Option<Self>, FileErrors> {
        let (cert, key) = files(data_dir);
        match (cert.is_there()?, key.is_there()?) {
            (false, false) => Ok(None),
            (true, true) => Ok(Some(Self::read(cert, key)?)),
            (true, false) => Err(half(&key, &cert, "which agents trust").into()),
            (false, true) => Err(half(&cert, &key, "the key of that certificate").into()),
        }
    }

    fn read(cert: NamedFile, key: NamedFile) -> Result<Self, FileErrors> {
        // Read as a pair first: its errors are reported together.
        pair::read(&cert, &key)?;
        let (secret, _) = private_key(&key)?;
        let certificate = certificates(&cert)?.swap_remove(0);
        let secret = KeyPair::try_from(&secret).map_err(|error| key.wrong(error))?;
        Ok(Self::of(cert, &certificate, secret)?)
    }

    fn of(file: NamedFile, certificate: &CertificateDer<'_>, secret: KeyPair) -> Result<Self, FileError> {
        let is_authority = X509Certificate::from_der(certificate).is_ok_and(|(_, certificate)| certificate.is_ca());
        if !is_authority {
            return Err(file.wrong("it is the certificate of no authority, and cannot sign others"));
        }
        let validity = Validity::of(certificate).map_err(|error| file.wrong(error))?;
        let issuer = Issuer::from_ca_cert_der(certificate, secret).map_err(|error| file.wrong(error))?;
        Ok(Self { issuer, file, validity })
    }

    /// A new one. Nothing of another may be there.
    pub(in crate::server) fn make(data_dir: &Path, now: Timestamp) -> Result<Self, TlsError> {
        let (cert, key) = files(data_dir);
        let secret = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Guardbeat local CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (params.not_before, params.not_after) = period(now, AUTHORITY_DAYS);
        let certificate = params.self_signed(&secret)?;
        write(data_dir, (&cert, &certificate.pem()), (&key, &secret.serialize_pem()))?;
        Ok(Self::of(cert, certificate.der(), secret)?)
    }

    /// A certificate for a server of these names. It is kept in the data folder for whoever wants to look at it, or to
    /// serve it elsewhere.
    pub(in crate::server) fn sign(
        &self,
        names: Vec<String>,
        data_dir: &Path,
        now: Timestamp,
    ) -> Result<CertifiedKey, TlsError> {
        let secret = KeyPair::generate()?;
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, "Guardbeat");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = period(now, CERTIFICATE_DAYS);
        let certificate = params.signed_by(&secret, &self.issuer)?;
        let cert = NamedFile::in_data_dir(data_dir, "tls/server.pem");
        let key = NamedFile::in_data_dir(data_dir, "tls/server-key.pem");
        write(data_dir, (&cert, &certificate.pem()), (&key, &secret.serialize_pem()))?;
        let signer = any_supported_type(&PrivatePkcs8KeyDer::from(secret.serialize_der()).into())?;
        Ok(CertifiedKey::new(vec![certificate.into()], signer))
    }
}

/// The certificate of the authority, and its key.
fn files(data_dir: &Path) -> (NamedFile, NamedFile) {
    (NamedFile::in_data_dir(data_dir, "tls/ca.pem"), NamedFile::in_data_dir(data_dir, "tls/ca-key.pem"))
}

/// One half of the authority is gone: a new one would be trusted by nobody, and the other half be lost.
fn half(missing: &NamedFile, there: &NamedFile, what: &str) -> FileError {
    let there = there.path.display();
    missing.wrong(format_args!(
        "it is missing, but {there} is there, {what}; bring it back from a backup, or remove {there} too: then a new \
         authority is made, and every agent must be given the new ca.pem"
    ))
}

fn write(data_dir: &Path, cert: (&NamedFile, &str), key: (&NamedFile, &str)) -> Result<(), FileError> {
    let folder = NamedFile::in_data_dir(data_dir, "tls");
    private_file::create_folder(&folder.path)
        .map_err(|error| folder.wrong(format_args!("it cannot be made: {error}")))?;
    private_file::write_together(&[(&key.0.path, key.1, PRIVATE), (&cert.0.path, cert.1, PUBLIC)])
        .map_err(|error| cert.0.wrong(format_args!("it and its key cannot be written: {error}")))
}

/// So many days, from yesterday on, for clients whose clocks are behind.
fn period(now: Timestamp, days: i64) -> (time::OffsetDateTime, time::OffsetDateTime) {
    let moment = |millis: i64| {
        time::OffsetDateTime::from_unix_timestamp(millis / 1_000).unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
    };
    let start = now.as_millis() - DAY_MS;
    (moment(start), moment(start + days * DAY_MS))
}

//! A certificate and the private key that goes with it.

use std::sync::Arc;

use rustls::{
    Error, InconsistentKeys,
    pki_types::CertificateDer,
    sign::{CertifiedKey, SigningKey},
};

use x509_parser::{certificate::X509Certificate, prelude::FromDer, x509::X509Version};

use super::pem::{certificates, private_key};
use crate::process::named_file::{FileError, FileErrors, NamedFile};

/// The certificates of one file and the key of the other, which is that of the first certificate.
pub(in crate::server) fn read(cert: &NamedFile, key: &NamedFile) -> Result<CertifiedKey, FileErrors> {
    match (certificates(cert), private_key(key)) {
        (Ok(chain), Ok((_, signer))) => Ok(fit(chain, signer, cert, key)?),
        (chain, signer) => Err(FileErrors(chain.err().into_iter().chain(signer.err()).collect())),
    }
}

/// The pair that they are.
pub(in crate::server) fn fit(
    chain: Vec<CertificateDer<'static>>,
    signer: Arc<dyn SigningKey>,
    cert: &NamedFile,
    key: &NamedFile,
) -> Result<CertifiedKey, FileError> {
    let is_old = |one: &CertificateDer<'_>| {
        X509Certificate::from_der(one).is_ok_and(|(_, certificate)| certificate.version() != X509Version::V3)
    };
    if chain.iter().any(is_old) {
        return Err(cert.wrong("a certificate in it is of an old version of X.509; TLS needs version 3"));
    }
    let fits = |one: &CertificateDer<'static>| {
        let alone = CertifiedKey::new(vec![one.clone()], signer.clone());
        match alone.keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(true),
            Err(Error::InconsistentKeys(_)) => Ok(false),
            Err(error) => Err(cert.wrong(format_args!("the certificate cannot be used: {error}"))),
        }
    };
    let mut whose = None;
    for (index, one) in chain.iter().enumerate() {
        if fits(one)? {
            whose = Some(index + 1);
            break;
        }
    }
    match whose {
        Some(1) => Ok(CertifiedKey::new(chain, signer)),
        Some(number) => Err(cert.wrong(format_args!(
            "the server's own certificate must come first, and then those that lead to a root; the key in {} is that of \
             certificate {number}",
            key.path.display()
        ))),
        None => Err(key.wrong(format_args!("it is the key of another certificate than that in {}", cert.path.display()))),
    }
}

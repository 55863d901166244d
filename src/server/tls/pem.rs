//! Certificates and keys in PEM form, and why a file holds none that can be used.

use std::sync::Arc;

use rustls::{
    crypto::ring::sign::any_supported_type,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{Error, PemObject},
    },
    sign::SigningKey,
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use crate::process::named_file::{FileError, NamedFile};

const KEYS: &str = "RSA keys of 2048 to 8192 bits, ECDSA keys on P-256 or P-384, and Ed25519 keys can be";

/// Why PEM text cannot be used.
#[derive(Debug, thiserror::Error)]
pub(in crate::server) enum PemFault {
    #[error("there is no {wanted} in it, but {}", found(.holds))]
    Lacks { wanted: &'static str, holds: Vec<String> },
    #[error("it is not in PEM form: {0}")]
    Broken(Error),
    #[error("certificate {0} in it cannot be read: it is no X.509 certificate")]
    NoX509(usize),
    #[error(
        "the private key is encrypted, and nobody is there to type its passphrase; `openssl pkey -in ENCRYPTED -out PLAIN` \
         decrypts it"
    )]
    Encrypted,
    #[error("keys of this kind ({0}) cannot be used; {KEYS}, as PKCS #8, PKCS #1 or SEC 1")]
    Kind(String),
}

/// The certificates in the file; at least one, and each can be read.
pub(in crate::server) fn certificates(file: &NamedFile) -> Result<Vec<CertificateDer<'static>>, FileError> {
    certificates_in(&file.read()?).map_err(|fault| file.wrong(fault))
}

/// The first private key in the file, and what signs with it.
pub(in crate::server) fn private_key(
    file: &NamedFile,
) -> Result<(PrivateKeyDer<'static>, Arc<dyn SigningKey>), FileError> {
    private_key_in(&file.read()?).map_err(|fault| file.wrong(fault))
}

fn certificates_in(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemFault> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(PemFault::Broken)?;
    if found.is_empty() {
        return Err(PemFault::Lacks { wanted: "certificate", holds: labels(pem) });
    }
    for (index, der) in found.iter().enumerate() {
        X509Certificate::from_der(der).map_err(|_| PemFault::NoX509(index + 1))?;
    }
    Ok(found)
}

fn private_key_in(pem: &[u8]) -> Result<(PrivateKeyDer<'static>, Arc<dyn SigningKey>), PemFault> {
    let labels = labels(pem);
    let is_encrypted = |label: &str| label == "ENCRYPTED PRIVATE KEY";
    let old_style = String::from_utf8_lossy(pem).contains("Proc-Type: 4,ENCRYPTED");
    if old_style || labels.iter().any(|label| is_encrypted(label)) {
        return Err(PemFault::Encrypted);
    }
    let kind = labels.iter().find(|label| label.ends_with("PRIVATE KEY")).cloned();
    match (PrivateKeyDer::from_pem_slice(pem), kind) {
        (Ok(key), kind) => match any_supported_type(&key) {
            Ok(signer) => Ok((key, signer)),
            Err(_) => Err(PemFault::Kind(kind.unwrap_or_default())),
        },
        (Err(Error::NoItemsFound), Some(kind)) => Err(PemFault::Kind(kind)),
        (Err(Error::NoItemsFound), None) => Err(PemFault::Lacks { wanted: "private key", holds: labels }),
        (Err(error), _) => Err(PemFault::Broken(error)),
    }
}

/// What the sections of this text are called.
fn labels(pem: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(pem);
    let labels = text.lines().filter_map(|line| line.trim().strip_prefix("-----BEGIN ")?.strip_suffix("-----"));
    labels.map(str::to_owned).collect()
}

fn found(labels: &[String]) -> String {
    match labels {
        [] => {
            "no PEM section at all (a line such as -----BEGIN CERTIFICATE-----); a file in DER form must be converted \
               with openssl"
                .to_owned()
        }
        labels => labels.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    fn section(label: &str, inside: &str) -> String {
        format!("-----BEGIN {label}-----\n{inside}\n-----END {label}-----\n")
    }

    #[test]
    fn a_key_that_cannot_be_used_is_reported_with_its_kind() {
        let cases = [
            (section("ENCRYPTED PRIVATE KEY", "AAAA"), "is encrypted"),
            (section("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA"), "is encrypted"),
            (section("OPENSSH PRIVATE KEY", "AAAA"), "(OPENSSH PRIVATE KEY) cannot be used; RSA keys of 2048"),
            (section("DSA PRIVATE KEY", "AAAA"), "(DSA PRIVATE KEY) cannot be used"),
            (section("PRIVATE KEY", "AAAA"), "(PRIVATE KEY) cannot be used"),
            (section("CERTIFICATE", "AAAA"), "there is no private key in it, but CERTIFICATE"),
            (String::new(), "there is no private key in it, but no PEM section at all"),
            ("\u{30}\u{82}\u{1}".to_owned(), "DER"),
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n".to_owned(), "it is not in PEM form: missing section end"),
        ];
        for (text, expected) in cases {
            let told = private_key_in(text.as_bytes()).unwrap_err().to_string();
            assert!(told.contains(expected), "{text}: {told}");
        }
        let key = KeyPair::generate().unwrap().serialize_pem();
        private_key_in(key.replace('\n', "\r\n").as_bytes()).unwrap();
        private_key_in(format!("{}{key}", section("EC PARAMETERS", "AAAA")).as_bytes()).unwrap();
    }

    #[test]
    fn what_is_no_certificate_is_reported() {
        let key = KeyPair::generate().unwrap();
        let good = CertificateParams::new(vec![]).unwrap().self_signed(&key).unwrap().pem();
        let cases = [
            (key.serialize_pem(), "there is no certificate in it, but PRIVATE KEY"),
            (section("CERTIFICATE REQUEST", "AAAA"), "but CERTIFICATE REQUEST"),
            (section("CERTIFICATE", "AAAA"), "certificate 1 in it cannot be read"),
            (format!("{good}{}", section("CERTIFICATE", "AAAA")), "certificate 2 in it cannot be read"),
            (section("CERTIFICATE", "ä"), "it is not in PEM form"),
        ];
        for (text, expected) in cases {
            let told = certificates_in(text.as_bytes()).unwrap_err().to_string();
            assert!(told.contains(expected), "{text}: {told}");
        }
        assert_eq!(certificates_in(format!("comment\n{good}\n{good}").as_bytes()).unwrap().len(), 2);
    }
}

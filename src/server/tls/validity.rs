//! From when to when a certificate is good.

use rustls::pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use crate::{
    fleet::Timestamp,
    limits::EXPIRY_WARNING_DAYS,
    process::named_file::{FileError, NamedFile},
};

/// The time in which a certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) struct Validity {
    pub(in crate::server) start: Timestamp,
    pub(in crate::server) end: Timestamp,
}

impl Validity {
    /// That of a certificate; an error only for what is none.
    pub(in crate::server) fn of(der: &CertificateDer<'_>) -> Result<Self, rustls::Error> {
        let (_, certificate) = X509Certificate::from_der(der)
            .map_err(|_| rustls::Error::InvalidCertificate(rustls::CertificateError::BadEncoding))?;
        let millis = |seconds: i64| Timestamp::from_millis(seconds.saturating_mul(1_000));
        let validity = certificate.validity();
        Ok(Self { start: millis(validity.not_before.timestamp()), end: millis(validity.not_after.timestamp()) })
    }

    /// The warning that is due now.
    pub(in crate::server) fn warning(&self, now: Timestamp) -> Option<String> {
        if now > self.end {
            Some(format!("it expired at {}, and clients refuse it", self.end))
        } else if now < self.start {
            Some(format!("it is not valid before {}, and clients refuse it; here it is {now}", self.start))
        } else {
            None
        }
    }
}

/// Logs that a certificate is about to expire, once a day.
#[derive(Clone, Copy, Debug)]
pub struct ExpiryWatch {
    end: Timestamp,
    /// When the next warning is due.
    next: Timestamp,
}

const DAY_MS: i64 = 86_400_000;

impl ExpiryWatch {
    /// Of one that expires then.
    pub const fn new(end: Timestamp) -> Self {
        Self { end, next: Timestamp::from_millis(end.as_millis().saturating_sub(EXPIRY_WARNING_DAYS * DAY_MS)) }
    }

    /// The whole days left, if a warning is due.
    pub fn days_left(&mut self, now: Timestamp) -> Option<i64> {
        if now < self.next {
            return None;
        }
        self.next = Timestamp::from_millis(now.as_millis().saturating_add(DAY_MS));
        Some((self.end.as_millis().saturating_sub(now.as_millis()) / DAY_MS).max(0))
    }
}

/// When the first of these expires.
pub(in crate::server) fn first_end(chain: &[CertificateDer<'_>]) -> Result<Timestamp, rustls::Error> {
    let ends = chain.iter().map(|one| Validity::of(one).map(|validity| validity.end));
    ends.reduce(|a, b| Ok(a?.min(b?))).unwrap_or(Err(rustls::Error::NoCertificatesPresented))
}

/// The warnings that are due for the certificates in a file.
pub(in crate::server) fn warnings(
    file: &NamedFile,
    chain: &[CertificateDer<'_>],
    now: Timestamp,
) -> Result<Vec<String>, FileError> {
    let mut warnings = Vec::new();
    for (index, one) in chain.iter().enumerate() {
        let validity = Validity::of(one).map_err(|error| file.wrong(error))?;
        let which = if chain.len() == 1 { String::new() } else { format!("certificate {}: ", index + 1) };
        warnings.extend(validity.warning(now).map(|what| format!("{file}: {which}{what}")));
    }
    Ok(warnings)
}

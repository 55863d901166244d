//! Where a Redis listens: `redis://[[user]:password@]host[:port][/db]`.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use anyhow::{Context, bail, ensure};
use percent_encoding::percent_decode_str;
use url::Url;

const DEFAULT_PORT: u16 = 6379;

/// A Redis reached by plain TCP. Shown without its password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct RedisUrl(Url);

impl RedisUrl {
    /// One on this machine, without a password.
    pub(super) fn on_loopback(port: u16) -> Self {
        let address = format!("redis://{}:{port}", Ipv4Addr::LOCALHOST);
        Self(Url::parse(&address).expect("an address and a port make a URL"))
    }

    /// As the server under test is to have it, with its password.
    pub(in crate::server) fn with_password(&self) -> &str {
        self.0.as_str()
    }

    /// Host and port to connect to.
    pub(super) fn address(&self) -> (&str, u16) {
        let host = self.0.host_str().expect("read with a host");
        (host.trim_matches(['[', ']']), self.0.port().unwrap_or(DEFAULT_PORT))
    }

    /// User, empty for the default one, and password.
    pub(super) fn credentials(&self) -> Option<(String, String)> {
        let decoded = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
        Some((decoded(self.0.username()), decoded(self.0.password()?)))
    }

    /// Number of the database, as it stands in the URL.
    pub(super) fn database(&self) -> Option<&str> {
        Some(self.0.path().trim_start_matches('/')).filter(|database| !database.is_empty())
    }
}

impl FromStr for RedisUrl {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected redis://[[user]:password@]host[:port][/db]";
        // Not shown: it may have a password in it.
        let url = Url::parse(text).context(EXPECTED)?;
        if url.scheme() != "redis" {
            bail!("{EXPECTED}, not {}://: measurements go over plain TCP", url.scheme());
        }
        let url = Self(url);
        ensure!(url.0.has_host(), "the host is missing: {EXPECTED}");
        ensure!(
            url.database().is_none_or(|database| database.parse::<u32>().is_ok()),
            "the database is not a number: {EXPECTED}"
        );
        Ok(url)
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port) = self.address();
        write!(f, "redis://{host}:{port}")
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_and_as_whom() {
        let url: RedisUrl = "redis://:p%40ss+w@cache.internal/3".parse().expect("a URL");
        assert_eq!(url.address(), ("cache.internal", 6379));
        assert_eq!(url.credentials(), Some((String::new(), "p@ss+w".to_owned())));
        assert_eq!(url.database(), Some("3"));
        let url: RedisUrl = "redis://[::1]:7000".parse().expect("a URL");
        assert_eq!((url.address(), url.credentials(), url.database()), (("::1", 7_000), None, None));
    }

    #[test]
    fn what_is_shown_has_no_password() {
        let url: RedisUrl = "redis://me:secret@h:1/2".parse().expect("a URL");
        assert_eq!(url.to_string(), "redis://h:1");
        assert!(!format!("{url:?}").contains("secret"));
        assert!(url.with_password().contains("secret"));
    }

    #[test]
    fn other_urls_are_refused() {
        for text in ["", "127.0.0.1:6379", "rediss://h", "http://h", "redis://", "redis:///3", "redis://h/x"] {
            assert!(text.parse::<RedisUrl>().is_err(), "{text}");
        }
    }
}

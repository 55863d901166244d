//! The store, as `store.url` names it.

use std::{fmt, path::PathBuf, str::FromStr};

use super::{RedisUrl, RedisUrlError};

/// The store that `store.url` names. Shown without a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// In a folder; in the data folder if none is given.
    Embedded(Option<PathBuf>),
    Redis(RedisUrl),
    /// Nowhere: for tests. Everything is gone with the process.
    Memory,
}

impl FromStr for StoreUrl {
    /// What would be right, as a sentence that shows nothing of what was given: that may hold a password.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("embedded", "")) => Ok(Self::Embedded(None)),
            Some(("embedded", path)) => Ok(Self::Embedded(Some(path.into()))),
            Some(("memory", "")) => Ok(Self::Memory),
            Some((scheme, _)) if RedisUrl::has_scheme(scheme) => {
                text.parse().map(Self::Redis).map_err(|error: RedisUrlError| error.to_string())
            }
            Some(_) | None => Err("it must be `embedded:`, `embedded:FOLDER`, `redis://HOST`, `rediss://HOST`, \
                                   `redis+unix:///SOCKET`, `redis-sentinel://HOST,HOST/SERVICE`, \
                                   `rediss-sentinel://HOST,HOST/SERVICE` or `memory:`"
                .into()),
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded(None) => f.write_str("embedded:"),
            Self::Embedded(Some(path)) => write!(f, "embedded:{}", path.display()),
            Self::Redis(url) => url.fmt(f),
            Self::Memory => f.write_str("memory:"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read_and_shown_as_it_was() {
        for (text, expected) in [
            ("embedded:", StoreUrl::Embedded(None)),
            ("embedded:a folder/with:colon", StoreUrl::Embedded(Some("a folder/with:colon".into()))),
            ("redis://h:6379/0", StoreUrl::Redis("redis://h".parse().unwrap())),
            ("redis+unix:///s?db=0", StoreUrl::Redis("unix:///s".parse().unwrap())),
            ("memory:", StoreUrl::Memory),
        ] {
            assert_eq!(text.parse(), Ok(expected.clone()));
            assert_eq!(expected.to_string(), text);
        }
    }

    #[test]
    fn an_error_lists_every_form_of_a_store_url() {
        for text in ["", "embedded", "memory:x", "Redis://h", "postgres://h"] {
            let error = text.parse::<StoreUrl>().unwrap_err();
            for form in [
                "embedded:",
                "embedded:FOLDER",
                "redis://",
                "rediss://",
                "redis+unix://",
                "redis-sentinel://",
                "memory:",
            ] {
                assert!(error.contains(form), "{error}");
            }
        }
        assert_eq!("redis://".parse::<StoreUrl>(), Err(RedisUrlError::Host.to_string()));
    }
}

//! Which store is meant, and how it is opened.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::ToolError;
use crate::{
    config::{StoreConfig, StoreUrl},
    store::{Store, StoreError, StoreReader, marker_of, open},
};

/// A store that a command is about.
#[derive(Clone, Debug)]
pub struct StoreLocation {
    /// The URL of an embedded store has its folder, from the root.
    config: StoreConfig,
    data_dir: PathBuf,
}

/// A store that is open to be written to, and ours.
pub(super) struct Owned {
    pub(super) store: Arc<dyn Store>,
    /// Reads without putting anything in order, as the owner of a Redis would.
    pub(super) reader: Arc<dyn StoreReader>,
}

/// A store that is open to be read, and that nobody else uses meanwhile.
pub(super) struct Source {
    pub(super) reader: Arc<dyn StoreReader>,
    /// Who holds a Redis; what is in a folder is not owned, but locked.
    owner: Option<Arc<dyn Store>>,
}

impl Source {
    pub(super) async fn close(&self) {
        if let Some(owner) = &self.owner {
            owner.close().await;
        }
    }
}

impl From<Owned> for Source {
    fn from(Owned { store, reader }: Owned) -> Self {
        Self { reader, owner: Some(store) }
    }
}

impl StoreLocation {
    /// The store at `url`, with all else as it is configured for the server's.
    ///
    /// # Errors
    /// A store that keeps nothing.
    pub fn new(url: StoreUrl, config: StoreConfig, data_dir: &Path) -> Result<Self, ToolError> {
        let (url, ca_file) = match url {
            StoreUrl::Embedded(folder) => {
                let folder = folder.unwrap_or_else(|| data_dir.join("store"));
                (StoreUrl::Embedded(Some(std::path::absolute(&folder).unwrap_or(folder))), None)
            }
            // It may be configured for the other side of a copy.
            StoreUrl::Redis(redis) if !redis.tls => (StoreUrl::Redis(redis), None),
            StoreUrl::Redis(redis) => (StoreUrl::Redis(redis), config.ca_file),
            StoreUrl::Memory => return Err(ToolError::Memory),
        };
        Ok(Self { config: StoreConfig { url, ca_file, ..config }, data_dir: data_dir.into() })
    }

    /// Whether both are the same store, as far as their names show.
    pub(super) fn is(&self, other: &Self) -> bool {
        match (&self.config.url, &other.config.url) {
            (StoreUrl::Redis(a), StoreUrl::Redis(b)) => {
                (&a.servers, a.database, &self.config.key_prefix) == (&b.servers, b.database, &other.config.key_prefix)
            }
            (StoreUrl::Embedded(_), StoreUrl::Embedded(_)) => absolute(self.folder()) == absolute(other.folder()),
            (StoreUrl::Redis(_) | StoreUrl::Embedded(_) | StoreUrl::Memory, _) => false,
        }
    }

    /// Opens it to look at it; a Redis may be in use meanwhile.
    pub(super) async fn open_to_read(&self) -> Result<Arc<dyn StoreReader>, ToolError> {
        self.must_exist()?;
        open::open_to_read(&self.config, &self.data_dir).await.map_err(|error| self.failed(error))
    }

    /// Opens it to copy from it; it must be there already. Nothing of the fleet in it is changed.
    pub(super) async fn open_source(&self) -> Result<Source, ToolError> {
        match self.config.url {
            StoreUrl::Redis(_) => Ok(self.open().await?.into()),
            StoreUrl::Embedded(_) | StoreUrl::Memory => Ok(Source { reader: self.open_to_read().await?, owner: None }),
        }
    }

    /// Opens it, and owns what is in it. It is made if it is not there.
    pub(super) async fn open(&self) -> Result<Owned, ToolError> {
        let store = open::open(&self.config, &self.data_dir).await.map_err(|error| self.failed(error))?;
        let reader: Arc<dyn StoreReader> = match self.config.url {
            StoreUrl::Redis(_) => self.open_to_read().await?,
            StoreUrl::Embedded(_) | StoreUrl::Memory => store.clone(),
        };
        Ok(Owned { store, reader })
    }

    /// Whether a server may change it while it is looked at.
    pub(super) fn may_be_in_use(&self) -> bool {
        match self.config.url {
            StoreUrl::Redis(_) => true,
            StoreUrl::Embedded(_) | StoreUrl::Memory => false,
        }
    }

    /// This store cannot be used.
    pub(super) fn failed(&self, error: StoreError) -> ToolError {
        ToolError::Store { location: self.to_string(), error }
    }

    /// How to take out all that is in it.
    pub(super) fn how_to_empty(&self) -> String {
        match self.folder() {
            Some(folder) => {
                let marker = marker_of(folder).filter(|marker| marker.exists());
                let marker = marker.map_or_else(String::new, |marker| format!(" and the file {}", marker.display()));
                format!("remove the folder {}{marker}", folder.display())
            }
            None => format!("delete all keys that begin with {}", self.config.key_prefix),
        }
    }

    /// An embedded store is made where there is none when it is opened. Whoever wants to see one does not mean that. One that
    /// is gone is distinguished from one that never was.
    fn must_exist(&self) -> Result<(), ToolError> {
        let Some(folder) = self.folder() else { return Ok(()) };
        if marker_of(folder).is_some_and(|marker| marker.exists()) {
            return Ok(());
        }
        match folder.join("agents").try_exists() {
            Ok(true) => Ok(()),
            Ok(false) => Err(ToolError::Missing(folder.into())),
            Err(error) => Err(self.failed(StoreError::unavailable(error))),
        }
    }

    fn folder(&self) -> Option<&Path> {
        match &self.config.url {
            StoreUrl::Embedded(folder) => folder.as_deref(),
            StoreUrl::Redis(_) | StoreUrl::Memory => None,
        }
    }
}

/// One name for one folder, however it was named; if it exists.
fn absolute(folder: Option<&Path>) -> Option<PathBuf> {
    folder.map(|folder| folder.canonicalize().unwrap_or_else(|_| folder.into()))
}

impl fmt::Display for StoreLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.config.url {
            StoreUrl::Redis(url) => write!(f, "{url} (key prefix {})", self.config.key_prefix),
            url @ (StoreUrl::Embedded(_) | StoreUrl::Memory) => url.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn location(url: &str, key_prefix: &str, data_dir: &Path) -> StoreLocation {
        let config = StoreConfig { key_prefix: key_prefix.into(), ..Config::default().store };
        StoreLocation::new(url.parse().unwrap(), config, data_dir).unwrap()
    }

    #[test]
    fn one_store_is_known_by_all_its_names() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        std::fs::create_dir_all(data.join("store")).unwrap();
        let is = |a: (&str, &str), b: (&str, &str)| location(a.0, a.1, &data).is(&location(b.0, b.1, &data));
        let same_folder = format!("embedded:{}/../data/./store", data.display());
        assert!(is(("embedded:", "a:"), (&same_folder, "a:")));
        assert!(!is(("embedded:", "a:"), ("embedded:elsewhere", "a:")));
        assert!(is(("redis://h", "a:"), ("redis://user:password@h:6379/0", "a:")));
        for other in [("redis://h", "b:"), ("redis://h/1", "a:"), ("redis://h:1", "a:"), ("embedded:", "a:")] {
            assert!(!is(("redis://h", "a:"), other), "{other:?}");
        }
    }

    #[test]
    fn a_place_is_shown_with_what_tells_it_from_others_and_without_a_password() {
        let shown = |url| location(url, "a:", Path::new("/data")).to_string();
        assert_eq!(shown("embedded:"), "embedded:/data/store");
        assert_eq!(shown("embedded:/x/./y"), "embedded:/x/y");
        assert_eq!(shown("redis://:hunter2@h"), "redis://:***@h:6379/0 (key prefix a:)");
    }

    #[test]
    fn an_authority_is_only_for_the_side_that_speaks_tls() {
        let config = StoreConfig { ca_file: Some("ca.pem".into()), ..Config::default().store };
        let ca_file = |url: &str| {
            let location = StoreLocation::new(url.parse().unwrap(), config.clone(), Path::new("data")).unwrap();
            location.config.ca_file.is_some()
        };
        assert!(ca_file("rediss://h"));
        assert!(!ca_file("redis://h") && !ca_file("embedded:"));
    }
}

//! The store that a configuration asks for.

use std::{path::Path, sync::Arc, time::Duration};

use super::{
    EmbeddedReader, EmbeddedStore, MemoryStore, RedisReader, RedisSettings, RedisStore, Store, StoreError, StoreReader,
};
use crate::config::{RedisUrl, StoreConfig, StoreUrl};

/// Opens the store, and owns what is in it.
pub async fn open(config: &StoreConfig, data_dir: &Path) -> Result<Arc<dyn Store>, StoreError> {
    Ok(match &config.url {
        StoreUrl::Embedded(path) => {
            if config.accept_loss {
                tracing::warn!("store.accept_loss is set: take it out again once the server has started");
            }
            Arc::new(EmbeddedStore::open(path.as_deref().unwrap_or(&data_dir.join("store")), config.accept_loss)?)
        }
        StoreUrl::Redis(url) => Arc::new(RedisStore::open(&settings(config, url)).await?),
        StoreUrl::Memory => Arc::new(MemoryStore::default()),
    })
}

/// Opens the store to look at it, without writing to it. A Redis may be in use meanwhile; a folder may not.
pub async fn open_to_read(config: &StoreConfig, data_dir: &Path) -> Result<Arc<dyn StoreReader>, StoreError> {
    Ok(match &config.url {
        StoreUrl::Redis(url) => Arc::new(RedisReader::open(&settings(config, url)).await?),
        StoreUrl::Embedded(path) => {
            Arc::new(EmbeddedReader::open(path.as_deref().unwrap_or(&data_dir.join("store")), config.accept_loss)?)
        }
        StoreUrl::Memory => open(config, data_dir).await?,
    })
}

fn settings(config: &StoreConfig, url: &RedisUrl) -> RedisSettings {
    RedisSettings {
        url: url.clone(),
        key_prefix: config.key_prefix.clone(),
        ca_file: config.ca_file.clone(),
        min_replicas: config.min_replicas,
        timeout: Duration::from_millis(config.timeout_ms),
        connect_timeout: Duration::from_millis(config.connect_timeout_ms),
    }
}

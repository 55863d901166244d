//! The registrations of the embedded store.

use std::{
    path::Path,
    sync::{Mutex, PoisonError},
};

use fjall::PersistMode;

use super::{
    LOAD_CHUNK, Loading,
    database::{Reopening, Tables},
    number,
};
use crate::{
    fleet::AgentId,
    store::{
        Change, Chunk, Loaded, StoreError,
        record::{decode_registration, encode_registration},
    },
};

/// Version of the embedded store's layout.
const FORMAT: &str = "1";

/// More than any registration takes.
const PROBE_BYTES: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Registry {
    database: Reopening,
    /// New agents whose commit failed: they were refused, and yet may stand in the journal.
    doubtful: Mutex<Vec<AgentId>>,
}

impl Registry {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let registry = Self { database: Reopening::open(path, "agents")?, doubtful: Mutex::default() };
        check_format(path, &registry.tables()?)?;
        Ok(registry)
    }

    pub(super) fn commit(&self, changes: &[Change]) -> Result<(), StoreError> {
        let tables = self.tables()?;
        let mut batch = tables.database.batch().durability(Some(PersistMode::SyncAll));
        if changes.is_empty() {
            // fjall would skip an empty transaction, and a small one may fit where the next registration does not.
            batch.insert(&tables.meta, "probe", [0; PROBE_BYTES]);
        }
        for change in changes {
            match change {
                Change::Register(registration) | Change::Reregister(registration) => {
                    batch.insert(&tables.data, registration.id.get().to_be_bytes(), encode_registration(registration));
                }
                Change::Deregister(id) => batch.remove(&tables.data, id.get().to_be_bytes()),
            }
        }
        batch.commit().map_err(|error| {
            let new = changes.iter().filter_map(|change| match change {
                Change::Register(registration) => Some(registration.id),
                Change::Reregister(_) | Change::Deregister(_) => None,
            });
            self.doubtful.lock().unwrap_or_else(PoisonError::into_inner).extend(new);
            self.database.failed(tables, &error)
        })
    }

    pub(super) fn load(&self, loading: &mut Loading<'_>) -> Result<Loaded, StoreError> {
        let mut registrations = Vec::with_capacity(LOAD_CHUNK);
        for entry in self.tables()?.data.iter() {
            let (key, value) = entry.into_inner().map_err(StoreError::unavailable)?;
            let id = AgentId::new(number(&key));
            registrations.extend(loading.read("registration", id, decode_registration(id, &value)));
            if registrations.len() == LOAD_CHUNK {
                let full = std::mem::replace(&mut registrations, Vec::with_capacity(LOAD_CHUNK));
                loading.hand_over(Chunk::Registrations(full));
            }
            if !loading.wanted {
                break;
            }
        }
        loading.hand_over(Chunk::Registrations(registrations));
        Ok(loading.loaded)
    }

    fn tables(&self) -> Result<Tables, StoreError> {
        self.database.tables(|tables| {
            let mut doubtful = self.doubtful.lock().unwrap_or_else(PoisonError::into_inner);
            let mut batch = tables.database.batch().durability(Some(PersistMode::SyncAll));
            doubtful.iter().for_each(|id| batch.remove(&tables.data, id.get().to_be_bytes()));
            batch.commit().map_err(StoreError::unavailable)?;
            doubtful.clear();
            Ok(())
        })
    }
}

fn check_format(path: &Path, tables: &Tables) -> Result<(), StoreError> {
    match tables.meta.get("format").map_err(StoreError::unavailable)? {
        None => {
            tables.meta.insert("format", FORMAT).map_err(StoreError::unavailable)?;
            tables.database.persist(PersistMode::SyncAll).map_err(StoreError::unavailable)
        }
        Some(format) if *format == *FORMAT.as_bytes() => Ok(()),
        Some(format) => {
            let (path, format) = (path.display(), String::from_utf8_lossy(&format));
            Err(StoreError::Format(
                format!(
                    "{path} has format {format}, this version reads format {FORMAT}: use the version that wrote it"
                )
                .into(),
            ))
        }
    }
}

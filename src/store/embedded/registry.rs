//! The registrations of the embedded store.

use std::path::Path;

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
pub(super) const FORMAT: &str = "2";

/// More than any registration takes.
const PROBE_BYTES: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Registry {
    database: Reopening,
}

impl Registry {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let registry = Self { database: Reopening::open(path, "agents")? };
        check_format(path, &registry.database.tables()?)?;
        Ok(registry)
    }

    pub(super) fn commit(&self, changes: &[Change]) -> Result<(), StoreError> {
        let tables = self.database.tables()?;
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
        // It may stand in the journal and come back when the database is opened again.
        batch.commit().map_err(|error| StoreError::InDoubt(self.database.failed(tables, &error)))
    }

    pub(super) fn load(&self, loading: &mut Loading<'_>) -> Result<Loaded, StoreError> {
        let mut registrations = Vec::with_capacity(LOAD_CHUNK);
        for entry in self.database.tables()?.data.iter() {
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

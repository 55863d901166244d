//! A transaction on the registrations, policies and threats, with the ledger that it leads to.

use std::{
    collections::{HashMap, hash_map::Entry},
    path::Path,
    sync::Arc,
};

use fjall::{Keyspace, OwnedWriteBatch, PersistMode};

use super::{
    database::{Tables, read_failed},
    ledger::{LEDGER, Ledger, Sum, digest},
    registry::{Registry, incomplete},
    threats::Threats,
};
use crate::store::StoreError;

/// Kinds of record that the ledger counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Agent,
    Policies,
    Threat,
}

impl Ledger {
    pub(super) fn of(&mut self, kind: Kind) -> &mut Sum {
        match kind {
            Kind::Agent => &mut self.agents,
            Kind::Policies => &mut self.policies,
            Kind::Threat => &mut self.threats,
        }
    }
}

/// A transaction that is being put together.
pub(super) struct Changing<'a> {
    registry: &'a Registry,
    pub(super) tables: Tables,
    threats: Option<Threats>,
    pub(super) batch: OwnedWriteBatch,
    ledger: Ledger,
    /// The checksums of the records that it has changed.
    changed: HashMap<(Kind, Vec<u8>), Option<u64>>,
}

impl<'a> Changing<'a> {
    /// A transaction on what `ledger` counts.
    pub(super) fn of(registry: &'a Registry, tables: Tables, ledger: Ledger, durability: Option<PersistMode>) -> Self {
        let batch = tables.database.batch().durability(durability);
        let ledger = Ledger { commit: ledger.commit + 1, ..ledger };
        Self { registry, tables, threats: None, batch, ledger, changed: HashMap::new() }
    }

    pub(super) fn put(&mut self, kind: Kind, key: &[u8], record: &[u8]) -> Result<(), StoreError> {
        let keyspace = self.replace(kind, key, Some(digest(key, record)))?;
        self.batch.insert(&keyspace, key, record);
        Ok(())
    }

    pub(super) fn remove(&mut self, kind: Kind, key: &[u8]) -> Result<(), StoreError> {
        let keyspace = self.replace(kind, key, None)?;
        self.batch.remove(&keyspace, key);
        Ok(())
    }

    pub(super) fn threats(&mut self) -> Result<&Threats, StoreError> {
        if self.threats.is_none() {
            self.threats = Some(Threats::of(&self.tables).map_err(|error| self.failed(&error))?);
        }
        Ok(self.threats.as_ref().expect("it has just been set"))
    }

    /// Commits it. Answers what there is now.
    pub(super) fn commit(mut self) -> Result<Ledger, (Tables, fjall::Error)> {
        self.batch.insert(&self.tables.meta, LEDGER, self.ledger.encode());
        drop(self.threats);
        match self.batch.commit() {
            Ok(()) => Ok(self.ledger),
            Err(error) => Err((self.tables, error)),
        }
    }

    fn replace(&mut self, kind: Kind, key: &[u8], new: Option<u64>) -> Result<Keyspace, StoreError> {
        let keyspace = match kind {
            Kind::Agent => self.tables.data.clone(),
            Kind::Policies => self.tables.meta.clone(),
            Kind::Threat => self.threats()?.entries.clone(),
        };
        let old = match self.changed.entry((kind, key.to_vec())) {
            Entry::Occupied(mut entry) => std::mem::replace(entry.get_mut(), new),
            Entry::Vacant(entry) => {
                entry.insert(new);
                let record = keyspace.get(key).map_err(|error| read_failed(self.registry.path(), &error))?;
                record.map(|record| digest(key, &record))
            }
        };
        self.ledger.of(kind).replace(old, new);
        Ok(keyspace)
    }

    fn failed(&self, error: &fjall::Error) -> StoreError {
        read_failed(self.registry.path(), error)
    }
}

/// The fleet as it stands at one moment, and what the ledger says of that moment.
pub(super) struct View {
    pub(super) snapshot: fjall::Snapshot,
    pub(super) tables: Tables,
    pub(super) ledger: Ledger,
    pub(super) path: Arc<Path>,
}

impl View {
    /// Makes sure that what was found of a kind is what should be there.
    pub(super) fn must_be_all(&self, kind: Kind, found: Sum) -> Result<(), StoreError> {
        let mut all = self.ledger;
        let should = std::mem::replace(all.of(kind), found);
        if should == found { Ok(()) } else { Err(incomplete(&self.path, &self.ledger, &all)) }
    }
}

//! The registrations, policies and threats of the embedded store: the transactions that change them.

use std::{path::Path, sync::Arc};

use fjall::PersistMode;

use super::{
    database::{Reopening, Tables},
    threats::Threats,
};
use crate::{
    fleet::{AgentId, Partition, PolicyVersion},
    policy::Scope,
    store::{Change, StoreError, loading::ids_of, policy_record::encode_policies, record::encode_registration},
};

/// Version of the embedded store's layout.
pub(super) const FORMAT: &str = "2";

/// The name of a scope, and its record.
pub(super) type ScopeRecord = (Box<[u8]>, fjall::Slice);

/// What the keys of policies begin with.
const POLICIES: &str = "policies:";
/// The key of the newest version of a policy.
const POLICY: &str = "policy";

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
                Change::Report(reported) => {
                    Threats::of(&tables).map_err(StoreError::unavailable)?.report(&mut batch, reported);
                }
                Change::SetPolicies(policies) => {
                    batch.insert(&tables.meta, policies_key(policies.scope()), encode_policies(policies));
                }
                Change::ForgetPolicies(scope) => batch.remove(&tables.meta, policies_key(scope)),
                Change::PolicyVersion(version) => batch.insert(&tables.meta, POLICY, version.get().to_string()),
            }
        }
        // It may stand in the journal and come back when the database is opened again.
        batch.commit().map_err(|error| StoreError::InDoubt(self.database.failed(tables, &error)))
    }

    pub(super) fn tables(&self) -> Result<Tables, StoreError> {
        self.database.tables()
    }

    /// The names of the scopes that have policies, with their records as they are stored.
    pub(super) fn policies(&self) -> Result<impl Iterator<Item = Result<ScopeRecord, StoreError>> + use<>, StoreError> {
        Ok(self.database.tables()?.meta.prefix(POLICIES).map(|entry| match entry.into_inner() {
            Ok((key, record)) => Ok((key[POLICIES.len()..].into(), record)),
            Err(error) => Err(StoreError::unavailable(error)),
        }))
    }

    /// See [`Reopening::failed`].
    pub(super) fn failed(&self, tables: Tables, error: &fjall::Error) -> Arc<str> {
        self.database.failed(tables, error)
    }

    /// The newest version of a policy that was ever given out.
    pub(super) fn policy_version(&self) -> Result<PolicyVersion, StoreError> {
        let digits = self.database.tables()?.meta.get(POLICY).map_err(StoreError::unavailable)?;
        let number = digits.map(|digits| std::str::from_utf8(&digits).ok()?.parse().ok());
        let unreadable = || StoreError::Format("the newest policy version in the store is not a number".into());
        number.map_or(Ok(PolicyVersion::NONE), |number| number.map(PolicyVersion::new).ok_or_else(unreadable))
    }

    /// The agents of a partition in the order of their ids, with their records as they are stored.
    pub(super) fn records(
        &self,
        partition: Partition,
    ) -> Result<impl Iterator<Item = Result<(AgentId, fjall::Slice), StoreError>> + use<>, StoreError> {
        let ids = ids_of(partition);
        let keys = ids.start().get().to_be_bytes()..=ids.end().get().to_be_bytes();
        Ok(self.database.tables()?.data.range(keys).filter_map(|entry| match entry.into_inner() {
            // Keys of another length are not ours.
            Ok((key, record)) => Some(Ok((AgentId::new(u64::from_be_bytes((*key).try_into().ok()?)), record))),
            Err(error) => Some(Err(StoreError::unavailable(error))),
        }))
    }
}

fn policies_key(scope: &Scope) -> String {
    format!("{POLICIES}{scope}")
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

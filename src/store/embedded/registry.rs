//! The registrations, policies and threats of the embedded store: the transactions that change them.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use fjall::{PersistMode, Readable};

use super::{
    changing::{Changing, Kind, View},
    database::{REMEDY, Reopening, Tables, read_failed, refusal},
    files::{Damage, Unfit},
    ledger::{LEDGER, Ledger, LedgerFile, Sum},
    salvage::salvage,
    threats::Threats,
};
use crate::{
    fleet::{AgentId, Partition, PolicyVersion},
    policy::Scope,
    store::{Change, StoreError, loading::ids_of, policy_record::encode_policies, record::encode_registration},
};

/// Version of the embedded store's layout.
pub(super) const FORMAT: &str = "3";
/// The layout without a ledger; it is brought up to date when it is opened.
const UNCOUNTED: &str = "2";

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
    /// Held from the reading of the ledger to its writing: transactions go one after the other.
    book: Mutex<Book>,
}

/// Where the ledger stands.
#[derive(Debug)]
struct Book {
    file: LedgerFile,
    /// None: a transaction has failed, and the database must be asked.
    ledger: Option<Ledger>,
}

impl Registry {
    /// Opens the database in `path`. One that does not hold what it should is refused, or, with `accept_loss`, taken as it
    /// is.
    pub(super) fn open(path: &Path, accept_loss: bool) -> Result<Self, StoreError> {
        let (mut file, noted) = LedgerFile::open(&path.with_file_name(LEDGER))
            .map_err(|error| StoreError::unavailable(format_args!("the file {LEDGER} cannot be read: {error}")))?;
        let least = noted.map_or(0, |ledger| ledger.commit);
        let opened = match Reopening::open(path, "agents", least) {
            Err(Unfit::Damaged(damage)) if accept_loss => {
                tracing::error!(%damage, "the store is damaged; what can still be read is taken (store.accept_loss)");
                salvage(path)?;
                Reopening::open(path, "agents", 0)
            }
            opened => opened,
        };
        let database = opened.map_err(|unfit| refusal(path, unfit))?;
        let tables = database.tables()?;
        let format = check_format(path, &tables)?;
        let held = ledger_in(path, &tables)?;
        let is_whole = held.is_some_and(|held| held.commit >= least);
        let ledger = match held {
            Some(held) if is_whole && !accept_loss => held,
            _ => {
                let found = count(path, &tables)?;
                if !accept_loss {
                    must_be_uncounted(path, format, noted, &found)?;
                } else if let Some(should) = if is_whole { held } else { noted.or(held) } {
                    say_what_is_left(path, &should, &found);
                }
                let commit = 1 + least.max(held.map_or(0, |held| held.commit));
                begin(&tables, Ledger { commit, ..found })?
            }
        };
        if noted.is_none() && format == Format::Current {
            tracing::warn!(
                path = %path.display(),
                "the file {LEDGER} beside the registrations is missing or cannot be read; it is made anew from what the \
                 store says of itself"
            );
        }
        file.write(&ledger)
            .map_err(|error| StoreError::unavailable(format_args!("{LEDGER} cannot be written: {error}")))?;
        database.must_have(ledger.commit);
        Ok(Self { database, book: Mutex::new(Book { file, ledger: Some(ledger) }) })
    }

    pub(super) fn path(&self) -> &Path {
        self.database.path()
    }

    pub(super) fn commit(&self, changes: &[Change]) -> Result<(), StoreError> {
        let mut book = self.book();
        let mut changing = self.change(&mut book, Some(PersistMode::SyncAll))?;
        if changes.is_empty() {
            // fjall would skip an empty transaction, and a small one may fit where the next registration does not.
            changing.batch.insert(&changing.tables.meta, "probe", [0; PROBE_BYTES]);
        }
        for change in changes {
            match change {
                Change::Register(registration) | Change::Reregister(registration) => {
                    let key = registration.id.get().to_be_bytes();
                    changing.put(Kind::Agent, &key, &encode_registration(registration))?;
                }
                Change::Deregister(id) => changing.remove(Kind::Agent, &id.get().to_be_bytes())?,
                Change::Report(reported) => Threats::report(&mut changing, reported)?,
                Change::SetPolicies(policies) => {
                    let record = encode_policies(policies);
                    changing.put(Kind::Policies, policies_key(policies.scope()).as_bytes(), record.as_ref())?;
                }
                Change::ForgetPolicies(scope) => changing.remove(Kind::Policies, policies_key(scope).as_bytes())?,
                Change::PolicyVersion(version) => {
                    changing.batch.insert(&changing.tables.meta, POLICY, version.get().to_string());
                }
            }
        }
        let ledger = self.finish(&mut book, changing)?;
        // Only what stands in both places is answered for.
        book.file.write(&ledger).map_err(|error| {
            StoreError::InDoubt(format!("writing the file {LEDGER} of the store failed ({error})").into())
        })?;
        self.database.must_have(ledger.commit);
        Ok(())
    }

    /// Makes a change that nobody waits for, without an fsync.
    pub(super) fn change_softly(
        &self,
        change: impl FnOnce(&mut Changing<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut book = self.book();
        let mut changing = self.change(&mut book, None)?;
        change(&mut changing)?;
        self.finish(&mut book, changing).map(|_| ())
    }

    fn change(&self, book: &mut Book, durability: Option<PersistMode>) -> Result<Changing<'_>, StoreError> {
        let tables = self.database.tables()?;
        let ledger = match book.ledger {
            Some(ledger) => ledger,
            None => ledger_in(self.path(), &tables)?
                .ok_or_else(|| refusal(self.path(), Damage::new(self.path(), "has lost its ledger").into()))?,
        };
        Ok(Changing::of(self, tables, ledger, durability))
    }

    fn finish(&self, book: &mut Book, changing: Changing<'_>) -> Result<Ledger, StoreError> {
        match changing.commit() {
            Ok(ledger) => Ok(*book.ledger.insert(ledger)),
            Err((tables, error)) => {
                book.ledger = None;
                // It may stand in the journal and come back when the database is opened again.
                Err(StoreError::InDoubt(self.database.failed(tables, &error)))
            }
        }
    }

    /// The fleet as it is now.
    pub(super) fn view(&self) -> Result<Arc<View>, StoreError> {
        let mut book = self.book();
        let tables = self.database.tables()?;
        if book.ledger.is_none() {
            book.ledger = ledger_in(self.path(), &tables)?;
        }
        let ledger = book.ledger.unwrap_or_default();
        Ok(Arc::new(View { snapshot: tables.database.snapshot(), tables, ledger, path: self.path().into() }))
    }

    pub(super) fn tables(&self) -> Result<Tables, StoreError> {
        self.database.tables()
    }

    /// The newest version of a policy that was ever given out.
    pub(super) fn policy_version(&self) -> Result<PolicyVersion, StoreError> {
        let digits = self.database.tables()?.meta.get(POLICY).map_err(|error| read_failed(self.path(), &error))?;
        let number = digits.map(|digits| std::str::from_utf8(&digits).ok()?.parse().ok());
        let unreadable = || StoreError::Format("the newest policy version in the store is not a number".into());
        number.map_or(Ok(PolicyVersion::NONE), |number| number.map(PolicyVersion::new).ok_or_else(unreadable))
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl View {
    /// The names of the scopes that have policies, with their records as they are stored.
    pub(super) fn policies(&self) -> impl Iterator<Item = Result<ScopeRecord, StoreError>> {
        self.snapshot.prefix(&self.tables.meta, POLICIES).map(|entry| match entry.into_inner() {
            Ok((key, record)) => Ok((key[POLICIES.len()..].into(), record)),
            Err(error) => Err(read_failed(&self.path, &error)),
        })
    }

    /// The agents of a partition in the order of their ids, with their records as they are stored.
    pub(super) fn records(
        &self,
        partition: Partition,
    ) -> impl Iterator<Item = Result<(AgentId, fjall::Slice), StoreError>> {
        let ids = ids_of(partition);
        let keys = ids.start().get().to_be_bytes()..=ids.end().get().to_be_bytes();
        self.snapshot.range(&self.tables.data, keys).filter_map(|entry| match entry.into_inner() {
            Ok((key, record)) => Some(Ok((agent_of(&key)?, record))),
            Err(error) => Some(Err(read_failed(&self.path, &error))),
        })
    }

    /// Adds up the scopes that [`View::policies`] has told of.
    pub(super) fn count_policies(sum: &mut Sum, scope: &[u8], record: &[u8]) {
        sum.add(&[POLICIES.as_bytes(), scope].concat(), record);
    }
}

/// The agent that a key names. Keys of another length are not ours.
fn agent_of(key: &[u8]) -> Option<AgentId> {
    Some(AgentId::new(u64::from_be_bytes(key.try_into().ok()?)))
}

fn policies_key(scope: &Scope) -> String {
    format!("{POLICIES}{scope}")
}

/// The store in `path` holds `found` and should hold `should`.
pub(super) fn incomplete(path: &Path, should: &Ledger, found: &Ledger) -> StoreError {
    let what = format!("does not hold what was acknowledged: {}", should.against(found));
    StoreError::Damaged(format!("{}; {REMEDY}", Damage::new(path, what)).into())
}

/// The ledger that the database holds.
fn ledger_in(path: &Path, tables: &Tables) -> Result<Option<Ledger>, StoreError> {
    let line = tables.meta.get(LEDGER).map_err(|error| read_failed(path, &error))?;
    Ok(line.and_then(|line| Ledger::decode(&line)))
}

/// Makes sure that a database without a (recent) ledger is new, or of a time before there was one.
fn must_be_uncounted(path: &Path, format: Format, noted: Option<Ledger>, found: &Ledger) -> Result<(), StoreError> {
    let damaged = |what: &str| Err(refusal(path, Damage::new(path, what).into()));
    match (format, noted) {
        (_, Some(noted)) => Err(incomplete(path, &noted, found)),
        (Format::Current, None) => damaged("has lost its ledger"),
        (Format::None, None) if *found != Ledger::default() => {
            damaged("does not say which format it has, though there are records in it")
        }
        (Format::None | Format::Uncounted, None) => Ok(()),
    }
}

fn say_what_is_left(path: &Path, should: &Ledger, found: &Ledger) {
    if (Ledger { commit: found.commit, ..*should }) != *found {
        let (left, path) = (should.against(found), path.display());
        tracing::error!(%path, %left, "part of the store is lost; the server goes on with what is left (store.accept_loss)");
    }
}

/// Writes the first ledger of a database, or one that accepts what there is.
fn begin(tables: &Tables, ledger: Ledger) -> Result<Ledger, StoreError> {
    let mut batch = tables.database.batch().durability(Some(PersistMode::SyncAll));
    batch.insert(&tables.meta, "format", FORMAT);
    batch.insert(&tables.meta, LEDGER, ledger.encode());
    batch.commit().map_err(StoreError::unavailable)?;
    Ok(ledger)
}

/// What there is in the database.
fn count(path: &Path, tables: &Tables) -> Result<Ledger, StoreError> {
    let mut found = Ledger::default();
    let failed = |error: fjall::Error| read_failed(path, &error);
    for entry in tables.data.iter() {
        let (key, record) = entry.into_inner().map_err(failed)?;
        if agent_of(&key).is_some() {
            found.agents.add(&key, &record);
        }
    }
    for entry in tables.meta.prefix(POLICIES) {
        let (key, record) = entry.into_inner().map_err(failed)?;
        found.policies.add(&key, &record);
    }
    for entry in Threats::of(tables).map_err(failed)?.rows.iter() {
        let (key, record) = entry.into_inner().map_err(failed)?;
        found.threats.add(&key, &record);
    }
    Ok(found)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// A new database.
    None,
    Uncounted,
    Current,
}

fn check_format(path: &Path, tables: &Tables) -> Result<Format, StoreError> {
    match tables.meta.get("format").map_err(|error| read_failed(path, &error))? {
        None => Ok(Format::None),
        Some(format) if *format == *FORMAT.as_bytes() => Ok(Format::Current),
        Some(format) if *format == *UNCOUNTED.as_bytes() => Ok(Format::Uncounted),
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

//! The registrations, policies and threats of the embedded store: the transactions that change them.

use std::{path::Path, sync::Arc};

use fjall::{PersistMode, Readable};
use parking_lot::{Mutex, MutexGuard};

use super::{
    changing::{Changing, Kind, View},
    database::{Reopening, Tables, read_failed, refusal},
    files::Damage,
    findings::Findings,
    ledger::{LEDGER, Ledger, LedgerFile, LedgerKeeper, Sum},
    marker::Marker,
    rescue::{self, rescue},
    threats::{Threats, drop_halves},
};
use crate::{
    fleet::{AgentId, Partition, PolicyVersion},
    limits::STORE_PROBE_BYTES,
    policy::PolicyScope,
    store::{Change, StoreError, loading::ids_of, policy_record::encode_policies, record::encode_registration},
};

/// Version of the embedded store's layout.
pub(super) const FORMAT: &str = "3";
/// The keyspaces, in the order in which they are made.
const KEYSPACES: [&str; 4] = ["agents", "meta", "threats", "threat_bodies"];

/// The name of a scope, and its record.
pub(super) type ScopeRecord = (Box<[u8]>, fjall::Slice);

/// What the keys of policies begin with.
const POLICIES: &str = "policies:";
/// The key of the newest version of a policy.
const POLICY: &str = "policy";

#[derive(Debug)]
pub(super) struct Registry {
    database: Reopening,
    /// Held from the reading of the ledger to its writing: transactions go one after the other.
    book: Mutex<Book>,
}

/// Where the ledger stands.
#[derive(Debug)]
struct Book {
    keeper: LedgerKeeper,
    /// None: a transaction has failed, and the database must be asked.
    ledger: Option<Ledger>,
    marker: Marker,
}

/// An open database, and what it says of itself.
struct Opened {
    database: Reopening,
    tables: Tables,
    is_new: bool,
    held: Option<Ledger>,
}

impl Registry {
    /// Opens the database in `path`. One that does not hold what it should is refused, or, with `accept_loss`, opened with
    /// what is left of it.
    pub(super) fn open(path: &Path, accept_loss: bool, findings: &Findings) -> Result<Self, StoreError> {
        let failed = |error| StoreError::unavailable(format_args!("{} cannot be looked at: {error}", path.display()));
        rescue::finish(path).map_err(failed)?;
        let is_there = path.try_exists().map_err(failed)?;
        let (mut file, noted) = LedgerFile::open(&path.with_file_name(LEDGER))
            .map_err(|error| StoreError::unavailable(format_args!("the file {LEDGER} cannot be read: {error}")))?;
        let marker = Marker::of(path.parent().unwrap_or(path));
        // A folder that was put back from a backup may be older than the marker.
        let noted = if noted.is_none() && !is_there { marker.read().map_err(failed)? } else { noted };
        let (opened, ledger) = match accept_loss {
            false => {
                if let Some(noted) = noted.filter(|_| !is_there) {
                    return Err(missing(path, &marker, &noted));
                }
                open_whole(path, noted)?
            }
            true => open_what_is_left(path, noted, findings)?,
        };
        if noted.is_none() && !opened.is_new {
            findings.odd(format_args!(
                "{} is missing or cannot be read; it is made anew from what the store says of itself",
                path.with_file_name(LEDGER).display()
            ));
        }
        let unwritten = |error| StoreError::unavailable(format_args!("{LEDGER} cannot be written: {error}"));
        file.write(&ledger).map_err(unwritten)?;
        let keeper = LedgerKeeper::start(file).map_err(unwritten)?;
        marker.note(&ledger);
        opened.database.must_have(ledger.commit);
        Ok(Self { database: opened.database, book: Mutex::new(Book { keeper, ledger: Some(ledger), marker }) })
    }

    pub(super) fn path(&self) -> &Path {
        self.database.path()
    }

    pub(super) fn commit(&self, changes: &[Change]) -> Result<(), StoreError> {
        let mut book = self.book();
        let mut changing = self.change(&mut book, Some(PersistMode::SyncAll))?;
        if changes.is_empty() {
            // fjall would skip an empty transaction, and a small one may fit where the next registration does not.
            changing.batch.insert(&changing.tables.meta, "probe", [0; STORE_PROBE_BYTES]);
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
        // Where the file cannot be written nothing is answered for: a loss would not be noticed.
        book.keeper.note(ledger).map_err(|error| {
            StoreError::UnknownOutcome(format!("writing the file {LEDGER} of the store failed ({error})").into())
        })?;
        book.marker.note(&ledger);
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
            None => ledger_in(self.path(), &tables)?.ok_or_else(|| Damage::new(self.path(), "has lost its ledger"))?,
        };
        Ok(Changing::of(self, tables, ledger, durability))
    }

    fn finish(&self, book: &mut Book, changing: Changing<'_>) -> Result<Ledger, StoreError> {
        match changing.commit() {
            Ok(ledger) => Ok(*book.ledger.insert(ledger)),
            Err((tables, error)) => {
                book.ledger = None;
                // It may stand in the journal and come back when the database is opened again.
                Err(StoreError::UnknownOutcome(self.database.failed(tables, &error)))
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
        self.book.lock()
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

    /// Adds up the scopes that [`View::policies`] has returned.
    pub(super) fn count_policies(sum: &mut Sum, scope: &[u8], record: &[u8]) {
        sum.add(&[POLICIES.as_bytes(), scope].concat(), record);
    }
}

/// The agent that a key names. Keys of another length are not ours.
fn agent_of(key: &[u8]) -> Option<AgentId> {
    Some(AgentId::new(u64::from_be_bytes(key.try_into().ok()?)))
}

fn policies_key(scope: &PolicyScope) -> String {
    format!("{POLICIES}{scope}")
}

/// The store in `path` holds `found` and should hold `should`.
pub(super) fn incomplete(path: &Path, should: &Ledger, found: &Ledger) -> StoreError {
    Damage::new(path, format!("does not hold what was acknowledged: {}", should.against(found))).into()
}

/// The whole database is missing, of which `noted` is known.
fn missing(path: &Path, marker: &Marker, noted: &Ledger) -> StoreError {
    let mut what = format!("is missing: {}", noted.against(&Ledger::default()));
    if let Some(marker) = marker.path() {
        what += &format!(" (to begin anew, remove {} and its folder too)", marker.display());
    }
    Damage::new(path, what).into()
}

/// Opens a database that must come as far as `noted`. Answers its ledger too.
fn open_whole(path: &Path, noted: Option<Ledger>) -> Result<(Opened, Ledger), StoreError> {
    let least = noted.map_or(0, |ledger| ledger.commit);
    let opened = open(path, least)?;
    // Bodies are too many.
    opened.tables.must_be_whole(&KEYSPACES[..3])?;
    if let Some(held) = opened.held.filter(|held| held.commit >= least) {
        return Ok((opened, held));
    }
    let found = count(path, &opened.tables)?;
    match noted {
        Some(noted) => Err(incomplete(path, &noted, &found)),
        None if !opened.is_new => Err(Damage::new(path, "has lost its ledger").into()),
        None if found != Ledger::default() => {
            Err(Damage::new(path, "does not say which format it has, though there are records in it").into())
        }
        None => {
            let ledger = begin(&opened.tables, Ledger { commit: 1, ..found })?;
            Ok((opened, ledger))
        }
    }
}

/// Opens a database with what can still be read of it, and reports what is lost. Answers its new ledger too.
fn open_what_is_left(path: &Path, noted: Option<Ledger>, findings: &Findings) -> Result<(Opened, Ledger), StoreError> {
    let read_all = |least| {
        let opened = open(path, least)?;
        opened.tables.must_be_whole(&KEYSPACES)?;
        drop_halves(&opened.tables).map_err(|error| read_failed(path, &error))?;
        let found = count(path, &opened.tables)?;
        Ok::<_, StoreError>((opened, found))
    };
    let least = noted.map_or(0, |ledger| ledger.commit);
    let (opened, found, is_rescued) = match read_all(least) {
        Err(StoreError::Damaged(damage)) => {
            let kept = match rescue(path, &KEYSPACES)? {
                Some(kept) => {
                    format!("What can still be read of it is taken out; the damaged one is kept as {}", kept.display())
                }
                None => "A new one is begun".into(),
            };
            findings.lost(format_args!("{damage}. {kept} (store.accept_loss)"));
            let (opened, found) = read_all(0)?;
            (opened, found, true)
        }
        read => read.map(|(opened, found)| (opened, found, false))?,
    };
    let held = opened.held.filter(|held| held.commit >= least);
    match held.or(noted) {
        Some(should) if (Ledger { commit: found.commit, ..should }) != found => {
            let (left, path) = (should.against(&found), path.display());
            findings.lost(format_args!(
                "{path} has lost a part, and goes on with what is left (store.accept_loss): {left}"
            ));
        }
        None if is_rescued => {
            let (path, left) = (path.display(), found.against(&found));
            findings.lost(format_args!("{path} goes on with what is left; how much it should be is not known: {left}"));
        }
        Some(_) | None => {}
    }
    let commit = 1 + least.max(opened.held.map_or(0, |held| held.commit));
    let ledger = begin(&opened.tables, Ledger { commit, ..found })?;
    Ok((opened, ledger))
}

fn open(path: &Path, least: u64) -> Result<Opened, StoreError> {
    let database = Reopening::open(path, KEYSPACES[0], least).map_err(|unfit| refusal(path, unfit))?;
    let tables = database.tables()?;
    let is_new = !says_format(path, &tables)?;
    let held = ledger_in(path, &tables)?;
    Ok(Opened { database, tables, is_new, held })
}

/// The ledger that the database holds.
fn ledger_in(path: &Path, tables: &Tables) -> Result<Option<Ledger>, StoreError> {
    let line = tables.meta.get(LEDGER).map_err(|error| read_failed(path, &error))?;
    Ok(line.and_then(|line| Ledger::decode(&line)))
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

/// Whether the database says that it has the format of this version; a new one says nothing.
fn says_format(path: &Path, tables: &Tables) -> Result<bool, StoreError> {
    match tables.meta.get("format").map_err(|error| read_failed(path, &error))? {
        None => Ok(false),
        Some(format) if *format == *FORMAT.as_bytes() => Ok(true),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_of_another_format_is_refused_and_left_as_it_is() {
        for format in ["2", "4"] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("agents");
            let findings = Findings::of(&path, &path);
            drop(Registry::open(&path, false, &findings).unwrap());
            let tables = Reopening::open(&path, KEYSPACES[0], 0).unwrap().tables().unwrap();
            // As format 2 was: without a ledger.
            tables.meta.insert("format", format).unwrap();
            tables.meta.remove(LEDGER).unwrap();
            drop(tables);
            std::fs::remove_file(folder.path().join(LEDGER)).unwrap();
            for accept_loss in [false, true] {
                let refused = Registry::open(&path, accept_loss, &findings).unwrap_err();
                assert!(matches!(refused, StoreError::Format(_)), "{refused}");
                let reason = format!("has format {format}, this version reads format 3: use the version that wrote it");
                assert!(refused.to_string().contains(&reason), "{refused}");
                assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is set aside");
            }
        }
    }
}

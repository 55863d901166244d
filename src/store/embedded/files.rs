//! The files of a fjall database, looked at before fjall opens them: it drops without a word what it cannot read.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use xxhash_rust::xxh3::xxh3_128;

use super::journal::{Journal, Tail, filled};
use crate::limits::{STORE_LOCK_RETRY_MS, STORE_LOCK_TRIES};

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Damage {
    pub(super) file: PathBuf,
    pub(super) what: String,
}

impl Damage {
    pub(super) fn new(file: impl Into<PathBuf>, what: impl Into<String>) -> Self {
        Self { file: file.into(), what: what.into() }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.file.display(), self.what)
    }
}

/// Why a database must not be opened.
#[derive(Debug)]
pub(super) enum OpenError {
    /// Another process uses it.
    Locked,
    /// A file is damaged or missing.
    Damaged(Damage),
    /// A file cannot be read now.
    Io(io::Error),
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Damage> for OpenError {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}

/// The file that says what the folder is.
pub(super) const VERSION: &str = "version";
/// The file that is locked by whoever uses the database.
pub(super) const LOCK: &str = "lock";
const KEYSPACES: &str = "keyspaces";
const CURRENT: &str = "current";

/// Sees to it that fjall can open the database in `path` and drops nothing of it that was acknowledged: that is everything
/// up to the ledger numbered `least`. The torn end of a journal behind that is cut off.
pub(super) fn prepare(path: &Path, least: u64) -> Result<(), OpenError> {
    if !path.try_exists()? {
        return if least == 0 { Ok(()) } else { Err(Damage::new(path, "is missing").into()) };
    }
    let _lock = lock(path)?;
    let journals = journals(path)?;
    let read: Vec<_> =
        journals.values().map(|file| Ok((file, Journal::of(&fs::read(file)?)))).collect::<io::Result<_>>()?;
    let keyspaces = keyspaces(path)?;
    let version = path.join(VERSION);
    if !version.try_exists()? {
        let is_new = read.iter().all(|(_, journal)| *journal == Journal::default())
            && keyspaces.values().all(|keyspace| !keyspace.has_tables);
        if is_new && least == 0 {
            // A process has ended while it made the database.
            return begin_anew(path);
        }
        return Err(Damage::new(version, "is missing").into());
    }
    let Some((active, sealed)) = read.split_last() else {
        return Err(Damage::new(path.join("*.jnl"), "is missing: the database has no journal").into());
    };
    must_be_complete(path, &keyspaces, &read, least)?;
    keyspaces.values().filter(|keyspace| keyspace.is_complete).try_for_each(must_know_its_tables)?;
    for (file, journal) in sealed {
        if journal.tail != Tail::Clean {
            return Err(unreadable(file, journal).into());
        }
    }
    let (file, journal) = active;
    let ledger = read.iter().filter_map(|(_, journal)| journal.ledger).map(|ledger| ledger.commit).max();
    match journal.tail {
        Tail::Clean => Ok(()),
        Tail::Damaged => Err(unreadable(file, journal).into()),
        Tail::Torn
            if ledger.unwrap_or(0) < least && (ledger.is_some() || keyspaces.values().all(|one| !one.has_tables)) =>
        {
            Err(unreadable(file, journal).into())
        }
        Tail::Torn => {
            // What was never acknowledged, or perhaps (without a ledger in the journal) the last that was: then the
            // database will be found to lack it, and here it is.
            if ledger.is_none() && least > 0 {
                fs::copy(file, aside(&file.with_extension("jnl.torn")))?;
            }
            cut(file, journal.end)?;
            tracing::info!(
                journal = %file.display(),
                "the end of a journal was not written whole and never acknowledged; it is cut off"
            );
            Ok(())
        }
    }
}

fn cut(file: &Path, end: usize) -> io::Result<()> {
    let file = File::options().write(true).open(file)?;
    file.set_len(end as u64)?;
    file.sync_all()
}

fn unreadable(file: &Path, journal: &Journal) -> Damage {
    let what = match journal.tail {
        Tail::Damaged => "cannot be read from byte {} on, though more follows",
        Tail::Torn | Tail::Clean => "cannot be read from byte {} on, where something stood that was acknowledged",
    };
    Damage::new(file, what.replace("{}", &journal.end.to_string()))
}

/// Locks the database while its files are looked at.
pub(super) fn lock(path: &Path) -> Result<Option<File>, OpenError> {
    let file = match File::open(path.join(LOCK)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    for _ in 0..STORE_LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(fs::TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(STORE_LOCK_RETRY_MS)),
            Err(fs::TryLockError::Error(error)) => return Err(error.into()),
        }
    }
    Err(OpenError::Locked)
}

/// The journals, in the order in which they were written.
pub(super) fn journals(path: &Path) -> io::Result<BTreeMap<u64, PathBuf>> {
    let mut journals = BTreeMap::new();
    for entry in fs::read_dir(path)? {
        let file = entry?.path();
        let number = file
            .extension()
            .is_some_and(|extension| extension == "jnl")
            .then(|| file.file_stem()?.to_str()?.parse().ok());
        if let Some(number) = number.flatten() {
            journals.insert(number, file);
        }
    }
    Ok(journals)
}

/// Whether the folder has a journal.
pub(super) fn has_journal(path: &Path) -> bool {
    journals(path).is_ok_and(|journals| !journals.is_empty())
}

/// What there is of a keyspace.
pub(super) struct Keyspace {
    pub(super) path: PathBuf,
    is_complete: bool,
    has_tables: bool,
}

/// The keyspaces, by number. The first one, 0, has the names of the others.
pub(super) fn keyspaces(path: &Path) -> io::Result<BTreeMap<u64, Keyspace>> {
    let mut keyspaces = BTreeMap::new();
    let folder = path.join(KEYSPACES);
    if !folder.try_exists()? {
        return Ok(keyspaces);
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let Some(number) = path.file_name().and_then(|name| name.to_str()?.parse().ok()) else { continue };
        let is_complete = path.join(CURRENT).try_exists()?;
        let has_tables = fs::read_dir(path.join("tables")).is_ok_and(|mut tables| tables.next().is_some());
        keyspaces.insert(number, Keyspace { path, is_complete, has_tables });
    }
    Ok(keyspaces)
}

/// fjall removes a keyspace without the file `current`, and passes over what journals say of one that is not there.
fn must_be_complete(
    path: &Path,
    keyspaces: &BTreeMap<u64, Keyspace>,
    read: &[(&PathBuf, Journal)],
    least: u64,
) -> Result<(), Damage> {
    let missing = |number: u64| path.join(KEYSPACES).join(number.to_string()).join(CURRENT);
    let written: BTreeSet<u64> = read.iter().flat_map(|(_, journal)| journal.keyspaces.iter().copied()).collect();
    let names = keyspaces.get(&0).is_some_and(|names| names.is_complete);
    if !names && (least > 0 || keyspaces.keys().any(|number| *number != 0) || !written.is_empty()) {
        return Err(Damage::new(missing(0), "is missing"));
    }
    for (number, keyspace) in keyspaces {
        if !keyspace.is_complete && (keyspace.has_tables || written.contains(number)) {
            return Err(Damage::new(keyspace.path.join(CURRENT), "is missing"));
        }
    }
    match written.iter().find(|number| !keyspaces.contains_key(number)) {
        Some(number) => Err(Damage::new(missing(*number), "is missing")),
        None => Ok(()),
    }
}

/// fjall deletes the tables that a keyspace's list of tables does not name, and does not look at the list's checksum.
fn must_know_its_tables(keyspace: &Keyspace) -> Result<(), OpenError> {
    let current = keyspace.path.join(CURRENT);
    let named = fs::read(&current)?;
    // The number of the list, its checksum, and the kind of checksum.
    let parts = named.split_first_chunk().and_then(|(number, rest)| Some((number, rest.split_first_chunk()?.0)));
    let Some((number, checksum)) = parts else {
        return Err(Damage::new(current, "is cut short").into());
    };
    let list = keyspace.path.join(format!("v{}", u64::from_le_bytes(*number)));
    match fs::read(&list) {
        Ok(bytes) if xxh3_128(&bytes) == u128::from_le_bytes(*checksum) => Ok(()),
        Ok(_) => Err(Damage::new(list, "does not match its checksum").into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Damage::new(list, "is missing").into()),
        Err(error) => Err(error.into()),
    }
}

/// Removes what there is of a database that was not finished.
fn begin_anew(path: &Path) -> Result<(), OpenError> {
    for file in journals(path)?.values() {
        fs::remove_file(file)?;
    }
    match fs::remove_dir_all(path.join(KEYSPACES)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// A name beside `path` that is not taken.
pub(super) fn aside(path: &Path) -> PathBuf {
    let candidates = (1_u32..).map(|n| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!("-{n}"));
        PathBuf::from(name)
    });
    candidates.into_iter().find(|candidate| !candidate.exists()).expect("some number is free")
}

/// Copies a database so that the copy can be changed and the original is not: what fjall never changes, only removes, is a
/// link.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy(&source, &target)?;
        } else if from.file_name().is_some_and(|folder| folder == "tables") {
            std::os::unix::fs::symlink(&source, &target)?;
        } else if source.extension().is_some_and(|extension| extension == "jnl") {
            // Without the room at its end that is not used yet.
            let bytes = fs::read(&source)?;
            fs::write(&target, &bytes[..filled(&bytes)])?;
        } else {
            fs::copy(&source, &target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use fjall::{Database, KeyspaceCreateOptions};

    use super::*;

    #[test]
    fn a_list_of_tables_that_is_changed_anywhere_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("database");
        let database = Database::builder(&path).open().unwrap();
        let keyspace = database.keyspace("k", KeyspaceCreateOptions::default).unwrap();
        keyspace.insert("key", "value").unwrap();
        keyspace.rotate_memtable_and_wait().unwrap();
        drop((keyspace, database));
        for journal in journals(&path).unwrap().values() {
            let bytes = fs::read(journal).unwrap();
            fs::write(journal, &bytes[..filled(&bytes)]).unwrap();
        }
        // Older lists may lie about until the next start.
        prepare(&path, 0).unwrap();
        let keyspace = path.join("keyspaces/1");
        let current = keyspace.join(CURRENT);
        let number = u64::from_le_bytes(fs::read(&current).unwrap()[..8].try_into().unwrap());
        let lists = [keyspace.join(format!("v{number}")), current];
        for list in lists {
            let whole = fs::read(&list).unwrap();
            // The last byte of `current` is the kind of checksum, of which there is one.
            for at in 0..whole.len().min(if list.ends_with(CURRENT) { 24 } else { usize::MAX }) {
                let mut flipped = whole.clone();
                flipped[at] ^= 4;
                fs::write(&list, &flipped).unwrap();
                assert!(matches!(prepare(&path, 0), Err(OpenError::Damaged(_))), "{} at {at}", list.display());
                fs::write(&list, &whole[..at]).unwrap();
                assert!(matches!(prepare(&path, 0), Err(OpenError::Damaged(_))), "{} cut at {at}", list.display());
            }
            fs::write(&list, whole).unwrap();
        }
        prepare(&path, 0).unwrap();
    }
}

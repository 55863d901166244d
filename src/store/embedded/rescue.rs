//! Going on with what can still be read of a damaged database.
//!
//! fjall opens a database whole or not at all, and passes over parts of it without a word. So here its files are read
//! without it, and without what says how they belong together: each table by itself, block by block, and each journal batch
//! by batch; of what they say of a key the latest counts. What was removed may be back, if what said so is lost.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    fs::{self, File},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

use fjall::{Database, KeyspaceCreateOptions, PersistMode, Slice};
use lsm_tree::{Cache, Checksum, CompressionType, InternalValue, Table, table::Scanner};

use super::{
    database::{plain, refusal},
    files::{aside, journals, keyspaces, lock},
    journal::batches,
    ledger::LEDGER,
    number,
};
use crate::{
    limits::{RESCUE_BATCH_MAX, RESCUE_BATCH_MAX_BYTES, RESCUE_CACHE_BYTES, RESCUE_UNREADABLE_MAX},
    store::StoreError,
};

/// Puts a database with whatever can be read in the place of the damaged one in `path`. That one is kept beside it; answers
/// where, if there was any. `names` are the keyspaces, in the order in which they are made.
pub(super) fn rescue(path: &Path, names: &[&str]) -> Result<Option<PathBuf>, StoreError> {
    let rescued = rescued(path);
    let failed = |error: &dyn std::fmt::Display| {
        StoreError::unavailable(format_args!("what is left in {} cannot be taken out of it: {error}", path.display()))
    };
    match fs::remove_dir_all(&rescued) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&error)),
        _ => {}
    }
    let exists = path.try_exists().map_err(|error| failed(&error))?;
    let lock = if exists { lock(path).map_err(|unfit| refusal(path, unfit))? } else { None };
    take_out(path, &rescued, names).map_err(|error| failed(&plain(&error)))?;
    drop(lock);
    let kept = exists.then(|| aside(&path.with_extension("damaged")));
    let replace = || {
        if let Some(kept) = &kept {
            fs::rename(path, kept)?;
        }
        fs::rename(&rescued, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    replace().map_err(|error| failed(&error))?;
    Ok(kept)
}

/// Puts the rescued database in its place, if the process ended after the damaged one had been set aside.
pub(super) fn finish(path: &Path) -> io::Result<()> {
    let rescued = rescued(path);
    if !path.try_exists()? && rescued.try_exists()? { fs::rename(rescued, path) } else { Ok(()) }
}

fn rescued(path: &Path) -> PathBuf {
    path.with_extension("rescued")
}

/// What is said of a key.
struct Entry {
    key: Slice,
    sequence: u64,
    /// None: it was removed.
    value: Option<Slice>,
}

/// Entries in the order of their keys, of each the latest first.
type Source = Box<dyn Iterator<Item = Entry>>;

/// What journals say of the keys of a keyspace; of each the latest.
type Changes = BTreeMap<Slice, (u64, Option<Slice>)>;

fn take_out(from: &Path, to: &Path, names: &[&str]) -> fjall::Result<()> {
    let mut parts: BTreeMap<u64, Vec<Source>> = BTreeMap::new();
    if from.try_exists()? {
        for (number, changes) in changes(from)? {
            let entries = changes.into_iter().map(|(key, (sequence, value))| Entry { key, sequence, value });
            parts.entry(number).or_default().push(Box::new(entries));
        }
        for (number, keyspace) in keyspaces(from)? {
            parts.entry(number).or_default().extend(tables(&keyspace.path));
        }
    }
    let numbers = numbers(latest(parts.remove(&0).unwrap_or_default()), names);
    let database = Database::builder(to).worker_threads(1).open()?;
    // All of them, in this order: so they have the same numbers everywhere.
    for name in names {
        let target = database.keyspace(name, KeyspaceCreateOptions::default)?;
        let Some(sources) = numbers.get(*name).and_then(|number| parts.remove(number)) else { continue };
        let (mut batch, mut bytes) = (database.batch(), 0);
        for (key, value) in latest(sources) {
            if *key == *LEDGER.as_bytes() {
                continue;
            }
            bytes += key.len() + value.len();
            batch.insert(&target, key, value);
            if batch.len() == RESCUE_BATCH_MAX || bytes > RESCUE_BATCH_MAX_BYTES {
                std::mem::replace(&mut batch, database.batch()).commit()?;
                bytes = 0;
            }
        }
        batch.commit()?;
    }
    database.persist(PersistMode::SyncAll)
}

/// The numbers of the keyspaces: as the first one says, and otherwise those that they have in a new database.
fn numbers<'a>(entries: impl Iterator<Item = (Slice, Slice)>, names: &[&'a str]) -> BTreeMap<&'a str, u64> {
    let mut numbers: BTreeMap<_, _> = names.iter().copied().zip(1..).collect();
    for (key, name) in entries {
        let name = names.iter().find(|known| known.as_bytes() == &*name);
        if let (Some(key), Some(name)) = (key.strip_prefix(b"n"), name) {
            numbers.insert(name, number(key));
        }
    }
    numbers
}

/// What the journals say, by keyspace.
fn changes(path: &Path) -> io::Result<BTreeMap<u64, Changes>> {
    let mut changes: BTreeMap<u64, Changes> = BTreeMap::new();
    for journal in journals(path)?.values() {
        let bytes = fs::read(journal)?;
        for batch in batches(&bytes) {
            for item in batch.items {
                let (key, value) = (Slice::from(item.key), item.value.map(Slice::from));
                changes.entry(item.keyspace).or_default().insert(key, (batch.sequence, value));
            }
        }
    }
    Ok(changes)
}

/// The tables of a keyspace.
fn tables(keyspace: &Path) -> Vec<Source> {
    let Ok(files) = fs::read_dir(keyspace.join("tables")) else { return Vec::new() };
    files.flatten().map(|file| entries_of(file.path())).collect()
}

/// What can be read of a table: by its index all blocks but the damaged ones, without an index those before the first of
/// them.
fn entries_of(table: PathBuf) -> Source {
    let open = || {
        let cache = Arc::new(Cache::with_capacity_bytes(RESCUE_CACHE_BYTES));
        Table::recover(table.clone(), Checksum::from_raw(0), 0, 0, cache, None, false, true)
    };
    match guarded(|| open().ok()) {
        Some(opened) => Box::new(whatever(opened.range(..), RESCUE_UNREADABLE_MAX)),
        None => match guarded(|| Scanner::new(&table, usize::MAX, CompressionType::None, 0).ok()) {
            Some(scanner) => Box::new(whatever(scanner, 0)),
            None => Box::new(std::iter::empty()),
        },
    }
}

/// What can be read, up to where more than `unreadable_max` entries in a row cannot.
fn whatever(
    mut entries: impl Iterator<Item = lsm_tree::Result<InternalValue>>,
    unreadable_max: usize,
) -> impl Iterator<Item = Entry> {
    std::iter::from_fn(move || {
        for _ in 0..=unreadable_max {
            if let Ok(InternalValue { key, value }) = guarded(|| entries.next())? {
                let value = (!key.value_type.is_tombstone()).then_some(value);
                return Some(Entry { key: key.user_key, sequence: key.seqno, value });
            }
        }
        None
    })
}

/// What is not expected in a file may make its reader panic.
fn guarded<T>(read: impl FnOnce() -> Option<T>) -> Option<T> {
    catch_unwind(AssertUnwindSafe(read)).ok().flatten()
}

/// The latest of all sources, without what was removed.
fn latest(mut sources: Vec<Source>) -> impl Iterator<Item = (Slice, Slice)> {
    let mut heads = BTreeMap::new();
    for at in 0..sources.len() {
        advance(&mut sources, at, &mut heads);
    }
    let mut last: Option<Slice> = None;
    std::iter::from_fn(move || {
        loop {
            let ((key, _, at), value) = heads.pop_first()?;
            advance(&mut sources, at, &mut heads);
            if last.as_ref() == Some(&key) {
                continue;
            }
            last = Some(key.clone());
            if let Some(value) = value {
                return Some((key, value));
            }
        }
    })
}

/// Where each source stands: the key, its sequence number, the source; and the value.
type Heads = BTreeMap<(Slice, Reverse<u64>, usize), Option<Slice>>;

fn advance(sources: &mut [Source], at: usize, heads: &mut Heads) {
    if let Some(Entry { key, sequence, value }) = sources[at].next() {
        heads.insert((key, Reverse(sequence), at), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(path: &Path) -> Vec<(String, String)> {
        let database = Database::builder(path).open().unwrap();
        let keyspace = database.keyspace("second", KeyspaceCreateOptions::default).unwrap();
        let text = |bytes: Slice| String::from_utf8(bytes.to_vec()).unwrap();
        let entries = keyspace.iter().map(|entry| entry.into_inner().unwrap());
        entries.map(|(key, value)| (text(key), text(value))).collect()
    }

    #[test]
    fn of_a_key_the_latest_counts_wherever_it_stands_and_what_was_removed_stays_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("database");
        let names = ["first", "second"];
        {
            let database = Database::builder(&path).open().unwrap();
            let [_, keyspace] = names.map(|name| database.keyspace(name, KeyspaceCreateOptions::default).unwrap());
            for round in ["old", "new"] {
                for key in ["changed", "removed", round] {
                    keyspace.insert(key, round).unwrap();
                }
                keyspace.rotate_memtable_and_wait().unwrap();
            }
            keyspace.remove("removed").unwrap();
            keyspace.insert("changed", "newest").unwrap();
        }
        let whole = contents(&path);
        let expected = [("changed", "newest"), ("new", "new"), ("old", "old")];
        assert_eq!(whole, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
        // Without anything that says how the files belong together.
        fs::remove_file(path.join("keyspaces/2/current")).unwrap();
        fs::remove_dir_all(path.join("keyspaces/0")).unwrap();
        assert_eq!(rescue(&path, &names).unwrap(), Some(folder.path().join("database.damaged-1")));
        assert_eq!(contents(&path), whole);
        // The process may end just before the rescued database has its name.
        fs::rename(&path, folder.path().join("database.rescued")).unwrap();
        finish(&path).unwrap();
        assert_eq!(contents(&path), whole);
    }
}

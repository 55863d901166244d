//! What the store should hold: counts and checksums, kept in two slots.
//!
//! Every transaction on the registrations, policies and threats carries the *ledger* along: its number, and for each kind of
//! record how many there are and the sum of their checksums, which does not depend on their order. It is written
//! 1. into the database, with the transaction itself: what the database holds must add up to that;
//! 2. when that is durable, into the file `ledger` beside it, durably too: the database must have come as far as that.
//!
//! So a database that is ahead of the file is no damage; one that is behind it has lost something. The file has two slots
//! that are written in turn, so that a write that is torn leaves the one before.
//!
//! The file is written by a thread of its own ([`LedgerKeeper`]), the latest ledger at a time: nobody waits for it, since
//! that would be a second fsync for each transaction. What it does not know yet after a crash are the transactions of the
//! last moments; these are as safe as the database keeps them, but their loss would not be noticed.

use std::{
    fmt,
    fs::{self, File},
    io::{self, ErrorKind},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::{limits::LEDGER_PAUSE_MS, process::private_file};

/// The key of the ledger in the database, and the name of the file.
pub(super) const LEDGER: &str = "ledger";

/// How many records of a kind there are, and what they add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) count: u64,
    checksum: u64,
}

impl Sum {
    pub(super) fn add(&mut self, key: &[u8], record: &[u8]) {
        self.replace(None, Some(digest(key, record)));
    }

    /// One record for another.
    pub(super) fn replace(&mut self, old: Option<u64>, new: Option<u64>) {
        self.count = self.count.wrapping_sub(u64::from(old.is_some())).wrapping_add(u64::from(new.is_some()));
        self.checksum = self.checksum.wrapping_sub(old.unwrap_or(0)).wrapping_add(new.unwrap_or(0));
    }
}

impl std::iter::Sum for Sum {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), |sum, part| Self {
            count: sum.count + part.count,
            checksum: sum.checksum.wrapping_add(part.checksum),
        })
    }
}

/// The checksum of a record and its key.
pub(super) fn digest(key: &[u8], record: &[u8]) -> u64 {
    let mut digest = Xxh3::new();
    digest.update(&(key.len() as u64).to_le_bytes());
    digest.update(key);
    digest.update(record);
    digest.digest()
}

/// What the store should hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ledger {
    /// Counts the transactions.
    pub(super) commit: u64,
    pub(super) agents: Sum,
    pub(super) policies: Sum,
    pub(super) threats: Sum,
}

impl Ledger {
    /// As it is stored: a line of text, the last word of which is the checksum of the others.
    pub(super) fn encode(&self) -> String {
        let Self { commit, agents, policies, threats } = self;
        let mut line = format!("1 {commit}");
        for Sum { count, checksum } in [agents, policies, threats] {
            line += &format!(" {count} {checksum:016x}");
        }
        let checksum = xxh3_64(line.as_bytes());
        format!("{line} {checksum:016x}")
    }

    /// A ledger as it was stored; none if that is something else.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (line, checksum) = std::str::from_utf8(bytes).ok()?.trim_end().rsplit_once(' ')?;
        if u64::from_str_radix(checksum, 16) != Ok(xxh3_64(line.as_bytes())) {
            return None;
        }
        let mut words = line.split(' ');
        let version = words.next()?;
        let commit = words.next()?.parse().ok()?;
        let mut sum = || {
            let count = words.next()?.parse().ok()?;
            Some(Sum { count, checksum: u64::from_str_radix(words.next()?, 16).ok()? })
        };
        (version == "1").then_some(Self { commit, agents: sum()?, policies: sum()?, threats: sum()? })
    }

    pub(super) fn is_of_nothing(&self) -> bool {
        [self.agents, self.policies, self.threats].iter().all(|kind| kind.count == 0)
    }

    /// What there is, `found`, against what this says there should be; for people.
    pub(super) fn against(&self, found: &Self) -> impl fmt::Display + use<> {
        let kinds = [
            ("agents", self.agents, found.agents),
            ("policies", self.policies, found.policies),
            ("threats", self.threats, found.threats),
        ];
        let kinds = kinds.map(|(name, should, found)| {
            let changed = if should.count == found.count && should != found { " (other ones, or older)" } else { "" };
            format!("{name} {} of {}{changed}", found.count, should.count)
        });
        kinds.join(", ")
    }
}

/// Room for one ledger. They are in sectors of their own.
const SLOT: u64 = 4_096;

/// The ledger outside the database.
#[derive(Debug)]
pub(super) struct LedgerFile {
    path: PathBuf,
    file: Option<File>,
}

impl LedgerFile {
    /// The file at `path`, and what it says; nothing if it is not there or cannot be read.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Option<Ledger>)> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let slots = bytes.chunks(SLOT as usize);
        let latest = slots.filter_map(|slot| Ledger::decode(line(slot))).max_by_key(|ledger| ledger.commit);
        Ok((Self { path: path.into(), file: None }, latest))
    }

    /// Writes the ledger durably.
    pub(super) fn write(&mut self, ledger: &Ledger) -> io::Result<()> {
        let at = ledger.commit % 2 * SLOT;
        let line = format!("{}\n", ledger.encode());
        if let Some(file) = &self.file {
            file.write_all_at(line.as_bytes(), at)?;
            return file.sync_data();
        }
        // Made anew once in each run, beside the old one: that stays whole until this is.
        let slots = if at == 0 { [line.as_str(), ""] } else { ["", line.as_str()] };
        let width = SLOT as usize;
        private_file::write(&self.path, &slots.map(|slot| format!("{slot:<width$}")).concat())?;
        File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
        self.file = Some(File::options().write(true).open(&self.path)?);
        Ok(())
    }
}

/// Writes the ledger into its file, beside the transactions. Dropped, it writes the last one first.
#[derive(Debug)]
pub(super) struct LedgerKeeper {
    shared: Arc<(Mutex<Due>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Due {
    ledger: Option<Ledger>,
    /// Why the last one could not be written.
    failure: Option<String>,
    is_ending: bool,
}

impl LedgerKeeper {
    /// Keeps the ledger in this file.
    pub(super) fn start(file: LedgerFile) -> io::Result<Self> {
        let shared = Arc::<(Mutex<Due>, Condvar)>::default();
        let thread = thread::Builder::new().name("ledger".into()).spawn({
            let shared = shared.clone();
            move || keep(file, &shared)
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Has the ledger written soon.
    ///
    /// # Errors
    /// Why an earlier one could not be written; it has been tried again since.
    pub(super) fn note(&self, ledger: Ledger) -> Result<(), String> {
        if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
            return Err("the thread that writes it has ended".into());
        }
        let (due, work) = &*self.shared;
        let mut due = due.lock();
        due.ledger = Some(ledger);
        work.notify_one();
        due.failure.take().map_or(Ok(()), Err)
    }
}

impl Drop for LedgerKeeper {
    fn drop(&mut self) {
        let (due, work) = &*self.shared;
        due.lock().is_ending = true;
        work.notify_one();
        if let Some(thread) = self.thread.take() {
            // If it panicked that has been logged.
            let _ = thread.join();
        }
    }
}

fn keep(mut file: LedgerFile, (due, work): &(Mutex<Due>, Condvar)) {
    loop {
        let mut now = due.lock();
        work.wait_while(&mut now, |due| due.ledger.is_none() && !due.is_ending);
        let Some(ledger) = now.ledger.take() else { return };
        drop(now);
        let failure = file.write(&ledger).err().map(|error| error.to_string());
        let mut now = due.lock();
        if failure.is_some() && !now.is_ending {
            // Once more, with the next one or by itself.
            now.ledger = now.ledger.or(Some(ledger));
        }
        now.failure = failure;
        if !now.is_ending {
            // Nothing hangs on each of them; those of this time share a write.
            let pause = Duration::from_millis(LEDGER_PAUSE_MS);
            work.wait_while_for(&mut now, |due| !due.is_ending, pause);
        }
    }
}

fn line(slot: &[u8]) -> &[u8] {
    slot.split(|byte| *byte == b'\n').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn ledger(commit: u64) -> Ledger {
        let mut agents = Sum::default();
        agents.add(b"key", b"record");
        Ledger { commit, agents, ..Ledger::default() }
    }

    #[test]
    fn a_ledger_can_be_read_again_and_no_other_text_is_one() {
        let text = ledger(7).encode();
        assert_eq!(Ledger::decode(text.as_bytes()), Some(ledger(7)));
        for at in 0..text.len() {
            let mut flipped = text.clone().into_bytes();
            flipped[at] ^= 1;
            assert_eq!(Ledger::decode(&flipped), None, "flipped at {at}");
            assert_eq!(Ledger::decode(&text.as_bytes()[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn a_sum_does_not_depend_on_the_order_and_tells_every_change() {
        let of = |records: &[(&str, &str)]| {
            let mut sum = Sum::default();
            records.iter().for_each(|(key, record)| sum.add(key.as_bytes(), record.as_bytes()));
            sum
        };
        assert_eq!(of(&[("a", "1"), ("b", "2")]), of(&[("b", "2"), ("a", "1")]));
        assert_ne!(of(&[("a", "1"), ("b", "2")]), of(&[("a", "2"), ("b", "1")]));
        assert_ne!(of(&[("a", "1")]), of(&[("", "a1")]));
        let mut changed = of(&[("a", "1"), ("b", "2")]);
        changed.replace(Some(digest(b"b", b"2")), None);
        assert_eq!(changed, of(&[("a", "1")]));
    }

    #[test]
    fn of_a_file_whose_last_write_was_torn_the_one_before_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LEDGER);
        let (mut file, none) = LedgerFile::open(&path).unwrap();
        assert_eq!(none, None);
        for commit in 4..7 {
            file.write(&ledger(commit)).unwrap();
            assert_eq!(LedgerFile::open(&path).unwrap().1, Some(ledger(commit)));
        }
        let mut bytes = fs::read(&path).unwrap();
        bytes[9] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert_eq!(LedgerFile::open(&path).unwrap().1, Some(ledger(5)));
        fs::write(&path, "").unwrap();
        assert_eq!(LedgerFile::open(&path).unwrap().1, None);
    }

    #[test]
    fn the_latest_ledger_is_in_the_file_when_its_keeper_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LEDGER);
        let keeper = LedgerKeeper::start(LedgerFile::open(&path).unwrap().0).unwrap();
        (1..=1_000).for_each(|commit| keeper.note(ledger(commit)).unwrap());
        drop(keeper);
        assert_eq!(LedgerFile::open(&path).unwrap().1, Some(ledger(1_000)));
    }

    #[test]
    fn a_ledger_that_cannot_be_written_is_told_of_and_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gone").join(LEDGER);
        let keeper = LedgerKeeper::start(LedgerFile::open(&path).unwrap().0).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while keeper.note(ledger(1)).is_ok() {
            assert!(Instant::now() < deadline, "it is not reported");
            thread::yield_now();
        }
        fs::create_dir(folder.path().join("gone")).unwrap();
        while LedgerFile::open(&path).unwrap().1.is_none() {
            assert!(Instant::now() < deadline, "it is not tried again");
            thread::yield_now();
        }
    }
}

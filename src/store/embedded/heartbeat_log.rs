//! The last heartbeats of the embedded store: a log of flushes, bounded by sweeps.
//!
//! When the log has grown to several times the fleet, every agent's last heartbeat is written once more, spread over many
//! flushes; then what stands before the sweep is deleted. So there is no second format for snapshots, and no pause.

use std::{
    collections::BTreeSet,
    fs::File,
    ops::Range,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use fjall::PersistMode;
use parking_lot::{Mutex, MutexGuard};

use super::{
    database::{Reopening, read_failed, refusal},
    findings::Findings,
    latest::LogSegment,
    number,
    rescue::{self, rescue},
};
use crate::{
    fleet::{ActiveTime, AgentId, LastHeartbeat},
    limits::{HEARTBEAT_LOG_GROWTH_MAX, HEARTBEAT_LOG_SWEEP_MIN_BYTES},
    store::{StoreError, Sweep, record::encode_heartbeat},
};

/// The keyspaces, in the order in which they are made.
const KEYSPACES: [&str; 2] = ["flushes", "meta"];
/// The name of the mark.
pub(super) const MARK: &str = "heartbeats.mark";
/// The key of the number from which on flushes may be there: a sweep has removed those before.
const SWEPT: &str = "swept";
/// The key of the saved clock.
const CLOCK: &str = "clock";

#[derive(Debug)]
pub(super) struct HeartbeatLog {
    database: Reopening,
    next_flush: AtomicU64,
    extent: Mutex<Extent>,
    /// A file beside the database with the number that the next flush has: what is missing at the end of the log is missed.
    /// Written without an fsync, like the log.
    mark: File,
    findings: Arc<Findings>,
}

/// How far the log reaches, and how a sweep of it stands.
#[derive(Debug, Default)]
struct Extent {
    oldest: u64,
    /// The number in the mark.
    marked: u64,
    bytes: u64,
    /// Size that the last sweep left.
    swept_bytes: u64,
    sweep: Option<LogSweep>,
}

#[derive(Debug)]
struct LogSweep {
    /// Flushes before this one are superseded when the sweep is done.
    from: u64,
    bytes_before: u64,
    shards_left: BTreeSet<usize>,
}

impl HeartbeatLog {
    /// Opens the log. One that is damaged, torn by a power cut, is set aside, and what can be read of it is gone on with: what
    /// is lost is how long some agents have been silent.
    pub(super) fn open(path: &Path, findings: &Arc<Findings>) -> Result<Self, StoreError> {
        rescue::finish(path).map_err(StoreError::unavailable)?;
        match Self::try_open(path, findings) {
            Err(StoreError::Damaged(damage)) => {
                set_aside(path, &damage, findings)?;
                Self::try_open(path, findings)
            }
            opened => opened,
        }
    }

    /// Sets the log aside, as at a start: it has turned out to be damaged.
    pub(super) fn rescue(&self, damage: &str) -> Result<(), StoreError> {
        self.database.closed(|| set_aside(self.database.path(), damage, &self.findings))
    }

    fn try_open(path: &Path, findings: &Arc<Findings>) -> Result<Self, StoreError> {
        let database = Reopening::open(path, KEYSPACES[0], 0).map_err(|unfit| refusal(path, unfit))?;
        let tables = database.tables()?;
        let key = |guard: Option<fjall::Guard>| guard.map(|guard| guard.key().map(|key| number(&key))).transpose();
        let failed = |error| read_failed(path, &error);
        tables.meta.get(CLOCK).map_err(failed)?;
        let oldest = key(tables.data.first_key_value()).map_err(failed)?;
        let newest = key(tables.data.last_key_value()).map_err(failed)?;
        let extent = Extent { oldest: oldest.unwrap_or(0), bytes: tables.data.disk_space(), ..Extent::default() };
        let swept = numbered(tables.meta.get(SWEPT).map_err(failed)?.as_deref());
        let next_flush = newest.map_or(0, |newest| newest + 1).max(swept.unwrap_or(0));
        let mark = path.with_file_name(MARK);
        let noted = numbered(std::fs::read(&mark).ok().as_deref()).unwrap_or(0);
        if noted > next_flush {
            let (path, flushes) = (path.display(), noted - next_flush);
            findings.odd(format_args!(
                "{path}: the latest {flushes} flushes of last heartbeats are missing, as after a power cut, or because files \
                 are damaged: some agents seem to have been silent for longer than they were"
            ));
        }
        let mark = File::options().write(true).create(true).truncate(false).mode(0o600).open(mark);
        let mark = mark.map_err(|error| StoreError::unavailable(format_args!("{}: {error}", path.display())))?;
        let (next_flush, extent) = (AtomicU64::new(next_flush.max(noted)), Mutex::new(extent));
        Ok(Self { database, next_flush, extent, mark, findings: findings.clone() })
    }

    /// Appends a flush, and saves the clock with it.
    pub(super) fn append(&self, flush: Vec<u8>, clock: Option<ActiveTime>) -> Result<(), StoreError> {
        let tables = self.database.tables()?;
        let mut batch = tables.database.batch().durability(Some(PersistMode::Buffer));
        let bytes = flush.len() as u64;
        let number = (bytes > 0).then(|| self.next_flush.fetch_add(1, Relaxed));
        if let Some(number) = number {
            batch.insert(&tables.data, number.to_be_bytes(), flush);
        }
        if let Some(clock) = clock {
            batch.insert(&tables.meta, CLOCK, clock.as_micros().to_string());
        }
        batch.commit().map_err(|error| StoreError::Unavailable(self.database.failed(tables, &error)))?;
        let mut extent = self.extent();
        extent.bytes += bytes;
        if let Some(number) = number.filter(|number| *number >= extent.marked) {
            extent.marked = number + 1;
            // As wide as any number: a shorter one leaves nothing of a longer.
            self.mark
                .write_all_at(format!("{:<20}\n", extent.marked).as_bytes(), 0)
                .map_err(StoreError::unavailable)?;
        }
        Ok(())
    }

    pub(super) fn clock(&self) -> Result<Option<ActiveTime>, StoreError> {
        let digits = self.database.tables()?.meta.get(CLOCK).map_err(|error| self.failed(&error))?;
        let micros = digits.as_deref().map(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        match micros {
            None => Ok(None),
            Some(Some(micros)) => Ok(Some(ActiveTime::from_micros(micros))),
            Some(None) => Err(StoreError::Format("the clock in the store is not a number".into())),
        }
    }

    /// The log in up to `parts` segments of about as many flushes, the oldest first.
    pub(super) fn segments(&self, parts: usize) -> Vec<Range<u64>> {
        let (oldest, end) = (self.extent().oldest, self.next_flush.load(Relaxed));
        let step = (end - oldest).div_ceil(parts as u64).max(1);
        let starts = (oldest..end).step_by(usize::try_from(step).unwrap_or(usize::MAX));
        starts.map(|start| start..end.min(start + step)).collect()
    }

    /// The latest record of each agent in these flushes.
    pub(super) fn latest(&self, flushes: Range<u64>) -> Result<LogSegment, StoreError> {
        let numbers = flushes.start.to_be_bytes()..flushes.end.to_be_bytes();
        let backwards = self.database.tables()?.data.range(numbers).rev();
        LogSegment::collect(backwards.map(|entry| entry.value().map_err(|error| self.failed(&error))))
    }

    pub(super) fn wants_sweep(&self, shard: usize, shards: usize) -> Option<Sweep> {
        let mut extent = self.extent();
        let bytes_max = HEARTBEAT_LOG_SWEEP_MIN_BYTES.max(HEARTBEAT_LOG_GROWTH_MAX * extent.swept_bytes);
        if extent.sweep.is_none() && extent.bytes > bytes_max {
            let from = self.next_flush.load(Relaxed);
            extent.sweep = Some(LogSweep { from, bytes_before: extent.bytes, shards_left: (0..shards).collect() });
        }
        let sweep = extent.sweep.as_ref().filter(|sweep| sweep.shards_left.contains(&shard))?;
        Some(Sweep { number: sweep.from, registrations: false, urgent: false })
    }

    /// The last shard to do so ends the sweep: what it superseded is deleted.
    pub(super) fn swept(&self, shard: usize) -> Result<(), StoreError> {
        let superseded = {
            let mut extent = self.extent();
            let oldest = extent.oldest;
            let Some(sweep) = &mut extent.sweep else {
                return Ok(());
            };
            sweep.shards_left.remove(&shard);
            if !sweep.shards_left.is_empty() {
                return Ok(());
            }
            oldest..sweep.from
        };
        tracing::debug!(flushes = superseded.end - superseded.start, "the log of last heartbeats was swept");
        let tables = self.database.tables()?;
        let mut batch = tables.database.batch().durability(Some(PersistMode::Buffer));
        superseded.clone().for_each(|flush| batch.remove(&tables.data, flush.to_be_bytes()));
        batch.insert(&tables.meta, SWEPT, superseded.end.to_string());
        batch.commit().map_err(|error| StoreError::Unavailable(self.database.failed(tables, &error)))?;
        let mut extent = self.extent();
        if let Some(sweep) = extent.sweep.take() {
            extent.oldest = superseded.end;
            extent.bytes = extent.bytes.saturating_sub(sweep.bytes_before);
            extent.swept_bytes = extent.bytes;
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn flush_to_tables(&self) {
        let tables = self.database.tables().unwrap();
        [tables.data, tables.meta].iter().for_each(|keyspace| keyspace.rotate_memtable_and_wait().unwrap());
    }

    fn failed(&self, error: &fjall::Error) -> StoreError {
        read_failed(self.database.path(), error)
    }

    fn extent(&self) -> MutexGuard<'_, Extent> {
        self.extent.lock()
    }
}

fn numbered(digits: Option<&[u8]>) -> Option<u64> {
    std::str::from_utf8(digits?).ok()?.trim().parse().ok()
}

fn set_aside(path: &Path, damage: &str, findings: &Findings) -> Result<(), StoreError> {
    let kept = rescue(path, &KEYSPACES)?.map_or_else(String::new, |kept| format!("; it is kept as {}", kept.display()));
    findings.lost(format_args!(
        "{damage}. The log of last heartbeats is damaged{kept}. The server goes on with what can be read of it: some agents seem \
         to have been silent for longer than they were"
    ));
    Ok(())
}

/// Encodes the heartbeats of a flush.
pub(super) fn encode(heartbeats: &[LastHeartbeat]) -> Vec<u8> {
    let mut out = Vec::with_capacity(96 * heartbeats.len());
    for last in heartbeats {
        out.extend_from_slice(&last.id.get().to_be_bytes());
        let length_at = out.len();
        out.extend_from_slice(&[0; 2]);
        encode_heartbeat(last, &mut out);
        let length = u16::try_from(out.len() - length_at - 2).expect("a version and a mode are short");
        out[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
    }
    out
}

/// The records of a flush. One that is cut short ends it.
pub(super) fn records_of(mut flush: &[u8]) -> impl Iterator<Item = (AgentId, &[u8])> {
    std::iter::from_fn(move || {
        let (id, rest) = flush.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let (record, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        flush = rest;
        Some((AgentId::new(u64::from_be_bytes(*id)), record))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path) -> HeartbeatLog {
        HeartbeatLog::open(path, &Arc::new(Findings::of(path, path))).unwrap()
    }

    #[test]
    fn a_flush_that_is_cut_short_loses_only_its_end() {
        let flush = encode(&[LastHeartbeat::bare(1), LastHeartbeat::bare(2)]);
        let read = |bytes| records_of(bytes).map(|(id, _)| id.get()).collect::<Vec<_>>();
        assert_eq!(read(&flush), [1, 2]);
        for cut in flush.len() / 2..flush.len() {
            assert_eq!(read(&flush[..cut]), [1]);
        }
    }

    #[test]
    fn a_sweep_by_every_shard_drops_what_was_before_it_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let log = open(&folder.path().join("heartbeats"));
        let keys = || {
            let keys = log.database.tables().unwrap().data.iter().map(|entry| number(&entry.key().unwrap()));
            keys.collect::<Vec<_>>()
        };
        log.append(encode(&[LastHeartbeat::bare(1)]), None).unwrap();
        assert!(log.wants_sweep(0, 2).is_none(), "the log is small");
        log.extent().bytes = HEARTBEAT_LOG_SWEEP_MIN_BYTES + 1;
        assert!(log.wants_sweep(0, 2).is_some());
        log.append(encode(&[LastHeartbeat::bare(1)]), None).unwrap();
        log.swept(0).unwrap();
        assert!(log.wants_sweep(0, 2).is_none(), "shard 0 has done its part");
        assert_eq!(keys(), [0, 1]);
        assert!(log.wants_sweep(1, 2).is_some());
        log.swept(1).unwrap();
        assert_eq!(keys(), [1]);
        assert!(log.wants_sweep(1, 2).is_none());
    }

    #[test]
    fn a_damaged_log_is_set_aside_and_a_new_one_begun() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("heartbeats");
        drop(open(&path));
        for entry in std::fs::read_dir(&path).unwrap() {
            let entry = entry.unwrap().path();
            if entry.is_file() && entry.file_name().unwrap() != "lock" {
                std::fs::write(entry, b"torn").unwrap();
            }
        }
        let log = open(&path);
        assert_eq!(log.clock().unwrap(), None);
        assert!(folder.path().join("heartbeats.damaged-1").exists());
    }
}

//! The fleet out of the embedded store, on as many threads as there are processors.
//!
//! First the policies are handed over. Then the log of heartbeats is read, each thread a segment of it, down to the latest record of each agent. Then the
//! threads share the registrations, partition by partition, and each agent is handed over with what was last received
//! of it.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::sync::mpsc;

use super::{
    blocking,
    changing::{Kind, View},
    heartbeat_log::HeartbeatLog,
    latest::{Latest, LogSegment},
    ledger::Sum,
    registry::Registry,
};
use crate::{
    fleet::{AgentId, Partition},
    limits::{LOAD_RUN_PARTITIONS, POLICY_STEP_MAX},
    store::{
        Chunk, Loaded, StoreError,
        loading::{ChunkBuilder, WorkQueue, readers},
        policy_record::decode_policies,
        record::{RecordError, decode_heartbeat, decode_registration},
    },
};

/// Hands the whole fleet to `out`.
pub(super) async fn load(
    registry: &Arc<Registry>,
    log: &Arc<HeartbeatLog>,
    out: mpsc::Sender<Chunk>,
) -> Result<Loaded, StoreError> {
    let (view, handed_over) = (registry.view()?, out.clone());
    let whole = view.clone();
    let policies = blocking(registry, move |registry| load_policies(registry, &whole, &handed_over)).await?;
    let segments: Arc<[LogSegment]> = latest_heartbeats(log).await?.into();
    let queue = Arc::new(WorkQueue::of(LOAD_RUN_PARTITIONS));
    let readers = (0..readers()).map(|_| {
        let mut reader = Reader {
            queue: queue.clone(),
            segments: segments.clone(),
            out: out.clone(),
            ready: ChunkBuilder::default(),
            loaded: Loaded::default(),
            sum: Sum::default(),
        };
        let view = view.clone();
        blocking(registry, move |_| {
            // Whoever fails, or finds that nobody wants more, ends it for all.
            reader.read(&view).inspect_err(|_| reader.queue.end())?;
            Ok((reader.loaded, reader.sum))
        })
    });
    let read: Vec<(Loaded, Sum)> = join_all(readers).await.into_iter().collect::<Result<_, _>>()?;
    if !out.is_closed() {
        view.must_be_all(Kind::Agent, read.iter().map(|(_, sum)| *sum).sum())?;
    }
    Ok(read.into_iter().map(|(loaded, _)| loaded).chain([policies]).sum())
}

/// Hands the policies of all scopes to `out`.
fn load_policies(registry: &Registry, view: &View, out: &mpsc::Sender<Chunk>) -> Result<Loaded, StoreError> {
    let mut loaded = Loaded { policy_version: registry.policy_version()?, ..Loaded::default() };
    let mut sum = Sum::default();
    let mut records = view.policies().peekable();
    while records.peek().is_some() {
        let mut some = Vec::new();
        for entry in records.by_ref().take(POLICY_STEP_MAX) {
            let (scope, record) = entry?;
            View::count_policies(&mut sum, &scope, &record);
            match decode_policies(&scope, &record) {
                Ok(policies) => some.push(Arc::new(policies)),
                Err(error) => {
                    let scope = String::from_utf8_lossy(&scope);
                    tracing::error!(%scope, %error, "policies in the store cannot be read; they are left out");
                    loaded.corrupt += 1;
                }
            }
        }
        let chunk = Chunk::Policies(some);
        loaded.count(&chunk);
        if !chunk.is_empty() && out.blocking_send(chunk).is_err() {
            return Ok(loaded);
        }
    }
    view.must_be_all(Kind::Policies, sum)?;
    Ok(loaded)
}

/// The log in segments, the latest first. Without what cannot be read of it.
async fn latest_heartbeats(log: &Arc<HeartbeatLog>) -> Result<Vec<LogSegment>, StoreError> {
    match read_log(log).await {
        Err(StoreError::Damaged(damage)) => {
            blocking(log, move |log| log.rescue(&damage)).await?;
            read_log(log).await
        }
        read => read,
    }
}

async fn read_log(log: &Arc<HeartbeatLog>) -> Result<Vec<LogSegment>, StoreError> {
    let segments = log.segments(readers());
    let read = segments.into_iter().rev().map(|flushes| blocking(log, move |log| log.latest(flushes)));
    join_all(read).await.into_iter().collect()
}

/// One of the threads.
struct Reader {
    queue: Arc<WorkQueue>,
    segments: Arc<[LogSegment]>,
    out: mpsc::Sender<Chunk>,
    ready: ChunkBuilder,
    loaded: Loaded,
    sum: Sum,
}

impl Reader {
    fn read(&mut self, view: &View) -> Result<(), StoreError> {
        while let Some(partitions) = self.queue.take() {
            for partition in partitions {
                self.read_partition(view, partition)?;
            }
            let rest = self.ready.take();
            self.hand_over(rest);
        }
        Ok(())
    }

    fn read_partition(&mut self, view: &View, partition: Partition) -> Result<(), StoreError> {
        let mut latest = Latest::take(&self.segments, partition);
        for entry in view.records(partition) {
            let (id, record) = entry?;
            self.sum.add(&id.get().to_be_bytes(), &record);
            let last = latest.of(id);
            let Some(registration) = self.understood("registration", id, decode_registration(id, &record)) else {
                self.loaded.orphans += u64::from(last.is_some());
                continue;
            };
            let last = last.map(|record| decode_heartbeat(id, record));
            let last = last.and_then(|decoded| self.understood("last heartbeat", id, decoded));
            if let Some(full) = self.ready.push(registration, last) {
                self.hand_over(full);
            }
        }
        // What is left in the log is of agents that have left the fleet, until a sweep drops it.
        Ok(())
    }

    fn hand_over(&mut self, chunks: [Chunk; 2]) {
        for chunk in chunks {
            self.loaded.count(&chunk);
            if !chunk.is_empty() && self.out.blocking_send(chunk).is_err() {
                return self.queue.end();
            }
        }
    }

    /// What was read, unless it is corrupt: that is reported and counted, and the rest goes on.
    fn understood<T>(&mut self, what: &str, id: AgentId, record: Result<T, RecordError>) -> Option<T> {
        match record {
            Ok(record) => Some(record),
            Err(error) => {
                tracing::error!(agent = %id, %error, "a {what} in the store cannot be read; it is left out");
                self.loaded.corrupt += 1;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::embedded::{
        database::{Reopening, Tables},
        findings::Findings,
        heartbeat_log::encode,
    };
    use crate::{
        fleet::{LastHeartbeat, PolicyVersion},
        policy::samples::policies,
        store::Change,
    };

    const REGISTRATION: &str =
        r#"[1,"h","linux","1","203.0.113.10",null,[],null,1,1,"n4bQgYhMfWWaL-qgxVrQFaO_TxsrC4Is0V1sFbDwCgg"]"#;

    #[tokio::test]
    async fn what_cannot_be_read_is_counted_and_all_else_is_handed_over() {
        let folder = tempfile::tempdir().unwrap();
        let [agents, heartbeats] = ["agents", "heartbeats"].map(|name| folder.path().join(name));
        let findings = Arc::new(Findings::of(&agents, &agents));
        {
            drop(Registry::open(&agents, false, &findings).unwrap());
            let Tables { data: raw, meta, .. } = Reopening::open(&agents, "agents", 0).unwrap().tables().unwrap();
            meta.insert("policies:o:acme", "torn").unwrap();
            for (id, record) in [(1_u64, REGISTRATION), (2, "torn"), (3, REGISTRATION)] {
                raw.insert(id.to_be_bytes(), record).unwrap();
            }
            raw.insert("not a key of ours", REGISTRATION).unwrap();
        }
        // They are taken for what is left.
        let registry = Arc::new(Registry::open(&agents, true, &findings).unwrap());
        registry.commit(&[Change::SetPolicies(Arc::new(policies(None, &[1])))]).unwrap();
        let log = Arc::new(HeartbeatLog::open(&heartbeats, &findings).unwrap());
        let torn = [&1_u64.to_be_bytes()[..], &[0, 4], b"torn"].concat();
        log.append(
            [torn, encode(&[LastHeartbeat::bare(2), LastHeartbeat::bare(3), LastHeartbeat::bare(4)])].concat(),
            None,
        )
        .unwrap();

        let (out, mut chunks) = mpsc::channel(8);
        let loaded = load(&registry, &log, out).await.unwrap();
        assert_eq!(
            loaded,
            Loaded { agents: 2, heartbeats: 1, scopes: 1, orphans: 1, corrupt: 3, policy_version: PolicyVersion::NONE }
        );
        let mut handed_over = Vec::new();
        while let Some(chunk) = chunks.recv().await {
            handed_over.push(match chunk {
                Chunk::Policies(policies) => vec![policies.len() as u64],
                Chunk::Registrations(registrations) => registrations.iter().map(|one| one.id.get()).collect(),
                Chunk::Heartbeats(heartbeats) => heartbeats.iter().map(|one| one.id.get()).collect::<Vec<_>>(),
            });
        }
        assert_eq!(handed_over, [vec![1], vec![1, 3], vec![3]]);
    }

    #[test]
    fn a_log_is_divided_into_stretches_that_cover_it_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("heartbeats");
        let log = HeartbeatLog::open(&path, &Arc::new(Findings::of(&path, &path))).unwrap();
        assert!(log.segments(2).is_empty(), "there is nothing to read");
        for flushes in 1..9_u64 {
            log.append(encode(&[LastHeartbeat::bare(1)]), None).unwrap();
            for parts in 1..5 {
                let segments = log.segments(parts);
                assert!(segments.len() <= parts);
                assert!(segments.into_iter().flatten().eq(0..flushes), "{flushes} in {parts}");
            }
        }
    }
}

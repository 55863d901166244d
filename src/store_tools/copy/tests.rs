//! Copies between stores in memory.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::mpsc;

use super::*;
use crate::{
    config::Config,
    fleet::{AgentId, PolicyVersion, Timestamp},
    policy::samples::policies,
    store::{Discard, LoadedThreats},
    store::{MemoryStore, StoreReader},
    store_tools::samples::{heartbeat, registration},
    threats::{Threat, ThreatEntry, ThreatKey},
};

const MICROS: fn(i64) -> ActiveTime = ActiveTime::from_micros;

fn owned<S: Store + 'static>(store: &Arc<S>) -> Owned {
    Owned { store: store.clone(), reader: store.clone() }
}

async fn transfer<T: Store + 'static>(from: &Arc<dyn Store>, to: &Arc<T>, merge: bool) -> Result<Copied, ToolError> {
    let location =
        |url: &str| StoreLocation::new(url.parse().unwrap(), Config::default().store, Path::new("data")).unwrap();
    let order = CopyOrder { from: location("embedded:from"), to: location("embedded:to"), merge };
    let (source, target) = (Owned { store: from.clone(), reader: from.clone() }.into(), owned(to));
    let screen = Screen::default();
    Transfer { order: &order, source: &source, target: &target, screen: &screen, has_begun: Cell::new(false) }
        .run(merge)
        .await
}

async fn fill(store: &dyn Store, agents: &[Registration], heartbeats: &[LastHeartbeat], clock: Option<ActiveTime>) {
    store.commit(agents.iter().cloned().map(|agent| Change::Register(Box::new(agent))).collect()).await.unwrap();
    store.save(&HeartbeatBatch { heartbeats: heartbeats.to_vec(), clock }).await.unwrap();
}

/// All that is in a store, in the order of ids.
async fn contents(store: &dyn StoreReader) -> (Vec<Registration>, Vec<LastHeartbeat>, Option<ActiveTime>) {
    let (mut agents, mut heartbeats) = (Vec::new(), Vec::new());
    let whole = read(store, async |chunk| {
        match chunk {
            Chunk::Policies(_) => {}
            Chunk::Registrations(more) => agents.extend(more),
            Chunk::Heartbeats(more) => heartbeats.extend(more),
        }
        Ok::<_, StoreError>(())
    });
    whole.await.unwrap();
    (agents, heartbeats, store.clock().await.unwrap())
}

async fn source(agents: &[Registration], heartbeats: &[LastHeartbeat], clock: Option<ActiveTime>) -> Arc<dyn Store> {
    let store = Arc::new(MemoryStore::default());
    fill(&*store, agents, heartbeats, clock).await;
    store
}

#[tokio::test]
async fn a_copy_has_everything_and_the_clock() {
    let agents: Vec<_> = (0..COMMIT_BATCH_MAX as u64 * 2 + 3).map(registration).collect();
    let beats: Vec<_> = (0..FLUSH_BATCH_MAX as u64 + 1).map(|id| heartbeat(id, 5)).collect();
    let from = source(&agents, &beats, Some(MICROS(9))).await;
    let to = Arc::<MemoryStore>::default();
    let copied = transfer(&from, &to, false).await.unwrap();
    assert_eq!(contents(&*to).await, (agents.clone(), beats.clone(), Some(MICROS(9))));
    assert_eq!((copied.agents, copied.last_heartbeats), (agents.len() as u64, beats.len() as u64));
    // A second time it is not empty.
    let refused = transfer(&from, &to, false).await.unwrap_err().to_string();
    assert!(refused.contains("has 8,195 agents; copy into an empty store, or say --merge"), "{refused}");
    assert_eq!(transfer(&from, &to, true).await.unwrap(), copied);
    assert_eq!(contents(&*to).await, (agents, beats, Some(MICROS(9))));
}

#[tokio::test]
async fn heartbeats_that_belong_to_nobody_are_left_behind() {
    let earlier = LastHeartbeat { registration: Timestamp::from_millis(0), ..heartbeat(2, 5) };
    let from = source(&[registration(1), registration(2)], &[heartbeat(1, 5), earlier, heartbeat(3, 5)], None).await;
    let to = Arc::<MemoryStore>::default();
    let copied = transfer(&from, &to, false).await.unwrap();
    assert_eq!((copied.agents, copied.last_heartbeats), (2, 1));
    assert_eq!(contents(&*to).await.1, [heartbeat(1, 5)]);
}

#[tokio::test]
async fn agents_that_are_added_have_been_silent_for_as_long_as_before() {
    let from = source(&[registration(1), registration(2)], &[heartbeat(1, 90)], Some(MICROS(100))).await;
    let to = Arc::<MemoryStore>::default();
    let replaced = Registration { hostname: "replaced".into(), ..registration(2) };
    fill(&*to, &[replaced, registration(3)], &[heartbeat(2, 6_900), heartbeat(3, 6_990)], Some(MICROS(7_000))).await;
    let copied = transfer(&from, &to, true).await.unwrap();
    assert_eq!((copied.agents, copied.last_heartbeats), (2, 1));
    let (agents, heartbeats, clock) = contents(&*to).await;
    let moved = |id| Registration { last_active: MICROS(6_901), ..registration(id) };
    assert_eq!(agents, [moved(1), moved(2), registration(3)]);
    let first = LastHeartbeat { last_active: MICROS(6_990), ..heartbeat(1, 90) };
    assert_eq!(heartbeats, [first, heartbeat(2, 6_900), heartbeat(3, 6_990)]);
    assert_eq!(clock, Some(MICROS(7_000)));
}

#[tokio::test]
async fn a_store_without_a_clock_that_is_added_to_stays_at_the_beginning_of_time() {
    let from = source(&[registration(1)], &[heartbeat(1, 90)], Some(MICROS(100))).await;
    let to = Arc::<MemoryStore>::default();
    fill(&*to, &[registration(2)], &[], None).await;
    transfer(&from, &to, true).await.unwrap();
    let (_, heartbeats, clock) = contents(&*to).await;
    assert_eq!((heartbeats[0].last_active, clock), (MICROS(-10), Some(MICROS(0))));
}

#[tokio::test]
async fn policies_that_are_added_to_others_are_published_anew() {
    let set = |org, versions| Change::SetPolicies(Arc::new(policies(org, versions)));
    let (from, to): (Arc<dyn Store>, _) = (Arc::<MemoryStore>::default(), Arc::<MemoryStore>::default());
    from.commit(vec![set(None, &[1, 3]), set(Some("acme"), &[2])]).await.unwrap();
    let copied = transfer(&from, &to, false).await.unwrap();
    assert_eq!((copied.agents, copied.scopes), (0, 2));
    let refused = transfer(&from, &to, false).await.unwrap_err().to_string();
    assert!(refused.contains("has 0 agents, 2 policies in force; copy into an empty store"), "{refused}");
    to.commit(vec![set(None, &[7]), set(Some("bolt"), &[8]), Change::PolicyVersion(PolicyVersion::new(9))])
        .await
        .unwrap();
    let seen = LastHeartbeat { last_fetched: PolicyVersion::new(3), ..heartbeat(1, 90) };
    fill(&*from, &[registration(1)], &[seen], None).await;
    let copied = transfer(&from, &to, true).await.unwrap();
    assert_eq!((copied.agents, copied.scopes), (1, 2));
    assert_eq!(contents(&*to).await.1[0].last_fetched, PolicyVersion::NONE);
    let mut found = Vec::new();
    let whole = read(&*to, async |chunk| {
        match chunk {
            Chunk::Policies(some) => found.extend(some.iter().map(|one| ScopePolicies::clone(one))),
            Chunk::Registrations(_) | Chunk::Heartbeats(_) => {}
        }
        Ok::<_, StoreError>(())
    });
    let last = whole.await.unwrap().policy_version;
    let versions: Vec<_> =
        found.iter().map(|one| one.versions().iter().map(|one| one.get()).collect::<Vec<_>>()).collect();
    assert_eq!((versions, last.get()), (vec![vec![7, 10], vec![2, 11], vec![8]], 11));
    let ids: Vec<_> = found.iter().map(|one| one.newest().id.get()).collect();
    assert_eq!(ids, [3, 2, 8], "the newest of the source is in force");
}

/// Loses one agent, or fails at the second transaction.
#[derive(Debug, Default)]
struct Bad {
    kept: MemoryStore,
    fails: bool,
    commits: AtomicUsize,
}

impl StoreReader for Bad {
    fn clock(&self) -> BoxFuture<'_, Result<Option<ActiveTime>, StoreError>> {
        self.kept.clock()
    }

    fn load(&self, out: mpsc::Sender<Chunk>) -> BoxFuture<'_, Result<Loaded, StoreError>> {
        self.kept.load(out)
    }

    fn load_threats(&self, out: mpsc::Sender<Vec<ThreatEntry>>) -> BoxFuture<'_, Result<LoadedThreats, StoreError>> {
        self.kept.load_threats(out)
    }

    fn threats(&self, keys: Vec<ThreatKey>) -> BoxFuture<'_, Result<Vec<Option<Threat>>, StoreError>> {
        self.kept.threats(keys)
    }
}

impl Store for Bad {
    fn commit(&self, mut changes: Vec<Change>) -> BoxFuture<'_, Result<(), StoreError>> {
        if self.fails && self.commits.fetch_add(1, Relaxed) == 1 {
            return async { Err(StoreError::unavailable("no room")) }.boxed();
        }
        changes.retain(|change| self.fails || change.agent() != Some(AgentId::new(7)));
        self.kept.commit(changes)
    }

    fn discard(&self, discards: Vec<Discard>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.kept.discard(discards)
    }

    fn save<'a>(&'a self, batch: &'a HeartbeatBatch) -> BoxFuture<'a, Result<(), StoreError>> {
        self.kept.save(batch)
    }
}

#[tokio::test]
async fn a_target_that_does_not_have_what_was_written_gets_no_clock() {
    let agents: Vec<_> = (0..10).map(registration).collect();
    let from = source(&agents, &[], Some(MICROS(9))).await;
    let to = Arc::<Bad>::default();
    let error = transfer(&from, &to, false).await.unwrap_err().to_string();
    assert!(error.contains("has 9 agents") && error.contains("should have 10 agents"), "{error}");
    assert_eq!(to.kept.clock().await.unwrap(), None);
}

#[tokio::test]
async fn a_target_that_fails_ends_the_reading_of_the_source() {
    let agents: Vec<_> = (0..3 * COMMIT_BATCH_MAX as u64).map(registration).collect();
    let from = source(&agents, &[heartbeat(1, 5)], Some(MICROS(9))).await;
    let to = Arc::new(Bad { fails: true, ..Bad::default() });
    let error = transfer(&from, &to, false).await.unwrap_err().to_string();
    assert!(error.contains("/to cannot be used") && error.contains("no room"), "{error}");
    let (agents, heartbeats, clock) = contents(&to.kept).await;
    assert_eq!((agents.len(), heartbeats.len(), clock), (COMMIT_BATCH_MAX, 0, None));
}

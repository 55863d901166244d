//! What every backend must do: one suite, run over each of them.

use std::{sync::Arc, time::Duration};

use futures_util::future::LocalBoxFuture;
use tokio::sync::mpsc;

use self::redis_server::RedisServer;
use super::{
    Change, Chunk, Committer, EmbeddedStore, HeartbeatBatch, Loaded, MemoryStore, RedisSettings, RedisStore, Store,
};
use crate::fleet::{
    AgentId, GuardReport, Heard, LastHeartbeat, MachineKey, Registration, Timestamp, TokenHash, Vitals,
};

#[path = "../../tests/support/redis.rs"]
mod redis_server;

/// A backend, and how to come back to its data after the process has ended.
trait Backend {
    fn open(&self) -> LocalBoxFuture<'_, Arc<dyn Store>>;
}

struct Embedded(tempfile::TempDir);

impl Backend for Embedded {
    fn open(&self) -> LocalBoxFuture<'_, Arc<dyn Store>> {
        Box::pin(async { Arc::new(EmbeddedStore::open(self.0.path()).unwrap()) as Arc<dyn Store> })
    }
}

struct Memory(Arc<MemoryStore>);

impl Backend for Memory {
    fn open(&self) -> LocalBoxFuture<'_, Arc<dyn Store>> {
        Box::pin(async { self.0.clone() as Arc<dyn Store> })
    }
}

struct Redis(RedisServer);

impl Backend for Redis {
    fn open(&self) -> LocalBoxFuture<'_, Arc<dyn Store>> {
        let settings = RedisSettings {
            url: self.0.url().parse().unwrap(),
            key_prefix: "conformance:".into(),
            ca_file: None,
            min_replicas: 0,
            timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(10),
        };
        Box::pin(async move { Arc::new(RedisStore::open(&settings).await.unwrap()) as Arc<dyn Store> })
    }
}

/// Runs one test of the suite over every backend.
async fn on_every_backend(test: impl AsyncFn(&dyn Backend)) {
    test(&Memory(Arc::default())).await;
    test(&Embedded(tempfile::tempdir().unwrap())).await;
    test(&Redis(RedisServer::start())).await;
}

fn registration(id: u64) -> Registration {
    Registration {
        id: AgentId::new(id),
        hostname: format!("host-{id}").into(),
        os: "linux".into(),
        version: "1.2.0".into(),
        ip: "2001:db8::1".parse().unwrap(),
        org_id: Some("acme \"quoted\" 组织".into()),
        tags: vec!["a".into(), "b".into()],
        machine: Some(MachineKey::new(None, &format!("machine-{id}"))),
        registered_at: Timestamp::from_millis(1_000 + id as i64),
        heard_at: Heard::from_micros(7),
        token: TokenHash::of("secret"),
    }
}

fn heartbeat(id: u64, heard: i64) -> LastHeartbeat {
    let report = GuardReport { mode: Some("learning".into()), events_processed: Some(3.0), ..GuardReport::default() };
    LastHeartbeat {
        id: AgentId::new(id),
        registration: Timestamp::from_millis(1_000 + id as i64),
        at: Timestamp::from_millis(heard),
        heard: Heard::from_micros(heard),
        version: "1.3.0".into(),
        vitals: Vitals { cpu: Some(48.2), memory: None, uptime: Some(86_400.0), report: Some(Box::new(report)) },
    }
}

fn register(id: u64) -> Change {
    Change::Register(Box::new(registration(id)))
}

async fn save(store: &dyn Store, heartbeats: Vec<LastHeartbeat>, clock: Option<Heard>) {
    store.save(&HeartbeatBatch { heartbeats, clock }).await.unwrap();
}

/// All that is in the store; of each agent's heartbeats the last.
async fn contents(store: &dyn Store) -> (Vec<(Registration, Option<LastHeartbeat>)>, Loaded) {
    let (out, mut chunks) = mpsc::channel(1);
    let gather = async {
        let mut agents = std::collections::BTreeMap::new();
        while let Some(chunk) = chunks.recv().await {
            match chunk {
                Chunk::Registrations(registrations) => {
                    agents.extend(registrations.into_iter().map(|one| (one.id, (one, None))));
                }
                Chunk::Heartbeats(heartbeats) => {
                    for last in heartbeats {
                        agents.entry(last.id).and_modify(|(_, known)| *known = Some(last));
                    }
                }
            }
        }
        agents.into_values().collect()
    };
    let (loaded, agents) = tokio::join!(store.load(out), gather);
    (agents, loaded.unwrap())
}

#[tokio::test]
async fn what_was_committed_and_saved_is_there_after_the_store_is_opened_again() {
    on_every_backend(async |backend| {
        {
            let store = backend.open().await;
            assert_eq!(contents(&*store).await.0, []);
            store.commit(vec![register(1), register(2), register(3)]).await.unwrap();
            save(&*store, vec![heartbeat(1, 10), heartbeat(2, 11)], Some(Heard::from_micros(99))).await;
            save(&*store, vec![heartbeat(1, 12)], None).await;
        }
        let store = backend.open().await;
        let expected = vec![
            (registration(1), Some(heartbeat(1, 12))),
            (registration(2), Some(heartbeat(2, 11))),
            (registration(3), None),
        ];
        let (agents, loaded) = contents(&*store).await;
        assert_eq!(agents, expected);
        assert_eq!((loaded.agents, loaded.corrupt), (3, 0));
        assert_eq!(store.clock().await.unwrap(), Some(Heard::from_micros(99)));
    })
    .await;
}

#[tokio::test]
async fn a_deregistered_agent_does_not_come_back_even_if_a_late_heartbeat_follows() {
    on_every_backend(async |backend| {
        {
            let store = backend.open().await;
            store.commit(vec![register(1), register(2)]).await.unwrap();
            save(&*store, vec![heartbeat(1, 10)], None).await;
            store.commit(vec![Change::Deregister(AgentId::new(1))]).await.unwrap();
            save(&*store, vec![heartbeat(1, 11)], None).await;
        }
        assert_eq!(contents(&*backend.open().await).await.0, [(registration(2), None)]);
    })
    .await;
}

#[tokio::test]
async fn a_registration_replaces_the_earlier_one_of_the_same_agent() {
    on_every_backend(async |backend| {
        let newer = Registration { hostname: "renamed".into(), ..registration(1) };
        {
            let store = backend.open().await;
            store.commit(vec![register(1)]).await.unwrap();
            store.commit(vec![Change::Reregister(Box::new(newer.clone()))]).await.unwrap();
        }
        assert_eq!(contents(&*backend.open().await).await.0, [(newer, None)]);
    })
    .await;
}

#[tokio::test]
async fn changes_of_one_transaction_take_effect_in_their_order() {
    on_every_backend(async |backend| {
        let store = backend.open().await;
        store.commit(vec![register(1), Change::Deregister(AgentId::new(1)), register(2)]).await.unwrap();
        assert_eq!(contents(&*store).await.0, [(registration(2), None)]);
    })
    .await;
}

#[tokio::test]
async fn a_large_fleet_is_loaded_whole() {
    on_every_backend(async |backend| {
        const AGENTS: u64 = 5_000;
        {
            let store = backend.open().await;
            store.commit((0..AGENTS).map(register).collect()).await.unwrap();
            save(&*store, (0..AGENTS).map(|id| heartbeat(id, 1)).collect(), None).await;
        }
        let (agents, loaded) = contents(&*backend.open().await).await;
        assert_eq!((loaded.agents, loaded.heartbeats, loaded.corrupt), (AGENTS, AGENTS, 0));
        assert!(agents.iter().all(|(_, last)| last.is_some()));
    })
    .await;
}

#[tokio::test]
async fn concurrent_commits_are_all_answered_after_they_are_durable() {
    on_every_backend(async |backend| {
        {
            let committer = Committer::start(backend.open().await);
            let commits = (0..200).map(|id| committer.commit(register(id)));
            let outcomes = futures_util::future::join_all(commits).await;
            assert!(outcomes.iter().all(Result::is_ok));
        }
        // The committing task ends with its last handle; until then it holds the store.
        tokio::task::yield_now().await;
        assert_eq!(contents(&*backend.open().await).await.0.len(), 200);
    })
    .await;
}

#[tokio::test]
async fn a_second_process_is_refused_with_the_folder_it_wants() {
    let folder = tempfile::tempdir().unwrap();
    let _first = EmbeddedStore::open(folder.path()).unwrap();
    let refused = EmbeddedStore::open(folder.path()).unwrap_err().to_string();
    assert!(refused.contains("in use by another process"), "{refused}");
    assert!(refused.contains(&folder.path().display().to_string()), "{refused}");
}

//! What every backend must do: one suite, run over each of them.

use std::{sync::Arc, time::Duration};

use futures_util::future::LocalBoxFuture;
use guardbeat_testkit::redis::RedisServer;
use tokio::sync::mpsc;

use super::{
    Change, Chunk, Committer, EmbeddedStore, HeartbeatBatch, Loaded, MemoryStore, RedisSettings, RedisStore, Store,
};
use crate::{
    fleet::{
        ActiveTime, AgentId, Figures, GuardFigures, LastHeartbeat, MachineKey, PolicyVersion, Registration, Timestamp,
        TokenHash,
    },
    limits::{LOAD_CHUNK_MAX, PARTITIONS, POLICY_STEP_MAX},
    policy::{PolicyScope, ScopePolicies, samples::policies},
};

mod threats;

/// A backend, and how to come back to its data after the process has ended.
trait Backend {
    fn open(&self) -> LocalBoxFuture<'_, Arc<dyn Store>>;
}

struct Embedded(tempfile::TempDir);

impl Backend for Embedded {
    fn open(&self) -> LocalBoxFuture<'_, Arc<dyn Store>> {
        Box::pin(async { Arc::new(EmbeddedStore::open(self.0.path(), false).unwrap()) as Arc<dyn Store> })
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
        registered_at: registered_at(id),
        last_active: ActiveTime::from_micros(7),
        token: TokenHash::of("secret"),
    }
}

fn registered_at(id: u64) -> Timestamp {
    Timestamp::from_millis(1_000 + (id % 1_000_000) as i64)
}

fn heartbeat(id: u64, last_active: i64) -> LastHeartbeat {
    let guard =
        GuardFigures { mode: Some("learning".into()), events_processed: Some(3.0).into(), ..GuardFigures::default() };
    LastHeartbeat {
        id: AgentId::new(id),
        registration: registered_at(id),
        at: Timestamp::from_millis(last_active),
        last_active: ActiveTime::from_micros(last_active),
        version: "1.3.0".into(),
        figures: Figures {
            cpu: Some(48.2).into(),
            uptime: Some(86_400.0).into(),
            guard: Some(Box::new(guard)),
            ..Figures::default()
        },
        last_fetched: PolicyVersion::new(id as u32 % 5),
    }
}

fn register(id: u64) -> Change {
    Change::Register(Box::new(registration(id)))
}

async fn save(store: &dyn Store, heartbeats: Vec<LastHeartbeat>, clock: Option<ActiveTime>) {
    store.save(&HeartbeatBatch { heartbeats, clock }).await.unwrap();
}

/// All that is in the store.
async fn contents(store: &dyn Store) -> (Vec<(Registration, Option<LastHeartbeat>)>, Loaded) {
    let (out, mut chunks) = mpsc::channel(1);
    let collect = async {
        let mut agents = std::collections::BTreeMap::new();
        while let Some(chunk) = chunks.recv().await {
            match chunk {
                Chunk::Policies(_) => assert!(agents.is_empty(), "policies come first"),
                Chunk::Registrations(registrations) => {
                    assert!(registrations.len() <= LOAD_CHUNK_MAX && registrations.is_sorted_by_key(|one| one.id));
                    agents.extend(registrations.into_iter().map(|one| (one.id, (one, None))));
                }
                Chunk::Heartbeats(heartbeats) => {
                    assert!(heartbeats.len() <= LOAD_CHUNK_MAX && heartbeats.is_sorted_by_key(|last| last.id));
                    for last in heartbeats {
                        let (_, known) = agents.get_mut(&last.id).expect("its registration comes first");
                        assert_eq!(known.replace(last), None, "one heartbeat of each agent");
                    }
                }
            }
        }
        agents.into_values().collect()
    };
    let (loaded, agents) = tokio::join!(store.load(out), collect);
    (agents, loaded.unwrap())
}

#[tokio::test]
async fn what_was_committed_and_saved_is_there_after_the_store_is_opened_again() {
    on_every_backend(async |backend| {
        {
            let store = backend.open().await;
            assert_eq!(contents(&*store).await.0, []);
            store.commit(vec![register(1), register(2), register(3)]).await.unwrap();
            save(&*store, vec![heartbeat(1, 10), heartbeat(2, 11)], Some(ActiveTime::from_micros(99))).await;
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
        assert_eq!((loaded.agents, loaded.heartbeats, loaded.corrupt), (3, 2, 0));
        assert_eq!(store.clock().await.unwrap(), Some(ActiveTime::from_micros(99)));
    })
    .await;
}

/// The policies in the store, by scope, and how many scopes the store says there are.
async fn policies_in(store: &dyn Store) -> (Vec<ScopePolicies>, u64) {
    let (out, mut chunks) = mpsc::channel(1);
    let collect = async {
        let mut policies = Vec::new();
        while let Some(chunk) = chunks.recv().await {
            match chunk {
                Chunk::Policies(some) => {
                    assert!((1..=POLICY_STEP_MAX).contains(&some.len()));
                    policies.extend(some.into_iter().map(|one| ScopePolicies::clone(&one)));
                }
                Chunk::Registrations(_) | Chunk::Heartbeats(_) => {}
            }
        }
        policies.sort_by(|a, b| a.scope().cmp(b.scope()));
        policies
    };
    let (loaded, policies) = tokio::join!(store.load(out), collect);
    (policies, loaded.unwrap().scopes)
}

fn set(policies: ScopePolicies) -> Change {
    Change::SetPolicies(Arc::new(policies))
}

#[tokio::test]
async fn the_policies_of_each_scope_are_there_as_they_were_set_last() {
    on_every_backend(async |backend| {
        let [global, acme, newer] =
            [(None, &[1][..]), (Some("acme"), &[2]), (None, &[1, 3])].map(|(org, versions)| policies(org, versions));
        {
            let store = backend.open().await;
            store.commit(vec![set(global.clone()), set(acme.clone()), register(1)]).await.unwrap();
            assert_eq!(policies_in(&*store).await, (vec![global, acme.clone()], 2));
            store.commit(vec![set(newer.clone())]).await.unwrap();
        }
        {
            let store = backend.open().await;
            assert_eq!(policies_in(&*store).await, (vec![newer.clone(), acme], 2));
            let gone = PolicyScope::of(Some("acme"));
            // Of several changes of one scope the last one counts.
            store
                .commit(vec![
                    Change::ForgetPolicies(PolicyScope::Global),
                    set(newer.clone()),
                    Change::ForgetPolicies(gone),
                ])
                .await
                .unwrap();
        }
        let store = backend.open().await;
        assert_eq!(policies_in(&*store).await, (vec![newer], 1));
        assert_eq!(contents(&*store).await.0, [(registration(1), None)]);
    })
    .await;
}

#[tokio::test]
async fn the_newest_version_ever_given_out_is_kept_when_its_policy_is_gone() {
    on_every_backend(async |backend| {
        let version = async |store: &dyn Store| {
            let (out, _in) = mpsc::channel(64);
            store.load(out).await.unwrap().policy_version
        };
        let store = backend.open().await;
        assert_eq!(version(&*store).await, PolicyVersion::NONE);
        let given_out = Change::PolicyVersion(PolicyVersion::new(7));
        store.commit(vec![set(policies(None, &[7])), given_out]).await.unwrap();
        store.commit(vec![Change::ForgetPolicies(PolicyScope::Global)]).await.unwrap();
        drop(store);
        assert_eq!(version(&*backend.open().await).await, PolicyVersion::new(7));
    })
    .await;
}

#[tokio::test]
async fn policies_of_many_tenants_are_loaded_in_bounded_chunks() {
    on_every_backend(async |backend| {
        let tenants = 3 * POLICY_STEP_MAX as u32 + 1;
        let all = (1..=tenants).map(|version| set(policies(Some(&format!("tenant {version}")), &[version])));
        backend.open().await.commit(all.collect()).await.unwrap();
        let (found, scopes) = policies_in(&*backend.open().await).await;
        assert_eq!((found.len(), scopes), (tenants as usize, u64::from(tenants)));
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

/// The ids of a fleet that has agents in every partition, and `more` in one of them.
fn all_over(more: u64) -> impl Iterator<Item = u64> {
    let spread = u64::from(PARTITIONS) * 3;
    (0..spread).map(move |number| number * (u64::MAX / spread)).chain(1..=more)
}

#[tokio::test]
async fn a_large_fleet_is_loaded_whole_and_in_bounded_chunks() {
    on_every_backend(async |backend| {
        let ids: Vec<u64> = all_over(2 * LOAD_CHUNK_MAX as u64).collect();
        {
            let store = backend.open().await;
            store.commit(ids.iter().copied().map(register).collect()).await.unwrap();
            save(&*store, ids.iter().map(|id| heartbeat(*id, 1)).collect(), None).await;
        }
        let (agents, loaded) = contents(&*backend.open().await).await;
        let all = ids.len() as u64;
        assert_eq!((loaded.agents, loaded.heartbeats, loaded.orphans, loaded.corrupt), (all, all, 0, 0));
        assert_eq!(agents.len(), ids.len());
        assert!(agents.iter().all(|(_, last)| last.is_some()));
    })
    .await;
}

#[tokio::test]
async fn the_latest_of_many_heartbeats_counts_wherever_the_agent_is() {
    on_every_backend(async |backend| {
        const ROUNDS: u64 = 7;
        let ids: Vec<u64> = all_over(3).collect();
        {
            let store = backend.open().await;
            store.commit(ids.iter().copied().map(register).collect()).await.unwrap();
            for round in 0..ROUNDS {
                // In each round fewer than in the one before: agents differ in how far back their latest is.
                let beating = ids.iter().filter(|id| *id % ROUNDS >= round);
                save(&*store, beating.map(|id| heartbeat(*id, round as i64)).collect(), None).await;
            }
        }
        let (agents, loaded) = contents(&*backend.open().await).await;
        assert_eq!(loaded.heartbeats, ids.len() as u64);
        for (registration, last) in agents {
            let id = registration.id.get();
            assert_eq!(last, Some(heartbeat(id, (id % ROUNDS) as i64)));
        }
    })
    .await;
}

#[tokio::test]
async fn a_load_ends_early_when_nobody_wants_more() {
    on_every_backend(async |backend| {
        let store = backend.open().await;
        store.commit(all_over(0).map(register).collect()).await.unwrap();
        let (out, chunks) = mpsc::channel(1);
        drop(chunks);
        let loaded = store.load(out).await.unwrap();
        assert!(loaded.agents < 3 * u64::from(PARTITIONS), "{loaded:?}");
        // It is as it was.
        assert_eq!(contents(&*store).await.1.agents, 3 * u64::from(PARTITIONS));
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
    let _first = EmbeddedStore::open(folder.path(), false).unwrap();
    let refused = EmbeddedStore::open(folder.path(), false).unwrap_err().to_string();
    assert!(refused.contains("in use by another process"), "{refused}");
    assert!(refused.contains(&folder.path().display().to_string()), "{refused}");
}

#[tokio::test]
async fn a_fleet_is_not_read_from_a_redis_that_does_not_know_it_as_ours() {
    let backend = Redis(RedisServer::start());
    let store = backend.open().await;
    store.commit(vec![register(1)]).await.unwrap();
    // As on a server that was promoted before it had heard of our claim.
    backend.0.command(&["HSET", "conformance:meta", "run", "an earlier one"]);
    let (out, mut chunks) = mpsc::channel(1);
    assert!(store.load(out).await.is_err());
    assert_eq!(chunks.recv().await, None);
}

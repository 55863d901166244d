//! Policies in a running engine: who has how many yet to fetch.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{FROM, on_a_worker, register, request, shown, start};
use crate::engine::{Credential, EngineHandle};
use crate::{
    fleet::{AgentId, Heartbeat, LastHeartbeat, PolicyVersion, RegistrationRequest, Status, Text},
    policy::{Policy, PolicyDraft, PolicyScope},
    store::{Change, HeartbeatBatch, MemoryStore, Store},
};

pub(in crate::engine) fn draft(org: Option<&str>) -> PolicyDraft {
    PolicyDraft { scope: PolicyScope::of(org), name: Text::new("p").unwrap(), description: None, rules: vec![] }
}

pub(in crate::engine) async fn publish(engine: &EngineHandle, org: Option<&str>) -> Arc<Policy> {
    engine.publish(draft(org)).await.unwrap().policy
}

/// Registers an agent of this tenant on a machine; the same one again if it is known.
pub(in crate::engine) async fn register_machine(engine: &EngineHandle, org: Option<&str>, machine: &str) -> AgentId {
    let org_id = org.map(|org| Text::new(org).unwrap());
    let request = RegistrationRequest { org_id, ..request("web-1", Some(machine)) };
    engine.register(request, FROM, true).await.unwrap().registration.id
}

pub(in crate::engine) async fn pending(engine: &EngineHandle, id: AgentId) -> u32 {
    engine.beat(id, Credential::Admin, Heartbeat::default()).await.unwrap().pending_policies
}

/// The version that the agent is given.
pub(in crate::engine) async fn fetch(engine: &EngineHandle, id: AgentId) -> Option<u32> {
    engine.policy_of(id, Credential::Admin, true).await.unwrap().map(|policy| policy.version.get())
}

#[test]
fn an_agent_is_given_its_tenants_policy_over_the_global_one_and_counts_both() {
    on_a_worker(async {
        let engine = start(Arc::new(MemoryStore::default())).await;
        let (acme, bolt, free) = (
            register_machine(&engine, Some("acme"), "1").await,
            register_machine(&engine, Some("bolt"), "2").await,
            register(&engine).await,
        );
        for org in [None, Some("acme"), None] {
            publish(&engine, org).await;
        }
        let counts =
            async || [pending(&engine, acme).await, pending(&engine, bolt).await, pending(&engine, free).await];
        assert_eq!(counts().await, [3, 2, 2]);
        assert_eq!(fetch(&engine, acme).await, Some(2));
        assert_eq!(counts().await, [0, 2, 2], "the newer global one is not for it, but it knows of it");
        assert_eq!((fetch(&engine, bolt).await, fetch(&engine, free).await), (Some(3), Some(3)));
        assert_eq!(counts().await, [0, 0, 0]);
        publish(&engine, Some("bolt")).await;
        assert_eq!(counts().await, [0, 1, 0]);
        assert_eq!(shown(&engine, bolt).await.policy, Some(PolicyVersion::new(4)));
        assert_eq!(shown(&engine, acme).await.policy, Some(PolicyVersion::new(2)));
    });
}

#[test]
fn a_policy_that_is_only_looked_at_stays_pending() {
    on_a_worker(async {
        let engine = start(Arc::new(MemoryStore::default())).await;
        let id = register(&engine).await;
        publish(&engine, None).await;
        assert!(engine.policy_of(id, Credential::Admin, false).await.unwrap().is_some());
        assert_eq!(pending(&engine, id).await, 1);
    });
}

#[test]
fn online_agents_in_scope_are_counted() {
    on_a_worker(async {
        let engine = start(Arc::new(MemoryStore::default())).await;
        for machine in 0..20 {
            register_machine(&engine, (machine % 4 == 0).then_some("acme"), &machine.to_string()).await;
        }
        let reached = async |org| engine.publish(draft(org)).await.unwrap().broadcasted_to;
        assert_eq!((reached(None).await, reached(Some("acme")).await, reached(Some("bolt")).await), (20, 5, 0));
        sleep(Duration::from_secs(91)).await;
        assert_eq!((reached(None).await, reached(Some("acme")).await), (0, 0));
    });
}

#[test]
fn fetching_is_no_sign_of_life_and_survives_a_crash_although_the_agent_never_beat() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let (id, before) = on_a_worker(async {
        let engine = start(store.clone()).await;
        let id = register(&engine).await;
        publish(&engine, None).await;
        sleep(Duration::from_secs(91)).await;
        assert_eq!(fetch(&engine, id).await, Some(1));
        let before = shown(&engine, id).await;
        assert_eq!((before.status, before.last_heartbeat), (Status::Stale, before.registration.registered_at));
        // The next flush has it. The runtime ends with everything on it, and nothing is drained: a crash.
        sleep(Duration::from_millis(150)).await;
        (id, before)
    });
    on_a_worker(async {
        let engine = start(store.clone()).await;
        assert_eq!(shown(&engine, id).await.last_heartbeat, before.last_heartbeat);
        assert_eq!(pending(&engine, id).await, 0);
    });
}

#[test]
fn what_an_agent_saw_of_policies_that_were_lost_does_not_hide_new_ones() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    on_a_worker(async {
        let id = register(&start(store.clone()).await).await;
        let last = LastHeartbeat { id, last_fetched: PolicyVersion::new(9), ..LastHeartbeat::bare(1) };
        store.save(&HeartbeatBatch { heartbeats: vec![last], clock: None }).await.unwrap();
        let engine = start(store.clone()).await;
        // The agent does not beat in this run. The next has policies enough for its last fetched version to look true.
        engine.drain().await.unwrap();
        for _ in 0..9 {
            publish(&engine, None).await;
        }
        let engine = start(store.clone()).await;
        assert_eq!(pending(&engine, id).await, 9);
    });
}

#[test]
fn a_policy_is_announced_even_if_its_client_goes_away() {
    on_a_worker(async {
        let engine = start(Arc::new(MemoryStore::default())).await;
        let id = register(&engine).await;
        let mut publishing = Box::pin(engine.publish(draft(None)));
        assert!(futures_util::FutureExt::now_or_never(&mut publishing).is_none());
        drop(publishing);
        sleep(Duration::from_millis(10)).await;
        assert_eq!(pending(&engine, id).await, 1);
    });
}

#[test]
fn policies_published_at_once_have_versions_without_gaps() {
    on_a_worker(async {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let engine = start(store.clone()).await;
        let orgs = (0..30).map(|n| ["acme", "bolt"].get(n % 3).copied());
        let all = futures_util::future::join_all(orgs.map(|org| publish(&engine, org))).await;
        let mut versions: Vec<_> = all.iter().map(|policy| policy.version.get()).collect();
        versions.sort_unstable();
        assert!(versions.into_iter().eq(1..=30));
        store.commit(vec![Change::ForgetPolicies(PolicyScope::Global)]).await.unwrap();
        assert_eq!(start(store).await.active_policy(None).unwrap().scope.org_id(), Some("bolt"));
    });
}

#[test]
fn a_version_is_not_given_again_when_its_policy_is_lost() {
    on_a_worker(async {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let engine = start(store.clone()).await;
        publish(&engine, None).await;
        publish(&engine, Some("acme")).await;
        store.commit(vec![Change::ForgetPolicies(PolicyScope::of(Some("acme")))]).await.unwrap();
        assert_eq!(publish(&start(store).await, None).await.version.get(), 3);
    });
}

#[test]
fn agents_that_fetch_one_after_the_other_are_written_down_together() {
    on_a_worker(async {
        let engine = start(Arc::new(MemoryStore::default())).await;
        let mut ids = Vec::new();
        for machine in 0..20 {
            ids.push(register_machine(&engine, None, &machine.to_string()).await);
        }
        publish(&engine, None).await;
        engine.drain().await.unwrap();
        for id in ids {
            fetch(&engine, id).await;
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(engine.counts().dirty, 20, "all of them wait for the next flush");
    });
}

//! Changes of unknown outcome, and stores that have lost what they had.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::{sync::mpsc, time::sleep};

use super::{
    FROM, beat, on_a_worker,
    policies::{draft, publish},
    register, registered, request, start, start_with,
};
use crate::engine::{Credential, EngineError};
use crate::{
    fleet::{ActiveTime, AgentId, LastHeartbeat, PolicyVersion, Registration},
    policy::{PolicyScope, ScopePolicies},
    store::{
        Change, Chunk, Discard, HeartbeatBatch, Loaded, LoadedThreats, MemoryStore, Store, StoreError, StoreReader,
        Sweep,
    },
    threats::{Period, ReportedThreat, Severity, Threat, ThreatEntry, ThreatKey},
};

/// Makes every change, and confirms it only while it is not silent.
#[derive(Debug, Default)]
struct Silent {
    store: MemoryStore,
    silent: AtomicBool,
    /// Takes its time for each change.
    slow: AtomicBool,
    /// Wants a sweep of everything.
    has_lost: AtomicBool,
}

impl StoreReader for Silent {
    fn clock(&self) -> BoxFuture<'_, Result<Option<ActiveTime>, StoreError>> {
        self.store.clock()
    }

    fn load(&self, out: mpsc::Sender<Chunk>) -> BoxFuture<'_, Result<Loaded, StoreError>> {
        self.store.load(out)
    }

    fn load_threats(&self, out: mpsc::Sender<Vec<ThreatEntry>>) -> BoxFuture<'_, Result<LoadedThreats, StoreError>> {
        self.store.load_threats(out)
    }

    fn threats(&self, keys: Vec<ThreatKey>) -> BoxFuture<'_, Result<Vec<Option<Threat>>, StoreError>> {
        self.store.threats(keys)
    }
}

impl Store for Silent {
    fn commit(&self, changes: Vec<Change>) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            if self.slow.load(Relaxed) {
                sleep(Duration::from_secs(1)).await;
            }
            self.store.commit(changes).await?;
            if self.silent.load(Relaxed) { Err(StoreError::UnknownOutcome("no answer".into())) } else { Ok(()) }
        }
        .boxed()
    }

    fn discard(&self, discards: Vec<Discard>) -> BoxFuture<'_, Result<(), StoreError>> {
        let silent = self.silent.load(Relaxed);
        async move {
            self.store.discard(discards).await?;
            if silent { Err(StoreError::UnknownOutcome("no answer".into())) } else { Ok(()) }
        }
        .boxed()
    }

    fn save<'a>(&'a self, batch: &'a HeartbeatBatch) -> BoxFuture<'a, Result<(), StoreError>> {
        self.store.save(batch)
    }

    fn wants_sweep(&self, shard: usize, _: usize) -> Option<Sweep> {
        // The other shard has no agents in these tests.
        (shard == 0 && self.has_lost.load(Relaxed)).then_some(Sweep { number: 1, registrations: true, urgent: true })
    }

    fn swept(&self, _: usize, _: Sweep) -> BoxFuture<'_, Result<(), StoreError>> {
        self.has_lost.store(false, Relaxed);
        async { Ok(()) }.boxed()
    }
}

async fn contents(store: &dyn Store) -> (Vec<Registration>, Vec<LastHeartbeat>) {
    let (out, mut chunks) = mpsc::channel(2);
    let (mut registrations, mut heartbeats) = (Vec::new(), Vec::new());
    let collect = async {
        while let Some(chunk) = chunks.recv().await {
            match chunk {
                Chunk::Policies(_) => {}
                Chunk::Registrations(some) => registrations.extend(some),
                Chunk::Heartbeats(some) => heartbeats.extend(some),
            }
        }
    };
    tokio::join!(store.load(out), collect).0.unwrap();
    (registrations, heartbeats)
}

/// The policies in the store.
async fn policies(store: &dyn Store) -> Vec<Arc<ScopePolicies>> {
    let (out, mut chunks) = mpsc::channel(2);
    let mut policies = Vec::new();
    let collect = async {
        while let Some(chunk) = chunks.recv().await {
            match chunk {
                Chunk::Policies(some) => policies.extend(some),
                Chunk::Registrations(_) | Chunk::Heartbeats(_) => {}
            }
        }
    };
    tokio::join!(store.load(out), collect).0.unwrap();
    policies
}

/// Long enough for the store to be found working again, and for a flush after that.
const RECONCILED: Duration = Duration::from_secs(3);

async fn is_silent_during<T>(store: &Silent, change: impl Future<Output = T>) -> T {
    store.silent.store(true, Relaxed);
    let outcome = change.await;
    store.silent.store(false, Relaxed);
    outcome
}

fn is_refused<T>(outcome: &Result<T, EngineError>) -> bool {
    matches!(outcome, Err(EngineError::Store(StoreError::UnknownOutcome(_))))
}

#[test]
fn a_registration_that_was_refused_with_an_unknown_outcome_is_not_in_the_store() {
    on_a_worker(async {
        let store = Arc::new(Silent::default());
        let engine = start(store.clone()).await;
        let known = register(&engine).await;
        let refused = is_silent_during(&store, engine.register(request("ghost", None), FROM, true)).await;
        assert!(is_refused(&refused));
        assert_eq!(contents(&*store).await.0.len(), 2, "the store has made the change");
        sleep(RECONCILED).await;
        let (registrations, _) = contents(&*store).await;
        assert_eq!(registrations.iter().map(|one| one.id).collect::<Vec<_>>(), [known]);
    });
}

#[test]
fn an_agent_whose_deregistration_was_refused_with_an_unknown_outcome_stays_in_the_store_with_its_last_heartbeat() {
    on_a_worker(async {
        let store = Arc::new(Silent::default());
        let engine = start(store.clone()).await;
        let id = register(&engine).await;
        beat(&engine, id).await;
        sleep(RECONCILED).await;
        let before = contents(&*store).await;
        assert_eq!((before.0.len(), before.1.len()), (1, 1));
        assert!(is_refused(&is_silent_during(&store, engine.deregister(id, Credential::Admin)).await));
        assert_eq!(contents(&*store).await, (vec![], vec![]), "the store has made the change");
        sleep(RECONCILED).await;
        let after = contents(&*store).await;
        assert_eq!(after.1, before.1);
        // Until a heartbeat, the registration counts as the last sign of life; written once more, its last one does.
        assert_eq!(after.0, [Registration { last_active: before.1[0].last_active, ..before.0[0].clone() }]);
        engine.deregister(id, Credential::Admin).await.unwrap();
        sleep(RECONCILED).await;
        assert_eq!(contents(&*store).await, (vec![], vec![]));
    });
}

#[test]
fn an_agent_whose_new_registration_was_refused_with_an_unknown_outcome_keeps_its_token() {
    on_a_worker(async {
        let store = Arc::new(Silent::default());
        let engine = start(store.clone()).await;
        let first = registered(&engine, Some("m")).await.registration;
        let again = engine.register(request("renamed", Some("m")), FROM, true);
        assert!(is_refused(&is_silent_during(&store, again).await));
        assert_eq!(&*contents(&*store).await.0[0].hostname, "renamed", "the store has made the change");
        sleep(RECONCILED).await;
        assert_eq!(contents(&*store).await.0, std::slice::from_ref(&first));
        engine.check_token(first.id, first.token).await.unwrap();
    });
}

#[test]
fn a_store_that_has_lost_everything_is_told_everything_and_nothing_that_is_gone() {
    on_a_worker(async {
        let store = Arc::new(Silent::default());
        let engine = start_with(store.clone(), 10_000).await;
        let mut ids = Vec::new();
        // More than a step of the sweep takes, in the first shard.
        while ids.len() < 3_000 {
            let id = register(&engine).await;
            if id.partition().shard(2) == 0 {
                ids.push(id)
            } else {
                engine.deregister(id, Credential::Admin).await.unwrap()
            }
        }
        let gone = ids.pop().unwrap();
        engine.deregister(gone, Credential::Admin).await.unwrap();
        beat(&engine, ids[0]).await;
        sleep(RECONCILED).await;
        let ids: std::collections::BTreeSet<AgentId> = ids.into_iter().collect();
        store.store.commit(ids.iter().copied().map(Change::Deregister).collect()).await.unwrap();
        store.has_lost.store(true, Relaxed);
        sleep(RECONCILED).await;
        let (registrations, heartbeats) = contents(&*store).await;
        assert!(registrations.iter().map(|one| one.id).eq(ids.iter().copied()));
        assert!(heartbeats.iter().map(|one| one.id).eq(ids.iter().copied()));
        assert!(!store.has_lost.load(Relaxed), "the sweep is over");
    });
}

#[test]
fn a_store_that_is_told_everything_is_not_told_what_a_change_under_way_replaces() {
    on_a_worker(async {
        let store = Arc::new(Silent::default());
        let engine = start(store.clone()).await;
        let mut first = registered(&engine, Some("0")).await.registration;
        let mut machine = 0.to_string();
        for n in 1.. {
            if first.id.partition().shard(2) == 0 {
                break;
            }
            machine = n.to_string();
            first = registered(&engine, Some(&machine)).await.registration;
        }
        store.slow.store(true, Relaxed);
        let again = engine.register(request("renamed", Some(&machine)), FROM, true);
        let lose = async {
            sleep(Duration::from_millis(500)).await;
            store.has_lost.store(true, Relaxed);
        };
        let (again, ()) = tokio::join!(again, lose);
        sleep(2 * RECONCILED).await;
        assert!(!store.has_lost.load(Relaxed), "the sweep is over");
        let (registrations, _) = contents(&*store).await;
        let stored = registrations.iter().find(|one| one.id == first.id).unwrap();
        assert_eq!((&*stored.hostname, stored.token), ("renamed", again.unwrap().registration.token));
    });
}

pub(in crate::engine) fn event() -> ReportedThreat {
    ReportedThreat {
        kind: "brute_force".into(),
        severity: Severity::High,
        confidence: None,
        rule_id: None,
        source_ip: None,
        occurred_at: None,
        details: serde_json::value::RawValue::from_string("{}".into()).unwrap(),
    }
}

async fn stored_threats(store: &dyn Store) -> u64 {
    let (out, mut rows) = mpsc::channel(8);
    let loaded = store.load_threats(out).await.unwrap();
    while rows.recv().await.is_some() {}
    loaded.threats
}

#[test]
fn a_report_with_an_unknown_outcome_is_not_counted_and_leaves_the_store_again() {
    on_a_worker(async {
        let store = Arc::new(Silent::default());
        let engine = start(store.clone()).await;
        let id = register(&engine).await;
        engine.report(id, Credential::Admin, vec![event(), event()]).await.unwrap();
        store.silent.store(true, Relaxed);
        let refused = engine.report(id, Credential::Admin, vec![event()]).await;
        assert!(matches!(refused, Err(EngineError::Store(StoreError::UnknownOutcome(_)))));
        assert_eq!(stored_threats(&*store).await, 3, "it is there");
        store.silent.store(false, Relaxed);
        sleep(Duration::from_secs(5)).await;
        assert_eq!(stored_threats(&*store).await, 2, "and is taken back");
        assert_eq!(engine.threat_summary(None, Period::Hour1).await.unwrap().total, 2);
        engine.report(id, Credential::Admin, vec![event()]).await.unwrap();
        assert_eq!(engine.threat_summary(None, Period::Hour1).await.unwrap().total, 3);
    });
}

#[test]
fn a_report_with_an_unknown_outcome_has_left_the_store_when_the_server_has_ended_in_order() {
    on_a_worker(async {
        let store = Arc::new(Silent::default());
        let engine = start(store.clone()).await;
        let id = register(&engine).await;
        store.silent.store(true, Relaxed);
        assert!(engine.report(id, Credential::Admin, vec![event()]).await.is_err());
        assert!(engine.drain().await.is_err(), "the store does not answer: it is not known to be gone");
        store.silent.store(false, Relaxed);
        assert_eq!(stored_threats(&*store).await, 0);
        engine.drain().await.unwrap();
    });
}

#[test]
fn a_policy_that_was_refused_with_an_unknown_outcome_is_not_in_the_store_and_its_version_is_given_to_the_next() {
    on_a_worker(async {
        let store = Arc::new(Silent::default());
        let engine = start(store.clone()).await;
        let global = publish(&engine, None).await;
        for (org, known) in [(Some("acme"), 1), (None, 1)] {
            assert!(is_refused(&is_silent_during(&store, engine.publish(draft(org))).await));
            assert!(policies(&*store).await.iter().any(|one| one.newest().version == PolicyVersion::new(2)));
            assert_eq!(engine.policy_version(), Some(PolicyVersion::new(1)), "nobody is told of it");
            sleep(RECONCILED).await;
            let found = policies(&*store).await;
            assert_eq!(found.iter().map(|one| one.newest().clone()).collect::<Vec<_>>(), std::slice::from_ref(&global));
            assert_eq!(found.len(), known);
        }
        // Also if it comes before the next flush could put the store right.
        assert!(is_refused(&is_silent_during(&store, engine.publish(draft(Some("acme")))).await));
        sleep(Duration::from_millis(1_001)).await;
        assert_eq!(publish(&engine, Some("bolt")).await.version, PolicyVersion::new(2));
        let mut versions: Vec<_> = policies(&*store).await.iter().map(|one| one.newest().version.get()).collect();
        versions.sort_unstable();
        assert_eq!(versions, [1, 2]);
    });
}

#[test]
fn a_store_that_has_lost_everything_is_told_all_policies() {
    on_a_worker(async {
        let store = Arc::new(Silent::default());
        let engine = start(store.clone()).await;
        let mut published = Vec::new();
        for org in [None, Some("acme"), None] {
            published.push(publish(&engine, org).await);
        }
        let before = policies(&*store).await;
        let lose = [PolicyScope::Global, PolicyScope::of(Some("acme"))].map(Change::ForgetPolicies);
        store.store.commit(lose.into()).await.unwrap();
        store.has_lost.store(true, Relaxed);
        sleep(RECONCILED).await;
        assert!(!store.has_lost.load(Relaxed), "the sweep is over");
        assert_eq!(policies(&*store).await, before);
    });
}

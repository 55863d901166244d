//! The engine without HTTP, under a clock that tests move.

#[cfg(test)]
pub(super) mod interleaving;
#[cfg(test)]
pub(super) mod listing;
#[cfg(test)]
pub(super) mod policies;
#[cfg(test)]
pub(super) mod unknown_outcome;

use std::{net::IpAddr, sync::Arc, time::Duration};

use actix::Actor;
use futures_util::FutureExt;
use tokio::{
    task::LocalSet,
    time::{Instant, sleep},
};

use super::{
    AgentState, Credential, EngineError, EngineHandle, LivenessRules, Registered, ShardActor,
    agent::test_support::Panic, threats::log::ThreatLog,
};
use crate::{
    clock::Clock,
    fleet::{ActiveTime, AgentId, Figures, Heartbeat, RegistrationRequest, Status, Text, Thresholds, Timestamp},
    metrics::Metrics,
    server::{self, loading},
    store::{Durability, FlushRules, MemoryStore, Store, WriteBehind},
    threats::Retention,
};

const TIMEOUT: Duration = Duration::from_secs(60);
const STALE_AFTER: Duration = Duration::from_secs(90);
const OFFLINE_AFTER: Duration = Duration::from_secs(300);
const RULES: LivenessRules = LivenessRules {
    thresholds: Thresholds { stale_after: STALE_AFTER, offline_after: OFFLINE_AFTER },
    restart_grace: STALE_AFTER,
    restart_spread: Duration::from_secs(9),
};
/// How long threats are kept.
pub(super) const RETENTION_MS: u64 = 30 * 86_400_000;
/// When the world of these tests begins, in milliseconds since 1970.
pub(super) const BEGINNING_MS: u64 = 1_772_884_800_000;
/// What the product promises.
const DETECTION: Duration = Duration::from_millis(100);

/// Runs a test on one thread, as a worker does, with the clock standing still until somebody sleeps.
pub(super) fn on_a_worker<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, test)
}

/// An engine of two shards over `store`, both on this thread.
pub(super) async fn start(store: Arc<dyn Store>) -> EngineHandle {
    start_with(store, 1_000).await
}

pub(super) async fn start_with(store: Arc<dyn Store>, max_agents: u64) -> EngineHandle {
    start_as(store, max_agents, BEGINNING_MS).await
}

/// As [`start`], with the wall clock at this time.
pub(super) async fn start_at(store: Arc<dyn Store>, wall_ms: u64) -> EngineHandle {
    start_as(store, 1_000, wall_ms).await
}

async fn start_as(store: Arc<dyn Store>, max_agents: u64, wall_ms: u64) -> EngineHandle {
    let base = store.clock().await.unwrap().unwrap_or_default();
    let wall = Timestamp::from_millis(wall_ms.try_into().unwrap());
    let clock = Clock::simulated(2, base, Duration::from_secs(30), wall);
    let durability = Durability::start(store.clone(), 2, base);
    let engine = EngineHandle::new(2, max_agents, durability.clone(), clock.clone(), Arc::new(Metrics::new()));
    for index in 0..2 {
        let shard = engine.new_shard(index, RULES);
        let rules = FlushRules {
            interval: Duration::from_millis(100),
            clock_from: server::clock_from(base, &RULES),
            shard: index,
            shards: 2,
        };
        let write_behind =
            WriteBehind::new(shard.clone(), durability.clone(), clock.clone(), engine.metrics().clone(), rules);
        engine.attach(index, ShardActor::start(shard, write_behind));
    }
    let retention = Retention { max_age_ms: RETENTION_MS, max_bytes: 1 << 20 };
    engine.attach_threat_log(ThreatLog::new(engine.threat_log_parts(retention)).start());
    engine.load_threats().await.unwrap();
    loading::load(&engine, &*store).await.unwrap();
    engine
}

pub(super) fn request(hostname: &str, machine: Option<&str>) -> RegistrationRequest {
    RegistrationRequest {
        hostname: Text::new(hostname).unwrap(),
        os: Text::new("linux").unwrap(),
        version: Text::new("1.2.0").unwrap(),
        ip: None,
        org_id: None,
        tags: vec![],
        machine_id: machine.map(|id| Text::new(id).unwrap()),
    }
}

pub(super) const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

pub(super) async fn register(engine: &EngineHandle) -> AgentId {
    registered(engine, None).await.registration.id
}

pub(super) async fn registered(engine: &EngineHandle, machine: Option<&str>) -> Registered {
    engine.register(request("web-1", machine), FROM, true).await.unwrap()
}

pub(super) async fn beat(engine: &EngineHandle, id: AgentId) {
    let ack = engine.beat(id, Credential::Admin, Heartbeat::default()).await.unwrap();
    assert_eq!(ack.status, Status::Online);
}

pub(super) async fn shown(engine: &EngineHandle, id: AgentId) -> AgentState {
    engine.show(id, Credential::Admin).await.unwrap()
}

async fn status(engine: &EngineHandle, id: AgentId) -> &'static str {
    shown(engine, id).await.status.name()
}

#[test]
fn silence_makes_an_agent_stale_then_offline_and_a_heartbeat_brings_it_back() {
    on_a_worker(async {
        let engine = start(Arc::new(MemoryStore::default())).await;
        let id = register(&engine).await;
        let counts = |engine: &EngineHandle| {
            let counts = engine.counts();
            (counts.online, counts.stale, counts.offline)
        };
        sleep(STALE_AFTER - Duration::from_millis(1)).await;
        assert_eq!((status(&engine, id).await, counts(&engine)), ("online", (1, 0, 0)));
        sleep(DETECTION).await;
        assert_eq!((status(&engine, id).await, counts(&engine)), ("stale", (0, 1, 0)));
        sleep(OFFLINE_AFTER - STALE_AFTER - DETECTION).await;
        assert_eq!(counts(&engine), (0, 1, 0));
        sleep(DETECTION).await;
        assert_eq!((status(&engine, id).await, counts(&engine)), ("offline", (0, 0, 1)));
        beat(&engine, id).await;
        assert_eq!((status(&engine, id).await, counts(&engine)), ("online", (1, 0, 0)));
        sleep(STALE_AFTER + DETECTION).await;
        assert_eq!(counts(&engine), (0, 1, 0), "its timer runs again");
    });
}

#[test]
fn an_agent_that_beats_at_every_timeout_is_never_stale() {
    on_a_worker(async {
        let engine = start(Arc::new(MemoryStore::default())).await;
        let id = register(&engine).await;
        for _ in 0..50 {
            sleep(TIMEOUT).await;
            assert_eq!(engine.counts().online, 1);
            beat(&engine, id).await;
        }
    });
}

#[test]
fn silence_is_detected_within_its_promise_whenever_the_last_heartbeat_was() {
    on_a_worker(async {
        let engine = start(Arc::new(MemoryStore::default())).await;
        let id = register(&engine).await;
        for offset_ms in [0, 1, 17, 333, 59_999, 89_000] {
            beat(&engine, id).await;
            // The timer is lazy: it was set by an earlier heartbeat.
            sleep(Duration::from_millis(offset_ms)).await;
            beat(&engine, id).await;
            let beat_at = Instant::now();
            while engine.counts().stale == 0 {
                sleep(Duration::from_millis(1)).await;
            }
            let silence = beat_at.elapsed();
            assert!(silence >= STALE_AFTER && silence <= STALE_AFTER + DETECTION, "{silence:?}");
        }
    });
}

#[test]
fn time_in_which_the_process_was_stopped_is_not_silence() {
    on_a_worker(async {
        let engine = start(Arc::new(MemoryStore::default())).await;
        let id = register(&engine).await;
        sleep(Duration::from_secs(50)).await;
        // One jump, as when the process is stopped and continued: every timer is overdue at once.
        tokio::time::advance(Duration::from_secs(600)).await;
        sleep(Duration::from_secs(39)).await;
        assert_eq!((status(&engine, id).await, engine.counts().online), ("online", 1));
        sleep(Duration::from_secs(2)).await;
        assert_eq!(engine.counts().stale, 1, "the rest of its time has run out");
    });
}

#[test]
fn a_step_of_the_wall_clock_makes_nobody_stale() {
    on_a_worker(async {
        let engine = start(Arc::new(MemoryStore::default())).await;
        register(&engine).await;
        engine.clock().set_wall(Timestamp::from_millis(4_000_000_000_000));
        sleep(STALE_AFTER - Duration::from_millis(1)).await;
        assert_eq!(engine.counts().online, 1);
    });
}

#[test]
fn an_actor_that_panics_comes_back_with_its_state_and_others_never_notice() {
    on_a_worker(async {
        let engine = start(Arc::new(MemoryStore::default())).await;
        let (panics, other) = (register(&engine).await, register(&engine).await);
        let figures = Figures { cpu: Some(12.5).into(), ..Figures::default() };
        let heartbeat = Heartbeat { figures, version: Some(Text::new("2.0").unwrap()) };
        engine.beat(panics, Credential::Admin, heartbeat).await.unwrap();
        let before = shown(&engine, panics).await;

        let panicked = engine.routing().send(panics, Panic).unwrap().await;
        assert!(panicked.is_err(), "the mailbox of an actor that panicked is closed");
        assert_eq!(shown(&engine, panics).await, before);
        beat(&engine, panics).await;
        beat(&engine, other).await;
        let text = engine.metrics().render(Duration::ZERO, || engine.set_gauges(&[]));
        assert!(text.contains("guardbeat_actor_respawns_total 1"), "{text}");
        assert_eq!(engine.counts().total(), 2);
    });
}

#[test]
fn an_actor_that_panics_and_is_never_asked_again_is_still_found_silent() {
    on_a_worker(async {
        let engine = start(Arc::new(MemoryStore::default())).await;
        let id = register(&engine).await;
        engine.routing().send(id, Panic).unwrap().await.unwrap_err();
        sleep(STALE_AFTER + DETECTION).await;
        assert_eq!(engine.counts().stale, 1);
    });
}

#[test]
fn silence_that_begins_right_after_a_restart_is_noticed_in_time() {
    const AGENTS: u64 = 50;
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let ids = on_a_worker(async {
        let engine = start(store.clone()).await;
        let mut ids = Vec::new();
        for _ in 0..AGENTS {
            ids.push(register(&engine).await);
        }
        ids
    });
    on_a_worker(async {
        let engine = start(store).await;
        for id in ids {
            beat(&engine, id).await;
        }
        sleep(STALE_AFTER - Duration::from_millis(1)).await;
        assert_eq!(engine.counts().stale, 0);
        sleep(DETECTION).await;
        assert_eq!(engine.counts().stale, AGENTS, "although others that have not beaten since are waited for longer");
    });
}

#[test]
fn a_restart_forgives_the_online_remembers_the_silent_and_loses_nothing() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let (silent, beating) = on_a_worker(async {
        let engine = start(store.clone()).await;
        let (silent, beating) = (register(&engine).await, register(&engine).await);
        for _ in 0..3 {
            sleep(TIMEOUT).await;
            beat(&engine, beating).await;
        }
        engine.drain().await.unwrap();
        assert_eq!(engine.counts().stale, 1);
        (silent, beating)
    });
    on_a_worker(async {
        let engine = start(store).await;
        assert_eq!(status(&engine, silent).await, "stale");
        assert_eq!(status(&engine, beating).await, "online");
        sleep(RULES.restart_grace - Duration::from_millis(1)).await;
        assert_eq!(status(&engine, beating).await, "online");
        sleep(RULES.restart_spread + DETECTION).await;
        assert_eq!(status(&engine, beating).await, "stale");
    });
}

#[test]
fn crashes_one_after_another_never_make_an_agent_stale_that_had_no_time_to_beat() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let id = on_a_worker(async { register(&start(store.clone()).await).await });
    for _ in 0..5 {
        // The runtime ends with everything on it, and nothing is drained: a crash.
        on_a_worker(async {
            let engine = start(store.clone()).await;
            sleep(RULES.restart_grace - Duration::from_secs(1)).await;
            assert_eq!(status(&engine, id).await, "online");
        });
    }
}

#[test]
fn a_machine_that_registers_again_is_the_same_agent_with_a_new_token() {
    on_a_worker(async {
        let engine = start(Arc::new(MemoryStore::default())).await;
        let first = registered(&engine, Some("m-1")).await;
        sleep(STALE_AFTER + DETECTION).await;
        let again = engine.register(request("renamed", Some("m-1")), FROM, true).await.unwrap();
        assert_eq!(again.registration.id, first.registration.id);
        assert_ne!(again.registration.registered_at, first.registration.registered_at);
        let agent = shown(&engine, again.registration.id).await;
        assert_eq!((&*agent.registration.hostname, agent.status), ("renamed", Status::Online));
        assert_eq!(engine.counts().total(), 1);
        let old = Credential::Token(first.registration.token);
        assert!(matches!(
            engine.beat(first.registration.id, old, Heartbeat::default()).await,
            Err(EngineError::WrongToken)
        ));
        let without_token = engine.register(request("thief", Some("m-1")), FROM, false).await;
        assert!(matches!(without_token, Err(EngineError::MachineTaken)));
    });
}

#[test]
fn a_machine_that_registers_many_times_at_once_is_one_agent() {
    on_a_worker(async {
        let engine = start(Arc::new(MemoryStore::default())).await;
        let all = futures_util::future::join_all((0..20).map(|_| registered(&engine, Some("m-1")))).await;
        assert!(all.iter().all(|one| one.registration.id == all[0].registration.id));
        assert_eq!(engine.counts().total(), 1);
    });
}

#[test]
fn of_two_deregistrations_at_once_one_succeeds_and_the_place_is_free_again() {
    on_a_worker(async {
        let engine = start_with(Arc::new(MemoryStore::default()), 1).await;
        let id = register(&engine).await;
        assert!(matches!(engine.register(request("b", None), FROM, true).await, Err(EngineError::FleetFull(1))));
        let (a, b) = tokio::join!(engine.deregister(id, Credential::Admin), engine.deregister(id, Credential::Admin));
        assert_eq!([a.is_ok(), b.is_ok()].iter().filter(|ok| **ok).count(), 1);
        assert_eq!(engine.counts().total(), 0);
        register(&engine).await;
    });
}

#[test]
fn a_request_whose_client_goes_away_still_gets_its_agent() {
    on_a_worker(async {
        let engine = start(Arc::new(MemoryStore::default())).await;
        let mut registering = Box::pin(engine.register(request("web-1", None), FROM, true));
        assert!((&mut registering).now_or_never().is_none());
        drop(registering);
        sleep(Duration::from_millis(10)).await;
        assert_eq!(engine.counts().total(), 1);
    });
}

#[test]
fn active_time_is_not_saved_before_a_run_has_outlived_its_restart_grace() {
    on_a_worker(async {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let engine = start(store.clone()).await;
        sleep(Duration::from_secs(60)).await;
        engine.drain().await.unwrap();
        // What it began with, and nothing of its own.
        assert_eq!(store.clock().await.unwrap(), Some(ActiveTime::from_micros(0)));
        sleep(Duration::from_secs(60)).await;
        engine.drain().await.unwrap();
        // Behind by no more than a flush: a later moment might have heartbeats that are not written.
        let saved = store.clock().await.unwrap().unwrap();
        let now = ActiveTime::from_micros(120_000_000);
        assert!(saved <= now && now.since(saved) <= Duration::from_millis(100), "{saved:?}");
    });
}

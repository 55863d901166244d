//! The engine without HTTP: finding an agent, asking its actor, a relay's batch, and timers that go off.
//!
//! All on one thread, as on a worker whose own shard has the agent: other threads would be woken besides.

use std::{
    future::Future,
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{Criterion, SamplingMode, Throughput};
use guardbeat::{
    clock::Clock,
    engine::{Credential, EngineHandle, LivenessRules, Relayed, ShardActor},
    fleet::{ActiveTime, AgentId, RegistrationRequest, Text, Thresholds},
    metrics::Metrics,
    store::{Durability, FlushRules, MemoryStore, WriteBehind},
};
use tokio::{runtime::Runtime, task::LocalSet};

use crate::sample::{self, AGENTS, GUARD_BODY};

const STALE_AFTER: Duration = Duration::from_secs(90);
const RULES: LivenessRules = LivenessRules {
    thresholds: Thresholds { stale_after: STALE_AFTER, offline_after: Duration::from_secs(300) },
    restart_grace: STALE_AFTER,
    restart_spread: Duration::from_secs(9),
};
/// Flushes are measured alone.
const NEVER: Duration = Duration::from_secs(1_000_000);
/// Lines of a relay's batch.
const BATCH: u64 = 1_000;

/// A thread of the engine, with a fleet.
struct Worker {
    runtime: Runtime,
    tasks: LocalSet,
    engine: EngineHandle,
    ids: Vec<AgentId>,
}

impl Worker {
    /// With `paused`, time stands still, and goes on at once when there is nothing to do but wait.
    fn start(paused: bool) -> Self {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(paused).build().expect("a runtime can be started");
        let tasks = LocalSet::new();
        let (engine, ids) = tasks.block_on(&runtime, async {
            let engine = engine();
            let mut ids = Vec::new();
            for number in 0..AGENTS {
                let registered = engine.register(request(number), IpAddr::V4(Ipv4Addr::LOCALHOST), true).await;
                ids.push(registered.expect("there is room").registration.id);
            }
            (engine, ids)
        });
        Self { runtime, tasks, engine, ids }
    }

    fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.tasks.block_on(&self.runtime, work)
    }
}

fn engine() -> EngineHandle {
    let clock = Clock::new(1, ActiveTime::default(), Duration::from_secs(30));
    let durability = Durability::start(Arc::new(MemoryStore::default()), 1, ActiveTime::default());
    let engine = EngineHandle::new(1, AGENTS, durability.clone(), clock.clone(), Arc::new(Metrics::new()));
    let shard = engine.new_shard(0, RULES);
    let rules = FlushRules { interval: NEVER, clock_from: ActiveTime::default(), shard: 0, shards: 1 };
    let write_behind = WriteBehind::new(shard.clone(), durability, clock, engine.metrics().clone(), rules);
    engine.attach(0, ShardActor::start(shard, write_behind));
    engine
}

fn request(number: u64) -> RegistrationRequest {
    RegistrationRequest {
        hostname: Text::new(format!("web-{number}")).expect("short enough"),
        os: Text::new("linux").expect("short enough"),
        version: Text::new("1.2.0").expect("short enough"),
        ip: None,
        org_id: None,
        tags: vec![],
        machine_id: None,
    }
}

pub fn measure(criterion: &mut Criterion) {
    let worker = Worker::start(false);
    let mut group = criterion.benchmark_group("engine");
    group.bench_function("routing", |bencher| {
        let mut ids = worker.ids.iter().cycle();
        bencher.iter(|| worker.engine.routing().contains(black_box(*ids.next().expect("a cycle has no end"))));
    });
    let beat = sample::heartbeat(GUARD_BODY);
    group.bench_function("ask", |bencher| {
        bencher.iter_custom(|times| {
            worker.run(async {
                let begun = Instant::now();
                for number in 0..times {
                    let id = worker.ids[(number % AGENTS) as usize];
                    let answer = worker.engine.beat(id, Credential::Admin, beat.clone()).await;
                    black_box(answer).expect("the agent is there");
                }
                begun.elapsed()
            })
        });
    });
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("relay, 1,000 heartbeats", |bencher| {
        bencher.iter_custom(|times| {
            worker.run(async {
                let mut elapsed = Duration::ZERO;
                for number in 0..times {
                    let first = (number * BATCH) % AGENTS;
                    let positions = 0..BATCH as u32;
                    let batch = positions.map(|position| Relayed {
                        position,
                        id: worker.ids[(first + u64::from(position)) as usize],
                        heartbeat: beat.clone(),
                    });
                    let batch = batch.collect();
                    let begun = Instant::now();
                    assert!(worker.engine.beat_all(batch).await.is_empty(), "all agents are there");
                    elapsed += begun.elapsed();
                }
                elapsed
            })
        });
    });

    // Everybody goes stale within a second, having beaten together. With it come the pulses of a minute and a half, a
    // thousand or so.
    let worker = Worker::start(true);
    group.throughput(Throughput::Elements(AGENTS)).sample_size(10).sampling_mode(SamplingMode::Flat);
    group.bench_function("timers, 10,000 go off", |bencher| {
        bencher.iter_custom(|times| {
            worker.run(async {
                let mut elapsed = Duration::ZERO;
                for _ in 0..times {
                    for id in &worker.ids {
                        worker.engine.beat(*id, Credential::Admin, beat.clone()).await.expect("the agent is there");
                    }
                    let begun = Instant::now();
                    tokio::time::sleep(STALE_AFTER + Duration::from_secs(1)).await;
                    elapsed += begun.elapsed();
                    assert_eq!(worker.engine.counts().stale, AGENTS, "all timers went off");
                }
                elapsed
            })
        });
    });
    group.finish();
}

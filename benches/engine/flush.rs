//! A flush: the last heartbeats of agents, handed to the store.

use std::{sync::Arc, time::Duration};

use criterion::{Criterion, SamplingMode, Throughput};
use guardbeat::{
    fleet::ActiveTime,
    store::{EmbeddedStore, HeartbeatBatch, MemoryStore, Store},
};

use crate::sample;

/// What a million agents that beat every minute send in a flush interval of 100 ms, about.
const FLUSH: usize = 1_500;

pub fn measure(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let embedded = EmbeddedStore::open(folder.path(), false).expect("a new store can be opened");
    let stores: [(&str, Arc<dyn Store>); 2] =
        [("memory", Arc::new(MemoryStore::default())), ("embedded", Arc::new(embedded))];

    let runtime = actix_rt::Runtime::new().expect("a runtime can be started");
    let mut heartbeats = sample::last_heartbeats();
    heartbeats.truncate(FLUSH);
    let batch = HeartbeatBatch { heartbeats, clock: Some(ActiveTime::from_micros(1)) };

    let mut group = criterion.benchmark_group("flush");
    // Few and short: the log of the embedded store grows by what is written.
    group.sample_size(10).measurement_time(Duration::from_millis(500)).sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(FLUSH as u64));
    for (name, store) in &stores {
        group.bench_function(format!("{name}, 1,500 heartbeats"), |bencher| {
            bencher.iter(|| runtime.block_on(store.save(&batch)).expect("the store can be written"));
        });
    }
    group.finish();
}

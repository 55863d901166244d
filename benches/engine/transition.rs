//! Deciding a status, its change, and when to look again, for a fleet of which a part is silent.

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, Throughput};
use guardbeat::fleet::{ActiveTime, Liveness, Status, Thresholds, Transition};

use crate::sample::{self, AGENTS};

const THRESHOLDS: Thresholds =
    Thresholds { stale_after: Duration::from_secs(90), offline_after: Duration::from_secs(300) };

pub fn measure(criterion: &mut Criterion) {
    // Silence of up to 400 s: every status, in an order that no processor can guess.
    let fleet: Vec<Liveness> = sample::ids()
        .map(|id| Liveness { last_active: ActiveTime::from_micros((id.get() % 400_000_000) as i64) })
        .collect();
    let now = ActiveTime::from_micros(400_000_000);

    let mut group = criterion.benchmark_group("transition");
    group.throughput(Throughput::Elements(AGENTS));
    group.bench_function("decide, 10,000 agents", |bencher| {
        bencher.iter(|| {
            for liveness in black_box(&fleet) {
                let status = liveness.status(now, &THRESHOLDS);
                black_box(Transition::between(Status::Online, status));
                black_box(liveness.next_change(now, &THRESHOLDS));
            }
        });
    });
    group.finish();
}

//! Listing agents: filtering them, and encoding them as JSON.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use guardbeat::{
    api::write_row,
    engine::AgentView,
    fleet::{Agent, AgentFilter, SharedStrings, Status},
};

use crate::sample::{self, AGENTS};

pub fn measure(criterion: &mut Criterion) {
    let mut texts = SharedStrings::default();
    let fleet = sample::agents(&mut texts);

    let mut group = criterion.benchmark_group("list");
    group.throughput(Throughput::Elements(AGENTS));
    group.bench_function("encode, 10,000 rows", |bencher| {
        let mut json = Vec::new();
        bencher.iter(|| {
            json.clear();
            for agent in black_box(&fleet) {
                write_row(&AgentView { agent, status: Status::Online, texts: &texts }, &mut json);
            }
            json.len()
        });
    });
    let filters = [
        ("status", AgentFilter { status: Some(Status::Stale), ..AgentFilter::default() }),
        ("org", AgentFilter { org_id: Some("org-7".into()), ..AgentFilter::default() }),
        ("tag", AgentFilter { tags: vec!["rack-7".into()], ..AgentFilter::default() }),
    ];
    for (name, filter) in &filters {
        group.bench_function(format!("filter by {name}, 10,000 agents"), |bencher| {
            bencher.iter(|| {
                let wanted = |agent: &&Agent| filter.matches(agent, Status::Online, &texts);
                black_box(&fleet).iter().filter(wanted).count()
            });
        });
        // As a shard does before it looks at an agent; the agent table lays the labels out one after the other.
        let labels: Vec<_> = fleet.iter().map(Agent::labels).collect();
        group.bench_function(format!("compiled by {name}, 10,000 agents"), |bencher| {
            bencher.iter(|| {
                let compiled = filter.compile(&texts).expect("there are such agents");
                black_box(&labels).iter().filter(|labels| compiled.passes(**labels, Status::Online)).count()
            });
        });
    }
    group.finish();
}

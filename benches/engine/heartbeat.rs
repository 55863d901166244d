//! A heartbeat on its way to the agent: reading the body, checking the token, taking the figures over.

use std::hint::black_box;

use criterion::{BatchSize, Criterion};
use guardbeat::{
    engine::token::Token,
    fleet::{ActiveTime, AgentId, SharedStrings, TokenHash},
};

use crate::sample::{self, GUARD_BODY, REGISTERED_AT, SHORT_BODY};

pub fn measure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("heartbeat");
    for (name, body) in [("parse/guard client", GUARD_BODY), ("parse/three figures", SHORT_BODY)] {
        group.bench_function(name, |bencher| bencher.iter(|| sample::heartbeat(black_box(body))));
    }

    let id = AgentId::new(0x00f3_a1b2_c3d4_e5f6);
    let (token, hash) = Token::generate(id);
    group.bench_function("token", |bencher| {
        bencher.iter(|| {
            let token = black_box(token.as_str());
            (Token::claimed_agent(token), TokenHash::of(token) == hash)
        });
    });
    group.bench_function("id", |bencher| {
        let printed = id.to_string();
        bencher.iter(|| black_box(printed.as_str()).parse::<AgentId>());
    });

    let mut texts = SharedStrings::default();
    let mut agent = sample::agent(id, &mut texts);
    let beat = sample::heartbeat(GUARD_BODY);
    group.bench_function("take over", |bencher| {
        bencher.iter_batched(
            || beat.clone(),
            |beat| agent.beat(beat, REGISTERED_AT, ActiveTime::default(), &mut texts),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

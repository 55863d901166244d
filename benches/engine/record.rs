//! The two kinds of record of the store, encoded and decoded.

use std::hint::black_box;

use criterion::Criterion;
use guardbeat::{
    fleet::{AgentId, PolicyVersion, SharedStrings},
    store::record::{decode_heartbeat, decode_registration, encode_heartbeat, encode_registration},
};

use crate::sample;

const ID: AgentId = AgentId::new(0x00f3_a1b2_c3d4_e5f6);

pub fn measure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("record");

    let registration = sample::registration(ID);
    let bytes = encode_registration(&registration);
    group.bench_function("registration/encode", |bencher| {
        bencher.iter(|| encode_registration(black_box(&registration)));
    });
    group.bench_function("registration/decode", |bencher| {
        bencher.iter(|| decode_registration(ID, black_box(&bytes)));
    });

    let mut texts = SharedStrings::default();
    let last = sample::agent(ID, &mut texts).last_heartbeat(PolicyVersion::NONE, &texts);
    let mut bytes = Vec::new();
    encode_heartbeat(&last, &mut bytes);
    group.bench_function("heartbeat/encode", |bencher| {
        // Into one buffer, as a flush does.
        let mut out = Vec::new();
        bencher.iter(|| {
            out.clear();
            encode_heartbeat(black_box(&last), &mut out);
        });
    });
    group.bench_function("heartbeat/decode", |bencher| bencher.iter(|| decode_heartbeat(ID, black_box(&bytes))));
    group.finish();
}

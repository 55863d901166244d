//! What a history of five million threats costs. Not a test: run it in release, by name, to read its figures.

use std::{fs, hint::black_box, net::Ipv4Addr};

use tokio::time::Instant;

use super::*;

const ROWS: u64 = 5_000_000;
const AGENTS: u64 = 1_000_000;
const TENANTS: u64 = 100;

#[test]
#[ignore = "a measurement: cargo test --release --lib history_of_five_million -- --ignored --nocapture"]
fn a_history_of_five_million_threats() {
    // An even month, at the end of which it is `now_ms`.
    let now_ms = START_MS + 30 * DAY;
    let resident_before = resident_bytes();
    let mut history = History::new(Retention { max_age_ms: 30 * DAY, max_bytes: u64::MAX }, START_MS);
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut adding = |history: &mut History, at_ms: u64, n: u64| history.add(any_threat(&mut random, at_ms, n));

    let start = Instant::now();
    for n in 0..ROWS {
        let at_ms = START_MS + n * 30 * DAY / ROWS;
        if n % 1_000 == 0 {
            history.advance(at_ms);
        }
        adding(&mut history, at_ms, n);
    }
    history.advance(now_ms);
    println!("a threat, with all windows moving: {:?}", start.elapsed() / ROWS as u32);
    println!("memory: {} bytes a threat", resident_bytes().saturating_sub(resident_before) / history.count());

    let start = Instant::now();
    for n in 0..ROWS / 10 {
        let at_ms = now_ms + n * 3 * DAY / ROWS;
        if n % 1_000 == 0 {
            history.advance(at_ms);
        }
        adding(&mut history, at_ms, n);
    }
    println!("the same in a full history, oldest dropped: {:?}", start.elapsed() / (ROWS / 10) as u32);

    for scope in [ThreatScope::Fleet, ThreatScope::Tenant(Some("tenant-7"))] {
        for period in Period::ALL {
            let first = Instant::now();
            black_box(history.summary(scope, period, 10));
            let (first, again) = (first.elapsed(), Instant::now());
            black_box(history.summary(scope, period, 10));
            println!("summary of {scope:?}, {period}: {first:?}, then {:?}", again.elapsed());
        }
    }

    history.add(entry(ThreatId::first_of(START_MS + DAY), None, 1, "rare"));
    for scope in [ThreatScope::Fleet, ThreatScope::Tenant(Some("tenant-7"))] {
        for filter in [all(scope), Filter { kind: Some("rare"), ..all(scope) }] {
            let (start, mut slowest, mut before) = (Instant::now(), std::time::Duration::ZERO, None);
            loop {
                let call = Instant::now();
                let page = history.query(&filter, before, 50, 10_000);
                slowest = slowest.max(call.elapsed());
                before = page.resume_before.filter(|_| page.threats.len() < 50);
                if before.is_none() {
                    break;
                }
            }
            println!("query of {:?} in {scope:?}: {:?}, slowest step {slowest:?}", filter.kind, start.elapsed());
        }
    }

    let start = Instant::now();
    history.advance(now_ms - DAY);
    println!("the clock set back by a day: {:?}", start.elapsed());
    let start = Instant::now();
    history.advance(now_ms + 31 * DAY);
    println!("everything dropped: {:?}", start.elapsed());

    let mut history = History::new(Retention { max_age_ms: 30 * DAY, max_bytes: u64::MAX }, now_ms);
    let start = Instant::now();
    (0..ROWS).for_each(|n| _ = adding(&mut history, START_MS + n * 30 * DAY / ROWS, n));
    println!("a threat when the history is loaded: {:?}", start.elapsed() / ROWS as u32);
}

fn any_threat(random: &mut u64, at_ms: u64, n: u64) -> ThreatEntry {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    let agent = *random % AGENTS;
    ThreatEntry {
        source_ip: Some(Ipv4Addr::from_bits((*random >> 32) as u32 % 200_000).into()),
        severity: Severity::ALL[(*random >> 40) as usize % 4],
        ..entry(
            ThreatId::new(ThreatId::first_of(at_ms).get() + n % 1_000),
            Some(&format!("tenant-{}", agent % TENANTS)),
            agent,
            KINDS[(*random >> 50) as usize % 4],
        )
    }
}

/// What the process takes of memory; 0 where that is unknown.
fn resident_bytes() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4_096
}

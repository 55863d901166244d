//! What the parts of a heartbeat cost, each alone: `make bench`, or `make bench BENCH=record` for some of them.
//!
//! One binary, so that the crate is linked once. Nothing here uses the network; what is written goes to a temporary
//! folder (`TMPDIR`), about a hundred megabytes, and is removed at the end. A time is that of one operation; where it is
//! that of a whole fleet, the rate beside it is per agent.
#![allow(clippy::disallowed_methods, reason = "it measures real time")]

mod asking;
mod flush;
mod heartbeat;
mod listing;
mod record;
mod sample;
mod transition;

use std::time::Duration;

use criterion::Criterion;

/// The product's: allocations are a good part of what is measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .without_plots()
        .configure_from_args();
    heartbeat::measure(&mut criterion);
    asking::measure(&mut criterion);
    transition::measure(&mut criterion);
    listing::measure(&mut criterion);
    record::measure(&mut criterion);
    flush::measure(&mut criterion);
    criterion.final_summary();
}

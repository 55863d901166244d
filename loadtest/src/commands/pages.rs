//! How long it takes to answer questions about a big fleet: metrics, a page of the list, filtered pages.

use std::time::{Duration, Instant};

use memchr::memmem;

use crate::server::{AGENT_MARK, Probe, Scrape};
use crate::stats::percentile;
use crate::table::Table;
use crate::units;

/// The pages that are asked for. Agents register with one of 100 organisations and one of 1,000 racks.
const PAGES: [&str; 4] = [
    "/api/agents?limit=100",
    "/api/agents?status=stale&limit=100",
    "/api/agents?tag=rack-7&limit=100",
    "/api/agents?org_id=org-7&limit=100",
];
/// How often each request is timed.
const REPEATS: usize = 100;
/// Slow ones less often: for no longer than this, but at least so many times.
const LONGEST: Duration = Duration::from_secs(10);
const FEWEST: usize = 20;

/// Times all of them, one request after the other; `operations` is a client of the operations listener.
pub(super) async fn time(operations: &mut Probe, api: &mut Probe) -> anyhow::Result<Table> {
    let mut table = Table::with_headings(["request", "times", "agents in it", "p50", "p99", "longest"]);
    time_one(&mut table, operations, "/metrics").await?;
    for page in PAGES {
        time_one(&mut table, api, page).await?;
    }
    Ok(table)
}

async fn time_one(table: &mut Table, probe: &mut Probe, path: &str) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut times = Vec::with_capacity(REPEATS);
    let mut agents = 0;
    while times.len() < REPEATS && (times.len() < FEWEST || begun.elapsed() < LONGEST) {
        let (time, body) = probe.get(path).await?;
        times.push(time);
        agents = memmem::find_iter(body, AGENT_MARK).count();
    }
    let shown = |share| percentile(&times, share).map_or_else(String::new, units::duration);
    table.row([
        format!("GET {path}"),
        times.len().to_string(),
        units::count(agents as u64),
        shown(0.5),
        shown(0.99),
        shown(1.0),
    ]);
    Ok(())
}

/// How many agents are stale or offline.
pub(super) fn silent(scrape: &Scrape) -> u64 {
    let agents = |status| scrape.sum("guardbeat_agents", &[("status", status)]).unwrap_or(0.0) as u64;
    agents("stale") + agents("offline")
}

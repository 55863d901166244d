//! How long it takes to answer questions about a big fleet: metrics, a page of the list, filtered pages.

use crate::server::{AGENT_MARK, Probe, Scrape};
use crate::table::Table;

use super::timings::Timings;

/// The pages that are asked for. Agents register with one of 100 organisations and one of 1,000 racks.
const PAGES: [&str; 4] = [
    "/api/agents?limit=100",
    "/api/agents?status=stale&limit=100",
    "/api/agents?tag=rack-7&limit=100",
    "/api/agents?org_id=org-7&limit=100",
];

/// Times all of them, one request after the other; `operations` is a client of the operations listener.
pub(super) async fn time(operations: &mut Probe, api: &mut Probe) -> anyhow::Result<Table> {
    let mut timings = Timings::of("agents", AGENT_MARK);
    timings.add(operations, "/metrics").await?;
    for page in PAGES {
        timings.add(api, page).await?;
    }
    Ok(timings.table())
}

/// How many agents are stale or offline.
pub(super) fn silent(scrape: &Scrape) -> u64 {
    let agents = |status| scrape.sum("guardbeat_agents", &[("status", status)]).unwrap_or(0.0) as u64;
    agents("stale") + agents("offline")
}

//! What a fleet costs, and a history of its threats, from the registration to the last restart: memory, answers, starts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::load::{Bulk, Fleet, Operation, Reports};
use crate::progress;
use crate::scenario::{Figures, Scenario, SurveyPlan};
use crate::server::{AGENT_MARK, Footprint, Host, Listing, Meter};
use crate::table::{Table, Tables};
use crate::units;

use super::ledger::StatusCounts;
use super::timings::Timings;

/// Until allocators and write-behind have come to rest.
const REST: Duration = Duration::from_secs(2);
/// How long the last heartbeats may take to be in the store.
const FLUSH_LIMIT: Duration = Duration::from_secs(60);
/// How long a history may take to be loaded after a start.
const LOAD_LIMIT: Duration = Duration::from_secs(300);
/// How often these are looked at: seldom, as looking takes processor time from the server.
const POLL: Duration = Duration::from_millis(20);
/// How often memory is looked at while the fleet is listed.
const SAMPLING: Duration = Duration::from_millis(10);
/// The pages that are asked for. Agents register with one of 100 organisations and one of 1,000 racks.
const PAGES: [&str; 4] = [
    "/api/agents?limit=100",
    "/api/agents?status=stale&limit=100",
    "/api/agents?tag=rack-7&limit=100",
    "/api/agents?org_id=org-7&limit=100",
];
/// Each threat of an answer has this key once.
const THREAT_MARK: &[u8] = b"\"timestamp\":";
const SUMMARY: &str = "/api/threats/summary";
/// The longest period there is: all that is kept.
const WHOLE: &str = "30d";

pub(super) async fn run(
    scenario: &Scenario,
    plan: &SurveyPlan,
    host: &mut Host,
    bulk: &Bulk,
    (tables, figures): (&mut Tables, &mut Figures),
) -> anyhow::Result<Arc<Fleet>> {
    let mut table = Table::default();
    table.pair("ready with no agents after", host.ready().map_or_else(String::new, units::duration));
    let empty = Footprint::of(host).await?;
    let (meter, begun) = (Meter::start(host).await?, Instant::now());
    let fleet = Arc::new(bulk.register(scenario.agents, scenario.credentials).await?);
    let elapsed = begun.elapsed();
    table.pair("agents", units::count(fleet.len()));
    table.pair("registered in", units::duration(elapsed));
    table.pair("registrations", per_second(fleet.len(), elapsed));
    meter.stop(host, fleet.len()).await?.show(&mut table, "registration");
    tokio::time::sleep(REST).await;
    let registered = Footprint::of(host).await?;
    registered.show(&mut table, empty, fleet.len(), "agent");
    tables.add("Registration", table);

    let mut history = None;
    if plan.threats == 0 {
        tables.add("A first heartbeat from each", beat(host, bulk, &fleet, empty, figures).await?);
        ask(host, tables).await?;
        tables.add("The unlimited list", list(host).await?);
    } else {
        let (table, counted) = report(plan, host, bulk, &fleet, registered).await?;
        tables.add("Threats", table);
        let title = format!("Requests, with {} threats of {} agents", units::count(counted), units::count(fleet.len()));
        tables.add(title, ask_for_threats(plan, host, &fleet).await?);
        history = Some(counted);
    }
    if plan.restarts > 0 {
        tables.add("Restarts", restart(plan, host, history, figures).await?);
    }
    Ok(fleet)
}

fn per_second(count: u64, elapsed: Duration) -> String {
    units::rate(count as f64 / elapsed.as_secs_f64().max(1e-9))
}

/// Beats once for each agent, and waits until the store has it all: a fleet in use has a heartbeat of every agent in the
/// store, and its server starts with them.
async fn beat(
    host: &mut Host,
    bulk: &Bulk,
    fleet: &Arc<Fleet>,
    empty: Footprint,
    figures: &mut Figures,
) -> anyhow::Result<Table> {
    let mut table = Table::default();
    let (meter, begun) = (Meter::start(host).await?, Instant::now());
    bulk.send("beating", fleet, Operation::Beat, fleet.len()).await?;
    let elapsed = begun.elapsed();
    table.pair("answered in", units::duration(elapsed));
    table.pair("heartbeats", per_second(fleet.len(), elapsed));
    let (mut metrics, answered) = (host.metrics(), Instant::now());
    loop {
        let dirty = metrics.scrape().await?.sum("guardbeat_store_dirty_agents", &[]);
        match dirty.context("GET /metrics has no guardbeat_store_dirty_agents")? {
            0.0 => break,
            left => ensure!(
                answered.elapsed() < FLUSH_LIMIT,
                "{left} heartbeats were not in the store {} s after they were answered",
                FLUSH_LIMIT.as_secs()
            ),
        }
        tokio::time::sleep(POLL).await;
    }
    meter.stop(host, fleet.len()).await?.show(&mut table, "heartbeat");
    tokio::time::sleep(REST).await;
    let each = Footprint::of(host).await?.show(&mut table, empty, fleet.len(), "agent");
    figures.insert("agent_bytes", each as f64);
    Ok(table)
}

/// Times what is asked of a fleet, one request after the other.
pub(super) async fn ask(host: &Host, tables: &mut Tables) -> anyhow::Result<()> {
    let (mut metrics, mut api) = (host.metrics(), host.api());
    let silent = StatusCounts::of(&metrics.scrape().await?).map_or(0, StatusCounts::missing);
    let spinner = progress::spinner("asking for metrics and pages");
    let mut timings = Timings::of("agents", AGENT_MARK);
    timings.add(&mut metrics, "/metrics").await?;
    for page in PAGES {
        timings.add(&mut api, page).await?;
    }
    spinner.finish_and_clear();
    tables.add(format!("Requests, with {} agents stale or offline", units::count(silent)), timings.table);
    Ok(())
}

async fn list(host: &Host) -> anyhow::Result<Table> {
    let before = host.resident_bytes()?;
    let mut peak = before;
    let spinner = progress::spinner("listing the whole fleet");
    let mut api = host.api();
    let listing = {
        let reading = Listing::read(&mut api);
        tokio::pin!(reading);
        let mut sample = tokio::time::interval(SAMPLING);
        loop {
            tokio::select! {
                listing = &mut reading => break listing?,
                _ = sample.tick() => peak = peak.max(host.resident_bytes()?),
            }
        }
    };
    spinner.finish_and_clear();
    let mut table = Table::default();
    table.pair("time", units::duration(listing.time));
    table.pair("bytes", units::count(listing.bytes));
    table.pair("agents in it", units::count(listing.agents));
    table.pair("RSS growth meanwhile", units::mebibytes(peak - before));
    Ok(table)
}

/// Stores threats as fast as it goes; returns how many the summary counts, too.
async fn report(
    plan: &SurveyPlan,
    host: &mut Host,
    bulk: &Bulk,
    fleet: &Arc<Fleet>,
    registered: Footprint,
) -> anyhow::Result<(Table, u64)> {
    let mut table = Table::default();
    let reports = plan.threats.div_ceil(plan.reports.events);
    let threats = reports * plan.reports.events;
    let (meter, begun) = (Meter::start(host).await?, Instant::now());
    bulk.send("reporting", fleet, Operation::Report(plan.reports), reports).await?;
    let elapsed = begun.elapsed();
    table.pair("threats", units::count(threats));
    table.pair("agents that reported them", units::count(reports.min(fleet.len())));
    table.pair("stored in", units::duration(elapsed));
    table.pair("threats stored", per_second(threats, elapsed));
    table.pair("reports", per_second(reports, elapsed));
    meter.stop(host, threats).await?.show(&mut table, "threat");
    tokio::time::sleep(REST).await;
    Footprint::of(host).await?.show(&mut table, registered, threats, "threat");
    let counted = threats_of(host).await?;
    table.pair("counted by the summary", units::count(counted));
    if let Some(bytes) = host.metrics().scrape().await?.sum("guardbeat_threats_bytes", &[]) {
        table.pair("in the store, per threat", format!("{:.0} bytes", bytes / counted.max(1) as f64));
    }
    Ok((table, counted))
}

/// Threats that the summary of all counts.
async fn threats_of(host: &Host) -> anyhow::Result<u64> {
    let summary = host.api().json(&format!("{SUMMARY}?period={WHOLE}")).await?;
    summary["data"]["total"].as_u64().with_context(|| format!("GET {SUMMARY} has no total"))
}

/// Times what is asked of a history, one request after the other.
async fn ask_for_threats(plan: &SurveyPlan, host: &Host, fleet: &Fleet) -> anyhow::Result<Table> {
    let mut api = host.api();
    // The first to report: its threats are the oldest, and found last.
    let (agent, _) = fleet.agent_of(0);
    let some_type = Reports::type_of(plan.reports.types - 1);
    let periods = ["1h", "6h", "24h", "7d", WHOLE].map(|period| format!("{SUMMARY}?period={period}"));
    let others = [
        format!("{SUMMARY}?org_id=org-7"),
        "/api/overview".to_owned(),
        "/api/threats?limit=50".to_owned(),
        format!("/api/threats?agent_id={agent}&limit=50"),
        "/api/threats?type=unheard-of&limit=50".to_owned(),
        // One in a thousand of a type: where there are many types, fewer than a page holds.
        format!("/api/threats?severity=critical&type={some_type}&limit=50"),
        format!("/api/agents/{agent}"),
    ];
    let spinner = progress::spinner("asking for threats");
    let mut timings = Timings::of("threats", THREAT_MARK);
    for path in periods.iter().chain(&others) {
        timings.add(&mut api, path).await?;
    }
    spinner.finish_and_clear();
    Ok(timings.table)
}

/// Restarts the server on its data, in order and from `kill -9`: how soon it is ready again, and has counted its history,
/// which must be the whole one.
async fn restart(
    plan: &SurveyPlan,
    host: &mut Host,
    history: Option<u64>,
    figures: &mut Figures,
) -> anyhow::Result<Table> {
    let more: &[&str] = if history.is_some() { &["threats", "loaded in"] } else { &[] };
    let headings = ["restart", "ended in", "ready in", "agents"].iter().chain(more).chain(&["RSS"]);
    let mut table = Table::with_headings(headings.copied());
    for occasion in ["after SIGTERM", "after kill -9"].repeat(usize::try_from(plan.restarts)?) {
        let spinner = progress::spinner("restarting");
        let ended = if occasion == "after SIGTERM" {
            units::duration(host.terminate().await?)
        } else {
            host.kill()?;
            "at once".to_owned()
        };
        let ready = host.start_again().await?;
        let longest = figures.entry("restart_ms").or_default();
        *longest = longest.max(ready.as_secs_f64() * 1e3);
        let agents = host.api().json("/health").await?["data"]["agents"]["total"].as_u64().unwrap_or(0);
        ensure!(agents > 0, "the fleet was not restored: GET /health counts no agents");
        let mut row = vec![occasion.to_owned(), ended, units::duration(ready), units::count(agents)];
        if let Some(expected) = history {
            let mut metrics = host.metrics();
            let is_loaded = async || {
                tokio::time::sleep(POLL).await;
                metrics.scrape().await.is_ok_and(|scrape| scrape.sum("guardbeat_threats_loaded", &[]) == Some(1.0))
            };
            let loaded = host.until("guardbeat_threats_loaded with 1", LOAD_LIMIT, is_loaded).await?;
            let total = threats_of(host).await?;
            ensure!(total == expected, "the summary counts {total} threats after a restart, and {expected} before it");
            row.extend([units::count(total), units::duration(loaded)]);
        }
        row.push(units::mebibytes(host.resident_bytes()?));
        table.row(row);
        spinner.finish_and_clear();
    }
    Ok(table)
}

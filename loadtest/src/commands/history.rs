//! `history`: what a long history of threats costs: memory, answers, starts.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::load::{Fleet, Reports, report};
use crate::progress;
use crate::server::{Engine, EngineOptions, Probe, ServerProcess, WhichRedis};
use crate::table::{Table, print_part};
use crate::units;

use super::beat::connections;
use super::cpu_clock::CpuClock;
use super::fleet::LONG_TIMEOUT_MS;
use super::footprint::{Footprint, REST};
use super::given::server_beside;
use super::growth::grow;
use super::restarts::Restarts;
use super::subject::{END_LIMIT, Meter, Subject};
use super::timings::Timings;

/// Each threat of an answer has this key once.
const THREAT_MARK: &[u8] = b"\"timestamp\":";
/// How long the history may take to be loaded after a start, and how often that is looked at: seldom, as looking takes
/// processor time from loading.
const LOAD_LIMIT: Duration = Duration::from_secs(300);
const LOAD_POLL: Duration = Duration::from_millis(20);
const SUMMARY: &str = "/api/threats/summary";
/// The longest there is: all that is kept.
const WHOLE: &str = "30d";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The `guardbeat` binary
    #[arg(long, value_name = "BINARY", default_value_os_t = server_beside())]
    server: PathBuf,
    /// How many agents to register
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    agents: u64,
    /// How many threats to store
    #[arg(long, default_value_t = 5_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    threats: u64,
    /// Threats in a report; each is of another agent than the one before
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=100))]
    per_report: u64,
    /// Types of threats
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    types: u64,
    /// Connections to register and to report over
    #[arg(long, default_value_t = 64, value_parser = connections)]
    connections: usize,
    /// How often the server is restarted each way
    #[arg(long, default_value_t = 1)]
    rounds: u32,
    /// Keep all in Redis: in one started for the run, or in the one at URL
    #[arg(long, value_name = "URL", num_args = 0..=1, require_equals = true, default_missing_value = WhichRedis::OWN)]
    redis: Option<WhichRedis>,
    /// One more argument for the server, as in `--server-arg=--store=memory:`; may be repeated
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    server_arg: Vec<OsString>,
}

/// Registers, reports, asks, restarts, and prints a table after each part.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let options = EngineOptions {
        binary: args.server.clone(),
        tls: false,
        timeout_ms: Some(LONG_TIMEOUT_MS),
        arguments: args.server_arg.clone(),
    };
    let mut subject = Subject::start(options, args.redis.as_ref()).await?;
    let mut table = Table::default();
    let fleet = Arc::new(grow(&subject.engine, args.agents, args.connections, &mut table).await?);
    print_part("Registration", &table);
    tokio::time::sleep(REST).await;

    let mut table = Table::default();
    let empty = Footprint::of(&subject.process, subject.redis.as_mut()).await?;
    let mut clock = CpuClock::Process(subject.process.pid());
    let meter = Meter::start(&mut clock, subject.redis.as_mut()).await?;
    let stored = store(&args, &subject.engine, &fleet, &mut table).await?;
    meter.stop(&mut clock, subject.redis.as_mut(), stored).await?.show(&mut table, "threat");
    tokio::time::sleep(REST).await;
    Footprint::of(&subject.process, subject.redis.as_mut()).await?.show(&mut table, empty, stored, "threat");
    let counted = History::of(&subject.engine).await?.show(&mut table).await?;
    print_part("Threats", &table);

    let (threats, agents) = (units::count(counted), units::count(fleet.len()));
    print_part(&format!("Requests, with {threats} threats of {agents} agents"), &ask(&args, &subject, &fleet).await?);

    let Subject { engine, redis, process, .. } = subject;
    let restarts = Restarts { engine: &engine, rounds: args.rounds, more: &["threats", "loaded in"] };
    let look = async |process: &mut ServerProcess| History::of(&engine).await?.after_start(process, counted).await;
    let (process, table) = restarts.run(process, look).await?;
    if args.rounds > 0 {
        print_part("Restarts", &table);
    }
    process.terminate(END_LIMIT).await?;
    match redis {
        Some(redis) => redis.clear().await,
        None => Ok(()),
    }
}

/// Stores the threats as fast as it goes; returns how many.
async fn store(args: &Args, engine: &Engine, fleet: &Arc<Fleet>, table: &mut Table) -> anyhow::Result<u64> {
    let count = args.threats.div_ceil(args.per_report);
    let threats = count * args.per_report;
    let reports = Reports { events: args.per_report, types: args.types };
    let bar = progress::bar(threats, "reporting");
    let begun = Instant::now();
    let stored = report(&engine.target().await?, fleet, reports, count, args.connections, &bar).await;
    let elapsed = begun.elapsed();
    bar.finish_and_clear();
    stored?;
    table.pair("threats", units::count(threats));
    table.pair("agents that reported them", units::count(count.min(fleet.len())));
    table.pair("stored in", units::duration(elapsed));
    table.pair("threats stored", units::rate(threats as f64 / elapsed.as_secs_f64()));
    table.pair("reports", units::rate(count as f64 / elapsed.as_secs_f64()));
    Ok(threats)
}

/// Times what is asked of a history, one request after the other.
async fn ask(args: &Args, subject: &Subject, fleet: &Fleet) -> anyhow::Result<Table> {
    let mut api = Probe::with_token(subject.target().await?, subject.engine.token());
    // The first to report: its threats are the oldest, and found last.
    let (agent, _) = fleet.agent_of(0);
    let some_type = Reports::type_of(args.types - 1);
    let mut paths: Vec<String> =
        ["1h", "6h", "24h", "7d", WHOLE].map(|period| format!("{SUMMARY}?period={period}")).into();
    paths.extend([
        format!("{SUMMARY}?org_id=org-7"),
        "/api/overview".to_owned(),
        "/api/threats?limit=50".to_owned(),
        format!("/api/threats?agent_id={agent}&limit=50"),
        "/api/threats?type=unheard-of&limit=50".to_owned(),
        // One in a thousand of a type: where there are many types, fewer than a page holds.
        format!("/api/threats?severity=critical&type={some_type}&limit=50"),
        format!("/api/agents/{agent}"),
    ]);
    let spinner = progress::spinner("asking for threats");
    let mut timings = Timings::of("threats", THREAT_MARK);
    for path in paths {
        timings.add(&mut api, &path).await?;
    }
    spinner.finish_and_clear();
    Ok(timings.table())
}

/// What a server says of its history.
struct History {
    operations: Probe,
    api: Probe,
}

impl History {
    async fn of(engine: &Engine) -> anyhow::Result<Self> {
        let operations = Probe::open(engine.operations().await?);
        Ok(Self { operations, api: Probe::with_token(engine.target().await?, engine.token()) })
    }

    /// Threats that the summary of all counts.
    async fn total(&mut self) -> anyhow::Result<u64> {
        let summary = self.api.json(&format!("{SUMMARY}?period={WHOLE}")).await?;
        summary["data"]["total"].as_u64().with_context(|| format!("GET {SUMMARY} has no total"))
    }

    /// Appends how many there are and what they take; returns how many.
    async fn show(mut self, table: &mut Table) -> anyhow::Result<u64> {
        let total = self.total().await?;
        table.pair("counted by the summary", units::count(total));
        if let Some(bytes) = self.operations.scrape().await?.sum("guardbeat_threats_bytes", &[]) {
            table.pair("in the store, per threat", format!("{:.0} bytes", bytes / total.max(1) as f64));
        }
        Ok(total)
    }

    /// Waits until a server that was started anew has counted its history, which must be the whole one: how many threats
    /// there are, and the time since the start.
    async fn after_start(mut self, process: &mut ServerProcess, expected: u64) -> anyhow::Result<Vec<String>> {
        let operations = &mut self.operations;
        let is_loaded = async || {
            tokio::time::sleep(LOAD_POLL).await;
            operations.scrape().await.is_ok_and(|scrape| scrape.sum("guardbeat_threats_loaded", &[]) == Some(1.0))
        };
        let loaded = process.until("guardbeat_threats_loaded with 1", LOAD_LIMIT, is_loaded).await?;
        let total = self.total().await?;
        ensure!(total == expected, "the summary counts {total} threats after a restart, and {expected} before it");
        Ok(vec![units::count(total), units::duration(loaded)])
    }
}

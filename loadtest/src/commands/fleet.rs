//! `fleet`: what a big fleet costs, from its registration to the second restart.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::load::{Fleet, beat_once};
use crate::progress;
use crate::server::{Engine, EngineOptions, Listing, Probe, ServerProcess, WhichRedis, resident_bytes};
use crate::table::{Table, print_part};
use crate::units;

use super::beat::connections;
use super::cpu_clock::CpuClock;
use super::footprint::{Footprint, REST};
use super::given::server_beside;
use super::growth::grow;
use super::pages;
use super::restarts::Restarts;
use super::silence::Experiment;
use super::subject::{END_LIMIT, Meter, Subject};

/// How long the last heartbeats may take to be in the store, and how often that is looked at.
const FLUSH_LIMIT: Duration = Duration::from_secs(60);
const FLUSH_POLL: Duration = Duration::from_millis(50);
/// How often memory is looked at while the fleet is listed.
const SAMPLING: Duration = Duration::from_millis(10);
/// The heartbeat timeout with --silence: what most fleets have.
const USUAL_TIMEOUT_MS: u64 = 60_000;
/// And without: nobody is stale before all have been registered and measured.
pub(super) const LONG_TIMEOUT_MS: u64 = 86_400_000;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The `guardbeat` binary
    #[arg(long, value_name = "BINARY", default_value_os_t = server_beside())]
    server: PathBuf,
    /// How many agents to register
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(2..))]
    agents: u64,
    /// Connections to register and to beat over
    #[arg(long, default_value_t = 64, value_parser = connections)]
    connections: usize,
    /// After the restarts, let so many agents stay silent while all others beat
    #[arg(long, value_name = "AGENTS", value_parser = clap::value_parser!(u64).range(1..))]
    silence: Option<u64>,
    /// The server's heartbeat timeout, and the interval of the beats with --silence [default: a minute with --silence,
    /// else a day]
    #[arg(long, value_parser = clap::value_parser!(u64).range(100..))]
    timeout_ms: Option<u64>,
    /// How often the server is restarted each way
    #[arg(long, default_value_t = 1)]
    restarts: u32,
    /// Keep the fleet in Redis: in one started for the run, or in the one at URL
    #[arg(long, value_name = "URL", num_args = 0..=1, require_equals = true, default_missing_value = WhichRedis::OWN)]
    redis: Option<WhichRedis>,
    /// One more argument for the server, as in `--server-arg=--store=memory:`; may be repeated
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    server_arg: Vec<OsString>,
}

/// Registers, beats, asks, restarts, and prints a table after each part.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let default_ms = if args.silence.is_some() { USUAL_TIMEOUT_MS } else { LONG_TIMEOUT_MS };
    let timeout_ms = args.timeout_ms.unwrap_or(default_ms);
    let options = EngineOptions {
        binary: args.server.clone(),
        tls: false,
        timeout_ms: Some(timeout_ms),
        arguments: args.server_arg.clone(),
    };
    let Subject { engine, mut redis, process, ready } = Subject::start(options, args.redis.as_ref()).await?;
    let mut table = Table::default();
    table.pair("ready with no agents after", units::duration(ready));
    let mut clock = CpuClock::Process(process.pid());
    let empty = Footprint::of(&process, redis.as_mut()).await?;
    let meter = Meter::start(&mut clock, redis.as_mut()).await?;
    let fleet = grow(&engine, args.agents, args.connections, &mut table).await?;
    meter.stop(&mut clock, redis.as_mut(), fleet.len()).await?.show(&mut table, "registration");
    tokio::time::sleep(REST).await;
    Footprint::of(&process, redis.as_mut()).await?.show(&mut table, empty, fleet.len(), "agent");
    print_part("Registration", &table);

    let fleet = Arc::new(fleet);
    let mut table = Table::default();
    let meter = Meter::start(&mut clock, redis.as_mut()).await?;
    beat_all(&args, &engine, &fleet, &mut table).await?;
    meter.stop(&mut clock, redis.as_mut(), fleet.len()).await?.show(&mut table, "heartbeat");
    tokio::time::sleep(REST).await;
    Footprint::of(&process, redis.as_mut()).await?.show(&mut table, empty, fleet.len(), "agent");
    print_part("A first heartbeat from each", &table);

    print_requests(&engine).await?;
    print_part("The unlimited list", &list(&engine, &process).await?);

    let restarts = Restarts { engine: &engine, rounds: args.restarts, more: &[] };
    let (process, table) = restarts.run(process, async |_| Ok(Vec::new())).await?;
    if args.restarts > 0 {
        print_part("Restarts", &table);
    }
    if let Some(silent) = args.silence {
        let experiment = Experiment {
            target: engine.target().await?,
            fleet,
            silent,
            timeout: Duration::from_millis(timeout_ms),
            connections: args.connections,
        };
        let mut operations = Probe::open(engine.operations().await?);
        print_part("Silence", &experiment.run(&mut operations).await?);
        print_requests(&engine).await?;
    }
    process.terminate(END_LIMIT).await?;
    match redis {
        Some(redis) => redis.clear().await,
        None => Ok(()),
    }
}

/// Beats once for each agent, and waits until the store has it all: a fleet in use has a heartbeat of
/// every agent in the store, and its server starts with them.
async fn beat_all(args: &Args, engine: &Engine, fleet: &Arc<Fleet>, table: &mut Table) -> anyhow::Result<()> {
    let bar = progress::bar(args.agents, "beating");
    let begun = Instant::now();
    let beaten = beat_once(&engine.target().await?, fleet, args.connections, &bar).await;
    let elapsed = begun.elapsed();
    bar.finish_and_clear();
    beaten?;
    let mut operations = Probe::open(engine.operations().await?);
    let answered = Instant::now();
    loop {
        let dirty = operations.scrape().await?.sum("guardbeat_store_dirty_agents", &[]);
        match dirty.context("GET /metrics has no guardbeat_store_dirty_agents")? {
            0.0 => break,
            left => ensure!(
                answered.elapsed() < FLUSH_LIMIT,
                "{left} heartbeats were not in the store {} s after they were answered",
                FLUSH_LIMIT.as_secs()
            ),
        }
        tokio::time::sleep(FLUSH_POLL).await;
    }
    table.pair("answered in", units::duration(elapsed));
    table.pair("heartbeats", units::rate(fleet.len() as f64 / elapsed.as_secs_f64()));
    Ok(())
}

async fn print_requests(engine: &Engine) -> anyhow::Result<()> {
    let mut operations = Probe::open(engine.operations().await?);
    let mut api = Probe::with_token(engine.target().await?, engine.token());
    let silent = pages::silent(&operations.scrape().await?);
    let spinner = progress::spinner("asking for metrics and pages");
    let table = pages::time(&mut operations, &mut api).await;
    spinner.finish_and_clear();
    print_part(&format!("Requests, with {} agents stale or offline", units::count(silent)), &table?);
    Ok(())
}

async fn list(engine: &Engine, process: &ServerProcess) -> anyhow::Result<Table> {
    let mut api = Probe::with_token(engine.target().await?, engine.token());
    let before = resident_bytes(process.pid())?;
    let mut peak = before;
    let spinner = progress::spinner("listing the whole fleet");
    let listing = {
        let reading = Listing::read(&mut api);
        tokio::pin!(reading);
        let mut sample = tokio::time::interval(SAMPLING);
        loop {
            tokio::select! {
                listing = &mut reading => break listing,
                _ = sample.tick() => peak = peak.max(resident_bytes(process.pid())?),
            }
        }
    };
    spinner.finish_and_clear();
    let listing = listing?;
    let mut table = Table::default();
    table.pair("time", units::duration(listing.time));
    table.pair("bytes", units::count(listing.bytes));
    table.pair("agents in it", units::count(listing.agents));
    table.pair("RSS growth meanwhile", units::mebibytes(peak - before));
    Ok(table)
}

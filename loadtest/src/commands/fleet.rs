//! `fleet`: what a big fleet costs, from its registration to the second restart.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Deserialize;

use crate::load::{Credentials, Fleet, beat_once, register};
use crate::progress;
use crate::server::{Engine, EngineOptions, Listing, Probe, Redis, ServerProcess, WhichRedis, resident_bytes};
use crate::table::Table;
use crate::units;

use super::beat::connections;
use super::cpu_clock::CpuClock;
use super::pages;
use super::silence::Experiment;
use super::subject::{END_LIMIT, Meter, Subject};

/// Until allocators and write-behind have come to rest.
const REST: Duration = Duration::from_secs(2);
/// How long the last heartbeats may take to be in the store, and how often that is looked at.
const FLUSH_LIMIT: Duration = Duration::from_secs(60);
const FLUSH_POLL: Duration = Duration::from_millis(50);
/// How often memory is looked at while the fleet is listed.
const SAMPLING: Duration = Duration::from_millis(10);
/// The heartbeat timeout with --silence: what most fleets have.
const USUAL_TIMEOUT_MS: u64 = 60_000;
/// And without: nobody is stale before all have been registered and measured.
const LONG_TIMEOUT_MS: u64 = 86_400_000;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The `guardbeat` binary
    #[arg(long, value_name = "BINARY")]
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
    let fleet = grow(&args, &engine, &mut table).await?;
    meter.stop(&mut clock, redis.as_mut(), fleet.len()).await?.show(&mut table, "registration");
    tokio::time::sleep(REST).await;
    Footprint::of(&process, redis.as_mut()).await?.show(&mut table, empty, fleet.len());
    print_part("Registration", &table);

    let fleet = Arc::new(fleet);
    let mut table = Table::default();
    let meter = Meter::start(&mut clock, redis.as_mut()).await?;
    beat_all(&args, &engine, &fleet, &mut table).await?;
    meter.stop(&mut clock, redis.as_mut(), fleet.len()).await?.show(&mut table, "heartbeat");
    tokio::time::sleep(REST).await;
    Footprint::of(&process, redis.as_mut()).await?.show(&mut table, empty, fleet.len());
    print_part("A first heartbeat from each", &table);

    print_requests(&engine).await?;
    print_part("The unlimited list", &list(&engine, &process).await?);

    let process = restarts(&args, &engine, process).await?;
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

fn print_part(title: &str, table: &Table) {
    println!("{title}\n{table}");
}

async fn grow(args: &Args, engine: &Engine, table: &mut Table) -> anyhow::Result<Fleet> {
    let bar = progress::bar(args.agents, "registering");
    let begun = Instant::now();
    let fleet = register(
        &engine.target().await?,
        engine.token(),
        args.agents,
        args.connections,
        // Ten million tokens would be a gigabyte here; the server has one for each agent all the same.
        Credentials::Admin,
        &bar,
    )
    .await;
    let elapsed = begun.elapsed();
    bar.finish_and_clear();
    let fleet = fleet?;
    table.pair("agents", units::count(fleet.len()));
    table.pair("registered in", units::duration(elapsed));
    table.pair("registrations", units::rate(fleet.len() as f64 / elapsed.as_secs_f64()));
    Ok(fleet)
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

/// Memory in use at a moment.
#[derive(Clone, Copy)]
struct Footprint {
    resident_bytes: u64,
    redis_bytes: Option<u64>,
}

impl Footprint {
    async fn of(process: &ServerProcess, redis: Option<&mut Redis>) -> anyhow::Result<Self> {
        let redis_bytes = match redis {
            Some(redis) => Some(redis.info().await?.memory_bytes),
            None => None,
        };
        Ok(Self { resident_bytes: resident_bytes(process.pid())?, redis_bytes })
    }

    /// What so many agents have added to what was in use without any.
    fn show(self, table: &mut Table, empty: Self, agents: u64) {
        let mut rows = |what: &str, before: u64, after: u64| {
            table.pair(format!("{what} without agents"), units::mebibytes(before));
            table.pair(what, units::mebibytes(after));
            table.pair(format!("{what} per agent"), format!("{} bytes", after.saturating_sub(before) / agents));
        };
        rows("RSS", empty.resident_bytes, self.resident_bytes);
        if let (Some(before), Some(after)) = (empty.redis_bytes, self.redis_bytes) {
            rows("Redis memory", before, after);
        }
    }
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

/// Restarts it in order, and from `kill -9`, so often.
async fn restarts(args: &Args, engine: &Engine, mut process: ServerProcess) -> anyhow::Result<ServerProcess> {
    let mut table = Table::with_headings(["restart", "ended in", "ready in", "agents", "RSS"]);
    for _ in 0..args.restarts {
        let ended = process.terminate(END_LIMIT).await?;
        process = restart(engine, &mut table, "after SIGTERM", Some(ended)).await?;
        process.kill()?;
        process = restart(engine, &mut table, "after kill -9", None).await?;
    }
    if args.restarts > 0 {
        print_part("Restarts", &table);
    }
    Ok(process)
}

async fn restart(
    engine: &Engine,
    table: &mut Table,
    occasion: &str,
    ended: Option<Duration>,
) -> anyhow::Result<ServerProcess> {
    let spinner = progress::spinner("restarting");
    let (process, ready) = engine.start().await?;
    spinner.finish_and_clear();
    table.row([
        occasion.to_owned(),
        ended.map_or_else(|| "at once".to_owned(), units::duration),
        units::duration(ready),
        units::count(agents_of(engine).await?),
        units::mebibytes(resident_bytes(process.pid())?),
    ]);
    Ok(process)
}

/// How many agents the server says that it has.
async fn agents_of(engine: &Engine) -> anyhow::Result<u64> {
    #[derive(Deserialize)]
    struct Health {
        data: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        agents: Agents,
    }
    #[derive(Deserialize)]
    struct Agents {
        total: u64,
    }
    let mut probe = Probe::open(engine.target().await?);
    let (_, body) = probe.get("/health").await?;
    let health: Health = serde_json::from_slice(body).context("GET /health")?;
    ensure!(health.data.agents.total > 0, "the fleet was not restored: GET /health counts no agents");
    Ok(health.data.agents.total)
}

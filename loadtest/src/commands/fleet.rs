//! `fleet`: what a big fleet costs, from its registration to the second restart.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Deserialize;

use crate::load::{Credentials, Fleet, register};
use crate::progress;
use crate::server::{Engine, EngineOptions, Probe, ServerProcess, resident_bytes};
use crate::stats::percentile;
use crate::table::Table;
use crate::units;

use super::beat::connections;
use super::listing;
use super::silence::Silence;

/// How often each request is timed.
const REPEATS: usize = 20;
/// Until allocators and write-behind have come to rest.
const REST: Duration = Duration::from_secs(2);
/// How long a server may take to end after SIGTERM.
const END_LIMIT: Duration = Duration::from_secs(60);

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
    /// The server's heartbeat timeout, and the interval of the beats with --silence
    #[arg(long, default_value_t = 60_000, value_parser = clap::value_parser!(u64).range(100..))]
    timeout_ms: u64,
    /// One more argument for the server, as in `--server-arg=--store=memory:`; may be repeated
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    server_arg: Vec<OsString>,
}

/// Registers, asks, restarts, and prints a table after each part.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let engine = Engine::prepare(EngineOptions {
        binary: args.server.clone(),
        tls: false,
        timeout_ms: Some(args.timeout_ms),
        arguments: args.server_arg.clone(),
    })?;
    let (process, ready) = engine.start().await?;
    let mut table = Table::default();
    table.pair("ready with no agents after", units::duration(ready));
    let fleet = grow(&args, &engine, &process, &mut table).await?;
    print_part("Registration", &table);

    let mut table = Table::with_headings(["request", "p50", "p99"]);
    let mut operations = Probe::open(engine.operations().await?);
    let mut api = Probe::with_token(engine.target().await?, engine.token());
    time(&mut table, &mut operations, "/metrics").await?;
    time(&mut table, &mut api, "/api/agents?limit=100").await?;
    print_part("Requests", &table);
    print_part("The unlimited list", &list(&mut api, &process).await?);

    let mut table = Table::with_headings(["restart", "ended in", "ready in", "agents", "RSS"]);
    let ended = process.terminate(END_LIMIT).await?;
    let process = restart(&engine, &mut table, "after SIGTERM", Some(ended)).await?;
    process.kill()?;
    let process = restart(&engine, &mut table, "after kill -9", None).await?;
    print_part("Restarts", &table);

    if let Some(silent) = args.silence {
        let experiment = Silence {
            target: engine.target().await?,
            fleet,
            silent,
            timeout: Duration::from_millis(args.timeout_ms),
            connections: args.connections,
        };
        let mut operations = Probe::open(engine.operations().await?);
        print_part("Silence", &experiment.run(&mut operations).await?);
    }
    process.terminate(END_LIMIT).await?;
    Ok(())
}

fn print_part(title: &str, table: &Table) {
    println!("{title}\n{table}");
}

async fn grow(args: &Args, engine: &Engine, process: &ServerProcess, table: &mut Table) -> anyhow::Result<Fleet> {
    let before = resident_bytes(process.pid())?;
    let bar = progress::bar(args.agents, "registering");
    let begun = Instant::now();
    let fleet = register(
        &engine.target().await?,
        engine.token(),
        args.agents,
        args.connections,
        // A million tokens would be more memory here than in the server.
        Credentials::Admin,
        &bar,
    )
    .await;
    let elapsed = begun.elapsed();
    bar.finish_and_clear();
    let fleet = fleet?;
    tokio::time::sleep(REST).await;
    let after = resident_bytes(process.pid())?;
    let grown = after.saturating_sub(before);
    table.pair("agents", units::count(fleet.len()));
    table.pair("registered in", units::duration(elapsed));
    let per_second = fleet.len() as f64 / elapsed.as_secs_f64();
    table.pair("registrations", units::rate(per_second));
    table.pair("RSS before", units::mebibytes(before));
    table.pair("RSS after", units::mebibytes(after));
    table.pair("RSS per agent", format!("{} bytes", grown / fleet.len()));
    Ok(fleet)
}

async fn time(table: &mut Table, probe: &mut Probe, path: &str) -> anyhow::Result<()> {
    let mut times = Vec::with_capacity(REPEATS);
    for _ in 0..REPEATS {
        times.push(probe.get(path).await?.0);
    }
    let shown = |share| percentile(&times, share).map_or_else(String::new, units::duration);
    table.row([format!("GET {path}"), shown(0.5), shown(0.99)]);
    Ok(())
}

async fn list(api: &mut Probe, process: &ServerProcess) -> anyhow::Result<Table> {
    let spinner = progress::spinner("listing the whole fleet");
    let listing = listing::read(api, process.pid()).await;
    spinner.finish_and_clear();
    let listing = listing?;
    let mut table = Table::default();
    table.pair("time", units::duration(listing.time));
    table.pair("bytes", units::count(listing.bytes));
    table.pair("agents in it", units::count(listing.agents));
    table.pair("RSS growth meanwhile", units::mebibytes(listing.growth_bytes));
    Ok(table)
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

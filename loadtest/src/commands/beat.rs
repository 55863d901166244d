//! `beat`: agents that register with a running server and beat by schedule.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::load::{Credentials, Fleet, OpenLoop, Ran, Schedule, SharedTally, deregister, register};
use crate::progress;
use crate::server::own_cpu_time;
use crate::table::Table;
use crate::units;
use crate::wire::{KeepAlive, Target};

use super::summary;

/// How long outstanding answers are waited for at the end.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Base URL of the server
    #[arg(long, default_value = "https://localhost:8443")]
    url: String,
    /// The server's CA (PEM); with https only
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The admin token, which may register agents
    #[arg(long, env = "GUARDBEAT_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// A file with the admin token in it
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// How many agents to register
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    agents: u64,
    /// How often each agent beats
    #[arg(long, default_value = "60s", value_parser = interval, conflicts_with = "rate")]
    interval: Duration,
    /// How many beats per second all agents send together, instead of --interval
    #[arg(long, value_parser = rate)]
    rate: Option<f64>,
    /// How many connections the agents share: at most so many beats are under way at once
    #[arg(long, default_value_t = 64, value_parser = connections)]
    connections: usize,
    /// For how long to beat
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// Open a connection for each beat, as the published Guard client does
    #[arg(long)]
    new_connection_per_beat: bool,
    /// Beat with the admin token instead of each agent's own (less memory here)
    #[arg(long)]
    use_admin_token: bool,
    /// Deregister the agents afterwards
    #[arg(long)]
    deregister: bool,
}

/// Registers, beats, prints the summary.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let token = admin_token(&args)?;
    let target = Target::reach(&args.url, args.ca.as_deref()).await?;
    let fleet = tokio::select! {
        fleet = register_all(&args, &target, &token) => Arc::new(fleet?),
        _ = tokio::signal::ctrl_c() => bail!("interrupted while registering"),
    };
    let schedule = match args.rate {
        Some(rate) => Schedule::at_rate(fleet.len(), rate),
        None => Schedule::every(fleet.len(), args.interval),
    };
    let tally = SharedTally::new();
    let cpu_before = own_cpu_time()?;
    let ran = load(&args, target.clone(), fleet.clone(), schedule, tally.clone()).await?;
    let cpu = own_cpu_time()?.saturating_sub(cpu_before);

    if args.deregister {
        let bar = progress::bar(fleet.len(), "deregistering");
        deregister(&target, &token, &fleet, args.connections, &bar).await?;
        bar.finish_and_clear();
    }
    let tally = tally.lock();
    let mut table = Table::default();
    table.pair("server", target.to_string());
    table.pair("agents", units::count(fleet.len()));
    table.pair("connections", connections_shown(&args));
    summary::add(&mut table, schedule.per_second(), ran, &tally);
    let answered = tally.answered().max(1) as f64;
    table.pair("CPU of this client per beat", format!("{:.1} µs", cpu.as_secs_f64() * 1e6 / answered));
    print!("{table}");
    match &tally.first_failure {
        Some(failure) if tally.successes() == 0 => bail!("no beat succeeded: {failure}"),
        Some(failure) => eprintln!("first failure: {failure}"),
        None => {}
    }
    Ok(())
}

async fn register_all(args: &Args, target: &Arc<Target>, token: &str) -> anyhow::Result<Fleet> {
    let credentials = if args.use_admin_token { Credentials::Admin } else { Credentials::Own };
    let bar = progress::bar(args.agents, "registering");
    let fleet = register(target, token, args.agents, args.connections, credentials, &bar).await;
    bar.finish_and_clear();
    fleet
}

/// The run itself, with its progress; an interrupt ends it early.
async fn load(
    args: &Args,
    target: Arc<Target>,
    fleet: Arc<Fleet>,
    schedule: Schedule,
    tally: SharedTally,
) -> anyhow::Result<Ran> {
    let stop = Arc::new(AtomicBool::new(false));
    let run = OpenLoop {
        target,
        fleet,
        schedule,
        connections: args.connections,
        keep_alive: keep_alive(args.new_connection_per_beat),
        duration: args.duration,
        patience: PATIENCE,
        stop: stop.clone(),
    }
    .run(tally.clone());
    tokio::pin!(run);
    let spinner = progress::spinner("beating");
    let mut redraw = tokio::time::interval(Duration::from_millis(500));
    loop {
        tokio::select! {
            ran = &mut run => {
                spinner.finish_and_clear();
                return ran;
            }
            _ = tokio::signal::ctrl_c() => stop.store(true, Ordering::Relaxed),
            _ = redraw.tick() => {
                let tally = tally.lock();
                spinner.set_message(format!(
                    "beating for {}: {} answered, {} without an answer, p99 {}",
                    humantime::format_duration(args.duration),
                    units::count(tally.answered()),
                    units::count(tally.unanswered()),
                    units::micros(tally.latency_us.value_at_quantile(0.99)),
                ));
            }
        }
    }
}

fn admin_token(args: &Args) -> anyhow::Result<String> {
    // A file that is named on the command line goes before a variable; clap sees to the flags.
    if let Some(path) = &args.token_file {
        let token = std::fs::read_to_string(path)
            .with_context(|| format!("--token-file {}: cannot be read", path.display()))?;
        return Ok(token.trim().to_owned());
    }
    args.token.clone().context(
        "registering agents needs the admin token: give it with --token, --token-file or GUARDBEAT_TOKEN. \
         It is MANAGER_AUTH_TOKEN of the server, or, if none was set, the one it made in its data folder \
         and named at its start",
    )
}

fn connections_shown(args: &Args) -> String {
    if args.new_connection_per_beat {
        format!("a new one for each beat, {} at once", args.connections)
    } else {
        format!("{}, kept alive", args.connections)
    }
}

/// What the flag `--new-connection-per-beat` means.
pub(super) fn keep_alive(new_connection_per_beat: bool) -> KeepAlive {
    if new_connection_per_beat { KeepAlive::No } else { KeepAlive::Yes }
}

/// A number of connections: at least one.
pub(super) fn connections(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("there must be at least one".to_owned()),
        Ok(count) => Ok(count),
        Err(error) => Err(format!("{error}")),
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(interval) if interval.is_zero() => Err("must be above zero".to_owned()),
        Ok(interval) => Ok(interval),
        Err(error) => Err(error.to_string()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        Ok(_) => Err("must be above zero".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

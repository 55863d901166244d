//! `compare`: the engine and the baseline under the same load, in turn.
//!
//! Rounds alternate, so that what the machine does meanwhile falls on both sides alike, and each ratio
//! is taken within a round. Processor time is the figure to trust: it does not depend on how the
//! client and the server share the cores, as requests per second do.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::load::{ClosedLoop, Credentials, Fleet, register};
use crate::progress;
use crate::server::{Bare, Engine, EngineOptions, ServerProcess, cpu_time_of, own_cpu_time};
use crate::stats::Spread;
use crate::table::Table;
use crate::wire::{KeepAlive, Target};

use super::beat::{connections, keep_alive};

/// Connections are made and caches are warm after this.
const WARM_UP: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The `guardbeat` binary; `bare` compares the baseline with itself
    #[arg(long, value_name = "BINARY")]
    server: PathBuf,
    /// How often each side is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// For how long each time
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Connections that beat as fast as they are answered
    #[arg(long, default_value_t = 64, value_parser = connections)]
    connections: usize,
    /// Agents whose beats are sent
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    agents: u64,
    /// Open a connection for each beat, as the published Guard client does
    #[arg(long)]
    new_connection_per_beat: bool,
    /// Both sides over TLS, with the server's own certificate
    #[arg(long)]
    tls: bool,
    /// One more argument for the server, as in `--server-arg=--store=memory:`; may be repeated
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    server_arg: Vec<OsString>,
}

/// One server under test.
struct Side {
    name: &'static str,
    pid: u32,
    target: Arc<Target>,
    fleet: Arc<Fleet>,
}

/// What one side did in one round.
#[derive(Debug, Clone, Copy)]
struct Sample {
    cpu_us: f64,
    per_second: f64,
    client_cpu_us: f64,
}

/// The first side's server; ended when dropped.
enum First {
    Engine(ServerProcess, Box<Engine>),
    Bare(Bare),
}

/// Starts both, measures in turn, prints the table.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let first = start_first(&args).await?;
    let (pid, target, token, tls_folder) = match &first {
        First::Engine(process, engine) => {
            (process.pid(), engine.target().await?, engine.token(), args.tls.then(|| engine.tls_folder()))
        }
        First::Bare(bare) => (bare.pid(), bare.target().clone(), "any", None),
    };
    let bare = Bare::start(tls_folder.as_deref()).await?;
    let sides = [
        enlist("engine", pid, target, token, &args).await?,
        enlist("bare", bare.pid(), bare.target().clone(), "any", &args).await?,
    ];
    let keep_alive = keep_alive(args.new_connection_per_beat);
    let spinner = progress::spinner("measuring");
    let mut rounds = Vec::new();
    for round in 1..=args.rounds {
        let mut measured = Vec::with_capacity(sides.len());
        // Every other round the other way round: what only ever grows would else burden one side.
        let mut order = [0, 1];
        if round % 2 == 0 {
            order.reverse();
        }
        for index in order {
            let side = &sides[index];
            spinner.set_message(format!("round {round} of {}: {}", args.rounds, side.name));
            measured.push((index, measure(side, &args, keep_alive).await?));
        }
        measured.sort_by_key(|(index, _)| *index);
        rounds.push((measured[0].1, measured[1].1));
    }
    spinner.finish_and_clear();
    println!(
        "{} connections, {}, {}, {} agents, {} s a side and round",
        args.connections,
        if args.new_connection_per_beat { "a new one for each beat" } else { "kept alive" },
        if args.tls { "TLS" } else { "plain HTTP" },
        crate::units::count(args.agents),
        args.seconds
    );
    print!("{}", report(&rounds));
    Ok(())
}

async fn start_first(args: &Args) -> anyhow::Result<First> {
    if args.server == Path::new("bare") {
        if args.tls {
            bail!("--server bare has no certificate to use: leave out --tls");
        }
        return Ok(First::Bare(Bare::start(None).await?));
    }
    let engine = Engine::prepare(EngineOptions {
        binary: args.server.clone(),
        tls: args.tls,
        timeout_ms: None,
        arguments: args.server_arg.clone(),
    })?;
    let (process, _) = engine.start().await?;
    Ok(First::Engine(process, Box::new(engine)))
}

async fn enlist(name: &'static str, pid: u32, target: Arc<Target>, token: &str, args: &Args) -> anyhow::Result<Side> {
    let bar = progress::bar(args.agents, "registering");
    let fleet = register(&target, token, args.agents, args.connections, Credentials::Own, &bar).await;
    bar.finish_and_clear();
    Ok(Side { name, pid, target, fleet: Arc::new(fleet?) })
}

async fn measure(side: &Side, args: &Args, keep_alive: KeepAlive) -> anyhow::Result<Sample> {
    let load = ClosedLoop::start(&side.target, &side.fleet, args.connections, keep_alive);
    tokio::time::sleep(WARM_UP).await;
    let begun = Instant::now();
    let (progress, cpu, client_cpu) = (load.progress(), cpu_time_of(side.pid)?, own_cpu_time()?);
    tokio::time::sleep(Duration::from_secs(args.seconds)).await;
    let elapsed = begun.elapsed();
    let cpu = cpu_time_of(side.pid)?.saturating_sub(cpu);
    let client_cpu = own_cpu_time()?.saturating_sub(client_cpu);
    let done = load.progress();

    if let Some(failure) = load.first_failure() {
        bail!(
            "{} of {} beats failed on the side `{}`: {failure}",
            done.failures,
            done.failures + done.beats,
            side.name
        );
    }
    let beats = (done.beats - progress.beats) as f64;
    if beats == 0.0 {
        bail!("no beat was answered on the side `{}`", side.name);
    }
    Ok(Sample {
        cpu_us: cpu.as_secs_f64() * 1e6 / beats,
        per_second: beats / elapsed.as_secs_f64(),
        client_cpu_us: client_cpu.as_secs_f64() * 1e6 / beats,
    })
}

/// A figure that is shown for each round.
type Column = fn(&(Sample, Sample)) -> f64;

fn report(rounds: &[(Sample, Sample)]) -> Table {
    let mut table = Table::with_headings([
        "round",
        "engine µs/beat",
        "bare µs/beat",
        "engine/bare",
        "engine beats/s",
        "bare beats/s",
        "engine/bare",
        "client µs/beat",
    ]);
    let columns: [(Column, usize); 7] = [
        (|(engine, _)| engine.cpu_us, 2),
        (|(_, bare)| bare.cpu_us, 2),
        (|(engine, bare)| engine.cpu_us / bare.cpu_us, 3),
        (|(engine, _)| engine.per_second, 0),
        (|(_, bare)| bare.per_second, 0),
        (|(engine, bare)| engine.per_second / bare.per_second, 3),
        (|(engine, bare)| f64::midpoint(engine.client_cpu_us, bare.client_cpu_us), 2),
    ];
    let mut add = |name: String, value: &dyn Fn(Column) -> f64| {
        let cells = columns.map(|(column, digits)| format!("{:.digits$}", value(column)));
        let [a, b, c, d, e, f, g] = cells;
        table.row([name, a, b, c, d, e, f, g]);
    };
    for (index, round) in rounds.iter().enumerate() {
        add((index + 1).to_string(), &|column| column(round));
    }
    let spread = |column: Column| Spread::of(rounds.iter().map(column)).expect("there is at least one round");
    add("median".to_owned(), &|column| spread(column).median);
    add("lowest".to_owned(), &|column| spread(column).min);
    add("highest".to_owned(), &|column| spread(column).max);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(cpu_us: f64, per_second: f64) -> Sample {
        Sample { cpu_us, per_second, client_cpu_us: 5.0 }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let rounds = [
            (sample(20.0, 10.0), sample(10.0, 20.0)),
            (sample(30.0, 10.0), sample(30.0, 10.0)),
            (sample(15.0, 10.0), sample(10.0, 10.0)),
        ];
        let text = report(&rounds).to_string();
        let median: Vec<&str> =
            text.lines().find(|line| line.contains("median")).expect("a median").split_whitespace().collect();
        assert_eq!(median, ["median", "20.00", "10.00", "1.500", "10", "10", "1.000", "5.00"]);
    }
}

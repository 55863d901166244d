//! `compare`: the engine, on each store that is asked for, and the baseline under the same load, in turn.
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
use crate::server::{Bare, EngineOptions, Redis, WhichRedis};
use crate::table::Table;
use crate::wire::Target;

use super::beat::{connections, keep_alive};
use super::rounds::{Column, Round, Sample, client, each, measure, redis_table, table};
use super::subject::{Meter, Subject};

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
    /// All sides over TLS, with the server's own certificate
    #[arg(long)]
    tls: bool,
    /// A further side: the engine with its fleet in Redis; in one started for the run, or in the one at URL
    #[arg(long, value_name = "URL", num_args = 0..=1, require_equals = true, default_missing_value = WhichRedis::OWN)]
    redis: Option<WhichRedis>,
    /// One more argument for the server, as in `--server-arg=--store=memory:`; may be repeated
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    server_arg: Vec<OsString>,
}

/// A server under test, with agents of its own; ended when dropped.
struct Side {
    name: &'static str,
    server: Server,
    target: Arc<Target>,
    fleet: Arc<Fleet>,
}

enum Server {
    Engine(Box<Subject>),
    Bare(Bare),
}

/// Starts all sides, measures in turn, prints the tables.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let mut sides = start(&args).await?;
    let names: Vec<&str> = sides.iter().map(|side| side.name).collect();
    let rounds = measure(&names, args.rounds, async |side| sides[side].beat(&args).await).await?;
    println!(
        "{} connections, {}, {}, {} agents, {} s a side and round",
        args.connections,
        if args.new_connection_per_beat { "a new one for each beat" } else { "kept alive" },
        if args.tls { "TLS" } else { "plain HTTP" },
        crate::units::count(args.agents),
        args.seconds
    );
    for (title, table) in report(&names, &rounds) {
        print!("\n{title}\n{table}");
    }
    for side in sides {
        match side.server {
            Server::Engine(subject) => subject.end().await?,
            Server::Bare(bare) => drop(bare),
        }
    }
    Ok(())
}

/// The baseline comes last.
async fn start(args: &Args) -> anyhow::Result<Vec<Side>> {
    let mut sides = Vec::new();
    let mut tls_folder = None;
    if args.server == Path::new("bare") {
        if args.tls {
            bail!("--server bare has no certificate to use: leave out --tls");
        }
        if args.redis.is_some() {
            bail!("--server bare keeps nothing, in Redis neither: leave out --redis");
        }
        sides.push(Side::enlist("itself", Server::Bare(Bare::start(None).await?), args).await?);
    } else {
        let subject = Subject::start(options(args), None).await?;
        tls_folder = args.tls.then(|| subject.engine.tls_folder());
        let name = if args.redis.is_some() { "embedded" } else { "engine" };
        sides.push(Side::enlist(name, Server::Engine(Box::new(subject)), args).await?);
    }
    if args.redis.is_some() {
        let subject = Subject::start(options(args), args.redis.as_ref()).await?;
        sides.push(Side::enlist("Redis", Server::Engine(Box::new(subject)), args).await?);
    }
    sides.push(Side::enlist("bare", Server::Bare(Bare::start(tls_folder.as_deref()).await?), args).await?);
    Ok(sides)
}

fn options(args: &Args) -> EngineOptions {
    EngineOptions { binary: args.server.clone(), tls: args.tls, timeout_ms: None, arguments: args.server_arg.clone() }
}

impl Side {
    /// Registers its agents.
    async fn enlist(name: &'static str, server: Server, args: &Args) -> anyhow::Result<Self> {
        let (target, token) = match &server {
            Server::Engine(subject) => (subject.target().await?, subject.engine.token()),
            Server::Bare(bare) => (bare.target().clone(), "any"),
        };
        let bar = progress::bar(args.agents, "registering");
        let fleet = register(&target, token, args.agents, args.connections, Credentials::Own, &bar).await;
        bar.finish_and_clear();
        Ok(Self { name, server, target, fleet: Arc::new(fleet?) })
    }

    /// Measures one round.
    async fn beat(&mut self, args: &Args) -> anyhow::Result<Sample> {
        let keep_alive = keep_alive(args.new_connection_per_beat);
        let load = ClosedLoop::start(&self.target, &self.fleet, args.connections, keep_alive);
        tokio::time::sleep(WARM_UP).await;
        let meter = Meter::start(self.server.pid(), self.server.redis()).await?;
        let (begun, before) = (Instant::now(), load.progress());
        tokio::time::sleep(Duration::from_secs(args.seconds)).await;
        let (elapsed, done) = (begun.elapsed(), load.progress());
        let beats = done.beats - before.beats;
        if beats == 0 && done.failures == 0 {
            bail!("no beat was answered on the side `{}`", self.name);
        }
        let cost = meter.stop(self.server.redis(), beats.max(1)).await?;
        if let Some(failure) = load.first_failure() {
            bail!(
                "{} of {} beats failed on the side `{}`: {failure}",
                done.failures,
                done.failures + done.beats,
                self.name
            );
        }
        Ok(Sample { per_second: beats as f64 / elapsed.as_secs_f64(), cost })
    }
}

impl Server {
    fn pid(&self) -> u32 {
        match self {
            Self::Engine(subject) => subject.process.pid(),
            Self::Bare(bare) => bare.pid(),
        }
    }

    fn redis(&mut self) -> Option<&mut Redis> {
        match self {
            Self::Engine(subject) => subject.redis.as_mut(),
            Self::Bare(_) => None,
        }
    }
}

fn report(names: &[&str], rounds: &[Round]) -> Vec<(&'static str, Table)> {
    let mut costs = versus(names, 2, |sample| sample.cost.server_us);
    costs.push(client());
    let rates = versus(names, 0, |sample| sample.per_second);
    let mut tables = vec![
        ("Processor time of the server per heartbeat, µs", table(rounds, &costs)),
        ("Heartbeats per second", table(rounds, &rates)),
    ];
    if let Some(redis) = redis_table(rounds) {
        tables.push(("What Redis does for them", redis));
    }
    tables
}

/// A figure of each side, and each but the last as a ratio to the last.
fn versus<'a>(names: &[&str], digits: usize, figure: fn(&Sample) -> f64) -> Vec<Column<'a, Round>> {
    let baseline = names.len() - 1;
    let ratios = names[..baseline].iter().enumerate().map(|(side, name)| {
        let heading = format!("{name}/{}", names[baseline]);
        Column::new(heading, 3, move |round: &Round| figure(&round[side]) / figure(&round[baseline]))
    });
    each(names.iter().copied(), digits, figure).into_iter().chain(ratios).collect()
}

#[cfg(test)]
mod tests {
    use super::super::subject::Cost;
    use super::*;
    use crate::server::Expense;

    fn sample(server_us: f64, per_second: f64) -> Sample {
        Sample { per_second, cost: Cost { server_us, client_us: 5.0, redis: None } }
    }

    /// The row of medians of a table.
    fn medians(table: &Table) -> Vec<String> {
        let text = table.to_string();
        let row = text.lines().find(|line| line.contains("median")).expect("a median");
        row.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let rounds = [
            vec![sample(20.0, 10.0), sample(10.0, 20.0)],
            vec![sample(30.0, 10.0), sample(30.0, 10.0)],
            vec![sample(15.0, 10.0), sample(10.0, 10.0)],
        ];
        let tables = report(&["engine", "bare"], &rounds);
        assert_eq!(medians(&tables[0].1), ["median", "20.00", "10.00", "1.500", "5.00"]);
        assert_eq!(medians(&tables[1].1), ["median", "10", "10", "1.000"]);
        assert_eq!(tables.len(), 2);
    }

    #[test]
    fn a_side_in_redis_is_compared_as_well_and_says_what_redis_did() {
        let expense = Expense { cpu_us: 2.0, commands_per_1000: 30.0, transactions_per_1000: 0.5 };
        let mut in_redis = sample(30.0, 5.0);
        in_redis.cost.redis = Some(expense);
        let tables = report(&["embedded", "Redis", "bare"], &[vec![sample(20.0, 10.0), in_redis, sample(10.0, 10.0)]]);
        assert_eq!(medians(&tables[0].1), ["median", "20.00", "30.00", "10.00", "2.000", "3.000", "5.00"]);
        assert_eq!(medians(&tables[1].1), ["median", "10", "5", "10", "1.000", "0.500"]);
        assert_eq!(medians(&tables[2].1), ["median", "2.00", "32.00", "30.00", "0.500"]);
    }
}

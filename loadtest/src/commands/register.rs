//! `register`: how many agents can register a second, how long each waits, and what it costs.
//!
//! A registration is answered once it is durable, and those under way at the same time share one write
//! to the store: with more connections there are more of them in a second, and each takes longer.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use hdrhistogram::Histogram;

use crate::load::{Credentials, RegistrationLoop, SharedTally, Tally, register};
use crate::progress;
use crate::server::{EngineOptions, WhichRedis};
use crate::table::Table;
use crate::units;
use crate::wire::Target;

use super::beat::connections;
use super::cpu_clock::CpuClock;
use super::given::server_beside;
use super::rounds::{Round, Sample, client, each, measure, redis_table, table};
use super::subject::{Meter, Subject};
use super::summary;

/// Registered on each side beforehand, so that caches are warm and files are there.
const WARM_UP_AGENTS: u64 = 1_000;
/// Long, so that agents of earlier rounds do not go stale meanwhile: that would be measured as well.
const TIMEOUT_MS: u64 = 3_600_000;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The `guardbeat` binary
    #[arg(long, value_name = "BINARY", default_value_os_t = server_beside())]
    server: PathBuf,
    /// A further side: the engine with its fleet in Redis; in one started for the run, or in the one at URL
    #[arg(long, value_name = "URL", num_args = 0..=1, require_equals = true, default_missing_value = WhichRedis::OWN)]
    redis: Option<WhichRedis>,
    /// How often each side is measured
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// For how long each time
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// How many registrations a side and round at most
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    most: u64,
    /// Connections that register as fast as they are answered
    #[arg(long, default_value_t = 64, value_parser = connections)]
    connections: usize,
    /// One more argument for the server, as in `--server-arg=--store=memory:`; may be repeated
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    server_arg: Vec<OsString>,
}

/// An engine on one of the stores; ended when dropped.
struct Side {
    name: &'static str,
    subject: Subject,
    target: Arc<Target>,
    /// Of all rounds, in microseconds.
    latency_us: Histogram<u64>,
}

/// Starts the sides, measures in turn, prints the tables.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let mut sides = vec![Side::start("embedded", None, &args).await?];
    if args.redis.is_some() {
        sides.push(Side::start("Redis", args.redis.as_ref(), &args).await?);
    }
    let names: Vec<&str> = sides.iter().map(|side| side.name).collect();
    let rounds = measure(&names, args.rounds, async |side| sides[side].register(&args).await).await?;
    println!(
        "{} connections, kept alive, plain HTTP, {} s or {} registrations a side and round",
        args.connections,
        args.seconds,
        units::count(args.most)
    );
    println!("\nRegistrations per second, and processor time of the server for each\n{}", report(&names, &rounds));
    println!("Latencies of registrations over all rounds\n{}", latencies(&sides));
    if let Some(redis) = redis_table(&rounds) {
        println!("What Redis does for them\n{redis}");
    }
    for side in sides {
        side.subject.end().await?;
    }
    Ok(())
}

impl Side {
    async fn start(name: &'static str, redis: Option<&WhichRedis>, args: &Args) -> anyhow::Result<Self> {
        let options = EngineOptions {
            binary: args.server.clone(),
            tls: false,
            timeout_ms: Some(TIMEOUT_MS),
            arguments: args.server_arg.clone(),
        };
        let subject = Subject::start(options, redis).await?;
        let target = subject.target().await?;
        let bar = progress::bar(WARM_UP_AGENTS, "warming up");
        let token = subject.engine.token();
        let warm = register(&target, token, WARM_UP_AGENTS, args.connections, Credentials::Admin, &bar).await;
        bar.finish_and_clear();
        warm?;
        Ok(Self { name, subject, target, latency_us: Tally::new().latency_us })
    }

    /// Measures one round.
    async fn register(&mut self, args: &Args) -> anyhow::Result<Sample> {
        let load = RegistrationLoop {
            target: self.target.clone(),
            token: self.subject.engine.token().into(),
            connections: args.connections,
            duration: Duration::from_secs(args.seconds),
            most: args.most,
        };
        let tally = SharedTally::new();
        let mut clock = CpuClock::Process(self.subject.process.pid());
        let meter = Meter::start(&mut clock, self.subject.redis.as_mut()).await?;
        let elapsed = load.run(&tally).await?;
        let registered = tally.lock().successes();
        let cost = meter.stop(&mut clock, self.subject.redis.as_mut(), registered.max(1)).await?;
        let tally = tally.lock();
        if let Some(failure) = &tally.first_failure {
            let failed = tally.answered() + tally.unanswered() - registered;
            bail!("{failed} registrations failed on the side `{}`, {registered} did not: {failure}", self.name);
        }
        self.latency_us.add(&tally.latency_us)?;
        Ok(Sample { per_second: registered as f64 / elapsed.as_secs_f64(), cost, resumed: None })
    }
}

fn report(names: &[&str], rounds: &[Round]) -> Table {
    let with_unit = |unit: &str| names.iter().map(move |name| format!("{name} {unit}")).collect::<Vec<_>>();
    let mut columns = each(with_unit("/s"), 0, |sample| Some(sample.per_second));
    columns.extend(each(with_unit("µs"), 2, |sample| sample.cost.server_us));
    columns.push(client());
    table(rounds, &columns)
}

fn latencies(sides: &[Side]) -> Table {
    let names = summary::QUANTILES.map(|(name, _)| name);
    let mut table = Table::with_headings(["side"].into_iter().chain(names).chain(["max", "registrations"]));
    for side in sides {
        let latency = &side.latency_us;
        let quantiles = summary::QUANTILES.map(|(_, quantile)| units::micros(latency.value_at_quantile(quantile)));
        let rest = [units::micros(latency.max()), units::count(latency.len())];
        table.row(std::iter::once(side.name.to_owned()).chain(quantiles).chain(rest));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::super::subject::Cost;
    use super::*;

    #[test]
    fn each_side_has_its_rate_and_its_cost() {
        let sample = |per_second, server_us| {
            let cost = Cost { server_us: Some(server_us), client_us: 9.0, redis: None };
            Sample { per_second, cost, resumed: None }
        };
        let rounds = [vec![sample(1_000.0, 60.0), sample(2_000.0, 50.0)]];
        let text = report(&["embedded", "Redis"], &rounds).to_string();
        let row = text.lines().find(|line| line.contains("median")).expect("a median");
        assert_eq!(row.split_whitespace().collect::<Vec<_>>(), ["median", "1000", "2000", "60.00", "50.00", "9.00"]);
    }
}

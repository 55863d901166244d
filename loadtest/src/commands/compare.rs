//! `compare`: the engine, on each store that is asked for, and another server under the same load, in turn: the
//! baseline, or whatever listens at a URL.
//!
//! Rounds alternate, so that what the machine does meanwhile falls on both sides alike, and each ratio
//! is taken within a round. Processor time is the figure to trust: it does not depend on how the
//! client and the server share the cores, as requests per second do.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::load::Manner;
use crate::server::{Bare, EngineOptions, WhichRedis};
use crate::table::Table;
use crate::units;

use super::Usage;
use super::beat::{connections, keep_alive};
use super::given::{Access, server_beside};
use super::rounds::{Column, Round, Sample, client, each, measure, redis_table, table};
use super::side::{Load, Server, Side};
use super::subject::Subject;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The `guardbeat` binary; `bare` compares the baseline with itself
    #[arg(long, value_name = "BINARY", default_value_os_t = server_beside())]
    server: PathBuf,
    /// Base URL of a server to compare with, instead of the baseline; agents are registered there, and deregistered
    #[arg(long, value_name = "URL")]
    against: Option<String>,
    #[command(flatten)]
    access: Access,
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
    /// Send so many beats in each request, as relays do (POST /api/heartbeats), with the admin token
    #[arg(long, value_name = "BEATS", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    batch: Option<u64>,
    /// Open a connection for each request, as the published Guard client does
    #[arg(long)]
    new_connection_per_beat: bool,
    /// All servers that are started speak TLS, with the engine's own certificate
    #[arg(long)]
    tls: bool,
    /// A further side: the engine with its fleet in Redis; in one started for the run, or in the one at URL
    #[arg(long, value_name = "URL", num_args = 0..=1, require_equals = true, default_missing_value = WhichRedis::OWN)]
    redis: Option<WhichRedis>,
    /// One more argument for the server, as in `--server-arg=--store=memory:`; may be repeated
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    server_arg: Vec<OsString>,
}

/// Starts all sides, measures in turn, prints the tables.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    check(&args)?;
    let manner = Manner {
        connections: args.connections,
        keep_alive: keep_alive(args.new_connection_per_beat),
        batch: args.batch,
    };
    let mut sides = start(&args, Load { agents: args.agents, manner }).await?;
    let names: Vec<&str> = sides.iter().map(|side| side.name).collect();
    let rounds = measure(&names, args.rounds, async |side| sides[side].beat(manner, args.seconds).await).await?;
    println!(
        "{} connections, {}, {}, {}, {} agents, {} s a side and round",
        args.connections,
        if args.new_connection_per_beat { "a new one for each request" } else { "kept alive" },
        args.batch
            .map_or_else(|| "a beat in each request".to_owned(), |beats| format!("{beats} beats in each request")),
        if args.tls { "TLS" } else { "plain HTTP" },
        units::count(args.agents),
        args.seconds
    );
    if let Some(url) = &args.against {
        println!("other: {url}");
    }
    for (title, table) in report(&names, &rounds) {
        print!("\n{title}\n{table}");
    }
    for side in &sides {
        if !side.has_clock() {
            println!("\n{}: nothing is known of its processor time, as /metrics does not tell it", side.name);
        }
    }
    for side in sides {
        side.end(args.connections).await?;
    }
    Ok(())
}

/// Refuses what makes no sense.
fn check(args: &Args) -> Result<(), Usage> {
    let is_bare = args.server == Path::new("bare");
    let complaint = match args {
        _ if is_bare && args.tls => "--server bare has no certificate to use: leave out --tls",
        _ if is_bare && args.redis.is_some() => "--server bare keeps nothing, in Redis neither: leave out --redis",
        Args { batch: Some(beats), agents, .. } if beats > agents => {
            "--batch must not be more than --agents: an agent has one beat in a batch"
        }
        Args { against: None, access, .. } if access.is_given() => {
            "--ca and --token-file are those of the server at --against"
        }
        _ => return Ok(()),
    };
    Err(Usage(complaint.to_owned()))
}

/// What all are compared with comes last.
async fn start(args: &Args, load: Load) -> anyhow::Result<Vec<Side>> {
    // First of all, as it may not be there.
    let given = match &args.against {
        Some(url) => Some(args.access.reach(url).await?),
        None => None,
    };
    let mut sides = Vec::new();
    let mut tls_folder = None;
    if args.server == Path::new("bare") {
        let name = if given.is_some() { "bare" } else { "itself" };
        sides.push(Side::enlist(name, Server::Bare(Bare::start(None).await?), load).await?);
    } else {
        let subject = Subject::start(options(args), None).await?;
        tls_folder = args.tls.then(|| subject.engine.tls_folder());
        let name = if args.redis.is_some() { "embedded" } else { "engine" };
        sides.push(Side::enlist(name, Server::Engine(Box::new(subject)), load).await?);
    }
    if args.redis.is_some() {
        let subject = Subject::start(options(args), args.redis.as_ref()).await?;
        sides.push(Side::enlist("Redis", Server::Engine(Box::new(subject)), load).await?);
    }
    sides.push(match given {
        Some(host) => Side::enlist("other", Server::Given(Box::new(host)), load).await?,
        None => Side::enlist("bare", Server::Bare(Bare::start(tls_folder.as_deref()).await?), load).await?,
    });
    Ok(sides)
}

fn options(args: &Args) -> EngineOptions {
    EngineOptions { binary: args.server.clone(), tls: args.tls, timeout_ms: None, arguments: args.server_arg.clone() }
}

fn report(names: &[&str], rounds: &[Round]) -> Vec<(&'static str, Table)> {
    let mut costs = versus(names, 2, |sample| sample.cost.server_us);
    costs.push(client());
    let rates = versus(names, 0, |sample| Some(sample.per_second));
    let mut tables = vec![
        ("Processor time of the server per heartbeat, µs", table(rounds, &costs)),
        ("Heartbeats per second", table(rounds, &rates)),
    ];
    if let Some(redis) = redis_table(rounds) {
        tables.push(("What Redis does for them", redis));
    }
    // With connections that are kept there are none while it is measured.
    if rounds.iter().flatten().any(|sample| sample.resumed.is_some()) {
        let resumed = each(names.iter().copied(), 3, |sample| sample.resumed);
        tables.push(("Share of TLS handshakes that resumed a session", table(rounds, &resumed)));
    }
    tables
}

/// A figure of each side, and each but the last as a ratio to the last.
fn versus<'a>(names: &[&str], digits: usize, figure: fn(&Sample) -> Option<f64>) -> Vec<Column<'a, Round>> {
    let baseline = names.len() - 1;
    let ratios = names[..baseline].iter().enumerate().map(|(side, name)| {
        let heading = format!("{name}/{}", names[baseline]);
        Column::new(heading, 3, move |round: &Round| Some(figure(&round[side])? / figure(&round[baseline])?))
    });
    each(names.iter().copied(), digits, figure).into_iter().chain(ratios).collect()
}

#[cfg(test)]
mod tests {
    use super::super::subject::Cost;
    use super::*;
    use crate::server::Expense;

    fn sample(server_us: f64, per_second: f64) -> Sample {
        Sample { per_second, cost: Cost { server_us: Some(server_us), client_us: 5.0, redis: None }, resumed: None }
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

    #[test]
    fn of_a_server_that_does_not_tell_its_processor_time_only_rates_are_compared() {
        let mut other = sample(0.0, 5.0);
        other.cost.server_us = None;
        let tables = report(&["engine", "other"], &[vec![sample(20.0, 10.0), other]]);
        assert_eq!(medians(&tables[0].1), ["median", "20.00", "5.00"]);
        assert_eq!(medians(&tables[1].1), ["median", "10", "5", "2.000"]);
    }

    #[test]
    fn resumed_handshakes_are_told_where_there_were_any() {
        let mut with_tls = sample(20.0, 10.0);
        with_tls.resumed = Some(0.75);
        let tables = report(&["engine", "other"], &[vec![with_tls, sample(10.0, 10.0)]]);
        assert_eq!(medians(&tables[2].1), ["median", "0.750"]);
    }

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn what_makes_no_sense_is_refused_before_anything_is_started() {
        for (flags, said) in [
            ("--server bare --tls", "leave out --tls"),
            ("--server bare --redis", "leave out --redis"),
            ("--server x --batch 100 --agents 99", "--batch must not be more than --agents"),
            ("--server x --ca ca.pem", "--against"),
        ] {
            let cli = <Cli as clap::Parser>::try_parse_from(std::iter::once("compare").chain(flags.split(' ')));
            let error = check(&cli.expect("flags").args).expect_err(flags);
            assert!(error.0.contains(said), "{flags}: {error}");
        }
    }
}

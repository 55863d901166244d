//! `beat`: agents that register with a running server and beat by schedule: a steady [`run`](super::run) without
//! thresholds and files.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::run::run as carry_out;
use crate::scenario::Scenario;
use crate::wire::KeepAlive;

use super::given::Access;
use super::run::check;
use super::{Usage, summary};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Base URL of the server
    #[arg(long, default_value = "https://localhost:8443")]
    url: String,
    #[command(flatten)]
    access: Access,
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
pub(crate) async fn run(args: Args, stop: Arc<AtomicBool>) -> anyhow::Result<()> {
    let scenario = scenario(&args)?;
    let host = args.access.reach(&args.url).await?;
    let outcome = carry_out(&scenario, host, stop, args.deregister).await?;
    print!("{}", summary::of(&outcome));
    check(&outcome)
}

/// What the flags mean.
fn scenario(args: &Args) -> Result<Scenario, Usage> {
    let pace = match args.rate {
        Some(rate) => format!("fleet.rate={rate}"),
        None => format!("fleet.interval={}", humantime::format_duration(args.interval)),
    };
    let sets = [
        pace,
        format!("fleet.agents={}", args.agents),
        format!("fleet.tokens={}", if args.use_admin_token { "admin" } else { "own" }),
        format!("load.connections={}", args.connections),
        format!("load.keep_alive={}", !args.new_connection_per_beat),
        format!("load.duration={}", humantime::format_duration(args.duration)),
        "load.warm_up=0s".to_owned(),
    ];
    Scenario::read(Path::new("beat"), "", &sets).map_err(Usage)
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::load::Schedule;
    use crate::scenario::Course;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn read(flags: &str) -> Scenario {
        let cli = Cli::try_parse_from(std::iter::once("beat").chain(flags.split_whitespace()));
        scenario(&cli.expect("flags").args).expect("a scenario")
    }

    #[test]
    fn flags_are_settings_in_other_words() {
        let scenario = read("--agents 500 --interval 90s --duration 5m --new-connection-per-beat --use-admin-token");
        assert_eq!(scenario.schedule, Schedule::every(500, Duration::from_secs(90)));
        assert_eq!(scenario.course, Course::Steady(Duration::from_secs(300)));
        assert_eq!(scenario.transport.keep_alive, KeepAlive::No);
        assert_eq!(read("--agents 100 --rate 50").schedule, Schedule::every(100, Duration::from_secs(2)));
    }
}

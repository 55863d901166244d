//! `tour`: the built-in scenarios but the long ones, one after the other, and what came of each.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::bail;

use crate::run::{Host, Outcome, run as carry_out};
use crate::scenario::{BUILT_IN, Course, LONG, Scenario, with_unit};
use crate::table::Table;
use crate::units;

use super::run::{RESULTS, check, make, read, write};
use super::summary;

/// The share of the highest rate that the other scenarios ask for at most.
const MOST: f64 = 0.5;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The `guardbeat` binary, started anew for each scenario
    #[arg(long, value_name = "BINARY")]
    server: PathBuf,
    /// Folder for the results: one in it for each scenario
    #[arg(long, value_name = "DIR", default_value = RESULTS)]
    out: PathBuf,
}

/// Runs them all, whatever becomes of each; fails if one did not keep its thresholds.
pub(crate) async fn run(args: Args, stop: Arc<AtomicBool>) -> anyhow::Result<()> {
    let mut table = Table::with_headings(["scenario", "agents", "beats", "p50", "p99", "highest", "result"]);
    let (mut failed, mut highest_rate) = (0, None);
    // The ramp comes first: it says how much this machine can be asked for.
    let names = BUILT_IN.iter().map(|(name, _)| *name).filter(|name| !LONG.contains(name));
    let (mut names, others): (Vec<_>, Vec<_>) = names.partition(|name| *name == "ramp");
    names.extend(others);
    for name in &names {
        if stop.load(Ordering::Relaxed) {
            bail!("interrupted before {name}");
        }
        let scenario = fitting(name, highest_rate)?;
        println!("{name}: {}", scenario.description);
        match visit(&args, &scenario, stop.clone()).await {
            Ok(outcome) => {
                if matches!(scenario.course, Course::Ramp(_)) {
                    highest_rate = outcome.figures.get("rate").copied();
                }
                let checked = check(&outcome);
                failed += usize::from(checked.is_err());
                println!("{}", summary::of(&outcome));
                table.row(row(&scenario, &outcome, if checked.is_ok() { "passed" } else { "FAILED" }));
            }
            Err(error) => {
                failed += 1;
                println!("  not finished: {error:#}\n");
                table.row(
                    [name.to_string(), units::count(scenario.agents)].into_iter().chain(["not finished".to_owned()]),
                );
            }
        }
    }
    println!("The tour\n{table}\nreports: {}/*/report.html", args.out.display());
    if failed > 0 {
        bail!("{failed} of {} scenarios failed", names.len());
    }
    Ok(())
}

async fn visit(args: &Args, scenario: &Scenario, stop: Arc<AtomicBool>) -> anyhow::Result<Outcome> {
    let out = args.out.join(&scenario.name);
    make(&out)?;
    let host = Host::start(args.server.clone(), &scenario.server).await?;
    let outcome = carry_out(scenario, host, stop, false).await?;
    write(&outcome, &out)?;
    Ok(outcome)
}

/// A built-in scenario with fewer agents, if it would ask this machine for too much.
fn fitting(name: &str, highest_rate: Option<f64>) -> anyhow::Result<Scenario> {
    let scenario = read(Path::new(name), &[])?;
    match highest_rate.and_then(|highest| fewer(&scenario, highest)) {
        Some(agents) => Ok(read(Path::new(name), &[format!("fleet.agents={agents}")])?),
        None => Ok(scenario),
    }
}

/// How many agents there should be instead; `None` if they are not too many. A batch costs much less than its beats one by
/// one, of which the highest rate is.
fn fewer(scenario: &Scenario, highest_rate: f64) -> Option<u64> {
    let asked = scenario.peak_rate();
    let most = highest_rate * MOST;
    (scenario.transport.batching.is_none() && asked > most)
        .then(|| ((scenario.agents as f64 * most / asked) as u64).max(1))
}

fn row(scenario: &Scenario, outcome: &Outcome, result: &str) -> [String; 7] {
    let figure = |name: &str, unit| outcome.figures.get(name).map_or_else(String::new, |value| with_unit(*value, unit));
    [
        scenario.name.clone(),
        units::count(scenario.agents),
        outcome.figures.get("rate").map_or_else(String::new, |rate| units::rate(*rate)),
        figure("p50_ms", "ms"),
        figure("p99_ms", "ms"),
        figure("max_ms", "ms"),
        result.to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_not_asked_for_more_than_half_of_what_it_does() {
        let scenario = read(Path::new("steady"), &["fleet.agents=1000".to_owned(), "fleet.interval=1s".to_owned()]);
        let scenario = scenario.expect("a scenario");
        assert_eq!(fewer(&scenario, 2_000.0), None);
        assert_eq!(fewer(&scenario, 1_000.0), Some(500));
        let herd = read(Path::new("herd"), &["fleet.agents=1000".to_owned(), "herd.within=500ms".to_owned()]);
        assert_eq!(fewer(&herd.expect("a scenario"), 2_000.0), Some(500));
    }
}

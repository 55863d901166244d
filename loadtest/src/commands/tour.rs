//! `tour`: the built-in scenarios but the long ones, one after the other, and what came of each.

use std::path::{Path, PathBuf};

use anyhow::bail;
use tokio_util::sync::CancellationToken;

use crate::report;
use crate::run::{Ended, Outcome, Site, run as carry_out};
use crate::scenario::{BUILT_IN, Course, NOT_ON_TOUR, Scenario, with_unit};
use crate::table::Table;
use crate::units;

use super::Usage;
use super::given::server_beside;
use super::run::{RESULTS, check, make, read, write};

/// The share of the highest rate that the other scenarios ask for at most.
const MOST: f64 = 0.5;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The `guardbeat` binary, started anew for each scenario
    #[arg(long, value_name = "BINARY", default_value_os_t = server_beside())]
    server: PathBuf,
    /// The scenarios, separated by commas [default: all but the long ones]
    #[arg(long, value_name = "SCENARIO", value_delimiter = ',', value_parser = BUILT_IN.iter().map(|(name, _)| *name).collect::<Vec<_>>())]
    only: Vec<String>,
    /// A setting that holds over that of each scenario with such a section, as in --set fleet.agents=1000, or of one
    /// scenario, as in --set steady:load.duration=5s; may be repeated
    #[arg(long, value_name = "[SCENARIO:]KEY=VALUE")]
    set: Vec<String>,
    /// Folder for the results: one in it for each scenario
    #[arg(long, value_name = "DIR", default_value = RESULTS)]
    out: PathBuf,
}

/// Runs them all, whatever becomes of each; fails if one did not keep its thresholds.
pub(crate) async fn run(args: Args, stop: CancellationToken) -> anyhow::Result<()> {
    let stops = plan(&args.only, &args.set)?;
    let mut table = Table::with_headings(["scenario", "agents", "beats", "p50", "p99", "highest", "result"]);
    let (mut failed, mut highest_rate) = (0, None);
    for planned in &stops {
        let scenario = planned.fitting(highest_rate)?;
        let (outcome, result) = visit(&args, &scenario, stop.clone()).await;
        failed += usize::from(["FAILED", "not finished"].contains(&result));
        if let (Course::Ramp(_), Some(outcome)) = (&scenario.course, &outcome) {
            highest_rate = outcome.figures.get("rate").copied();
        }
        table.row(row(&scenario, outcome.as_ref(), result));
    }
    println!("The tour\n{table}\nreports: {}/*/report.html", args.out.display());
    let complaint = format!("{failed} of {} scenarios failed", stops.len());
    match (stop.is_cancelled(), failed) {
        (true, 0) => Err(Ended::Interrupted.into()),
        (true, _) => Err(anyhow::Error::from(Ended::Interrupted).context(complaint)),
        (false, 0) => Ok(()),
        (false, _) => bail!(complaint),
    }
}

/// A scenario of the tour, and the settings that hold over its own.
#[derive(Debug, PartialEq)]
struct Stop {
    name: &'static str,
    sets: Vec<String>,
}

/// Where the tour goes. Fails if a setting is none, or is for no scenario of it: before anything is started.
fn plan(only: &[String], sets: &[String]) -> Result<Vec<Stop>, Usage> {
    let is_wanted = |name: &str| match only {
        [] => !NOT_ON_TOUR.contains(&name),
        only => only.iter().any(|wanted| wanted == name),
    };
    let names: Vec<_> = BUILT_IN.iter().map(|(name, _)| *name).filter(|name| is_wanted(name)).collect();
    let mut stops: Vec<_> = names.iter().map(|name| Stop { name, sets: Vec::new() }).collect();
    for set in sets {
        let (of, key) = match set.split_once(':') {
            Some((name, rest)) if !name.contains('=') => (Some(name), rest),
            _ => (None, set.as_str()),
        };
        let section = key.split_once('.').map_or(key, |(section, _)| section);
        let mut is_for_one = false;
        for stop in &mut stops {
            let takes_it = match of {
                Some(name) => name == stop.name,
                None => read(Path::new(stop.name), &[])?.has_section(section),
            };
            if takes_it {
                stop.sets.push(key.to_owned());
                is_for_one = true;
            }
        }
        if !is_for_one {
            let is_known = |(name, _): &(&str, _)| read(Path::new(name), &[]).is_ok_and(|one| one.has_section(section));
            if !BUILT_IN.iter().any(is_known) {
                // Told with the sections that there are.
                read(Path::new(names[0]), &[key.to_owned()])?;
            }
            let whom = of.map_or_else(|| format!("a section [{section}]"), |name| format!("the name {name}"));
            let complaint = format!("--set {set}: no scenario of this tour has {whom}; they are {}", names.join(", "));
            return Err(Usage(complaint));
        }
    }
    for stop in &stops {
        read(Path::new(stop.name), &stop.sets).map_err(|Usage(mistakes)| {
            let remedy = format!("\na setting for one scenario alone begins with its name: {}:section.key", stop.name);
            Usage(format!("{}: {mistakes}{}", stop.name, if stops.len() > 1 { &remedy } else { "" }))
        })?;
    }
    Ok(stops)
}

/// What came of a scenario, and a word for it.
async fn visit(args: &Args, scenario: &Scenario, stop: CancellationToken) -> (Option<Outcome>, &'static str) {
    if stop.is_cancelled() {
        return (None, "not run");
    }
    println!("{}: {}", scenario.name, scenario.description);
    let visiting = async {
        let out = args.out.join(&scenario.name);
        make(&out)?;
        let site = Site { server: args.server.clone(), redis: None, given: None };
        let outcome = carry_out(scenario, site, stop).await?;
        write(&outcome, &out)?;
        anyhow::Ok(outcome)
    };
    match visiting.await {
        Ok(outcome) => {
            println!("{}", report::text(&outcome));
            let result = match check(&outcome) {
                _ if outcome.interrupted => "interrupted",
                Ok(()) => "passed",
                Err(_) => "FAILED",
            };
            (Some(outcome), result)
        }
        Err(error) => {
            println!("  not finished: {error:#}\n");
            (None, if error.is::<Ended>() { "interrupted" } else { "not finished" })
        }
    }
}

impl Stop {
    /// The scenario; with fewer agents, if it would ask this machine for too much and nobody has said how many.
    fn fitting(&self, highest_rate: Option<f64>) -> Result<Scenario, Usage> {
        let scenario = read(Path::new(self.name), &self.sets)?;
        let is_chosen = self.sets.iter().any(|set| set.trim_start().starts_with("fleet.agents"));
        match highest_rate.filter(|_| !is_chosen).and_then(|highest| fewer(&scenario, highest)) {
            Some(agents) => {
                let sets = [&self.sets[..], &[format!("fleet.agents={agents}")]].concat();
                read(Path::new(self.name), &sets)
            }
            None => Ok(scenario),
        }
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

fn row(scenario: &Scenario, outcome: Option<&Outcome>, result: &str) -> [String; 7] {
    let figure = |name: &str, show: fn(f64) -> String| {
        outcome.and_then(|outcome| outcome.figures.get(name)).map_or_else(String::new, |value| show(*value))
    };
    let latency = |name| figure(name, |ms| with_unit(ms, "ms"));
    [
        scenario.name.clone(),
        units::count(scenario.agents),
        figure("rate", units::rate),
        latency("p50_ms"),
        latency("p99_ms"),
        latency("max_ms"),
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
        let sets = ["fleet.agents=1000".to_owned(), "fleet.interval=1s".to_owned()];
        let fitted = |sets: &[String]| Stop { name: "steady", sets: sets.to_vec() }.fitting(Some(1_000.0));
        assert_eq!(fitted(&sets).expect("a scenario").agents, 1_000, "somebody said how many");
        assert_eq!(fitted(&sets[1..]).expect("a scenario").agents, 500);
        let herd = read(Path::new("herd"), &["fleet.agents=1000".to_owned(), "herd.within=500ms".to_owned()]);
        assert_eq!(fewer(&herd.expect("a scenario"), 2_000.0), Some(500));
    }

    fn planned(only: &[&str], sets: &[&str]) -> Result<Vec<Stop>, String> {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        plan(&owned(only), &owned(sets)).map_err(|Usage(complaint)| complaint)
    }

    #[test]
    fn a_tour_goes_to_the_scenarios_that_are_named_and_otherwise_to_all_but_the_long_ones() {
        let names =
            |only: &[&str]| planned(only, &[]).expect("a tour").iter().map(|stop| stop.name).collect::<Vec<_>>();
        assert_eq!(names(&["herd", "ramp", "steady", "herd"]), ["ramp", "steady", "herd"], "the ramp first");
        assert_eq!(names(&["million"]), ["million"]);
        assert_eq!(names(&[]).len(), BUILT_IN.len() - NOT_ON_TOUR.len());
    }

    #[test]
    fn a_setting_goes_to_the_scenarios_that_have_its_section_or_to_the_one_that_is_named() {
        let sets = ["fleet.agents=7", "silence.share=0.5", "steady:load.duration=5s"];
        let stops = planned(&["steady", "silence", "ramp"], &sets).expect("a tour");
        let of = |name: &str| stops.iter().find(|stop| stop.name == name).expect("a scenario").sets.clone();
        assert_eq!(of("ramp"), ["fleet.agents=7"]);
        assert_eq!(of("silence"), ["fleet.agents=7", "silence.share=0.5"]);
        assert_eq!(of("steady"), ["fleet.agents=7", "load.duration=5s"]);
    }

    #[test]
    fn a_setting_that_is_none_or_is_for_nobody_is_told_before_the_tour() {
        for (only, set, told) in [
            (
                &["steady"][..],
                "fleet.agent=7",
                "steady: --set: unknown key fleet.agent: [fleet] takes agents, interval",
            ),
            (&["steady"], "flet.agents=7", "--set: unknown key flet.agents: the sections are"),
            (&["steady"], "agents", "`agents` must be section.key=value"),
            (&["steady"], "fleet.agents=none", "steady: --set: fleet.agents is none: it must be a whole number"),
            (&["steady", "herd"], "silence.share=0.5", "no scenario of this tour has a section [silence]"),
            (&["steady"], "herd:fleet.agents=7", "no scenario of this tour has the name herd; they are steady"),
            (&["steady", "ramp"], "load.duration=5s", "a setting for one scenario alone begins with its name"),
        ] {
            let complaint = planned(only, &[set]).expect_err(set);
            assert!(complaint.contains(told), "{set} gave {complaint:?} instead of {told:?}");
        }
    }
}

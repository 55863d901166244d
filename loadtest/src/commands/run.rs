//! `run`: a scenario, carried out and held to its thresholds.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tokio_util::sync::CancellationToken;

use crate::report;
use crate::run::{Ended, Outcome, Site, run as carry_out};
use crate::scenario::{BUILT_IN, Course, Scenario, SideKind};
use crate::server::RedisUrl;

use super::Usage;
use super::given::{Access, server_beside};

/// Where results go unless said otherwise: a folder for each scenario in it.
pub(super) const RESULTS: &str = "load-report";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A scenario's file, or the name of one that is built in: steady, ramp, herd, churn, silence, list, threats, readers,
    /// restart, store-outage, million, beat, compare, idle, register, fleet, history
    #[arg(value_name = "SCENARIO")]
    scenario: PathBuf,
    /// The `guardbeat` binary, started for the run with a temporary data folder [default: the one beside this program]
    #[arg(long, value_name = "BINARY", default_value_os_t = server_beside(), hide_default_value = true)]
    server: PathBuf,
    /// Base URL of a server that runs already; its agents of this run are deregistered at the end
    #[arg(long)]
    url: Option<String>,
    #[command(flatten)]
    access: Access,
    /// A Redis that runs already, for servers that keep their fleet in one; only keys of this run are written
    #[arg(long, value_name = "URL")]
    redis: Option<RedisUrl>,
    /// A setting that holds over the scenario's, as in --set fleet.agents=1000; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Folder for result.json and report.html [default: load-report/NAME-OF-SCENARIO]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Runs, prints the table, writes the files. Fails if a threshold is broken.
pub(crate) async fn run(args: Args, stop: CancellationToken) -> anyhow::Result<()> {
    let scenario = read(&args.scenario, &args.set)?;
    check_flags(&args, &scenario)?;
    let out = args.out.unwrap_or_else(|| Path::new(RESULTS).join(&scenario.name));
    make(&out)?;
    let given = match &args.url {
        Some(url) => Some(args.access.reach(url).await?),
        None => None,
    };
    let site = Site { server: args.server, redis: args.redis, given };
    let outcome = carry_out(&scenario, site, stop).await?;
    print!("{}", report::text(&outcome));
    write(&outcome, &out)?;
    println!("{} and result.json beside it", out.join("report.html").display());
    check(&outcome)
}

fn check_flags(args: &Args, scenario: &Scenario) -> Result<(), Usage> {
    let complaint = match (&scenario.course, &args.url) {
        (Course::Compare(plan), None) if plan.sides.contains(&SideKind::Url) => {
            "compare.sides has `url`: say with --url where that server is"
        }
        (Course::Compare(plan), Some(_)) if !plan.sides.contains(&SideKind::Url) => {
            "compare.sides must have `url` in it for the server at --url to take part"
        }
        (Course::Idle(_), Some(_)) => {
            "this scenario measures the memory of servers on this machine, which it starts: leave out --url"
        }
        (_, Some(_)) if scenario.is_disturbing() => {
            "this scenario kills the server or its store: it needs one of its own: leave out --url"
        }
        (_, None) if args.access.ca.is_some() || args.access.token_file.is_some() => {
            "--ca and --token-file are those of the server at --url"
        }
        _ if args.redis.is_some() && !scenario.uses_redis() => {
            "--redis: no server of this scenario keeps its fleet there: --set server.store=redis"
        }
        (Course::Outage(_), _) if args.redis.is_some() => "this scenario stops its Redis: leave out --redis",
        _ => return Ok(()),
    };
    Err(Usage(complaint.to_owned()))
}

/// Reads a scenario from its file; or from those that are built in, if there is no such file.
pub(super) fn read(path: &Path, sets: &[String]) -> Result<Scenario, Usage> {
    let built_in = BUILT_IN.iter().find(|(name, _)| Path::new(name) == path);
    let text = match (fs::read_to_string(path), built_in) {
        (Ok(text), _) => text,
        (Err(_), Some((_, text))) => (*text).to_owned(),
        (Err(error), None) => {
            let names: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
            return Err(Usage(format!(
                "{}: {error}; name a scenario's file, or one of {}",
                path.display(),
                names.join(", ")
            )));
        }
    };
    Scenario::read(path, &text, sets).map_err(Usage)
}

/// Makes the folder for the results: before a run, which would be lost if it could not be.
pub(super) fn make(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("--out {}: the folder cannot be made", folder.display()))
}

pub(super) fn write(outcome: &Outcome, folder: &Path) -> anyhow::Result<()> {
    let json = serde_json::to_string_pretty(outcome).context("the result cannot be written as JSON")?;
    for (name, text) in [("result.json", json + "\n"), ("report.html", report::html(outcome))] {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Fails if the run was interrupted, a threshold is broken, the server did not end in order, or nothing worked at all.
pub(super) fn check(outcome: &Outcome) -> anyhow::Result<()> {
    if outcome.interrupted {
        return Err(Ended::Interrupted.into());
    }
    let broken: Vec<String> = outcome.broken().map(|verdict| format!("\n  {}", verdict.complaint())).collect();
    if !broken.is_empty() {
        bail!("{} of {} thresholds broken:{}", broken.len(), outcome.thresholds.len(), broken.concat());
    }
    if let Some(reason) = &outcome.ended_badly {
        bail!("{reason}");
    }
    match &outcome.first_failure {
        Some(failure) if outcome.figures.get("achieved") == Some(&0.0) => bail!("no beat succeeded: {failure}"),
        Some(_) | None => Ok(()),
    }
}

//! The command line.

use std::future::Future;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::commands::{bare, run as scenario, tour};
use crate::run::Ended;

#[derive(Parser)]
#[command(
    name = "guardbeat-loadtest",
    version,
    about = "Load, baselines and fleet measurements for a Guardbeat server",
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Carry out a scenario and hold the server to its thresholds
    Run(scenario::Args),
    /// Carry out the built-in scenarios that say whether it holds, one after the other, in some six minutes
    Tour(tour::Args),
    /// Serve heartbeats without an engine behind them: the baseline
    Bare(bare::Args),
}

pub(crate) fn run() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Bare(args) => {
            allow_connections();
            bare::run(args)
        }
        Command::Run(args) => on_one_thread(until_interrupted(|stop| scenario::run(args, stop))),
        Command::Tour(args) => on_one_thread(until_interrupted(|stop| tour::run(args, stop))),
    }
}

fn on_one_thread(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    allow_connections();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(work)
}

/// Many systems begin with 1,024 open files, which is fewer than a load may have connections. As many as may be, then;
/// where they do not suffice, opening one fails and is told.
fn allow_connections() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Asks the work to end on SIGINT, as it has something to tell even then; drops it on the second, and on SIGTERM or SIGHUP,
/// which the servers do not get when a terminal is closed.
async fn until_interrupted<Work>(begin: impl FnOnce(CancellationToken) -> Work) -> anyhow::Result<()>
where
    Work: Future<Output = anyhow::Result<()>>,
{
    let stop = CancellationToken::new();
    let work = begin(stop.clone());
    tokio::pin!(work);
    let [mut interrupt, mut terminate, mut hang_up] =
        [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?];
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = interrupt.recv() => {
                if stop.is_cancelled() {
                    bail!(Ended::Interrupted);
                }
                stop.cancel();
                eprintln!("ending early; interrupt again to end at once");
            }
            _ = terminate.recv() => bail!(Ended::Terminated),
            _ = hang_up.recv() => bail!(Ended::Terminated),
        }
    }
}

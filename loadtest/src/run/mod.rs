//! A run: a scenario carried out on a server, from the registrations to the figures.
//!
//! It promises that a server it started is ended with it, and that agents it registered with a given server are
//! deregistered if that is wanted. It prints progress, and the tables of a survey and a comparison as they come about.

mod beside;
mod compare;
mod course;
mod idle;
mod ledger;
mod machine;
mod outcome;
mod ramp;
mod roll;
mod rounds;
mod search;
mod stage;
mod survey;
mod timings;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use crate::load::{Bulk, Credentials, Fleet, OpenLoop, Tally};
use crate::progress;
use crate::scenario::{Course, Figures, Scenario, SideKind};
use crate::server::{Host, RedisUrl, ServerPlan};
use crate::table::Tables;

use beside::{Beside, Probing};
use course::Findings;
pub(crate) use outcome::{Outcome, Quantile};
pub(crate) use ramp::Trial;
pub(crate) use stage::Event;
use stage::Stage;
pub(crate) use watch::{Latency, Point};
use watch::{Seen, Watch};

/// Connections to register over, whatever the beats use: a registration waits for the server's disk.
const REGISTERING: usize = 128;

/// Where the servers of a run come from.
pub(crate) struct Site {
    /// The program of those that are started.
    pub(crate) server: PathBuf,
    /// A Redis that runs already, instead of one that is started with each server.
    pub(crate) redis: Option<RedisUrl>,
    /// A server that runs already.
    pub(crate) given: Option<Host>,
}

impl Site {
    async fn host(&mut self, plan: &ServerPlan) -> anyhow::Result<Host> {
        match self.given.take() {
            Some(host) => Ok(host),
            None => Host::start(&self.server, plan, self.redis.as_ref()).await,
        }
    }

    /// One of several servers that take the same load. The baseline uses the certificate in that folder, if there is one.
    async fn side(&mut self, kind: SideKind, plan: &ServerPlan, tls_folder: Option<&Path>) -> anyhow::Result<Host> {
        match kind {
            SideKind::Engine(store) => {
                let plan = ServerPlan { store, ..plan.clone() };
                Host::start(&self.server, &plan, self.redis.as_ref()).await
            }
            SideKind::Bare => Host::bare(tls_folder, plan.room).await,
            SideKind::Url => self.given.take().context("compare.sides has `url` more than once"),
        }
    }
}

/// Ended from outside, by a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Ended {
    /// SIGINT.
    #[error("interrupted")]
    Interrupted,
    /// SIGTERM, or SIGHUP.
    #[error("terminated")]
    Terminated,
}

impl Ended {
    /// The exit status, as a shell has it: 128 and the number of the signal.
    pub(crate) fn exit_status(self) -> u8 {
        match self {
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }
}

struct Record {
    stage: Stage,
    tally: Tally,
    seen: Seen,
    findings: Findings,
    beside: Beside,
    trials: Vec<Trial>,
    tables: Tables,
    /// Those of a survey, a comparison and idle connections.
    figures: Figures,
}

impl Record {
    fn new(stage: Stage) -> Self {
        Self {
            stage,
            tally: Tally::new(),
            seen: Seen::default(),
            findings: Findings::default(),
            beside: Beside::default(),
            trials: Vec::new(),
            tables: Tables::default(),
            figures: Figures::new(),
        }
    }
}

/// Carries out a scenario. `stop`, set from outside, ends it early.
pub(crate) async fn run(scenario: &Scenario, mut site: Site, stop: CancellationToken) -> anyhow::Result<Outcome> {
    if let Course::Compare(plan) = &scenario.course {
        return compare::run(scenario, plan, site, &stop).await;
    }
    if let Course::Idle(plan) = &scenario.course {
        return idle::run(scenario, plan, site, &stop).await;
    }
    let mut host = site.host(&scenario.server).await?;
    let version = host.version().await;
    let begun = Instant::now();
    let connections = match scenario.survey {
        // What is measured is done over those that were asked for.
        Some(_) => scenario.transport.connections,
        None => REGISTERING.max(scenario.transport.connections.min(1_000)),
    };
    let bulk = Bulk { target: host.target.clone(), token: host.token.clone(), connections };
    let (mut tables, mut surveyed) = (Tables::default(), Figures::new());
    let is_own = host.is_own();
    let enlisting = async {
        let fleet = match &scenario.survey {
            Some(plan) => survey::run(scenario, plan, &mut host, &bulk, (&mut tables, &mut surveyed)).await?,
            None => Arc::new(bulk.register(scenario.agents, scenario.credentials).await?),
        };
        let probing: Probing = match scenario.beside.probe {
            Some(plan) => Some((plan, Arc::new(bulk.register(plan.agents, Credentials::Own).await?))),
            None => None,
        };
        anyhow::Ok((fleet, probing))
    };
    let (fleet, probing) = tokio::select! {
        enlisted = enlisting => enlisted?,
        // On a server that goes on, they are registered to be deregistered.
        () = stop.cancelled(), if is_own => return Err(Ended::Interrupted).context("nothing was measured"),
    };
    let warm_up = warm_up(scenario, begun.elapsed());
    let mut record = match &scenario.course {
        Course::Ramp(plan) => ramp::run(scenario, plan, &host, &fleet, &stop).await?,
        Course::Surveyed | Course::Compare(_) | Course::Idle(_) => Record::new(Stage::set(&host, Instant::now())),
        Course::Steady(_) | Course::Silence(_) | Course::Restart(_) | Course::Outage(_) => {
            beat(scenario, &mut host, &fleet, probing.clone(), warm_up, &stop).await?
        }
    };
    if scenario.survey.is_some() && !matches!(scenario.course, Course::Surveyed) && !record.stage.is_interrupted() {
        survey::ask(&host, &mut tables).await?;
    }
    (record.tables, record.figures) = (tables, surveyed);
    let ended = if is_own {
        host.end().await
    } else if scenario.deregister {
        let fleets = std::iter::once(&fleet).chain(probing.as_ref().map(|(_, fleet)| fleet));
        let mut done = Ok(());
        for fleet in fleets {
            done = done.and(bulk.deregister(fleet).await);
        }
        done.context("deregistering the agents")
    } else {
        Ok(())
    };
    // Told with the figures, which would be lost otherwise.
    let ended_badly = ended.err().map(|error| format!("{error:#}"));
    Ok(Outcome { ended_badly, ..Outcome::of(scenario, record, bulk.target.to_string(), version) })
}

/// For how long agents beat before it counts, when registering them took so long.
///
/// Those that registered first may be stale before their first beat, or close to it: then all must have beaten.
fn warm_up(scenario: &Scenario, registering: Duration) -> Duration {
    // With the default grace an agent is stale after 1.5 timeouts; a quarter is left to be on the safe side.
    let safe = scenario.server.timeout.mul_f64(1.25);
    if registering + scenario.interval < safe {
        scenario.warm_up
    } else {
        scenario.warm_up.max(scenario.interval + Duration::from_secs(1))
    }
}

async fn beat(
    scenario: &Scenario,
    host: &mut Host,
    fleet: &Arc<Fleet>,
    probing: Probing,
    warm_up: Duration,
    stop: &CancellationToken,
) -> anyhow::Result<Record> {
    // The course ends the load with a flag of its own: that from outside may concern more than this run.
    let stage = Stage::set(host, Instant::now() + warm_up);
    let spinner = progress::spinner("warming up");
    let watching = Watch { stage: &stage, metrics: host.metrics(), spinner: &spinner }.run();
    let (duration, silence) = course::plan(scenario, fleet.len(), warm_up);
    let load = OpenLoop {
        silence,
        warm_up,
        stop: stage.stop.clone(),
        ..OpenLoop::of(&host.target, fleet, scenario.schedule, scenario.transport, warm_up + duration)
    };
    let beside_it =
        beside::Going { stage: &stage, target: host.target.clone(), token: host.token.clone(), warm_up, duration };
    let beating = async {
        let done = load.run(stage.tally.clone()).await;
        stage.done.cancel();
        done
    };
    let besides = beside_it.all(&scenario.beside, fleet, probing);
    let following = course::follow(scenario, &stage, host, fleet, silence);
    let done = tokio::try_join!(beating, besides, following, watching, stage.stop_on(stop));
    spinner.finish_and_clear();
    let ((), beside, mut findings, seen, ()) = done?;
    // Who was to be noticed is not missed if nobody waited for it.
    if findings.silent > 0 && findings.roll.is_none() && !stage.is_interrupted() {
        // Not there on a server that is none of ours, of which the metrics say nothing either.
        findings.roll = roll::call(&mut host.api(), fleet, silence).await.ok();
    }
    let tally = stage.tally.lock().take();
    Ok(Record { tally, seen, findings, beside, ..Record::new(stage) })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn all_beat_before_it_counts_if_the_first_could_be_stale_by_then() {
        let scenario = "[fleet]\ninterval = \"10s\"\n[load]\nwarm_up = \"2s\"\n[server]\ntimeout_ms = 10_000\n";
        let scenario = Scenario::read(Path::new("some"), scenario, &[]).expect("a scenario");
        for (registering_s, warm_up_s) in [(0, 2), (2, 2), (3, 11), (60, 11)] {
            let warm_up = warm_up(&scenario, Duration::from_secs(registering_s));
            assert_eq!(warm_up, Duration::from_secs(warm_up_s), "{registering_s} s of registering");
        }
    }
}

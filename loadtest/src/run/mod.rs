//! A run: a scenario carried out on a server, from the registrations to the figures.
//!
//! It promises that a server it started is ended with it, and that agents it registered with a given
//! server are deregistered if that is wanted. It prints nothing but progress.

mod beside;
mod course;
mod host;
mod ledger;
mod machine;
mod outcome;
mod ramp;
mod roll;
mod search;
mod watch;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;

use crate::load::{Credentials, Errand, Fleet, OpenLoop, Ran, SharedTally, Tally, deregister, register};
use crate::progress;
use crate::scenario::{Course, Scenario};
use crate::server::Probe;

use beside::{Beside, Probing};
use course::Findings;
pub(crate) use host::Host;
use ledger::Ledger;
pub(crate) use outcome::{Outcome, Quantile};
pub(crate) use ramp::Trial;
pub(crate) use watch::Point;
use watch::{Seen, Watch};

/// How long outstanding answers are waited for at the end.
const PATIENCE: Duration = Duration::from_secs(10);
/// How soon the end of a run is noticed.
const NAP: Duration = Duration::from_millis(20);
/// Connections to register over, whatever the beats use: a registration waits for the server's disk.
const REGISTERING: usize = 128;

/// Something that was done, or that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Event {
    /// Seconds since the end of the warm-up.
    pub(crate) at_s: f64,
    /// What.
    pub(crate) what: String,
}

/// What those share who carry out a run: the load, the course of events, and the one who watches.
struct Stage {
    tally: SharedTally,
    /// The probe's beats.
    probed: SharedTally,
    /// The end of the warm-up, from which on everything counts.
    zero: Instant,
    pid: Arc<AtomicU32>,
    /// Set to end the load early.
    stop: Arc<AtomicBool>,
    /// Set when that was wanted from outside, before the run had ended by itself.
    interrupted: AtomicBool,
    /// Set when the load has ended.
    done: AtomicBool,
    ledger: Mutex<Ledger>,
    events: Mutex<Vec<Event>>,
    doing: Mutex<String>,
}

impl Stage {
    fn set(host: &Host, zero: Instant, stop: Arc<AtomicBool>) -> Self {
        Self {
            tally: SharedTally::new(),
            probed: SharedTally::new(),
            zero,
            pid: host.pid.clone(),
            stop,
            interrupted: AtomicBool::new(false),
            done: AtomicBool::new(false),
            ledger: Mutex::default(),
            events: Mutex::default(),
            doing: Mutex::new("beating".to_owned()),
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    /// Notes what has just happened.
    fn tell(&self, what: impl Into<String>) {
        let at_s = Instant::now().saturating_duration_since(self.zero).as_secs_f64();
        lock(&self.events).push(Event { at_s, what: what.into() });
    }

    /// What the progress line says.
    fn doing(&self) -> String {
        lock(&self.doing).clone()
    }

    fn now_doing(&self, what: impl Into<String>) {
        *lock(&self.doing) = what.into();
    }

    fn interrupt(&self) {
        self.interrupted.store(true, Ordering::Relaxed);
        self.stop.store(true, Ordering::Relaxed);
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.done.load(Ordering::Relaxed)
    }

    /// Waits until the run has ended.
    async fn over(&self) {
        while !self.is_over() {
            tokio::time::sleep(NAP).await;
        }
    }

    /// Waits until then; `false` if the run ended before.
    async fn wait_until(&self, moment: Instant) -> bool {
        while !self.is_over() {
            match moment.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
                Some(left) => tokio::time::sleep(left.min(NAP)).await,
                None => return true,
            }
        }
        false
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

/// Locked for moments only, and whole after every step: a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Everything a run has brought to light.
struct Record {
    stage: Stage,
    ran: Ran,
    tally: Tally,
    seen: Seen,
    findings: Findings,
    beside: Beside,
    trials: Vec<Trial>,
}

/// Carries out a scenario. `stop`, set from outside, ends it early. `deregister_after` cleans up on a server that goes on.
pub(crate) async fn run(
    scenario: &Scenario,
    mut host: Host,
    stop: Arc<AtomicBool>,
    deregister_after: bool,
) -> anyhow::Result<Outcome> {
    let version = host.version().await;
    let begun = Instant::now();
    let connections = REGISTERING.max(scenario.transport.connections.min(1_000));
    let (target, token) = (host.target.clone(), host.token.clone());
    let enlist = async |agents, credentials| {
        let bar = progress::bar(agents, "registering");
        let fleet = register(&target, &token, agents, connections, credentials, &bar).await;
        bar.finish_and_clear();
        anyhow::Ok(Arc::new(fleet?))
    };
    let enlisting = async {
        let fleet = enlist(scenario.agents, scenario.credentials).await?;
        let probing: Probing = match scenario.beside.probe {
            Some(plan) => Some((plan, enlist(plan.agents, Credentials::Own).await?)),
            None => None,
        };
        anyhow::Ok((fleet, probing))
    };
    let (fleet, probing) = tokio::select! {
        enlisted = enlisting => enlisted?,
        // On a server that goes on, they are registered to be deregistered.
        () = raised(&stop), if host.is_own() => return Err(Ended::Interrupted).context("nothing was measured"),
    };
    let warm_up = warm_up(scenario, begun.elapsed());
    let record = match &scenario.course {
        Course::Ramp(plan) => ramp::run(scenario, plan, &host, &fleet, stop).await?,
        Course::Steady(_) | Course::Silence(_) | Course::Restart(_) | Course::Outage(_) => {
            beat(scenario, &mut host, &fleet, probing.clone(), warm_up, stop).await?
        }
    };
    let ended = if host.is_own() {
        host.end().await
    } else if deregister_after {
        let fleets = std::iter::once(&fleet).chain(probing.as_ref().map(|(_, fleet)| fleet));
        let mut done = Ok(());
        for fleet in fleets {
            let bar = progress::bar(fleet.len(), "deregistering");
            done = done.and(deregister(&target, &token, fleet, connections, &bar).await);
            bar.finish_and_clear();
        }
        done.context("deregistering the agents")
    } else {
        Ok(())
    };
    // Told with the figures, which would be lost otherwise.
    let ended_badly = ended.err().map(|error| format!("{error:#}"));
    Ok(Outcome { ended_badly, ..Outcome::of(scenario, record, target.to_string(), version) })
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

/// Beats by schedule while the course of events takes place.
async fn beat(
    scenario: &Scenario,
    host: &mut Host,
    fleet: &Arc<Fleet>,
    probing: Probing,
    warm_up: Duration,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<Record> {
    // The course ends the load with a flag of its own: that from outside may concern more than this run.
    let stage = Stage::set(host, Instant::now() + warm_up, Arc::default());
    let spinner = progress::spinner("warming up");
    let watching = Watch { stage: &stage, metrics: host.metrics().await?, spinner: &spinner }.run();
    let (duration, silence) = course::plan(scenario, fleet.len(), warm_up);
    let load = OpenLoop {
        target: host.target.clone(),
        fleet: fleet.clone(),
        errand: Errand::Beat,
        schedule: scenario.schedule,
        silence,
        transport: scenario.transport,
        warm_up,
        duration: warm_up + duration,
        patience: PATIENCE,
        stop: stage.stop.clone(),
    };
    let churn = scenario.beside.churn_per_second.map(|per_second| beside::churn(host, fleet, per_second));
    let beating = beat_to_the_end(&stage, load, churn.as_ref().map(|churn| churn.stop.clone()));
    let churning = beside::come_and_go(&stage, churn);
    let probing = beside::probe(&stage, host.target.clone(), probing, warm_up, warm_up + duration);
    let (target, token) = (host.target.clone(), host.token.clone());
    let api = || Probe::with_token(target.clone(), &token);
    let listing = beside::list(&stage, api, scenario.beside.list);
    let threats = scenario.beside.threats;
    let reporting = beside::report(&stage, target.clone(), fleet.clone(), threats, warm_up, warm_up + duration);
    let reading = beside::read_events(&stage, target.clone(), &token, scenario.beside.readers);
    let following = course::follow(scenario, &stage, host, fleet, silence);
    let heeding = heed(&stage, &stop);
    let besides = async { tokio::try_join!(churning, probing, listing, reporting, reading) };
    let done = tokio::try_join!(beating, besides, following, watching, heeding);
    spinner.finish_and_clear();
    let (ran, (churned, probed, lists, reported, audience), mut findings, seen, ()) = done?;
    // Who was to be noticed is not missed if nobody waited for it.
    if findings.silent > 0 && findings.roll.is_none() && !stage.is_interrupted() {
        // Not there on a server that is none of ours, of which the metrics say nothing either.
        findings.roll = roll::call(&mut host.api(), fleet, silence).await.ok();
    }
    let tally = stage.tally.lock().take();
    let beside = Beside { churned, probed, lists, reported, audience };
    Ok(Record { stage, ran, tally, seen, findings, beside, trials: Vec::new() })
}

/// Waits for the flag.
async fn raised(flag: &AtomicBool) {
    while !flag.load(Ordering::Relaxed) {
        tokio::time::sleep(NAP).await;
    }
}

/// Ends the load when that is wanted from outside.
async fn heed(stage: &Stage, stop: &AtomicBool) -> anyhow::Result<()> {
    while !stage.is_over() {
        if stop.load(Ordering::Relaxed) {
            stage.interrupt();
        }
        tokio::time::sleep(NAP).await;
    }
    Ok(())
}

/// The load, at the end of which the run is over, and churn with it.
async fn beat_to_the_end(stage: &Stage, load: OpenLoop, churn: Option<Arc<AtomicBool>>) -> anyhow::Result<Ran> {
    let ran = load.run(stage.tally.clone()).await;
    stage.done.store(true, Ordering::Relaxed);
    if let Some(stop) = churn {
        stop.store(true, Ordering::Relaxed);
    }
    ran
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

    #[tokio::test]
    async fn a_stop_from_outside_ends_the_load_and_the_end_of_the_load_stops_nothing_else() {
        let target = crate::wire::Target::expect("http://127.0.0.1:9", None).await.expect("a target");
        let host = Host::given(target, String::new());
        let (ended_by_itself, outside) = (Stage::set(&host, Instant::now(), Arc::default()), AtomicBool::new(false));
        ended_by_itself.stop.store(true, Ordering::Relaxed);
        heed(&ended_by_itself, &outside).await.expect("nothing that can fail");
        assert!(!outside.load(Ordering::Relaxed) && !ended_by_itself.is_interrupted());
        outside.store(true, Ordering::Relaxed);
        let ended_early = Stage::set(&host, Instant::now(), Arc::default());
        heed(&ended_early, &outside).await.expect("nothing that can fail");
        assert!(ended_early.stop.load(Ordering::Relaxed) && ended_early.is_interrupted());
    }
}

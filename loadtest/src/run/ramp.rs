//! The ramp: one rate after the other, to find the highest that holds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::load::{Fleet, OpenLoop, Schedule, Tally};
use crate::progress;
use crate::scenario::{RampPlan, Scenario};
use crate::server::Host;
use crate::units;

use super::search::Search;
use super::watch::Watch;
use super::{Record, Stage};

/// The share of each step after which it counts.
const WARM_UP_SHARE: f64 = 0.25;
/// What was kept waiting by a rate that did not hold must not burden the next.
const REST: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Trial {
    pub(crate) offered: f64,
    pub(crate) achieved: f64,
    pub(crate) p99_ms: f64,
    pub(crate) failed: u64,
    pub(crate) holds: bool,
}

/// Searches for the highest rate that holds. The figures are those of the run at that rate.
pub(super) async fn run(
    scenario: &Scenario,
    plan: &RampPlan,
    host: &Host,
    fleet: &Arc<Fleet>,
    stop: &CancellationToken,
) -> anyhow::Result<Record> {
    let stage = Stage::set(host, Instant::now());
    let spinner = progress::spinner("beating");
    let watching = Watch { stage: &stage, metrics: host.metrics(), spinner: &spinner }.run();
    let searching = async {
        let found = search(scenario, plan, host, fleet, &stage).await;
        stage.done.cancel();
        found
    };
    let done = tokio::try_join!(searching, watching, stage.stop_on(stop));
    spinner.finish_and_clear();
    let (Found { tally, trials }, seen, ()) = done?;
    Ok(Record { tally, seen, trials, ..Record::new(stage) })
}

/// All trials, and what the best of them was like; the last, if none held.
struct Found {
    tally: Tally,
    trials: Vec<Trial>,
}

async fn search(
    scenario: &Scenario,
    plan: &RampPlan,
    host: &Host,
    fleet: &Arc<Fleet>,
    stage: &Stage,
) -> anyhow::Result<Found> {
    let mut search = Search::from(plan.from, plan.precision);
    let mut found = Found { tally: Tally::new(), trials: Vec::new() };
    let mut failed_once = None;
    while let Some(rate) = search.next().filter(|_| !stage.stop.is_cancelled()) {
        stage.now_doing(format!("trying {}", units::rate(rate)));
        let duration = plan.step.mul_f64(1.0 + WARM_UP_SHARE);
        let load = OpenLoop {
            warm_up: plan.step.mul_f64(WARM_UP_SHARE),
            patience: plan.step,
            stop: stage.stop.clone(),
            ..OpenLoop::of(&host.target, fleet, Schedule::at_rate(fleet.len(), rate), scenario.transport, duration)
        };
        load.run(stage.tally.clone()).await?;
        let tally = stage.tally.lock().take();
        if stage.stop.is_cancelled() {
            // Ended early from outside: this trial says nothing.
            break;
        }
        let trial = Trial::of(rate, &tally, plan.p99);
        stage.note(format!("{} {}", units::rate(rate), if trial.holds { "holds" } else { "is too much" }));
        // What does not hold once may have been disturbed by something else on the machine: it is tried a second time.
        let believed = trial.holds || failed_once.replace(rate) == Some(rate);
        if believed {
            search.tried(rate, trial.holds);
        }
        if search.best().is_none_or(|best| best <= rate && trial.holds) {
            found.tally = tally;
        }
        found.trials.push(trial);
        tokio::time::sleep(REST).await;
    }
    Ok(found)
}

impl Trial {
    fn of(rate: f64, tally: &Tally, limit: Duration) -> Self {
        let failed = tally.due.saturating_sub(tally.successes());
        let p99_us = tally.latency_us.value_at_quantile(0.99);
        Self {
            offered: rate,
            achieved: tally.rate(),
            p99_ms: p99_us as f64 / 1e3,
            failed,
            holds: failed == 0 && tally.due > 0 && u128::from(p99_us) <= limit.as_micros(),
        }
    }
}

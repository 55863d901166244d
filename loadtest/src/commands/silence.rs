//! Some agents of a big fleet go silent while the others beat: how late is it noticed, and are any
//! accused falsely?

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::load::{Errand, Fleet, OpenLoop, Schedule, SharedTally, Silence, Transport};
use crate::progress;
use crate::server::{Probe, Scrape};
use crate::table::Table;
use crate::units;
use crate::wire::Target;

use super::pages;
use super::summary;

/// How often the metrics are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How long outstanding answers are waited for at the end.
const PATIENCE: Duration = Duration::from_secs(10);

/// The experiment.
pub(super) struct Experiment {
    /// The server's main listener.
    pub(super) target: Arc<Target>,
    /// All registered agents, with the token they beat with.
    pub(super) fleet: Arc<Fleet>,
    /// How many of them never beat.
    pub(super) silent: u64,
    /// The server's heartbeat timeout: the interval at which the others beat.
    pub(super) timeout: Duration,
    /// Connections they share.
    pub(super) connections: usize,
}

/// What the metrics say of the silent.
struct View {
    missing: u64,
    accusations: Option<u64>,
}

impl View {
    fn of(scrape: &Scrape) -> Self {
        let turned_stale = [("from", "online"), ("to", "stale")];
        Self {
            missing: pages::silent(scrape),
            accusations: scrape.sum("guardbeat_transitions_total", &turned_stale).map(|count| count as u64),
        }
    }
}

impl Experiment {
    /// Beats for all, so that everybody is online; then for all but the silent, until these have gone stale and for one
    /// more timeout, in which nobody else must.
    pub(super) async fn run(self, operations: &mut Probe) -> anyhow::Result<Table> {
        let silent = self.silent.min(self.fleet.len() - 1);
        let schedule = Schedule::every(self.fleet.len(), self.timeout);
        let beat = |silence, duration, stop, tally| {
            OpenLoop {
                target: self.target.clone(),
                fleet: self.fleet.clone(),
                errand: Errand::Beat,
                schedule,
                silence,
                transport: Transport::kept(self.connections),
                warm_up: Duration::ZERO,
                duration,
                patience: PATIENCE,
                stop,
            }
            .run(tally)
        };
        let spinner = progress::spinner("beating once for every agent");
        beat(Silence::never(), self.timeout, Arc::default(), SharedTally::new()).await?;
        spinner.finish_and_clear();

        let first = operations.scrape().await?;
        let (lag_before, before) = (lag(&first), View::of(&first));
        anyhow::ensure!(before.missing == 0, "{} agents are silent although all have beaten", before.missing);
        let stop = Arc::new(AtomicBool::new(false));
        let tally = SharedTally::new();
        // Stale after timeout and grace, by default 1.5 timeouts.
        let longest = self.timeout * 5 + Duration::from_secs(30);
        let silence = Silence::of(silent, self.fleet.len(), 0);
        let beating = beat(silence, longest, stop.clone(), tally.clone());
        tokio::pin!(beating);

        let spinner = progress::spinner("waiting for the silent to be noticed");
        let begun = Instant::now();
        let mut look = tokio::time::interval(LOOK);
        let mut most_missing = 0;
        let mut noticed: Option<Instant> = None;
        let ran = loop {
            tokio::select! {
                ran = &mut beating => break ran?,
                _ = look.tick() => {
                    let view = View::of(&operations.scrape().await?);
                    most_missing = most_missing.max(view.missing);
                    spinner.set_message(format!(
                        "{} of {} silent agents noticed",
                        units::count(view.missing),
                        units::count(silent)
                    ));
                    if noticed.is_none() && view.missing >= silent {
                        noticed = Some(Instant::now());
                    }
                    if noticed.is_some_and(|at| at.elapsed() >= self.timeout) {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            }
        };
        spinner.finish_and_clear();
        let last = operations.scrape().await?;
        let view = View::of(&last);
        let lag = lag(&last).since(&lag_before);
        let accused = view.accusations.unwrap_or(0) - before.accusations.unwrap_or(0);

        let mut table = Table::default();
        table.pair("silent agents", units::count(silent));
        table.pair("went stale", units::count(most_missing));
        table.pair("missed", units::count(silent.saturating_sub(most_missing)));
        table.pair("false", units::count(accused.max(most_missing).saturating_sub(silent)));
        let all_noticed = match noticed {
            Some(at) => units::duration(at.duration_since(begun)),
            None => "never".to_owned(),
        };
        table.pair("all noticed after", all_noticed);
        table.pair("detections in the histogram", units::count(lag.count()));
        for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
            let at_most = match lag.quantile_at_most(quantile) {
                Some(seconds) if seconds.is_finite() => {
                    format!("≤ {}", units::duration(Duration::from_secs_f64(seconds)))
                }
                Some(_) => "beyond the last bucket".to_owned(),
                None => "none seen".to_owned(),
            };
            table.pair(format!("detection lag {name}"), at_most);
        }
        summary::add(&mut table, schedule.per_second(), ran, &tally.lock());
        Ok(table)
    }
}

fn lag(scrape: &Scrape) -> crate::server::Buckets {
    scrape.buckets("guardbeat_detection_lag_seconds")
}

//! What came of a run: the figures, and all that a report shows. Its serialised form is `result.json`.

use std::collections::BTreeMap;
use std::time::SystemTime;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::load::Tally;
use crate::scenario::{Course, Figures, Scenario, Verdict};
use crate::table::Tables;

use super::beside::{Beside, Reported};
use super::machine::Machine;
use super::{Event, Point, Record, Trial};

/// The quantiles of the percentile curve.
const QUANTILES: [f64; 18] =
    [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9999, 0.99999, 1.0];
/// Quantiles with figures of their own.
const FIGURE_QUANTILES: [(&str, f64); 5] =
    [("p50_ms", 0.5), ("p90_ms", 0.9), ("p99_ms", 0.99), ("p999_ms", 0.999), ("max_ms", 1.0)];
const PROBE_QUANTILES: [(&str, f64); 4] =
    [("probe_p50_ms", 0.5), ("probe_p99_ms", 0.99), ("probe_p999_ms", 0.999), ("probe_max_ms", 1.0)];
const LAG_QUANTILES: [(&str, f64); 3] = [("lag_p50_ms", 0.5), ("lag_p99_ms", 0.99), ("lag_max_ms", 1.0)];

#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) scenario: String,
    pub(crate) description: String,
    /// When the run ended: RFC 3339, UTC.
    pub(crate) ended_at: String,
    pub(crate) target: String,
    pub(crate) server_version: Option<String>,
    pub(crate) loadtest_version: &'static str,
    pub(crate) machine: Machine,
    /// Whether somebody ended it early: then its figures are those of a part of it, and it is held to no threshold.
    pub(crate) interrupted: bool,
    /// All settings of the scenario that held.
    pub(crate) settings: BTreeMap<String, String>,
    /// Figures by name: those that thresholds may limit.
    pub(crate) figures: Figures,
    pub(crate) thresholds: Vec<Verdict>,
    pub(crate) due: u64,
    pub(crate) statuses: BTreeMap<u16, u64>,
    pub(crate) unanswered: BTreeMap<String, u64>,
    /// What was said of the first beat that failed when nothing was done to the server.
    pub(crate) first_failure: Option<String>,
    /// Why the server did not end in order, if it did not.
    pub(crate) ended_badly: Option<String>,
    pub(crate) latency: Vec<Quantile>,
    pub(crate) probe_latency: Vec<Quantile>,
    /// The part of the latency that was spent before sending, 99th percentile: when it is most of it, client or server
    /// cannot keep up.
    pub(crate) wait_p99_ms: Option<f64>,
    pub(crate) client_cpu_us: Option<f64>,
    pub(crate) points: Vec<Point>,
    pub(crate) events: Vec<Event>,
    pub(crate) trials: Vec<Trial>,
    pub(crate) tables: Tables,
}

/// A latency that a share of all beats did not exceed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Quantile {
    pub(crate) quantile: f64,
    pub(crate) ms: f64,
}

impl Outcome {
    pub(super) fn of(scenario: &Scenario, record: Record, target: String, server_version: Option<String>) -> Self {
        let figures = figures(scenario, &record);
        let Record { stage, tally, seen, findings: _, trials, beside, tables, figures: _ } = record;
        let interrupted = stage.is_interrupted();
        let thresholds = scenario.thresholds.judge(&figures, interrupted);
        let answered = seen.points.iter().map(|point| point.achieved).sum::<f64>() > 0.0;
        let mut unanswered: BTreeMap<String, u64> =
            tally.errors.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect();
        for (what, count) in
            [("none at the end", tally.lost().saturating_sub(tally.unsent)), ("never sent", tally.unsent)]
        {
            if count > 0 {
                unanswered.insert(what.to_owned(), count);
            }
        }
        let all_beats = beats_seen(&seen.points) + beside.probed_beats();
        let probe_latency = beside.probed.as_ref().map_or_else(Vec::new, |tally| quantiles(&tally.latency_us));
        let first_failure = tally.first_failure.clone().or_else(|| beside.first_failure());
        Self {
            scenario: scenario.name.clone(),
            description: scenario.description.clone(),
            ended_at: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            target,
            server_version,
            loadtest_version: env!("CARGO_PKG_VERSION"),
            machine: Machine::this(),
            interrupted,
            settings: scenario.settings.iter().cloned().collect(),
            thresholds,
            due: tally.due,
            statuses: tally.statuses.clone(),
            unanswered,
            first_failure,
            ended_badly: None,
            latency: quantiles(&tally.latency_us),
            probe_latency,
            wait_p99_ms: (!tally.wait_us.is_empty()).then(|| tally.wait_us.value_at_quantile(0.99) as f64 / 1e3),
            client_cpu_us: answered.then(|| seen.client_cpu.as_secs_f64() * 1e6 / all_beats),
            points: seen.points,
            events: stage.take_events(),
            trials,
            tables,
            figures,
        }
    }

    pub(crate) fn broken(&self) -> impl Iterator<Item = &Verdict> {
        self.thresholds.iter().filter(|verdict| verdict.kept == Some(false))
    }
}

/// Beats answered 2xx while somebody looked.
fn beats_seen(points: &[Point]) -> f64 {
    let mut before_s = 0.0;
    let of_point = |point: &Point| {
        let seconds = point.at_s - std::mem::replace(&mut before_s, point.at_s);
        point.achieved * seconds
    };
    points.iter().map(of_point).sum::<f64>().max(1.0)
}

fn figures(scenario: &Scenario, record: &Record) -> Figures {
    let Record { tally, seen, findings, beside, trials, stage, tables: _, figures } = record;
    let mut figures = figures.clone();
    // A run that was interrupted before anything counted has measured nothing; one that was not, that nothing worked.
    let beats = !matches!(scenario.course, Course::Compare(_) | Course::Surveyed);
    let has_begun = beats && (tally.due > 0 || !stage.is_interrupted());
    if matches!(scenario.course, Course::Ramp(_)) {
        let best = trials.iter().filter(|trial| trial.holds).map(|trial| trial.offered).reduce(f64::max);
        figures.extend(best.or(has_begun.then_some(0.0)).map(|rate| ("rate", rate)));
    } else if has_begun {
        figures.insert("rate", tally.rate());
    }
    if tally.due > 0 {
        figures.insert("achieved", tally.successes() as f64 / tally.due as f64);
    }
    if has_begun {
        figures.insert("errors", (tally.failures() + tally.lost()) as f64);
    }
    if matches!(scenario.course, Course::Restart(_) | Course::Outage(_)) {
        figures.insert("refused", tally.refused as f64);
    }
    latencies(&mut figures, &FIGURE_QUANTILES, tally);
    let ledger = stage.ledger();
    if ledger.has_begun() {
        let (missed, false_positives) = findings.roll.map_or((0, 0), |roll| (roll.missed, roll.false_positives));
        let false_stale = ledger.false_positives(findings.silent - missed).max(false_positives);
        figures.insert("false_stale", false_stale as f64);
        if findings.roll.is_some() {
            figures.insert("missed", missed as f64);
            let lag = ledger.lag();
            let lags = LAG_QUANTILES.map(|(name, share)| Some((name, lag.quantile_at_most(share)? * 1e3)));
            figures.extend(lags.into_iter().flatten());
        }
    }
    for (name, time) in [("back_ms", findings.back), ("ready_ms", findings.ready), ("written_ms", findings.written)] {
        figures.extend(time.map(|time| (name, time.as_secs_f64() * 1e3)));
    }
    figures_beside(&mut figures, beside);
    if let Some(cpu) = seen.server_cpu.filter(|_| tally.successes() > 0) {
        figures.insert("cpu_us", cpu.as_secs_f64() * 1e6 / (beats_seen(&seen.points) + beside.probed_beats()));
    }
    figures.extend(seen.points.iter().filter_map(|point| point.rss_mib).reduce(f64::max).map(|rss| ("rss_mib", rss)));
    figures
}

/// Quantiles of the latency in milliseconds, by these names; of a load that was answered.
fn latencies(figures: &mut Figures, names: &[(&'static str, f64)], tally: &Tally) {
    if !tally.latency_us.is_empty() {
        figures
            .extend(names.iter().map(|(name, share)| (*name, tally.latency_us.value_at_quantile(*share) as f64 / 1e3)));
    }
}

fn figures_beside(figures: &mut Figures, beside: &Beside) {
    if let Some(tally) = &beside.churned {
        figures.insert("churn_errors", tally.failures() as f64);
        latencies(figures, &[("churn_p99_ms", 0.99)], tally);
    }
    if let Some(tally) = &beside.probed {
        figures.insert("probe_errors", (tally.failures() + tally.lost()) as f64);
        figures.insert("probe_rate", tally.rate());
        latencies(figures, &PROBE_QUANTILES, tally);
    }
    if let Some(Reported { tally, events }) = &beside.reported {
        figures.insert("threat_errors", (tally.failures() + tally.lost()) as f64);
        figures.insert("threats_per_minute", tally.rate() * 60.0 * *events as f64);
        latencies(figures, &[("threats_p99_ms", 0.99)], tally);
    }
    if let Some(audience) = &beside.audience {
        figures.insert("readers_lost", audience.lost as f64);
        figures.insert("events_seen", audience.events as f64);
    }
    if let Some(lists) = &beside.lists {
        figures.insert("lists", lists.whole as f64);
        figures.insert("list_errors", lists.broken as f64);
        if lists.whole > 0 {
            figures.insert("list_ms", lists.longest.as_secs_f64() * 1e3);
        }
    }
}

/// The percentile curve: up to as many nines as there are beats.
fn quantiles(latency_us: &Histogram<u64>) -> Vec<Quantile> {
    let told_apart = |quantile: &f64| *quantile == 1.0 || (1.0 - quantile) * latency_us.len() as f64 >= 1.0;
    if latency_us.is_empty() {
        return Vec::new();
    }
    let quantile = |quantile| Quantile { quantile, ms: latency_us.value_at_quantile(quantile) as f64 / 1e3 };
    QUANTILES.into_iter().filter(told_apart).map(quantile).collect()
}

#[cfg(test)]
impl Outcome {
    /// One with everything in it, for tests of what shows it; `text` stands wherever a text comes from outside.
    pub(crate) fn example(text: &str) -> Self {
        use super::ledger::StatusCounts;
        use super::watch::Latency;

        let scenario = "[thresholds]\np99_ms = 20\nerrors = 0\n";
        let scenario = Scenario::read(std::path::Path::new("example"), scenario, &[]).expect("a scenario");
        let figures =
            Figures::from([("p99_ms", 23.5), ("errors", 0.0), ("rate", 1_000.0), ("lag_max_ms", f64::INFINITY)]);
        let point = |second: u32| Point {
            at_s: f64::from(second),
            offered: 1_000.0,
            achieved: 990.0 + f64::from(second),
            failed: 0.0,
            latency: (second != 3).then_some(Latency { p50_ms: 0.4, p99_ms: 3.0, max_ms: 40.0 }),
            probe: Some(Latency { p50_ms: 0.3, p99_ms: 2.0, max_ms: 30.0 }),
            server_cpu: Some(0.5),
            client_cpu: 0.2,
            rss_mib: Some(80.0),
            counts: Some(StatusCounts { online: 90, stale: 10, offline: 0 }),
        };
        Self {
            scenario: text.to_owned(),
            description: text.to_owned(),
            ended_at: "2026-01-01T00:00:00Z".to_owned(),
            target: text.to_owned(),
            server_version: Some(text.to_owned()),
            loadtest_version: "1.0.0",
            machine: Machine { processor: Some(text.to_owned()), ..Machine::this() },
            settings: BTreeMap::from([(text.to_owned(), text.to_owned())]),
            interrupted: false,
            thresholds: scenario.thresholds.judge(&figures, false),
            figures,
            due: 10_000,
            statuses: BTreeMap::from([(200, 9_990), (503, 5)]),
            unanswered: BTreeMap::from([(text.to_owned(), 5)]),
            first_failure: Some(text.to_owned()),
            ended_badly: Some(text.to_owned()),
            latency: QUANTILES.map(|quantile| Quantile { quantile, ms: 1.0 + quantile }).into(),
            probe_latency: QUANTILES.map(|quantile| Quantile { quantile, ms: 0.5 + quantile }).into(),
            wait_p99_ms: Some(0.3),
            client_cpu_us: Some(20.0),
            points: (1..6).map(point).collect(),
            events: vec![Event { at_s: 2.0, what: text.to_owned() }],
            tables: Tables::example(text),
            trials: vec![Trial { offered: 1_000.0, achieved: 999.0, p99_ms: 2.0, failed: 0, holds: true }],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentile_curve_has_no_more_nines_than_there_are_beats() {
        let mut latency_us = Tally::new().latency_us;
        assert!(quantiles(&latency_us).is_empty());
        for us in 1..=1_000 {
            latency_us.record(us).expect("in bounds");
        }
        let curve = quantiles(&latency_us);
        let last: Vec<f64> = curve.iter().rev().take(2).map(|point| point.quantile).collect();
        assert_eq!(last, [1.0, 0.999]);
        assert!(curve.windows(2).all(|pair| pair[0].ms <= pair[1].ms));
    }
}

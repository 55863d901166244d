//! The charts of a run.

use crate::run::{Latency, Outcome, Point, Quantile};

use super::chart::{Chart, Scale, Series};

/// Adds all charts that have something to show.
pub(super) fn add(page: &mut String, outcome: &Outcome) {
    let marks: Vec<(f64, usize)> = outcome.events.iter().map(|event| event.at_s).zip(1..).collect();
    let over_time = |title, note, unit, scale, series| {
        Chart { title, note, unit, scale, x_ticks: None, marks: &marks, series }.draw()
    };
    let line = |name, class, value: &dyn Fn(&Point) -> Option<f64>| {
        let points = outcome.points.iter().map(|point| (point.at_s, value(point))).collect();
        Series { name, class, points }
    };
    page.push_str("<h2>Over time</h2>\n");
    let latency = |note, title, of: fn(&Point) -> Option<Latency>| {
        let lines = vec![
            line("median", "c1", &|point| Some(of(point)?.p50_ms)),
            line("99th percentile", "c2", &|point| Some(of(point)?.p99_ms)),
            line("highest", "c3", &|point| Some(of(point)?.max_ms)),
        ];
        over_time(title, note, "ms", Scale::Log, lines)
    };
    let note = "From the moment a beat was due to the end of its answer, by the second of the answer.";
    page.push_str(&latency(note, "Latency", |point| point.latency));
    let note = "Of the agents that beat one by one beside the load.";
    page.push_str(&latency(note, "Latency of the probe", |point| point.probe));
    page.push_str(&percentiles(outcome));
    let lines = vec![
        line("offered", "c1", &|point| Some(point.offered)),
        line("answered", "c4", &|point| Some(point.achieved)),
        line("failed", "c2", &|point| Some(point.failed)),
    ];
    let note = "Offered: due by schedule. Answered: with 2xx. Failed: answered otherwise, or not at all.";
    page.push_str(&over_time("Beats per second", note, "/s", Scale::Linear, lines));
    let lines = vec![
        line("server", "c1", &|point| point.server_cpu),
        line("this client", "c2", &|point| Some(point.client_cpu)),
    ];
    let note = "1 is one processor that does nothing else.";
    page.push_str(&over_time("Processors in use", note, "cores", Scale::Linear, lines));
    let lines = vec![line("server", "c1", &|point| point.rss_mib)];
    page.push_str(&over_time("Resident memory of the server", "", "MiB", Scale::Linear, lines));
    let lines = vec![
        line("online", "c4", &|point| Some(point.counts?.online as f64)),
        line("stale", "c2", &|point| Some(point.counts?.stale as f64)),
        line("offline", "c3", &|point| Some(point.counts?.offline as f64)),
    ];
    let note = "As the server's metrics say.";
    page.push_str(&over_time("Agents by status", note, "agents", Scale::Linear, lines));
}

/// Each nine takes as much room as the one before; the highest stands at the end.
fn percentiles(outcome: &Outcome) -> String {
    let nines = |quantile: f64| -(1.0 - quantile).log10();
    let both = || outcome.latency.iter().chain(&outcome.probe_latency);
    let last = both().filter(|point| point.quantile < 1.0).map(|point| nines(point.quantile));
    let end = last.fold(0.0, f64::max) + 0.35;
    let at = |quantile: f64| if quantile < 1.0 { nines(quantile) } else { end };
    let ticks =
        [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 1.0].into_iter().filter(|tick| at(*tick) <= end).map(|tick| {
            let label = if tick < 1.0 { format!("{}%", (tick * 1e7).round() / 1e5) } else { "max".to_owned() };
            (at(tick), label)
        });
    let curve = |name, class, of: &[Quantile]| {
        let points: Vec<_> = of.iter().map(|point| (at(point.quantile), Some(point.ms))).collect();
        (!points.is_empty()).then_some(Series { name, class, points })
    };
    let curves = [curve("load", "c1", &outcome.latency), curve("probe", "c2", &outcome.probe_latency)];
    Chart {
        title: "Latency by percentile",
        note: "Of all beats that were answered: so many of them took no longer than that.",
        unit: "ms",
        scale: Scale::Log,
        x_ticks: Some(ticks.collect()),
        marks: &[],
        series: curves.into_iter().flatten().collect(),
    }
    .draw()
}

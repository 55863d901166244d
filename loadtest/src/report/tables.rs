//! What came of a run, as tables.

use crate::run::Outcome;
use crate::scenario::{FIGURES, with_unit};
use crate::table::Table;
use crate::units;

/// The thresholds, all figures, what happened, the rates that were tried; each if there are any.
pub(super) fn main_tables(outcome: &Outcome) -> Vec<(&'static str, Table)> {
    let mut tables = vec![
        ("Figures", figures(outcome)),
        ("Thresholds", thresholds(outcome)),
        ("What happened", events(outcome)),
        ("Rates that were tried", trials(outcome)),
    ];
    tables.retain(|(_, table)| !table.rows.is_empty());
    tables
}

/// What went wrong beside the thresholds.
pub(super) fn failures(outcome: &Outcome) -> impl Iterator<Item = String> {
    let first = outcome.first_failure.iter().map(|failure| format!("first failure: {failure}"));
    first.chain(outcome.ended_badly.clone())
}

fn figures(outcome: &Outcome) -> Table {
    let mut table = Table::with_headings(["what", "value"]);
    for figure in FIGURES {
        if let Some(value) = outcome.figures.get(figure.name) {
            table.pair(figure.title, with_unit(*value, figure.unit));
        }
    }
    if outcome.due > 0 {
        table.pair("beats due", units::count(outcome.due));
    }
    for (status, count) in &outcome.statuses {
        table.pair(format!("answered {status}"), units::count(*count));
    }
    for (kind, count) in &outcome.unanswered {
        table.pair(format!("without an answer: {kind}"), units::count(*count));
    }
    if let Some(ms) = outcome.wait_p99_ms {
        table.pair("of the latency before sending, 99th percentile", with_unit(ms, "ms"));
    }
    if let Some(us) = outcome.client_cpu_us {
        table.pair("processor time of this client per beat", with_unit(us, "µs"));
    }
    table
}

fn thresholds(outcome: &Outcome) -> Table {
    let mut table = Table::with_headings(["threshold", "limit", "measured", ""]);
    for verdict in &outcome.thresholds {
        let word = match verdict.kept {
            Some(true) => "kept",
            Some(false) => "BROKEN",
            None => "",
        };
        table.row([verdict.figure.name.to_owned(), verdict.limit_shown(), verdict.measured_shown(), word.to_owned()]);
    }
    table
}

/// Numbered as in the charts.
fn events(outcome: &Outcome) -> Table {
    let mut table = Table::with_headings(["what", "at", "mark"]);
    for (event, number) in outcome.events.iter().zip(1..) {
        table.row([event.what.clone(), format!("{:.1} s", event.at_s), number.to_string()]);
    }
    table
}

fn trials(outcome: &Outcome) -> Table {
    let mut table = Table::with_headings(["offered", "answered", "p99", "failed", ""]);
    for trial in &outcome.trials {
        table.row([
            units::rate(trial.offered),
            units::rate(trial.achieved),
            with_unit(trial.p99_ms, "ms"),
            units::count(trial.failed),
            if trial.holds { "holds" } else { "too much" }.to_owned(),
        ]);
    }
    table
}

pub(super) fn seconds(outcome: &Outcome) -> Table {
    let number =
        |value: Option<f64>| value.map_or_else(String::new, |value| with_unit((value * 100.0).round() / 100.0, ""));
    let headings = "s|offered/s|answered/s|failed/s|p50 ms|p99 ms|max ms|probe p99 ms|server cores|client cores|RSS MiB|\
                    online|stale|offline";
    let mut table = Table::with_headings(headings.split('|'));
    for point in &outcome.points {
        let cells = [
            Some(point.at_s),
            Some(point.offered),
            Some(point.achieved),
            Some(point.failed),
            point.latency.map(|latency| latency.p50_ms),
            point.latency.map(|latency| latency.p99_ms),
            point.latency.map(|latency| latency.max_ms),
            point.probe.map(|latency| latency.p99_ms),
            point.server_cpu,
            Some(point.client_cpu),
            point.rss_mib,
            point.counts.map(|counts| counts.online as f64),
            point.counts.map(|counts| counts.stale as f64),
            point.counts.map(|counts| counts.offline as f64),
        ];
        table.row(cells.map(number));
    }
    table
}

pub(super) fn what_was_run(outcome: &Outcome) -> Table {
    let machine = &outcome.machine;
    let memory = machine.memory_mib.map(|mib| format!("{:.1} GiB of memory", mib as f64 / 1024.0));
    let kernel = machine.kernel.as_ref().map(|kernel| format!("Linux {kernel}"));
    let parts = [Some(format!("{} processors", machine.cores)), machine.processor.clone(), memory, kernel];
    let mut table = Table::with_headings(["what", "value"]);
    table.pair("ended at", outcome.ended_at.clone());
    table.pair("server", outcome.target.clone());
    table.pair("its version", outcome.server_version.clone().unwrap_or_else(|| "unknown".to_owned()));
    table.pair("version of the load test", outcome.loadtest_version);
    table.pair("machine of the load test", parts.into_iter().flatten().collect::<Vec<_>>().join(", "));
    for (key, value) in &outcome.settings {
        table.pair(key.clone(), value.clone());
    }
    table
}

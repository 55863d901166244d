//! The figures of an open-loop run, as a table.

use std::fmt::Write;

use crate::run::Outcome;
use crate::scenario::{FIGURES, with_unit};
use crate::table::Table;
use crate::units;

/// All figures of a run, the rates it has tried, and the thresholds it was held to.
pub(super) fn of(outcome: &Outcome) -> String {
    let mut table = Table::default();
    table.pair("server", outcome.target.clone());
    for figure in FIGURES {
        if let Some(value) = outcome.figures.get(figure.name()) {
            table.pair(short(figure.title), with_unit(*value, figure.unit));
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
        table.pair("of the latency before sending, p99", with_unit(ms, "ms"));
    }
    if let Some(us) = outcome.client_cpu_us {
        table.pair("processor time of this client per beat", with_unit(us, "µs"));
    }
    let mut text = table.to_string();
    if let Some(failure) = &outcome.first_failure {
        let _ = writeln!(text, "  first failure: {failure}");
    }
    if let Some(reason) = &outcome.ended_badly {
        let _ = writeln!(text, "  {reason}");
    }
    if outcome.interrupted {
        let _ =
            writeln!(text, "  interrupted: the figures are those of a part of the run, which is held to no threshold");
    }
    if !outcome.trials.is_empty() {
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
        let _ = write!(text, "\n{table}");
    }
    if !outcome.thresholds.is_empty() {
        let mut table = Table::with_headings(["threshold", "limit", "measured", ""]);
        for verdict in &outcome.thresholds {
            let word = match verdict.kept {
                Some(true) => "kept",
                Some(false) => "BROKEN",
                None => "",
            };
            table.row([verdict.name.to_owned(), verdict.limit_shown(), verdict.measured_shown(), word.to_owned()]);
        }
        let _ = write!(text, "\n{table}");
    }
    text
}

/// A title without its explanation.
fn short(title: &str) -> &str {
    title.split([';', '(']).next().unwrap_or(title).trim_end()
}

//! The figures of an open-loop run, as a table.

use std::fmt::Write;

use crate::load::{Ran, Tally};
use crate::run::Outcome;
use crate::scenario::{FIGURES, with_unit};
use crate::table::Table;
use crate::units;

/// Quantiles shown of each latency.
pub(super) const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// Appends what was asked for and what came of it.
pub(super) fn add(table: &mut Table, offered_per_second: f64, ran: Ran, tally: &Tally) {
    let successes = tally.successes();
    table.pair(
        "offered",
        format!(
            "{} ({} in {:.1} s)",
            units::rate(offered_per_second),
            units::count(ran.due),
            ran.duration.as_secs_f64()
        ),
    );
    let achieved = successes as f64 / ran.elapsed.as_secs_f64().max(f64::EPSILON);
    table.pair("achieved (2xx)", units::rate(achieved));
    for (status, count) in &tally.statuses {
        table.pair(format!("answered {status}"), units::count(*count));
    }
    for (kind, count) in &tally.errors {
        table.pair(format!("error: {kind}"), units::count(*count));
    }
    let sent = ran.due - ran.unsent;
    let outstanding = sent.saturating_sub(tally.answered() + tally.unanswered());
    for (what, count) in
        [("no answer at the end", outstanding), ("never sent", ran.unsent), ("connections reopened", tally.reopened)]
    {
        if count > 0 {
            table.pair(what, units::count(count));
        }
    }
    for (name, quantile) in QUANTILES {
        let us = tally.latency_us.value_at_quantile(quantile);
        table.pair(format!("latency {name}"), units::micros(us));
    }
    table.pair("latency max", units::micros(tally.latency_us.max()));
    let wait_us = tally.wait_us.value_at_quantile(0.99);
    table.pair("of it before sending, p99", units::micros(wait_us));
}

/// All figures of a run, the rates it has tried, and the thresholds it was held to.
pub(super) fn of(outcome: &Outcome) -> String {
    let mut table = Table::default();
    table.pair("server", outcome.target.clone());
    for figure in FIGURES {
        if let Some(value) = outcome.figures.get(figure.name()) {
            table.pair(short(figure.title), with_unit(*value, figure.unit));
        }
    }
    table.pair("beats due", units::count(outcome.due));
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

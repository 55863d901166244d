//! The figures of an open-loop run, as rows of a table.

use crate::load::{Ran, Tally};
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

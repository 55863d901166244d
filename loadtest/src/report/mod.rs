//! The report: one HTML page with everything in it, for people to read and to pass on.
//!
//! It promises that the page is well-formed, that every text in it is escaped, and that it loads nothing
//! from anywhere. Light or dark, as the reader's system is.

mod chart;

use std::fmt::Write;

use crate::run::{Outcome, Point, Quantile};
use crate::scenario::{FIGURES, with_unit};
use crate::units;

use chart::{Chart, Scale, Series};

const STYLE: &str = include_str!("style.css");

/// The whole page.
pub(crate) fn html(outcome: &Outcome) -> String {
    let mut page = String::with_capacity(64 * 1024);
    let name = escape(&outcome.scenario);
    let _ = write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <title>Guardbeat load test: {name}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n"
    );
    header(&mut page, outcome);
    thresholds(&mut page, outcome);
    figures(&mut page, outcome);
    for (title, shown) in &outcome.tables.0 {
        let cells = |cells: &[String], tag| {
            cells.iter().map(|cell| format!("<{tag} class=\"n\">{}</{tag}>", escape(cell))).collect::<String>()
        };
        table(&mut page, title, &cells(&shown.headings, "th"), shown.rows.iter().map(|row| cells(row, "td")));
    }
    charts(&mut page, outcome);
    events(&mut page, outcome);
    trials(&mut page, outcome);
    seconds(&mut page, outcome);
    what_was_run(&mut page, outcome);
    page.push_str("</body>\n</html>\n");
    page
}

fn header(page: &mut String, outcome: &Outcome) {
    let broken = outcome.broken().count();
    let (class, verdict) = match (outcome.thresholds.len(), broken) {
        _ if outcome.interrupted => ("soft", "Interrupted: the figures are those of a part of the run.".to_owned()),
        (0, _) => ("soft", "No thresholds were set.".to_owned()),
        (1, 0) => ("good", "Passed: its threshold was kept.".to_owned()),
        (all, 0) => ("good", format!("Passed: all {all} thresholds were kept.")),
        (all, broken) => ("bad", format!("Failed: {broken} of {all} thresholds broken.")),
    };
    let _ = write!(
        page,
        "<header>\n<h1>{}</h1>\n<p>{}</p>\n<p class=\"verdict {class}\">{verdict}</p>\n",
        escape(&outcome.scenario),
        escape(&outcome.description)
    );
    for verdict in outcome.broken() {
        let _ = writeln!(page, "<p class=\"bad\">{}</p>", escape(&verdict.complaint()));
    }
    if let Some(failure) = &outcome.first_failure {
        let _ = writeln!(page, "<p>First failure: {}</p>", escape(failure));
    }
    if let Some(reason) = &outcome.ended_badly {
        let _ = writeln!(page, "<p class=\"bad\">{}</p>", escape(reason));
    }
    page.push_str("</header>\n");
}

fn thresholds(page: &mut String, outcome: &Outcome) {
    if outcome.thresholds.is_empty() {
        return;
    }
    let rows = outcome.thresholds.iter().map(|verdict| {
        let (class, word) = match verdict.kept {
            Some(true) => ("good", "kept"),
            Some(false) => ("bad", "broken"),
            None => ("soft", ""),
        };
        format!(
            "<td><code>{}</code></td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"{class}\">{word}</td>",
            verdict.name,
            escape(verdict.title),
            escape(&verdict.limit_shown()),
            escape(&verdict.measured_shown()),
        )
    });
    table(
        page,
        "Thresholds",
        "<th>name</th><th>what</th><th class=\"n\">limit</th><th class=\"n\">measured</th><th></th>",
        rows,
    );
}

fn figures(page: &mut String, outcome: &Outcome) {
    let named = FIGURES.iter().filter_map(|figure| {
        let value = outcome.figures.get(figure.name())?;
        Some((figure.title.to_owned(), with_unit(*value, figure.unit)))
    });
    let mut rows: Vec<(String, String)> = named.collect();
    rows.extend((outcome.due > 0).then(|| ("beats due".to_owned(), units::count(outcome.due))));
    rows.extend(outcome.statuses.iter().map(|(status, n)| (format!("answered {status}"), units::count(*n))));
    rows.extend(outcome.unanswered.iter().map(|(kind, n)| (format!("without an answer: {kind}"), units::count(*n))));
    rows.extend(outcome.wait_p99_ms.map(|ms| {
        let what =
            "of the latency before sending, 99th percentile (if it is most of it, client or server cannot keep up)";
        (what.to_owned(), with_unit(ms, "ms"))
    }));
    let client = outcome.client_cpu_us;
    rows.extend(client.map(|us| ("processor time of this client per beat".to_owned(), with_unit(us, "µs"))));
    let rows =
        rows.iter().map(|(what, value)| format!("<td>{}</td><td class=\"n\">{}</td>", escape(what), escape(value)));
    table(page, "Figures", "<th>what</th><th class=\"n\">value</th>", rows);
}

fn charts(page: &mut String, outcome: &Outcome) {
    let marks: Vec<(f64, usize)> = outcome.events.iter().map(|event| event.at_s).zip(1..).collect();
    let over_time = |title, note, unit, scale, series| {
        Chart { title, note, unit, scale, x_ticks: None, marks: &marks, series }.draw()
    };
    let line = |name, class, value: &dyn Fn(&Point) -> Option<f64>| {
        let points = outcome.points.iter().map(|point| (point.at_s, value(point))).collect();
        Series { name, class, points }
    };
    if outcome.points.is_empty() {
        return;
    }
    page.push_str("<h2>Over time</h2>\n");
    page.push_str(&over_time(
        "Latency",
        "From the moment a beat was due to the end of its answer, by the second of the answer.",
        "ms",
        Scale::Log,
        vec![
            line("median", "c1", &|point| Some(point.latency?.p50_ms)),
            line("99th percentile", "c2", &|point| Some(point.latency?.p99_ms)),
            line("highest", "c3", &|point| Some(point.latency?.max_ms)),
        ],
    ));
    page.push_str(&over_time(
        "Latency of the probe",
        "Of the agents that beat one by one beside the load.",
        "ms",
        Scale::Log,
        vec![
            line("median", "c1", &|point| Some(point.probe?.p50_ms)),
            line("99th percentile", "c2", &|point| Some(point.probe?.p99_ms)),
            line("highest", "c3", &|point| Some(point.probe?.max_ms)),
        ],
    ));
    page.push_str(&percentiles(outcome));
    page.push_str(&over_time(
        "Beats per second",
        "Offered: due by schedule. Answered: with 2xx. Failed: answered otherwise, or not at all.",
        "/s",
        Scale::Linear,
        vec![
            line("offered", "c1", &|point| Some(point.offered)),
            line("answered", "c4", &|point| Some(point.achieved)),
            line("failed", "c2", &|point| Some(point.failed)),
        ],
    ));
    page.push_str(&over_time(
        "Processors in use",
        "1 is one processor that does nothing else.",
        "cores",
        Scale::Linear,
        vec![
            line("server", "c1", &|point| point.server_cpu),
            line("this client", "c2", &|point| Some(point.client_cpu)),
        ],
    ));
    page.push_str(&over_time(
        "Resident memory of the server",
        "",
        "MiB",
        Scale::Linear,
        vec![line("server", "c1", &|point| point.rss_mib)],
    ));
    page.push_str(&over_time(
        "Agents by status",
        "As the server's metrics say.",
        "agents",
        Scale::Linear,
        vec![
            line("online", "c4", &|point| Some(point.census?.online as f64)),
            line("stale", "c2", &|point| Some(point.census?.stale as f64)),
            line("offline", "c3", &|point| Some(point.census?.offline as f64)),
        ],
    ));
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

fn events(page: &mut String, outcome: &Outcome) {
    if outcome.events.is_empty() {
        return;
    }
    let rows = outcome.events.iter().zip(1..).map(|(event, number)| {
        let at = format!("{:.1} s", event.at_s);
        format!("<td class=\"n\">{number}</td><td class=\"n\">{at}</td><td>{}</td>", escape(&event.what))
    });
    table(page, "What happened", "<th class=\"n\">mark</th><th class=\"n\">at</th><th>what</th>", rows);
}

fn trials(page: &mut String, outcome: &Outcome) {
    if outcome.trials.is_empty() {
        return;
    }
    let rows = outcome.trials.iter().map(|trial| {
        let (class, word) = if trial.holds { ("good", "holds") } else { ("bad", "too much") };
        let cells = [
            units::rate(trial.offered),
            units::rate(trial.achieved),
            with_unit(trial.p99_ms, "ms"),
            units::count(trial.failed),
        ];
        let cells: String = cells.iter().map(|cell| format!("<td class=\"n\">{cell}</td>")).collect();
        format!("{cells}<td class=\"{class}\">{word}</td>")
    });
    let headings = ["offered", "answered", "99th percentile", "failed"].map(|h| format!("<th class=\"n\">{h}</th>"));
    table(page, "Rates that were tried", &format!("{}<th></th>", headings.concat()), rows);
}

fn seconds(page: &mut String, outcome: &Outcome) {
    if outcome.points.is_empty() {
        return;
    }
    let number =
        |value: Option<f64>| value.map_or_else(String::new, |value| with_unit((value * 100.0).round() / 100.0, ""));
    let rows = outcome.points.iter().map(|point| {
        let census = point.census;
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
            census.map(|census| census.online as f64),
            census.map(|census| census.stale as f64),
            census.map(|census| census.offline as f64),
        ];
        cells.map(|cell| format!("<td class=\"n\">{}</td>", number(cell))).concat()
    });
    let headings = [
        "s",
        "offered/s",
        "answered/s",
        "failed/s",
        "p50 ms",
        "p99 ms",
        "max ms",
        "probe p99 ms",
        "server cores",
        "client cores",
        "RSS MiB",
        "online",
        "stale",
        "offline",
    ];
    let headings = headings.map(|heading| format!("<th class=\"n\">{heading}</th>")).concat();
    page.push_str("<details>\n<summary>Second by second</summary>\n<div class=\"wide\">\n");
    rows_of(page, &headings, rows);
    page.push_str("</div>\n</details>\n");
}

fn what_was_run(page: &mut String, outcome: &Outcome) {
    let machine = &outcome.machine;
    let memory = machine.memory_mib.map(|mib| format!("{:.1} GiB of memory", mib as f64 / 1024.0));
    let kernel = machine.kernel.as_ref().map(|kernel| format!("Linux {kernel}"));
    let parts = [Some(format!("{} processors", machine.cores)), machine.processor.clone(), memory, kernel];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    let mut rows = vec![
        ("ended at".to_owned(), outcome.ended_at.clone()),
        ("server".to_owned(), outcome.target.clone()),
        ("its version".to_owned(), outcome.server_version.clone().unwrap_or_else(|| "unknown".to_owned())),
        ("version of the load test".to_owned(), outcome.loadtest_version.to_owned()),
        ("machine of the load test".to_owned(), parts.join(", ")),
    ];
    rows.extend(outcome.settings.iter().map(|(key, value)| (key.clone(), value.clone())));
    let rows = rows.iter().map(|(what, value)| format!("<td>{}</td><td>{}</td>", escape(what), escape(value)));
    table(page, "What was run", "<th>what</th><th>value</th>", rows);
}

fn table(page: &mut String, title: &str, headings: &str, rows: impl Iterator<Item = String>) {
    let _ = writeln!(page, "<h2>{}</h2>", escape(title));
    page.push_str("<div class=\"wide\">\n");
    rows_of(page, headings, rows);
    page.push_str("</div>\n");
}

fn rows_of(page: &mut String, headings: &str, rows: impl Iterator<Item = String>) {
    let _ = writeln!(page, "<table>\n<thead><tr>{headings}</tr></thead>\n<tbody>");
    for row in rows {
        let _ = writeln!(page, "<tr>{row}</tr>");
    }
    page.push_str("</tbody>\n</table>\n");
}

/// A text as it may stand in HTML and in its attributes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests;

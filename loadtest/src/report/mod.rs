//! The report: one HTML page with everything in it, for people to read and to pass on; and the tables of it as text.
//!
//! It promises that the page is well-formed, that every text in it is escaped, and that it loads nothing
//! from anywhere. Light or dark, as the reader's system is.

mod chart;
mod charts;
mod tables;

use std::fmt::Write;

use crate::run::Outcome;
use crate::table::Table;

use tables::{failures, main_tables, seconds, what_was_run};

const STYLE: &str = include_str!("style.css");

/// What a command prints at the end: all but the tables that were printed meanwhile.
pub(crate) fn text(outcome: &Outcome) -> String {
    let mut text = String::new();
    for (title, table) in main_tables(outcome) {
        let _ = writeln!(text, "{title}\n{table}");
    }
    for failure in failures(outcome) {
        let _ = writeln!(text, "{failure}");
    }
    if outcome.interrupted {
        text.push_str("interrupted: the figures are those of a part of the run, which is held to no threshold\n");
    }
    text
}

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
    for (title, table) in &main_tables(outcome) {
        add(&mut page, title, table);
    }
    for (title, table) in &outcome.tables.0 {
        add(&mut page, title, table);
    }
    if !outcome.points.is_empty() {
        charts::add(&mut page, outcome);
        page.push_str("<details>\n<summary>Second by second</summary>\n");
        rows(&mut page, &seconds(outcome));
        page.push_str("</details>\n");
    }
    add(&mut page, "What was run", &what_was_run(outcome));
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
    let (name, description) = (escape(&outcome.scenario), escape(&outcome.description));
    let _ =
        writeln!(page, "<header>\n<h1>{name}</h1>\n<p>{description}</p>\n<p class=\"verdict {class}\">{verdict}</p>");
    for complaint in outcome.broken().map(|verdict| verdict.complaint()).chain(failures(outcome)) {
        let _ = writeln!(page, "<p class=\"bad\">{}</p>", escape(&complaint));
    }
    page.push_str("</header>\n");
}

fn add(page: &mut String, title: &str, table: &Table) {
    let _ = writeln!(page, "<h2>{}</h2>", escape(title));
    rows(page, table);
}

fn rows(page: &mut String, table: &Table) {
    let cells = |cells: &[String], tag: &str| -> String {
        // A heading stands as the figures below it do.
        let below = if tag == "th" { table.rows.first() } else { None };
        let cell =
            |(cell, shown): (&String, &String)| format!("<{tag} class=\"{}\">{}</{tag}>", class(shown), escape(cell));
        cells.iter().zip(below.map_or(cells, Vec::as_slice)).map(cell).collect()
    };
    let headings = cells(&table.headings, "th");
    let _ = writeln!(page, "<div class=\"wide\">\n<table>\n<thead><tr>{headings}</tr></thead>\n<tbody>");
    for row in &table.rows {
        let _ = writeln!(page, "<tr>{}</tr>", cells(row, "td"));
    }
    page.push_str("</tbody>\n</table>\n</div>\n");
}

fn class(cell: &str) -> &'static str {
    match cell {
        "kept" | "holds" => "good",
        "BROKEN" | "too much" => "bad",
        figure if figure.starts_with(|first: char| first.is_ascii_digit() || "≤≥∞–".contains(first)) => "n",
        _ => "",
    }
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

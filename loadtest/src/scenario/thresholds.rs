//! The figures a run can be held to, and whether it kept them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::reader::Reader;

/// Which side of its limit a figure has to be on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    AtMost,
    AtLeast,
}

/// A figure that scenarios may limit.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Figure {
    /// The key of its threshold, and of the JSON file.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// Behind the number; may be empty.
    pub(crate) unit: &'static str,
    /// Which side of a limit is right.
    bound: Bound,
    /// The section without which there is no such figure; may be empty.
    #[serde(skip)]
    needs: &'static str,
}

macro_rules! figures {
    ($($name:ident: $title:literal, $unit:literal, $bound:ident $(, $needs:literal)?;)*) => {
        /// All of them, in the order in which they are shown.
        pub(crate) const FIGURES: &[Figure] = &[$(Figure {
            name: stringify!($name),
            title: $title,
            unit: $unit,
            bound: Bound::$bound,
            needs: concat!("" $(, $needs)?),
        }),*];
    };
}

figures! {
    rate: "beats answered 2xx per second; with [ramp] the highest rate that held", "/s", AtLeast;
    achieved: "share of the beats due that were answered 2xx", "", AtLeast;
    p50_ms: "latency, median", "ms", AtMost;
    p90_ms: "latency, 90th percentile", "ms", AtMost;
    p99_ms: "latency, 99th percentile", "ms", AtMost;
    p999_ms: "latency, 99.9th percentile", "ms", AtMost;
    max_ms: "latency, highest", "ms", AtMost;
    errors: "beats not answered 2xx while nothing was done to the server", "", AtMost;
    refused: "beats not answered 2xx while the server was disturbed on purpose", "", AtMost;
    false_stale: "agents called stale although they beat", "", AtMost;
    missed: "silent agents that were not noticed", "", AtMost, "silence";
    lag_p50_ms: "detection lag, median (upper bound of its bucket)", "ms", AtMost, "silence";
    lag_p99_ms: "detection lag, 99th percentile (upper bound of its bucket)", "ms", AtMost, "silence";
    lag_max_ms: "detection lag, highest (upper bound of its bucket)", "ms", AtMost, "silence";
    back_ms: "from the last beat of the silent ones that came back until all are online", "ms", AtMost, "silence";
    ready_ms: "from the start after kill -9 to ready", "ms", AtMost, "restart";
    written_ms: "from the return of the store until all that was heard before it is written", "ms", AtMost, "outage";
    churn_p99_ms: "registrations and deregistrations, 99th percentile", "ms", AtMost, "churn";
    churn_errors: "registrations and deregistrations that failed", "", AtMost, "churn";
    probe_rate: "probe: beats answered 2xx per second", "/s", AtLeast, "probe";
    probe_p50_ms: "probe: latency, median", "ms", AtMost, "probe";
    probe_p99_ms: "probe: latency, 99th percentile", "ms", AtMost, "probe";
    probe_p999_ms: "probe: latency, 99.9th percentile", "ms", AtMost, "probe";
    probe_max_ms: "probe: latency, highest", "ms", AtMost, "probe";
    probe_errors: "probe: beats not answered 2xx", "", AtMost, "probe";
    lists: "whole lists that were read", "", AtLeast, "list";
    list_ms: "the whole list, longest time from the request to its last byte", "ms", AtMost, "list";
    list_errors: "whole lists that broke off or were refused", "", AtMost, "list";
    threats_per_minute: "threats stored per minute", "/min", AtLeast, "threats";
    threats_p99_ms: "reports of threats: latency, 99th percentile", "ms", AtMost, "threats";
    threat_errors: "reports of threats not answered 2xx", "", AtMost, "threats";
    readers_lost: "readers that were refused or cut off, or missed an event", "", AtMost, "readers";
    events_seen: "events that each of the other readers saw", "", AtLeast, "readers";
    cpu_us: "processor time of the server per beat answered 2xx", "µs", AtMost;
    cpu_ratio: "processor time per request as a ratio to the last side (of the first, median)", "", AtMost, "compare";
    rate_ratio: "requests per second as a ratio to the last side (of the first, median)", "", AtLeast, "compare";
    connection_bytes: "memory of the server per idle connection", "bytes", AtMost, "idle";
    slope_bytes: "memory of the server per idle connection, from half of them to all", "bytes", AtMost, "idle";
    million_mib: "memory of the server for 1,000,000 idle connections (extrapolated)", "MiB", AtMost, "idle";
    rss_growth: "resident memory with all of them, last third of the time as a ratio to the first", "", AtMost, "idle";
    reopened: "connections that were not kept: opened again unasked", "", AtMost, "idle";
    resumed: "share of the TLS handshakes that resumed a session when all connected again", "", AtLeast, "idle";
    agent_bytes: "memory of the server per agent that has beaten", "bytes", AtMost, "survey";
    restart_ms: "from a start on the same data to ready (longest)", "ms", AtMost, "survey";
    rss_mib: "resident memory of the server, highest", "MiB", AtMost;
}

pub(crate) type Figures = BTreeMap<&'static str, f64>;

/// The limits of a scenario.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Thresholds(Vec<(&'static Figure, f64)>);

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Verdict {
    #[serde(flatten)]
    pub(crate) figure: &'static Figure,
    pub(crate) limit: f64,
    /// What was measured; `None` if it could not be, which keeps no limit.
    pub(crate) measured: Option<f64>,
    /// Whether it is on the right side; `None` if the run was interrupted, which says nothing of what it would have been.
    pub(crate) kept: Option<bool>,
}

impl Thresholds {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let mut limits = Vec::new();
        for figure in FIGURES {
            let key = format!("thresholds.{}", figure.name);
            let limit = reader.number(&key, 0.0..=f64::INFINITY);
            if limit.is_some() && !figure.needs.is_empty() && !reader.has_section(figure.needs) {
                reader.object(&key, format!("{key} needs a section [{}]", figure.needs));
            }
            limits.extend(limit.map(|limit| (figure, limit)));
        }
        Self(limits)
    }

    /// Holds the figures to the limits, unless the run was interrupted.
    pub(crate) fn judge(&self, figures: &Figures, interrupted: bool) -> Vec<Verdict> {
        let judge = |&(figure, limit): &(&'static Figure, f64)| {
            let measured = figures.get(figure.name).copied();
            let kept = measured.is_some_and(|measured| match figure.bound {
                Bound::AtMost => measured <= limit,
                Bound::AtLeast => measured >= limit,
            });
            Verdict { figure, limit, measured, kept: (!interrupted).then_some(kept) }
        };
        self.0.iter().map(judge).collect()
    }
}

impl Verdict {
    /// The limit, for people: `≤ 20 ms`.
    pub(crate) fn limit_shown(&self) -> String {
        let sign = match self.figure.bound {
            Bound::AtMost => "≤",
            Bound::AtLeast => "≥",
        };
        format!("{sign} {}", with_unit(self.limit, self.figure.unit))
    }

    pub(crate) fn measured_shown(&self) -> String {
        match (self.measured, self.kept) {
            (Some(measured), _) => with_unit(measured, self.figure.unit),
            (None, Some(_)) => "not measured".to_owned(),
            (None, None) => "interrupted, not measured".to_owned(),
        }
    }

    /// Why the limit was not kept: `p99_ms is 23.1 ms, 3.1 ms above its limit of 20 ms`.
    pub(crate) fn complaint(&self) -> String {
        let (limit, name) = (with_unit(self.limit, self.figure.unit), self.figure.name);
        match self.measured {
            None => format!("{name} was not measured, and should have been held to {}", self.limit_shown()),
            Some(measured) => {
                let side = if measured > self.limit { "above" } else { "below" };
                let by = with_unit((measured - self.limit).abs(), self.figure.unit);
                format!("{name} is {}, {by} {side} its limit of {limit}", with_unit(measured, self.figure.unit))
            }
        }
    }
}

/// A number with its unit: as many digits as say something.
pub(crate) fn with_unit(value: f64, unit: &str) -> String {
    let number = match value.abs() {
        _ if !value.is_finite() => "∞".to_owned(),
        _ if value.fract() == 0.0 => format!("{value:.0}"),
        0.0..1.0 => format!("{value:.4}"),
        1.0..100.0 => format!("{value:.2}"),
        _ => format!("{value:.1}"),
    };
    match unit {
        "" => number,
        "/s" | "/min" => format!("{number}{unit}"),
        unit => format!("{number} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(name: &str, limit: f64, measured: Option<f64>) -> Verdict {
        let figure = FIGURES.iter().find(|figure| figure.name == name).expect("a figure");
        let figures = measured.map(|value| (figure.name, value)).into_iter().collect();
        Thresholds(vec![(figure, limit)]).judge(&figures, false).remove(0)
    }

    #[test]
    fn a_limit_is_kept_up_to_and_including_itself() {
        for (name, limit, measured, kept) in [
            ("p99_ms", 20.0, 20.0, true),
            ("p99_ms", 20.0, 20.1, false),
            ("rate", 1_000.0, 1_000.0, true),
            ("rate", 1_000.0, 999.9, false),
            ("errors", 0.0, 0.0, true),
            ("errors", 0.0, 1.0, false),
        ] {
            assert_eq!(verdict(name, limit, Some(measured)).kept, Some(kept), "{name} {measured}");
        }
    }

    #[test]
    fn what_was_not_measured_keeps_no_limit() {
        let verdict = verdict("missed", 0.0, None);
        assert_eq!(verdict.kept, Some(false));
        assert!(verdict.complaint().contains("missed was not measured"), "{}", verdict.complaint());
    }

    #[test]
    fn an_interrupted_run_keeps_and_breaks_no_limit() {
        let thresholds = Thresholds(FIGURES.iter().map(|figure| (figure, 1.0)).collect());
        let measured = Figures::from([("p99_ms", 2.0), ("errors", 0.0)]);
        for verdict in thresholds.judge(&measured, true) {
            assert_eq!(verdict.kept, None, "{}", verdict.figure.name);
            let is_measured = measured.contains_key(verdict.figure.name);
            assert_eq!(
                verdict.measured_shown() == "interrupted, not measured",
                !is_measured,
                "{}",
                verdict.figure.name
            );
        }
    }

    #[test]
    fn a_complaint_says_what_and_by_how_much() {
        let above = verdict("p99_ms", 20.0, Some(23.5)).complaint();
        assert_eq!(above, "p99_ms is 23.50 ms, 3.50 ms above its limit of 20 ms");
        let below = verdict("rate", 1_000.0, Some(400.0)).complaint();
        assert_eq!(below, "rate is 400/s, 600/s below its limit of 1000/s");
    }
}

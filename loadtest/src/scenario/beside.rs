//! What goes on beside the load: agents that come and go, some that beat one by one, somebody who reads the whole list,
//! threats that are reported, and those who read what happens.

use std::time::Duration;

use crate::load::{Credentials, Reports, Schedule};
use crate::server::ServerPlan;

use super::reader::Reader;
use super::{Course, DAY};

/// Threats in a report that the server takes.
const MAX_EVENTS: u64 = 100;

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Beside {
    /// How many agents a second are replaced by others.
    pub(crate) churn_per_second: Option<f64>,
    pub(crate) probe: Option<ProbePlan>,
    pub(crate) list: Option<ListPlan>,
    pub(crate) threats: Option<ThreatsPlan>,
    /// Those who read the events as they happen: how many.
    pub(crate) readers: Option<u64>,
}

/// More agents, which beat one by one with their own tokens, whatever the others do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ProbePlan {
    pub(crate) agents: u64,
    /// Beats per second of them all.
    pub(crate) rate: f64,
    pub(crate) connections: usize,
}

/// Somebody who reads the unlimited list to its end, and then again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ListPlan {
    pub(crate) pause: Duration,
}

/// Reports of threats, from one agent of the fleet after the other, with the tokens that these beat with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ThreatsPlan {
    pub(crate) per_minute: f64,
    pub(crate) reports: Reports,
    pub(crate) connections: usize,
}

impl ThreatsPlan {
    pub(crate) fn schedule(&self) -> Schedule {
        Schedule::at_rate(1, self.reports_per_second())
    }

    pub(crate) fn reports_per_second(&self) -> f64 {
        self.per_minute / 60.0 / self.reports.events as f64
    }
}

impl ProbePlan {
    pub(crate) fn schedule(&self) -> Schedule {
        Schedule::at_rate(self.agents, self.rate)
    }

    fn interval(&self) -> Duration {
        Duration::from_secs_f64(self.agents as f64 / self.rate)
    }
}

impl Beside {
    pub(super) fn read(reader: &mut Reader, credentials: Credentials, course: &Course) -> Self {
        // Every key is asked for, so that all are known when another is not.
        let churn_per_second = reader.number_or("churn.per_second", 10.0, 0.001..=1e6);
        let probe = ProbePlan {
            agents: reader.whole("probe.agents", 1_000, 1..=1_000_000),
            rate: reader.number_or("probe.rate", 1_000.0, 0.1..=1e7),
            connections: connections(reader, "probe.connections"),
        };
        let list = ListPlan { pause: reader.duration("list.pause", Duration::ZERO, Duration::ZERO..=DAY) };
        let threats = ThreatsPlan {
            per_minute: reader.number_or("threats.per_minute", 6_000.0, 1.0..=1e9),
            reports: Reports {
                events: reader.whole("threats.events", 1, 1..=MAX_EVENTS),
                types: reader.whole("threats.types", 50, 1..=1_000_000),
            },
            connections: connections(reader, "threats.connections"),
        };
        let readers = reader.whole("readers.count", 100, 1..=60_000);
        let [has_churn, has_probe, has_list, has_threats, has_readers] =
            ["churn", "probe", "list", "threats", "readers"].map(|section| reader.chosen(section));
        if has_churn && credentials == Credentials::Own {
            let message = "[churn] needs fleet.tokens = \"admin\": agents take the places of others while these beat";
            reader.object("churn.per_second", message.to_owned());
        }
        if has_churn && !matches!(course, Course::Steady(_)) {
            let message = "[churn] goes with a steady load or a herd, and nothing else";
            reader.object("churn.per_second", message.to_owned());
        }
        let has_place = matches!(course, Course::Steady(_) | Course::Silence(_));
        for (section, key) in [
            ("probe", "probe.rate"),
            ("list", "list.pause"),
            ("threats", "threats.per_minute"),
            ("readers", "readers.count"),
        ] {
            if !has_place && reader.has_section(section) {
                let message = format!("[{section}] goes with a steady load, a herd or [silence], and nothing else");
                reader.object(key, message);
            }
        }
        Self {
            churn_per_second: has_churn.then_some(churn_per_second),
            probe: has_probe.then_some(probe),
            list: has_list.then_some(list),
            threats: has_threats.then_some(threats),
            readers: has_readers.then_some(readers),
        }
    }

    pub(super) fn check(&self, reader: &mut Reader, server: &ServerPlan) {
        if self.probe.is_some_and(|probe| probe.interval() > server.timeout) {
            let message = "probe.rate is too low: each of probe.agents must beat once in server.timeout_ms";
            reader.object("probe.rate", message.to_owned());
        }
    }

    /// Requests per second of all that goes on by a schedule of its own.
    pub(super) fn per_second(&self) -> f64 {
        let probe = self.probe.map_or(0.0, |probe| probe.rate);
        probe + self.threats.map_or(0.0, |threats| threats.reports_per_second())
    }
}

fn connections(reader: &mut Reader, key: &'static str) -> usize {
    usize::try_from(reader.whole(key, 64, 1..=60_000)).unwrap_or(usize::MAX)
}

//! What goes on beside the load: agents that come and go, some that beat one by one, somebody who reads the whole list.

use std::time::Duration;

use crate::load::{Credentials, Schedule};

use super::reader::Reader;
use super::{Course, DAY};

/// What goes on beside the load, each if it is wanted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Beside {
    /// How many agents a second are replaced by others.
    pub(crate) churn_per_second: Option<f64>,
    /// Agents with latencies of their own.
    pub(crate) probe: Option<ProbePlan>,
    /// The whole list, again and again.
    pub(crate) list: Option<ListPlan>,
}

/// More agents, which beat one by one with their own tokens, whatever the others do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ProbePlan {
    /// How many.
    pub(crate) agents: u64,
    /// Beats per second of them all.
    pub(crate) rate: f64,
    /// Connections they share.
    pub(crate) connections: usize,
}

/// Somebody who reads the unlimited list to its end, and then again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ListPlan {
    /// The time between the end of one and the beginning of the next.
    pub(crate) pause: Duration,
}

impl ProbePlan {
    /// When they beat.
    pub(crate) fn schedule(&self) -> Schedule {
        Schedule::at_rate(self.agents, self.rate)
    }

    /// How often each beats.
    pub(super) fn interval(&self) -> Duration {
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
            connections: usize::try_from(reader.whole("probe.connections", 64, 1..=60_000)).unwrap_or(usize::MAX),
        };
        let list = ListPlan { pause: reader.duration("list.pause", Duration::ZERO, Duration::ZERO..=DAY) };
        let mut chosen = |section: &'static str| {
            let chosen = reader.has_section(section);
            if !chosen {
                reader.forget(section);
            }
            chosen
        };
        let (has_churn, has_probe, has_list) = (chosen("churn"), chosen("probe"), chosen("list"));
        if has_churn && credentials == Credentials::Own {
            let message = "[churn] needs fleet.tokens = \"admin\": agents take the places of others while these beat";
            reader.object("churn.per_second", message.to_owned());
        }
        if has_churn && !matches!(course, Course::Steady(_)) {
            let message =
                "[churn] goes with a steady load or a herd, not with [ramp], [silence], [restart] or [outage]";
            reader.object("churn.per_second", message.to_owned());
        }
        let is_disturbed = matches!(course, Course::Ramp(_) | Course::Restart(_) | Course::Outage(_));
        for (section, key) in [("probe", "probe.rate"), ("list", "list.pause")] {
            if is_disturbed && reader.has_section(section) {
                let message = format!("[{section}] goes with a steady load, a herd or [silence], and nothing else");
                reader.object(key, message);
            }
        }
        Self {
            churn_per_second: has_churn.then_some(churn_per_second),
            probe: has_probe.then_some(probe),
            list: has_list.then_some(list),
        }
    }
}

//! What happens in a run.

use std::time::Duration;

use crate::load::{Operation, Reports, Transport};
use crate::server::{ServerPlan, StorePlan};

use super::idle::IdlePlan;
use super::reader::Reader;
use super::{DAY, MILLISECOND, SECOND};

/// What happens in a run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Course {
    /// Nothing but beats, for so long.
    Steady(Duration),
    /// More and more beats, to find the most that are answered in time.
    Ramp(RampPlan),
    Silence(SilencePlan),
    /// The server is killed and started again.
    Restart(Incident),
    /// The server's Redis is stopped and started again.
    Outage(Incident),
    /// Several servers take the same load in turn, as fast as they answer it.
    Compare(ComparePlan),
    /// Agents keep a connection each, and hardly use it.
    Idle(IdlePlan),
    /// Nothing after the survey.
    Surveyed,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RampPlan {
    /// The first rate to be tried, in beats per second.
    pub(crate) from: f64,
    /// For how long each is tried.
    pub(crate) step: Duration,
    /// The p99 up to which a rate has held.
    pub(crate) p99: Duration,
    /// How near the result is to the true one, as a share of it.
    pub(crate) precision: f64,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SilencePlan {
    /// How many, if it is said; otherwise a share of the fleet.
    pub(crate) agents: Option<u64>,
    pub(crate) share: f64,
    /// When, counted from the end of the warm-up.
    pub(crate) after: Duration,
    /// All silent ones send a last beat within this time, so that they become due for detection together.
    pub(crate) together: Option<Duration>,
    /// Once they have been noticed, all of them beat once more within this time.
    pub(crate) back: Option<Duration>,
}

impl SilencePlan {
    /// How many of so many agents fall silent.
    pub(crate) fn of(&self, agents: u64) -> u64 {
        self.agents.unwrap_or((self.share * agents as f64) as u64)
    }
}

/// Something that is done to the server.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Incident {
    /// For how long agents beat, from the end of the warm-up.
    pub(crate) duration: Duration,
    /// When it happens, counted likewise.
    pub(crate) after: Duration,
    /// How long it lasts until it is undone.
    pub(crate) down: Duration,
}

/// A comparison, in rounds in which each side is measured once.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ComparePlan {
    /// The others are compared with the last.
    pub(crate) sides: Vec<SideKind>,
    pub(crate) operation: Operation,
    pub(crate) rounds: u64,
    /// For how long a side is measured each time.
    pub(crate) duration: Duration,
    /// How many requests are sent each time at most.
    pub(crate) most: u64,
}

/// A server that takes part in a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SideKind {
    Engine(StorePlan),
    Bare,
    /// The one at `--url`.
    Url,
}

pub(super) const SIDES: [(&str, SideKind); 5] = [
    ("embedded", SideKind::Engine(StorePlan::Embedded)),
    ("redis", SideKind::Engine(StorePlan::Redis)),
    ("memory", SideKind::Engine(StorePlan::Memory)),
    ("bare", SideKind::Bare),
    ("url", SideKind::Url),
];

impl SideKind {
    /// What settings and tables call it.
    pub(crate) fn name(self) -> &'static str {
        SIDES.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| *name)
    }
}

/// What a fleet costs, and a history of its threats: memory, answers, starts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SurveyPlan {
    /// How many threats are reported; with none, each agent beats once instead.
    pub(crate) threats: u64,
    pub(crate) reports: Reports,
    /// How often the server is restarted each way.
    pub(crate) restarts: u64,
}

impl SurveyPlan {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let plan = Self {
            threats: reader.whole("survey.threats", 0, 0..=1_000_000_000),
            reports: Reports {
                events: reader.whole("survey.events", 100, 1..=100),
                types: reader.whole("survey.types", 500, 1..=1_000_000),
            },
            restarts: reader.whole("survey.restarts", 1, 0..=1_000),
        };
        reader.chosen("survey").then_some(plan)
    }
}

impl Course {
    pub(super) fn read(reader: &mut Reader, has_survey: bool) -> Self {
        // Every key is asked for, so that all are known when another is not.
        let duration = reader.duration_if("load.duration", MILLISECOND * 100..=DAY * 30);
        let steady = duration.unwrap_or(SECOND * 30);
        let ramp = RampPlan {
            from: reader.number_or("ramp.from", 1_000.0, 1.0..=1e9),
            step: reader.duration("ramp.step", SECOND * 4, MILLISECOND * 500..=DAY),
            p99: reader.duration("ramp.p99", MILLISECOND * 20, MILLISECOND..=SECOND * 60),
            precision: reader.number_or("ramp.precision", 0.1, 0.01..=0.5),
        };
        let silence = SilencePlan {
            agents: reader.whole_if("silence.agents", 1..=50_000_000),
            share: reader.number_or("silence.share", 0.1, 0.000_001..=1.0),
            after: reader.duration("silence.after", SECOND * 5, Duration::ZERO..=DAY),
            together: reader.duration_if("silence.together", MILLISECOND..=SECOND * 600),
            back: reader.duration_if("silence.back", MILLISECOND..=SECOND * 600),
        };
        let mut incident = |after, down| Incident {
            duration: steady,
            after: reader.duration(after, SECOND * 10, Duration::ZERO..=DAY),
            down: reader.duration(down, SECOND * 2, Duration::ZERO..=DAY),
        };
        let restart = incident("restart.after", "restart.down");
        let outage = incident("outage.after", "outage.down");
        let compare = ComparePlan {
            sides: reader.choices("compare.sides", &SIDES, &["embedded", "bare"]),
            operation: reader
                .choice("compare.send", &[("beats", Operation::Beat), ("registrations", Operation::Register)]),
            rounds: reader.whole("compare.rounds", 5, 1..=1_000),
            duration: steady,
            most: reader.whole("compare.most", 1_000_000_000, 1..=1_000_000_000),
        };
        let idle = IdlePlan::read(reader, steady);
        let courses = [
            ("ramp", Self::Ramp(ramp)),
            ("silence", Self::Silence(silence)),
            ("restart", Self::Restart(restart)),
            ("outage", Self::Outage(outage)),
            ("compare", Self::Compare(compare)),
            ("idle", Self::Idle(idle)),
        ];
        let mut chosen: Vec<_> = courses.into_iter().filter(|(section, _)| reader.chosen(section)).collect();
        if let [(first, _), (second, _), ..] = chosen.as_slice() {
            let message = format!("[{first}] and [{second}] cannot be in one scenario: make it two");
            reader.object("", message);
        }
        let course = match chosen.is_empty() {
            false => chosen.remove(0).1,
            true if has_survey => Self::Surveyed,
            true => Self::Steady(steady),
        };
        if duration.is_some() && matches!(course, Self::Ramp(_) | Self::Silence(_) | Self::Surveyed) {
            let message = "load.duration has no meaning with [ramp], [silence] or [survey], which end by themselves: \
                           leave it out";
            reader.object("load.duration", message.to_owned());
        }
        if has_survey && !matches!(course, Self::Surveyed | Self::Silence(_)) {
            reader.object("survey.threats", "[survey] goes with [silence] or alone".to_owned());
        }
        course
    }

    /// Whether the run is long enough to see what it is for.
    pub(super) fn check(
        &self,
        reader: &mut Reader,
        agents: u64,
        interval: Duration,
        transport: &Transport,
        server: &ServerPlan,
    ) {
        match self {
            Self::Steady(_) | Self::Ramp(_) | Self::Surveyed => {}
            Self::Idle(plan) => {
                check_tls(reader, "idle.sides", &plan.sides, server);
                plan.check(reader, agents, transport);
            }
            Self::Compare(plan) => {
                check_tls(reader, "compare.sides", &plan.sides, server);
                if transport.batching.is_some_and(|batching| batching.beats > agents) {
                    let message = "load.batch must not be more than fleet.agents: an agent has one beat in a batch";
                    reader.object("load.batch", message.to_owned());
                }
                if transport.batching.is_some() && plan.operation != Operation::Beat {
                    reader.object("load.batch", "load.batch is of beats: leave it out".to_owned());
                }
            }
            Self::Silence(plan) => {
                if !(1..=agents).contains(&plan.of(agents)) {
                    let message =
                        "silence.share of fleet.agents, or silence.agents, must be one agent at least, and all at most";
                    reader.object("silence.share", message.to_owned());
                }
                if interval > server.timeout {
                    let message = "server.timeout_ms must not be less than fleet.interval: everybody would go stale";
                    reader.object("server.timeout_ms", message.to_owned());
                }
            }
            Self::Restart(incident) | Self::Outage(incident) => {
                // Without a heartbeat since, an agent is stale after 1.5 timeouts, and after a restart up to a
                // tenth of that later.
                let needed = incident.after + incident.down + server.timeout * 2;
                if incident.duration < needed {
                    let message = format!(
                        "load.duration is {}: to see agents falsely called stale it must be at least {} (until it is over, \
                         and two timeouts)",
                        humantime::format_duration(incident.duration),
                        humantime::format_duration(needed)
                    );
                    reader.object("load.duration", message);
                }
            }
        }
    }
}

fn check_tls(reader: &mut Reader, key: &str, sides: &[SideKind], server: &ServerPlan) {
    if server.tls && !matches!(sides, [SideKind::Engine(_), ..]) {
        let message = format!("server.tls needs an engine as the first of {key}: the baseline uses its certificate");
        reader.object("server.tls", message);
    }
}

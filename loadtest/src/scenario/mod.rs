//! Scenarios: what is to be done to a server, and the limits it is held to. Read from small TOML files.
//!
//! It promises that what comes out makes sense: ranges are checked, and settings that exclude each
//! other are told. It knows nothing of how a run is done.

mod beside;
mod reader;
mod thresholds;

use std::path::Path;
use std::time::Duration;

use crate::load::{Batching, Credentials, Schedule, Transport};
use crate::wire::KeepAlive;

pub(crate) use beside::{Beside, ListPlan, ProbePlan, ThreatsPlan};
use reader::Reader;
pub(crate) use thresholds::{FIGURES, Figures, Thresholds, Verdict, with_unit};

/// Scenarios that are part of the program, by name.
pub(crate) const BUILT_IN: [(&str, &str); 11] = [
    ("steady", include_str!("../../scenarios/steady.toml")),
    ("ramp", include_str!("../../scenarios/ramp.toml")),
    ("herd", include_str!("../../scenarios/herd.toml")),
    ("churn", include_str!("../../scenarios/churn.toml")),
    ("silence", include_str!("../../scenarios/silence.toml")),
    ("list", include_str!("../../scenarios/list.toml")),
    ("threats", include_str!("../../scenarios/threats.toml")),
    ("readers", include_str!("../../scenarios/readers.toml")),
    ("restart", include_str!("../../scenarios/restart.toml")),
    ("store-outage", include_str!("../../scenarios/store-outage.toml")),
    ("million", include_str!("../../scenarios/million.toml")),
];
/// Those that are no part of a tour: they take too long.
pub(crate) const LONG: [&str; 1] = ["million"];

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
/// Lines of a batch that the server takes.
const MAX_BATCH: u64 = 10_000;
/// No agent is stale before that, for loads in which timers are not the point.
const LONG_TIMEOUT_MS: u64 = 3_600_000;
/// Bounds of the server's `liveness.timeout_ms`.
const TIMEOUTS_MS: std::ops::RangeInclusive<u64> = 100..=2_592_000_000;

/// A scenario, checked.
#[derive(Debug)]
pub(crate) struct Scenario {
    /// What it is called.
    pub(crate) name: String,
    /// What it is for.
    pub(crate) description: String,
    /// How many agents beat.
    pub(crate) agents: u64,
    /// When they do; without meaning for a ramp.
    pub(crate) schedule: Schedule,
    /// How often each does; without meaning for a ramp.
    pub(crate) interval: Duration,
    /// With which token.
    pub(crate) credentials: Credentials,
    /// How their beats travel.
    pub(crate) transport: Transport,
    /// For how long they beat before anything is counted.
    pub(crate) warm_up: Duration,
    /// What is done meanwhile.
    pub(crate) course: Course,
    /// What goes on beside it.
    pub(crate) beside: Beside,
    /// The server to start.
    pub(crate) server: ServerPlan,
    /// What the run is held to.
    pub(crate) thresholds: Thresholds,
    /// All settings that hold, for the report.
    pub(crate) settings: Vec<(String, String)>,
}

/// What happens in a run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Course {
    /// Nothing but beats, for so long.
    Steady(Duration),
    /// More and more beats, to find the most that are answered in time.
    Ramp(RampPlan),
    /// Some agents fall silent.
    Silence(SilencePlan),
    /// The server is killed and started again.
    Restart(Incident),
    /// The server's Redis is stopped and started again.
    Outage(Incident),
}

/// The search for the highest rate.
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

/// Agents that fall silent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SilencePlan {
    /// The share of the fleet that does.
    pub(crate) share: f64,
    /// When, counted from the end of the warm-up.
    pub(crate) after: Duration,
    /// All silent ones send a last beat within this time, so that they become due for detection together.
    pub(crate) together: Option<Duration>,
    /// Once they have been noticed, all of them beat once more within this time.
    pub(crate) back: Option<Duration>,
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

/// How the server is started.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ServerPlan {
    /// Its heartbeat timeout.
    pub(crate) timeout: Duration,
    /// With its own certificate.
    pub(crate) tls: bool,
    /// Where it keeps the fleet.
    pub(crate) store: StorePlan,
    /// More arguments for `serve`.
    pub(crate) args: Vec<String>,
}

/// Where the server keeps the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StorePlan {
    /// In its data folder.
    Embedded,
    /// In a Redis started for the run.
    Redis,
    /// Nowhere.
    Memory,
}

impl Scenario {
    /// Reads a scenario; `sets` are `section.key=value` that hold over what is in the file. Fails with all mistakes, a
    /// line for each.
    pub(crate) fn read(file: &Path, text: &str, sets: &[String]) -> Result<Self, String> {
        let mut settings = Reader::read(file, text, sets);
        let reader = &mut settings;
        let description = reader.text("description").unwrap_or_default();
        let course = read_course(reader);
        let agents = reader.whole("fleet.agents", 10_000, 1..=50_000_000);
        let (interval, schedule) = read_schedule(reader, agents, &course);
        let (credentials, transport) = read_transport(reader);
        let warm_up = reader.duration("load.warm_up", SECOND * 2, Duration::ZERO..=DAY);
        let beside = Beside::read(reader, credentials, &course);
        let server = read_server(reader, interval, &course);
        let thresholds = Thresholds::read(reader);
        check_times(reader, &course, agents, interval, &beside, &server);
        let name = file.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        Ok(Self {
            name,
            description,
            agents,
            schedule,
            interval,
            credentials,
            transport,
            warm_up,
            course,
            beside,
            server,
            thresholds,
            settings: settings.finish()?,
        })
    }

    /// Whether it does something to the server that only its owner may.
    pub(crate) fn is_disturbing(&self) -> bool {
        matches!(self.course, Course::Restart(_) | Course::Outage(_))
    }

    /// Whether it has such a section, or settings of it that hold.
    pub(crate) fn has_section(&self, section: &str) -> bool {
        self.settings.iter().any(|(key, _)| key.split_once('.').is_some_and(|(of, _)| of == section))
    }

    /// The most requests per second that become due.
    pub(crate) fn peak_rate(&self) -> f64 {
        self.schedule.peak_per_second() + self.beside.per_second()
    }
}

fn read_course(reader: &mut Reader) -> Course {
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
    let courses = [
        ("ramp", Course::Ramp(ramp)),
        ("silence", Course::Silence(silence)),
        ("restart", Course::Restart(restart)),
        ("outage", Course::Outage(outage)),
    ];
    let (mut chosen, others): (Vec<_>, Vec<_>) =
        courses.into_iter().partition(|(section, _)| reader.has_section(section));
    others.iter().for_each(|(section, _)| reader.forget(section));
    if let [(first, _), (second, _), ..] = chosen.as_slice() {
        let message = format!("[{first}] and [{second}] cannot be in one scenario: make it two");
        reader.object("", message);
    }
    let course = if chosen.is_empty() { Course::Steady(steady) } else { chosen.remove(0).1 };
    if let (Some(_), Course::Ramp(_) | Course::Silence(_)) = (duration, &course) {
        let message = "load.duration has no meaning with [ramp] or [silence], which end by themselves: leave it out";
        reader.object("load.duration", message.to_owned());
    }
    course
}

fn read_schedule(reader: &mut Reader, agents: u64, course: &Course) -> (Duration, Schedule) {
    let given = reader.duration_if("fleet.interval", MILLISECOND * 10..=DAY * 30);
    let rate = reader.number("fleet.rate", 0.001..=1e9);
    let within = reader.duration_if("herd.within", MILLISECOND..=DAY);
    let is_herd = reader.has_section("herd");
    let is_ramp = matches!(course, Course::Ramp(_));
    if given.is_some() && rate.is_some() {
        reader.object("fleet.rate", "fleet.rate and fleet.interval say the same: leave one of them out".to_owned());
    }
    if is_ramp && (given.is_some() || rate.is_some() || is_herd) {
        let key = if given.is_some() { "fleet.interval" } else { "fleet.rate" };
        let message = "[ramp] finds the rate itself: leave out fleet.interval, fleet.rate and [herd]";
        reader.object(key, message.to_owned());
    }
    let interval = match rate {
        Some(rate) => Duration::from_secs_f64((agents as f64 / rate).clamp(1e-6, 1e9)),
        None => given.unwrap_or(SECOND * 10),
    };
    let within = within.unwrap_or(SECOND.min(interval));
    if is_herd && within > interval {
        reader.object("herd.within", "herd.within must not be more than fleet.interval".to_owned());
    }
    let schedule = if is_herd { Schedule::herd(agents, interval, within) } else { Schedule::every(agents, interval) };
    (interval, schedule)
}

fn read_transport(reader: &mut Reader) -> (Credentials, Transport) {
    let credentials = reader.choice("fleet.tokens", &[("own", Credentials::Own), ("admin", Credentials::Admin)]);
    let connections = reader.whole("load.connections", 64, 1..=60_000);
    let keep_alive = reader.boolean("load.keep_alive", true);
    let beats = reader.whole("load.batch", 1, 1..=MAX_BATCH);
    let gather = reader.duration("load.gather", MILLISECOND * 10, MILLISECOND..=SECOND * 10);
    let limit = reader.duration("load.answer_within", SECOND * 10, MILLISECOND * 10..=SECOND * 600);
    if beats > 1 && credentials == Credentials::Own {
        let message = "load.batch needs fleet.tokens = \"admin\": a batch is sent with the admin token";
        reader.object("load.batch", message.to_owned());
    }
    let transport = Transport {
        connections: usize::try_from(connections).unwrap_or(usize::MAX),
        keep_alive: if keep_alive { KeepAlive::Yes } else { KeepAlive::No },
        batching: (beats > 1).then_some(Batching { beats, gather }),
        limit,
    };
    (credentials, transport)
}

fn read_server(reader: &mut Reader, interval: Duration, course: &Course) -> ServerPlan {
    let default_ms = match course {
        Course::Ramp(_) => LONG_TIMEOUT_MS,
        Course::Steady(_) | Course::Silence(_) | Course::Restart(_) | Course::Outage(_) => {
            u64::try_from(interval.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX)
        }
    };
    let default_ms = default_ms.clamp(*TIMEOUTS_MS.start(), *TIMEOUTS_MS.end());
    let timeout_ms = reader.whole("server.timeout_ms", default_ms, TIMEOUTS_MS);
    let stores = [("embedded", StorePlan::Embedded), ("redis", StorePlan::Redis), ("memory", StorePlan::Memory)];
    let store = reader.choice("server.store", &stores);
    if matches!(course, Course::Outage(_)) && store != StorePlan::Redis {
        let message = "[outage] needs server.store = \"redis\": that is the store that is stopped";
        reader.object("server.store", message.to_owned());
    }
    if matches!(course, Course::Restart(_)) && store == StorePlan::Memory {
        let message = "[restart] needs server.store = \"embedded\" or \"redis\": in memory no fleet survives";
        reader.object("server.store", message.to_owned());
    }
    ServerPlan {
        timeout: Duration::from_millis(timeout_ms),
        tls: reader.boolean("server.tls", false),
        store,
        args: reader.texts("server.args"),
    }
}

/// Whether the run is long enough to see what it is for.
fn check_times(
    reader: &mut Reader,
    course: &Course,
    agents: u64,
    interval: Duration,
    beside: &Beside,
    server: &ServerPlan,
) {
    if beside.probe.is_some_and(|probe| probe.interval() > server.timeout) {
        let message = "probe.rate is too low: each of probe.agents must beat once in server.timeout_ms";
        reader.object("probe.rate", message.to_owned());
    }
    match course {
        Course::Steady(_) | Course::Ramp(_) => {}
        Course::Silence(plan) => {
            if plan.share * (agents as f64) < 1.0 {
                reader.object("silence.share", "silence.share of fleet.agents is less than one agent".to_owned());
            }
            if interval > server.timeout {
                let message = "server.timeout_ms must not be less than fleet.interval: everybody would go stale";
                reader.object("server.timeout_ms", message.to_owned());
            }
        }
        Course::Restart(incident) | Course::Outage(incident) => {
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

#[cfg(test)]
mod tests;

//! Scenarios: what is to be done to a server, and the limits it is held to. Read from small TOML files.
//!
//! It promises that what comes out makes sense: ranges are checked, and settings that exclude each
//! other are told. It knows nothing of how a run is done.

mod beside;
mod course;
mod idle;
mod reader;
mod thresholds;

use std::path::Path;
use std::time::Duration;

use crate::load::{Batching, Credentials, Schedule, Transport};
use crate::server::{ServerPlan, StorePlan};
use crate::wire::KeepAlive;

pub(crate) use beside::{Beside, ListPlan, ProbePlan, ThreatsPlan};
pub(crate) use course::{ComparePlan, Course, Incident, RampPlan, SideKind, SilencePlan, SurveyPlan};
pub(crate) use idle::IdlePlan;
use reader::Reader;
pub(crate) use thresholds::{FIGURES, Figures, Thresholds, Verdict, with_unit};

macro_rules! built_in {
    ($($name:literal)*) => {
        /// Scenarios that are part of the program: their names and texts.
        pub(crate) const BUILT_IN: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../scenarios/", $name, ".toml")))),*];
    };
}

// The ramp is the first of a tour: it says how much this machine can be asked for.
built_in! {
    "ramp" "steady" "herd" "churn" "silence" "list" "threats" "readers" "restart" "store-outage"
    "beat" "compare" "idle" "register" "fleet" "history" "million"
}

/// Those that are no part of a tour: they take too long, or measure what it costs rather than what holds.
pub(crate) const NOT_ON_TOUR: [&str; 7] = ["beat", "compare", "idle", "register", "fleet", "history", "million"];

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
/// Lines of a batch that the server takes.
const MAX_BATCH: u64 = 10_000;
/// No agent is stale before that, for loads in which timers are not the point.
const LONG_TIMEOUT_MS: u64 = 86_400_000;
const TIMEOUTS_MS: std::ops::RangeInclusive<u64> = 100..=2_592_000_000;

#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) agents: u64,
    /// When they do; without meaning for a ramp.
    pub(crate) schedule: Schedule,
    /// How often each does; without meaning for a ramp.
    pub(crate) interval: Duration,
    pub(crate) credentials: Credentials,
    pub(crate) transport: Transport,
    /// For how long they beat before anything is counted.
    pub(crate) warm_up: Duration,
    pub(crate) course: Course,
    pub(crate) beside: Beside,
    /// What is asked of the server and its fleet before they beat.
    pub(crate) survey: Option<SurveyPlan>,
    /// Whether agents are deregistered from a server that goes on.
    pub(crate) deregister: bool,
    pub(crate) server: ServerPlan,
    /// What the run is held to.
    pub(crate) thresholds: Thresholds,
    pub(crate) settings: Vec<(String, String)>,
}

impl Scenario {
    /// Reads a scenario; `sets` are `section.key=value` that hold over what is in the file. Fails with all mistakes, a
    /// line for each.
    pub(crate) fn read(file: &Path, text: &str, sets: &[String]) -> Result<Self, String> {
        let mut settings = Reader::read(file, text, sets);
        let reader = &mut settings;
        let description = reader.text("description").unwrap_or_default();
        let survey = SurveyPlan::read(reader);
        let course = Course::read(reader, survey.is_some());
        let agents = reader.whole("fleet.agents", 10_000, 1..=50_000_000);
        let (interval, schedule) = read_schedule(reader, agents, &course);
        let (credentials, transport) = read_transport(reader);
        let warm_up = reader.duration("load.warm_up", SECOND * 2, Duration::ZERO..=DAY);
        let beside = Beside::read(reader, credentials, &course);
        let deregister = reader.boolean("fleet.deregister", true);
        let server = read_server(reader, interval, &course);
        let thresholds = Thresholds::read(reader);
        course.check(reader, agents, interval, &transport, &server);
        beside.check(reader, &server);
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
            survey,
            deregister,
            server,
            thresholds,
            settings: settings.finish()?,
        })
    }

    /// Whether it does something to the server that only its owner may.
    pub(crate) fn is_disturbing(&self) -> bool {
        self.survey.is_some() || matches!(self.course, Course::Restart(_) | Course::Outage(_))
    }

    /// Whether a server keeps its fleet in Redis.
    pub(crate) fn uses_redis(&self) -> bool {
        match &self.course {
            Course::Compare(ComparePlan { sides, .. }) | Course::Idle(IdlePlan { sides, .. }) => {
                sides.contains(&SideKind::Engine(StorePlan::Redis))
            }
            _ => self.server.store == StorePlan::Redis,
        }
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
        Course::Ramp(_) | Course::Compare(_) | Course::Idle(_) | Course::Surveyed => LONG_TIMEOUT_MS,
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
        room: None,
    }
}

#[cfg(test)]
mod tests;

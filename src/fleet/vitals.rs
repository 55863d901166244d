//! What a heartbeat tells of an agent besides that it is alive.

use serde::{Deserialize, de::IgnoredAny};
use utoipa::ToSchema;

use super::{
    agent_id::AgentId,
    schema::{Count, Percent},
    text::{FieldError, Text},
};
use crate::limits::{MODE_MAX_CHARS, NUMBER_MAX, PERCENT_MAX, VERSION_MAX_CHARS};

/// One heartbeat, validated. A field that is `None` keeps its last value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heartbeat {
    /// The figures it carries.
    pub vitals: Vitals,
    /// The Guard's version, if it told one.
    pub version: Option<Text<VERSION_MAX_CHARS>>,
}

/// The last known figures of an agent; `None` until reported.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vitals {
    /// Seconds since the Guard started.
    pub uptime: Option<f64>,
    /// Processor use of the machine, 0 to 100 percent.
    pub cpu: Option<f64>,
    /// Memory use of the machine, 0 to 100 percent.
    pub memory: Option<f64>,
    /// What only the published Guard client sends. Boxed: most fleets' agents have none.
    pub report: Option<Box<GuardReport>>,
}

/// The figures that the published Guard client adds to its heartbeats.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GuardReport {
    /// Its mode of operation, in its own words.
    pub mode: Option<Box<str>>,
    /// Security events it has looked at since it started.
    pub events_processed: Option<f64>,
    /// Threats it has found since it started.
    pub threats_detected: Option<f64>,
    /// Responses it has carried out since it started.
    pub actions_executed: Option<f64>,
    /// Its own memory use, in megabytes.
    pub memory_usage_mb: Option<f64>,
}

impl GuardReport {
    /// Its counts, under the names they have in the API.
    pub fn counts(&self) -> [(&'static str, Option<f64>); 4] {
        [
            ("eventsProcessed", self.events_processed),
            ("threatsDetected", self.threats_detected),
            ("actionsExecuted", self.actions_executed),
            ("memoryUsageMB", self.memory_usage_mb),
        ]
    }
}

#[cfg(test)]
impl Vitals {
    /// Takes over every figure that `newer` carries: what [`super::figures::Figures`] must do in half the room.
    pub fn update(&mut self, newer: Self) {
        fn take<T>(old: &mut Option<T>, new: Option<T>) {
            if new.is_some() {
                *old = new;
            }
        }
        take(&mut self.uptime, newer.uptime);
        take(&mut self.cpu, newer.cpu);
        take(&mut self.memory, newer.memory);
        if let Some(newer) = newer.report {
            let report = self.report.get_or_insert_default();
            take(&mut report.mode, newer.mode);
            take(&mut report.events_processed, newer.events_processed);
            take(&mut report.threats_detected, newer.threats_detected);
            take(&mut report.actions_executed, newer.actions_executed);
            take(&mut report.memory_usage_mb, newer.memory_usage_mb);
        }
    }
}

type Version = Text<VERSION_MAX_CHARS>;
type Mode = Text<MODE_MAX_CHARS>;

// Not in the comment below, which is part of the API's document: `Id` is what becomes of a field `id`: of a heartbeat that
// comes alone nothing, as its agent is named by its path.
/// What an agent tells of itself with a heartbeat. A field that is left out, or null, keeps its last value; unknown ones
/// are ignored.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Heartbeat, bound = "")]
pub struct HeartbeatBody<Id = IgnoredAny> {
    #[serde(default)]
    #[schema(ignore)]
    id: Id,
    /// Seconds since the Guard started.
    #[schema(value_type = Option<Count>)]
    uptime: Option<f64>,
    /// Processor use of the machine, in percent.
    #[schema(value_type = Option<Percent>)]
    cpu: Option<f64>,
    /// Memory use of the machine, in percent.
    #[schema(value_type = Option<Percent>)]
    memory: Option<f64>,
    /// Version of the Guard: it was upgraded.
    #[schema(value_type = Option<Version>)]
    version: Option<Box<str>>,
    /// The Guard's mode of operation, in its own words.
    #[schema(value_type = Option<Mode>)]
    mode: Option<Box<str>>,
    /// Security events that the Guard has looked at since it started.
    #[schema(value_type = Option<Count>)]
    events_processed: Option<f64>,
    /// Threats it has found since it started.
    #[schema(value_type = Option<Count>)]
    threats_detected: Option<f64>,
    /// Responses it has carried out since it started.
    #[schema(value_type = Option<Count>)]
    actions_executed: Option<f64>,
    /// Its own memory use, in megabytes.
    #[serde(rename = "memoryUsageMB")]
    #[schema(value_type = Option<Count>)]
    memory_usage_mb: Option<f64>,
}

/// What each field of a heartbeat must be, for the error that names it.
pub const HEARTBEAT_FIELDS: &[(&str, &str)] = &[
    ("id", "a string"),
    ("uptime", COUNT),
    ("cpu", PERCENT),
    ("memory", PERCENT),
    ("version", "a string of 1 to 64 characters"),
    ("mode", "a string of 1 to 64 characters"),
    ("eventsProcessed", COUNT),
    ("threatsDetected", COUNT),
    ("actionsExecuted", COUNT),
    ("memoryUsageMB", COUNT),
];

const PERCENT: &str = "a number from 0 to 100";
const COUNT: &str = "a number from 0 to 9007199254740991";

/// A heartbeat in a batch: one line of it.
pub type RelayedBody = HeartbeatBody<RelayedId>;

/// Whose heartbeat a line of a batch is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RelayedId {
    /// The line does not say.
    #[default]
    Missing,
    /// A name that no agent can have.
    Nobody,
    /// This agent's.
    Agent(AgentId),
}

impl<'de> Deserialize<'de> for RelayedId {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> serde::de::Visitor<'de> for Text {
            type Value = RelayedId;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string")
            }

            fn visit_none<E>(self) -> Result<RelayedId, E> {
                Ok(RelayedId::Missing)
            }

            fn visit_some<D: serde::Deserializer<'de>>(self, from: D) -> Result<RelayedId, D::Error> {
                from.deserialize_str(self)
            }

            fn visit_str<E>(self, text: &str) -> Result<RelayedId, E> {
                Ok(text.parse().map_or(RelayedId::Nobody, RelayedId::Agent))
            }
        }
        from.deserialize_option(Text)
    }
}

impl RelayedBody {
    /// Whose heartbeat it is.
    pub fn id(&self) -> RelayedId {
        self.id
    }
}

impl<Id> TryFrom<HeartbeatBody<Id>> for Heartbeat {
    type Error = FieldError;

    fn try_from(body: HeartbeatBody<Id>) -> Result<Self, FieldError> {
        let mode = body.mode.map(|mode| Text::<MODE_MAX_CHARS>::new("mode", mode)).transpose()?;
        let report = GuardReport {
            mode: mode.map(Text::into_inner),
            events_processed: bounded("eventsProcessed", body.events_processed, NUMBER_MAX, COUNT)?,
            threats_detected: bounded("threatsDetected", body.threats_detected, NUMBER_MAX, COUNT)?,
            actions_executed: bounded("actionsExecuted", body.actions_executed, NUMBER_MAX, COUNT)?,
            memory_usage_mb: bounded("memoryUsageMB", body.memory_usage_mb, NUMBER_MAX, COUNT)?,
        };
        Ok(Self {
            vitals: Vitals {
                uptime: bounded("uptime", body.uptime, NUMBER_MAX, COUNT)?,
                cpu: bounded("cpu", body.cpu, PERCENT_MAX, PERCENT)?,
                memory: bounded("memory", body.memory, PERCENT_MAX, PERCENT)?,
                report: (report != GuardReport::default()).then(|| Box::new(report)),
            },
            version: body.version.map(|version| Text::new("version", version)).transpose()?,
        })
    }
}

fn bounded(field: &'static str, number: Option<f64>, max: f64, expected: &str) -> Result<Option<f64>, FieldError> {
    match number {
        // Adding zero turns -0 into 0, which is what will be shown.
        Some(n) if (0.0..=max).contains(&n) => Ok(Some(n + 0.0)),
        Some(_) => Err(FieldError::new(field, expected)),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Heartbeat, FieldError> {
        serde_json::from_str::<HeartbeatBody>(json).unwrap().try_into()
    }

    #[test]
    fn bounds_are_inclusive_and_the_error_names_the_field() {
        assert!(parse(r#"{"cpu":0,"memory":100,"uptime":0}"#).is_ok());
        for (json, field) in [
            (r#"{"cpu":100.01}"#, "cpu"),
            (r#"{"memory":-0.01}"#, "memory"),
            (r#"{"uptime":-1}"#, "uptime"),
            (r#"{"eventsProcessed":1e300}"#, "eventsProcessed"),
            (r#"{"version":""}"#, "version"),
            (r#"{"mode":""}"#, "mode"),
        ] {
            assert_eq!(parse(json).unwrap_err().field, field);
        }
    }

    #[test]
    fn a_field_left_out_keeps_its_last_value() {
        let mut vitals =
            parse(r#"{"cpu":1,"memory":2,"uptime":3,"mode":"learning","threatsDetected":4}"#).unwrap().vitals;
        vitals.update(parse(r#"{"cpu":null,"memory":20,"eventsProcessed":5}"#).unwrap().vitals);
        assert_eq!((vitals.cpu, vitals.memory, vitals.uptime), (Some(1.0), Some(20.0), Some(3.0)));
        let report = vitals.report.unwrap();
        assert_eq!(report.mode.as_deref(), Some("learning"));
        assert_eq!((report.threats_detected, report.events_processed), (Some(4.0), Some(5.0)));
    }

    #[test]
    fn every_field_has_its_rule_told() {
        for (field, _) in HEARTBEAT_FIELDS {
            let wrong = format!(r#"{{"{field}":[]}}"#);
            assert!(serde_json::from_str::<RelayedBody>(&wrong).is_err(), "{field} is a field");
        }
    }

    #[test]
    fn a_line_of_a_batch_names_its_agent_and_a_heartbeat_alone_need_not() {
        let id = |json| serde_json::from_str::<RelayedBody>(json).unwrap().id();
        assert_eq!(id(r#"{"id":"agent-000000000000000a"}"#), RelayedId::Agent(AgentId::new(10)));
        assert_eq!(id(r#"{"id":"\u0061gent-000000000000000a"}"#), RelayedId::Agent(AgentId::new(10)));
        assert_eq!(id(r#"{"id":"web-1"}"#), RelayedId::Nobody);
        assert_eq!(id("{}"), RelayedId::Missing);
        assert!(parse(r#"{"id":[5]}"#).is_ok());
    }
}

//! What an agent reports, as it is sent: an array of events, or the one event of the published Guard client.

use std::{collections::BTreeMap, net::IpAddr};

use chrono::{DateTime, Datelike};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::{RawValue, to_raw_value};
use utoipa::ToSchema;

use super::{Severity, readable::is_readable};
use crate::{
    fleet::{FieldError, MissingFields, Moment, Text, Timestamp},
    limits::{EVENT_DETAILS_MAX_BYTES, EVENT_TYPE_MAX_CHARS, RULE_ID_MAX_CHARS},
};

/// One threat as an agent reports it, validated.
#[derive(Clone, Debug)]
pub struct Event {
    /// What kind of threat it is.
    pub kind: Box<str>,
    /// How bad it is.
    pub severity: Severity,
    /// How sure the agent is: 0 to 1.
    pub confidence: Option<f64>,
    /// The rule that noticed it.
    pub rule_id: Option<Box<str>>,
    /// Where it came from, if the details tell.
    pub source_ip: Option<IpAddr>,
    /// When it happened, by the agent's own clock.
    pub occurred_at: Option<Timestamp>,
    /// A JSON object: all else that is known of it.
    pub details: Box<RawValue>,
}

type Kind = Text<EVENT_TYPE_MAX_CHARS>;
type RuleId = Text<RULE_ID_MAX_CHARS>;

/// The fields of an object whose values are kept as they were sent. Not as serde_json's `Value`: that would change numbers
/// that it cannot hold, and reads an object that looks like its own way of passing raw JSON as what is in it.
pub type Fields = BTreeMap<String, Box<RawValue>>;

/// The body of a report: `events`, or an `event` with a `verdict`.
#[derive(Debug, Default, Deserialize)]
pub struct ReportBody {
    /// Many events.
    pub events: Option<Vec<Box<RawValue>>>,
    /// One, from the published Guard client.
    pub event: Option<Fields>,
    /// What the published Guard client thinks of it.
    pub verdict: Option<Fields>,
}

/// What each field of a report must be, for the error that names it.
pub const REPORT_FIELDS: &[(&str, &str)] =
    &[("events", "an array of 1 to 100 objects"), ("event", "an object"), ("verdict", "an object")];

/// One of the events of a report. Unknown fields are ignored; `null` is the same as left out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ReportedEvent)]
pub struct EventBody {
    /// What kind of threat it is: `brute_force`, or any other text.
    #[schema(value_type = Kind)]
    r#type: Option<Box<str>>,
    /// How bad it is.
    #[schema(value_type = Severity)]
    severity: Option<Box<str>>,
    /// All else that is known of it, at most 64 KiB. An address in `sourceIP`, `sourceIp`, `source_ip` or `remoteAddress`,
    /// here or in a `metadata` within, is counted as where it came from.
    #[schema(value_type = Object)]
    details: Option<Box<RawValue>>,
    /// When it happened, by the agent's own clock.
    #[schema(value_type = Option<Moment>)]
    timestamp: Option<Box<str>>,
    /// The rule that noticed it.
    #[schema(value_type = Option<RuleId>)]
    rule_id: Option<Box<str>>,
    /// How sure the agent is.
    #[schema(minimum = 0, maximum = 1)]
    confidence: Option<f64>,
}

/// What each field of an event must be, for the error that names it.
pub const EVENT_FIELDS: &[(&str, &str)] = &[
    ("type", TYPE),
    ("severity", SEVERITY),
    ("details", DETAILS),
    ("timestamp", TIMESTAMP),
    ("ruleId", "a string of 1 to 128 characters"),
    ("confidence", CONFIDENCE),
];

const TYPE: &str = "a string of 1 to 128 characters";
const SEVERITY: &str = "low, medium, high or critical";
const DETAILS: &str = "an object of at most 65536 bytes that can be read as JSON";
const TIMESTAMP: &str = "a time such as 2026-03-07T12:05:00Z";
const CONFIDENCE: &str = "a number from 0 to 1";

/// Why an event is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEvent {
    /// Required fields that were left out.
    #[error(transparent)]
    Missing(#[from] MissingFields),
    /// A field that breaks its rule.
    #[error(transparent)]
    Field(#[from] FieldError),
}

impl TryFrom<EventBody> for Event {
    type Error = InvalidEvent;

    fn try_from(body: EventBody) -> Result<Self, InvalidEvent> {
        let EventBody { r#type: Some(kind), severity: Some(severity), details: Some(details), .. } = body else {
            let EventBody { r#type, severity, details, .. } = body;
            let required =
                [("type", r#type.is_some()), ("severity", severity.is_some()), ("details", details.is_some())];
            return Err(MissingFields::of(required).into());
        };
        let rule_id = body.rule_id.map(|rule| RuleId::new("ruleId", rule)).transpose()?;
        let occurred_at = body.timestamp.map(|time| moment(&time).ok_or(FieldError::new("timestamp", TIMESTAMP)));
        Ok(Self {
            kind: kind_of("type", kind)?,
            severity: severity.parse().map_err(|()| FieldError::new("severity", SEVERITY))?,
            confidence: fraction(body.confidence, 1.0).ok_or(FieldError::new("confidence", CONFIDENCE))?,
            rule_id: rule_id.map(Text::into_inner),
            source_ip: source_in(&details),
            occurred_at: occurred_at.transpose()?,
            details: object_of("details", details)?,
        })
    }
}

impl Event {
    /// The one event of the published Guard client: its category is the type, its verdict has the confidence in percent, and
    /// the details are the rest of both. What it calls `info` is low.
    pub fn of_guard(mut event: Fields, verdict: Option<Fields>) -> Result<Self, InvalidEvent> {
        let mut take = |field: &str| event.remove(field).filter(|value| value.get() != "null");
        let (kind, severity) = (take("category"), take("severity"));
        let (Some(kind), Some(severity)) = (&kind, &severity) else {
            let required = [("event.category", kind.is_some()), ("event.severity", severity.is_some())];
            return Err(MissingFields::of(required).into());
        };
        let kind = read::<Box<str>>(kind).ok_or(FieldError::new("event.category", TYPE))?;
        let severity = match read::<Box<str>>(severity).as_deref() {
            Some("info") => Some(Severity::Low),
            name => name.and_then(|name| name.parse().ok()),
        };
        let severity = severity.ok_or(FieldError::new("event.severity", "info, low, medium, high or critical"))?;
        let mut verdict = verdict.unwrap_or_default();
        let percent = || FieldError::new("verdict.confidence", "a number from 0 to 100");
        let confidence = match verdict.remove("confidence") {
            Some(given) => fraction(read::<Option<f64>>(&given).ok_or_else(percent)?, 100.0).ok_or_else(percent)?,
            None => None,
        };
        let occurred_at = event.get("timestamp").and_then(|time| moment(&read::<Box<str>>(time)?));
        let to_raw = |fields: &Fields| to_raw_value(fields).expect("an object has only string keys");
        if !verdict.is_empty() {
            event.insert("verdict".to_owned(), to_raw(&verdict));
        }
        let details = to_raw(&event);
        Ok(Self {
            kind: kind_of("event.category", kind)?,
            severity,
            // Not 0.9990000000000001 for 99.9.
            confidence: confidence.map(|percent| (percent * 1e4).round() / 1e6),
            rule_id: None,
            source_ip: source_in(&details),
            occurred_at,
            details: object_of("event", details)?,
        })
    }
}

fn read<T: DeserializeOwned>(value: &RawValue) -> Option<T> {
    serde_json::from_str(value.get()).ok()
}

fn kind_of(field: &'static str, kind: Box<str>) -> Result<Box<str>, FieldError> {
    Ok(Kind::new(field, kind)?.into_inner())
}

/// A number from 0 to `most`, if one is given.
fn fraction(given: Option<f64>, most: f64) -> Option<Option<f64>> {
    match given {
        // Adding zero turns -0 into 0, which is what will be shown.
        Some(number) => (0.0..=most).contains(&number).then_some(Some(number + 0.0)),
        None => Some(None),
    }
}

/// A time that can be written as it was read: of a year with four digits.
fn moment(text: &str) -> Option<Timestamp> {
    let moment = DateTime::parse_from_rfc3339(text).ok()?.to_utc();
    (0..=9_999).contains(&moment.year()).then(|| Timestamp::from_millis(moment.timestamp_millis()))
}

fn object_of(field: &'static str, details: Box<RawValue>) -> Result<Box<RawValue>, FieldError> {
    let text = details.get();
    let fits = text.starts_with('{') && text.len() <= EVENT_DETAILS_MAX_BYTES && is_readable(text);
    if fits { Ok(details) } else { Err(FieldError::new(field, DETAILS)) }
}

/// The address that an attack came from, under the names that Guards use: in the details, or in their `metadata`.
fn source_in(details: &RawValue) -> Option<IpAddr> {
    const NAMES: [&str; 4] = ["sourceIP", "sourceIp", "source_ip", "remoteAddress"];
    let address = |name: &&str, fields: &Fields| read::<Box<str>>(fields.get(*name)?)?.parse::<IpAddr>().ok();
    let named = |fields: &Fields| NAMES.iter().find_map(|name| address(name, fields)).map(|ip| ip.to_canonical());
    let details: Fields = read(details)?;
    named(&details).or_else(|| named(&read(details.get("metadata")?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(json: &str) -> Result<Event, InvalidEvent> {
        serde_json::from_str::<EventBody>(json).unwrap().try_into()
    }

    fn of_guard(json: &str) -> Result<Event, InvalidEvent> {
        let ReportBody { event, verdict, .. } = serde_json::from_str(json).unwrap();
        Event::of_guard(event.unwrap(), verdict)
    }

    #[test]
    fn an_event_has_a_type_a_severity_and_details() {
        let json = r#"{"type":"brute_force","severity":"high","details":{"sourceIP":"203.0.113.9", "n":1e2},
            "timestamp":"2026-03-07T13:05:00+01:00","ruleId":"r-1","confidence":0.5,"more":[]}"#;
        let event = event(json).unwrap();
        assert_eq!((&*event.kind, event.severity, event.confidence), ("brute_force", Severity::High, Some(0.5)));
        assert_eq!((event.rule_id.as_deref(), event.source_ip), (Some("r-1"), "203.0.113.9".parse().ok()));
        assert_eq!(event.occurred_at, Some(Timestamp::from_millis(1_772_885_100_000)));
        assert_eq!(event.details.get(), r#"{"sourceIP":"203.0.113.9", "n":1e2}"#, "as it was sent");
    }

    #[test]
    fn what_is_wrong_with_an_event_is_told() {
        for (json, error) in [
            ("{}", "Missing required fields: type, severity, details"),
            (r#"{"type":"t","severity":"low","details":null}"#, "Missing required field: details"),
            (r#"{"type":"","severity":"low","details":{}}"#, "type must be a string of 1 to 128 characters"),
            (r#"{"type":"t","severity":"LOW","details":{}}"#, "severity must be low, medium, high or critical"),
            (
                r#"{"type":"t","severity":"low","details":[]}"#,
                "details must be an object of at most 65536 bytes that can be read as JSON",
            ),
            (
                r#"{"type":"t","severity":"low","details":{},"confidence":1.01}"#,
                "confidence must be a number from 0 to 1",
            ),
            (
                r#"{"type":"t","severity":"low","details":{},"timestamp":"noon"}"#,
                "timestamp must be a time such as 2026-03-07T12:05:00Z",
            ),
            (
                r#"{"type":"t","severity":"low","details":{},"ruleId":""}"#,
                "ruleId must be a string of 1 to 128 characters",
            ),
        ] {
            assert_eq!(event(json).unwrap_err().to_string(), error);
        }
        for details in [r#"{"a":["\ud800"]}"#, r#"{"a":{"b":1e999}}"#] {
            let error = event(&format!(r#"{{"type":"t","severity":"low","details":{details}}}"#)).unwrap_err();
            assert_eq!(error.to_string(), format!("details must be {DETAILS}"));
        }
        for time in ["9999-12-31T23:59:59-23:00", "0000-01-01T00:00:00+23:00"] {
            assert!(event(&format!(r#"{{"type":"t","severity":"low","details":{{}},"timestamp":"{time}"}}"#)).is_err());
        }
        let long =
            format!(r#"{{"type":"t","severity":"low","details":{{"a":"{}"}}}}"#, "a".repeat(EVENT_DETAILS_MAX_BYTES));
        assert_eq!(
            event(&long).unwrap_err().to_string(),
            "details must be an object of at most 65536 bytes that can be read as JSON"
        );
    }

    #[test]
    fn the_published_client_s_event_is_one_threat() {
        let json = r#"{"event":{"id":"e1","timestamp":"2026-03-07T12:05:00.000Z","source":"network","severity":"info",
            "category":"port_scan","description":"d","raw":{},"host":"web-1","metadata":{"remoteAddress":"2001:db8::1"}},
            "verdict":{"conclusion":"malicious","confidence":85,"action":"block_ip"}}"#;
        let event = of_guard(json).unwrap();
        assert_eq!((&*event.kind, event.severity, event.confidence), ("port_scan", Severity::Low, Some(0.85)));
        assert_eq!(event.source_ip, "2001:db8::1".parse().ok());
        let details: serde_json::Value = serde_json::from_str(event.details.get()).unwrap();
        assert_eq!(details["verdict"], serde_json::json!({"conclusion": "malicious", "action": "block_ip"}));
        assert_eq!((&details["id"], &details["category"]), (&"e1".into(), &serde_json::Value::Null));
    }

    #[test]
    fn the_published_client_s_event_is_kept_as_it_was_sent() {
        // What serde_json itself passes raw JSON with, and a number that it cannot hold.
        let metadata = r#"{"$serde_json::private::RawValue":"[[1]]","n":123456789012345678901234567890,"s":"\u00fc"}"#;
        let json = format!(r#"{{"event":{{"category":"c","severity":"low","metadata":{metadata}}}}}"#);
        assert_eq!(of_guard(&json).unwrap().details.get(), format!(r#"{{"metadata":{metadata}}}"#));
    }

    #[test]
    fn what_is_wrong_with_the_published_client_s_event_is_told() {
        for (json, error) in [
            (r#"{"event":{}}"#, "Missing required fields: event.category, event.severity"),
            (r#"{"event":{"category":1,"severity":"low"}}"#, "event.category must be a string of 1 to 128 characters"),
            (
                r#"{"event":{"category":"c","severity":"x"}}"#,
                "event.severity must be info, low, medium, high or critical",
            ),
            (
                r#"{"event":{"category":"c","severity":"low"},"verdict":{"confidence":101}}"#,
                "verdict.confidence must be a number from 0 to 100",
            ),
        ] {
            assert_eq!(of_guard(json).unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn every_field_has_its_rule_told() {
        for (field, _) in EVENT_FIELDS.iter().filter(|(field, _)| *field != "details") {
            assert!(serde_json::from_str::<EventBody>(&format!(r#"{{"{field}":[]}}"#)).is_err(), "{field} is a field");
        }
        for (field, _) in REPORT_FIELDS {
            assert!(serde_json::from_str::<ReportBody>(&format!(r#"{{"{field}":5}}"#)).is_err(), "{field} is a field");
        }
    }
}

//! What the published Guard client reports: one event, with its verdict.

use std::{borrow::Cow, collections::BTreeMap, net::IpAddr, str::FromStr};

use serde::{
    Deserialize,
    de::{DeserializeOwned, value::MapDeserializer},
};
use serde_json::{
    json,
    value::{RawValue, to_raw_value},
};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

use super::{
    json::{InvalidObject, message},
    values::{Details, EventType, Moment, Percent, from_text, must_be, reads, schema},
};
use crate::threats::{ReportedThreat, Severity};

/// The fields of an object whose values are kept as they were sent. Not as serde_json's `Value`: that would change numbers
/// that it cannot hold, and reads an object that looks like its own way of passing raw JSON as what is in it.
#[derive(Debug, Default)]
pub(super) struct Fields(BTreeMap<String, Box<RawValue>>);

reads!(Fields, |from| BTreeMap::deserialize(from).map(Self).map_err(|_| must_be("an object")));

impl Fields {
    /// The fields that a type has; `what` has them, for the error.
    fn read<T: DeserializeOwned>(&self, what: &str) -> Result<T, InvalidObject> {
        let fields = self.0.iter().map(|(name, value)| (&**name, &**value));
        serde_path_to_error::deserialize(MapDeserializer::<_, serde_json::Error>::new(fields))
            .map_err(|error| InvalidObject::Field(format!("{what}.{} {}", error.path(), message(error.inner()))))
    }

    fn to_json(&self) -> Box<RawValue> {
        to_raw_value(&self.0).expect("an object has only string keys")
    }
}

/// What happened, in the words of the published Guard client.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(super) struct GuardEvent {
    /// What kind of threat it is.
    #[schema(value_type = EventType)]
    category: Option<EventType>,
    /// How bad it is; `info` is low.
    #[schema(value_type = GuardSeverity)]
    severity: Option<GuardSeverity>,
}

/// How bad the published Guard client may call a threat.
#[derive(Debug)]
pub(super) struct GuardSeverity(Severity);

impl FromStr for GuardSeverity {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        if name == "info" { Ok(Self(Severity::Low)) } else { name.parse().map(Self) }
    }
}

reads!(GuardSeverity, |from| from_text(from, "info, low, medium, high or critical"));

schema!(GuardSeverity, "GuardSeverity", {
    "type": "string",
    "description": "How bad the published Guard client may call a threat.",
    "enum": ["info", "low", "medium", "high", "critical"],
});

/// What the published Guard client thinks of it.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(super) struct GuardVerdict {
    /// How sure it is, in percent.
    confidence: Option<Percent>,
}

/// The one event of the published Guard client: its category is the type, its verdict has the confidence in percent, and the
/// details are the rest of both.
pub(super) fn of_guard(mut event: Fields, mut verdict: Fields) -> Result<ReportedThreat, InvalidObject> {
    let GuardEvent { category, severity } = event.read("event")?;
    let given = [category.is_some(), severity.is_some()];
    let (Some(kind), Some(GuardSeverity(severity))) = (category, severity) else {
        return Err(InvalidObject::missing([("event.category", given[0]), ("event.severity", given[1])]));
    };
    let GuardVerdict { confidence } = verdict.read("verdict")?;
    let occurred_at = event.0.get("timestamp").and_then(|time| read::<Moment>(time)).map(|Moment(time)| time);
    for taken in ["category", "severity"] {
        event.0.remove(taken);
    }
    verdict.0.remove("confidence");
    if !verdict.0.is_empty() {
        event.0.insert("verdict".to_owned(), verdict.to_json());
    }
    let Details(details) = Details::of(event.to_json()).ok_or_else(|| InvalidObject::field("event", Details::RULE))?;
    Ok(ReportedThreat {
        kind: kind.into_inner(),
        severity,
        // Not 0.9990000000000001 for 99.9.
        confidence: confidence.map(|percent| (percent.get() * 1e4).round() / 1e6),
        rule_id: None,
        source_ip: source_in(&details),
        occurred_at,
        details,
    })
}

fn read<T: DeserializeOwned>(value: &RawValue) -> Option<T> {
    serde_json::from_str(value.get()).ok()
}

/// The address that an attack came from, under the names that Guards use: in the details, or in their `metadata`.
pub(super) fn source_in(details: &RawValue) -> Option<IpAddr> {
    const NAMES: [&str; 4] = ["sourceIP", "sourceIp", "source_ip", "remoteAddress"];
    let address = |name: &&str, Fields(fields): &Fields| read::<Box<str>>(fields.get(*name)?)?.parse::<IpAddr>().ok();
    let named = |fields: &Fields| NAMES.iter().find_map(|name| address(name, fields)).map(|ip| ip.to_canonical());
    let details: Fields = read(details)?;
    named(&details).or_else(|| named(&read(details.0.get("metadata")?)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::report::tests::report;

    fn of_guard(json: &str) -> Result<ReportedThreat, String> {
        report(json).map(|mut events| events.remove(0))
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
    fn an_error_names_what_is_wrong_with_the_published_client_s_event() {
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
            assert_eq!(of_guard(json).unwrap_err(), error);
        }
    }
}

//! `POST /api/agents/:id/events`: an agent reports threats, as an array of events, or as the one event that the published
//! Guard client sends with its verdict.

use std::{borrow::Cow, collections::BTreeMap, net::IpAddr, str::FromStr};

use actix_web::{HttpResponse, http::StatusCode};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, value::MapDeserializer},
};
use serde_json::{
    json,
    value::{RawValue, to_raw_value},
};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ObjectBuilder, Ref, RefOr, Schema,
        schema::{ArrayBuilder, OneOfBuilder, SchemaType, Type},
    },
};

use super::{
    body,
    envelope::{self, ApiError},
    json::{Wrong, parse, parse_object},
    openapi::Description,
    readable::is_readable,
    routes::Call,
    values::{Fraction, Moment, Percent, from_text, must_be},
};
use crate::{
    fleet::Text,
    limits::{EVENT_DETAILS_MAX_BYTES, EVENT_TYPE_MAX_CHARS, REPORT_MAX_BYTES, REPORT_MAX_EVENTS, RULE_ID_MAX_CHARS},
    threats::{Event, Severity, ThreatId},
};

type Kind = Text<EVENT_TYPE_MAX_CHARS>;
type RuleId = Text<RULE_ID_MAX_CHARS>;

/// The body of a report: `events`, or an `event` with a `verdict`.
#[derive(Debug, Default, Deserialize)]
struct Report {
    events: Option<Events>,
    event: Option<Fields>,
    verdict: Option<Fields>,
}

/// Events that have yet to be looked into, one by one, so that an error can say which of them is wrong.
#[derive(Debug)]
struct Events(Vec<Box<RawValue>>);

impl<'de> Deserialize<'de> for Events {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let events = Vec::deserialize(from).ok().filter(|events| (1..=REPORT_MAX_EVENTS).contains(&events.len()));
        events.map(Self).ok_or_else(|| must_be(format_args!("an array of 1 to {REPORT_MAX_EVENTS} objects")))
    }
}

/// The fields of an object whose values are kept as they were sent. Not as serde_json's `Value`: that would change numbers
/// that it cannot hold, and reads an object that looks like its own way of passing raw JSON as what is in it.
#[derive(Debug, Default)]
struct Fields(BTreeMap<String, Box<RawValue>>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        BTreeMap::deserialize(from).map(Self).map_err(|_| must_be("an object"))
    }
}

impl Fields {
    /// The fields that a type has; `what` has them, for the error.
    fn read<T: DeserializeOwned>(&self, what: &str) -> Result<T, Wrong> {
        let fields = self.0.iter().map(|(name, value)| (&**name, &**value));
        serde_path_to_error::deserialize(MapDeserializer::<_, serde_json::Error>::new(fields)).map_err(|error| {
            let said = error.inner().to_string();
            let said = said.rsplit_once(" at line ").map_or(&*said, |(said, _)| said);
            Wrong::Field(format!("{what}.{} {said}", error.path()))
        })
    }

    fn to_json(&self) -> Box<RawValue> {
        to_raw_value(&self.0).expect("an object has only string keys")
    }
}

/// One of the events of a report. Unknown fields are ignored; `null` is the same as left out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ReportedEvent)]
struct ReportedEvent {
    /// What kind of threat it is: `brute_force`, or any other text.
    #[schema(value_type = Kind)]
    r#type: Option<Kind>,
    /// How bad it is.
    #[schema(value_type = Severity)]
    severity: Option<Severity>,
    /// All else that is known of it, at most 64 KiB. An address in `sourceIP`, `sourceIp`, `source_ip` or `remoteAddress`,
    /// here or in a `metadata` within, is counted as where it came from.
    #[schema(value_type = Object)]
    details: Option<Details>,
    /// When it happened, by the agent's own clock.
    timestamp: Option<Moment>,
    /// The rule that noticed it.
    rule_id: Option<RuleId>,
    /// How sure the agent is.
    #[schema(value_type = Option<f64>, minimum = 0, maximum = 1)]
    confidence: Option<Fraction>,
}

/// An object that is kept as it was sent.
#[derive(Debug)]
struct Details(Box<RawValue>);

impl Details {
    const RULE: &str = "an object of at most 65536 bytes that can be read as JSON";

    fn of(json: Box<RawValue>) -> Option<Self> {
        let text = json.get();
        let fits = text.starts_with('{') && text.len() <= EVENT_DETAILS_MAX_BYTES && is_readable(text);
        fits.then_some(Self(json))
    }
}

impl<'de> Deserialize<'de> for Details {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::of(Box::deserialize(from)?).ok_or_else(|| must_be(Self::RULE))
    }
}

/// What happened, in the words of the published Guard client.
#[derive(Debug, Default, Deserialize, ToSchema)]
struct GuardEvent {
    /// What kind of threat it is.
    #[schema(value_type = Kind)]
    category: Option<Kind>,
    /// How bad it is; `info` is low.
    #[schema(value_type = GuardSeverity)]
    severity: Option<GuardSeverity>,
}

/// How bad the published Guard client may call a threat.
#[derive(Debug)]
struct GuardSeverity(Severity);

impl FromStr for GuardSeverity {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        if name == "info" { Ok(Self(Severity::Low)) } else { name.parse().map(Self) }
    }
}

impl<'de> Deserialize<'de> for GuardSeverity {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from_text(from, "info, low, medium, high or critical")
    }
}

impl PartialSchema for GuardSeverity {
    fn schema() -> RefOr<Schema> {
        let names = ["info"].into_iter().chain(Severity::ALL.map(Severity::name));
        let about = "How bad the published Guard client may call a threat.";
        ObjectBuilder::new().schema_type(Type::String).description(Some(about)).enum_values(Some(names)).into()
    }
}

impl ToSchema for GuardSeverity {}

/// What the published Guard client thinks of it.
#[derive(Debug, Default, Deserialize, ToSchema)]
struct GuardVerdict {
    /// How sure it is, in percent.
    confidence: Option<Percent>,
}

impl PartialSchema for Report {
    fn schema() -> RefOr<Schema> {
        let null = || ObjectBuilder::new().schema_type(Type::Null);
        let refer = |name: Cow<'static, str>, about: &str| {
            let mut place = Ref::from_schema_name(name);
            place.description = about.into();
            place
        };
        let events = ArrayBuilder::new()
            .items(Ref::from_schema_name(ReportedEvent::name()))
            .min_items(Some(1))
            .max_items(Some(REPORT_MAX_EVENTS))
            .description(Some("What happened."));
        let passed_over = ObjectBuilder::new()
            .schema_type(SchemaType::from_iter([Type::Object, Type::Null]))
            .description(Some("Passed over."));
        let many = ObjectBuilder::new()
            .description(Some("A report of many events"))
            .property("events", events)
            .required("events")
            .property("event", null())
            .property("verdict", passed_over);
        let event = "What happened, at most 64 KiB with the verdict. All else in it is kept among the details.";
        let verdict = "What the Guard thinks of it. All else in it is kept among the details.";
        let guard = ObjectBuilder::new()
            .description(Some("What the published Guard client reports"))
            .property("events", null())
            .property("event", refer(GuardEvent::name(), event))
            .required("event")
            .property("verdict", OneOfBuilder::new().item(refer(GuardVerdict::name(), verdict)).item(null()));
        OneOfBuilder::new().item(many).item(guard).into()
    }
}

impl ToSchema for Report {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((ReportedEvent::name().into(), ReportedEvent::schema()));
        schemas.push((GuardEvent::name().into(), GuardEvent::schema()));
        schemas.push((GuardVerdict::name().into(), GuardVerdict::schema()));
        ReportedEvent::schemas(schemas);
        GuardEvent::schemas(schemas);
        GuardVerdict::schemas(schemas);
    }
}

impl TryFrom<Report> for Vec<Event> {
    type Error = Wrong;

    fn try_from(report: Report) -> Result<Self, Wrong> {
        match report {
            Report { events: Some(_), event: Some(_), .. } => {
                Err(Wrong::Whole("events and event cannot be given together".into()))
            }
            Report { events: Some(Events(events)), .. } => {
                let read =
                    |event: &RawValue| parse_object::<ReportedEvent>("event", event.get().as_bytes())?.try_into();
                let numbered = events.iter().enumerate().map(|(number, event)| {
                    read(event).map_err(|wrong: Wrong| Wrong::Whole(format!("events[{number}]: {wrong}")))
                });
                numbered.collect()
            }
            Report { event: Some(event), verdict, .. } => Ok(vec![of_guard(event, verdict.unwrap_or_default())?]),
            Report { .. } => Err(Wrong::missing([("events", false)])),
        }
    }
}

impl TryFrom<ReportedEvent> for Event {
    type Error = Wrong;

    fn try_from(event: ReportedEvent) -> Result<Self, Wrong> {
        let given = [event.r#type.is_some(), event.severity.is_some(), event.details.is_some()];
        let (Some(kind), Some(severity), Some(Details(details))) = (event.r#type, event.severity, event.details) else {
            return Err(Wrong::missing([("type", given[0]), ("severity", given[1]), ("details", given[2])]));
        };
        Ok(Self {
            kind: kind.into_inner(),
            severity,
            confidence: event.confidence.map(|Fraction(confidence)| confidence),
            rule_id: event.rule_id.map(Text::into_inner),
            source_ip: source_in(&details),
            occurred_at: event.timestamp.map(|Moment(time)| time),
            details,
        })
    }
}

/// The one event of the published Guard client: its category is the type, its verdict has the confidence in percent, and the
/// details are the rest of both.
fn of_guard(mut event: Fields, mut verdict: Fields) -> Result<Event, Wrong> {
    let GuardEvent { category, severity } = event.read("event")?;
    let given = [category.is_some(), severity.is_some()];
    let (Some(kind), Some(GuardSeverity(severity))) = (category, severity) else {
        return Err(Wrong::missing([("event.category", given[0]), ("event.severity", given[1])]));
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
    let Details(details) = Details::of(event.to_json()).ok_or_else(|| Wrong::field("event", Details::RULE))?;
    Ok(Event {
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
fn source_in(details: &RawValue) -> Option<IpAddr> {
    const NAMES: [&str; 4] = ["sourceIP", "sourceIp", "source_ip", "remoteAddress"];
    let address = |name: &&str, Fields(fields): &Fields| read::<Box<str>>(fields.get(*name)?)?.parse::<IpAddr>().ok();
    let named = |fields: &Fields| NAMES.iter().find_map(|name| address(name, fields)).map(|ip| ip.to_canonical());
    let details: Fields = read(details)?;
    named(&details).or_else(|| named(&read(details.0.get("metadata")?)?))
}

/// That threats were taken in.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Received {
    /// How many.
    received: usize,
    /// Their names, in the order of the report.
    event_ids: Vec<ThreatId>,
}

pub(super) fn describe() -> Description {
    let events = json!({
        "events": [{
            "type": "brute_force",
            "severity": "high",
            "details": { "sourceIP": "203.0.113.66", "attempts": 42 },
            "timestamp": "2026-03-07T12:04:59.000Z",
            "ruleId": "ssh-brute-force",
            "confidence": 0.93,
        }],
    });
    let guard = json!({
        "event": {
            "category": "port_scan",
            "severity": "medium",
            "source": "network",
            "metadata": { "sourceIP": "203.0.113.66" },
        },
        "verdict": { "conclusion": "suspicious", "confidence": 70, "action": "log_only" },
    });
    Description::new(
        "Threats",
        "reportThreats",
        "Report threats",
        "Of the agent: as an array of events, or as the one event that the published Guard client sends with its verdict. At most\n\
         1 MiB, also after `Content-Encoding: gzip`. The answer comes once all of them are durable; if one of them is wrong, none\n\
         is taken in. With the agent's own token, or the administrator's.",
    )
    .takes_one_of::<Report>([
        ("events", "Events", events),
        ("guard", "The published Guard client's one event", guard),
    ])
    .answers::<Received>(
        201,
        "All of them are taken in",
        json!({
            "ok": true,
            "data": { "received": 1, "eventIds": ["evt_19cc82fc5e000000"] },
        }),
    )
}

pub(super) async fn report(call: Call<'_>) -> Result<HttpResponse, ApiError> {
    let body = body::read_gzip(call.request.headers(), call.payload, REPORT_MAX_BYTES).await?;
    let events = Vec::try_from(parse::<Report>(call.headers(), &body)?)?;
    let (id, proof) = (call.agent()?, call.proof()?);
    let ids = call.state.engine.report(id, proof, events).await.map_err(|error| call.caller.explain(error))?;
    Ok(envelope::data(StatusCode::CREATED, &Received { received: ids.len(), event_ids: ids }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Timestamp;

    fn event(json: &str) -> Result<Event, String> {
        let event = parse_object::<ReportedEvent>("event", json.as_bytes());
        event.and_then(Event::try_from).map_err(|wrong| wrong.to_string())
    }

    fn report(json: &str) -> Result<Vec<Event>, String> {
        let report = parse_object::<Report>("body", json.as_bytes());
        report.and_then(Vec::try_from).map_err(|wrong| wrong.to_string())
    }

    fn of_guard(json: &str) -> Result<Event, String> {
        report(json).map(|mut events| events.remove(0))
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
            assert_eq!(event(json).unwrap_err(), error);
        }
        for details in [r#"{"a":["\ud800"]}"#, r#"{"a":{"b":1e999}}"#] {
            let error = event(&format!(r#"{{"type":"t","severity":"low","details":{details}}}"#)).unwrap_err();
            assert_eq!(error, format!("details must be {}", Details::RULE));
        }
        for time in ["9999-12-31T23:59:59-23:00", "0000-01-01T00:00:00+23:00"] {
            assert!(event(&format!(r#"{{"type":"t","severity":"low","details":{{}},"timestamp":"{time}"}}"#)).is_err());
        }
        let long =
            format!(r#"{{"type":"t","severity":"low","details":{{"a":"{}"}}}}"#, "a".repeat(EVENT_DETAILS_MAX_BYTES));
        assert_eq!(
            event(&long).unwrap_err(),
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
            assert_eq!(of_guard(json).unwrap_err(), error);
        }
    }

    #[test]
    fn a_field_of_the_wrong_kind_is_named_with_its_rule() {
        let text = "a string of 1 to 128 characters";
        for (field, rule) in [
            ("type", text),
            ("severity", "low, medium, high or critical"),
            ("details", Details::RULE),
            ("timestamp", "a time such as 2026-03-07T12:05:00Z"),
            ("ruleId", text),
            ("confidence", "a number from 0 to 1"),
        ] {
            for wrong in ["[]", "5", "1e999", r#""\ud800""#] {
                let error = report(&format!(r#"{{"events":[{{"{field}":{wrong}}}]}}"#)).unwrap_err();
                assert_eq!(error, format!("events[0]: {field} must be {rule}"), "{wrong}");
            }
        }
        for (field, rule) in
            [("events", "an array of 1 to 100 objects"), ("event", "an object"), ("verdict", "an object")]
        {
            for wrong in ["5", "true"] {
                let error = report(&format!(r#"{{"{field}":{wrong}}}"#)).unwrap_err();
                assert_eq!(error, format!("{field} must be {rule}"), "{wrong}");
            }
        }
        assert_eq!(report(r#"{"events":[]}"#).unwrap_err(), "events must be an array of 1 to 100 objects");
        assert_eq!(report(r#"{"events":[{}],"event":{}}"#).unwrap_err(), "events and event cannot be given together");
        assert_eq!(report("{}").unwrap_err(), "Missing required field: events");
    }
}

//! `POST /api/agents/:id/events`: an agent reports threats, as an array of events, or as the one event that the published
//! Guard client sends with its verdict.

use actix_web::{HttpResponse, http::StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{json, value::RawValue};
use utoipa::ToSchema;

use super::{
    ApiError, Call, Description, body, envelope,
    guard_report::{Fields, GuardEvent, GuardVerdict, of_guard, source_in},
    json::{InvalidObject, parse, parse_object},
    values::{Details, EventType, Fraction, Moment, must_be, reads},
};
use crate::{
    fleet::Text,
    limits::{REPORT_MAX_BYTES, REPORT_MAX_EVENTS, RULE_ID_MAX_CHARS},
    threats::{ReportedThreat, Severity, ThreatId},
};

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

reads!(Events, |from| {
    let events = Vec::deserialize(from).ok().filter(|events| (1..=REPORT_MAX_EVENTS).contains(&events.len()));
    events.map(Self).ok_or_else(|| must_be(format_args!("an array of 1 to {REPORT_MAX_EVENTS} objects")))
});

/// One of the events of a report. Unknown fields are ignored; `null` is the same as left out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ReportedEvent)]
struct ReportedEvent {
    /// What kind of threat it is: `brute_force`, or any other text.
    #[schema(value_type = EventType)]
    r#type: Option<EventType>,
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

impl TryFrom<Report> for Vec<ReportedThreat> {
    type Error = InvalidObject;

    fn try_from(report: Report) -> Result<Self, InvalidObject> {
        match report {
            Report { events: Some(_), event: Some(_), .. } => {
                Err(InvalidObject::Whole("events and event cannot be given together".into()))
            }
            Report { events: Some(Events(events)), .. } => {
                let read =
                    |event: &RawValue| parse_object::<ReportedEvent>("event", event.get().as_bytes())?.try_into();
                let numbered = events.iter().enumerate().map(|(number, event)| {
                    read(event)
                        .map_err(|wrong: InvalidObject| InvalidObject::Whole(format!("events[{number}]: {wrong}")))
                });
                numbered.collect()
            }
            Report { event: Some(event), verdict, .. } => Ok(vec![of_guard(event, verdict.unwrap_or_default())?]),
            Report { .. } => Err(InvalidObject::missing([("events", false)])),
        }
    }
}

impl TryFrom<ReportedEvent> for ReportedThreat {
    type Error = InvalidObject;

    fn try_from(event: ReportedEvent) -> Result<Self, InvalidObject> {
        let given = [event.r#type.is_some(), event.severity.is_some(), event.details.is_some()];
        let (Some(kind), Some(severity), Some(Details(details))) = (event.r#type, event.severity, event.details) else {
            return Err(InvalidObject::missing([("type", given[0]), ("severity", given[1]), ("details", given[2])]));
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

/// That threats were taken in.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Received {
    /// Threats that were taken in.
    received: usize,
    /// Their names, in the order of the report.
    event_ids: Vec<ThreatId>,
}

pub(super) fn describe() -> Description {
    let events = json!({
        "events": [
            {
                "type": "brute_force", "severity": "high",
                "details": { "sourceIP": "203.0.113.66", "attempts": 42 }, "timestamp": "2026-03-07T12:04:59.000Z",
                "ruleId": "ssh-brute-force", "confidence": 0.93,
            },
        ],
    });
    let guard = json!({
        "event": {
            "category": "port_scan", "severity": "medium", "source": "network",
            "metadata": { "sourceIP": "203.0.113.66" },
        },
        "verdict": { "conclusion": "suspicious", "confidence": 70, "action": "log_only" },
    });
    let mut description = Description::new("Threats", "reportThreats", "Report threats").about(
        "Of the agent: as an array of events, or as the one event that the published Guard client sends\n\
             with its verdict. At most 1 MiB, also after `Content-Encoding: gzip`. The answer comes once all of\n\
             them are durable; if one of them is wrong, none is taken in.",
    );
    let reported = description.refer::<ReportedEvent>();
    let (mut event, mut verdict) = (description.refer::<GuardEvent>(), description.refer::<GuardVerdict>());
    event["description"] =
        "What happened, at most 64 KiB with the verdict. All else in it is kept among the details.".into();
    verdict["description"] = "What the Guard thinks of it. All else in it is kept among the details.".into();
    description
        .takes_one_of(
            "Report",
            [
                json!({
                    "type": "object", "description": "A report of many events", "required": ["events"],
                    "properties": {
                        "events": {
                            "type": "array", "items": reported, "description": "What happened.",
                            "maxItems": REPORT_MAX_EVENTS, "minItems": 1,
                        },
                        "event": { "type": "null" },
                        "verdict": { "type": ["object", "null"], "description": "Passed over." },
                    },
                }),
                json!({
                    "type": "object", "description": "What the published Guard client reports", "required": ["event"],
                    "properties": {
                        "events": { "type": "null" },
                        "event": event,
                        "verdict": { "oneOf": [verdict, { "type": "null" }] },
                    },
                }),
            ],
        )
        .example_of("events", "Events", events)
        .example_of("guard", "The published Guard client's one event", guard)
        .answers::<Received>(201, "All of them are taken in")
        .example(json!({ "received": 1, "eventIds": ["evt_19cc82fc5e000000"] }))
}

pub(super) async fn report(call: Call<'_>) -> Result<HttpResponse, ApiError> {
    let body = body::read_gzip(call.request.headers(), call.payload, REPORT_MAX_BYTES).await?;
    let events = Vec::try_from(parse::<Report>(call.headers(), &body)?)?;
    let (id, credential) = (call.agent()?, call.credential()?);
    let ids = call.state.engine.report(id, credential, events).await.map_err(|error| call.principal.explain(error))?;
    Ok(envelope::data(StatusCode::CREATED, &Received { received: ids.len(), event_ids: ids }))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{fleet::Timestamp, limits::EVENT_DETAILS_MAX_BYTES};

    fn event(json: &str) -> Result<ReportedThreat, String> {
        let event = parse_object::<ReportedEvent>("event", json.as_bytes());
        event.and_then(ReportedThreat::try_from).map_err(|wrong| wrong.to_string())
    }

    pub(in crate::api) fn report(json: &str) -> Result<Vec<ReportedThreat>, String> {
        let report = parse_object::<Report>("body", json.as_bytes());
        report.and_then(Vec::try_from).map_err(|wrong| wrong.to_string())
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
    fn an_error_names_what_is_wrong_with_an_event() {
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

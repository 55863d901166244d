//! `POST /api/agents/:id/heartbeat`, the one request that comes a million times a minute.
//!
//! The loop of agents' requests (`direct.rs`), the framework's `App`, and the fast path in front of that (`fast_path.rs`) all
//! call this.

use std::{borrow::Cow, fmt::Write as _};

use actix_web::{
    HttpResponse,
    dev::Payload,
    http::{StatusCode, header::HeaderMap},
};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::json;
use tokio::time::Instant;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

use super::{
    ApiError, ApiState, Call, Description,
    auth::{Access, Principal},
    body::{self, JSON},
    envelope,
    json::{parse, parse_object},
    refusal::Unproven,
    values::{Count, Percent},
};
use crate::{
    engine::{BeatAck, EngineError},
    fleet::{AgentId, Figure, Figures, GuardFigures, Heartbeat, Status, Text, Timestamp, Version},
    limits::{BODY_MAX_BYTES, MODE_MAX_CHARS},
    metrics::HeartbeatResult,
};

/// Where heartbeats are sent; all that recognise one by its path read it here.
pub(super) const PATH: &str = "/api/agents/{id}/heartbeat";

/// Who may beat for an agent.
pub(super) const ACCESS: Access = Access::Agent;

/// Longest answer, in bytes: `pendingPolicies` has ten digits at most.
const ANSWER_BYTES: usize = 144;

type Mode = Text<MODE_MAX_CHARS>;

// Not in the comment below, which is part of the API's document: `Id` is what becomes of a field `id`: of a heartbeat that
// comes alone nothing, as its agent is named by its path.
/// What an agent reports of itself with a heartbeat. A field that is left out, or null, keeps its last value; unknown ones
/// are ignored.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Heartbeat, bound = "")]
pub struct HeartbeatBody<Id = IgnoredAny> {
    #[serde(default, skip_serializing)]
    #[schema(ignore)]
    pub(super) id: Id,
    /// Processor use of the machine, in percent.
    cpu: Option<Percent>,
    /// Memory use of the machine, in percent.
    memory: Option<Percent>,
    /// Seconds since the Guard started.
    uptime: Option<Count>,
    /// Version of the Guard: it was upgraded.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<Version>,
    /// The Guard's mode of operation, in its own words.
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<Mode>,
    /// Security events that the Guard has looked at since it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    events_processed: Option<Count>,
    /// Threats it has found since it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    threats_detected: Option<Count>,
    /// Responses it has carried out since it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    actions_executed: Option<Count>,
    /// Its own memory use, in megabytes.
    #[serde(rename = "memoryUsageMB", skip_serializing_if = "Option::is_none")]
    memory_usage_mb: Option<Count>,
}

impl<Id> From<HeartbeatBody<Id>> for Heartbeat {
    fn from(body: HeartbeatBody<Id>) -> Self {
        let guard = GuardFigures {
            mode: body.mode.map(Text::into_inner),
            events_processed: body.events_processed.into(),
            threats_detected: body.threats_detected.into(),
            actions_executed: body.actions_executed.into(),
            memory_usage_mb: body.memory_usage_mb.into(),
        };
        let figures = Figures {
            cpu: body.cpu.into(),
            memory: body.memory.into(),
            uptime: body.uptime.into(),
            guard: (guard != GuardFigures::default()).then(|| Box::new(guard)),
        };
        Self { figures, version: body.version }
    }
}

/// What an agent reported last, in the fields of a heartbeat: the three common figures always, `null` until reported; those
/// of the published Guard client when it sent them.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(super) struct ShownFigures(HeartbeatBody);

impl From<&Figures> for ShownFigures {
    fn from(figures: &Figures) -> Self {
        let guard = figures.guard.as_deref();
        let count = |figure: fn(&GuardFigures) -> Figure| guard.map(figure).and_then(Count::of);
        Self(HeartbeatBody {
            id: IgnoredAny,
            version: None,
            cpu: Percent::of(figures.cpu),
            memory: Percent::of(figures.memory),
            uptime: Count::of(figures.uptime),
            mode: guard.and_then(|guard| Mode::new(guard.mode.clone()?).ok()),
            events_processed: count(|guard| guard.events_processed),
            threats_detected: count(|guard| guard.threats_detected),
            actions_executed: count(|guard| guard.actions_executed),
            memory_usage_mb: count(|guard| guard.memory_usage_mb),
        })
    }
}

impl PartialSchema for ShownFigures {
    fn schema() -> RefOr<Schema> {
        let mut schema = HeartbeatBody::<()>::schema();
        if let RefOr::T(Schema::Object(figures)) = &mut schema {
            figures.description = Some("What an agent reported last; null until it has".into());
            figures.properties.retain(|name, _| name != "version");
            figures.required = ["cpu", "memory", "uptime"].map(String::from).into();
        }
        schema
    }
}

impl ToSchema for ShownFigures {
    fn name() -> Cow<'static, str> {
        "Vitals".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        HeartbeatBody::<()>::schemas(schemas);
    }
}

pub(super) fn describe() -> Description {
    Description::new("Agents", "beat", "Beat")
        .about(
            "A sign of life: the agent is online from now on. An empty body, or none, is a bare one; otherwise\n\
             it carries figures.",
        )
        .may_take::<HeartbeatBody<()>>()
        .example(json!({ "uptime": 86400, "cpu": 12.5, "memory": 48.2 }))
        .answers::<Acknowledged>(200, "The heartbeat was received")
        .example(json!({
            "id": "agent-00f3a1b2c3d4e5f6", "status": "online", "lastHeartbeat": "2026-03-07T12:05:00.000Z",
            "pendingPolicies": 0,
        }))
}

/// A heartbeat on the fast path: authorises it, and records the outcome. Returns the body of
/// the answer, which is JSON.
pub(super) async fn receive(
    headers: &HeaderMap,
    payload: &mut Payload,
    state: &ApiState,
    id: AgentId,
) -> Result<String, ApiError> {
    let arrived = state.engine.clock().monotonic();
    let outcome = match ACCESS.authorize(headers, None, Some(id), state).await {
        Ok(principal) => hand_over(headers, payload, state, principal, Some(id)).await,
        Err(refused) => Err(refused),
    };
    note(state, arrived, outcome.as_ref().err());
    outcome
}

/// A heartbeat that comes by the `App`, which notes what became of it.
pub(super) async fn beat(call: Call<'_>) -> Result<HttpResponse, ApiError> {
    let Call { request, payload, state, principal, named } = call;
    let json = hand_over(request.headers(), payload, state, principal, named).await?;
    Ok(envelope::json_response(StatusCode::OK, json))
}

/// Notes what became of a heartbeat.
pub(super) fn note(state: &ApiState, arrived: Instant, refused: Option<&ApiError>) {
    let metrics = state.engine.metrics();
    metrics.heartbeat(refused.map_or(HeartbeatResult::Accepted, result_of));
    metrics.heartbeat_latency.record(state.engine.clock().monotonic() - arrived);
}

async fn hand_over(
    headers: &HeaderMap,
    payload: &mut Payload,
    state: &ApiState,
    principal: Principal,
    id: Option<AgentId>,
) -> Result<String, ApiError> {
    let heartbeat = match read(headers, payload).await {
        Ok(heartbeat) => heartbeat,
        // The agent's actor would have found a wrong token; it must not go unnoticed behind a wrong body.
        Err(wrong) => return Err(principal.check(state).await.err().unwrap_or(wrong)),
    };
    deliver(state, principal, id.ok_or(EngineError::NotFound)?, heartbeat).await
}

/// Hands a heartbeat to its agent. Returns the body of the answer, which is JSON.
pub(super) async fn deliver(
    state: &ApiState,
    principal: Principal,
    id: AgentId,
    heartbeat: Heartbeat,
) -> Result<String, ApiError> {
    let credential = principal.credential().ok_or(ApiError::Unauthorized(Unproven::NoToken))?;
    let ack = state.engine.beat(id, credential, heartbeat).await.map_err(|error| principal.explain(error))?;
    Ok(answer(id, &ack))
}

/// Reads a body that has come whole, as [`read`] does; none if that refuses it.
pub(super) fn read_whole(content_type: Option<&str>, body: &[u8]) -> Option<Heartbeat> {
    if body.is_empty() {
        return Some(Heartbeat::default());
    }
    let is_json = body.len() <= BODY_MAX_BYTES && body::is_of_kind(JSON, content_type.unwrap_or_default());
    is_json.then(|| parse_object::<HeartbeatBody>("body", body).ok().map(Heartbeat::from))?
}

async fn read(headers: &HeaderMap, payload: &mut Payload) -> Result<Heartbeat, ApiError> {
    let body = body::read(headers, payload, BODY_MAX_BYTES).await?;
    if body.is_empty() {
        return Ok(Heartbeat::default());
    }
    parse::<HeartbeatBody>(headers, &body).map(Heartbeat::from)
}

// What `answer` writes, for the document; a test compares the two.
/// That a heartbeat was received.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[cfg_attr(test, derive(Serialize), serde(rename_all = "camelCase"))]
#[cfg_attr(not(test), expect(dead_code, reason = "the answer is written by hand"))]
struct Acknowledged {
    /// The agent.
    id: AgentId,
    /// Its status now.
    status: Status,
    /// When it was received.
    last_heartbeat: Timestamp,
    /// Policies in its scope that are newer than the one it last fetched.
    pending_policies: u64,
}

/// Written by hand, into memory that is allocated once.
fn answer(id: AgentId, ack: &BeatAck) -> String {
    let BeatAck { status, at, pending_policies } = ack;
    let mut json = String::with_capacity(ANSWER_BYTES);
    write!(
        json,
        r#"{{"ok":true,"data":{{"id":"{id}","status":"{status}","lastHeartbeat":"{at}","pendingPolicies":{pending_policies}}}}}"#
    )
    .expect("a string takes all that is written to it");
    json
}

pub(super) fn result_of(error: &ApiError) -> HeartbeatResult {
    match error {
        ApiError::Unauthorized(_) | ApiError::Forbidden(_) => HeartbeatResult::Refused,
        ApiError::NotFound(_) => HeartbeatResult::Unknown,
        ApiError::Unavailable(_) => HeartbeatResult::Unavailable,
        ApiError::BadRequest(_)
        | ApiError::NoSuchPath(_)
        | ApiError::MethodNotAllowed { .. }
        | ApiError::BodyTimeout
        | ApiError::Conflict(_)
        | ApiError::BodyTooLarge { .. }
        | ApiError::WrongMediaType { .. }
        | ApiError::WrongEncoding { .. }
        | ApiError::HeadTooLarge => HeartbeatResult::Invalid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_what_the_document_says() {
        let ack = BeatAck { status: Status::Online, at: Timestamp::from_millis(5), pending_policies: 7 };
        let id = AgentId::new(5);
        let BeatAck { status, at: last_heartbeat, pending_policies } = ack;
        let acknowledged = Acknowledged { id, status, last_heartbeat, pending_policies: pending_policies.into() };
        assert_eq!(answer(id, &ack), json!({ "ok": true, "data": acknowledged }).to_string());
    }

    #[test]
    fn the_longest_answer_needs_no_second_allocation() {
        let ack = BeatAck { status: Status::Offline, at: Timestamp::from_millis(0), pending_policies: u32::MAX };
        let json = answer(AgentId::new(u64::MAX), &ack);
        assert!(json.len() <= ANSWER_BYTES, "{} bytes", json.len());
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["data"]["lastHeartbeat"], "1970-01-01T00:00:00.000Z");
    }

    fn read(json: &str) -> Result<Heartbeat, String> {
        parse_object::<HeartbeatBody>("body", json.as_bytes()).map(Heartbeat::from).map_err(|wrong| wrong.to_string())
    }

    #[test]
    fn a_field_that_breaks_its_rule_is_named_with_the_rule() {
        let (percent, count) = ("a number from 0 to 100", "a number from 0 to 9007199254740991");
        let text = "a string of 1 to 64 characters";
        assert!(read(r#"{"cpu":0,"memory":100,"uptime":0,"eventsProcessed":9007199254740991}"#).is_ok());
        for (field, rule, beyond) in [
            ("cpu", percent, "100.01"),
            ("memory", percent, "-0.01"),
            ("uptime", count, "-1"),
            ("eventsProcessed", count, "1e300"),
            ("threatsDetected", count, "9007199254740992"),
            ("actionsExecuted", count, "-0.5"),
            ("memoryUsageMB", count, "1e999"),
            ("version", text, r#""""#),
            ("mode", text, r#""""#),
        ] {
            for wrong in [beyond, "[]", "{}", "true"] {
                let error = read(&format!(r#"{{"{field}":{wrong}}}"#)).unwrap_err();
                assert_eq!(error, format!("{field} must be {rule}"), "{wrong}");
            }
        }
        assert_eq!(read(r#"{"cpu":1,"cpu":1}"#).unwrap_err(), "cpu is given twice");
        assert!(read(r#"{"cpu":1"#).unwrap_err().starts_with("The body is not valid JSON: "));
    }

    #[test]
    fn what_is_reported_is_shown_as_it_was_sent_and_the_unreported_as_null() {
        let shown = |json| serde_json::to_string(&ShownFigures::from(&read(json).unwrap().figures)).unwrap();
        assert_eq!(
            shown(r#"{"cpu":12.5,"memory":50.0,"version":"2","eventsProcessed":5,"memoryUsageMB":0.5}"#),
            r#"{"cpu":12.5,"memory":50,"uptime":null,"eventsProcessed":5,"memoryUsageMB":0.5}"#
        );
        let all = r#"{"cpu":1,"memory":2,"uptime":3,"mode":"learning","eventsProcessed":4,"threatsDetected":5,"actionsExecuted":6,"memoryUsageMB":7}"#;
        assert_eq!(shown(all), all);
        assert_eq!(shown(r#"{"cpu":null,"id":[5]}"#), r#"{"cpu":null,"memory":null,"uptime":null}"#);
        assert!(read(r#"{"cpu":1}"#).unwrap().figures.guard.is_none());
    }
}

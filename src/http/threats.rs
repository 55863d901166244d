//! Threats: an agent's reports, and the history of them.

use actix_web::{HttpRequest, HttpResponse, dev::Payload, http::StatusCode};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::{
    State,
    agents::parse_id,
    auth::Caller,
    body,
    envelope::{self, ApiError, Failure, Success},
    query::{self, invalid, org_id, parameters},
};
use crate::{
    actors::{EngineError, ThreatFilter},
    fleet::{AgentId, MissingFields, Moment, OrgId, Timestamp},
    limits::{REPORT_MAX_BYTES, REPORT_MAX_EVENTS, THREATS_PAGE, THREATS_PAGE_MAX},
    threats::{EVENT_FIELDS, Event, EventBody, REPORT_FIELDS, ReportBody, Severity, Threat, ThreatId},
};

/// Report threats
///
/// Of the agent: as an array of events, or as the one event that the published Guard client sends with its verdict. At most
/// 1 MiB, also after `Content-Encoding: gzip`. The answer comes once all of them are durable; if one of them is wrong, none is taken in. With the agent's own
/// token, or the administrator's.
#[utoipa::path(
    post,
    path = "/api/agents/{id}/events",
    operation_id = "reportThreats",
    tag = "Threats",
    security(("token" = [])),
    params(("id" = AgentId, Path, description = "The agent")),
    request_body(content = ReportBody, examples(
        ("events" = (summary = "Events", value = json!({
            "events": [{
                "type": "brute_force",
                "severity": "high",
                "details": { "sourceIP": "203.0.113.66", "attempts": 42 },
                "timestamp": "2026-03-07T12:04:59.000Z",
                "ruleId": "ssh-brute-force",
                "confidence": 0.93,
            }],
        }))),
        ("guard" = (summary = "The published Guard client's one event", value = json!({
            "event": {
                "category": "port_scan",
                "severity": "medium",
                "source": "network",
                "metadata": { "sourceIP": "203.0.113.66" },
            },
            "verdict": { "conclusion": "suspicious", "confidence": 70, "action": "log_only" },
        }))),
    )),
    responses(
        (status = 201, description = "All of them are taken in", body = Success<Received>, example = json!({
            "ok": true,
            "data": { "received": 1, "eventIds": ["evt_19cc82fc5e000000"] },
        })),
        (status = 403, description = "Another agent's token", body = Failure),
        (status = 404, description = "No such agent", body = Failure, example = json!({
            "ok": false, "error": "Agent not found",
        })),
    ),
)]
pub(super) async fn report(
    request: &HttpRequest,
    payload: &mut Payload,
    state: &State,
    id: &str,
) -> Result<HttpResponse, ApiError> {
    let caller = Caller::of(request.headers(), &state.auth)?;
    let id = parse_id(id);
    let proof = caller.proof_for(id, state).await?;
    query::none_of(caller, request, state).await?;
    let body = body::read_gzip(request.headers(), payload, REPORT_MAX_BYTES).await?;
    let events = events_of(body::parse(request.headers(), &body, REPORT_FIELDS)?)?;
    let id = id.ok_or(EngineError::NotFound)?;
    let ids = state.engine.report(id, proof, events).await.map_err(|error| caller.explain(error))?;
    let answer = Received { received: ids.len(), event_ids: ids };
    Ok(envelope::data_with(StatusCode::CREATED, &answer))
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

fn events_of(report: ReportBody) -> Result<Vec<Event>, ApiError> {
    match report {
        ReportBody { events: Some(_), event: Some(_), .. } => {
            Err(ApiError::BadRequest("events and event cannot be given together".into()))
        }
        ReportBody { events: Some(events), .. } => {
            if !(1..=REPORT_MAX_EVENTS).contains(&events.len()) {
                return Err(ApiError::BadRequest(format!(
                    "events must be an array of 1 to {REPORT_MAX_EVENTS} objects"
                )));
            }
            let numbered = events.iter().enumerate();
            numbered.map(|(number, event)| read_event(event).map_err(|error| in_event(number, &error))).collect()
        }
        ReportBody { event: Some(event), verdict, .. } => Ok(vec![Event::of_guard(event, verdict)?]),
        ReportBody { .. } => Err(MissingFields::of([("events", false)]).into()),
    }
}

fn read_event(event: &RawValue) -> Result<Event, ApiError> {
    let event: EventBody = body::parse_object("event", event.get().as_bytes(), EVENT_FIELDS)?;
    Ok(event.try_into()?)
}

fn in_event(number: usize, error: &ApiError) -> ApiError {
    ApiError::BadRequest(format!("events[{number}]: {error}"))
}

/// Find threats
///
/// The newest first, in pages. Filters combine. Threats outlive their agents. With the administrator's token.
#[utoipa::path(
    get,
    path = "/api/threats",
    operation_id = "listThreats",
    tag = "Threats",
    security(("token" = [])),
    params(ThreatParams),
    responses(
        (status = 200, description = "The threats", body = ThreatPage, example = json!({
            "ok": true,
            "data": [{
                "id": "evt_19cc82fc5e000000",
                "agentId": "agent-00f3a1b2c3d4e5f6",
                "hostname": "web-server-1",
                "type": "brute_force",
                "severity": "high",
                "confidence": 0.93,
                "ruleId": "ssh-brute-force",
                "details": { "sourceIP": "203.0.113.66", "attempts": 42 },
                "timestamp": "2026-03-07T12:05:00.000Z",
                "occurredAt": "2026-03-07T12:04:59.000Z",
            }],
        })),
        (status = 403, description = "An agent's token may not read the history", body = Failure),
    ),
)]
pub(super) async fn list(request: &HttpRequest, state: &State) -> Result<HttpResponse, ApiError> {
    Caller::of(request.headers(), &state.auth)?.must_be_admin(state).await?;
    let mut wanted = ThreatFilter::default();
    let (mut before, mut most) = (None, THREATS_PAGE);
    let mut is_nobody = false;
    const KNOWN: &[&str] = &["since", "org_id", "severity", "type", "agent_id", "limit", "cursor"];
    for (name, value) in parameters(request.query_string(), KNOWN, &[])? {
        match &*name {
            "since" => {
                let since = query::time(&name, &value)?;
                wanted.since_ms = Some(since.timestamp_millis().try_into().unwrap_or(0));
            }
            "org_id" => wanted.org = Some(org_id(&value)?),
            "severity" => {
                let severity = value.parse().map_err(|()| invalid("severity must be low, medium, high or critical"))?;
                wanted.severity = Some(severity);
            }
            "type" => wanted.kind = Some(value.into()),
            // What is not an id is an agent that has reported nothing.
            "agent_id" => match value.parse() {
                Ok(agent) => wanted.agent = Some(agent),
                Err(_) => is_nobody = true,
            },
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=THREATS_PAGE_MAX).contains(limit));
                most = limit.ok_or_else(|| invalid("limit must be a whole number from 1 to 200"))?;
            }
            "cursor" => {
                let cursor = value.parse().map_err(|_| invalid("cursor must be a nextCursor of an earlier page"))?;
                before = Some(cursor);
            }
            _ => {}
        }
    }
    if is_nobody {
        return Ok(envelope::data(b"[]"));
    }
    let page = state.engine.threats(wanted, before, most).await?;
    let answer = ThreatPage { ok: true, data: page.threats.iter().map(Item::from).collect(), next_cursor: page.next };
    let json = serde_json::to_vec(&answer).expect("an answer has only string keys");
    Ok(envelope::json_response(StatusCode::OK, json))
}

/// The query, in the document's words; [`list`] reads it.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the query is read by hand")]
struct ThreatParams {
    /// Only threats that were taken in at this time or later.
    since: Option<Moment>,
    /// Only threats of this tenant's agents.
    org_id: Option<OrgId>,
    /// Only threats of this severity.
    #[param(inline, example = "high")]
    severity: Option<Severity>,
    /// Only threats of this type.
    r#type: Option<String>,
    /// Only threats that this agent reported, even if it has left the fleet.
    agent_id: Option<String>,
    /// Threats on a page: 50 unless told otherwise.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `nextCursor` of the page before.
    cursor: Option<ThreatId>,
}

/// Threats, the newest first.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ThreatPage)]
struct ThreatPage<'a> {
    #[schema(schema_with = envelope::always::<true>)]
    ok: bool,
    /// The threats, the newest first.
    data: Vec<Item<'a>>,
    /// Pass it as `cursor` to get the next page. Left out on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next_cursor: Option<ThreatId>,
}

/// A threat.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Threat)]
struct Item<'a> {
    /// Its name.
    id: ThreatId,
    /// The agent that reported it.
    agent_id: AgentId,
    /// Name of the agent's machine at that time.
    hostname: &'a str,
    /// The tenant of the agent.
    #[serde(rename = "org_id", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    org_id: Option<&'a str>,
    /// What kind of threat it is.
    r#type: &'a str,
    /// How bad it is.
    severity: Severity,
    /// How sure the agent is: 0 to 1; `null` if it did not say.
    #[schema(required, minimum = 0, maximum = 1)]
    confidence: Option<f64>,
    /// The rule that noticed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    rule_id: Option<&'a str>,
    /// All else that is known of it.
    #[schema(value_type = Object)]
    details: &'a RawValue,
    /// When the server took it in.
    timestamp: Timestamp,
    /// When it happened, by the agent's own clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    occurred_at: Option<Timestamp>,
}

impl<'a> From<&'a (Threat, Timestamp)> for Item<'a> {
    fn from((threat, taken_in): &'a (Threat, Timestamp)) -> Self {
        Self {
            id: threat.id,
            agent_id: threat.agent,
            hostname: &threat.hostname,
            org_id: threat.org.as_deref(),
            r#type: &threat.kind,
            severity: threat.severity,
            confidence: threat.confidence,
            rule_id: threat.rule_id.as_deref(),
            details: serde_json::from_str(&threat.details).expect("details are JSON: they were read as such"),
            timestamp: *taken_in,
            occurred_at: threat.occurred_at,
        }
    }
}

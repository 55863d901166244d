//! Threats: an agent's reports, the history, and its figures.

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web::Payload};
use chrono::DateTime;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    State,
    agents::parse_id,
    auth::Caller,
    body,
    envelope::{self, ApiError},
    query::{invalid, parameters},
};
use crate::{
    actors::{EngineError, ThreatFilter},
    fleet::{AgentId, Text, Timestamp},
    limits::{ORG_ID_MAX_CHARS, REPORT_MAX_BYTES, REPORT_MAX_EVENTS, THREATS_PAGE, THREATS_PAGE_MAX},
    threats::{EVENT_FIELDS, Event, EventBody, Period, REPORT_FIELDS, ReportBody, Severity, Summary, Threat, ThreatId},
};

/// `POST /api/agents/:id/events`
pub(super) async fn report(
    request: &HttpRequest,
    payload: Payload,
    state: &State,
    id: &str,
) -> Result<HttpResponse, ApiError> {
    let caller = Caller::of(request.headers(), &state.auth)?;
    let id = parse_id(id);
    let proof = caller.proof_for(id, state).await?;
    let body = body::read(request.headers(), &mut payload.into_inner(), REPORT_MAX_BYTES).await?;
    let events = events_of(body::parse(request.headers(), &body, REPORT_FIELDS)?)?;
    let id = id.ok_or(EngineError::NotFound)?;
    let ids = state.engine.report(id, proof, events, body.len()).await.map_err(|error| caller.explain(error))?;
    let answer = Received { received: ids.len(), event_ids: ids };
    Ok(envelope::data_with(StatusCode::CREATED, &answer))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Received {
    received: usize,
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
        ReportBody { .. } => Err(ApiError::BadRequest("Missing required field: events".into())),
    }
}

fn read_event(event: &RawValue) -> Result<Event, ApiError> {
    let event: EventBody = body::parse_object("event", event.get().as_bytes(), EVENT_FIELDS)?;
    Ok(event.try_into()?)
}

fn in_event(number: usize, error: &ApiError) -> ApiError {
    ApiError::BadRequest(format!("events[{number}]: {error}"))
}

/// `GET /api/threats`
pub(super) async fn list(request: &HttpRequest, state: &State) -> Result<HttpResponse, ApiError> {
    Caller::of(request.headers(), &state.auth)?.must_be_admin(state).await?;
    let mut wanted = ThreatFilter::default();
    let (mut before, mut most) = (None, THREATS_PAGE);
    const KNOWN: &[&str] = &["since", "org_id", "severity", "type", "agent_id", "limit", "cursor"];
    for (name, value) in parameters(request.query_string(), KNOWN, &[])? {
        match &*name {
            "since" => {
                let since = DateTime::parse_from_rfc3339(&value);
                let since = since.map_err(|_| invalid("since must be a time such as 2026-03-07T12:05:00Z"))?;
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
                Err(_) => return Ok(envelope::data(b"[]")),
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
    let page = state.engine.threats(wanted, before, most).await?;
    let answer = Page { ok: true, data: page.threats.iter().map(Item::from).collect(), next_cursor: page.next };
    let json = serde_json::to_vec(&answer).expect("an answer has only string keys");
    Ok(envelope::json_response(StatusCode::OK, json))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page<'a> {
    ok: bool,
    data: Vec<Item<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<ThreatId>,
}

/// A threat as it is shown.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Item<'a> {
    id: ThreatId,
    agent_id: AgentId,
    hostname: &'a str,
    #[serde(rename = "org_id", skip_serializing_if = "Option::is_none")]
    org_id: Option<&'a str>,
    r#type: &'a str,
    severity: Severity,
    confidence: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule_id: Option<&'a str>,
    details: &'a RawValue,
    timestamp: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    occurred_at: Option<Timestamp>,
}

impl<'a> From<&'a Threat> for Item<'a> {
    fn from(threat: &'a Threat) -> Self {
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
            timestamp: threat.id.time(),
            occurred_at: threat.occurred_at,
        }
    }
}

/// `GET /api/threats/summary`
pub(super) async fn summary(request: &HttpRequest, state: &State) -> Result<HttpResponse, ApiError> {
    Caller::of(request.headers(), &state.auth)?.must_be_admin(state).await?;
    let (mut org, mut period) = (None, Period::Day1);
    for (name, value) in parameters(request.query_string(), &["org_id", "period"], &[])? {
        match &*name {
            "org_id" => org = Some(org_id(&value)?),
            "period" => period = value.parse().map_err(|_| invalid("period must be 1h, 6h, 24h, 7d or 30d"))?,
            _ => {}
        }
    }
    let summary = state.engine.threat_summary(org, period).await?;
    Ok(envelope::data_with(StatusCode::OK, &shown(&summary, period)))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownSummary<'a> {
    period: &'static str,
    total: u64,
    by_severity: BySeverity,
    #[serde(serialize_with = "as_map")]
    by_type: Vec<(&'a str, u64)>,
    top_agents: Vec<TopAgent<'a>>,
    top_source_ips: Vec<TopIp>,
}

/// Threats of each severity.
#[derive(Serialize)]
pub(super) struct BySeverity {
    critical: u64,
    high: u64,
    medium: u64,
    low: u64,
}

impl From<crate::threats::BySeverity> for BySeverity {
    fn from([low, medium, high, critical]: crate::threats::BySeverity) -> Self {
        Self { critical, high, medium, low }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TopAgent<'a> {
    agent_id: AgentId,
    hostname: &'a str,
    count: u64,
}

#[derive(Serialize)]
struct TopIp {
    ip: std::net::IpAddr,
    count: u64,
}

/// What types beyond the most frequent ones are counted as.
const OTHER: &str = "other";

fn shown(summary: &Summary, period: Period) -> ShownSummary<'_> {
    let mut by_type: Vec<_> = summary.by_kind.iter().map(|(kind, count)| (&**kind, *count)).collect();
    if summary.other_kinds > 0 {
        // A type that is named like the rest is counted with it.
        match by_type.iter_mut().find(|(kind, _)| *kind == OTHER) {
            Some((_, count)) => *count += summary.other_kinds,
            None => by_type.push((OTHER, summary.other_kinds)),
        }
    }
    let agents = summary.top_agents.iter();
    ShownSummary {
        period: period.name(),
        total: summary.total,
        by_severity: summary.by_severity.into(),
        by_type,
        top_agents: agents
            .map(|(agent_id, hostname, count)| TopAgent { agent_id: *agent_id, hostname, count: *count })
            .collect(),
        top_source_ips: summary.top_ips.iter().map(|(ip, count)| TopIp { ip: *ip, count: *count }).collect(),
    }
}

/// Pairs as the object that they are, in their order.
pub(super) fn as_map<S: serde::Serializer>(pairs: &[(&str, u64)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(pairs.iter().copied())
}

fn org_id(value: &str) -> Result<Box<str>, ApiError> {
    Ok(Text::<ORG_ID_MAX_CHARS>::new("org_id", value)?.into_inner())
}

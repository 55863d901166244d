//! `GET /api/threats`: the history of threats.

use actix_web::{HttpResponse, http::StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{json, value::RawValue};
use utoipa::{IntoParams, ToSchema};

use super::{
    ApiError, Call, Description, envelope,
    values::{Cursor, Limit, Moment, QueryMoment},
};
use crate::{
    engine::ThreatFilter,
    fleet::{AgentId, OrgId, Text, Timestamp},
    limits::{THREATS_PAGE, THREATS_PAGE_MAX},
    threats::{Severity, Threat, ThreatId},
};

/// What the history may be asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ThreatQuery {
    /// Only threats that were taken in at this time or later.
    #[param(value_type = Option<Moment>)]
    since: Option<QueryMoment>,
    /// Only threats of this tenant's agents.
    org_id: Option<OrgId>,
    /// Only threats of this severity.
    #[param(inline, example = "high")]
    severity: Option<Severity>,
    /// Only threats of this type.
    #[param(value_type = Option<String>)]
    r#type: Option<Box<str>>,
    /// Only threats that this agent reported, even if it has left the fleet.
    #[param(value_type = Option<String>)]
    agent_id: Option<Box<str>>,
    /// Threats on a page: 50 by default.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    limit: Option<Limit<THREATS_PAGE_MAX>>,
    /// `nextCursor` of the page before.
    #[param(value_type = Option<ThreatId>)]
    cursor: Option<Cursor<ThreatId>>,
}

pub(super) fn describe() -> Description {
    Description::new("Threats", "listThreats", "Find threats")
        .about("The newest first, in pages. Filters combine. Threats outlive their agents.")
        .answers_whole::<ThreatPage<'_>>(200, "The threats")
        .example(json!({
            "ok": true,
            "data": [
                {
                    "id": "evt_19cc82fc5e000000", "agentId": "agent-00f3a1b2c3d4e5f6", "hostname": "web-server-1",
                    "type": "brute_force", "severity": "high", "confidence": 0.93, "ruleId": "ssh-brute-force",
                    "details": { "sourceIP": "203.0.113.66", "attempts": 42 },
                    "timestamp": "2026-03-07T12:05:00.000Z", "occurredAt": "2026-03-07T12:04:59.000Z",
                },
            ],
        }))
}

pub(super) async fn list(call: Call<'_>) -> Result<HttpResponse, ApiError> {
    let ThreatQuery { since, org_id, severity, r#type, agent_id, limit, cursor } = call.query()?;
    let agent = match agent_id.as_deref().map(str::parse).transpose() {
        Ok(agent) => agent,
        // What is not an id is an agent that has reported nothing.
        Err(_) => return Ok(envelope::data(StatusCode::OK, &[(); 0])),
    };
    let wanted = ThreatFilter {
        since_ms: since.map(|QueryMoment(millis)| millis.try_into().unwrap_or(0)),
        org: org_id.map(Text::into_inner),
        severity,
        kind: r#type,
        agent,
    };
    let limit = limit.map_or(THREATS_PAGE, |Limit(limit)| limit);
    let page = call.state.engine.threats(wanted, cursor.map(|Cursor(id)| id), limit).await?;
    let answer = ThreatPage { ok: true, data: page.threats.iter().map(Item::from).collect(), next_cursor: page.next };
    Ok(envelope::whole(StatusCode::OK, &answer))
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

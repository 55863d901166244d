//! `GET /api/threats/summary`: the figures of the threats of a period.

use actix_web::{HttpResponse, http::StatusCode};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::{ApiError, Call, Description, envelope, values::IpAddress};
use crate::{
    engine::OTHER,
    fleet::{AgentId, OrgId, Text},
    threats::{Period, Summary},
};

/// What may be asked.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct SummaryQuery {
    /// How far back to look: 24 hours by default.
    #[param(inline, example = "24h")]
    period: Option<Period>,
    /// Only threats of this tenant's agents.
    org_id: Option<OrgId>,
}

pub(super) fn describe() -> Description {
    Description::new("Threats", "summariseThreats", "Sum up threats")
        .about("The figures of a period that ends now.")
        .answers::<ShownSummary<'_>>(200, "The figures")
        .example(json!({
            "period": "24h", "total": 2, "bySeverity": { "critical": 0, "high": 1, "medium": 1, "low": 0 },
            "byType": { "brute_force": 1, "port_scan": 1 },
            "topAgents": [{ "agentId": "agent-00f3a1b2c3d4e5f6", "hostname": "web-server-1", "count": 2 }],
            "topSourceIps": [{ "ip": "203.0.113.66", "count": 2 }],
        }))
}

pub(super) async fn summarise(call: Call<'_>) -> Result<HttpResponse, ApiError> {
    let SummaryQuery { period, org_id } = call.query()?;
    let period = period.unwrap_or(Period::Day1);
    let summary = call.state.engine.threat_summary(org_id.map(Text::into_inner), period).await?;
    Ok(envelope::data(StatusCode::OK, &shown(&summary, period)))
}

/// The figures of a period.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ThreatSummary)]
struct ShownSummary<'a> {
    /// The period.
    #[schema(value_type = Period)]
    period: &'static str,
    /// All threats.
    total: u64,
    /// Of each severity.
    by_severity: BySeverity,
    /// Of the most frequent types; `other` is the rest.
    #[serde(serialize_with = "as_map")]
    #[schema(value_type = HashMap<String, u64>)]
    by_type: Vec<(&'a str, u64)>,
    /// The agents that reported most.
    top_agents: Vec<TopAgent<'a>>,
    /// The addresses that most came from.
    top_source_ips: Vec<TopIp>,
}

/// Threats of each severity.
#[derive(Serialize, ToSchema)]
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

/// An agent that reported many.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TopAgent)]
struct TopAgent<'a> {
    /// The agent.
    agent_id: AgentId,
    /// Name of its machine.
    hostname: &'a str,
    /// Threats that it reported.
    count: u64,
}

/// An address that many came from.
#[derive(Serialize, ToSchema)]
struct TopIp {
    /// The address.
    #[schema(value_type = IpAddress)]
    ip: std::net::IpAddr,
    /// Threats that came from it.
    count: u64,
}

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
pub(super) fn as_map<S: Serializer>(pairs: &[(&str, u64)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(pairs.iter().copied())
}

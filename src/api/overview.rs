//! `GET /api/overview`: the fleet at one glance. Nothing in it is counted when it is asked for.

use actix_web::{HttpResponse, http::StatusCode};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{
    ApiError, Call, Description, envelope,
    summary::{BySeverity, as_map},
};
use crate::{
    engine::{OTHER, most_frequent},
    fleet::{PolicyVersion, Timestamp},
    limits::SUMMARY_TOP,
    threats::Period,
};

/// The fleet at one glance.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Overview)]
struct Overview<'a> {
    /// Agents in the fleet.
    total_agents: u64,
    /// Of these, online.
    online_agents: u64,
    /// Of these, stale.
    stale_agents: u64,
    /// Of these, offline.
    offline_agents: u64,
    /// Threats of late.
    threat_summary: LatestThreats,
    /// Version of the newest policy, whomever it is for; `null` while there is none.
    #[schema(required)]
    active_policy_version: Option<PolicyVersion>,
    /// The most frequent types of threats in the last 24 hours.
    top_threats: Vec<TopThreat<'a>>,
    /// Agents with each of the most frequent operating systems; `other` is the rest.
    #[serde(serialize_with = "as_map")]
    #[schema(value_type = HashMap<String, u64>)]
    agents_by_os: Vec<(&'a str, u64)>,
    /// When this was so.
    updated_at: Timestamp,
}

/// Threats of late.
#[derive(Serialize, ToSchema)]
struct LatestThreats {
    /// In the last 24 hours.
    last24h: Figures,
    /// In the last seven days.
    last7d: Figures,
}

/// How many threats there were.
#[derive(Serialize, ToSchema)]
struct Figures {
    /// In all.
    total: u64,
    #[serde(flatten)]
    by_severity: BySeverity,
}

/// A type of threat, among the most frequent of the last 24 hours.
#[derive(Serialize, ToSchema)]
#[schema(as = TopThreat)]
struct TopThreat<'a> {
    /// The type.
    r#type: &'a str,
    /// Threats of this type.
    count: u64,
}

pub(super) fn describe() -> Description {
    Description::new("Dashboards", "overview", "See the fleet at one glance")
        .about("What a dashboard shows first; cheap enough to be asked for every few seconds.")
        .answers::<Overview<'_>>(200, "The fleet")
        .example(json!({
            "totalAgents": 12, "onlineAgents": 10, "staleAgents": 1, "offlineAgents": 1,
            "threatSummary": {
                "last24h": { "total": 2, "critical": 0, "high": 1, "medium": 1, "low": 0 },
                "last7d": { "total": 9, "critical": 1, "high": 3, "medium": 3, "low": 2 },
            },
            "activePolicyVersion": "v3",
            "topThreats": [{ "type": "brute_force", "count": 1 }, { "type": "port_scan", "count": 1 }],
            "agentsByOs": { "linux": 12 }, "updatedAt": "2026-03-07T12:05:00.000Z",
        }))
}

pub(super) async fn overview(call: Call<'_>) -> Result<HttpResponse, ApiError> {
    let engine = &call.state.engine;
    let shards = engine.label_counts().await?;
    let (mut by_os, other) = most_frequent(shards.iter().map(|shard| &shard.os));
    if other > 0 {
        by_os.push((OTHER, other));
    }
    let (last_day, last_week) = (engine.threat_summary(None, Period::Day1), engine.threat_counts(Period::Days7));
    let (last_day, last_week) = tokio::try_join!(last_day, last_week)?;
    let counts = engine.counts();
    let overview = Overview {
        total_agents: counts.total(),
        online_agents: counts.online,
        stale_agents: counts.stale,
        offline_agents: counts.offline,
        threat_summary: LatestThreats {
            last24h: Figures { total: last_day.total, by_severity: last_day.by_severity.into() },
            last7d: Figures { total: last_week.0, by_severity: last_week.1.into() },
        },
        active_policy_version: engine.policy_version(),
        top_threats: last_day
            .by_kind
            .iter()
            .take(SUMMARY_TOP)
            .map(|(kind, count)| TopThreat { r#type: kind, count: *count })
            .collect(),
        agents_by_os: by_os,
        updated_at: engine.clock().wall(),
    };
    Ok(envelope::data(StatusCode::OK, &overview))
}

//! `GET /api/overview`: the fleet at one glance. Nothing in it is counted when it is asked for.

use actix_web::{HttpRequest, HttpResponse, http::StatusCode};
use serde::Serialize;

use super::{
    State,
    auth::Caller,
    envelope::{self, ApiError},
    threats::{BySeverity, as_map},
};
use crate::{
    actors::{OTHER, most_frequent},
    fleet::{PolicyVersion, Timestamp},
    limits::SUMMARY_TOP,
    threats::Period,
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Overview<'a> {
    total_agents: u64,
    online_agents: u64,
    stale_agents: u64,
    offline_agents: u64,
    threat_summary: ThreatSummary,
    active_policy_version: Option<PolicyVersion>,
    top_threats: Vec<TopThreat<'a>>,
    #[serde(serialize_with = "as_map")]
    agents_by_os: Vec<(&'a str, u64)>,
    updated_at: Timestamp,
}

#[derive(Serialize)]
struct ThreatSummary {
    last24h: Figures,
    last7d: Figures,
}

#[derive(Serialize)]
struct Figures {
    total: u64,
    #[serde(flatten)]
    by_severity: BySeverity,
}

/// A type of threat, among the most frequent of the last 24 hours.
#[derive(Serialize)]
struct TopThreat<'a> {
    r#type: &'a str,
    count: u64,
}

pub(super) async fn overview(request: &HttpRequest, state: &State) -> Result<HttpResponse, ApiError> {
    Caller::of(request.headers(), &state.auth)?.must_be_admin(state).await?;
    let engine = &state.engine;
    let censuses = engine.census().await?;
    let (mut by_os, other) = most_frequent(censuses.iter().map(|census| &census.os));
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
        threat_summary: ThreatSummary {
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
    Ok(envelope::data_with(StatusCode::OK, &overview))
}

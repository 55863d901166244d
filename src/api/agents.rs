//! A single agent: shown, and deregistered; and how agents are shown in a list (`listing.rs`).

use std::net::IpAddr;

use actix_web::{HttpResponse, http::StatusCode};
use serde::Serialize;
use serde_json::json;
use tracing::field::display;
use utoipa::ToSchema;

use super::{
    ApiError, Call, Description, envelope, heartbeat::ShownFigures, peer, request_id::request_id_of, values::IpAddress,
};
use crate::{
    engine::{AgentState, AgentView},
    fleet::{AgentId, PolicyVersion, Status, Timestamp},
};

/// An agent in a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Agent)]
pub(super) struct AgentRow<'a> {
    /// Its name.
    id: AgentId,
    /// Name of its machine.
    hostname: &'a str,
    /// Operating system.
    os: &'a str,
    /// Version of the Guard.
    version: &'a str,
    /// Its address.
    #[schema(value_type = IpAddress)]
    ip: IpAddr,
    /// Whether it is alive, judged by how long ago it last beat.
    status: Status,
    /// Its tags.
    tags: Vec<&'a str>,
    /// When it last beat; when it registered if it has not beaten yet.
    last_heartbeat: Timestamp,
    /// When it registered.
    registered_at: Timestamp,
    /// Its tenant.
    #[serde(rename = "org_id", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    org_id: Option<&'a str>,
}

/// An agent shown alone: the fields of the list and the figures it reported.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AgentDetail)]
struct AgentDetail<'a> {
    /// The fields of the list.
    #[serde(flatten)]
    row: AgentRow<'a>,
    /// What it reported last.
    #[serde(flatten)]
    figures: ShownFigures,
    /// Threats it reported in the last 24 hours.
    #[serde(rename = "recentThreats")]
    recent_threats: u64,
    /// Version of the policy in force for it; `null` while there is none.
    #[serde(rename = "activePolicyVersion")]
    #[schema(required)]
    active_policy_version: Option<PolicyVersion>,
}

/// Writes the row of an agent in a list.
pub fn write_row(view: &AgentView<'_>, out: &mut Vec<u8>) {
    let AgentView { agent, status, texts } = *view;
    let row = AgentRow {
        id: agent.id(),
        hostname: agent.hostname(),
        os: agent.os(texts),
        version: agent.version(texts),
        ip: agent.ip(),
        status,
        tags: agent.tags(texts).collect(),
        last_heartbeat: agent.last_seen(),
        registered_at: agent.registered_at(),
        org_id: agent.org_id(texts),
    };
    serde_json::to_writer(out, &row).expect("an agent has only string keys");
}

impl<'a> From<&'a AgentState> for AgentDetail<'a> {
    fn from(shown: &'a AgentState) -> Self {
        let AgentState { registration, status, last_heartbeat, figures, recent_threats, policy } = shown;
        Self {
            row: AgentRow {
                id: registration.id,
                hostname: &registration.hostname,
                os: &registration.os,
                version: &registration.version,
                ip: registration.ip,
                status: *status,
                tags: registration.tags.iter().map(|tag| &**tag).collect(),
                last_heartbeat: *last_heartbeat,
                registered_at: registration.registered_at,
                org_id: registration.org_id.as_deref(),
            },
            figures: ShownFigures::from(figures),
            recent_threats: *recent_threats,
            active_policy_version: *policy,
        }
    }
}

pub(super) fn describe_show() -> Description {
    Description::new("Agents", "getAgent", "Show an agent")
        .about("The fields of the list and the figures it reported last.")
        .answers::<AgentDetail<'_>>(200, "The agent")
        .example(json!({
            "id": "agent-00f3a1b2c3d4e5f6", "hostname": "web-server-1", "os": "linux", "version": "1.2.0",
            "ip": "203.0.113.10", "status": "online", "tags": ["production", "web-tier"],
            "lastHeartbeat": "2026-03-07T12:05:00.000Z", "registeredAt": "2026-03-07T12:00:00.000Z", "cpu": 12.5,
            "memory": 48.2, "uptime": 86400, "recentThreats": 0, "activePolicyVersion": null,
        }))
}

pub(super) async fn show(call: Call<'_>) -> Result<HttpResponse, ApiError> {
    let (id, credential) = (call.agent()?, call.credential()?);
    let agent = call.state.engine.show(id, credential).await.map_err(|error| call.principal.explain(error))?;
    Ok(envelope::data(StatusCode::OK, &AgentDetail::from(&agent)))
}

/// That an agent is gone.
#[derive(Serialize, ToSchema)]
struct Deregistered {
    /// Says so, with its name.
    message: String,
}

pub(super) fn describe_deregister() -> Description {
    Description::new("Agents", "deregisterAgent", "Deregister an agent")
        .about(
            "It leaves the fleet for good, and its token is no longer valid. The answer comes once that is\n\
             durable.",
        )
        .answers::<Deregistered>(200, "The agent is gone")
        .example(json!({ "message": "Agent agent-00f3a1b2c3d4e5f6 deregistered successfully" }))
}

pub(super) async fn deregister(call: Call<'_>) -> Result<HttpResponse, ApiError> {
    let Call { request, state, principal, .. } = call;
    let (id, credential) = (call.agent()?, call.credential()?);
    state.engine.deregister(id, credential).await.map_err(|error| principal.explain(error))?;
    let (address, request_id) = (peer::address(request, state).map(display), request_id_of(request));
    tracing::info!(agent = %id, by = %principal, address, request_id, "an agent was deregistered");
    Ok(envelope::data(StatusCode::OK, &Deregistered { message: format!("Agent {id} deregistered successfully") }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{Agent, Figures, Registration, SharedStrings};

    /// As it is shown in a list, and alone.
    fn shown(registration: Registration, status: Status) -> [serde_json::Value; 2] {
        let mut texts = SharedStrings::default();
        let agent = Agent::new(registration.clone(), &mut texts);
        let mut row = Vec::new();
        write_row(&AgentView { agent: &agent, status, texts: &texts }, &mut row);
        let last_heartbeat = registration.registered_at;
        let figures = Figures::default();
        let detail = AgentState { registration, status, last_heartbeat, figures, recent_threats: 0, policy: None };
        [serde_json::from_slice(&row).unwrap(), serde_json::to_value(AgentDetail::from(&detail)).unwrap()]
    }

    #[test]
    fn an_agent_is_shown_as_it_registered() {
        let [row, mut detail] = shown(Registration::sample(), Status::Online);
        assert_eq!(
            row,
            json!({
                "id": "agent-0000000000000007", "hostname": "web-1", "os": "linux", "version": "1.2.0",
                "ip": "203.0.113.10", "status": "online", "tags": ["production", "web"], "org_id": "acme",
                "lastHeartbeat": "1970-01-01T00:00:01.000Z", "registeredAt": "1970-01-01T00:00:01.000Z",
            })
        );
        for (name, value) in row.as_object().unwrap() {
            assert_eq!(detail[name].take(), *value, "{name} is the same alone");
        }
        for row in shown(Registration { tags: vec![], org_id: None, ..Registration::sample() }, Status::Stale) {
            assert_eq!(row["tags"], json!([]));
            assert!(row.get("org_id").is_none());
        }
    }
}

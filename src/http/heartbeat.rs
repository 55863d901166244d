//! `POST /api/agents/:id/heartbeat`, the one request that is made a million times a minute.
//!
//! It comes in by two ways, the framework's `App` and the lane in front of it (`lane.rs`); this is what both call.

use std::fmt::Write as _;

use actix_web::{dev::Payload, http::header::HeaderMap};
use utoipa::ToSchema;

use super::{
    ApiState,
    auth::Caller,
    body,
    envelope::{ApiError, Failure, Success},
};
use crate::{
    actors::{BeatAck, EngineError},
    fleet::{AgentId, HEARTBEAT_FIELDS, Heartbeat, HeartbeatBody, Status, Timestamp},
    limits::BODY_MAX_BYTES,
    metrics::HeartbeatResult,
};

/// Longest answer, in bytes: `pendingPolicies` has ten digits at most.
const ANSWER_BYTES: usize = 144;

// Hands the heartbeat to its agent, if its path named one. Returns the body of the answer, which is JSON.
/// Beat
///
/// A sign of life: the agent is online from now on. An empty body, or none, is a bare one; otherwise it carries figures.
/// With the agent's own token, or the administrator's.
#[utoipa::path(
    post,
    path = "/api/agents/{id}/heartbeat",
    operation_id = "beat",
    tag = "Agents",
    security(("token" = [])),
    params(("id" = AgentId, Path, description = "The agent")),
    request_body(content = Option<HeartbeatBody>, example = json!({ "uptime": 86400, "cpu": 12.5, "memory": 48.2 })),
    responses(
        (status = 200, description = "The heartbeat was heard", body = Success<Heard>, example = json!({
            "ok": true,
            "data": {
                "id": "agent-00f3a1b2c3d4e5f6",
                "status": "online",
                "lastHeartbeat": "2026-03-07T12:05:00.000Z",
                "pendingPolicies": 0,
            },
        })),
        (status = 403, description = "Another agent's token", body = Failure),
        (status = 404, description = "No such agent", body = Failure, example = json!({
            "ok": false, "error": "Agent not found",
        })),
    ),
)]
pub(super) async fn receive(
    headers: &HeaderMap,
    payload: &mut Payload,
    state: &ApiState,
    id: Option<AgentId>,
) -> Result<String, ApiError> {
    let clock = state.engine.clock();
    let arrived = clock.monotonic();
    let outcome = beat(headers, payload, state, id).await;
    let metrics = state.engine.metrics();
    metrics.heartbeat(outcome.as_ref().map_or_else(result_of, |_| HeartbeatResult::Accepted));
    metrics.heartbeat_latency.record(clock.monotonic() - arrived);
    outcome
}

async fn beat(
    headers: &HeaderMap,
    payload: &mut Payload,
    state: &ApiState,
    id: Option<AgentId>,
) -> Result<String, ApiError> {
    let caller = Caller::of(headers, &state.auth)?;
    let proof = caller.proof_for(id, state).await?;
    let heartbeat = match read(headers, payload).await {
        Ok(heartbeat) => heartbeat,
        // The agent's actor would have found a wrong token; it must not go unnoticed behind a wrong body.
        Err(wrong) => return Err(caller.check(state).await.err().unwrap_or(wrong)),
    };
    let id = id.ok_or(EngineError::NotFound)?;
    let ack = state.engine.beat(id, proof, heartbeat).await.map_err(|error| caller.explain(error))?;
    Ok(answer(id, &ack))
}

async fn read(headers: &HeaderMap, payload: &mut Payload) -> Result<Heartbeat, ApiError> {
    let body = body::read(headers, payload, BODY_MAX_BYTES).await?;
    if body.is_empty() {
        return Ok(Heartbeat::default());
    }
    Ok(body::parse::<HeartbeatBody>(headers, &body, HEARTBEAT_FIELDS)?.try_into()?)
}

// What `answer` writes, for the document; a test compares the two.
/// That a heartbeat was heard.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[cfg_attr(test, derive(serde::Serialize), serde(rename_all = "camelCase"))]
#[cfg_attr(not(test), expect(dead_code, reason = "the answer is written by hand"))]
struct Heard {
    /// The agent.
    id: AgentId,
    /// Its status now.
    status: Status,
    /// When it was heard.
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
        let heard = Heard { id, status, last_heartbeat, pending_policies: pending_policies.into() };
        assert_eq!(answer(id, &ack), serde_json::to_string(&Success::of(heard)).unwrap());
    }

    #[test]
    fn the_longest_answer_needs_no_second_allocation() {
        let ack = BeatAck { status: Status::Offline, at: Timestamp::from_millis(0), pending_policies: u32::MAX };
        let json = answer(AgentId::new(u64::MAX), &ack);
        assert!(json.len() <= ANSWER_BYTES, "{} bytes", json.len());
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["data"]["lastHeartbeat"], "1970-01-01T00:00:00.000Z");
    }
}

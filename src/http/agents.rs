//! The endpoints of a single agent: register, heartbeat, show, deregister.

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web::Payload};
use serde::Serialize;

use super::{
    State,
    auth::{self, Caller},
    body,
    envelope::{self, ApiError},
    peer,
};
use crate::{
    actors::{BeatAck, EngineError, Registered},
    fleet::{
        AgentId, EnrolmentRequest, HEARTBEAT_FIELDS, Heartbeat, HeartbeatBody, REGISTRATION_FIELDS, Registration,
        RegistrationBody, Status, Timestamp,
    },
    metrics::HeartbeatResult,
};

/// `POST /api/agents/register`
pub(super) async fn register(request: &HttpRequest, payload: Payload, state: &State) -> Result<HttpResponse, ApiError> {
    let by_token = auth::may_enrol(request, state).await?;
    let body = body::read(request, payload).await?;
    let wanted: RegistrationBody = body::parse(request, &body, REGISTRATION_FIELDS)?;
    let wanted = EnrolmentRequest::try_from(wanted)?;
    let from = peer::address(request, state);
    let registered = state.engine.register(wanted, from, by_token).await?;
    let answer = serde_json::to_vec(&Enrolled::from(&registered)).expect("an answer has only string keys");
    Ok(envelope::json_response(StatusCode::CREATED, answer))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Enrolled<'a> {
    ok: bool,
    data: EnrolledAgent<'a>,
    agent_id: AgentId,
    token: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EnrolledAgent<'a> {
    id: AgentId,
    hostname: &'a str,
    os: &'a str,
    version: &'a str,
    ip: std::net::IpAddr,
    tags: &'a [Box<str>],
    status: Status,
    registered_at: Timestamp,
    #[serde(rename = "org_id", skip_serializing_if = "Option::is_none")]
    org_id: Option<&'a str>,
}

impl<'a> From<&'a Registered> for Enrolled<'a> {
    fn from(registered: &'a Registered) -> Self {
        let Registration { id, hostname, os, version, ip, tags, org_id, registered_at, .. } = &registered.registration;
        Self {
            ok: true,
            data: EnrolledAgent {
                id: *id,
                hostname,
                os,
                version,
                ip: *ip,
                tags,
                status: Status::Online,
                registered_at: *registered_at,
                org_id: org_id.as_deref(),
            },
            agent_id: *id,
            token: registered.token.as_str(),
        }
    }
}

/// `POST /api/agents/:id/heartbeat`
pub(super) async fn heartbeat(
    request: &HttpRequest,
    payload: Payload,
    state: &State,
    id: &str,
) -> Result<HttpResponse, ApiError> {
    let clock = state.engine.clock();
    let arrived = clock.monotonic();
    let outcome = beat(request, payload, state, parse_id(id)).await;
    let metrics = state.engine.metrics();
    metrics.heartbeat(outcome.as_ref().map_or_else(result_of, |_| HeartbeatResult::Accepted));
    metrics.heartbeat_latency.record(clock.monotonic() - arrived);
    outcome
}

async fn beat(
    request: &HttpRequest,
    payload: Payload,
    state: &State,
    id: Option<AgentId>,
) -> Result<HttpResponse, ApiError> {
    let caller = Caller::of(request, &state.auth)?;
    let proof = caller.proof_for(id, state).await?;
    let heartbeat = match read_heartbeat(request, payload).await {
        Ok(heartbeat) => heartbeat,
        // The agent's actor would have found a wrong token; it must not go unnoticed behind a wrong body.
        Err(wrong) => return Err(caller.check(state).await.err().unwrap_or(wrong)),
    };
    let id = id.ok_or(EngineError::NotFound)?;
    let ack = state.engine.beat(id, proof, heartbeat).await.map_err(|error| caller.explain(error))?;
    Ok(envelope::json_response(StatusCode::OK, beat_answer(id, &ack)))
}

async fn read_heartbeat(request: &HttpRequest, payload: Payload) -> Result<Heartbeat, ApiError> {
    let body = body::read(request, payload).await?;
    if body.is_empty() {
        return Ok(Heartbeat::default());
    }
    Ok(body::parse::<HeartbeatBody>(request, &body, HEARTBEAT_FIELDS)?.try_into()?)
}

/// Written by hand: this is the one answer that is given a million times a minute.
fn beat_answer(id: AgentId, ack: &BeatAck) -> String {
    let BeatAck { status, at, pending_policies } = ack;
    format!(
        r#"{{"ok":true,"data":{{"id":"{id}","status":"{status}","lastHeartbeat":"{at}","pendingPolicies":{pending_policies}}}}}"#
    )
}

fn result_of(error: &ApiError) -> HeartbeatResult {
    match error {
        ApiError::Unauthorized | ApiError::Forbidden(_) => HeartbeatResult::Refused,
        ApiError::NotFound(_) => HeartbeatResult::Unknown,
        ApiError::Unavailable(_) => HeartbeatResult::Unavailable,
        ApiError::BadRequest(_)
        | ApiError::MethodNotAllowed { .. }
        | ApiError::BodyTimeout
        | ApiError::Conflict(_)
        | ApiError::BodyTooLarge { .. }
        | ApiError::NotJson => HeartbeatResult::Invalid,
    }
}

/// `GET /api/agents/:id`
pub(super) async fn show(request: &HttpRequest, state: &State, id: &str) -> Result<HttpResponse, ApiError> {
    let caller = Caller::of(request, &state.auth)?;
    let id = parse_id(id);
    let proof = caller.proof_for(id, state).await?;
    let id = id.ok_or(EngineError::NotFound)?;
    let agent = state.engine.show(id, proof).await.map_err(|error| caller.explain(error))?;
    Ok(envelope::data(&agent))
}

/// `DELETE /api/agents/:id`
pub(super) async fn deregister(request: &HttpRequest, state: &State, id: &str) -> Result<HttpResponse, ApiError> {
    let caller = Caller::of(request, &state.auth)?;
    let id = parse_id(id);
    let proof = caller.proof_for(id, state).await?;
    let id = id.ok_or(EngineError::NotFound)?;
    state.engine.deregister(id, proof).await.map_err(|error| caller.explain(error))?;
    Ok(envelope::data(format!(r#"{{"message":"Agent {id} deregistered successfully"}}"#).as_bytes()))
}

/// The agent that the path names. What is not an id is an agent that does not exist.
fn parse_id(segment: &str) -> Option<AgentId> {
    segment.parse().ok()
}

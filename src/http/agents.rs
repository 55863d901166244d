//! The endpoints of a single agent, all but its heartbeat: register, show, deregister.

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
    actors::{EngineError, Registered},
    fleet::{AgentId, EnrolmentRequest, REGISTRATION_FIELDS, Registration, RegistrationBody, Status, Timestamp},
    limits::BODY_MAX_BYTES,
};

/// `POST /api/agents/register`
pub(super) async fn register(request: &HttpRequest, payload: Payload, state: &State) -> Result<HttpResponse, ApiError> {
    let by_token = auth::may_enrol(request, state).await?;
    let body = body::read(request.headers(), &mut payload.into_inner(), BODY_MAX_BYTES).await?;
    let wanted: RegistrationBody = body::parse(request.headers(), &body, REGISTRATION_FIELDS)?;
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

/// `GET /api/agents/:id`
pub(super) async fn show(request: &HttpRequest, state: &State, id: &str) -> Result<HttpResponse, ApiError> {
    let caller = Caller::of(request.headers(), &state.auth)?;
    let id = parse_id(id);
    let proof = caller.proof_for(id, state).await?;
    let id = id.ok_or(EngineError::NotFound)?;
    let agent = state.engine.show(id, proof).await.map_err(|error| caller.explain(error))?;
    Ok(envelope::data(&agent))
}

/// `DELETE /api/agents/:id`
pub(super) async fn deregister(request: &HttpRequest, state: &State, id: &str) -> Result<HttpResponse, ApiError> {
    let caller = Caller::of(request.headers(), &state.auth)?;
    let id = parse_id(id);
    let proof = caller.proof_for(id, state).await?;
    let id = id.ok_or(EngineError::NotFound)?;
    state.engine.deregister(id, proof).await.map_err(|error| caller.explain(error))?;
    Ok(envelope::data(format!(r#"{{"message":"Agent {id} deregistered successfully"}}"#).as_bytes()))
}

/// The agent that the path names. What is not an id is an agent that does not exist.
pub(super) fn parse_id(segment: &str) -> Option<AgentId> {
    segment.parse().ok()
}

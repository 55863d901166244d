//! The endpoints of a single agent, all but its heartbeat: register, show, deregister.

use actix_web::{HttpRequest, HttpResponse, dev::Payload, http::StatusCode};
use serde::Serialize;
use tracing::field::display;
use utoipa::ToSchema;

use super::{
    State,
    auth::{self, Caller},
    body,
    envelope::{self, ApiError, Failure, Success},
    peer, query,
    request_log::request_id_of,
};
use crate::{
    actors::{EngineError, Registered},
    fleet::{
        AgentDetail, AgentId, EnrolmentRequest, IpAddress, REGISTRATION_FIELDS, Registration, RegistrationBody, Status,
        Timestamp,
    },
    limits::BODY_MAX_BYTES,
};

/// Register an agent
///
/// The agent joins the fleet and gets a token of its own, which is shown this once. With the administrator's token, or
/// without any from a network in `auth.open_enrollment`. The answer comes once the registration is durable.
///
/// Every registration is a new agent, unless it names a `machine_id`: then the machine keeps the id that it got first,
/// its fields are updated, and its earlier token is no longer valid.
#[utoipa::path(
    post,
    path = "/api/agents/register",
    operation_id = "registerAgent",
    tag = "Agents",
    security(("token" = []), ()),
    request_body(content = RegistrationBody, example = json!({
        "hostname": "web-server-1",
        "os": "linux",
        "version": "1.2.0",
        "tags": ["production", "web-tier"],
    })),
    responses(
        (status = 201, description = "The agent is in the fleet", body = Enrolled, example = json!({
            "ok": true,
            "data": {
                "id": "agent-00f3a1b2c3d4e5f6",
                "hostname": "web-server-1",
                "os": "linux",
                "version": "1.2.0",
                "ip": "203.0.113.10",
                "tags": ["production", "web-tier"],
                "status": "online",
                "registeredAt": "2026-03-07T12:00:00.000Z",
            },
            "agentId": "agent-00f3a1b2c3d4e5f6",
            "token": "gb_00f3a1b2c3d4e5f6_qk0cV6wF1yXn5S3mZr8dT2uJb7hLgP9eRaKxWvYtNcE",
        })),
        (status = 403, description = "An agent's token may not register", body = Failure),
        (status = 409, description = "The fleet is full, or a registration without a token names a machine that is \
            already registered", body = Failure, example = json!({
            "ok": false, "error": "The fleet is full: it holds 20000000 agents, the most that limits.max_agents allows",
        })),
    ),
)]
pub(super) async fn register(
    request: &HttpRequest,
    payload: &mut Payload,
    state: &State,
) -> Result<HttpResponse, ApiError> {
    let caller = auth::may_enrol(request, state).await?;
    query::none(request.query_string())?;
    let body = body::read(request.headers(), payload, BODY_MAX_BYTES).await?;
    let wanted: RegistrationBody = body::parse(request.headers(), &body, REGISTRATION_FIELDS)?;
    let wanted = EnrolmentRequest::try_from(wanted)?;
    let address = peer::address(request, state);
    let from = wanted.ip.or(address).ok_or_else(|| {
        ApiError::BadRequest(
            "ip must be given: what a proxy says of where the request comes from cannot be read".into(),
        )
    })?;
    let registered = state.engine.register(wanted, from.ip(), caller == Caller::Admin).await?;
    state.request_log.registered(request, address, caller, &registered);
    let answer = serde_json::to_vec(&Enrolled::from(&registered)).expect("an answer has only string keys");
    Ok(envelope::json_response(StatusCode::CREATED, answer))
}

/// An agent that has just registered.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Enrolled)]
struct Enrolled<'a> {
    #[schema(schema_with = envelope::always::<true>)]
    ok: bool,
    data: EnrolledAgent<'a>,
    /// The agent's name, once more.
    agent_id: AgentId,
    /// The agent's own token. The server keeps no more than its hash.
    token: &'a str,
}

/// What was registered.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = EnrolledAgent)]
struct EnrolledAgent<'a> {
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
    ip: std::net::IpAddr,
    /// Its tags, without duplicates.
    #[schema(value_type = Vec<String>)]
    tags: &'a [Box<str>],
    /// Online: registering is a sign of life.
    status: Status,
    /// When it registered.
    registered_at: Timestamp,
    /// Its tenant.
    #[serde(rename = "org_id", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
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

/// Show an agent
///
/// The fields of the list and the figures it reported last. With the administrator's token, or the agent's own.
#[utoipa::path(
    get,
    path = "/api/agents/{id}",
    operation_id = "getAgent",
    tag = "Agents",
    security(("token" = [])),
    params(("id" = AgentId, Path, description = "The agent")),
    responses(
        (status = 200, description = "The agent", body = Success<AgentDetail>, example = json!({
            "ok": true,
            "data": {
                "id": "agent-00f3a1b2c3d4e5f6",
                "hostname": "web-server-1",
                "os": "linux",
                "version": "1.2.0",
                "ip": "203.0.113.10",
                "status": "online",
                "tags": ["production", "web-tier"],
                "lastHeartbeat": "2026-03-07T12:05:00.000Z",
                "registeredAt": "2026-03-07T12:00:00.000Z",
                "cpu": 12.5,
                "memory": 48.2,
                "uptime": 86400,
                "recentThreats": 0,
                "activePolicyVersion": null,
            },
        })),
        (status = 403, description = "Another agent's token", body = Failure),
        (status = 404, description = "No such agent", body = Failure, example = json!({
            "ok": false, "error": "Agent not found",
        })),
    ),
)]
pub(super) async fn show(request: &HttpRequest, state: &State, id: &str) -> Result<HttpResponse, ApiError> {
    let caller = Caller::of(request.headers(), &state.auth)?;
    let id = parse_id(id);
    let proof = caller.proof_for(id, state).await?;
    query::none_of(caller, request, state).await?;
    let id = id.ok_or(EngineError::NotFound)?;
    let agent = state.engine.show(id, proof).await.map_err(|error| caller.explain(error))?;
    Ok(envelope::data(&agent))
}

/// Deregister an agent
///
/// It leaves the fleet for good, and its token is no longer valid. The answer comes once that is durable. With the
/// administrator's token, or the agent's own.
#[utoipa::path(
    delete,
    path = "/api/agents/{id}",
    operation_id = "deregisterAgent",
    tag = "Agents",
    security(("token" = [])),
    params(("id" = AgentId, Path, description = "The agent")),
    responses(
        (status = 200, description = "The agent is gone", body = Success<Deregistered>, example = json!({
            "ok": true,
            "data": { "message": "Agent agent-00f3a1b2c3d4e5f6 deregistered successfully" },
        })),
        (status = 403, description = "Another agent's token", body = Failure),
        (status = 404, description = "No such agent", body = Failure, example = json!({
            "ok": false, "error": "Agent not found",
        })),
    ),
)]
pub(super) async fn deregister(request: &HttpRequest, state: &State, id: &str) -> Result<HttpResponse, ApiError> {
    let caller = Caller::of(request.headers(), &state.auth)?;
    let id = parse_id(id);
    let proof = caller.proof_for(id, state).await?;
    query::none_of(caller, request, state).await?;
    let id = id.ok_or(EngineError::NotFound)?;
    state.engine.deregister(id, proof).await.map_err(|error| caller.explain(error))?;
    let (address, request_id) = (peer::address(request, state).map(display), request_id_of(request));
    tracing::info!(agent = %id, by = %caller, address, request_id, "an agent was deregistered");
    Ok(envelope::data_with(StatusCode::OK, &Deregistered { message: format!("Agent {id} deregistered successfully") }))
}

/// That an agent is gone.
#[derive(Serialize, ToSchema)]
struct Deregistered {
    /// Says so, with its name.
    message: String,
}

/// The agent that the path names. What is not an id is an agent that does not exist.
pub(super) fn parse_id(segment: &str) -> Option<AgentId> {
    segment.parse().ok()
}

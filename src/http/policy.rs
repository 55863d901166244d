//! Policies: published by the administrator, fetched by agents.

use actix_web::{
    HttpRequest, HttpResponse,
    dev::Payload,
    http::{
        Method, StatusCode,
        header::{ETAG, HeaderMap, IF_NONE_MATCH},
    },
    web,
};
use bytes::Bytes;
use serde::Serialize;
use tracing::field::display;
use utoipa::{IntoParams, ToSchema};

use super::{
    State,
    agents::parse_id,
    auth::{Caller, Unproven},
    body,
    envelope::{self, ApiError, Failure, Success},
    peer,
    query::{self, org_id, parameters},
    request_log::request_id_of,
    shared::Shared,
};
use crate::{
    actors::{EngineError, Published},
    fleet::{AgentId, OrgId, PolicyVersion, Timestamp},
    limits::POLICY_BODY_MAX_BYTES,
    policy::{POLICY_FIELDS, Policy, PolicyBody, PolicyDraft, PolicyId, Rule},
};

/// Publish a policy
///
/// It gets the next version, and from then on it is in force for the whole fleet, or for a tenant's agents, which fetch it.
/// At most 1 MiB. The answer comes once the policy is durable. With the administrator's token.
#[utoipa::path(
    post,
    path = "/api/policy",
    operation_id = "publishPolicy",
    tag = "Policies",
    security(("token" = [])),
    request_body(content = PolicyBody, example = json!({
        "name": "Block the scanners",
        "description": "Seen on all our web servers",
        "rules": [
            { "type": "block_ip", "config": { "ip": "203.0.113.66", "minutes": 60 } },
            { "type": "alert_threshold", "config": { "severity": "high" }, "enabled": false },
        ],
    })),
    responses(
        (status = 201, description = "The policy is published", body = Success<PolicyView>, example = json!({
            "ok": true,
            "data": {
                "id": "pol_5e0c1b2a39485766",
                "name": "Block the scanners",
                "description": "Seen on all our web servers",
                "version": "v3",
                "rules": [
                    { "type": "block_ip", "config": { "ip": "203.0.113.66", "minutes": 60 }, "enabled": true },
                    { "type": "alert_threshold", "config": { "severity": "high" }, "enabled": false },
                ],
                "broadcastedTo": 10,
                "createdAt": "2026-03-07T12:05:00.000Z",
            },
        })),
        (status = 403, description = "An agent's token may not publish policies", body = Failure),
        (status = 409, description = "There are too many policies: too many tenants have some of their own, or they are too \
            large together", body = Failure),
    ),
)]
pub(super) async fn publish(
    request: &HttpRequest,
    payload: &mut Payload,
    state: &State,
) -> Result<HttpResponse, ApiError> {
    Caller::of(request.headers(), &state.auth)?.must_be_admin(state).await?;
    query::none(request.query_string())?;
    body::must_be_plain(request.headers())?;
    let body = body::read(request.headers(), payload, POLICY_BODY_MAX_BYTES).await?;
    if !body.is_empty() {
        body::must_be(body::JSON, request.headers())?;
    }
    // Taking a megabyte of rules apart is not for a thread that heartbeats wait for.
    let draft = web::block(move || draft_of(&body)).await.map_err(|_| EngineError::Unresponsive)??;
    let Published { policy, broadcasted_to } = state.engine.publish(draft).await?;
    let (address, request_id) = (peer::address(request, state).map(display), request_id_of(request));
    let (id, version, name, org_id) = (policy.id, policy.version, &*policy.name, policy.scope.org_id());
    tracing::info!(policy = %id, %version, name, org_id, by = %Caller::Admin, address, request_id, "a policy was published");
    Ok(envelope::data_with(StatusCode::CREATED, &PolicyView::of(&policy, Some(broadcasted_to))))
}

fn draft_of(body: &[u8]) -> Result<PolicyDraft, ApiError> {
    let draft: PolicyBody = body::parse_object("body", body, POLICY_FIELDS)?;
    Ok(draft.try_into()?)
}

/// Show the newest policy
///
/// Of all, or of those that concern a tenant: its own and the global ones. With the administrator's token.
#[utoipa::path(
    get,
    path = "/api/policy/active",
    operation_id = "getActivePolicy",
    tag = "Policies",
    security(("token" = [])),
    params(ActiveParams),
    responses(
        (status = 200, description = "The policy; `data` is `null` while there is none", body = ActivePolicy, example = json!({
            "ok": true,
            "data": {
                "id": "pol_5e0c1b2a39485766",
                "name": "Block the scanners",
                "description": "Seen on all our web servers",
                "version": "v3",
                "rules": [
                    { "type": "block_ip", "config": { "ip": "203.0.113.66", "minutes": 60 }, "enabled": true },
                    { "type": "alert_threshold", "config": { "severity": "high" }, "enabled": false },
                ],
                "createdAt": "2026-03-07T12:05:00.000Z",
            },
        })),
        (status = 403, description = "An agent's token; see `GET /api/policy/agent/{id}`", body = Failure),
    ),
)]
pub(super) async fn active(request: &HttpRequest, state: &State) -> Result<HttpResponse, ApiError> {
    Caller::of(request.headers(), &state.auth)?.must_be_admin(state).await?;
    let policy = state.engine.active_policy(tenant(request.query_string())?.as_deref());
    Ok(envelope::data_with(StatusCode::OK, &policy.as_deref().map(|policy| PolicyView::of(policy, None))))
}

/// The query, in the document's words; [`active`] reads it.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the query is read by hand")]
struct ActiveParams {
    /// The tenant whose view is wanted.
    org_id: Option<OrgId>,
}

/// Fetch the policy of an agent
///
/// The policy in force for the agent: the newest of its tenant; where that has none, the newest global one. Once it is
/// fetched the agent's `pendingPolicies` is 0; `HEAD` fetches nothing. With the agent's own token, or the administrator's.
#[utoipa::path(
    get,
    path = "/api/policy/agent/{id}",
    operation_id = "getAgentPolicy",
    tag = "Policies",
    security(("token" = [])),
    params(("id" = AgentId, Path, description = "The agent"), KnownPolicy),
    responses(
        (status = 200, description = "The policy; without rules while there is none", body = Success<AgentPolicy>,
            headers(("ETag" = String, description = "Stands for the version of the policy")), example = json!({
                "ok": true,
                "data": {
                    "agentId": "agent-00f3a1b2c3d4e5f6",
                    "policyVersion": "v3",
                    "rules": [
                        { "type": "block_ip", "config": { "ip": "203.0.113.66", "minutes": 60 }, "enabled": true },
                        { "type": "alert_threshold", "config": { "severity": "high" }, "enabled": false },
                    ],
                    "appliedAt": "2026-03-07T12:05:00.000Z",
                },
            })),
        (status = 304, description = "The policy is the one that `If-None-Match` names",
            headers(("ETag" = String, description = "Stands for the version of the policy"))),
        (status = 403, description = "Another agent's token", body = Failure),
        (status = 404, description = "No such agent", body = Failure, example = json!({
            "ok": false, "error": "Agent not found",
        })),
    ),
)]
pub(super) async fn of_agent(request: &HttpRequest, state: &State, id: &str) -> Result<HttpResponse, ApiError> {
    let caller = Caller::of(request.headers(), &state.auth)?;
    let id = parse_id(id);
    let proof = caller.proof_for(id, state).await?;
    query::none_of(caller, request, state).await?;
    let id = id.ok_or(EngineError::NotFound)?;
    let policy = state.engine.policy_of(id, proof, is_fetch(request)).await.map_err(|error| caller.explain(error))?;
    let etag = etag(policy.as_deref());
    // What is shown depends on the version alone, so the tag is a strong one.
    let mut response = if is_known(request.headers(), &etag) {
        HttpResponse::NotModified().finish()
    } else {
        let shown = (policy.as_deref().map(|policy| policy.version), policy.as_deref().map(|policy| policy.created_at));
        let rules = policy.as_deref().map_or(Bytes::from_static(b"[]"), |policy| policy.rules.json());
        let (agent, version, applied_at) = (json(&id), json(&shown.0), json(&shown.1));
        let head = format!(r#"{{"ok":true,"data":{{"agentId":{agent},"policyVersion":{version},"rules":"#);
        let tail = format!(r#","appliedAt":{applied_at}}}}}"#);
        envelope::json_response(StatusCode::OK, Shared::new(head, rules, tail))
    };
    response.headers_mut().insert(ETAG, etag.try_into().expect("a version is printed in ASCII"));
    Ok(response)
}

/// The header, in the document's words; [`is_known`] reads it.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "the header is read by hand")]
struct KnownPolicy {
    /// `ETag` of an earlier answer, to be told if it still holds.
    #[param(rename = "If-None-Match")]
    if_none_match: Option<String>,
}

/// Fetch the rules in force
///
/// The enabled rules of the policy in force for the agent whose token it is, as the published Guard client asks for them;
/// it is a fetch like that of an agent's policy. With the administrator's token: those in force for agents whose tenant
/// has no policy of its own.
#[utoipa::path(
    get,
    path = "/api/rules/latest",
    operation_id = "getLatestRules",
    tag = "Policies",
    security(("token" = [])),
    responses(
        (status = 200, description = "The rules", body = LatestRules, example = json!({
            "ok": true,
            "rules": [
                "{\"type\":\"block_ip\",\"config\":{\"ip\":\"203.0.113.66\",\"minutes\":60},\"enabled\":true}",
            ],
            "data": { "agentId": "agent-00f3a1b2c3d4e5f6", "policyVersion": "v3" },
        })),
    ),
)]
pub(super) async fn latest_rules(request: &HttpRequest, state: &State) -> Result<HttpResponse, ApiError> {
    let caller = Caller::of(request.headers(), &state.auth)?;
    let (agent_id, policy) = match caller {
        Caller::Admin => {
            query::none(request.query_string())?;
            (None, state.engine.global_policy())
        }
        Caller::Agent { id, .. } => {
            let proof = caller.proof_for(Some(id), state).await?;
            query::none_of(caller, request, state).await?;
            let policy = state.engine.policy_of(id, proof, is_fetch(request)).await;
            (Some(id), policy.map_err(|error| caller.explain(error))?)
        }
        Caller::Anonymous => return Err(ApiError::Unauthorized(Unproven::NoToken)),
    };
    let rules = policy.as_deref().map_or(Bytes::from_static(b"[]"), |policy| policy.rules.enabled_as_strings());
    let (agent, version) = (json(&agent_id), json(&policy.as_deref().map(|policy| policy.version)));
    let tail = format!(r#","data":{{"agentId":{agent},"policyVersion":{version}}}}}"#);
    Ok(envelope::json_response(StatusCode::OK, Shared::new(r#"{"ok":true,"rules":"#, rules, tail)))
}

/// HEAD hands nothing over, so nothing has been fetched.
fn is_fetch(request: &HttpRequest) -> bool {
    request.method() == Method::GET
}

/// The tenant whose view is wanted.
fn tenant(query: &str) -> Result<Option<Box<str>>, ApiError> {
    let wanted = parameters(query, &["org_id"], &[])?.pop();
    wanted.map(|(_, value)| org_id(&value)).transpose()
}

fn etag(policy: Option<&Policy>) -> String {
    policy.map_or_else(|| r#""none""#.into(), |policy| format!(r#""{}""#, policy.version))
}

/// Whether the client has what this tag stands for. As with every GET, a weak tag matches too.
fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let lists = headers.get_all(IF_NONE_MATCH).filter_map(|list| list.to_str().ok());
    lists
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .any(|known| known == "*" || known.trim_start_matches("W/") == etag)
}

fn json(part: &impl Serialize) -> String {
    serde_json::to_string(part).expect("part of an answer has only string keys")
}

/// A policy.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Policy)]
struct PolicyView<'a> {
    /// Its name for machines.
    id: PolicyId,
    /// Its name for people.
    name: &'a str,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    description: Option<&'a str>,
    /// The tenant for whose agents it is; without one it is for the whole fleet.
    #[serde(rename = "org_id", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    org_id: Option<&'a str>,
    /// Which of all policies of the fleet it is.
    version: PolicyVersion,
    /// What is to be done.
    rules: &'a [Rule],
    /// Agents in its scope that were online when it was published. Told in the answer to its publication alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    broadcasted_to: Option<u64>,
    /// When it was published.
    created_at: Timestamp,
}

impl<'a> PolicyView<'a> {
    fn of(policy: &'a Policy, broadcasted_to: Option<u64>) -> Self {
        Self {
            id: policy.id,
            name: &policy.name,
            description: policy.description.as_deref(),
            org_id: policy.scope.org_id(),
            version: policy.version,
            rules: &policy.rules,
            broadcasted_to,
            created_at: policy.created_at,
        }
    }
}

/// The newest policy, if there is one.
#[derive(ToSchema)]
#[expect(dead_code, reason = "`Success` of an option, which utoipa would call optional")]
struct ActivePolicy {
    #[schema(schema_with = envelope::always::<true>)]
    ok: bool,
    /// The policy.
    #[schema(required)]
    data: Option<PolicyView<'static>>,
}

/// The policy in force for an agent, in the document's words; [`of_agent`] puts it together.
#[derive(ToSchema)]
#[expect(dead_code, reason = "its rules are encoded once for all who fetch them")]
#[schema(as = AgentPolicy, rename_all = "camelCase")]
struct AgentPolicy<'a> {
    /// The agent.
    agent_id: AgentId,
    /// Version of the policy; `null` while there is none.
    #[schema(required)]
    policy_version: Option<PolicyVersion>,
    /// What is to be done.
    rules: &'a [Rule],
    /// When the policy was published; `null` while there is none.
    #[schema(required)]
    applied_at: Option<Timestamp>,
}

/// The rules in force, in the document's words; [`latest_rules`] puts them together.
#[derive(ToSchema)]
#[expect(dead_code, reason = "its rules are encoded once for all who fetch them")]
struct LatestRules {
    #[schema(schema_with = envelope::always::<true>)]
    ok: bool,
    /// Each as compact JSON.
    rules: Vec<String>,
    data: RulesOf,
}

/// Whose rules they are, and of which policy.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "see `LatestRules`")]
struct RulesOf {
    /// The agent; `null` if it was the administrator who asked.
    #[schema(required)]
    agent_id: Option<AgentId>,
    /// Version of the policy; `null` while there is none.
    #[schema(required)]
    policy_version: Option<PolicyVersion>,
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    #[test]
    fn a_tag_is_found_in_whatever_way_a_client_may_say_it() {
        let is_known = |lists: &[&str]| {
            let mut headers = HeaderMap::new();
            lists.iter().for_each(|list| headers.append(IF_NONE_MATCH, HeaderValue::from_str(list).unwrap()));
            is_known(&headers, r#""v3""#)
        };
        for known in [&[r#""v3""#][..], &[r#"W/"v3""#], &[r#""v1", W/"v3""#], &["*"], &[r#""v1""#, r#""v2","v3""#]] {
            assert!(is_known(known), "{known:?}");
        }
        for unknown in [&[][..], &[r#""v33""#], &["v3"], &[r#""none""#], &[""], &[r#""v1","v2""#]] {
            assert!(!is_known(unknown), "{unknown:?}");
        }
    }

    #[test]
    fn a_tenant_is_asked_for_once() {
        assert_eq!(tenant("").unwrap(), None);
        assert_eq!(tenant("org_id=a%20b").unwrap().as_deref(), Some("a b"));
        assert_eq!(tenant("org_id=a&org_id=a").unwrap_err().to_string(), "org_id is given twice");
        let (empty, long) = ("org_id=".to_owned(), format!("org_id={}", "a".repeat(65)));
        for wrong in [&*empty, &*long, "org_id=a%0a"] {
            assert!(tenant(wrong).unwrap_err().to_string().starts_with("org_id must be a string"), "{wrong}");
        }
    }
}

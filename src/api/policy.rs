//! Policies, as agents fetch them and people look at them. They are published in `publish.rs`.

use actix_web::{
    HttpResponse,
    http::{
        StatusCode,
        header::{ETAG, HeaderMap, IF_NONE_MATCH},
    },
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::{
    ApiError, Call, Description,
    auth::Principal,
    envelope::{self, Success},
    shared::Shared,
};
use crate::{
    fleet::{AgentId, OrgId, PolicyVersion, Text, Timestamp},
    policy::{Policy, PolicyId, Rule},
};

/// A policy.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Policy)]
pub(super) struct PolicyView<'a> {
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
    /// Agents in its scope that were online when it was published. Only in the answer to its publication.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    broadcasted_to: Option<u64>,
    /// When it was published.
    created_at: Timestamp,
}

impl<'a> PolicyView<'a> {
    pub(super) fn of(policy: &'a Policy, broadcasted_to: Option<u64>) -> Self {
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

/// What the newest policy may be asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ActiveQuery {
    /// The tenant whose view is wanted.
    org_id: Option<OrgId>,
}

pub(super) fn describe_active() -> Description {
    Description::new("Policies", "getActivePolicy", "Show the newest policy")
        .about(
            "Of all, or of those that concern a tenant: its own and the global ones. For an agent's token see\n\
             `GET /api/policy/agent/{id}`.",
        )
        .answers_or_null::<PolicyView<'_>>("The policy; `data` is `null` while there is none")
        .example(json!({
            "id": "pol_5e0c1b2a39485766", "name": "Block the scanners",
            "description": "Seen on all our web servers", "version": "v3", "rules": example_rules(),
            "createdAt": "2026-03-07T12:05:00.000Z",
        }))
}

/// Rules, as policies of examples have them.
pub(super) fn example_rules() -> serde_json::Value {
    json!([
        { "type": "block_ip", "config": { "ip": "203.0.113.66", "minutes": 60 }, "enabled": true },
        { "type": "alert_threshold", "config": { "severity": "high" }, "enabled": false },
    ])
}

pub(super) async fn active(call: Call<'_>) -> Result<HttpResponse, ApiError> {
    let ActiveQuery { org_id } = call.query()?;
    let policy = call.state.engine.active_policy(org_id.map(Text::into_inner).as_deref());
    Ok(envelope::data(StatusCode::OK, &policy.as_deref().map(|policy| PolicyView::of(policy, None))))
}

/// The policy in force for an agent.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct AgentPolicy {
    /// The agent.
    agent_id: AgentId,
    /// Version of the policy; `null` while there is none.
    #[schema(required)]
    policy_version: Option<PolicyVersion>,
    /// What is to be done.
    // Those that are sent are encoded once for all who fetch them: see `with_rules`.
    #[schema(value_type = Vec<Rule>)]
    rules: [(); 0],
    /// When the policy was published; `null` while there is none.
    #[schema(required)]
    applied_at: Option<Timestamp>,
}

pub(super) fn describe_of_agent() -> Description {
    let tag = "Stands for the version of the policy";
    Description::new("Policies", "getAgentPolicy", "Fetch the policy of an agent")
        .about(
            "The policy in force for the agent: the newest of its tenant; where that has none, the newest\n\
             global one. Once it is fetched the agent's `pendingPolicies` is 0; `HEAD` fetches nothing.",
        )
        .looks_at("If-None-Match", "`ETag` of an earlier answer; 304 if it still holds.")
        .answers::<AgentPolicy>(200, "The policy; without rules while there is none")
        .example(json!({
            "agentId": "agent-00f3a1b2c3d4e5f6", "policyVersion": "v3", "rules": example_rules(),
            "appliedAt": "2026-03-07T12:05:00.000Z",
        }))
        .with_header("ETag", tag)
        .answers_nothing(304, "The policy is the one that `If-None-Match` names")
        .with_header("ETag", tag)
}

pub(super) async fn of_agent(call: Call<'_>) -> Result<HttpResponse, ApiError> {
    let (id, credential) = (call.agent()?, call.credential()?);
    let policy = call.state.engine.policy_of(id, credential, !call.is_head()).await;
    let policy = policy.map_err(|error| call.principal.explain(error))?;
    let policy = policy.as_deref();
    let etag = etag(policy);
    // What is shown depends on the version alone, so the tag is a strong one.
    let mut response = if is_known(call.headers(), &etag) {
        HttpResponse::NotModified().finish()
    } else {
        let data = AgentPolicy {
            agent_id: id,
            policy_version: policy.map(|policy| policy.version),
            rules: [],
            applied_at: policy.map(|policy| policy.created_at),
        };
        with_rules(&Success::of(data), policy.map(|policy| policy.rules.json()))
    };
    response.headers_mut().insert(ETAG, etag.try_into().expect("a version is printed in ASCII"));
    Ok(response)
}

/// The rules in force.
#[derive(Serialize, ToSchema)]
struct LatestRules {
    #[schema(schema_with = envelope::always::<true>)]
    ok: bool,
    /// Each as compact JSON.
    #[schema(value_type = Vec<String>)]
    rules: [(); 0],
    data: RulesOf,
}

/// Whose rules they are, and of which policy.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RulesOf {
    /// The agent; `null` if it was the administrator who asked.
    #[schema(required)]
    agent_id: Option<AgentId>,
    /// Version of the policy; `null` while there is none.
    #[schema(required)]
    policy_version: Option<PolicyVersion>,
}

pub(super) fn describe_latest_rules() -> Description {
    Description::new("Policies", "getLatestRules", "Fetch the rules in force")
        .about(
            "The enabled rules of the policy in force for the agent whose token it is, as the published Guard\n\
             client asks for them; it is a fetch like that of an agent's policy. With the administrator's\n\
             token: those in force for agents whose tenant has no policy of its own.",
        )
        .answers_whole::<LatestRules>(200, "The rules")
        .example(json!({
            "ok": true,
            "rules": ["{\"type\":\"block_ip\",\"config\":{\"ip\":\"203.0.113.66\",\"minutes\":60},\"enabled\":true}"],
            "data": { "agentId": "agent-00f3a1b2c3d4e5f6", "policyVersion": "v3" },
        }))
}

pub(super) async fn latest_rules(call: Call<'_>) -> Result<HttpResponse, ApiError> {
    let engine = &call.state.engine;
    let (agent_id, policy) = match call.principal {
        Principal::Agent { id, .. } => {
            let policy = engine.policy_of(id, call.credential()?, !call.is_head()).await;
            (Some(id), policy.map_err(|error| call.principal.explain(error))?)
        }
        Principal::Admin | Principal::Anonymous => (None, engine.global_policy()),
    };
    let policy = policy.as_deref();
    let data = RulesOf { agent_id, policy_version: policy.map(|policy| policy.version) };
    let rules = policy.map(|policy| policy.rules.enabled_as_strings());
    Ok(with_rules(&LatestRules { ok: true, rules: [], data }, rules))
}

/// The answer, with these rules where it has none.
fn with_rules(answer: &impl Serialize, rules: Option<Bytes>) -> HttpResponse {
    let json = serde_json::to_string(answer).expect("an answer has only string keys");
    let (head, tail) = json.split_once("[]").expect("an answer has its rules in a list");
    let rules = rules.unwrap_or(Bytes::from_static(b"[]"));
    envelope::json_response(StatusCode::OK, Shared::new(head.to_owned(), rules, tail.to_owned()))
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

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;
    use crate::api::query;

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
        let tenant = |text| query::read::<ActiveQuery>(text).map(|wanted| wanted.org_id.map(Text::into_inner));
        assert_eq!(tenant("").unwrap(), None);
        assert_eq!(tenant("org_id=a%20b").unwrap().as_deref(), Some("a b"));
        assert_eq!(tenant("org_id=a&org_id=a").unwrap_err().to_string(), "org_id is given twice");
        let (empty, long) = ("org_id=".to_owned(), format!("org_id={}", "a".repeat(65)));
        for wrong in [&*empty, &*long, "org_id=a%0a"] {
            assert!(tenant(wrong).unwrap_err().to_string().starts_with("org_id must be a string"), "{wrong}");
        }
    }

    #[test]
    fn rules_that_are_shared_stand_where_an_answer_has_its_own() {
        let rules = r#"["a","b"]"#;
        let of = RulesOf { agent_id: Some(AgentId::new(1)), policy_version: Some(PolicyVersion::new(2)) };
        let answer = with_rules(&LatestRules { ok: true, rules: [], data: of }, Some(rules.into()));
        let body = actix_web::body::to_bytes(answer.into_body());
        let body = futures_util::FutureExt::now_or_never(body).unwrap().unwrap();
        let data = r#"{"agentId":"agent-0000000000000001","policyVersion":"v2"}"#;
        assert_eq!(body, format!(r#"{{"ok":true,"rules":{rules},"data":{data}}}"#));
    }
}

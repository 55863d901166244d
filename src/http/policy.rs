//! Policies: published by the administrator, fetched by agents.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        Method, StatusCode,
        header::{ETAG, HeaderMap, IF_NONE_MATCH},
    },
    web::{self, Payload},
};
use serde::Serialize;

use super::{
    State,
    agents::parse_id,
    auth::Caller,
    body,
    envelope::{self, ApiError},
};
use crate::{
    actors::{EngineError, Published},
    fleet::{AgentId, PolicyVersion, Timestamp},
    limits::POLICY_BODY_MAX_BYTES,
    policy::{POLICY_FIELDS, Policy, PolicyBody, PolicyDraft, PolicyId, Rule},
};

/// `POST /api/policy`
pub(super) async fn publish(request: &HttpRequest, payload: Payload, state: &State) -> Result<HttpResponse, ApiError> {
    Caller::of(request.headers(), &state.auth)?.must_be_admin(state).await?;
    let body = body::read(request.headers(), &mut payload.into_inner(), POLICY_BODY_MAX_BYTES).await?;
    let draft: PolicyBody = body::parse(request.headers(), &body, POLICY_FIELDS)?;
    // Taking a megabyte of rules apart is not for a thread that heartbeats wait for.
    let draft = web::block(|| PolicyDraft::try_from(draft)).await.map_err(|_| EngineError::Unresponsive)??;
    let Published { policy, broadcasted_to } = state.engine.publish(draft).await?;
    Ok(answer(StatusCode::CREATED, &Envelope::of(PolicyView::of(&policy, Some(broadcasted_to)))))
}

/// `GET /api/policy/active`
pub(super) async fn active(request: &HttpRequest, state: &State) -> Result<HttpResponse, ApiError> {
    Caller::of(request.headers(), &state.auth)?.must_be_admin(state).await?;
    let policy = state.engine.active_policy(org_id(request.query_string())?.as_deref());
    Ok(answer(StatusCode::OK, &Envelope::of(policy.as_deref().map(|policy| PolicyView::of(policy, None)))))
}

/// `GET /api/policy/agent/:id`
pub(super) async fn of_agent(request: &HttpRequest, state: &State, id: &str) -> Result<HttpResponse, ApiError> {
    let caller = Caller::of(request.headers(), &state.auth)?;
    let id = parse_id(id);
    let proof = caller.proof_for(id, state).await?;
    let id = id.ok_or(EngineError::NotFound)?;
    let policy = state.engine.policy_of(id, proof, is_fetch(request)).await.map_err(|error| caller.explain(error))?;
    let etag = etag(policy.as_deref());
    // What is shown depends on the version alone, so the tag is a strong one.
    let mut response = if is_known(request.headers(), &etag) {
        HttpResponse::NotModified().finish()
    } else {
        let policy = policy.as_deref();
        answer(
            StatusCode::OK,
            &Envelope::of(AgentPolicy {
                agent_id: id,
                policy_version: policy.map(|policy| policy.version),
                rules: policy.map_or(&[], |policy| &policy.rules),
                applied_at: policy.map(|policy| policy.created_at),
            }),
        )
    };
    response.headers_mut().insert(ETAG, etag.try_into().expect("a version is printed in ASCII"));
    Ok(response)
}

/// `GET /api/rules/latest`, as the published Guard client asks for its rules.
pub(super) async fn latest_rules(request: &HttpRequest, state: &State) -> Result<HttpResponse, ApiError> {
    let caller = Caller::of(request.headers(), &state.auth)?;
    let (agent_id, policy) = match caller {
        Caller::Admin => (None, state.engine.global_policy()),
        Caller::Agent { id, .. } => {
            let proof = caller.proof_for(Some(id), state).await?;
            let policy = state.engine.policy_of(id, proof, is_fetch(request)).await;
            (Some(id), policy.map_err(|error| caller.explain(error))?)
        }
        Caller::Anonymous => return Err(ApiError::Unauthorized),
    };
    let rules = policy.iter().flat_map(|policy| &policy.rules).filter(|rule| rule.enabled).map(Rule::to_json);
    let rules = LatestRules {
        ok: true,
        rules: rules.collect(),
        data: RulesOf { agent_id, policy_version: policy.as_ref().map(|policy| policy.version) },
    };
    Ok(answer(StatusCode::OK, &rules))
}

/// HEAD hands nothing over, so nothing has been fetched.
fn is_fetch(request: &HttpRequest) -> bool {
    request.method() == Method::GET
}

/// The tenant whose view is wanted.
fn org_id(query: &str) -> Result<Option<String>, ApiError> {
    let pairs = web::Query::<Vec<(String, String)>>::from_query(query)
        .map_err(|_| ApiError::BadRequest("The query string cannot be read".into()))?;
    let mut wanted = pairs.into_inner().into_iter().filter(|(name, _)| name == "org_id").map(|(_, value)| value);
    match (wanted.next(), wanted.next()) {
        (_, Some(_)) => Err(ApiError::BadRequest("org_id is given twice".into())),
        (wanted, None) => Ok(wanted),
    }
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

fn answer(status: StatusCode, body: &impl Serialize) -> HttpResponse {
    envelope::json_response(status, serde_json::to_vec(body).expect("an answer has only string keys"))
}

#[derive(Serialize)]
struct Envelope<T> {
    ok: bool,
    data: T,
}

impl<T> Envelope<T> {
    fn of(data: T) -> Self {
        Self { ok: true, data }
    }
}

/// A policy as the administrator sees it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PolicyView<'a> {
    id: PolicyId,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(rename = "org_id", skip_serializing_if = "Option::is_none")]
    org_id: Option<&'a str>,
    version: PolicyVersion,
    rules: &'a [Rule],
    #[serde(skip_serializing_if = "Option::is_none")]
    broadcasted_to: Option<u64>,
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

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AgentPolicy<'a> {
    agent_id: AgentId,
    policy_version: Option<PolicyVersion>,
    rules: &'a [Rule],
    applied_at: Option<Timestamp>,
}

#[derive(Serialize)]
struct LatestRules {
    ok: bool,
    /// Each as compact JSON.
    rules: Vec<String>,
    data: RulesOf,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RulesOf {
    agent_id: Option<AgentId>,
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
        assert_eq!(org_id("").unwrap(), None);
        assert_eq!(org_id("x=1&org_id=a%20b").unwrap().as_deref(), Some("a b"));
        assert_eq!(org_id("org_id=a&org_id=a").unwrap_err().to_string(), "org_id is given twice");
    }
}

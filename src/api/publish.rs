//! `POST /api/policy`: the administrator publishes a policy.

use actix_web::{HttpResponse, http::StatusCode, web};
use serde::{
    Deserialize,
    de::{IntoDeserializer, value},
};
use serde_json::{json, value::RawValue};
use tracing::field::display;
use utoipa::ToSchema;

use super::{
    ApiError, Call, Description,
    auth::Principal,
    body::{self, JSON},
    compact::compact_json,
    envelope,
    json::{InvalidObject, either, parse_object},
    peer,
    policy::{PolicyView, example_rules},
    request_id::request_id_of,
    values::{flag, must_be, reads},
};
use crate::{
    engine::{EngineError, Published},
    fleet::{OrgId, Text},
    limits::{POLICY_BODY_MAX_BYTES, POLICY_DESCRIPTION_MAX_CHARS, POLICY_NAME_MAX_CHARS, POLICY_RULES_MAX},
    policy::{PolicyDraft, PolicyScope, Rule, RuleKind},
};

type Name = Text<POLICY_NAME_MAX_CHARS>;

/// A policy to be published. Unknown fields are refused; `null` is the same as left out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewPolicy {
    /// Its name for people.
    #[schema(value_type = Name)]
    name: Option<Name>,
    /// What it is for.
    #[schema(value_type = Option<String>, max_length = 1024)]
    description: Option<PolicyText>,
    /// The tenant for whose agents it is; left out, it is for the whole fleet. `organizationId` is another name for it.
    org_id: Option<OrgId>,
    #[serde(rename = "organizationId")]
    #[schema(ignore)]
    organization_id: Option<OrgId>,
    /// What is to be done.
    #[schema(value_type = Vec<NewRule>, max_items = 1000)]
    rules: Option<NewRules>,
}

/// What people say of a policy.
#[derive(Debug)]
struct PolicyText(Box<str>);

reads!(PolicyText, |from| {
    const MOST: usize = POLICY_DESCRIPTION_MAX_CHARS;
    let text = Box::<str>::deserialize(from).ok().filter(|text| text.len() <= MOST || text.chars().count() <= MOST);
    text.map(Self).ok_or_else(|| must_be(format_args!("a string of at most {MOST} characters")))
});

/// Rules that have yet to be looked into, one by one, so that an error can say which of them is wrong.
#[derive(Debug)]
struct NewRules(Vec<Box<RawValue>>);

reads!(NewRules, |from| {
    let rules = Vec::deserialize(from).ok().filter(|rules| rules.len() <= POLICY_RULES_MAX);
    rules.map(Self).ok_or_else(|| must_be(format_args!("an array of at most {POLICY_RULES_MAX} rules")))
});

/// A rule of a policy to be published. Unknown fields are refused: a misspelt `enabled` would enable it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewRule {
    /// What kind of rule it is.
    #[serde(rename = "type")]
    #[schema(value_type = RuleKind)]
    kind: Option<NewKind>,
    /// What it needs to know: for the Guards to understand.
    #[schema(value_type = Object)]
    config: Option<Config>,
    /// Whether agents are to apply it; they are by default.
    #[serde(default, deserialize_with = "flag")]
    enabled: Option<bool>,
}

/// What kind of rule it is. serde would also take an object for an enum.
struct NewKind(RuleKind);

impl NewKind {
    const RULE: &str = "block_ip, alert_threshold, auto_respond or custom";
}

reads!(NewKind, |from| {
    let name = Box::<str>::deserialize(from).ok();
    let named = |name: &str| RuleKind::deserialize(IntoDeserializer::<value::Error>::into_deserializer(name)).ok();
    let kind = name.and_then(|name| named(&name));
    kind.map(Self).ok_or_else(|| must_be(Self::RULE))
});

/// An object, kept as compact text: taken apart it would be many times as large.
struct Config(Box<RawValue>);

impl Config {
    const RULE: &str = "an object";
}

reads!(Config, |from| {
    let json = Box::<RawValue>::deserialize(from)?;
    if !json.get().starts_with('{') {
        return Err(must_be(Self::RULE));
    }
    let compact = RawValue::from_string(compact_json(json.get()).into());
    Ok(Self(compact.expect("JSON stays JSON without whitespace")))
});

impl TryFrom<NewPolicy> for PolicyDraft {
    type Error = InvalidObject;

    fn try_from(policy: NewPolicy) -> Result<Self, InvalidObject> {
        let (name, NewRules(rules)) = match (policy.name, policy.rules) {
            (Some(name), Some(rules)) => (name, rules),
            (name, rules) => {
                return Err(InvalidObject::missing([("name", name.is_some()), ("rules", rules.is_some())]));
            }
        };
        let org_id = either("org_id", policy.org_id, policy.organization_id)?;
        let rules = rules.iter().enumerate().map(|(index, rule)| {
            let rule = parse_object::<NewRule>("rule", rule.get().as_bytes());
            rule.and_then(Rule::try_from).map_err(|wrong| in_rule(index, wrong))
        });
        Ok(Self {
            scope: PolicyScope::of(org_id.as_deref()),
            name,
            description: policy.description.map(|PolicyText(text)| text),
            rules: rules.collect::<Result<_, _>>()?,
        })
    }
}

impl TryFrom<NewRule> for Rule {
    type Error = InvalidObject;

    fn try_from(rule: NewRule) -> Result<Self, InvalidObject> {
        let NewKind(kind) = rule.kind.ok_or_else(|| InvalidObject::field("type", NewKind::RULE))?;
        let Config(config) = rule.config.ok_or_else(|| InvalidObject::field("config", Config::RULE))?;
        Ok(Self { kind, config, enabled: rule.enabled.unwrap_or(true) })
    }
}

/// What is wrong with a rule, with its index.
fn in_rule(index: usize, wrong: InvalidObject) -> InvalidObject {
    match wrong {
        InvalidObject::Field(field) => InvalidObject::Field(format!("rules[{index}].{field}")),
        InvalidObject::Unknown(unknown) => InvalidObject::Unknown(unknown.within(&format!("rules[{index}]."))),
        InvalidObject::Whole(_) => {
            InvalidObject::field(&format!("rules[{index}]"), "an object with type and config, each of them once")
        }
    }
}

pub(super) fn describe() -> Description {
    let rules = json!([
        { "type": "block_ip", "config": { "ip": "203.0.113.66", "minutes": 60 } },
        { "type": "alert_threshold", "config": { "severity": "high" }, "enabled": false },
    ]);
    Description::new("Policies", "publishPolicy", "Publish a policy")
        .about(
            "It gets the next version, and from then on it is in force for the whole fleet, or for a tenant's\n\
             agents, which fetch it. At most 1 MiB. The answer comes once the policy is durable.",
        )
        .takes::<NewPolicy>()
        .example(json!({ "name": "Block the scanners", "description": "Seen on all our web servers", "rules": rules }))
        .answers::<PolicyView<'_>>(201, "The policy is published")
        .example(json!({
            "id": "pol_5e0c1b2a39485766", "name": "Block the scanners",
            "description": "Seen on all our web servers", "version": "v3", "rules": example_rules(),
            "broadcastedTo": 10, "createdAt": "2026-03-07T12:05:00.000Z",
        }))
        .refuses(
            409,
            "There are too many policies: too many tenants have some of their own, or they are too large together",
        )
}

pub(super) async fn publish(call: Call<'_>) -> Result<HttpResponse, ApiError> {
    let Call { request, payload, state, .. } = call;
    body::must_be_plain(request.headers())?;
    let body = body::read(request.headers(), payload, POLICY_BODY_MAX_BYTES).await?;
    if !body.is_empty() {
        body::must_be(JSON, request.headers())?;
    }
    // Taking a megabyte of rules apart is not for a thread that heartbeats wait for.
    let read = move || parse_object::<NewPolicy>("body", &body).and_then(PolicyDraft::try_from);
    let draft = web::block(read).await.map_err(|_| EngineError::Unresponsive)??;
    let Published { policy, broadcasted_to } = state.engine.publish(draft).await?;
    let (address, request_id) = (peer::address(request, state).map(display), request_id_of(request));
    let (id, version, name, org_id) = (policy.id, policy.version, &*policy.name, policy.scope.org_id());
    tracing::info!(policy = %id, %version, name, org_id, by = %Principal::Admin, address, request_id, "a policy was published");
    Ok(envelope::data(StatusCode::CREATED, &PolicyView::of(&policy, Some(broadcasted_to))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<PolicyDraft, String> {
        let body = parse_object::<NewPolicy>("body", json.as_bytes());
        body.and_then(PolicyDraft::try_from).map_err(|wrong| wrong.to_string())
    }

    fn with_rule(rule: &str) -> Result<PolicyDraft, String> {
        let good = r#"{"type":"custom","config":{}}"#;
        parse(&format!(r#"{{"name":"p","rules":[{good},{rule}]}}"#))
    }

    #[test]
    fn a_rule_is_kept_as_compact_json_and_is_enabled_by_default() {
        let rules = with_rule(r#"{ "config": { "ip" : "203.0.113.1",  "n": [1, 2.5] }, "type": "block_ip" }"#);
        let draft = rules.unwrap();
        assert_eq!(
            draft.rules[1].to_json(),
            r#"{"type":"block_ip","config":{"ip":"203.0.113.1","n":[1,2.5]},"enabled":true}"#
        );
        let off = with_rule(r#"{"type":"auto_respond","config":{},"enabled":false}"#).unwrap();
        assert!(!off.rules[1].enabled);
        assert_eq!(with_rule(r#"{"type":"alert_threshold","config":{},"enabled":null}"#).unwrap().rules.len(), 2);
    }

    #[test]
    fn what_a_config_says_is_kept_as_it_was_written() {
        for config in [
            r#"{"z":1,"a":2,"z":3}"#,
            r#"{"n":[18446744073709551616,1e2,1e400,-0.10]}"#,
            r#"{"s":"\ud800 \u0041 \/ "}"#,
            r#"{"x":{"$serde_json::private::RawValue":"[[[1, 2]]]"}}"#,
            r#"{"$serde_json::private::RawValue":"{}"}"#,
            r#"{"x":{"$serde_json::private::Number":"1"}}"#,
        ] {
            let draft = with_rule(&format!(r#"{{"type":"custom","config":{config}}}"#)).unwrap();
            assert_eq!(draft.rules[1].config.get(), config);
        }
    }

    #[test]
    fn the_rule_that_is_wrong_is_named_with_what_is_wrong_about_it() {
        let kinds = "rules[1].type must be block_ip, alert_threshold, auto_respond or custom";
        let object = "rules[1] must be an object with type and config, each of them once";
        for (rule, error) in [
            ("5", object),
            ("null", object),
            (r#"["custom",{}]"#, object),
            (r#"{"type":"custom","config":{},"config":{}}"#, object),
            (r#"{"config":{}}"#, kinds),
            (r#"{"type":"Custom","config":{}}"#, kinds),
            (r#"{"type":7,"config":{}}"#, kinds),
            (r#"{"type":{"custom":null},"config":{}}"#, kinds),
            (r#"{"type":"custom"}"#, "rules[1].config must be an object"),
            (r#"{"type":"custom","config":[]}"#, "rules[1].config must be an object"),
            (
                r#"{"type":"custom","config":{},"enable":false}"#,
                "Unknown field: rules[1].enable (did you mean enabled?); known here: type, config, enabled",
            ),
            (
                r#"{"Type":1,"x":2}"#,
                "Unknown fields: rules[1].Type (did you mean type?), rules[1].x; known here: type, config, enabled",
            ),
            (r#"{"type":"custom","config":{},"enabled":1}"#, "rules[1].enabled must be true or false"),
        ] {
            assert_eq!(with_rule(rule).unwrap_err(), error, "{rule}");
        }
    }

    #[test]
    fn fields_have_their_bounds() {
        let policy = |name: usize, description: usize, rules: usize| {
            let rules = vec![r#"{"type":"custom","config":{}}"#; rules].join(",");
            let (name, description) = ("é".repeat(name), "é".repeat(description));
            parse(&format!(r#"{{"name":"{name}","description":"{description}","rules":[{rules}]}}"#))
        };
        assert_eq!(policy(128, 1_024, 1_000).unwrap().rules.len(), 1_000);
        assert_eq!(policy(1, 0, 0).unwrap().description.as_deref(), Some(""));
        assert_eq!(policy(129, 0, 0).unwrap_err(), "name must be a string of 1 to 128 characters");
        assert_eq!(policy(1, 1_025, 0).unwrap_err(), "description must be a string of at most 1024 characters");
        assert_eq!(policy(1, 0, 1_001).unwrap_err(), "rules must be an array of at most 1000 rules");
        assert_eq!(parse("{}").unwrap_err(), "Missing required fields: name, rules");
        assert_eq!(parse(r#"{"name":"p","rules":null}"#).unwrap_err(), "Missing required field: rules");
        let org = parse(r#"{"name":"p","rules":[],"organizationId":"acme"}"#).unwrap();
        assert_eq!(org.scope, PolicyScope::of(Some("acme")));
        for other in [r#""org_id":null,"organizationId":"acme""#, r#""org_id":"acme","organizationId":null"#] {
            assert_eq!(parse(&format!(r#"{{"name":"p","rules":[],{other}}}"#)).unwrap().scope, org.scope);
        }
        assert_eq!(
            parse(r#"{"name":"p","rules":[],"org_id":"a","organizationId":"a"}"#).unwrap_err(),
            "org_id is given twice"
        );
        assert_eq!(
            parse(r#"{"name":"p","rules":[],"org_id":""}"#).unwrap_err(),
            "org_id must be a string of 1 to 64 characters"
        );
    }

    #[test]
    fn a_field_of_the_wrong_kind_is_named_with_its_rule() {
        for (field, rule) in [
            ("name", "a string of 1 to 128 characters"),
            ("description", "a string of at most 1024 characters"),
            ("org_id", "a string of 1 to 64 characters"),
            ("organizationId", "a string of 1 to 64 characters"),
            ("rules", "an array of at most 1000 rules"),
        ] {
            for wrong in ["{}", "5", "1e999", r#""\ud800""#] {
                let error = parse(&format!(r#"{{"{field}":{wrong}}}"#)).unwrap_err();
                assert_eq!(error, format!("{field} must be {rule}"), "{wrong}");
            }
        }
    }
}

//! A policy that somebody wants to publish.

use std::collections::BTreeMap;

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    rule::{Rule, RuleKind},
    scope::Scope,
};
use crate::{
    fleet::{FieldError, GivenTwice, MissingFields, OrgId, Text, UnknownNames, compact_json, either},
    limits::{POLICY_DESCRIPTION_MAX_CHARS, POLICY_NAME_MAX_CHARS, POLICY_RULES_MAX},
};

type Name = Text<POLICY_NAME_MAX_CHARS>;

/// A policy to be published, validated.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyDraft {
    /// For whom it is.
    pub scope: Scope,
    /// Its name for people.
    pub name: Name,
    /// What it is for.
    pub description: Option<Box<str>>,
    /// What is to be done.
    pub rules: Vec<Rule>,
}

/// A policy to be published. Unknown fields are refused; `null` is the same as left out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewPolicy)]
pub struct PolicyBody {
    /// Its name for people.
    #[schema(value_type = Name)]
    name: Option<Box<str>>,
    /// What it is for.
    #[schema(value_type = Option<String>, max_length = 1024)]
    description: Option<Box<str>>,
    /// The tenant for whose agents it is; left out, it is for the whole fleet. `organizationId` is another name for it.
    #[schema(value_type = Option<OrgId>)]
    org_id: Option<Box<str>>,
    #[serde(rename = "organizationId")]
    #[schema(ignore)]
    organization_id: Option<Box<str>>,
    /// What is to be done.
    // Looked into one by one, so that an error can say which of them is wrong.
    #[schema(value_type = Vec<RuleBody>, max_items = 1000)]
    rules: Option<Vec<Box<RawValue>>>,
}

/// What each field of a publication must be, for the error that names it.
pub const POLICY_FIELDS: &[(&str, &str)] = &[
    ("name", "a string of 1 to 128 characters"),
    ("description", DESCRIPTION),
    ("org_id", "a string of 1 to 64 characters"),
    ("organizationId", "a string of 1 to 64 characters"),
    ("rules", RULES),
];

const DESCRIPTION: &str = "a string of at most 1024 characters";
const RULES: &str = "an array of at most 1000 rules";

/// Why a policy is not published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPolicy {
    /// Required fields that were left out.
    #[error(transparent)]
    Missing(#[from] MissingFields),
    /// A field that breaks its rule.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// Fields that a policy or its rule does not have.
    #[error(transparent)]
    Unknown(#[from] UnknownNames),
    /// A field under both of its names.
    #[error(transparent)]
    Twice(#[from] GivenTwice),
    /// A rule of the policy that is none.
    #[error("rules[{index}]{field} must be {expected}")]
    Rule {
        /// Which, counted from 0.
        index: usize,
        /// What of it, with a dot before; empty if it is the rule as a whole.
        field: &'static str,
        /// What would have been accepted.
        expected: &'static str,
    },
}

impl TryFrom<PolicyBody> for PolicyDraft {
    type Error = InvalidPolicy;

    fn try_from(body: PolicyBody) -> Result<Self, InvalidPolicy> {
        let (name, rules) = match (body.name, body.rules) {
            (Some(name), Some(rules)) => (name, rules),
            (name, rules) => {
                return Err(MissingFields::of([("name", name.is_some()), ("rules", rules.is_some())]).into());
            }
        };
        let is_long = |text: &str| {
            text.len() > POLICY_DESCRIPTION_MAX_CHARS && text.chars().count() > POLICY_DESCRIPTION_MAX_CHARS
        };
        if body.description.as_deref().is_some_and(is_long) {
            return Err(FieldError::new("description", DESCRIPTION).into());
        }
        if rules.len() > POLICY_RULES_MAX {
            return Err(FieldError::new("rules", RULES).into());
        }
        let org_id = either("org_id", body.org_id, body.organization_id)?;
        let org_id = org_id.map(|org| OrgId::new("org_id", org)).transpose()?;
        Ok(Self {
            scope: Scope::of(org_id.as_deref()),
            name: Name::new("name", name)?,
            description: body.description,
            rules: rules
                .iter()
                .enumerate()
                .map(|(index, rule)| rule_of(index, rule.get()))
                .collect::<Result<_, _>>()?,
        })
    }
}

/// A rule of a policy to be published. Unknown fields are refused: a misspelt `enabled` would enable it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewRule)]
struct RuleBody<'a> {
    /// What kind of rule it is.
    #[serde(borrow, rename = "type")]
    #[schema(value_type = RuleKind)]
    kind: Option<&'a RawValue>,
    /// What it needs to know: for the Guards to understand.
    #[serde(borrow)]
    #[schema(value_type = Object)]
    config: Option<&'a RawValue>,
    /// Whether it is to be followed: it is, unless told otherwise.
    #[serde(borrow)]
    #[schema(value_type = Option<bool>)]
    enabled: Option<&'a RawValue>,
}

fn rule_of(index: usize, json: &str) -> Result<Rule, InvalidPolicy> {
    let wrong = |field, expected| InvalidPolicy::Rule { index, field, expected };
    // serde would also take an array for a struct.
    let body = Some(json).filter(|json| json.starts_with('{')).and_then(|json| serde_json::from_str(json).ok());
    let body: RuleBody<'_> = body.ok_or_else(|| match unknown_fields(index, json) {
        Some(unknown) => unknown.into(),
        None => wrong("", "an object with type and config, each of them once"),
    })?;
    // serde would also take an object for an enum.
    let kind = body.kind.filter(|kind| kind.get().starts_with('"'));
    let kind = kind.and_then(|kind| serde_json::from_str(kind.get()).ok());
    let config = body.config.filter(|config| config.get().starts_with('{'));
    let enabled = body.enabled.map_or(Some(true), |enabled| serde_json::from_str(enabled.get()).ok());
    Ok(Rule {
        kind: kind.ok_or(wrong(".type", "block_ip, alert_threshold, auto_respond or custom"))?,
        config: compact(config.ok_or(wrong(".config", "an object"))?),
        enabled: enabled.ok_or(wrong(".enabled", "true or false"))?,
    })
}

fn unknown_fields(index: usize, json: &str) -> Option<UnknownNames> {
    let fields: BTreeMap<String, IgnoredAny> = serde_json::from_str(json).ok()?;
    let unknown = UnknownNames::among("field", fields.keys().map(String::as_str), ["type", "config", "enabled"])?;
    Some(unknown.within(&format!("rules[{index}].")))
}

fn compact(json: &RawValue) -> Box<RawValue> {
    RawValue::from_string(compact_json(json.get()).into()).expect("JSON stays JSON without whitespace")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<PolicyDraft, String> {
        let body: PolicyBody = serde_json::from_str(json).unwrap();
        body.try_into().map_err(|refused: InvalidPolicy| refused.to_string())
    }

    fn with_rule(rule: &str) -> Result<PolicyDraft, String> {
        let good = r#"{"type":"custom","config":{}}"#;
        parse(&format!(r#"{{"name":"p","rules":[{good},{rule}]}}"#))
    }

    #[test]
    fn a_rule_is_kept_as_compact_json_and_is_enabled_unless_told_otherwise() {
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
        assert_eq!(org.scope, Scope::of(Some("acme")));
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
    fn every_field_has_its_rule_told() {
        for (field, _) in POLICY_FIELDS {
            let wrong = format!(r#"{{"{field}":{{}}}}"#);
            assert!(serde_json::from_str::<PolicyBody>(&wrong).is_err(), "{field} is a field");
        }
    }
}

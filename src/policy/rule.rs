//! The rules of a policy.

use std::{ops::Deref, sync::OnceLock};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// What kind of rule it is; what its `config` means is for the Guards to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RuleKind {
    /// Addresses to be kept out.
    BlockIp,
    /// When to raise an alert.
    AlertThreshold,
    /// What to do without asking.
    AutoRespond,
    /// Anything else.
    Custom,
}

/// A rule, written as the API and the stores have it: `{"type":"block_ip","config":{…},"enabled":true}`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Rule {
    #[serde(rename = "type")]
    /// What kind of rule it is.
    pub kind: RuleKind,
    /// What it needs to know: for the Guards to understand.
    // Compact, and as text: taken apart it would be many times as large.
    #[schema(value_type = Object)]
    pub config: Box<RawValue>,
    /// Whether it is to be followed.
    pub enabled: bool,
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        (self.kind, self.enabled, self.config.get()) == (other.kind, other.enabled, other.config.get())
    }
}

impl Rule {
    /// The rule as compact JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a rule has only string keys")
    }

    pub(super) fn size(&self) -> usize {
        size_of::<Self>() + self.config.get().len()
    }
}

/// The rules of a policy, with the JSON that is served when they are fetched. A fleet fetches them all at once, so it is
/// rendered once and shared.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    all: Vec<Rule>,
    json: OnceLock<Bytes>,
    strings: OnceLock<Bytes>,
}

impl Rules {
    /// All of them, as a JSON array.
    pub fn json(&self) -> Bytes {
        self.json.get_or_init(|| array(&self.all)).clone()
    }

    /// Those that are enabled, as a JSON array of strings; each has a rule as compact JSON.
    pub fn enabled_as_strings(&self) -> Bytes {
        let encode = || array(&self.all.iter().filter(|rule| rule.enabled).map(Rule::to_json).collect::<Vec<_>>());
        self.strings.get_or_init(encode).clone()
    }
}

fn array(items: &[impl Serialize]) -> Bytes {
    serde_json::to_vec(items).expect("a rule has only string keys").into()
}

impl From<Vec<Rule>> for Rules {
    fn from(all: Vec<Rule>) -> Self {
        Self { all, ..Self::default() }
    }
}

impl Deref for Rules {
    type Target = [Rule];

    fn deref(&self) -> &[Rule] {
        &self.all
    }
}

impl PartialEq for Rules {
    fn eq(&self, other: &Self) -> bool {
        self.all == other.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_fetched_is_encoded_once() {
        let rule = |json| serde_json::from_str(json).unwrap();
        let on = r#"{"type":"custom","config":{"x":"é"},"enabled":true}"#;
        let off = r#"{"type":"custom","config":{},"enabled":false}"#;
        let rules = Rules::from(vec![rule(on), rule(off)]);
        assert_eq!(rules.json(), format!("[{on},{off}]"));
        assert_eq!(rules.enabled_as_strings(), serde_json::to_string(&[on]).unwrap());
        assert_eq!(rules.json().as_ptr(), rules.json().as_ptr());
        assert_eq!(rules.enabled_as_strings().as_ptr(), rules.enabled_as_strings().as_ptr());
    }
}

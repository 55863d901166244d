//! One rule of a policy.

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
    /// What kind of rule it is.
    #[serde(rename = "type")]
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

//! A policy that somebody wants to publish.

use super::{PolicyScope, Rule};
use crate::{fleet::Text, limits::POLICY_NAME_MAX_CHARS};

/// A policy to be published, validated.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyDraft {
    pub scope: PolicyScope,
    /// Its name for people.
    pub name: Text<POLICY_NAME_MAX_CHARS>,
    pub description: Option<Box<str>>,
    pub rules: Vec<Rule>,
}

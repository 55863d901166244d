//! A policy that somebody wants to publish.

use super::{PolicyScope, Rule};
use crate::{fleet::Text, limits::POLICY_NAME_MAX_CHARS};

/// A policy to be published, validated.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyDraft {
    /// For whom it is.
    pub scope: PolicyScope,
    /// Its name for people.
    pub name: Text<POLICY_NAME_MAX_CHARS>,
    /// What it is for.
    pub description: Option<Box<str>>,
    /// What is to be done.
    pub rules: Vec<Rule>,
}

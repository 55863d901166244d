//! For whom policies are, and all there is of one such scope.

use std::{fmt, str::FromStr, sync::Arc};

use super::Policy;
use crate::{fleet::PolicyVersion, limits::POLICY_VERSIONS_MAX};

/// For whom a policy is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PolicyScope {
    /// The whole fleet.
    Global,
    Tenant(Box<str>),
}

impl PolicyScope {
    /// The scope of this tenant, or of none.
    pub fn of(org_id: Option<&str>) -> Self {
        org_id.map_or(Self::Global, |org| Self::Tenant(org.into()))
    }

    /// The tenant, if it is one's.
    pub fn org_id(&self) -> Option<&str> {
        match self {
            Self::Global => None,
            Self::Tenant(org) => Some(org),
        }
    }
}

impl fmt::Display for PolicyScope {
    /// As stores name it: `*`, or `o:` and the tenant.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Global => f.write_str("*"),
            Self::Tenant(org) => write!(f, "o:{org}"),
        }
    }
}

/// The text does not name a scope.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a scope is * or o: and the name of a tenant")]
pub struct NotAScope;

impl FromStr for PolicyScope {
    type Err = NotAScope;

    fn from_str(text: &str) -> Result<Self, NotAScope> {
        match text.strip_prefix("o:") {
            Some(org) if !org.is_empty() => Ok(Self::Tenant(org.into())),
            Some(_) => Err(NotAScope),
            None if text == "*" => Ok(Self::Global),
            None => Err(NotAScope),
        }
    }
}

/// The policies of one scope: the newest one, and the versions of all.
#[derive(Clone, Debug, PartialEq)]
pub struct ScopePolicies {
    newest: Arc<Policy>,
    /// In order, the newest last; of many the latest [`POLICY_VERSIONS_MAX`].
    versions: Vec<PolicyVersion>,
}

impl ScopePolicies {
    /// What there is when `next`, which is newer, comes after `earlier`.
    pub fn after(earlier: Option<&Self>, next: Policy) -> Self {
        let known = earlier.map_or(&[][..], |earlier| &earlier.versions);
        let dropped = (known.len() + 1).saturating_sub(POLICY_VERSIONS_MAX);
        let mut versions = Vec::with_capacity(known.len() + 1 - dropped);
        versions.extend_from_slice(&known[dropped..]);
        versions.push(next.version);
        Self { newest: Arc::new(next), versions }
    }

    /// What a store has kept: the newest policy, and the versions of all, itself included. None if they are not in order,
    /// or do not end with it.
    pub fn restored(newest: Policy, versions: Vec<PolicyVersion>) -> Option<Self> {
        let in_order = versions.is_sorted_by(|a, b| a < b) && versions.first() > Some(&PolicyVersion::NONE);
        (in_order && versions.last() == Some(&newest.version)).then(|| Self { newest: Arc::new(newest), versions })
    }

    pub fn scope(&self) -> &PolicyScope {
        &self.newest.scope
    }

    pub fn newest(&self) -> &Arc<Policy> {
        &self.newest
    }

    /// The versions of all, in order; of many the latest.
    pub fn versions(&self) -> &[PolicyVersion] {
        &self.versions
    }

    /// How many are newer than `seen`.
    pub(super) fn newer_than(&self, seen: PolicyVersion) -> usize {
        self.versions.len() - self.versions.partition_point(|version| *version <= seen)
    }

    /// What they take in memory, in bytes, or a little less.
    pub(crate) fn size(&self) -> usize {
        self.newest.size() + self.versions.len() * size_of::<PolicyVersion>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::samples::{policies, policy};

    #[test]
    fn a_scope_is_known_by_its_name_in_a_store() {
        for scope in [
            PolicyScope::Global,
            PolicyScope::of(Some("acme")),
            PolicyScope::of(Some("*")),
            PolicyScope::of(Some("o:o:")),
        ] {
            assert_eq!(scope.to_string().parse(), Ok(scope));
        }
        for name in ["", "o:", "acme", "**", "O:acme"] {
            assert_eq!(name.parse::<PolicyScope>(), Err(NotAScope), "{name}");
        }
    }

    #[test]
    fn what_is_kept_of_many_versions_is_bounded() {
        let mut all = policies(None, &[1]);
        for version in 2..=POLICY_VERSIONS_MAX as u32 + 3 {
            all = ScopePolicies::after(Some(&all), policy(version, None));
        }
        assert_eq!(all.versions().len(), POLICY_VERSIONS_MAX);
        assert_eq!(all.versions().first(), Some(&PolicyVersion::new(4)));
        assert_eq!(all.newer_than(PolicyVersion::NONE), POLICY_VERSIONS_MAX);
        assert_eq!(all.newer_than(all.newest().version), 0);
    }

    #[test]
    fn versions_that_make_no_sense_are_not_restored() {
        let restored = |versions: &[u32]| {
            ScopePolicies::restored(policy(7, None), versions.iter().copied().map(PolicyVersion::new).collect())
        };
        assert_eq!(restored(&[2, 5, 7]).unwrap().versions().len(), 3);
        for versions in [&[][..], &[7, 2], &[2, 2, 7], &[2], &[7, 8], &[0, 7]] {
            assert_eq!(restored(versions), None, "{versions:?}");
        }
    }
}

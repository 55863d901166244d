//! The policy index: which policies there are, and which are in force for whom.

use std::{collections::HashMap, sync::Arc};

use super::{Policy, PolicyDraft, PolicyId, PolicyScope, ScopePolicies};
use crate::{
    fleet::{PolicyVersion, Text, Timestamp},
    limits::{POLICIES_MAX_BYTES, POLICY_PENDING_MAX, POLICY_TENANTS_MAX},
};

/// All policies of a fleet, or as many as are known here.
#[derive(Clone, Debug, Default)]
pub struct PolicyIndex {
    global: Option<Arc<ScopePolicies>>,
    tenants: HashMap<Box<str>, Arc<ScopePolicies>>,
    newest: Option<Arc<Policy>>,
    /// The newest version that was ever given out, as far as it is known beyond those of the policies here.
    given_out: PolicyVersion,
    /// What the policies that are kept whole take in memory.
    bytes: usize,
}

/// There is no room for a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyIndexFull {
    /// Of one more tenant.
    #[error("there are policies for {POLICY_TENANTS_MAX} tenants, which is the most")]
    Tenants,
    /// Of this size.
    #[error("the policies in force would take more than {} MiB together", POLICIES_MAX_BYTES >> 20)]
    Bytes,
}

impl PolicyIndex {
    /// What there would be in its scope if this were published now. Changes nothing: see [`PolicyIndex::put`].
    pub fn publish(&self, draft: PolicyDraft, id: PolicyId, at: Timestamp) -> Result<ScopePolicies, PolicyIndexFull> {
        let earlier = self.of(&draft.scope);
        let is_new_tenant = earlier.is_none() && draft.scope != PolicyScope::Global;
        if is_new_tenant && self.tenants.len() >= POLICY_TENANTS_MAX {
            return Err(PolicyIndexFull::Tenants);
        }
        let policy = Policy {
            id,
            version: self.last().next(),
            scope: draft.scope,
            name: Text::into_inner(draft.name),
            description: draft.description,
            rules: draft.rules.into(),
            created_at: at,
        };
        let next = ScopePolicies::after(earlier.map(|earlier| &**earlier), policy);
        let bytes = self.bytes + next.size() - earlier.map_or(0, |earlier| earlier.size());
        if bytes > POLICIES_MAX_BYTES { Err(PolicyIndexFull::Bytes) } else { Ok(next) }
    }

    /// Takes over what there is in a scope, unless something newer is known of it.
    pub fn put(&mut self, policies: Arc<ScopePolicies>) {
        let (size, newest) = (policies.size(), policies.newest().clone());
        let known = self.of(policies.scope());
        if known.is_some_and(|known| known.newest().version >= newest.version) {
            return;
        }
        self.bytes = self.bytes + size - known.map_or(0, |known| known.size());
        match policies.scope() {
            PolicyScope::Global => self.global = Some(policies),
            PolicyScope::Tenant(org) => {
                self.tenants.insert(org.clone(), policies);
            }
        }
        if newest.version > self.newest() {
            self.newest = Some(newest);
        }
    }

    /// Notes that the versions up to this one have been given out, to policies that may be lost.
    pub fn gave_out(&mut self, version: PolicyVersion) {
        self.given_out = self.given_out.max(version);
    }

    /// The newest version that was ever given out.
    pub fn last(&self) -> PolicyVersion {
        self.given_out.max(self.newest())
    }

    /// The newest version of all that are here.
    pub fn newest(&self) -> PolicyVersion {
        self.newest.as_ref().map_or(PolicyVersion::NONE, |policy| policy.version)
    }

    /// What there is in a scope.
    pub fn of(&self, scope: &PolicyScope) -> Option<&Arc<ScopePolicies>> {
        match scope {
            PolicyScope::Global => self.global.as_ref(),
            PolicyScope::Tenant(org) => self.tenants.get(org),
        }
    }

    /// What there is in every scope that has any.
    pub fn scopes(&self) -> impl Iterator<Item = &Arc<ScopePolicies>> {
        self.global.iter().chain(self.tenants.values())
    }

    /// The newest policy of all, or the newest of those that concern a tenant: its own and the global ones.
    pub fn active(&self, org_id: Option<&str>) -> Option<&Arc<Policy>> {
        match org_id {
            None => self.newest.as_ref(),
            Some(_) => self.concerning(org_id).map(|one| one.newest()).max_by_key(|policy| policy.version),
        }
    }

    /// The policy in force for an agent of this tenant, or of none.
    pub fn in_force(&self, org_id: Option<&str>) -> Option<&Arc<Policy>> {
        self.concerning(org_id).last().map(|one| one.newest())
    }

    /// The newest version in the scope of an agent of this tenant, or of none.
    pub fn newest_for(&self, org_id: Option<&str>) -> PolicyVersion {
        self.concerning(org_id).map(|one| one.newest().version).max().unwrap_or_default()
    }

    /// How many policies in the scope of an agent of this tenant, or of none, are newer than `seen`; of many
    /// [`POLICY_PENDING_MAX`].
    pub fn pending(&self, org_id: Option<&str>, seen: PolicyVersion) -> u32 {
        let newer: usize = self.concerning(org_id).map(|one| one.newer_than(seen)).sum();
        u32::try_from(newer).unwrap_or(u32::MAX).min(POLICY_PENDING_MAX)
    }

    /// The global policies, then those of the tenant.
    fn concerning(&self, org_id: Option<&str>) -> impl Iterator<Item = &Arc<ScopePolicies>> {
        self.global.iter().chain(org_id.and_then(|org| self.tenants.get(org)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*, sample::select};

    use super::*;
    use crate::policy::samples::{policies, policy};

    const ORGS: [&str; 3] = ["acme", "bolt", "*"];

    fn org() -> impl Strategy<Value = Option<&'static str>> {
        option::of(select(&ORGS[..]))
    }

    fn draft(org: Option<&str>, config_bytes: usize) -> PolicyDraft {
        let config = serde_json::value::to_raw_value(&serde_json::json!({"x": "x".repeat(config_bytes)})).unwrap();
        let rule = crate::policy::Rule { kind: crate::policy::RuleKind::Custom, config, enabled: true };
        let name = Text::new("p").unwrap();
        PolicyDraft { scope: PolicyScope::of(org), name, description: None, rules: vec![rule] }
    }

    fn publish(policy_index: &mut PolicyIndex, org: Option<&str>) -> PolicyVersion {
        let next = policy_index.publish(draft(org, 1), PolicyId::new(1), Timestamp::from_millis(1)).unwrap();
        let version = next.newest().version;
        policy_index.put(Arc::new(next));
        version
    }

    proptest! {
        /// The model: every policy ever published, with its tenant.
        #[test]
        fn the_index_agrees_with_a_list_of_all_policies(published in vec(org(), 0..40), agent in org(), seen in 0_u32..45) {
            let mut policy_index = PolicyIndex::default();
            for (org, version) in published.iter().zip(1..) {
                prop_assert_eq!(publish(&mut policy_index, *org), PolicyVersion::new(version));
            }
            let all: Vec<_> = published.iter().copied().zip((1..).map(PolicyVersion::new)).collect();
            let newest = |of: &dyn Fn(Option<&str>) -> bool| {
                all.iter().rev().find(|(org, _)| of(*org)).map(|(_, version)| *version)
            };
            let version = |policy: Option<&Arc<Policy>>| policy.map(|policy| policy.version);
            let concerns = |org: Option<&str>| org.is_none() || org == agent;
            prop_assert_eq!(policy_index.newest().get() as usize, published.len());
            prop_assert_eq!(version(policy_index.active(None)), newest(&|_| true));
            if agent.is_some() {
                prop_assert_eq!(version(policy_index.active(agent)), newest(&concerns));
            }
            prop_assert_eq!(version(policy_index.in_force(agent)), newest(&|org| org == agent).or(newest(&|org| org.is_none())));
            prop_assert_eq!(policy_index.newest_for(agent), newest(&concerns).unwrap_or_default());
            let seen = PolicyVersion::new(seen);
            let pending = all.iter().filter(|(org, version)| concerns(*org) && *version > seen).count();
            prop_assert_eq!(policy_index.pending(agent, seen) as usize, pending);
            prop_assert_eq!(policy_index.pending(agent, policy_index.newest_for(agent)), 0);
        }

        #[test]
        fn the_order_in_which_scopes_are_put_does_not_matter(published in vec(org(), 0..20), order in vec(any::<usize>(), 20)) {
            let mut policy_index = PolicyIndex::default();
            let mut seen = Vec::new();
            for org in &published {
                publish(&mut policy_index, *org);
                seen.push(policy_index.of(&PolicyScope::of(*org)).unwrap().clone());
            }
            let mut other = PolicyIndex::default();
            for at in order {
                if !seen.is_empty() {
                    other.put(seen.swap_remove(at % seen.len()));
                }
            }
            seen.into_iter().for_each(|policies| other.put(policies));
            prop_assert_eq!((other.newest(), other.bytes), (policy_index.newest(), policy_index.bytes));
            for org in ORGS.into_iter().map(Some).chain([None]) {
                prop_assert_eq!(other.of(&PolicyScope::of(org)), policy_index.of(&PolicyScope::of(org)));
            }
        }
    }

    #[test]
    fn what_is_pending_has_a_bound() {
        let mut policy_index = PolicyIndex::default();
        let versions: Vec<u32> = (1..=POLICY_PENDING_MAX).collect();
        policy_index.put(Arc::new(policies(None, &versions)));
        policy_index.put(Arc::new(policies(Some("acme"), &[POLICY_PENDING_MAX + 1])));
        assert_eq!(policy_index.pending(Some("acme"), PolicyVersion::NONE), POLICY_PENDING_MAX);
        assert_eq!(policy_index.pending(Some("acme"), PolicyVersion::new(POLICY_PENDING_MAX)), 1);
    }

    #[test]
    fn policies_have_a_bound_in_bytes_which_a_newer_one_of_the_same_scope_does_not_add_to() {
        let mut policy_index = PolicyIndex { bytes: POLICIES_MAX_BYTES - 3_000, ..PolicyIndex::default() };
        let mut put = |org: &str| {
            let next = policy_index.publish(draft(Some(org), 2_000), PolicyId::new(1), Timestamp::from_millis(1));
            next.map(|next| policy_index.put(Arc::new(next)))
        };
        assert_eq!([put("a"), put("a"), put("b")], [Ok(()), Ok(()), Err(PolicyIndexFull::Bytes)]);
    }

    #[test]
    fn tenants_with_policies_have_a_bound() {
        let mut policy_index = PolicyIndex::default();
        for tenant in 0..POLICY_TENANTS_MAX {
            policy_index.put(Arc::new(policies(Some(&format!("t{tenant}")), &[1])));
        }
        let publish = |org| policy_index.publish(draft(org, 1), PolicyId::new(1), Timestamp::from_millis(1));
        assert_eq!(publish(Some("one more")), Err(PolicyIndexFull::Tenants));
        assert!(publish(Some("t0")).is_ok() && publish(None).is_ok());
    }

    #[test]
    fn an_older_state_of_a_scope_does_not_replace_a_newer_one() {
        let mut policy_index = PolicyIndex::default();
        let older = Arc::new(policies(None, &[1]));
        policy_index.put(Arc::new(ScopePolicies::after(Some(&older), policy(2, None))));
        policy_index.put(older);
        assert_eq!(policy_index.newest(), PolicyVersion::new(2));
        assert_eq!(policy_index.pending(None, PolicyVersion::NONE), 2);
    }
}

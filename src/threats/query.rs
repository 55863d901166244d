//! Searching threats.

use std::collections::{BinaryHeap, binary_heap::PeekMut};

use super::{History, Severity, ThreatId, ThreatKey, ThreatScope, history::org_of, index_entry::IndexEntry};
use crate::fleet::AgentId;

/// What threats must be, to be found. What is not given matches all.
#[derive(Clone, Copy, Debug)]
pub struct Filter<'a> {
    /// The tenant, or all.
    pub scope: ThreatScope<'a>,
    /// Not older than this, in milliseconds since 1970.
    pub since_ms: Option<u64>,
    pub severity: Option<Severity>,
    pub kind: Option<&'a str>,
    pub agent: Option<AgentId>,
}

/// Some of the threats that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Their tenants and ids, and when they were taken in, in milliseconds since 1970; the newest first.
    pub threats: Vec<(ThreatKey, u64)>,
    /// Where to go on; `None` if there are no more. There may be no more even if it is given.
    pub resume_before: Option<ThreatId>,
}

/// The same as a [`Filter`], in the numbers that entries hold.
struct Wanted {
    since_ms: u64,
    severity: Option<Severity>,
    kind: Option<u32>,
    agent: Option<u32>,
}

impl History {
    /// The newest threats that match, of those before `before`: at most `limit` of them, found among at most `budget`
    /// entries. If the budget ends first the page has fewer (or none) and [`Page::resume_before`] is where to go on, so
    /// that other work can be done between. Both are at least 1.
    ///
    /// Costs a search in each tenant of the scope, and then for each entry a step of a merge over them.
    pub fn query(&self, filter: &Filter<'_>, before: Option<ThreatId>, limit: usize, budget: usize) -> Page {
        let Some(wanted) = self.wanted(filter) else { return Page::default() };
        let mut newest = self.newest(filter.scope, before, wanted.since_ms);
        let mut page = Page::default();
        for _ in 0..budget.max(1) {
            let Some(mut top) = newest.peek_mut() else { return Page { resume_before: None, ..page } };
            let (id, slot, index) = *top;
            let at_ms = self.times.of(id);
            if at_ms < wanted.since_ms {
                return Page { resume_before: None, ..page };
            }
            let tenant = self.tenants.get(slot);
            match index.checked_sub(1).and_then(|older| Some((tenant.entries().get(older)?.id, slot, older))) {
                Some(older) => *top = older,
                None => _ = PeekMut::pop(top),
            }
            page.resume_before = Some(id);
            if wanted.matches(&tenant.entries()[index]) {
                page.threats.push((ThreatKey { org: org_of(tenant), id }, at_ms));
                if page.threats.len() >= limit {
                    break;
                }
            }
        }
        if newest.is_empty() {
            page.resume_before = None;
        }
        page
    }

    /// The numbers of what is asked for; none if no entry can match.
    fn wanted(&self, filter: &Filter<'_>) -> Option<Wanted> {
        Some(Wanted {
            since_ms: filter.since_ms.unwrap_or(0),
            severity: filter.severity,
            kind: filter.kind.map(|kind| self.kinds.find(kind).ok_or(())).transpose().ok()?,
            agent: filter.agent.map(|agent| self.agents.find(agent).ok_or(())).transpose().ok()?,
        })
    }

    /// Of each tenant the newest entry before `before`, if it is not too old: its id, the tenant and its index there.
    fn newest(
        &self,
        scope: ThreatScope<'_>,
        before: Option<ThreatId>,
        since_ms: u64,
    ) -> BinaryHeap<(ThreatId, usize, usize)> {
        let newest_of = |slot: usize| {
            let tenant = self.tenants.get(slot);
            let end = before.map_or(tenant.entries().len(), |before| tenant.index_of(before));
            let index = end.checked_sub(1)?;
            let id = tenant.entries().get(index)?.id;
            (self.times.of(id) >= since_ms).then_some((id, slot, index))
        };
        match scope {
            ThreatScope::Fleet => self.tenants.slots().filter_map(newest_of).collect(),
            ThreatScope::Tenant(org) => self.tenants.find(org).and_then(newest_of).into_iter().collect(),
        }
    }
}

impl Wanted {
    fn matches(&self, entry: &IndexEntry) -> bool {
        self.severity.is_none_or(|severity| severity == entry.severity())
            && self.kind.is_none_or(|kind| kind == entry.kind)
            && self.agent.is_none_or(|agent| agent == entry.agent)
    }
}

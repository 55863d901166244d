//! The tenants that have threats.

use std::collections::{BTreeSet, HashMap};

use super::{tenant::Tenant, times::Times};

/// Tenants by their names, and by when they have to be looked at again. Only those with entries are here.
#[derive(Debug, Default)]
pub(super) struct Tenants {
    slots: HashMap<Box<str>, usize>,
    /// None in a free slot.
    tenants: Vec<Option<Tenant>>,
    free: Vec<usize>,
    /// When, and who: each tenant once, unless it is never due.
    due: BTreeSet<(u64, usize)>,
}

impl Tenants {
    /// The slot of the tenant with this name.
    pub(super) fn find(&self, org: Option<&str>) -> Option<usize> {
        self.slots.get(name(org)).copied()
    }

    /// The same; creates the tenant if there is none.
    pub(super) fn find_or_make(&mut self, org: Option<&str>) -> usize {
        if let Some(slot) = self.find(org) {
            return slot;
        }
        let tenant = Some(Tenant::new(name(org).into()));
        let slot = match self.free.pop() {
            Some(slot) => {
                self.tenants[slot] = tenant;
                slot
            }
            None => {
                self.tenants.push(tenant);
                self.tenants.len() - 1
            }
        };
        self.slots.insert(name(org).into(), slot);
        slot
    }

    pub(super) fn get(&self, slot: usize) -> &Tenant {
        self.tenants[slot].as_ref().expect("a slot is used only while its tenant has entries")
    }

    pub(super) fn get_mut(&mut self, slot: usize) -> &mut Tenant {
        self.tenants[slot].as_mut().expect("a slot is used only while its tenant has entries")
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = usize> {
        self.slots.values().copied()
    }

    /// Notes when a tenant has to be looked at again; forgets it if it has no entries left.
    pub(super) fn reschedule(&mut self, slot: usize, max_age_ms: u64, times: &Times) {
        let tenant = self.get_mut(slot);
        let due_ms = tenant.next_due_ms(max_age_ms, times);
        let noted_ms = std::mem::replace(&mut tenant.due_ms, due_ms);
        if due_ms != noted_ms {
            self.due.remove(&(noted_ms, slot));
            if due_ms < u64::MAX {
                self.due.insert((due_ms, slot));
            }
        }
        if self.get(slot).entries().is_empty() {
            let tenant = self.tenants[slot].take().expect("it was there a moment ago");
            self.slots.remove(&tenant.org);
            self.free.push(slot);
        }
    }

    /// The tenant that was due first, if it is due by `now_ms`.
    pub(super) fn first_due(&self, now_ms: u64) -> Option<usize> {
        self.due.first().filter(|(due_ms, _)| *due_ms <= now_ms).map(|(_, slot)| *slot)
    }
}

/// The name under which a tenant is kept. No tenant's name is empty, so that one is free for those that have none.
fn name(org: Option<&str>) -> &str {
    org.unwrap_or("")
}

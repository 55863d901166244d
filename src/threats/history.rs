//! All retained threats, with figures that are exact at any moment.

use std::net::{IpAddr, Ipv4Addr};

use super::{
    BySeverity, Period, ThreatEntry, ThreatId,
    index_entry::IndexEntry,
    names::{Agents, Names},
    tenant::Tenant,
    tenants::Tenants,
    times::Times,
    window::{Window, Windows},
};
use crate::{fleet::AgentId, limits::CLOCK_BACK_MAX_MS};

/// The history of threats: an index entry for each, and a window of figures for each period and tenant.
///
/// It has no clock: [`Self::advance`] sets the time, and all figures are those of that time. A threat's own time is
/// its id's, unless it has one noted. The clock may be set, both ways: the windows follow. What has been dropped stays
/// dropped; what turns out to be from the future is of now.
#[derive(Debug)]
pub struct History {
    pub(super) tenants: Tenants,
    /// The figures of all tenants together.
    fleet: Windows,
    pub(super) agents: Agents,
    pub(super) kinds: Names<Box<str>>,
    pub(super) ips: Names<IpAddr>,
    pub(super) times: Times,
    /// Whether times have changed that the windows do not know of yet.
    is_retimed: bool,
    /// The newest threat that was ever added.
    newest: Option<ThreatId>,
    retention: Retention,
    now_ms: u64,
    count: u64,
    bytes: u64,
}

/// The bounds of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// How old a threat may become, in milliseconds.
    pub max_age_ms: u64,
    /// What the threats of one tenant may take in the store, in bytes: the oldest are dropped for the newest.
    pub max_bytes: u64,
}

/// Threats of one tenant, or of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreatScope<'a> {
    /// Everybody's.
    Fleet,
    /// One tenant's; those of agents that belong to none for `None`.
    Tenant(Option<&'a str>),
}

/// The oldest threats of a tenant are not kept any longer, and have left all figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trim {
    pub org: Option<Box<str>>,
    /// The newest of those dropped; of this tenant none is left that is older.
    pub up_to: ThreatId,
    /// Those that were too old.
    pub aged: Dropped,
    /// Those for which newer ones left no room.
    pub displaced: Dropped,
}

/// How much was dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    pub count: u64,
    /// Their sizes together.
    pub bytes: u64,
}

impl History {
    /// A history without threats, at this time.
    pub fn new(retention: Retention, now_ms: u64) -> Self {
        Self {
            tenants: Tenants::default(),
            fleet: Windows::default(),
            agents: Agents::default(),
            kinds: Names::new(Box::default()),
            ips: Names::new(Ipv4Addr::UNSPECIFIED.into()),
            times: Times::default(),
            is_retimed: false,
            newest: None,
            retention,
            now_ms,
            count: 0,
            bytes: 0,
        }
    }

    /// How many threats are kept.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their sizes together, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Sets the time; what has become too old is dropped.
    ///
    /// Costs what leaves the windows, not what is in them; only a clock that is set back has all tenants looked at.
    pub fn advance(&mut self, now_ms: u64) -> Vec<Trim> {
        let is_set_back = now_ms < self.now_ms;
        self.now_ms = now_ms;
        if let Some(newest) = self.newest
            && self.times.of(newest) > now_ms.saturating_add(CLOCK_BACK_MAX_MS)
        {
            self.is_retimed |= self.times.note(newest, now_ms);
        }
        // Twice the age: threats that the store should have dropped, and has not, may still come from there.
        self.times.forget_before(now_ms.saturating_sub(self.retention.max_age_ms.saturating_mul(2)));
        if std::mem::take(&mut self.is_retimed) || is_set_back {
            let all: Vec<usize> = self.tenants.slots().collect();
            return all.into_iter().filter_map(|slot| self.bring_up_to_date(slot)).collect();
        }
        let mut trims = Vec::new();
        while let Some(slot) = self.tenants.first_due(now_ms) {
            trims.extend(self.bring_up_to_date(slot));
        }
        trims
    }

    /// Adds a threat, in the order of ids; returns what had to be dropped for it, which is the threat itself
    /// if that is too old or alone too large. One that is here already is left as it is.
    pub fn add(&mut self, entry: ThreatEntry) -> Option<Trim> {
        let slot = self.tenants.find_or_make(entry.org.as_deref());
        let tenant = self.tenants.get_mut(slot);
        if tenant.has(entry.id) {
            return None;
        }
        self.newest = self.newest.max(Some(entry.id));
        if let Some(at_ms) = entry.at_ms {
            self.is_retimed |= self.times.note(entry.id, at_ms);
        }
        let agent = self.agents.acquire(entry.agent, entry.hostname, entry.id);
        let kind = self.kinds.acquire(entry.kind);
        let ip = entry.source_ip.map(|ip| self.ips.acquire(ip));
        let indexed = IndexEntry::new(entry.id, agent, kind, ip, entry.severity, entry.bytes);
        tenant.insert(indexed, self.times.of(entry.id), self.now_ms, &mut self.fleet);
        self.count += 1;
        self.bytes += indexed.bytes();
        let trim = self.trim(slot);
        self.tenants.reschedule(slot, self.retention.max_age_ms, &self.times);
        trim
    }

    /// Takes threats out, as if they had never been added; returns how many of them were here. Slow: the entries behind each
    /// of them move up.
    pub fn remove(&mut self, org: Option<&str>, threats: &[ThreatId]) -> usize {
        let Some(slot) = self.tenants.find(org) else { return 0 };
        let mut removed = 0;
        for id in threats {
            if let Some(entry) = self.tenants.get_mut(slot).remove(*id, &mut self.fleet) {
                self.forget(&entry);
                removed += 1;
            }
        }
        self.tenants.reschedule(slot, self.retention.max_age_ms, &self.times);
        removed
    }

    /// When the threat with this id was taken in, in milliseconds since 1970.
    pub fn time(&self, id: ThreatId) -> u64 {
        self.times.of(id)
    }

    /// The time to keep with a new threat, in milliseconds since 1970, if it is not to be that of its id: ids are ahead of a
    /// clock that has been set back by far.
    pub fn own_time(&self, id: ThreatId, now_ms: u64) -> Option<u64> {
        let is_ahead = id.millis() > now_ms.saturating_add(CLOCK_BACK_MAX_MS);
        (is_ahead || self.times.of(id) != id.millis()).then_some(now_ms)
    }

    /// How many threats this agent reported in the last 24 hours.
    pub fn recent(&self, agent: AgentId) -> u64 {
        let count = |slot| self.fleet.of(Period::Day1).agents.get(slot);
        self.agents.find(agent).map_or(0, count).into()
    }

    /// How many threats the whole fleet had in a period, and of each severity.
    pub fn totals(&self, period: Period) -> (u64, BySeverity) {
        let window = self.fleet.of(period);
        (window.total, window.by_severity)
    }

    /// The window of a period; none for a tenant without threats.
    pub(super) fn window_mut(&mut self, scope: ThreatScope<'_>, period: Period) -> Option<&mut Window> {
        match scope {
            ThreatScope::Fleet => Some(self.fleet.of_mut(period)),
            ThreatScope::Tenant(org) => {
                let slot = self.tenants.find(org)?;
                Some(self.tenants.get_mut(slot).windows.of_mut(period))
            }
        }
    }

    fn bring_up_to_date(&mut self, slot: usize) -> Option<Trim> {
        self.tenants.get_mut(slot).move_windows(self.now_ms, &self.times, &mut self.fleet);
        let trim = self.trim(slot);
        self.tenants.reschedule(slot, self.retention.max_age_ms, &self.times);
        trim
    }

    /// Drops what a tenant may not keep.
    fn trim(&mut self, slot: usize) -> Option<Trim> {
        let kept_since_ms = self.now_ms.saturating_sub(self.retention.max_age_ms);
        let (mut aged, mut displaced) = (Dropped::default(), Dropped::default());
        let mut up_to = None;
        loop {
            let tenant = self.tenants.get_mut(slot);
            let too_old = tenant.entries().front().is_some_and(|oldest| self.times.of(oldest.id) < kept_since_ms);
            if !too_old && tenant.bytes <= self.retention.max_bytes {
                break;
            }
            let Some(entry) = tenant.pop(&mut self.fleet) else { break };
            let dropped = if too_old { &mut aged } else { &mut displaced };
            dropped.count += 1;
            dropped.bytes += entry.bytes();
            up_to = Some(entry.id);
            self.forget(&entry);
        }
        Some(Trim { org: org_of(self.tenants.get(slot)), up_to: up_to?, aged, displaced })
    }

    /// Lets go of what an entry named that has left everything.
    fn forget(&mut self, entry: &IndexEntry) {
        self.count -= 1;
        self.bytes -= entry.bytes();
        self.agents.release(entry.agent);
        self.kinds.release(entry.kind);
        if let Some(ip) = entry.ip() {
            self.ips.release(ip);
        }
    }
}

/// The name of a tenant, as others write it.
pub(super) fn org_of(tenant: &Tenant) -> Option<Box<str>> {
    (!tenant.org.is_empty()).then(|| tenant.org.clone())
}

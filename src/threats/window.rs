//! What is counted of the threats of one period.

use super::{BySeverity, Period, counts::Counts, index_entry::IndexEntry};

/// The figures of the entries that are young enough for one period.
#[derive(Debug, Default)]
pub(super) struct Window {
    pub(super) total: u64,
    pub(super) by_severity: BySeverity,
    pub(super) kinds: Counts,
    pub(super) agents: Counts,
    pub(super) ips: Counts,
}

/// A window for each period.
#[derive(Debug, Default)]
pub(super) struct Windows([Window; Period::ALL.len()]);

impl Windows {
    pub(super) fn of(&self, period: Period) -> &Window {
        &self.0[period.index()]
    }

    /// The window of one period, to be changed.
    pub(super) fn of_mut(&mut self, period: Period) -> &mut Window {
        &mut self.0[period.index()]
    }
}

impl Window {
    /// Counts an entry that is not in yet.
    pub(super) fn enter(&mut self, entry: &IndexEntry) {
        self.total += 1;
        self.by_severity[entry.severity().index()] += 1;
        self.kinds.increment(entry.kind);
        self.agents.increment(entry.agent);
        if let Some(ip) = entry.ip() {
            self.ips.increment(ip);
        }
    }

    /// Takes an entry out that is in.
    pub(super) fn leave(&mut self, entry: &IndexEntry) {
        self.total -= 1;
        self.by_severity[entry.severity().index()] -= 1;
        self.kinds.decrement(entry.kind);
        self.agents.decrement(entry.agent);
        if let Some(ip) = entry.ip() {
            self.ips.decrement(ip);
        }
    }
}

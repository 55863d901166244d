//! The threats of one tenant, and which of them are in which window.

use std::collections::VecDeque;

use super::{Period, ThreatId, index_entry::IndexEntry, times::Times, window::Windows};

/// One tenant's entries. Every entry that enters or leaves a window here does the same in the fleet's window, so the two
/// always agree.
#[derive(Debug, Default)]
pub(super) struct Tenant {
    /// Its name; empty for the agents that belong to none.
    pub(super) org: Box<str>,
    /// In the order of their ids, and so of their times.
    entries: VecDeque<IndexEntry>,
    /// Sizes of all entries together.
    pub(super) bytes: u64,
    pub(super) windows: Windows,
    /// For each period, the index of the oldest entry in its window. All after it are in, all before it are out.
    oldest_in: [usize; Period::ALL.len()],
    /// When it has to be looked at again, as the history noted it.
    pub(super) due_ms: u64,
}

impl Tenant {
    /// A tenant without entries.
    pub(super) fn new(org: Box<str>) -> Self {
        Self { org, due_ms: u64::MAX, ..Self::default() }
    }

    pub(super) fn entries(&self) -> &VecDeque<IndexEntry> {
        &self.entries
    }

    /// How many entries have a lower id.
    pub(super) fn index_of(&self, id: ThreatId) -> usize {
        // The usual case first: it is newer than all.
        if self.entries.back().is_none_or(|newest| newest.id < id) {
            return self.entries.len();
        }
        self.entries.partition_point(|entry| entry.id < id)
    }

    /// Whether there is an entry with this id.
    pub(super) fn has(&self, id: ThreatId) -> bool {
        self.entries.get(self.index_of(id)).is_some_and(|entry| entry.id == id)
    }

    /// Adds an entry of this time whose id is not here yet, and counts it in the windows that it is young enough for.
    pub(super) fn insert(&mut self, entry: IndexEntry, at_ms: u64, now_ms: u64, fleet: &mut Windows) {
        let index = self.index_of(entry.id);
        self.entries.insert(index, entry);
        self.bytes += entry.bytes();
        for period in Period::ALL {
            let oldest_in = &mut self.oldest_in[period.index()];
            // Between two entries that are in, or out, it is so too, until the windows are moved.
            let is_in = index > *oldest_in || index == *oldest_in && at_ms >= period.since(now_ms);
            if is_in {
                self.windows.of_mut(period).enter(&entry);
                fleet.of_mut(period).enter(&entry);
            } else {
                *oldest_in += 1;
            }
        }
    }

    /// Takes out the entry with this id.
    pub(super) fn remove(&mut self, id: ThreatId, fleet: &mut Windows) -> Option<IndexEntry> {
        let index = self.index_of(id);
        self.entries.get(index).filter(|entry| entry.id == id)?;
        self.take(index, fleet)
    }

    /// Takes out the oldest entry.
    pub(super) fn pop(&mut self, fleet: &mut Windows) -> Option<IndexEntry> {
        self.take(0, fleet)
    }

    fn take(&mut self, index: usize, fleet: &mut Windows) -> Option<IndexEntry> {
        let entry = self.entries.remove(index)?;
        self.bytes -= entry.bytes();
        for period in Period::ALL {
            let oldest_in = &mut self.oldest_in[period.index()];
            if index < *oldest_in {
                *oldest_in -= 1;
            } else {
                self.windows.of_mut(period).leave(&entry);
                fleet.of_mut(period).leave(&entry);
            }
        }
        if self.entries.len() < self.entries.capacity() / 8 {
            self.entries.shrink_to(2 * self.entries.len());
        }
        Some(entry)
    }

    /// Moves the windows to `now_ms`: entries leave them, or are in again if the clock was set back.
    pub(super) fn move_windows(&mut self, now_ms: u64, times: &Times, fleet: &mut Windows) {
        for period in Period::ALL {
            let since_ms = period.since(now_ms);
            let oldest_in = &mut self.oldest_in[period.index()];
            let (window, fleet) = (self.windows.of_mut(period), fleet.of_mut(period));
            while let Some(entry) = self.entries.get(*oldest_in).filter(|entry| times.of(entry.id) < since_ms) {
                window.leave(entry);
                fleet.leave(entry);
                *oldest_in += 1;
            }
            while let Some(entry) = oldest_in.checked_sub(1).and_then(|before| self.entries.get(before))
                && times.of(entry.id) >= since_ms
            {
                window.enter(entry);
                fleet.enter(entry);
                *oldest_in -= 1;
            }
        }
    }

    /// When the next entry leaves a window, or is too old to be kept; `u64::MAX` for never.
    pub(super) fn next_due_ms(&self, max_age_ms: u64, times: &Times) -> u64 {
        let too_old_at = |entry: &IndexEntry, age_ms: u64| times.of(entry.id).saturating_add(age_ms).saturating_add(1);
        let leaves = Period::ALL.into_iter().filter_map(|period| {
            self.entries.get(self.oldest_in[period.index()]).map(|entry| too_old_at(entry, period.millis()))
        });
        let dropped = self.entries.front().map(|entry| too_old_at(entry, max_age_ms));
        leaves.chain(dropped).min().unwrap_or(u64::MAX)
    }
}

//! The threats of one tenant, and which of them are in which window.

use std::collections::VecDeque;

use super::{Period, ThreatId, index_entry::IndexEntry, times::Times, window::Windows};

/// One tenant's rows. Every row that enters or leaves a window here does the same in the fleet's window, so the two
/// always agree.
#[derive(Debug, Default)]
pub(super) struct Tenant {
    /// Its name; empty for the agents that belong to none.
    pub(super) org: Box<str>,
    /// In the order of their ids, and so of their times.
    rows: VecDeque<IndexEntry>,
    /// Sizes of all rows together.
    pub(super) bytes: u64,
    pub(super) windows: Windows,
    /// For each period, the index of the oldest row in its window. All after it are in, all before it are out.
    oldest_in: [usize; Period::ALL.len()],
    /// When it has to be looked at again, as the history noted it.
    pub(super) due_ms: u64,
}

impl Tenant {
    /// A tenant without rows.
    pub(super) fn new(org: Box<str>) -> Self {
        Self { org, due_ms: u64::MAX, ..Self::default() }
    }

    pub(super) fn rows(&self) -> &VecDeque<IndexEntry> {
        &self.rows
    }

    /// How many rows have a lower id.
    pub(super) fn index_of(&self, id: ThreatId) -> usize {
        // The usual case first: it is newer than all.
        if self.rows.back().is_none_or(|newest| newest.id < id) {
            return self.rows.len();
        }
        self.rows.partition_point(|row| row.id < id)
    }

    /// Whether there is a row with this id.
    pub(super) fn has(&self, id: ThreatId) -> bool {
        self.rows.get(self.index_of(id)).is_some_and(|row| row.id == id)
    }

    /// Adds a row of this time whose id is not here yet, and counts it in the windows that it is young enough for.
    pub(super) fn insert(&mut self, row: IndexEntry, at_ms: u64, now_ms: u64, fleet: &mut Windows) {
        let index = self.index_of(row.id);
        self.rows.insert(index, row);
        self.bytes += row.bytes();
        for period in Period::ALL {
            let oldest_in = &mut self.oldest_in[period.index()];
            // Between two rows that are in, or out, it is so too, until the windows are moved.
            let is_in = index > *oldest_in || index == *oldest_in && at_ms >= period.since(now_ms);
            if is_in {
                self.windows.of_mut(period).enter(&row);
                fleet.of_mut(period).enter(&row);
            } else {
                *oldest_in += 1;
            }
        }
    }

    /// Takes out the row with this id.
    pub(super) fn remove(&mut self, id: ThreatId, fleet: &mut Windows) -> Option<IndexEntry> {
        let index = self.index_of(id);
        self.rows.get(index).filter(|row| row.id == id)?;
        self.take(index, fleet)
    }

    /// Takes out the oldest row.
    pub(super) fn pop(&mut self, fleet: &mut Windows) -> Option<IndexEntry> {
        self.take(0, fleet)
    }

    fn take(&mut self, index: usize, fleet: &mut Windows) -> Option<IndexEntry> {
        let row = self.rows.remove(index)?;
        self.bytes -= row.bytes();
        for period in Period::ALL {
            let oldest_in = &mut self.oldest_in[period.index()];
            if index < *oldest_in {
                *oldest_in -= 1;
            } else {
                self.windows.of_mut(period).leave(&row);
                fleet.of_mut(period).leave(&row);
            }
        }
        if self.rows.len() < self.rows.capacity() / 8 {
            self.rows.shrink_to(2 * self.rows.len());
        }
        Some(row)
    }

    /// Moves the windows to `now_ms`: rows leave them, or are in again if the clock was set back.
    pub(super) fn move_windows(&mut self, now_ms: u64, times: &Times, fleet: &mut Windows) {
        for period in Period::ALL {
            let since_ms = period.since(now_ms);
            let oldest_in = &mut self.oldest_in[period.index()];
            let (window, fleet) = (self.windows.of_mut(period), fleet.of_mut(period));
            while let Some(row) = self.rows.get(*oldest_in).filter(|row| times.of(row.id) < since_ms) {
                window.leave(row);
                fleet.leave(row);
                *oldest_in += 1;
            }
            while let Some(row) = oldest_in.checked_sub(1).and_then(|before| self.rows.get(before))
                && times.of(row.id) >= since_ms
            {
                window.enter(row);
                fleet.enter(row);
                *oldest_in -= 1;
            }
        }
    }

    /// When the next row leaves a window, or is too old to be kept; `u64::MAX` for never.
    pub(super) fn next_due_ms(&self, max_age_ms: u64, times: &Times) -> u64 {
        let too_old_at = |row: &IndexEntry, age_ms: u64| times.of(row.id).saturating_add(age_ms).saturating_add(1);
        let leaves = Period::ALL.into_iter().filter_map(|period| {
            self.rows.get(self.oldest_in[period.index()]).map(|row| too_old_at(row, period.millis()))
        });
        let dropped = self.rows.front().map(|row| too_old_at(row, max_age_ms));
        leaves.chain(dropped).min().unwrap_or(u64::MAX)
    }
}

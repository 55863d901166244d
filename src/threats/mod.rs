//! The threats that agents report, and what is known of them without reading them again.
//!
//! [`History`] holds what is counted and searched for of every retained threat, an index entry of 24 bytes. It promises that
//! every figure is exact at the time last set, and that none of them is found by going through the index entries: each
//! entry is counted when it enters a window of time and when it leaves it. With names and counts, five million threats of a
//! million agents take about 100 bytes each.
//!
//! Pure: no I/O, no clock, no actors. It must not know where threats are stored, who asks, or in which form they are
//! shown. What it drops it reports as a [`Trim`], so that the store can drop the same.

mod counts;
mod event;
mod history;
mod index_entry;
mod names;
mod period;
mod query;
mod severity;
mod summary;
mod tenant;
mod tenants;
#[cfg(test)]
mod tests;
mod threat;
mod threat_id;
mod times;
mod window;

pub use event::ReportedThreat;
pub use history::{History, Retention, ThreatScope, Trim};
pub use period::Period;
pub use query::{Filter, Page};
pub use severity::{BySeverity, Severity};
pub use summary::Summary;
pub use threat::{Threat, ThreatEntry, ThreatKey};
pub use threat_id::ThreatId;

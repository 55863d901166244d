//! How many agents have which label, over all shards.

use std::{cmp::Reverse, collections::HashMap};

use crate::engine::messages::LabelCounts;
use crate::limits::LABEL_VALUES_MAX;

/// What values that are not among the most frequent ones are counted as.
pub const OTHER: &str = "other";

/// The most frequent values of a label, at most [`LABEL_VALUES_MAX`] of them, and how many agents have any other.
pub fn most_frequent<'a>(shards: impl Iterator<Item = &'a LabelCounts>) -> (Vec<(&'a str, u64)>, u64) {
    let mut sums: HashMap<&str, u64> = HashMap::new();
    let mut other = 0;
    for (values, rest) in shards {
        other += rest;
        for (value, agents) in values {
            *sums.entry(value).or_default() += agents;
        }
    }
    // A value that is named like the rest is counted with it.
    other += sums.remove(OTHER).unwrap_or_default();
    let mut sums: Vec<_> = sums.into_iter().collect();
    // By name where the numbers are equal, so that the choice is stable.
    sums.sort_unstable_by_key(|(value, agents)| (Reverse(*agents), *value));
    other += sums.iter().skip(LABEL_VALUES_MAX).map(|(_, agents)| agents).sum::<u64>();
    sums.truncate(LABEL_VALUES_MAX);
    (sums, other)
}

//! How often each key occurs, and which occur most.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    hash::{BuildHasherDefault, Hasher},
};

use crate::limits::{THREAT_LEADERS_KEPT, THREAT_LEADERS_MAX};

/// Counts of keys, with the highest at hand: neither counting nor asking goes through all keys.
///
/// While there are few keys, all of them are looked at. Of more, the *leaders* are kept apart. Two things are true of
/// them at any time: no leader's count is below the bar, and every key whose count is above the bar is a leader. So the
/// highest of the leaders are the highest of all. As counts fall leaders are lost; when fewer are left than somebody
/// asks for, they are elected anew, in one pass over the keys.
#[derive(Debug, Default)]
pub(super) struct Counts {
    counts: HashMap<u32, u32, BuildHasherDefault<SlotHasher>>,
    /// None while all keys are looked at.
    leaders: Option<Box<Leaders>>,
}

#[derive(Debug, Default)]
struct Leaders {
    keys: HashSet<u32, BuildHasherDefault<SlotHasher>>,
    bar: u32,
}

/// Spreads small numbers that we gave out ourselves: nobody outside chooses them.
#[derive(Debug, Default)]
pub(super) struct SlotHasher(u64);

/// Below this many keys, room that isn't used is not given back.
const SHRINK_ABOVE: usize = 1_024;

impl Counts {
    pub(super) fn increment(&mut self, key: u32) {
        let count = self.counts.entry(key).or_default();
        *count += 1;
        let count = *count;
        match &mut self.leaders {
            Some(leaders) => leaders.consider(key, count, &self.counts),
            None if self.counts.len() > THREAT_LEADERS_MAX => self.elect(),
            None => {}
        }
    }

    /// Counts one less of `key`, which has been counted.
    pub(super) fn decrement(&mut self, key: u32) {
        let count = self.counts.get_mut(&key).expect("what leaves has entered");
        *count -= 1;
        let count = *count;
        if let Some(leaders) = &mut self.leaders
            && count < leaders.bar.max(1)
        {
            leaders.keys.remove(&key);
        }
        if count == 0 {
            self.counts.remove(&key);
            if self.counts.len() < THREAT_LEADERS_KEPT {
                self.leaders = None;
            }
            if self.counts.capacity() > SHRINK_ABOVE && self.counts.len() < self.counts.capacity() / 8 {
                self.counts.shrink_to(2 * self.counts.len());
            }
        }
    }

    pub(super) fn get(&self, key: u32) -> u32 {
        self.counts.get(&key).copied().unwrap_or(0)
    }

    /// The `most` keys with the highest counts, the highest first; at most [`THREAT_LEADERS_KEPT`] of them.
    pub(super) fn top(&mut self, most: usize) -> Vec<(u32, u64)> {
        let most = most.min(THREAT_LEADERS_KEPT).min(self.counts.len());
        if self.leaders.as_ref().is_some_and(|leaders| leaders.keys.len() < most) {
            self.elect();
        }
        let mut top: Vec<(u32, u64)> = match &self.leaders {
            Some(leaders) => leaders.keys.iter().map(|&key| (key, self.get(key).into())).collect(),
            None => self.counts.iter().map(|(&key, &count)| (key, count.into())).collect(),
        };
        top.sort_unstable_by_key(|&(key, count)| (Reverse(count), key));
        top.truncate(most);
        top
    }

    fn elect(&mut self) {
        let mut leaders = Box::<Leaders>::default();
        for (&key, &count) in &self.counts {
            leaders.consider(key, count, &self.counts);
        }
        self.leaders = Some(leaders);
    }
}

impl Leaders {
    /// Takes `key` in if its count demands it, or if it may be taken in and there are few leaders.
    fn consider(&mut self, key: u32, count: u32, counts: &HashMap<u32, u32, BuildHasherDefault<SlotHasher>>) {
        let welcome = count == self.bar && self.keys.len() < THREAT_LEADERS_KEPT;
        if count > self.bar || welcome {
            self.keys.insert(key);
        }
        if self.keys.len() <= THREAT_LEADERS_MAX {
            return;
        }
        let mut all: Vec<(Reverse<u32>, u32)> = self.keys.iter().map(|key| (Reverse(counts[key]), *key)).collect();
        let (kept, (Reverse(bar), _), _) = all.select_nth_unstable(THREAT_LEADERS_KEPT);
        self.bar = *bar;
        self.keys.clear();
        self.keys.extend(kept.iter().map(|(_, key)| key));
    }
}

impl Hasher for SlotHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32((self.0 as u32).rotate_left(8) ^ u32::from(*byte)));
    }

    fn write_u32(&mut self, number: u32) {
        // Fibonacci hashing: 2^64 divided by the golden ratio.
        self.0 = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        // The table takes both ends of it.
        self.0 ^ (self.0 >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn what_is_no_longer_counted_leaves_nothing_behind() {
        let mut counts = Counts::default();
        (0..50_000).for_each(|key| counts.increment(key));
        (0..50_000).for_each(|key| counts.decrement(key));
        assert!(counts.top(10).is_empty());
        assert!(counts.leaders.is_none() && counts.counts.capacity() <= SHRINK_ABOVE);
    }

    #[test]
    fn leaders_that_fall_are_replaced() {
        let mut counts = Counts::default();
        (0..5_000).for_each(|key| (0..=key % 7).for_each(|_| counts.increment(key)));
        (0..1_000).for_each(|key| (0..20).for_each(|_| counts.increment(key)));
        assert_eq!(counts.top(1)[0].1, 27);
        (0..1_000).for_each(|key| (0..20).for_each(|_| counts.decrement(key)));
        assert!(counts.top(100).iter().all(|(_, count)| *count == 7));
        assert_eq!(counts.top(100).len(), 100);
    }

    proptest! {
        #[test]
        fn the_highest_counts_are_those_of_a_plain_count(
            steps in proptest::collection::vec((0_u32..1_500, 1_u32..6, any::<bool>()), 1_000..3_000),
            most in 1_usize..120,
        ) {
            let (mut counts, mut plain) = (Counts::default(), BTreeMap::<u32, u64>::new());
            for (step, (key, times, up)) in steps.into_iter().enumerate() {
                // The square of a random number: few keys are counted often, many seldom.
                let key = key * key / 1_500;
                for _ in 0..times {
                    let plain = plain.entry(key).or_default();
                    if up {
                        counts.increment(key);
                        *plain += 1;
                    } else if *plain > 0 {
                        counts.decrement(key);
                        *plain -= 1;
                    }
                }
                if step % 101 == 0 {
                    let mut expected: Vec<u64> = plain.values().copied().filter(|count| *count > 0).collect();
                    expected.sort_unstable_by_key(|count| Reverse(*count));
                    expected.truncate(most);
                    let top = counts.top(most);
                    prop_assert!(top.iter().all(|(key, count)| plain[key] == *count));
                    prop_assert_eq!(top.into_iter().map(|(_, count)| count).collect::<Vec<_>>(), expected);
                }
            }
        }
    }
}

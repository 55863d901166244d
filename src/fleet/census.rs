//! Strings that many agents share, kept once each, with the number of agents that hold them.

use std::{cmp::Reverse, collections::HashMap, rc::Rc};

/// A string held once for all the agents of a shard that have it.
pub type Interned = Rc<str>;

/// Counts who holds which string. What an agent acquires it must release.
///
/// Interning and counting are the same bookkeeping: a fleet's operating systems, versions, tenants and tag lists repeat
/// a million times, and how often they do is what the `guardbeat_agents_by_*` gauges show.
#[derive(Debug, Default)]
pub struct Census {
    holders: HashMap<Interned, u64>,
}

impl Census {
    /// Takes hold of `text`.
    pub fn acquire(&mut self, text: &str) -> Interned {
        if let Some((interned, holders)) = self.holders.get_key_value(text) {
            let (interned, holders) = (interned.clone(), holders + 1);
            self.holders.insert(interned.clone(), holders);
            return interned;
        }
        let interned: Interned = text.into();
        self.holders.insert(interned.clone(), 1);
        interned
    }

    /// Lets go of a string that was acquired here; the last holder's release forgets it.
    pub fn release(&mut self, text: &Interned) {
        if let Some(holders) = self.holders.get_mut(text) {
            *holders -= 1;
            if *holders == 0 {
                self.holders.remove(text);
            }
        }
    }

    /// The strings with the most holders, at most `most` of them, and how many holders all the others have together.
    pub fn top(&self, most: usize) -> (Vec<(Box<str>, u64)>, u64) {
        let mut all: Vec<_> = self.holders.iter().collect();
        if all.len() > most {
            all.select_nth_unstable_by_key(most, |(_, holders)| Reverse(**holders));
        }
        let rest = all.iter().skip(most).map(|(_, holders)| **holders).sum();
        all.truncate(most);
        (all.into_iter().map(|(text, holders)| (text.as_ref().into(), *holders)).collect(), rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_is_held_once_and_forgotten_with_its_last_holder() {
        let mut census = Census::default();
        let first = census.acquire("linux");
        let second = census.acquire("linux");
        assert!(Rc::ptr_eq(&first, &second));
        census.release(&first);
        assert_eq!(census.top(10), (vec![("linux".into(), 1)], 0));
        census.release(&second);
        assert_eq!(census.top(10), (vec![], 0));
    }

    #[test]
    fn the_top_holds_the_most_frequent_and_the_rest_is_summed() {
        let mut census = Census::default();
        for (text, times) in [("a", 1), ("b", 5), ("c", 3), ("d", 2)] {
            (0..times).for_each(|_| drop(census.acquire(text)));
        }
        let (mut top, rest) = census.top(2);
        top.sort();
        assert_eq!((top, rest), (vec![("b".into(), 5), ("c".into(), 3)], 3));
    }
}

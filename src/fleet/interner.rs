//! Strings that many agents share, kept once each, with the number of agents that hold them.

use std::{cmp::Reverse, collections::HashMap, num::NonZeroU32, rc::Rc};

/// Stands for a string of one [`Interner`] while somebody holds it: 4 bytes in an agent where the string itself would take
/// 16, and the same string has the same handle, so that comparing handles is enough.
///
/// It means nothing in another one, and nothing after its last release: then it may come to stand for another string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interned(NonZeroU32);

impl Interned {
    /// A small number of its own: handles are given out from 0 on, and those that are free again before new ones.
    pub const fn index(self) -> usize {
        self.0.get() as usize - 1
    }

    fn at(index: usize) -> Self {
        let number = u32::try_from(index + 1).ok().and_then(NonZeroU32::new);
        Self(number.expect("a shard has fewer agents than 2^32"))
    }
}

/// Counts who holds which string. What an agent acquires it must release.
///
/// Interning and counting are the same bookkeeping: a fleet's operating systems, versions, tenants and tag lists repeat
/// a million times, and how often they do is what the `guardbeat_agents_by_*` gauges show.
#[derive(Debug, Default)]
pub struct Interner {
    handles: HashMap<Rc<str>, Interned>,
    slots: Vec<Slot>,
    /// Handles that nobody holds.
    free: Vec<Interned>,
}

#[derive(Debug)]
struct Slot {
    /// None while the handle is free.
    text: Option<Rc<str>>,
    holders: u32,
}

impl Interner {
    /// Takes hold of `text`.
    pub fn acquire(&mut self, text: &str) -> Interned {
        self.take_hold(text).0
    }

    /// Takes hold of `text`, and returns whether nobody held it before.
    pub(super) fn take_hold(&mut self, text: &str) -> (Interned, bool) {
        if let Some(&handle) = self.handles.get(text) {
            self.slots[handle.index()].holders += 1;
            return (handle, false);
        }
        let text: Rc<str> = text.into();
        let slot = Slot { text: Some(text.clone()), holders: 1 };
        let handle = match self.free.pop() {
            Some(handle) => {
                self.slots[handle.index()] = slot;
                handle
            }
            None => {
                self.slots.push(slot);
                Interned::at(self.slots.len() - 1)
            }
        };
        self.handles.insert(text, handle);
        (handle, true)
    }

    /// Lets go of a string that was acquired here; the last holder's release forgets it, and returns it.
    pub fn release(&mut self, handle: Interned) -> Option<Rc<str>> {
        let slot = &mut self.slots[handle.index()];
        slot.holders -= 1;
        if slot.holders > 0 {
            return None;
        }
        let text = slot.text.take()?;
        self.handles.remove(&text);
        self.free.push(handle);
        Some(text)
    }

    /// The string that `handle` stands for.
    pub fn text(&self, handle: Interned) -> &str {
        self.slots[handle.index()].text.as_deref().expect("a handle is used only while it is held")
    }

    /// The handle of `text`, if anybody holds it.
    pub fn find(&self, text: &str) -> Option<Interned> {
        self.handles.get(text).copied()
    }

    /// The strings with the most holders, at most `most` of them, and how many holders all the others have together.
    pub fn top(&self, most: usize) -> (Vec<(Box<str>, u64)>, u64) {
        let held = self.slots.iter().filter_map(|slot| Some((slot.text.as_deref()?, u64::from(slot.holders))));
        let mut all: Vec<_> = held.collect();
        if all.len() > most {
            all.select_nth_unstable_by_key(most, |(_, holders)| Reverse(*holders));
        }
        let rest = all.iter().skip(most).map(|(_, holders)| holders).sum();
        all.truncate(most);
        (all.into_iter().map(|(text, holders)| (text.into(), holders)).collect(), rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_string_is_held_once_and_forgotten_with_its_last_holder() {
        let mut interner = Interner::default();
        let handle = interner.acquire("linux");
        assert_eq!(interner.acquire("linux"), handle);
        assert_eq!(interner.release(handle), None);
        assert_eq!((interner.text(handle), interner.top(10)), ("linux", (vec![("linux".into(), 1)], 0)));
        assert_eq!(interner.release(handle).as_deref(), Some("linux"));
        assert_eq!((interner.find("linux"), interner.top(10)), (None, (vec![], 0)));
    }

    #[test]
    fn the_top_holds_the_most_frequent_and_the_rest_is_summed() {
        let mut interner = Interner::default();
        for (text, times) in [("a", 1), ("b", 5), ("c", 3), ("d", 2)] {
            (0..times).for_each(|_| _ = interner.acquire(text));
        }
        let (mut top, rest) = interner.top(2);
        top.sort();
        assert_eq!((top, rest), (vec![("b".into(), 5), ("c".into(), 3)], 3));
    }

    proptest! {
        /// Strings come and go: every handle that is held keeps its meaning, and there are never more handles than there
        /// were strings at one time.
        #[test]
        fn handles_keep_their_meaning_and_are_used_again(steps in proptest::collection::vec((any::<bool>(), 0_u8..12), 1..200)) {
            let mut interner = Interner::default();
            let mut held: Vec<(String, Interned)> = Vec::new();
            let mut most = 0;
            for (come, number) in steps {
                if come || held.is_empty() {
                    let text = format!("text {number}");
                    held.push((text.clone(), interner.acquire(&text)));
                } else {
                    let (_, handle) = held.swap_remove(usize::from(number) % held.len());
                    interner.release(handle);
                }
                let distinct: std::collections::BTreeSet<_> = held.iter().map(|(text, _)| text).collect();
                most = most.max(distinct.len());
                for (text, handle) in &held {
                    prop_assert_eq!(interner.text(*handle), text);
                    prop_assert!(handle.index() < most);
                }
                prop_assert_eq!(interner.top(usize::MAX).0.iter().map(|(_, n)| *n).sum::<u64>(), held.len() as u64);
            }
        }
    }
}

//! The tag lists of a shard's agents, and which of them carry a tag.

use std::collections::{BTreeSet, HashMap};

use super::interner::{Interned, Interner};
use crate::limits::TAG_LISTS_MAX;

/// Separates the tags of a list; no tag can contain it.
const SEPARATOR: char = '\n';

/// Whole tag lists, each held once, with an index from every tag to the lists that carry it.
///
/// Agents of one kind have the same list, so there are far fewer lists than agents. Where every agent has a list of its own
/// the index costs about 150 bytes for each tag that is nobody else's, and about 8 for any other.
#[derive(Debug, Default)]
pub struct TagLists {
    lists: Interner,
    carriers: HashMap<Box<str>, BTreeSet<Interned>>,
}

/// What is known of the lists that carry some tags.
#[derive(Debug, PartialEq, Eq)]
pub enum Carriers {
    /// No list carries them all.
    Nobody,
    /// These do, and no other.
    These(ListSet),
    /// Unknown: too many lists to look at.
    Many,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct ListSet {
    /// One bit for each handle.
    words: Vec<u64>,
}

impl TagLists {
    /// Takes hold of the list of these tags.
    pub fn acquire(&mut self, tags: &[Box<str>]) -> Interned {
        let (list, is_new) = self.lists.take_hold(&tags.join("\n"));
        if is_new {
            for tag in tags {
                match self.carriers.get_mut(tag) {
                    Some(lists) => _ = lists.insert(list),
                    None => _ = self.carriers.insert(tag.clone(), BTreeSet::from([list])),
                }
            }
        }
        list
    }

    /// Lets go of a list that was acquired here.
    pub fn release(&mut self, list: Interned) {
        let Some(text) = self.lists.release(list) else { return };
        for tag in split(&text) {
            if let Some(lists) = self.carriers.get_mut(tag) {
                lists.remove(&list);
                if lists.is_empty() {
                    self.carriers.remove(tag);
                }
            }
        }
    }

    pub fn tags(&self, list: Interned) -> impl Iterator<Item = &str> {
        split(self.lists.text(list))
    }

    /// The lists that carry every one of `tags`, of which there is at least one. Looks at no more than [`TAG_LISTS_MAX`]
    /// lists.
    pub fn carrying(&self, tags: &[Box<str>]) -> Carriers {
        let mut fewest: Option<&BTreeSet<Interned>> = None;
        for tag in tags {
            let Some(lists) = self.carriers.get(tag) else { return Carriers::Nobody };
            if fewest.is_none_or(|fewest| lists.len() < fewest.len()) {
                fewest = Some(lists);
            }
        }
        let Some(lists) = fewest.filter(|lists| lists.len() <= TAG_LISTS_MAX) else { return Carriers::Many };
        let mut set = ListSet::default();
        let carries_all =
            |list: &Interned| tags.len() == 1 || tags.iter().all(|wanted| self.tags(*list).any(|tag| tag == &**wanted));
        lists.iter().copied().filter(carries_all).for_each(|list| set.insert(list));
        if set.words.is_empty() { Carriers::Nobody } else { Carriers::These(set) }
    }
}

impl ListSet {
    fn insert(&mut self, list: Interned) {
        let word = list.index() / 64;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (list.index() % 64);
    }

    pub fn contains(&self, list: Interned) -> bool {
        self.words.get(list.index() / 64).is_some_and(|word| word >> (list.index() % 64) & 1 == 1)
    }
}

fn split(list: &str) -> impl Iterator<Item = &str> {
    // `split` yields one empty piece for an empty list.
    list.split(SEPARATOR).filter(|tag| !tag.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn boxed(tags: &[&str]) -> Vec<Box<str>> {
        tags.iter().map(|tag| (*tag).into()).collect()
    }

    #[test]
    fn a_tag_nobody_carries_any_more_is_forgotten() {
        let mut lists = TagLists::default();
        let (a, ab) = (lists.acquire(&boxed(&["a"])), lists.acquire(&boxed(&["a", "b"])));
        lists.acquire(&boxed(&["a"]));
        lists.release(ab);
        assert_eq!(lists.carrying(&boxed(&["b"])), Carriers::Nobody);
        lists.release(a);
        assert_ne!(lists.carrying(&boxed(&["a"])), Carriers::Nobody);
        lists.release(a);
        assert!(lists.carriers.is_empty());
    }

    #[test]
    fn more_lists_than_may_be_looked_at_give_no_answer() {
        let mut lists = TagLists::default();
        (0..=TAG_LISTS_MAX).for_each(|n| _ = lists.acquire(&boxed(&["common", &format!("rack-{n}")])));
        assert_eq!(lists.carrying(&boxed(&["common"])), Carriers::Many);
        assert!(matches!(lists.carrying(&boxed(&["common", "rack-7"])), Carriers::These(_)));
    }

    proptest! {
        #[test]
        fn exactly_the_lists_that_carry_all_wanted_tags_are_found(
            agents in proptest::collection::vec(proptest::sample::subsequence(vec!["a", "b", "c", "d"], 0..=4), 0..30),
            leave in proptest::collection::vec(any::<bool>(), 30),
            wanted in proptest::sample::subsequence(vec!["a", "b", "c", "d", "e"], 1..=3),
        ) {
            let mut lists = TagLists::default();
            let all: Vec<_> = agents.iter().map(|tags| lists.acquire(&boxed(tags))).collect();
            let (stayed, left): (Vec<_>, Vec<_>) = agents.iter().zip(all).zip(leave).partition(|(_, leaves)| !leaves);
            left.into_iter().for_each(|((_, list), _)| lists.release(list));
            let carriers = lists.carrying(&boxed(&wanted));
            for ((tags, list), _) in stayed {
                let expected = wanted.iter().all(|tag| tags.contains(tag));
                let found = match &carriers {
                    Carriers::Nobody => false,
                    Carriers::These(set) => set.contains(list),
                    Carriers::Many => unreachable!("few lists"),
                };
                prop_assert_eq!(found, expected);
                prop_assert_eq!(lists.tags(list).collect::<Vec<_>>(), tags.clone());
            }
        }
    }
}

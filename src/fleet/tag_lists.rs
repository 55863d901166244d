//! The tag lists of a shard's agents.

use super::census::{Census, Interned};

/// Separates the tags of a list; no tag can contain it.
const SEPARATOR: char = '\n';

/// Whole tag lists, each held once. Agents of one kind have the same list, so there are far fewer lists than agents.
#[derive(Debug, Default)]
pub struct TagLists {
    lists: Census,
}

impl TagLists {
    /// Takes hold of the list of these tags.
    pub fn acquire(&mut self, tags: &[Box<str>]) -> Interned {
        self.lists.acquire(&tags.join("\n"))
    }

    /// Lets go of a list that was acquired here.
    pub fn release(&mut self, list: Interned) {
        self.lists.release(list);
    }

    /// The tags of a list.
    pub fn tags(&self, list: Interned) -> impl Iterator<Item = &str> {
        // `split` yields one empty piece for an empty list.
        self.lists.text(list).split(SEPARATOR).filter(|tag| !tag.is_empty())
    }
}

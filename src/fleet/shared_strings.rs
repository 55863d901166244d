//! The strings that the agents of a shard share.

use super::{
    interner::{Interned, Interner},
    tag_lists::TagLists,
};

/// The strings that the agents of a shard share, each kind with its own interner.
#[derive(Debug, Default)]
pub struct SharedStrings {
    /// Operating systems.
    pub os: Interner,
    /// Guard versions.
    pub version: Interner,
    /// Tenants.
    pub org: Interner,
    /// Whole tag lists.
    pub tags: TagLists,
}

/// What listings are filtered by, besides the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Labels {
    /// The tag list, in [`SharedStrings::tags`].
    pub tags: Interned,
    /// The tenant, in [`SharedStrings::org`].
    pub org: Option<Interned>,
}

//! The strings that the agents of a shard share.

use super::{
    interner::{Census, Interned},
    tag_lists::TagLists,
};

/// The strings that the agents of a shard share, each kind with its own census.
#[derive(Debug, Default)]
pub struct SharedTexts {
    /// Operating systems.
    pub os: Census,
    /// Guard versions.
    pub version: Census,
    /// Tenants.
    pub org: Census,
    /// Whole tag lists.
    pub tags: TagLists,
}

/// What listings are filtered by, besides the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Labels {
    /// The tag list, in [`SharedTexts::tags`].
    pub tags: Interned,
    /// The tenant, in [`SharedTexts::org`].
    pub org: Option<Interned>,
}

//! The commands: each file holds its arguments, its course and what it prints.

pub(crate) mod bare;
pub(crate) mod beat;
pub(crate) mod compare;
pub(crate) mod fleet;
mod listing;
mod silence;
mod summary;

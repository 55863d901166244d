//! The commands: each file holds its arguments, its course and what it prints.

pub(crate) mod bare;
pub(crate) mod beat;
pub(crate) mod compare;
pub(crate) mod fleet;
mod listing;
pub(crate) mod register;
mod rounds;
mod silence;
mod subject;
mod summary;

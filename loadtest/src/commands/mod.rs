//! The commands: each file holds its arguments, its course and what it prints.

pub(crate) mod bare;
mod given;
pub(crate) mod run;
pub(crate) mod tour;

/// What was asked for makes no sense, and nothing was done.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

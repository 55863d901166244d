//! The commands: each file holds its arguments, its course and what it prints.

pub(crate) mod bare;
pub(crate) mod beat;
pub(crate) mod compare;
mod cpu_clock;
pub(crate) mod fleet;
mod given;
mod pages;
pub(crate) mod register;
mod rounds;
pub(crate) mod run;
mod side;
mod silence;
mod subject;
mod summary;
pub(crate) mod tour;

/// What was asked for makes no sense, and nothing was done.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

//! The commands: each file holds its arguments, its course and what it prints.

pub(crate) mod bare;
pub(crate) mod beat;
pub(crate) mod compare;
mod cpu_clock;
pub(crate) mod fleet;
mod footprint;
mod given;
mod growth;
pub(crate) mod history;
mod pages;
pub(crate) mod register;
mod restarts;
mod rounds;
pub(crate) mod run;
mod side;
mod silence;
mod subject;
mod summary;
mod timings;
pub(crate) mod tour;

/// What was asked for makes no sense, and nothing was done.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

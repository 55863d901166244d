//! Looking into a store, and copying a fleet from one store to another: what an operator does while no server runs, or,
//! with a Redis, beside one.
//!
//! Promises: a check writes nothing into a Redis and creates no store where there is none; a copy leaves its source as it
//! is, adds to a store that has agents only if told to, and is called complete only after it was read back. Memory is
//! bounded: what is kept of each agent, however much there is to read, is 24 bytes.
//!
//! - `location`: where a store is, and how it is opened.
//! - `reading`: a whole fleet, chunk by chunk.
//! - `tally`: what a fleet consists of: counts, and a digest of its records.
//! - `check`, `copy`: the commands.
//! - `progress`: how far they have come, for people.

mod check;
mod copy;
mod location;
mod progress;
mod reading;
#[cfg(test)]
mod samples;
mod tally;
mod threats;

use std::{io, path::PathBuf};

use indicatif::HumanCount;

pub use self::{
    check::check,
    copy::{CopyOrder, copy},
    location::StoreLocation,
    progress::Screen,
};
use crate::store::StoreError;

/// Why a command could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// `memory:` is not where a fleet could be found.
    #[error("memory: is gone with the process that used it; there is nothing in it to check or to copy")]
    Memory,
    /// The same store twice.
    #[error("both sides of the copy are {0}; name two different stores")]
    Same(String),
    /// An embedded store that is not there.
    #[error(
        "there is no store in {}; name its folder with embedded:FOLDER, or the server's data folder with --data-dir",
        .0.display()
    )]
    Missing(PathBuf),
    /// A store that is in use, out of reach or cannot be read.
    #[error("{location} cannot be used: {error}")]
    Store { location: String, error: StoreError },
    /// A copy would mix two fleets.
    #[error(
        "{location} has {content}; copy into an empty store, or say --merge to add to it and replace agents of the same id"
    )]
    NotEmpty {
        /// The target.
        location: String,
        content: String,
    },
    /// Both stores have threats that cannot be put in one order.
    #[error(
        "{0} has threats of its own, and some of those to be copied would have to stand before them; copy into a store \
         without threats of the same tenants. Nothing has been written"
    )]
    Histories(String),
    /// The target does not have what was written to it.
    #[error("{location} was read back and has {found}, and should have {expected}")]
    Differs {
        /// The target.
        location: String,
        expected: String,
        found: String,
    },
    /// A signal came.
    #[error("told to stop")]
    Interrupted,
    /// A copy has ended half way.
    #[error(
        "{cause}. {location} may have a part of the fleet: start no server on it. Empty it ({remedy}) and copy again, or copy \
         again with --merge"
    )]
    Incomplete {
        cause: Box<Self>,
        /// The target.
        location: String,
        /// How to empty the target.
        remedy: String,
    },
    /// The operating system refused something.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl ToolError {
    /// Whether the command was given what no store could make right.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Memory | Self::Same(_) => true,
            Self::Missing(_)
            | Self::Store { .. }
            | Self::NotEmpty { .. }
            | Self::Histories(_)
            | Self::Differs { .. }
            | Self::Interrupted
            | Self::Incomplete { .. }
            | Self::Io(_) => false,
        }
    }
}

/// A number of things, for people: `1 agent`, `10,000 agents`.
fn counted(number: u64, thing: &str) -> String {
    format!("{} {thing}{}", HumanCount(number), if number == 1 { "" } else { "s" })
}

//! Process: what the process is to its system: its words, its signals, its files, and the tasks it cannot do without.

pub(crate) mod descriptors;
pub(crate) mod named_file;
pub(crate) mod output;
pub(crate) mod private_file;
pub(crate) mod signals;
pub mod supervision;

//! Process: what the process is to its system: its words, its signals, its files, and the tasks it cannot do without.

pub mod descriptors;
pub mod named_file;
pub mod output;
pub mod private_file;
pub mod signals;
pub mod supervision;

//! Servers as child processes: started, watched, measured and ended.
//!
//! It promises that no child outlives the value that stands for it. It knows the server's flags,
//! environment and operations listener; it does not know what load they are put under.

mod host;
mod launch;
mod listing;
mod meter;
mod probe;
mod process;
mod prometheus;
mod redis;
mod scanner;
mod usage;

pub(crate) use host::Host;
pub(crate) use launch::{Room, ServerPlan, StorePlan};
pub(crate) use listing::{AGENT_MARK, Listing};
pub(crate) use meter::{Cost, Footprint, Meter};
pub(crate) use probe::Probe;
pub(crate) use prometheus::{Buckets, Scrape};
pub(crate) use redis::{Expense, Info, RedisUrl};
pub(crate) use scanner::Scanner;
pub(crate) use usage::{cpu_time_of, open_files_limit, own_cpu_time, resident_bytes};

//! Servers as child processes: started, watched, measured and ended.
//!
//! It promises that no child outlives the value that stands for it. It knows the server's flags,
//! environment and operations listener; it does not know what load they are put under.

mod bare;
mod engine;
mod listing;
mod probe;
mod process;
mod prometheus;
mod redis;
mod usage;

pub(crate) use bare::Bare;
pub(crate) use engine::{Engine, EngineOptions};
pub(crate) use listing::{AGENT_MARK, Listing};
pub(crate) use probe::Probe;
pub(crate) use process::ServerProcess;
pub(crate) use prometheus::{Buckets, Scrape};
pub(crate) use redis::{Expense, Info, Redis, WhichRedis};
pub(crate) use usage::{cpu_time_of, own_cpu_time, resident_bytes};

/// A port of the loopback interface that nobody listens on at this moment.
fn free_port() -> std::io::Result<u16> {
    let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

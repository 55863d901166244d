//! What the tests stand on: a daemon of their own, and a client that hides nothing of the wire.

pub mod client;
pub mod events;
pub mod expect;
pub mod proxy;
#[path = "../../support/redis.rs"]
pub mod redis;
pub mod server;
pub mod trouble;

use std::{
    thread,
    time::{Duration, Instant},
};

pub use self::{
    client::{Client, Reply, Request},
    events::{Event, EventStream},
    expect::{FieldRule, is_agent_id, is_time, keys},
    server::{Launch, Server},
};

/// Time within which anything that should happen soon must have happened, even on a busy machine.
pub const SOON: Duration = Duration::from_secs(30);

/// Asks until the answer is yes.
pub fn wait_until(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

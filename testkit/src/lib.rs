//! What the tests and the load test stand on: servers of their own, which end with the values that stand for them.
//!
//! It rests on nothing of Guardbeat, so that the server's unit tests can use it as well.

pub mod http;
pub mod redis;
mod trust;

use std::{
    hash::{BuildHasher, RandomState},
    net::TcpListener,
    thread,
    time::{Duration, Instant},
};

/// Time within which anything that should happen soon must have happened, even on a busy machine.
pub const SOON: Duration = Duration::from_secs(30);

/// A port of the loopback that nobody listens on. Below those that the system gives to outgoing connections: one of
/// these could take it while the server is down, and a client that retries could connect to itself.
///
/// # Panics
///
/// If no port is free.
#[must_use]
pub fn free_port() -> u16 {
    let random = RandomState::new();
    let ports = (0_u64..).map(|n| 10_000 + (random.hash_one(n) % 20_000) as u16);
    ports.into_iter().find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a port is free")
}

/// Asks until the answer is yes.
///
/// # Panics
///
/// If it is not within this time.
pub fn wait_until(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

//! Tests of the daemon from the outside: the real binary, real sockets, the contract's words.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]
#![allow(clippy::disallowed_methods, reason = "the daemon is another process: its time is real time, and so is ours")]

mod both_ways;
mod cli;
mod contract;
mod crash;
mod damaged_store;
mod descriptors;
mod disk_full;
mod hostile;
mod listing;
mod liveness;
mod make;
mod operations;
mod output;
mod preflight;
mod redis;
mod slow_clients;
mod store_tools;
mod supervision;
mod support;
mod tls;
mod trace;

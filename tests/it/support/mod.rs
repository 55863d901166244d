//! What the tests stand on: a daemon of their own, and a client that hides nothing of the wire.

pub mod events;
pub mod expect;
pub mod load;
pub mod proxy;
pub mod server;

pub use guardbeat_testkit::{SOON, http as client, redis, wait_until};

pub use self::{
    client::{Client, Reply, Request},
    events::{Event, EventStream},
    expect::{FieldRule, is_agent_id, is_time, keys},
    server::{Launch, Server},
};

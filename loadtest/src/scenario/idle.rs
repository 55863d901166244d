//! Agents that keep a connection each, and hardly use it.

use std::time::Duration;

use crate::load::Transport;
use crate::wire::KeepAlive;

use super::course::{SIDES, SideKind};
use super::reader::Reader;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct IdlePlan {
    /// Measured one after the other; figures are those of the first.
    pub(crate) sides: Vec<SideKind>,
    /// For how long half the connections are looked at, and then all of them.
    pub(crate) duration: Duration,
    /// Whether all connections are opened once more in the end.
    pub(crate) reconnect: bool,
}

impl IdlePlan {
    pub(super) fn read(reader: &mut Reader, duration: Duration) -> Self {
        // Memory and limits are those of a process on this machine.
        let started: Vec<_> = SIDES.into_iter().filter(|(_, kind)| *kind != SideKind::Url).collect();
        Self {
            // The buffers of a store that writes are the memory of thousands of connections: by default there is none.
            sides: reader.choices("idle.sides", &started, &["memory", "bare"]),
            duration,
            reconnect: reader.boolean("idle.reconnect", true),
        }
    }

    pub(super) fn check(&self, reader: &mut Reader, agents: u64, transport: &Transport) {
        if agents < 2 {
            let message = "[idle] compares half of the connections with all: fleet.agents must be 2 at least";
            reader.object("fleet.agents", message.to_owned());
        }
        if transport.batching.is_some() || transport.keep_alive == KeepAlive::No {
            let key = if transport.batching.is_some() { "load.batch" } else { "load.keep_alive" };
            reader.object(key, format!("[idle] is of agents that each keep a connection: leave out {key}"));
        }
        if reader.has_section("herd") {
            reader.object("herd.within", "[idle] spreads its beats evenly: leave out [herd]".to_owned());
        }
    }
}

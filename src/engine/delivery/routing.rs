//! The routing table: from an agent's name to its actor, readable from every thread without a lock.

use std::hash::{BuildHasherDefault, Hasher};

use actix::{
    Addr, Handler, Message, WeakAddr,
    dev::{Request, ToEnvelope, channel::channel},
};
use papaya::HashMap;

use crate::engine::{
    agent::{AgentActor, context::AgentContext},
    messages::Stop,
};
use crate::fleet::AgentId;

/// Where every agent's actor is.
///
/// The addresses are weak ones, which are 8 bytes each; a strong one has two allocations of its own besides, 96 bytes in
/// all. A strong one is made for each message: its allocations are then in the processor's cache, where those of a strong
/// one kept here would be somewhere in memory. An agent's actor does not need anybody to hold its address to stay alive.
#[derive(Debug, Default)]
pub struct Routing {
    actors: HashMap<AgentId, WeakAddr<AgentActor>, BuildHasherDefault<IdHasher>>,
}

impl Routing {
    /// Sends `message` to the agent's actor; `None` if there is no such agent.
    ///
    /// The message is in the mailbox when this returns; the answer is awaited without holding on to the table.
    pub fn send<M>(&self, id: AgentId, message: M) -> Option<Request<AgentActor, M>>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        AgentActor: Handler<M>,
        AgentContext: ToEnvelope<AgentActor, M>,
    {
        let actor = self.actors.pin().get(&id)?.upgrade();
        // What is sent to an actor that panicked comes back as an error, on whatever thread it ran.
        Some(actor.unwrap_or_else(nobody).send(message))
    }

    /// Sends `message`, whose answer nobody waits for. It is dropped if there is no such agent.
    pub fn do_send<M>(&self, id: AgentId, message: M)
    where
        M: Message + Send + 'static,
        M::Result: Send,
        AgentActor: Handler<M>,
        AgentContext: ToEnvelope<AgentActor, M>,
    {
        if let Some(actor) = self.actors.pin().get(&id).and_then(WeakAddr::upgrade) {
            actor.do_send(message);
        }
    }

    pub fn contains(&self, id: AgentId) -> bool {
        self.actors.pin().contains_key(&id)
    }

    /// Whether the agent's actor takes messages.
    pub fn is_running(&self, id: AgentId) -> bool {
        self.actors.pin().get(&id).is_some_and(|actor| actor.upgrade().is_some())
    }

    pub fn reserve(&self, agents: usize) {
        self.actors.pin().reserve(agents);
    }

    /// Makes `actor` the one that messages to `id` go to.
    pub fn insert(&self, id: AgentId, actor: Addr<AgentActor>) {
        self.actors.pin().insert(id, actor.downgrade());
    }

    /// Forgets the agent and ends its actor, once that has handled what is in its mailbox.
    pub fn remove(&self, id: AgentId) {
        if let Some(actor) = self.actors.pin().remove(&id).and_then(WeakAddr::upgrade) {
            actor.do_send(Stop);
        }
    }
}

/// The address of an actor that is no more.
fn nobody() -> Addr<AgentActor> {
    Addr::new(channel(0).0)
}

/// Spreads ids over the table. They are random numbers that clients cannot choose, so one multiplication will do.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, number: u64) {
        // 2^64 / golden ratio, odd: every bit of the id reaches the high bits.
        self.0 = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0 ^ u64::from(*byte));
        }
    }
}

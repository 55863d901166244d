//! The engine: one actor per agent, on shards that share the threads of the HTTP workers.
//!
//! ```text
//!  HTTP worker thread i                                    any other thread
//!  ┌──────────────────────────────────────────────┐
//!  │ request ─▶ EngineHandle ─▶ Routing ──────────┼──────▶ mailbox of an actor there
//!  │                               │              │
//!  │ ShardActor ──── Shard ──── AgentActor ×N     │
//!  │  add, list,     texts,      one AgentCell,   │
//!  │  remove, …      dirty set   one timer each   │
//!  └──────────────────────────────────────────────┘
//! ```
//!
//! What holds:
//! - **One writer.** An agent's state is written by its actor alone, one message at a time, in the order in which they
//!   reached its mailbox. The shard reads it, on the same thread, between messages.
//! - **One timer.** It goes off at the earliest moment at which silence could change the status; heartbeats do not move it.
//! - **A panic stays where it is.** An actor that panics ends; its state stays in the shard, which starts a successor at
//!   once. Requests that were in its mailbox are put to the successor. Other agents notice nothing. A heartbeat on which
//!   the actor panics again is answered with an error, once.
//! - **What is durable is not cancelled.** Registration and deregistration run to their end even when the client goes away.
//! - **After deregistration** messages still on their way find nothing: they neither respawn the actor nor count.
//! - **A shard that panics ends the process:** what was acknowledged is in the store, and a new process has it all.
//!
//! This room must know nothing of HTTP. [`EngineHandle`] is all that is seen of it from there.

mod agent;
mod batch;
mod capacity;
mod delivery;
mod gauges;
mod handle;
mod messages;
mod policies;
mod receipt;
mod registration;
mod restoring;
mod shard;
#[cfg(test)]
mod tests;
mod threats;
pub mod token;

pub use self::{
    handle::EngineHandle,
    messages::{Credential, Relayed},
    shard::{LivenessRules, ShardActor, listing::AgentView},
};
pub(crate) use self::{
    handle::{EngineError, Registered},
    messages::{AgentState, BeatAck, LabelCounts},
    policies::Published,
    shard::{
        label_counts::{OTHER, most_frequent},
        listing::ListQuery,
    },
    threats::{log::start_threat_log, messages::ThreatFilter},
};

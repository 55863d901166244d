//! Guardbeat: the heartbeat engine for very large fleets of guard agents.
//!
//! The modules ("rooms"), from the outside in. Each may use only those below it; `rooms.rs` has the exact list, and a
//! test that holds the sources to it.
//!
//! | room | what it is for |
//! | --- | --- |
//! | [`cli`] | flags, exit codes |
//! | [`server`] | the composition root: build, start, drain; its listeners, TLS, administrator's token, banner |
//! | [`store_tools`] | what an operator does with a store: look into it, copy it to another |
//! | [`api`] | requests into questions to the engine, answers into the contract's JSON; who may ask, and how much at once |
//! | [`front`] | from a TCP stream to requests: TLS, HTTP/1, HTTP/2, and what a connection may hold |
//! | [`engine`] | one actor per agent, its shard, its timer; [`engine::EngineHandle`] is the seam to the API |
//! | [`store`] | durability: group commit, write-behind, the backends: embedded, Redis |
//! | [`events`] | what happens, streamed live to readers; who reads too slowly is cut off |
//! | [`metrics`] | what Prometheus sees; others set it |
//! | [`clock`] | the only source of time; knows when the process was paused |
//! | [`config`] | file, environment and flags into one checked configuration |
//! | [`policy`] | the domain: policies, their versions, and which one is in force for whom. Pure |
//! | [`threats`] | the domain: threats, and the figures of their history. Pure |
//! | [`fleet`] | the domain: agents, statuses, heartbeats. Pure |
//! | [`process`] | what the process is to its system: its output, signals, files, and the tasks it cannot do without |
//! | [`limits`] | every bound, in one place |

pub mod api;
pub mod cli;
pub mod clock;
pub(crate) mod config;
pub mod engine;
pub(crate) mod events;
pub mod fleet;
pub(crate) mod front;
pub(crate) mod limits;
pub mod metrics;
pub(crate) mod policy;
pub mod process;
#[cfg(test)]
mod rooms;
pub(crate) mod server;
pub mod store;
pub(crate) mod store_tools;
pub(crate) mod threats;

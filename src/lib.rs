//! Guardbeat: the heartbeat engine for very large fleets of guard agents.
//!
//! The map of the house, from the outside in. Who may use whom goes down this list, never up:
//!
//! | room | what it is for |
//! | --- | --- |
//! | [`cli`] | flags, exit codes |
//! | [`engine`] | the composition root: build, start, drain |
//! | [`store_tools`] | what an operator does with a store: look into it, copy it to another |
//! | [`front`] | from a TCP stream to requests: TLS, HTTP/1, HTTP/2, and what a connection may hold |
//! | [`http`] | requests into questions to the engine, answers into the contract's JSON |
//! | [`actors`] | one actor per agent, its shard, its timer; [`actors::EngineHandle`] is the seam to HTTP |
//! | [`store`] | durability: group commit, write-behind, the backends: embedded, Redis |
//! | [`events`] | what happens, told to those who listen |
//! | [`metrics`] | what Prometheus sees |
//! | [`config`] | file, environment and flags into one checked configuration |
//! | [`clock`] | the only source of time; knows when the process could not hear |
//! | [`policy`] | the domain: policies, and which one is in force for whom. Pure |
//! | [`fleet`] | the domain: agents, statuses, heartbeats. Pure |
//! | [`threats`] | the domain: threats, and the figures of their history. Pure; uses [`fleet`] |
//! | [`limits`] | every bound, in one place |
//!
//! Small helpers beside them: [`admin_token`], [`backend`], [`banner`], [`descriptors`], [`lifecycle`], [`listener`],
//! [`loading`], [`named_file`], [`output`], [`preflight`], [`private_file`], [`serve_error`], [`signals`],
//! [`supervision`], [`tls`].

pub mod api;
pub mod cli;
pub mod clock;
pub mod config;
pub mod engine;
pub mod events;
pub mod fleet;
pub mod front;
pub mod limits;
pub mod metrics;
pub mod policy;
pub mod process;
pub mod server;
pub mod store;
pub mod store_tools;
pub mod threats;

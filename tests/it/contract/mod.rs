//! The contract's parts 1 and 2, and "Common to all", row by row.

mod agents;
mod auth;
mod bodies;
mod document;
mod encodings;
mod enrolment;
mod events;
mod heartbeat;
mod identity;
mod list;
mod policy;
mod protocol;
mod publish;
mod register;
mod relay;
mod threats;

/// An id that no agent has.
const NOBODY: &str = "agent-0000000000000000";

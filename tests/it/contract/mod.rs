//! The contract's part 1 and "Common to all", row by row.

mod agents;
mod auth;
mod bodies;
mod enrolment;
mod events;
mod heartbeat;
mod identity;
mod list;
mod protocol;
mod register;
mod relay;

/// An id that no agent has.
const NOBODY: &str = "agent-0000000000000000";

//! The domain: what an agent is, and when it counts as silent.
//!
//! Pure: no I/O, no clock, no actors. Everything here is decided from its arguments, so it is tested with tables and
//! properties; carrying a decision out is the business of [`crate::actors`].

mod agent;
mod agent_id;
mod census;
mod filter;
mod registration;
mod status;
mod text;
mod view;
mod vitals;

pub use agent::{Agent, LastHeartbeat, SharedTexts};
pub use agent_id::{AgentId, Partition};
pub use census::{Census, Interned};
pub use filter::AgentFilter;
pub use registration::{
    EnrolmentRequest, InvalidRegistration, MachineKey, REGISTRATION_FIELDS, Registration, RegistrationBody, TokenHash,
};
pub use status::{Heard, Liveness, Status, Thresholds, Transition};
pub use text::{FieldError, Text, Timestamp};
pub use view::{AgentDetail, AgentRow};
pub use vitals::{GuardReport, HEARTBEAT_FIELDS, Heartbeat, HeartbeatBody, RelayedBody, RelayedId, Vitals};

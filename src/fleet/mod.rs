//! The domain: what an agent is, and when it counts as silent.
//!
//! Pure: no I/O, no clock, no actors. Everything here is decided from its arguments, so it is tested with tables and
//! properties; carrying a decision out is the business of [`crate::actors`].

mod address;
mod agent;
mod agent_id;
mod census;
mod figures;
mod filter;
mod json;
mod machine_id;
mod names;
mod policy_version;
mod registration;
mod schema;
mod status;
mod tag_lists;
mod text;
mod texts;
mod view;
mod vitals;

pub use address::{Address, NoAddress, network};
pub use agent::{Agent, LastHeartbeat};
pub use agent_id::{AgentId, Partition};
pub use census::{Census, Interned};
pub use filter::{AgentFilter, Sieve};
pub use json::compact_json;
pub use names::UnknownNames;
pub use policy_version::PolicyVersion;
pub use registration::{
    EnrolmentRequest, InvalidRegistration, MachineKey, OrgId, REGISTRATION_FIELDS, Registration, RegistrationBody,
    TokenHash,
};
pub use schema::{IpAddress, Moment};
pub use status::{Heard, Liveness, Status, Thresholds, Transition};
pub use tag_lists::{Carriers, ListSet, TagLists};
pub(crate) use text::either;
pub use text::{FieldError, GivenTwice, MissingFields, Text, Timestamp};
pub use texts::{Labels, SharedTexts};
pub use view::{AgentDetail, AgentRow};
pub use vitals::{GuardReport, HEARTBEAT_FIELDS, Heartbeat, HeartbeatBody, RelayedBody, RelayedId, Vitals};

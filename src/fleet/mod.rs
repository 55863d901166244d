//! The domain: what an agent is, and when it counts as silent.
//!
//! Pure: no I/O, no clock, no actors, no HTTP. Everything here is decided from its arguments, so it is tested with tables and
//! properties; carrying a decision out is the business of [`crate::engine`].

mod address;
mod agent;
mod agent_id;
mod filter;
mod heartbeat;
mod interner;
mod machine_id;
mod policy_version;
mod registration;
mod shared_strings;
mod status;
mod tag_lists;
mod text;

#[cfg(test)]
pub(crate) use self::heartbeat::samples;
pub(crate) use self::{
    address::{Address, network},
    agent_id::Partition,
    filter::CompiledFilter,
    heartbeat::{Figure, Figures, GuardFigures},
    machine_id::{MachineId, UnfitMachineId, machine_id},
    registration::{Hostname, OrgId, Os, Tag, Version},
    shared_strings::Labels,
    text::Unfit,
};
pub use self::{
    agent::{Agent, LastHeartbeat},
    agent_id::AgentId,
    filter::AgentFilter,
    heartbeat::Heartbeat,
    policy_version::PolicyVersion,
    registration::{MachineKey, Registration, RegistrationRequest, TokenHash},
    shared_strings::SharedStrings,
    status::{ActiveTime, Liveness, Status, Thresholds, Transition},
    text::{Text, Timestamp},
};

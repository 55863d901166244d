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

pub use address::{Address, NoAddress, network};
pub use agent::{Agent, LastHeartbeat};
pub use agent_id::{AgentId, Partition};
pub use filter::{AgentFilter, CompiledFilter};
pub use heartbeat::{Figure, Figures, GuardFigures, Heartbeat};
pub use interner::{Interned, Interner};
pub use machine_id::{MachineId, UnfitMachineId, machine_id};
pub use policy_version::PolicyVersion;
pub use registration::{Hostname, MachineKey, OrgId, Os, Registration, RegistrationRequest, Tag, TokenHash, Version};
pub use shared_strings::{Labels, SharedStrings};
pub use status::{ActiveTime, Liveness, Status, Thresholds, Transition};
pub use tag_lists::{Carriers, ListSet, TagLists};
pub use text::{Text, Timestamp, Unfit};

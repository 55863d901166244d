//! Load: agents, their registration, and the two ways to drive them.
//!
//! - [`OpenLoop`] sends by a schedule, whether the server keeps up or not: what a fleet does. Its latencies count from the
//!   moment a beat was due.
//! - [`ClosedLoop`] sends the next request as soon as the last is answered: what a machine can do at most, and what it
//!   costs.
//!
//! [`Bulk`] does what must succeed, such as registering a fleet; [`Churn`] lets agents come and go while others beat,
//! [`Readers`] follow what happens, and [`Kept`] is a fleet of which each agent keeps a connection of its own.
//!
//! Nothing here knows which server it drives, nor prints anything but progress.

mod agent;
mod bulk;
mod churn;
mod closed_loop;
mod connection;
mod follower;
mod heartbeat;
mod kept;
mod open_loop;
mod operation;
mod readers;
mod registration;
mod relayed;
mod report;
mod schedule;
mod silence;
mod sleeper;
mod tally;
mod transport;

pub(crate) use agent::{AgentId, Fleet};
pub(crate) use bulk::{Bulk, Credentials};
pub(crate) use churn::Churn;
pub(crate) use closed_loop::ClosedLoop;
pub(crate) use kept::Kept;
pub(crate) use open_loop::OpenLoop;
pub(crate) use operation::Operation;
pub(crate) use readers::{Audience, Readers};
pub(crate) use report::Reports;
pub(crate) use schedule::Schedule;
pub(crate) use silence::Silence;
pub(crate) use tally::{SharedTally, Tally, Window};
pub(crate) use transport::{Batching, Transport};

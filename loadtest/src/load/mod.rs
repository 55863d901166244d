//! Load: agents, their registration, and the two ways to drive them.
//!
//! - [`OpenLoop`] beats, or reports threats, by a schedule, whether the server keeps up or not: what a
//!   fleet does. Its latencies count from the moment a beat was due.
//! - [`ClosedLoop`] sends the next beat as soon as the last is answered: what a machine can do at
//!   most, and what it costs. [`RegistrationLoop`] does the same with registrations.
//!
//! [`Churn`] lets agents come and go while others beat, and [`Readers`] follow what happens.
//!
//! Nothing here knows which server it drives, nor prints anything.

mod agent;
mod caller;
mod churn;
mod closed_loop;
mod errand;
mod follower;
mod heartbeat;
mod open_loop;
mod readers;
mod registrar;
mod registration_loop;
mod relayed;
mod report;
mod reporter;
mod schedule;
mod silence;
mod sleeper;
mod tally;
mod transport;

pub(crate) use agent::{AgentId, Fleet};
pub(crate) use caller::refusal;
pub(crate) use churn::{Churn, Churned};
pub(crate) use closed_loop::{ClosedLoop, Manner, beat_once};
pub(crate) use errand::Errand;
pub(crate) use open_loop::{OpenLoop, Ran};
pub(crate) use readers::{Audience, Readers};
pub(crate) use registrar::{Credentials, deregister, register};
pub(crate) use registration_loop::RegistrationLoop;
pub(crate) use report::Reports;
pub(crate) use reporter::report;
pub(crate) use schedule::Schedule;
pub(crate) use silence::Silence;
pub(crate) use tally::{SharedTally, Tally, Window};
pub(crate) use transport::{Batching, Transport};

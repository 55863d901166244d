//! Load: agents, their registration, and the two ways to drive them.
//!
//! - [`OpenLoop`] beats by a schedule, whether the server keeps up or not: what a fleet does. Its
//!   latencies count from the moment a beat was due.
//! - [`ClosedLoop`] sends the next beat as soon as the last is answered: what a machine can do at
//!   most, and what it costs. [`RegistrationLoop`] does the same with registrations.
//!
//! [`Churn`] lets agents come and go while others beat.
//!
//! Nothing here knows which server it drives, nor prints anything.

mod agent;
mod churn;
mod closed_loop;
mod heartbeat;
mod open_loop;
mod registrar;
mod registration_loop;
mod relayed;
mod schedule;
mod silence;
mod sleeper;
mod tally;

pub(crate) use agent::{AgentId, Fleet};
pub(crate) use churn::{Churn, Churned};
pub(crate) use closed_loop::{ClosedLoop, Manner, beat_once};
pub(crate) use open_loop::{Batching, OpenLoop, Ran, Transport};
pub(crate) use registrar::{Credentials, deregister, refusal, register};
pub(crate) use registration_loop::RegistrationLoop;
pub(crate) use schedule::Schedule;
pub(crate) use silence::Silence;
pub(crate) use tally::{SharedTally, Tally, Window};

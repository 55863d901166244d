//! Load: agents, their registration, and the two ways to drive them.
//!
//! - [`OpenLoop`] beats by a schedule, whether the server keeps up or not: what a fleet does. Its
//!   latencies count from the moment a beat was due.
//! - [`ClosedLoop`] sends the next beat as soon as the last is answered: what a machine can do at
//!   most, and what it costs. [`RegistrationLoop`] does the same with registrations.
//!
//! Nothing here knows which server it drives, nor prints anything.

mod agent;
mod closed_loop;
mod heartbeat;
mod open_loop;
mod registrar;
mod registration_loop;
mod schedule;
mod sleeper;
mod tally;

pub(crate) use agent::{AgentId, Fleet};
pub(crate) use closed_loop::{ClosedLoop, beat_once};
pub(crate) use open_loop::{OpenLoop, Ran};
pub(crate) use registrar::{Credentials, deregister, refusal, register};
pub(crate) use registration_loop::RegistrationLoop;
pub(crate) use schedule::Schedule;
pub(crate) use tally::{SharedTally, Tally};

//! Delivery: from an id to the actor that has it, on whatever thread.

pub(super) mod routing;
pub(super) mod worker_queue;

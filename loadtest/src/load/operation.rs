//! What is sent: heartbeats, reports of threats, registrations.

use std::sync::Arc;

use crate::wire::{KeepAlive, Method, Target, request};

use super::AgentId;
use super::heartbeat::Heartbeat;
use super::registration::{REGISTER_PATH, registration};
use super::report::Reports;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Beat,
    Report(Reports),
    /// With the admin token, of a new agent.
    Register,
    Deregister,
}

/// Writes the requests of an operation.
pub(super) struct Writer {
    operation: Operation,
    target: Arc<Target>,
    heartbeat: Heartbeat,
}

impl Writer {
    pub(super) fn of(operation: Operation, target: &Arc<Target>, keep_alive: KeepAlive) -> Self {
        Self { operation, target: target.clone(), heartbeat: Heartbeat::to(target, keep_alive) }
    }

    /// Replaces what is in `out` by an agent's request, the one with this number.
    pub(super) fn write(&self, out: &mut Vec<u8>, number: u64, id: AgentId, token: &str) {
        let mut send = |method, path: &str, body: Option<&str>| {
            *out = request(&self.target, method, path, Some(token), body);
        };
        match self.operation {
            Operation::Beat => self.heartbeat.write(out, id, token),
            Operation::Report(reports) => {
                send(Method::Post, &format!("/api/agents/{id}/events"), Some(&reports.body(number)));
            }
            Operation::Register => send(Method::Post, REGISTER_PATH, Some(&registration(number))),
            Operation::Deregister => send(Method::Delete, &format!("/api/agents/{id}"), None),
        }
    }
}

//! What agents send: heartbeats, or reports of threats.

use crate::wire::{KeepAlive, Target};

use super::AgentId;
use super::heartbeat::Heartbeat;
use super::report::{ReportWriter, Reports};

/// What each request of a load is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Errand {
    /// A sign of life.
    Beat,
    /// A report of threats.
    Report(Reports),
}

impl Errand {
    /// For agents of this server.
    pub(super) fn writer(self, target: &Target, keep_alive: KeepAlive) -> Writer {
        match self {
            Self::Beat => Writer::Beat(Heartbeat::to(target, keep_alive)),
            Self::Report(reports) => Writer::Report(ReportWriter::to(target, keep_alive, reports)),
        }
    }
}

/// Writes the requests.
pub(super) enum Writer {
    /// Heartbeats.
    Beat(Heartbeat),
    /// Reports.
    Report(ReportWriter),
}

impl Writer {
    /// Replaces what is in `out` by an agent's request, the one with this number.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, number: u64, id: AgentId, token: &str) {
        match self {
            Self::Beat(heartbeat) => heartbeat.write(out, id, token),
            Self::Report(report) => report.write(out, number, id, token),
        }
    }
}

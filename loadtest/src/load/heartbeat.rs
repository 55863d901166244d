//! The heartbeat request, built for each beat from parts that do not change.

use crate::wire::{KeepAlive, Target};

use super::AgentId;

/// What each simulated agent reports.
const BODY: &str = r#"{"uptime":86400,"cpu":12.5,"memory":48.2}"#;

/// Writes heartbeat requests without allocating.
pub(super) struct Heartbeat {
    before_id: String,
    before_token: String,
}

impl Heartbeat {
    /// For agents of this server.
    pub(super) fn to(target: &Target, keep_alive: KeepAlive) -> Self {
        let connection = match keep_alive {
            KeepAlive::Yes => "",
            KeepAlive::No => "connection: close\r\n",
        };
        Self {
            before_id: format!("POST {}/api/agents/", target.prefix()),
            before_token: format!(
                "/heartbeat HTTP/1.1\r\nhost: {}\r\n{connection}content-type: application/json\r\n\
                 content-length: {}\r\nauthorization: Bearer ",
                target.authority(),
                BODY.len()
            ),
        }
    }

    /// Replaces what is in `out` by the request of one agent.
    pub(super) fn write(&self, out: &mut Vec<u8>, id: AgentId, token: &str) {
        out.clear();
        out.extend_from_slice(self.before_id.as_bytes());
        id.write_to(out);
        out.extend_from_slice(self.before_token.as_bytes());
        out.extend_from_slice(token.as_bytes());
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(BODY.as_bytes());
    }
}

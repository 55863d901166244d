//! The heartbeat request, built for each beat from parts that do not change.

use crate::wire::{KeepAlive, Target};

use super::AgentId;

const BODY: &str = r#"{"uptime":86400,"cpu":12.5,"memory":48.2}"#;

pub(super) struct Heartbeat {
    before_id: String,
    before_token: String,
}

impl Heartbeat {
    pub(super) fn to(target: &Target, keep_alive: KeepAlive) -> Self {
        Self {
            before_id: format!("POST {}/api/agents/", target.prefix()),
            before_token: format!(
                "/heartbeat HTTP/1.1\r\nhost: {}\r\n{}content-type: application/json\r\n\
                 content-length: {}\r\nauthorization: Bearer ",
                target.authority(),
                connection_header(keep_alive),
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

/// Writes requests with the heartbeats of many agents, a line each, as a relay sends them.
pub(super) struct Batch {
    head: String,
    lines: Vec<u8>,
}

impl Batch {
    pub(super) fn to(target: &Target, keep_alive: KeepAlive, token: &str) -> Self {
        let head = format!(
            "POST {}/api/heartbeats HTTP/1.1\r\nhost: {}\r\n{}content-type: application/x-ndjson\r\n\
             authorization: Bearer {token}\r\ncontent-length: ",
            target.prefix(),
            target.authority(),
            connection_header(keep_alive),
        );
        Self { head, lines: Vec::new() }
    }

    /// Replaces what is in `out` by the request of these agents.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, ids: impl Iterator<Item = AgentId>) {
        self.lines.clear();
        for id in ids {
            self.lines.extend_from_slice(b"{\"id\":\"");
            id.write_to(&mut self.lines);
            self.lines.extend_from_slice(b"\",");
            self.lines.extend_from_slice(&BODY.as_bytes()[1..]);
            self.lines.push(b'\n');
        }
        out.clear();
        out.extend_from_slice(self.head.as_bytes());
        out.extend_from_slice(self.lines.len().to_string().as_bytes());
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(&self.lines);
    }
}

fn connection_header(keep_alive: KeepAlive) -> &'static str {
    match keep_alive {
        KeepAlive::Yes => "",
        KeepAlive::No => "connection: close\r\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_batch_has_a_line_for_each_agent_and_says_how_long_it_is() {
        let target = Target::expect("http://127.0.0.1:9/base", None).await.expect("a target");
        let mut batch = Batch::to(&target, KeepAlive::Yes, "secret");
        let mut out = b"what was there".to_vec();
        batch.write(&mut out, [AgentId::of(1), AgentId::of(2)].into_iter());
        let text = String::from_utf8(out).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("head and body");
        assert!(head.starts_with("POST /base/api/heartbeats HTTP/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
        let ids: Vec<String> = body
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["id"].to_string())
            .collect();
        assert_eq!(ids, [r#""agent-0000000000000001""#, r#""agent-0000000000000002""#]);
    }
}

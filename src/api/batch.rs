//! `POST /api/heartbeats`: the heartbeats of many agents in one request, as a relay collects them.
//!
//! The body is NDJSON: on each line a heartbeat with the `id` of its agent. A line that is wrong, or whose agent is not in
//! the fleet, is named in the response and does not affect the others. A relay speaks for the whole fleet, so it needs the
//! administrator's token.

use std::fmt;

use actix_web::{HttpResponse, http::StatusCode};
use futures_util::future::join_all;
use serde::{Deserialize, Deserializer, Serialize, de::Visitor};
use serde_json::json;
use utoipa::ToSchema;

use super::{
    ApiError, Call, Description, body, envelope,
    heartbeat::{HeartbeatBody, result_of},
    json::{BOM, InvalidObject, parse_object},
    values::must_be,
};
use crate::{
    engine::{EngineError, Relayed},
    fleet::AgentId,
    limits::{BATCH_MAX_BYTES, BATCH_MAX_LINES, BATCH_STEP_LINES},
    metrics::HeartbeatResult,
};

const NDJSON: &str = "application/x-ndjson";

pub(super) fn describe() -> Description {
    Description::new("Agents", "beatAll", "Beat for many agents")
        .about(
            "The heartbeats that a relay has collected, as NDJSON: a line for each, which is a heartbeat with\n\
             the `id` of its agent. At most 10,000 lines and 8 MiB, also after `Content-Encoding: gzip`; empty\n\
             lines are passed over. A line that is wrong is named in the answer and keeps no other from being\n\
             taken in.",
        )
        .takes_text(NDJSON, "On each line a heartbeat (the fields of `Heartbeat`) and the `id` of its agent")
        .example("{\"id\":\"agent-00f3a1b2c3d4e5f6\",\"cpu\":12.5}\n{\"id\":\"agent-0000000000000000\"}\n")
        .answers::<Outcome>(200, "The batch was read")
        .example(json!({ "accepted": 1, "rejected": [{ "line": 2, "error": "Agent not found" }] }))
}

pub(super) async fn heartbeats(call: Call<'_>) -> Result<HttpResponse, ApiError> {
    let Call { request, payload, state, .. } = call;
    body::must_be(NDJSON, request.headers())?;
    let body = body::read_gzip(request.headers(), payload, BATCH_MAX_BYTES).await?;
    let lines = lines_of(&body)?;

    let (mut rejected, mut under_way) = (Vec::new(), Vec::new());
    for step in lines.chunks(BATCH_STEP_LINES) {
        let mut beats = Vec::with_capacity(step.len());
        for (number, line) in step {
            match read(*number, line) {
                Ok(beat) => beats.push(beat),
                Err(error) => rejected.push(Rejected::new(*number, error)),
            }
        }
        under_way.push(state.engine.beat_all(beats));
        // A large batch must not keep the others of this worker waiting.
        tokio::task::yield_now().await;
    }
    for (number, error) in join_all(under_way).await.into_iter().flatten() {
        rejected.push(Rejected::new(number, error.into()));
    }
    rejected.sort_unstable_by_key(|rejected| rejected.line);

    let metrics = state.engine.metrics();
    let accepted = lines.len() - rejected.len();
    metrics.relayed_heartbeats(accepted as u64, HeartbeatResult::Accepted);
    for Rejected { line, error, result } in &rejected {
        metrics.relayed_heartbeats(1, *result);
        state.request_log.refused_line(request, *line, error, || agent_of(&lines, *line));
    }
    Ok(envelope::data(StatusCode::OK, &Outcome { accepted, rejected }))
}

/// What became of a batch.
#[derive(Serialize, ToSchema)]
struct Outcome {
    /// Heartbeats that were taken in.
    accepted: usize,
    /// Lines that were not, in their order.
    rejected: Vec<Rejected>,
}

/// A line that was refused.
#[derive(Serialize, ToSchema)]
struct Rejected {
    /// Its number, counted from 1.
    line: u32,
    /// What is wrong with it.
    error: String,
    #[serde(skip)]
    result: HeartbeatResult,
}

impl Rejected {
    fn new(line: u32, error: ApiError) -> Self {
        Self { line, error: error.to_string(), result: result_of(&error) }
    }
}

/// The lines that have something in them, with their numbers. Too many are refused before any of them is read.
fn lines_of(body: &[u8]) -> Result<Vec<(u32, &[u8])>, ApiError> {
    let body = body.strip_prefix(BOM.as_bytes()).unwrap_or(body);
    let lines = body.split(|byte| *byte == b'\n').zip(1..).map(|(line, number)| (number, line));
    let lines: Vec<_> = lines.filter(|(_, line)| !line.trim_ascii().is_empty()).take(BATCH_MAX_LINES + 1).collect();
    if lines.len() > BATCH_MAX_LINES {
        return Err(ApiError::BadRequest(format!("A batch has at most {BATCH_MAX_LINES} heartbeats")));
    }
    Ok(lines)
}

/// The agent that a line claims to be from.
fn agent_of(lines: &[(u32, &[u8])], line: u32) -> Option<AgentId> {
    /// Whatever else the line has may be wrong.
    #[derive(Deserialize)]
    struct Claim {
        id: Sender,
    }
    let index = lines.binary_search_by_key(&line, |(number, _)| *number).ok()?;
    let (_, text) = lines.get(index)?;
    match serde_json::from_slice(text).ok()? {
        Claim { id: Sender::Agent(id) } => Some(id),
        Claim { id: Sender::Nobody | Sender::Missing } => None,
    }
}

fn read(number: u32, line: &[u8]) -> Result<Relayed, ApiError> {
    let body: HeartbeatBody<Sender> = parse_object("line", line)?;
    let id = match body.id {
        Sender::Agent(id) => id,
        Sender::Nobody => return Err(EngineError::NotFound.into()),
        Sender::Missing => return Err(InvalidObject::missing([("id", false)]).into()),
    };
    Ok(Relayed { position: number, id, heartbeat: body.into() })
}

/// The agent of a line of a batch.
#[derive(Clone, Copy, Debug, Default)]
enum Sender {
    /// The line has no `id`.
    #[default]
    Missing,
    /// No valid agent id.
    Nobody,
    Agent(AgentId),
}

impl<'de> Deserialize<'de> for Sender {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        /// Reads the name where it stands.
        struct Name;
        impl<'de> Visitor<'de> for Name {
            type Value = Sender;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_none<E>(self) -> Result<Sender, E> {
                Ok(Sender::Missing)
            }

            fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Sender, D::Error> {
                from.deserialize_str(self)
            }

            fn visit_str<E>(self, name: &str) -> Result<Sender, E> {
                Ok(name.parse().map_or(Sender::Nobody, Sender::Agent))
            }
        }
        from.deserialize_option(Name).map_err(|_| must_be("a string"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_lines_are_passed_over_and_counted() {
        let numbers = |body: &[u8]| lines_of(body).unwrap().iter().map(|(number, _)| *number).collect::<Vec<_>>();
        assert_eq!(numbers(b"{}\r\n\n{}\n"), [1, 3]);
        assert_eq!(numbers(b"\xef\xbb\xbf\n{}"), [2]);
        assert!(numbers(b"").is_empty());
        assert_eq!(numbers(&b"{}\n".repeat(BATCH_MAX_LINES)).len(), BATCH_MAX_LINES);
        assert!(lines_of(&b"{}\n".repeat(BATCH_MAX_LINES + 1)).is_err());
    }

    #[test]
    fn an_error_names_what_is_wrong_with_a_line() {
        for (line, error) in [
            (&b"[]"[..], "The line must be a JSON object"),
            (b"{", "The line is not valid JSON: EOF while parsing an object at line 1 column 1"),
            (b"{\"id\":\"\xff\"}", "The line must be UTF-8"),
            (b"{}", "Missing required field: id"),
            (br#"{"id":null}"#, "Missing required field: id"),
            (br#"{"id":7}"#, "id must be a string"),
            (br#"{"id":"web-1"}"#, "Agent not found"),
            (br#"{"id":"agent-0000000000000001","cpu":101}"#, "cpu must be a number from 0 to 100"),
            (br#"{"id":"agent-0000000000000001","cpu":"1"}"#, "cpu must be a number from 0 to 100"),
        ] {
            assert_eq!(read(1, line).unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn a_line_names_its_agent_in_whatever_way_json_may_write_it() {
        for line in [r#"{"id":"agent-000000000000000a"}"#, r#"{"id":"\u0061gent-000000000000000a"}"#] {
            assert_eq!(read(1, line.as_bytes()).unwrap().id, AgentId::new(10));
        }
    }
}

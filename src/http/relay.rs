//! `POST /api/heartbeats`: the heartbeats of many agents in one request, as a relay gathers them.
//!
//! The body is NDJSON: on each line a heartbeat with the `id` of its agent. A line that is wrong, or whose agent is not in
//! the fleet, is named in the answer and keeps no other from being heard. A relay speaks for the whole fleet, so it needs
//! the administrator's token.

use actix_web::{HttpRequest, HttpResponse, dev::Payload, http::StatusCode};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    State,
    auth::Caller,
    body,
    envelope::{self, ApiError, Failure, Success},
    heartbeat::result_of,
    query,
};
use crate::{
    actors::{EngineError, Relayed},
    fleet::{AgentId, FieldError, HEARTBEAT_FIELDS, MissingFields, RelayedBody, RelayedId},
    limits::{BATCH_MAX_BYTES, BATCH_MAX_LINES, BATCH_STEP_LINES},
    metrics::HeartbeatResult,
};

/// The media type of a batch.
const NDJSON: &str = "application/x-ndjson";

/// Beat for many agents
///
/// The heartbeats that a relay has gathered, as NDJSON: a line for each, which is a heartbeat with the `id` of its agent.
/// At most 10,000 lines and 8 MiB, also after `Content-Encoding: gzip`; empty lines are passed over. A line that is wrong is named in the answer and keeps no
/// other from being heard. With the administrator's token.
#[utoipa::path(
    post,
    path = "/api/heartbeats",
    operation_id = "beatAll",
    tag = "Agents",
    security(("token" = [])),
    request_body(
        content = String,
        content_type = "application/x-ndjson",
        description = "On each line a heartbeat (the fields of `Heartbeat`) and the `id` of its agent",
        example = "{\"id\":\"agent-00f3a1b2c3d4e5f6\",\"cpu\":12.5}\n{\"id\":\"agent-0000000000000000\"}\n",
    ),
    responses(
        (status = 200, description = "The batch was read", body = Success<Outcome>, example = json!({
            "ok": true,
            "data": { "accepted": 1, "rejected": [{ "line": 2, "error": "Agent not found" }] },
        })),
        (status = 403, description = "An agent's token: a relay speaks for the whole fleet", body = Failure),
    ),
)]
pub(super) async fn heartbeats(
    request: &HttpRequest,
    payload: &mut Payload,
    state: &State,
) -> Result<HttpResponse, ApiError> {
    Caller::of(request.headers(), &state.auth)?.must_be_admin(state).await?;
    query::none(request.query_string())?;
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
    Ok(envelope::data_with(StatusCode::OK, &Outcome { accepted, rejected }))
}

/// What became of a batch.
#[derive(Serialize, ToSchema)]
struct Outcome {
    /// Heartbeats that were heard.
    accepted: usize,
    /// Lines that were not, in their order.
    rejected: Vec<Rejected>,
}

/// A line that was not heard.
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
    let body = body.strip_prefix(body::BOM.as_bytes()).unwrap_or(body);
    let lines = body.split(|byte| *byte == b'\n').zip(1..).map(|(line, number)| (number, line));
    let lines: Vec<_> = lines.filter(|(_, line)| !line.trim_ascii().is_empty()).take(BATCH_MAX_LINES + 1).collect();
    if lines.len() > BATCH_MAX_LINES {
        return Err(ApiError::BadRequest(format!("A batch has at most {BATCH_MAX_LINES} heartbeats")));
    }
    Ok(lines)
}

/// Whose heartbeat a line says to be.
fn agent_of(lines: &[(u32, &[u8])], line: u32) -> Option<AgentId> {
    /// Whatever else the line has may be wrong.
    #[derive(Deserialize)]
    struct Claim {
        id: RelayedId,
    }
    let place = lines.binary_search_by_key(&line, |(number, _)| *number).ok()?;
    let (_, text) = lines.get(place)?;
    match serde_json::from_slice(text).ok()? {
        Claim { id: RelayedId::Agent(id) } => Some(id),
        Claim { id: RelayedId::Nobody | RelayedId::Missing } => None,
    }
}

fn read(number: u32, line: &[u8]) -> Result<Relayed, ApiError> {
    let body: RelayedBody = body::parse_object("line", line, HEARTBEAT_FIELDS)?;
    let id = match body.id() {
        RelayedId::Agent(id) => id,
        RelayedId::Nobody => return Err(EngineError::NotFound.into()),
        RelayedId::Missing => return Err(MissingFields::of([("id", false)]).into()),
    };
    let heartbeat = body.try_into().map_err(|error: FieldError| ApiError::from(error))?;
    Ok(Relayed { place: number, id, heartbeat })
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
    fn what_is_wrong_with_a_line_is_told() {
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
}

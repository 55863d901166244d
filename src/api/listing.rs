//! `GET /api/agents`: the whole fleet as a stream, or a page of it.

use std::{sync::Arc, time::Duration};

use actix_web::{
    HttpResponse,
    http::{StatusCode, header::ContentType},
    web::Bytes,
};
use futures_util::stream;
use serde::Deserialize;
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::{
    ApiError, Call, Description,
    agents::{AgentRow, write_row},
    envelope,
    query::several,
    values::{Cursor, Limit},
};
use crate::{
    engine::{EngineError, EngineHandle, ListQuery},
    fleet::{AgentFilter, AgentId, Status},
    limits::{LIST_WORK_MS, PAGE_MAX},
};

/// What a listing may be asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct AgentQuery {
    /// Only agents with this status.
    #[param(inline, example = "online")]
    status: Option<Status>,
    /// Only agents of this tenant.
    #[param(value_type = Option<String>)]
    org_id: Option<Box<str>>,
    /// Only agents with this tag; given several times, all must match.
    #[serde(default, deserialize_with = "several")]
    #[param(value_type = Option<Vec<String>>, explode, example = json!(["production"]))]
    tag: Vec<Box<str>>,
    /// Agents on a page.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<Limit<PAGE_MAX>>,
    /// `nextCursor` of the page before.
    #[param(value_type = Option<AgentId>)]
    cursor: Option<Cursor<AgentId>>,
}

// The answer is written row by row, by the shards; this is for the document, and a test compares the two.
/// The fleet, or a page of it.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[cfg_attr(test, derive(serde::Serialize), serde(rename_all = "camelCase"))]
#[cfg_attr(not(test), expect(dead_code, reason = "the answer is written by hand"))]
struct Listing {
    #[schema(schema_with = envelope::always::<true>)]
    ok: bool,
    /// The agents, in the order of their ids.
    data: Vec<AgentRow<'static>>,
    /// Pass it as `cursor` to get the next page. Left out on the last one, and without `limit`.
    #[schema(nullable = false)]
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    next_cursor: Option<AgentId>,
}

/// What comes before the rows …
const BEGIN: &[u8] = br#"{"ok":true,"data":["#;

/// … and after them; on a page, with the place where the next one begins.
fn end(next: Option<AgentId>) -> String {
    next.map_or("]}".into(), |next| format!(r#"],"nextCursor":"{next}"}}"#))
}

pub(super) fn describe() -> Description {
    Description::new("Agents", "listAgents", "List the fleet")
        .about(
            "In the order of their ids. Filters combine. Without `limit` the whole fleet is streamed, however\n\
             large it is; with `limit` it comes in pages, and paging sees every agent that lives through it\n\
             exactly once.",
        )
        .answers_whole::<Listing>(200, "The agents")
        .example(json!({
            "ok": true,
            "data": [
                {
                    "id": "agent-00f3a1b2c3d4e5f6", "hostname": "web-server-1", "os": "linux", "version": "1.2.0",
                    "ip": "203.0.113.10", "status": "online", "tags": ["production", "web-tier"],
                    "lastHeartbeat": "2026-03-07T12:05:00.000Z", "registeredAt": "2026-03-07T12:00:00.000Z",
                },
            ],
        }))
}

pub(super) async fn list(call: Call<'_>) -> Result<HttpResponse, ApiError> {
    let AgentQuery { status, org_id, tag, limit, cursor } = call.query()?;
    let filter = Arc::new(AgentFilter { status, org_id, tags: tag });
    let query = ListQuery { after: cursor.map(|Cursor(id)| id), filter, rows: PAGE_MAX, write_row };
    match limit {
        Some(Limit(rows)) => page(&call.state.engine, ListQuery { rows, ..query }).await,
        None => Ok(whole(call.state.engine.clone(), query)),
    }
}

/// A page, and where the next one begins if there is one.
async fn page(engine: &EngineHandle, mut query: ListQuery) -> Result<HttpResponse, ApiError> {
    let mut body = BEGIN.to_vec();
    let mut rows = 0;
    let mut last = None;
    let limit = query.rows;
    let next = loop {
        // When the page is full: is there one more?
        let full = rows == limit;
        query.rows = if full { 1 } else { limit - rows };
        let chunk = engine.list(query.clone()).await?;
        if full && chunk.rows > 0 {
            break last;
        }
        body.extend_from_slice(if rows == 0 { chunk.json.get(1..).unwrap_or_default() } else { &chunk.json });
        rows += chunk.rows;
        last = chunk.last.or(last);
        query.after = chunk.resume_after;
        if query.after.is_none() {
            break None;
        }
    };
    body.extend_from_slice(end(next).as_bytes());
    Ok(envelope::json_response(StatusCode::OK, body))
}

/// How far the stream of a whole fleet has come.
enum Step {
    Begin,
    Rows { after: Option<AgentId>, first: bool, worked: Duration },
    End,
}

/// The whole fleet, encoded while it is sent: the next chunk is made when the client has taken the one before.
///
/// It rests for as long as it has worked, so that a list of a million agents takes half of a processor at most and
/// heartbeats find the other half free.
fn whole(engine: EngineHandle, query: ListQuery) -> HttpResponse {
    let start = (Step::Begin, engine, query);
    let chunks = stream::try_unfold(start, async |(step, engine, mut query)| -> Result<_, EngineError> {
        let (bytes, next) = match step {
            Step::Begin => {
                (Bytes::from_static(BEGIN), Step::Rows { after: query.after, first: true, worked: Duration::ZERO })
            }
            Step::Rows { after, first, mut worked } => {
                if worked >= Duration::from_millis(LIST_WORK_MS) {
                    tokio::time::sleep(worked).await;
                    worked = Duration::ZERO;
                }
                let began = engine.clock().monotonic();
                query.after = after;
                let chunk = engine.list(query.clone()).await?;
                // Every row has a comma before it; the first one of all must not.
                let skip = usize::from(first && chunk.rows > 0);
                let mut json = Bytes::from(chunk.json).slice(skip..);
                let first = first && chunk.rows == 0;
                let next = match chunk.resume_after {
                    Some(after) => {
                        worked += engine.clock().monotonic() - began;
                        Step::Rows { after: Some(after), first, worked }
                    }
                    None => {
                        json = [&json[..], end(None).as_bytes()].concat().into();
                        Step::End
                    }
                };
                (json, next)
            }
            Step::End => return Ok(None),
        };
        Ok(Some((bytes, (next, engine, query))))
    });
    HttpResponse::Ok().insert_header(ContentType::json()).streaming(chunks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_what_the_document_says() {
        for next_cursor in [None, Some(AgentId::new(5))] {
            let listing = Listing { ok: true, data: vec![], next_cursor };
            let written = [BEGIN, end(next_cursor).as_bytes()].concat();
            assert_eq!(String::from_utf8(written).unwrap(), serde_json::to_string(&listing).unwrap());
        }
    }
}

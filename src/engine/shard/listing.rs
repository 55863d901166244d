//! Listing agents: a shard encodes them where they live, a bounded chunk at a time.

use std::ops::ControlFlow;

use actix::{Context, Handler, Message, MessageResult};

use super::{Shard, ShardActor};
use crate::{
    fleet::{Agent, AgentFilter, AgentId, SharedStrings, Status},
    limits::{LIST_CHUNK_BYTES, LIST_PASS_MAX, LIST_SCAN_MAX},
};

/// What to list next.
#[derive(Clone, Debug)]
pub struct ListQuery {
    /// Begin after this agent; at the beginning without one.
    pub after: Option<AgentId>,
    pub filter: std::sync::Arc<AgentFilter>,
    /// At most so many rows.
    pub rows: usize,
    pub write_row: fn(&AgentView<'_>, &mut Vec<u8>),
}

/// An agent as its shard sees it at this moment.
#[derive(Clone, Copy, Debug)]
pub struct AgentView<'a> {
    /// As its actor left it.
    pub agent: &'a Agent,
    /// Its status now, which its actor may not have noticed yet.
    pub status: Status,
    /// The strings that it shares with others.
    pub texts: &'a SharedStrings,
}

#[derive(Debug, Default)]
pub struct ListChunk {
    /// Their rows, each with a comma before it.
    pub json: Vec<u8>,
    pub rows: usize,
    /// The last one encoded.
    pub last: Option<AgentId>,
    /// Where to go on; none when the shard has no more agents.
    pub resume_after: Option<AgentId>,
}

/// To a shard: encode the next agents of a listing.
#[derive(Debug, Message)]
#[rtype(result = "ListChunk")]
pub struct List(pub ListQuery);

impl Shard {
    /// Encodes the agents that come next, in id order. It examines a bounded number, so a chunk may be empty although
    /// more will come.
    ///
    /// By status the table finds those that are *counted* as having it, which their timers keep up to date; what is shown,
    /// and whether it is shown at all, is decided by what the status is now.
    pub(in crate::engine) fn list(&self, query: &ListQuery) -> ListChunk {
        let now = self.clock.active_on_all(self.index);
        let texts = self.texts.borrow();
        let mut chunk = ListChunk::default();
        let Some(compiled) = query.filter.compile(&texts) else { return chunk };
        let mut examined = 0;
        chunk.resume_after = self.agents.borrow().walk(query.after, LIST_PASS_MAX, &compiled, |id, cell| {
            let agent = cell.agent.borrow();
            let status = agent.liveness().status(now, &self.thresholds);
            if query.filter.matches(&agent, status, &texts) {
                chunk.json.push(b',');
                (query.write_row)(&AgentView { agent: &agent, status, texts: &texts }, &mut chunk.json);
                chunk.rows += 1;
                chunk.last = Some(id);
            }
            examined += 1;
            let full = chunk.rows == query.rows || chunk.json.len() >= LIST_CHUNK_BYTES;
            if full || examined == LIST_SCAN_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        chunk
    }
}

impl Handler<List> for ShardActor {
    type Result = MessageResult<List>;

    fn handle(&mut self, List(query): List, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.shard().list(&query))
    }
}

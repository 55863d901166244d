//! Heartbeats of many agents at once, as relays pass them on: one message to each shard, and on its thread one to each
//! agent. So a thousand heartbeats wake another thread once, and each agent still receives its own, in the order of its
//! mailbox.

use std::collections::HashSet;

use actix::{Context, Handler, ResponseFuture};
use futures_util::future::join_all;

use super::{
    handle::{EngineError, EngineHandle},
    messages::{Credential, Relay, Relayed, RelayedBeat},
    receipt::Receipts,
    shard::ShardActor,
};
use crate::fleet::{AgentId, Heartbeat};

impl EngineHandle {
    /// Hands heartbeats to their agents, in their order. They are in the shards' mailboxes when this returns; the future
    /// ends when all have been taken over, with those that could not be.
    pub fn beat_all(&self, beats: Vec<Relayed>) -> impl Future<Output = Vec<(u32, EngineError)>> + use<> {
        let mut by_shard: Vec<Vec<Relayed>> = self.fleet.shards.iter().map(|_| Vec::new()).collect();
        let ids: Vec<(u32, AgentId)> = beats.iter().map(|beat| (beat.position, beat.id)).collect();
        for beat in beats {
            by_shard[self.home_of(beat.id)].push(beat);
        }
        let parts = by_shard.into_iter().enumerate().filter(|(_, part)| !part.is_empty());
        let under_way: Vec<_> = parts
            .map(|(shard, part)| {
                let positions: Vec<u32> = part.iter().map(|beat| beat.position).collect();
                let answer = self.send_to_shard(shard, Relay(part));
                async move {
                    // Whatever kept a part from its shard, its heartbeats are sent one by one below.
                    let Ok(answer) = answer else { return positions };
                    answer.await.unwrap_or(positions)
                }
            })
            .collect();
        let engine = self.clone();
        async move {
            let lost: HashSet<u32> = join_all(under_way).await.into_iter().flatten().collect();
            let mut refused = Vec::new();
            for (position, id) in ids.into_iter().filter(|(position, _)| lost.contains(position)) {
                // Gone, or its actor panicked. The figures are lost with it; the sign of life must not be.
                if let Err(error) = engine.beat(id, Credential::Admin, Heartbeat::default()).await {
                    refused.push((position, error));
                }
            }
            refused
        }
    }
}

impl Handler<Relay> for ShardActor {
    type Result = ResponseFuture<Vec<u32>>;

    fn handle(&mut self, Relay(beats): Relay, _: &mut Context<Self>) -> Self::Result {
        let (receipts, lost) = Receipts::new();
        for Relayed { position, id, heartbeat } in beats {
            self.shard().routing.do_send(id, RelayedBeat { heartbeat, receipt: receipts.next(position) });
        }
        drop(receipts);
        Box::pin(async move { lost.await.unwrap_or_default() })
    }
}

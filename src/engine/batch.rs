//! Heartbeats of many agents at once, as relays pass them on: one message to each shard, and on its thread one to each
//! agent. So a thousand heartbeats wake another thread once, and still each agent hears its own, in the order of its
//! mailbox.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use actix::{Context, Handler, ResponseFuture};
use futures_util::future::join_all;
use tokio::sync::oneshot;

use super::{
    handle::{EngineError, EngineHandle},
    messages::{Credential, Relay, RelayedBeat},
    shard::ShardActor,
};
use crate::fleet::{AgentId, Heartbeat};

/// A heartbeat of a batch.
#[derive(Debug)]
pub struct Relayed {
    /// Where it stands in the batch; the caller's to choose.
    pub place: u32,
    /// Whose it is.
    pub id: AgentId,
    /// What it says.
    pub heartbeat: Heartbeat,
}

impl EngineHandle {
    /// Hands heartbeats to their agents, in their order. They are in the shards' mailboxes when this returns; the future
    /// ends when all have been taken over, with those that could not be.
    pub fn beat_all(&self, beats: Vec<Relayed>) -> impl Future<Output = Vec<(u32, EngineError)>> + use<> {
        let mut by_shard: Vec<Vec<Relayed>> = self.fleet.shards.iter().map(|_| Vec::new()).collect();
        let ids: Vec<(u32, AgentId)> = beats.iter().map(|beat| (beat.place, beat.id)).collect();
        for beat in beats {
            by_shard[self.home_of(beat.id)].push(beat);
        }
        let parts = by_shard.into_iter().enumerate().filter(|(_, part)| !part.is_empty());
        let under_way: Vec<_> = parts
            .map(|(shard, part)| {
                let places: Vec<u32> = part.iter().map(|beat| beat.place).collect();
                let answer = self.send_to_shard(shard, Relay(part));
                async move {
                    match answer {
                        Ok(answer) => answer.await.unwrap_or(places),
                        Err(_) => places,
                    }
                }
            })
            .collect();
        let engine = self.clone();
        async move {
            let lost: HashSet<u32> = join_all(under_way).await.into_iter().flatten().collect();
            let mut refused = Vec::new();
            for (place, id) in ids.into_iter().filter(|(place, _)| lost.contains(place)) {
                // Gone, or its actor has fallen. The figures went down with that; the sign of life must not.
                if let Err(error) = engine.beat(id, Credential::Admin, Heartbeat::default()).await {
                    refused.push((place, error));
                }
            }
            refused
        }
    }
}

/// What became of the heartbeats that a shard passes on. Told when the last receipt is gone.
#[derive(Debug)]
struct Roll {
    lost: Mutex<Vec<u32>>,
    done: Option<oneshot::Sender<Vec<u32>>>,
}

impl Drop for Roll {
    fn drop(&mut self) {
        let lost = std::mem::take(self.lost.get_mut().unwrap_or_else(PoisonError::into_inner));
        if let Some(done) = self.done.take() {
            // Who hung up needs no answer.
            let _ = done.send(lost);
        }
    }
}

/// Goes with a heartbeat to its agent. One that is dropped unsigned says that the heartbeat was not taken over: there is
/// no such agent, or its actor fell.
#[derive(Debug)]
pub struct Receipt {
    roll: Arc<Roll>,
    place: u32,
    signed: bool,
}

impl Receipt {
    /// The heartbeat has been taken over.
    pub fn sign(mut self) {
        self.signed = true;
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if !self.signed {
            self.roll.lost.lock().unwrap_or_else(PoisonError::into_inner).push(self.place);
        }
    }
}

impl Handler<Relay> for ShardActor {
    type Result = ResponseFuture<Vec<u32>>;

    fn handle(&mut self, Relay(beats): Relay, _: &mut Context<Self>) -> Self::Result {
        let (done, told) = oneshot::channel();
        let roll = Arc::new(Roll { lost: Mutex::default(), done: Some(done) });
        for Relayed { place, id, heartbeat } in beats {
            let receipt = Receipt { roll: roll.clone(), place, signed: false };
            self.shard().routing.do_send(id, RelayedBeat { heartbeat, receipt });
        }
        drop(roll);
        Box::pin(async move { told.await.unwrap_or_default() })
    }
}

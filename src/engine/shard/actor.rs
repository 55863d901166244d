//! The actor of a shard.

use std::rc::Rc;

use actix::{Actor, Addr, AsyncContext, Context, Handler, MessageResult, ResponseFuture};

use super::{AddAgent, Shard};
use crate::{
    engine::messages::{Begin, CountLabels, Drain, MarkUnknown, RemoveAgent, RespawnAgent, Restore},
    process::supervision::{Task, indispensable},
    store::{Chunk, DirtySource, StoreError, WriteBehind},
};

/// The actor through which other threads reach a shard.
#[derive(Debug)]
pub struct ShardActor {
    shard: Rc<Shard>,
    write_behind: Rc<WriteBehind>,
}

impl ShardActor {
    /// Starts a shard on the current thread.
    pub fn start(shard: Rc<Shard>, write_behind: WriteBehind) -> Addr<Self> {
        let write_behind = Rc::new(write_behind);
        actix_rt::spawn({
            let write_behind = write_behind.clone();
            async move { indispensable(Task::Flusher, write_behind.run()).await }
        });
        let routing = shard.routing.clone();
        let flush = shard.queues.clone().flush(shard.index, move |id, beat| routing.do_send(id, beat));
        actix_rt::spawn(indispensable(Task::WorkerQueue, flush));
        let address = Actor::start(Self { shard: shard.clone(), write_behind });
        shard.address.set(address.clone()).expect("a shard is started once");
        address
    }

    pub(in crate::engine) fn shard(&self) -> &Shard {
        &self.shard
    }
}

impl Actor for ShardActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.shard.clock.pulse(self.shard.index);
        ctx.run_interval(self.shard.clock.pulse_interval(), |actor, _| {
            actor.shard.clock.pulse(actor.shard.index);
        });
    }
}

impl Drop for ShardActor {
    fn drop(&mut self) {
        self.shard.clock.stop_worker(self.shard.index);
    }
}

impl Handler<AddAgent> for ShardActor {
    type Result = ();

    fn handle(&mut self, AddAgent(registration, mailbox): AddAgent, _: &mut Context<Self>) {
        self.shard.add(registration, mailbox);
    }
}

impl Handler<MarkUnknown> for ShardActor {
    type Result = ();

    fn handle(&mut self, MarkUnknown(id): MarkUnknown, _: &mut Context<Self>) {
        self.shard.put_with_an_unknown_outcome(&[id]);
    }
}

impl Handler<Restore> for ShardActor {
    type Result = ();

    fn handle(&mut self, Restore(chunk): Restore, _: &mut Context<Self>) {
        match chunk {
            Chunk::Policies(policies) => policies.into_iter().for_each(|one| self.shard.policies.borrow_mut().put(one)),
            Chunk::Registrations(registrations) => registrations.into_iter().for_each(|one| self.shard.restore(one)),
            Chunk::Heartbeats(heartbeats) => heartbeats.into_iter().for_each(|one| self.shard.restore_heartbeat(one)),
        }
    }
}

impl Handler<Begin> for ShardActor {
    type Result = MessageResult<Begin>;

    fn handle(&mut self, Begin { after, most }: Begin, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.shard.begin(after, most))
    }
}

impl Handler<RemoveAgent> for ShardActor {
    type Result = bool;

    fn handle(&mut self, RemoveAgent(id): RemoveAgent, _: &mut Context<Self>) -> bool {
        self.shard.remove(id)
    }
}

impl Handler<RespawnAgent> for ShardActor {
    type Result = ();

    fn handle(&mut self, RespawnAgent(id): RespawnAgent, _: &mut Context<Self>) {
        self.shard.respawn(id);
    }
}

impl Handler<CountLabels> for ShardActor {
    type Result = MessageResult<CountLabels>;

    fn handle(&mut self, _: CountLabels, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.shard.label_counts())
    }
}

impl Handler<Drain> for ShardActor {
    type Result = ResponseFuture<Result<(), StoreError>>;

    fn handle(&mut self, _: Drain, _: &mut Context<Self>) -> Self::Result {
        let write_behind = self.write_behind.clone();
        Box::pin(async move { write_behind.drain().await })
    }
}

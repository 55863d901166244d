//! One agent's actor: the only writer of its state, and the owner of its timer.

pub(super) mod context;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

use actix::{Actor, ActorContext, Handler, MessageResult};

use self::context::AgentContext;
use super::{
    delivery::worker_queue::QueuedBeat,
    messages::{
        AgentRefusal, AgentState, Beat, BeatAck, BeginChange, Credential, Describe, EndChange, FetchPolicy, Identify,
        Identity, RelayedBeat, Reporter, Reregister, RespawnAgent, Show, Stop,
    },
    shard::Shard,
};
use crate::{
    fleet::{ActiveTime, Agent, Heartbeat, LastHeartbeat, PolicyVersion, SharedStrings, Status, Timestamp, Transition},
    policy::Policy,
    store::{Change, DirtySource},
};

/// The state of one agent, in its shard.
///
/// Written by its actor alone. The shard, on the same thread, reads it for listings and for the store, and keeps it when
/// the actor panics, so that the next actor goes on from there.
#[derive(Debug)]
pub struct AgentCell {
    pub(super) agent: RefCell<Agent>,
    /// The status under which the gauges count it. Runs after the derived status by as much as the timer does.
    pub(super) counted_as: Cell<Status>,
    /// Whether it is in the shard's dirty set.
    pub(super) dirty: Cell<bool>,
    /// Durable changes of its registration under way: until they end, what the store should have is not known here.
    pub(super) changing: Cell<u8>,
    /// Whether it has been deregistered: messages still on their way find nothing.
    pub(super) deregistered: Cell<bool>,
    /// The newest version in its scope when it last fetched its policy. Stays when the agent registers again.
    pub(super) last_fetched: Cell<PolicyVersion>,
}

/// With the two counts of `Rc` just one of the allocator's size classes, 192 bytes; the next is 224.
const _: () = assert!(size_of::<AgentCell>() + 2 * size_of::<usize>() <= 192);

impl AgentCell {
    /// The cell of an agent that the gauges count under `counted_as` from now on.
    pub fn new(agent: Agent, counted_as: Status) -> Rc<Self> {
        Rc::new(Self {
            agent: RefCell::new(agent),
            counted_as: Cell::new(counted_as),
            dirty: Cell::new(false),
            changing: Cell::new(0),
            deregistered: Cell::new(false),
            last_fetched: Cell::default(),
        })
    }
}

impl AgentCell {
    /// Its registration, for a store in which it may be lost or wrong.
    pub(super) fn restated(&self, texts: &SharedStrings) -> Change {
        Change::Reregister(Box::new(self.agent.borrow().registration(texts)))
    }

    /// What the store must know besides.
    pub(super) fn last_heartbeat(&self, texts: &SharedStrings) -> LastHeartbeat {
        self.agent.borrow().last_heartbeat(self.last_fetched.get(), texts)
    }
}

#[derive(Debug)]
pub struct AgentActor {
    cell: Rc<AgentCell>,
    shard: Rc<Shard>,
}

impl AgentActor {
    /// An actor that owns `cell` from now on.
    pub fn new(cell: Rc<AgentCell>, shard: Rc<Shard>) -> Self {
        Self { cell, shard }
    }

    /// The timer went off: this is the earliest moment at which the status can have changed.
    pub fn timer(&mut self, ctx: &mut AgentContext) {
        let now = self.shard.clock.active_on_all(self.shard.index);
        let liveness = self.cell.agent.borrow().liveness();
        let status = liveness.status(now, &self.shard.thresholds);
        if let Some(transition) = Transition::between(self.cell.counted_as.get(), status) {
            self.shard.transition(&self.cell, transition);
            self.shard.metrics.detection_lag.record(now.since(liveness.enters(status, &self.shard.thresholds)));
        }
        self.set_timer(now, ctx);
    }

    /// Sleeps until silence would change the status that the agent has at `now`.
    ///
    /// Lazy: a heartbeat does not move the timer. It goes off at the moment that was right when it was set, finds that
    /// the agent has sent a heartbeat since, and sleeps for the rest.
    fn set_timer(&self, now: ActiveTime, ctx: &mut AgentContext) {
        let clock = &self.shard.clock;
        let liveness = self.cell.agent.borrow().liveness();
        if let Some(change) = liveness.next_change(now, &self.shard.thresholds) {
            let (due, present) = (clock.instant_of(change), clock.monotonic());
            // Past only while another worker is starved and active time stands still: then look again in a while.
            ctx.wake_at(if due > present { due } else { present + clock.pulse_interval() });
        }
    }

    fn check(&self, credential: Credential) -> Result<(), AgentRefusal> {
        if self.cell.deregistered.get() {
            return Err(AgentRefusal::Gone);
        }
        match credential {
            Credential::Admin => Ok(()),
            Credential::Token(hash) if hash == *self.cell.agent.borrow().token() => Ok(()),
            Credential::Token(_) => Err(AgentRefusal::WrongToken),
        }
    }

    fn identity(&self, credential: Credential) -> Result<Identity, AgentRefusal> {
        self.check(credential)?;
        let agent = self.cell.agent.borrow();
        Ok(Identity { machine: agent.machine(), registered_at: agent.registered_at() })
    }

    fn change_ended(&self) {
        self.cell.changing.set(self.cell.changing.get().saturating_sub(1));
    }

    fn beat(
        &self,
        credential: Credential,
        heartbeat: Heartbeat,
        ctx: &mut AgentContext,
    ) -> Result<BeatAck, AgentRefusal> {
        self.check(credential)?;
        let at = self.take_over(heartbeat, ctx);
        let pending_policies = self.shard.pending_policies(&self.cell);
        Ok(BeatAck { status: self.cell.counted_as.get(), at, pending_policies })
    }

    /// Records a heartbeat, and when it was received.
    fn take_over(&self, heartbeat: Heartbeat, ctx: &mut AgentContext) -> Timestamp {
        let at = self.shard.clock.wall();
        let now = self.shard.clock.pulse(self.shard.index);
        let mut agent = self.cell.agent.borrow_mut();
        let before = agent.liveness().last_active;
        agent.beat(heartbeat, at, now, &mut self.shard.texts.borrow_mut());
        drop(agent);
        self.is_alive(before, now, ctx);
        at
    }

    /// After a sign of life at `now`, that of `before` being the one that was known: the agent is online, whatever it was.
    fn is_alive(&self, before: ActiveTime, now: ActiveTime, ctx: &mut AgentContext) {
        if let Some(transition) = Transition::between(self.cell.counted_as.get(), Status::Online) {
            self.shard.transition(&self.cell, transition);
            self.set_timer(now, ctx);
        } else if now < before {
            // Since the restart its last heartbeat counted as a while from now. Its timer would go off late for the silence that
            // begins here.
            self.set_timer(now, ctx);
        }
        self.shard.mark_dirty(&self.cell);
    }
}

impl Actor for AgentActor {
    type Context = AgentContext;

    fn started(&mut self, ctx: &mut AgentContext) {
        // The successor of one that panicked may come late for a change of status.
        self.timer(ctx);
    }
}

impl Drop for AgentActor {
    /// An actor that panics asks its shard for a successor.
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A panic in a handler has released its borrows by now; if not, whoever asks next will notice.
            if let Ok(agent) = self.cell.agent.try_borrow() {
                self.shard.address().do_send(RespawnAgent(agent.id()));
            }
        }
    }
}

impl Handler<Beat> for AgentActor {
    type Result = Result<BeatAck, AgentRefusal>;

    fn handle(&mut self, beat: Beat, ctx: &mut AgentContext) -> Self::Result {
        self.beat(beat.credential, beat.heartbeat, ctx)
    }
}

impl Handler<QueuedBeat> for AgentActor {
    type Result = ();

    fn handle(&mut self, QueuedBeat { credential, heartbeat, reply }: QueuedBeat, ctx: &mut AgentContext) {
        reply.send(self.beat(credential, heartbeat, ctx));
    }
}

impl Handler<RelayedBeat> for AgentActor {
    type Result = ();

    fn handle(&mut self, RelayedBeat { heartbeat, receipt }: RelayedBeat, ctx: &mut AgentContext) {
        if !self.cell.deregistered.get() {
            self.take_over(heartbeat, ctx);
            receipt.sign();
        }
    }
}

impl Handler<Show> for AgentActor {
    type Result = Result<AgentState, AgentRefusal>;

    fn handle(&mut self, show: Show, _: &mut AgentContext) -> Self::Result {
        self.check(show.credential)?;
        let agent = self.cell.agent.borrow();
        let status = agent.liveness().status(self.shard.clock.active_on_all(self.shard.index), &self.shard.thresholds);
        let texts = self.shard.texts.borrow();
        Ok(AgentState {
            registration: agent.registration(&texts),
            status,
            last_heartbeat: agent.last_seen(),
            figures: agent.figures().clone(),
            recent_threats: show.recent_threats,
            policy: self.shard.policy_version(&agent, &texts),
        })
    }
}

impl Handler<FetchPolicy> for AgentActor {
    type Result = Result<Option<Arc<Policy>>, AgentRefusal>;

    fn handle(&mut self, FetchPolicy { credential, is_fetch }: FetchPolicy, _: &mut AgentContext) -> Self::Result {
        self.check(credential)?;
        Ok(self.shard.policy_of(&self.cell, is_fetch))
    }
}

impl Handler<Describe> for AgentActor {
    type Result = Result<Reporter, AgentRefusal>;

    fn handle(&mut self, describe: Describe, _: &mut AgentContext) -> Self::Result {
        self.check(describe.credential)?;
        let (agent, texts) = (self.cell.agent.borrow(), self.shard.texts.borrow());
        Ok(Reporter { hostname: agent.hostname().into(), org: agent.org_id(&texts).map(Into::into) })
    }
}

impl Handler<Identify> for AgentActor {
    type Result = MessageResult<Identify>;

    fn handle(&mut self, identify: Identify, _: &mut AgentContext) -> Self::Result {
        MessageResult(self.identity(identify.credential))
    }
}

impl Handler<BeginChange> for AgentActor {
    type Result = MessageResult<BeginChange>;

    fn handle(&mut self, begin: BeginChange, _: &mut AgentContext) -> Self::Result {
        let identity = self.identity(begin.credential);
        if identity.is_ok() {
            self.cell.changing.set(self.cell.changing.get().saturating_add(1));
        }
        MessageResult(identity)
    }
}

impl Handler<EndChange> for AgentActor {
    type Result = ();

    fn handle(&mut self, end: EndChange, _: &mut AgentContext) {
        self.change_ended();
        if end.outcome_unknown {
            self.shard.put_with_an_unknown_outcome(&[self.cell.agent.borrow().id()]);
        }
    }
}

impl Handler<Reregister> for AgentActor {
    type Result = Option<Box<str>>;

    fn handle(&mut self, Reregister(registration): Reregister, ctx: &mut AgentContext) -> Self::Result {
        self.change_ended();
        if self.cell.deregistered.get() {
            return None;
        }
        let (before, earlier) = {
            let agent = self.cell.agent.borrow();
            let is_same = agent.hostname().eq_ignore_ascii_case(&registration.hostname);
            (agent.liveness().last_active, (!is_same).then(|| agent.hostname().into()))
        };
        self.shard.reregister(&self.cell, registration);
        self.is_alive(before, self.shard.clock.pulse(self.shard.index), ctx);
        earlier
    }
}

impl Handler<Stop> for AgentActor {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut AgentContext) {
        ctx.stop();
    }
}

#[cfg(test)]
pub(super) mod test_support {
    use super::*;

    /// To an agent: panic.
    #[derive(Debug, actix::Message)]
    #[rtype(result = "()")]
    pub(crate) struct Panic;

    impl Handler<Panic> for AgentActor {
        type Result = ();

        fn handle(&mut self, _: Panic, _: &mut AgentContext) {
            panic!("a test makes this actor panic");
        }
    }
}

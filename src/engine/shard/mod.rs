//! One shard: the agents that live on one worker thread, and what they share.

mod actor;
pub(super) mod agent_table;
pub(super) mod counts;
pub(super) mod label_counts;
pub(super) mod listing;

use std::{
    cell::{OnceCell, RefCell},
    collections::{BTreeSet, VecDeque},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use actix::{Addr, Message, dev::Mailbox};
use papaya::HashMap;
use tokio::sync::Notify;

pub use self::actor::ShardActor;
use self::{agent_table::AgentTable, counts::ShardCounts};
use super::{
    agent::{AgentActor, AgentCell, context::AgentContext},
    delivery::{routing::Routing, worker_queue::WorkerQueues},
    messages::ShardLabels,
};
use crate::{
    clock::Clock,
    events::{EventAggregator, StatusChange},
    fleet::{Agent, AgentId, LastHeartbeat, MachineKey, Registration, SharedStrings, Status, Thresholds, Transition},
    limits::LABEL_REPORT_MAX,
    metrics::Metrics,
    policy::PolicyIndex,
    store::{Change, DirtySource},
};

/// How silence is judged.
#[derive(Clone, Copy, Debug)]
pub struct LivenessRules {
    /// When an agent is stale, and when offline.
    pub thresholds: Thresholds,
    /// After a restart no agent turns stale within this.
    pub restart_grace: Duration,
    /// The first expiries after a restart are spread over this, on top of the grace.
    pub restart_spread: Duration,
}

/// To a shard: take in an agent that has registered, durably. Messages to it may be in its mailbox already.
#[derive(Message)]
#[rtype(result = "()")]
pub struct AddAgent(pub Registration, pub Mailbox<AgentActor>);

/// What the actors of one thread share: the agents themselves, their shared strings, counters and dirty set.
#[derive(Debug)]
pub struct Shard {
    pub(super) index: usize,
    pub(super) clock: Clock,
    pub(super) thresholds: Thresholds,
    pub(super) metrics: Arc<Metrics>,
    pub(super) texts: RefCell<SharedStrings>,
    pub(super) agents: RefCell<AgentTable<Rc<AgentCell>>>,
    /// The policies of the fleet.
    pub(super) policies: RefCell<PolicyIndex>,
    rules: LivenessRules,
    counts: Arc<ShardCounts>,
    changes: Arc<EventAggregator>,
    queues: Arc<WorkerQueues>,
    pub(super) routing: Arc<Routing>,
    machines: Arc<HashMap<MachineKey, AgentId>>,
    /// Agents whose last heartbeat is not in the store yet; each is in it once.
    dirty: RefCell<VecDeque<Rc<AgentCell>>>,
    /// Agents of which the store's registration is of unknown outcome: those that are not in `agents` must not be in the store either.
    outcome_unknown: RefCell<BTreeSet<AgentId>>,
    /// An agent came back: its heartbeat must not wait for the next flush, or a crash would forget it.
    urgent: Notify,
    address: OnceCell<Addr<ShardActor>>,
}

/// What a shard shares with the rest of its engine.
#[derive(Debug)]
pub struct ShardParts {
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) counts: Arc<ShardCounts>,
    pub(super) changes: Arc<EventAggregator>,
    pub(super) queues: Arc<WorkerQueues>,
    pub(super) routing: Arc<Routing>,
    pub(super) machines: Arc<HashMap<MachineKey, AgentId>>,
}

impl Shard {
    /// An empty shard, the one of this number in its engine.
    pub fn new(index: usize, parts: ShardParts, rules: LivenessRules) -> Rc<Self> {
        let ShardParts { clock, metrics, counts, changes, queues, routing, machines } = parts;
        Rc::new(Self {
            index,
            clock,
            thresholds: rules.thresholds,
            metrics,
            texts: RefCell::default(),
            agents: RefCell::default(),
            policies: RefCell::default(),
            rules,
            counts,
            changes,
            queues,
            routing,
            machines,
            dirty: RefCell::default(),
            outcome_unknown: RefCell::default(),
            urgent: Notify::new(),
            address: OnceCell::new(),
        })
    }

    pub(super) fn address(&self) -> &Addr<ShardActor> {
        self.address.get().expect("a shard has its address before it has agents")
    }

    /// Publishes a change of status: to the gauges, the counter, and the agent's own note of what it is counted as.
    pub(super) fn transition(&self, cell: &AgentCell, transition: Transition) {
        if cell.deregistered.get() {
            return;
        }
        cell.counted_as.set(transition.to);
        self.agents.borrow_mut().set_status(cell.agent.borrow().id(), transition.to);
        self.counts.moved(transition);
        self.changes.changed(self.index, transition.into(), &cell.agent.borrow());
        self.metrics.transition(transition);
        if transition.to == Status::Online {
            self.urgent.notify_one();
        }
    }

    /// Puts the agent into the set that the next flush writes.
    pub(super) fn mark_dirty(&self, cell: &Rc<AgentCell>) {
        if !cell.deregistered.get() && !cell.dirty.replace(true) {
            self.dirty.borrow_mut().push_back(cell.clone());
            self.counts.set_dirty(self.dirty.borrow().len());
        }
    }

    fn start_actor(self: &Rc<Self>, id: AgentId, cell: Rc<AgentCell>) {
        let mailbox = Mailbox::default();
        self.routing.insert(id, mailbox.address());
        AgentContext::start(AgentActor::new(cell, self.clone()), mailbox);
    }

    /// Takes an agent in that the gauges count under `status`.
    fn enter(&self, registration: Registration, status: Status) -> Rc<AgentCell> {
        let agent = Agent::new(registration, &mut self.texts.borrow_mut());
        let (id, labels) = (agent.id(), agent.labels());
        let cell = AgentCell::new(agent, status);
        self.agents.borrow_mut().insert(id, labels, status, cell.clone());
        cell
    }

    fn add(self: &Rc<Self>, registration: Registration, mailbox: Mailbox<AgentActor>) {
        let cell = self.enter(registration, Status::Online);
        self.counts.joined(Status::Online);
        self.changes.changed(self.index, StatusChange::REGISTERED, &cell.agent.borrow());
        AgentContext::start(AgentActor::new(cell, self.clone()), mailbox);
    }

    /// Takes in an agent from the store. It has no actor, and is not counted, until [`Shard::begin`].
    fn restore(&self, registration: Registration) {
        if let Some(machine) = registration.machine {
            self.machines.pin().insert(machine, registration.id);
        }
        self.enter(registration, Status::Online);
    }

    /// Replaces what the agent registered with.
    pub(super) fn reregister(&self, cell: &AgentCell, registration: Registration) {
        let mut texts = self.texts.borrow_mut();
        let newer = Agent::new(registration, &mut texts);
        self.agents.borrow_mut().set_labels(newer.id(), newer.labels());
        cell.agent.replace(newer).release(&mut texts);
    }

    fn restore_heartbeat(&self, last: LastHeartbeat) {
        if let Some(cell) = self.agents.borrow().get(last.id) {
            self.restore_last_fetched(cell, last.last_fetched);
            cell.agent.borrow_mut().restore(last, &mut self.texts.borrow_mut());
        }
    }

    /// Starts the actors of up to `most` restored agents that come after `after`; returns the last.
    fn begin(self: &Rc<Self>, after: Option<AgentId>, most: usize) -> Option<AgentId> {
        let now = self.clock.pulse(self.index);
        let mut silent = Vec::new();
        let mut last = None;
        for (id, cell) in self.agents.borrow().after(after).take(most) {
            // The id is random: its low bits spread the fleet evenly.
            let spread = self.rules.restart_spread.mul_f64((id.get() & 0xffff) as f64 / 65_536.0);
            let grace = self.rules.restart_grace + spread;
            let liveness = cell.agent.borrow().liveness().after_restart(now, grace, &self.thresholds);
            cell.agent.borrow_mut().set_liveness(liveness);
            let status = liveness.status(now, &self.thresholds);
            if cell.counted_as.replace(status) != status {
                silent.push((id, status));
            }
            self.counts.joined(status);
            self.start_actor(id, cell.clone());
            last = Some(id);
        }
        let mut agents = self.agents.borrow_mut();
        silent.into_iter().for_each(|(id, status)| agents.set_status(id, status));
        last
    }

    fn remove(&self, id: AgentId) -> bool {
        self.routing.remove(id);
        let Some(cell) = self.agents.borrow_mut().remove(id) else {
            return false;
        };
        cell.deregistered.set(true);
        let (agent, status) = (cell.agent.borrow(), cell.counted_as.get());
        self.counts.left(status);
        self.changes.changed(self.index, StatusChange::deregistered(status), &agent);
        agent.release(&mut self.texts.borrow_mut());
        true
    }

    /// Gives the agent a new actor if its last one panicked.
    fn respawn(self: &Rc<Self>, id: AgentId) {
        let cell = self.agents.borrow().get(id).cloned();
        if let Some(cell) = cell
            && !self.routing.is_running(id)
        {
            tracing::error!(agent = %id, "an agent's actor panicked; it goes on from its last known state");
            self.metrics.actor_respawns.increment(1);
            self.start_actor(id, cell);
        }
    }

    fn label_counts(&self) -> ShardLabels {
        let texts = self.texts.borrow();
        ShardLabels {
            os: texts.os.top(LABEL_REPORT_MAX),
            version: texts.version.top(LABEL_REPORT_MAX),
            org: texts.org.top(LABEL_REPORT_MAX),
        }
    }
}

impl DirtySource for Shard {
    fn dirty(&self) -> usize {
        self.dirty.borrow().len()
    }

    fn take(&self, most: usize) -> Vec<LastHeartbeat> {
        let mut dirty = self.dirty.borrow_mut();
        let end = dirty.len().min(most);
        let taken = dirty.drain(..end).filter(|cell| {
            cell.dirty.set(false);
            !cell.deregistered.get()
        });
        let texts = self.texts.borrow();
        let batch = taken.map(|cell| cell.last_heartbeat(&texts)).collect();
        self.counts.set_dirty(dirty.len());
        batch
    }

    fn put_back(&self, batch: &[LastHeartbeat]) {
        let agents = self.agents.borrow();
        batch.iter().filter_map(|last| agents.get(last.id)).for_each(|cell| self.mark_dirty(cell));
    }

    fn next_in_order(&self, after: Option<AgentId>, most: usize) -> Vec<LastHeartbeat> {
        let (agents, texts) = (self.agents.borrow(), self.texts.borrow());
        agents.after(after).take(most).map(|(_, cell)| cell.last_heartbeat(&texts)).collect()
    }

    fn reconciliation(&self, most: usize) -> Vec<Change> {
        let agents = self.agents.borrow();
        let unchanging = |id: &AgentId| agents.get(*id).is_none_or(|cell| cell.changing.get() == 0);
        let mut outcome_unknown = self.outcome_unknown.borrow_mut();
        let ids: Vec<_> = outcome_unknown.iter().copied().filter(unchanging).take(most).collect();
        let reconcile = |id: AgentId| {
            outcome_unknown.remove(&id);
            let Some(cell) = agents.get(id) else { return Change::Deregister(id) };
            // With its registration its last heartbeat may have gone.
            self.mark_dirty(cell);
            cell.restated(&self.texts.borrow())
        };
        ids.into_iter().map(reconcile).collect()
    }

    fn put_with_an_unknown_outcome(&self, agents: &[AgentId]) {
        self.outcome_unknown.borrow_mut().extend(agents);
    }

    fn registrations(&self, heartbeats: &[LastHeartbeat]) -> Vec<Change> {
        let agents = self.agents.borrow();
        let cells = heartbeats.iter().filter_map(|last| agents.get(last.id).map(|cell| (last.id, cell)));
        let (unchanging, changing): (Vec<_>, Vec<_>) = cells.partition(|(_, cell)| cell.changing.get() == 0);
        self.outcome_unknown.borrow_mut().extend(changing.into_iter().map(|(id, _)| id));
        unchanging.into_iter().map(|(_, cell)| cell.restated(&self.texts.borrow())).collect()
    }

    fn urgent(&self) -> &Notify {
        &self.urgent
    }
}

//! The engine as HTTP sees it: routes each request to the actor it concerns, and keeps the fleet's books.

use std::{
    rc::Rc,
    sync::{Arc, OnceLock},
};

use actix::{
    Addr, Handler, Message,
    dev::{Request, ToEnvelope},
};
use futures_util::future::join_all;
use papaya::HashMap;
use tokio::sync::{Mutex, Notify, Semaphore};

use super::{
    agent::{AgentActor, context::AgentContext},
    capacity::Capacity,
    delivery::{routing::Routing, worker_queue::WorkerQueues},
    messages::{
        AgentRefusal, AgentState, Beat, BeatAck, CountLabels, Credential, Drain, Identify, RespawnAgent, ShardLabels,
        Show,
    },
    shard::{
        LivenessRules, Shard, ShardActor, ShardParts,
        counts::{FleetCounts, ShardCounts},
        listing::{List, ListChunk, ListQuery},
    },
    threats::log::{Kept, ThreatLog, ThreatLogParts},
    token::Token,
};
use crate::{
    clock::Clock,
    events::EventAggregator,
    fleet::{AgentId, Heartbeat, MachineKey, Partition, Registration, TokenHash},
    limits::{MACHINE_LOCKS, REPORTS_UNDER_WAY_MAX_BYTES},
    metrics::Metrics,
    policy::PolicyIndexFull,
    store::{Durability, StoreError},
    threats::Retention,
};

/// Why the engine did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("Agent not found")]
    NotFound,
    /// The token is not (or no longer) the agent's.
    #[error("the token is not the agent's")]
    WrongToken,
    /// No room for another agent.
    #[error("the fleet is full: it holds {0} agents, the most that limits.max_agents allows")]
    FleetFull(u64),
    /// A registration without a token named a machine that is already in the fleet.
    #[error("this machine is already registered; registering it again needs a token")]
    MachineTaken,
    /// A durable change could not be made durable.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No room for another policy.
    #[error(transparent)]
    PoliciesFull(PolicyIndexFull),
    /// The threats are still being read from the store.
    #[error("the threat history is being loaded")]
    ThreatsLoading,
    /// The agent's actor did not answer.
    #[error("the agent did not answer")]
    Unresponsive,
}

/// A registration that is durable.
#[derive(Debug)]
pub struct Registered {
    pub registration: Registration,
    /// The agent's token: this is the only time it is seen.
    pub token: Token,
    /// Whether it was not in the fleet before.
    pub is_new: bool,
    /// The name that its machine had until now, if that was another one: it was renamed, or two machines have one identity.
    pub earlier_hostname: Option<Box<str>>,
}

/// The engine, to be shared by all HTTP workers. This is the one seam between HTTP and the actors.
#[derive(Clone, Debug)]
pub struct EngineHandle {
    pub(super) fleet: Arc<Fleet>,
}

#[derive(Debug)]
pub(super) struct Fleet {
    pub(super) routing: Arc<Routing>,
    pub(super) shards: Box<[ShardSlot]>,
    /// Wakes who waits for the shards to be started.
    attached: Notify,
    /// Which agent a machine is.
    pub(super) machines: Arc<HashMap<MachineKey, AgentId>>,
    pub(super) machine_locks: Box<[Mutex<()>]>,
    pub(super) capacity: Capacity,
    queues: Arc<WorkerQueues>,
    pub(super) threat_log: OnceLock<Addr<ThreatLog>>,
    pub(super) kept: Arc<Kept>,
    /// Bytes of reports that may be on their way to the store.
    pub(super) room_for_reports: Arc<Semaphore>,
    changes: Arc<EventAggregator>,
    durability: Durability,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
pub(super) struct ShardSlot {
    address: OnceLock<Addr<ShardActor>>,
    counts: Arc<ShardCounts>,
}

impl EngineHandle {
    /// An engine of `shards` shards, none of which has started yet.
    pub fn new(shards: usize, max_agents: u64, durability: Durability, clock: Clock, metrics: Arc<Metrics>) -> Self {
        Self {
            fleet: Arc::new(Fleet {
                routing: Arc::default(),
                shards: (0..shards).map(|_| ShardSlot::default()).collect(),
                attached: Notify::new(),
                machines: Arc::default(),
                machine_locks: (0..MACHINE_LOCKS).map(|_| Mutex::default()).collect(),
                capacity: Capacity::new(max_agents),
                queues: Arc::new(WorkerQueues::new(shards)),
                threat_log: OnceLock::new(),
                kept: Arc::default(),
                room_for_reports: Arc::new(Semaphore::new(REPORTS_UNDER_WAY_MAX_BYTES)),
                changes: Arc::new(EventAggregator::new(shards)),
                durability,
                clock,
                metrics,
            }),
        }
    }

    /// Hands a heartbeat to its agent.
    pub async fn beat(
        &self,
        id: AgentId,
        credential: Credential,
        heartbeat: Heartbeat,
    ) -> Result<BeatAck, EngineError> {
        // The first try gives the message away; only an actor that panicked makes a second one necessary.
        let Fleet { routing, queues, .. } = &*self.fleet;
        let home = self.home_of(id);
        let outcome = match queues.away_from(home) {
            Some(here) => queues.ask((here, home), id, credential, heartbeat).await,
            None => {
                let answer = routing.send(id, Beat { credential, heartbeat }).ok_or(EngineError::NotFound)?;
                answer.await.ok()
            }
        };
        match outcome {
            Some(outcome) => Ok(outcome?),
            None if !routing.contains(id) => Err(EngineError::NotFound),
            // The figures went down with the actor; the sign of life did not.
            None => Ok(self.ask_again(id, Beat { credential, heartbeat: Heartbeat::default() }).await??),
        }
    }

    /// All that is known of the agent.
    pub async fn show(&self, id: AgentId, credential: Credential) -> Result<AgentState, EngineError> {
        let recent_threats = self.recent_threats(id).await?;
        Ok(self.ask(id, || Show { credential, recent_threats }).await??)
    }

    /// Makes sure that the token of this hash is the agent's.
    pub async fn check_token(&self, id: AgentId, token: TokenHash) -> Result<(), EngineError> {
        self.ask(id, || Identify { credential: Credential::Token(token) }).await??;
        Ok(())
    }

    /// The next agents of a listing, and where to go on; `None` there when the fleet has no more.
    pub async fn list(&self, query: ListQuery) -> Result<ListChunk, EngineError> {
        let shards = self.fleet.shards.len();
        let first = query.after.map_or(0, |id| id.partition().shard(shards));
        for shard in first..shards {
            let mut chunk = self.ask_shard_at(shard, List(query.clone())).await?;
            let is_last = shard + 1 == shards;
            if chunk.resume_after.is_some() || is_last {
                return Ok(chunk);
            }
            if chunk.rows > 0 {
                // The shard is done, the fleet is not: go on after the greatest id the shard can have.
                chunk.resume_after = Some(last_id_of(shard, shards));
                return Ok(chunk);
            }
        }
        Ok(ListChunk::default())
    }

    /// How many agents there are in each status.
    pub fn counts(&self) -> FleetCounts {
        FleetCounts::sum(self.fleet.shards.iter().map(|slot| &*slot.counts))
    }

    /// What every shard knows of its agents' systems, versions and tenants.
    pub async fn label_counts(&self) -> Result<Vec<ShardLabels>, EngineError> {
        let shards = 0..self.fleet.shards.len();
        join_all(shards.map(|shard| self.ask_shard_at(shard, CountLabels))).await.into_iter().collect()
    }

    pub(crate) fn durability(&self) -> &Durability {
        &self.fleet.durability
    }

    /// Writes everything that is not yet in the store.
    pub async fn drain(&self) -> Result<(), EngineError> {
        let shards = 0..self.fleet.shards.len();
        for outcome in join_all(shards.map(|shard| self.ask_shard_at(shard, Drain))).await {
            outcome??;
        }
        self.drain_reports().await
    }

    /// The metrics of this engine.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.fleet.metrics
    }

    pub(crate) fn changes(&self) -> &Arc<EventAggregator> {
        &self.fleet.changes
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.fleet.clock
    }

    // ---- what the composition root and the shards need ----

    /// Where every agent's actor is.
    pub fn routing(&self) -> &Arc<Routing> {
        &self.fleet.routing
    }

    /// An empty shard of this engine, not yet at work: see [`ShardActor::start`].
    pub fn new_shard(&self, index: usize, rules: LivenessRules) -> Rc<Shard> {
        let Fleet { routing, shards, machines, queues, changes, clock, metrics, .. } = &*self.fleet;
        let parts = ShardParts {
            clock: clock.clone(),
            metrics: metrics.clone(),
            counts: shards[index].counts.clone(),
            changes: changes.clone(),
            queues: queues.clone(),
            routing: routing.clone(),
            machines: machines.clone(),
        };
        Shard::new(index, parts, rules)
    }

    pub(crate) fn threat_log_parts(&self, retention: Retention) -> ThreatLogParts {
        let Fleet { kept, changes, durability, clock, metrics, .. } = &*self.fleet;
        ThreatLogParts {
            retention,
            kept: kept.clone(),
            changes: changes.clone(),
            durability: durability.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
        }
    }

    /// Makes `address` the shard's.
    pub fn attach(&self, shard: usize, address: Addr<ShardActor>) {
        self.fleet.shards[shard].address.set(address).expect("a shard is started once");
        self.fleet.attached.notify_waiters();
    }

    /// Whether every shard that has been started still runs, and the threat log. One that panicked takes its part of
    /// the fleet with it: then the process must end, and a new one has it all from the store.
    pub(crate) fn is_intact(&self) -> bool {
        self.fleet.shards.iter().filter_map(|slot| slot.address.get()).all(Addr::connected)
            && self.fleet.threat_log.get().is_none_or(Addr::connected)
    }

    /// Whether every shard has been started.
    pub(crate) fn is_attached(&self) -> bool {
        self.fleet.shards.iter().all(|slot| slot.address.get().is_some())
    }

    /// Waits until every shard has been started.
    pub(crate) async fn attached(&self) {
        loop {
            // Before the look: a shard that is attached after it wakes this.
            let attached = self.fleet.attached.notified();
            if self.is_attached() {
                return;
            }
            attached.await;
        }
    }

    // ---- asking ----

    /// Asks the agent's actor; if that panicked, its successor.
    pub(super) async fn ask<M>(&self, id: AgentId, message: impl Fn() -> M) -> Result<M::Result, EngineError>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        AgentActor: Handler<M>,
        AgentContext: ToEnvelope<AgentActor, M>,
    {
        match self.fleet.routing.send(id, message()) {
            None => Err(EngineError::NotFound),
            Some(answer) => match answer.await {
                Ok(outcome) => Ok(outcome),
                Err(_) => self.ask_again(id, message()).await,
            },
        }
    }

    async fn ask_again<M>(&self, id: AgentId, message: M) -> Result<M::Result, EngineError>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        AgentActor: Handler<M>,
        AgentContext: ToEnvelope<AgentActor, M>,
    {
        self.ask_shard(id, RespawnAgent(id)).await?;
        let answer = self.fleet.routing.send(id, message).ok_or(EngineError::NotFound)?;
        answer.await.map_err(|_| EngineError::Unresponsive)
    }

    pub(super) async fn ask_shard<M>(&self, id: AgentId, message: M) -> Result<M::Result, EngineError>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        ShardActor: Handler<M>,
    {
        self.ask_shard_at(self.home_of(id), message).await
    }

    /// The shard that the agent lives in.
    pub(super) fn home_of(&self, id: AgentId) -> usize {
        id.partition().shard(self.fleet.shards.len())
    }

    pub(super) fn shard_of(&self, id: AgentId) -> Result<&Addr<ShardActor>, EngineError> {
        self.shard(self.home_of(id))
    }

    fn shard(&self, index: usize) -> Result<&Addr<ShardActor>, EngineError> {
        self.fleet.shards[index].address.get().ok_or(EngineError::Unresponsive)
    }

    /// Puts a message into a shard's mailbox, where it is when this returns, behind all that came before.
    pub(super) fn send_to_shard<M>(&self, shard: usize, message: M) -> Result<Request<ShardActor, M>, EngineError>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        ShardActor: Handler<M>,
    {
        // With an address of its own: one whose last message found the mailbox full would hold the next one back, and
        // those sent meanwhile overtake it.
        Ok(self.shard(shard)?.clone().send(message))
    }

    pub(super) async fn ask_shard_at<M>(&self, shard: usize, message: M) -> Result<M::Result, EngineError>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        ShardActor: Handler<M>,
    {
        self.send_to_shard(shard, message)?.await.map_err(|_| EngineError::Unresponsive)
    }
}

impl From<AgentRefusal> for EngineError {
    fn from(refusal: AgentRefusal) -> Self {
        match refusal {
            AgentRefusal::WrongToken => Self::WrongToken,
            AgentRefusal::Gone => Self::NotFound,
        }
    }
}

/// The greatest id that a shard can hold.
fn last_id_of(shard: usize, shards: usize) -> AgentId {
    let last = Partition::all().filter(|partition| partition.shard(shards) == shard).last();
    last.expect("every shard has a partition").last_id()
}

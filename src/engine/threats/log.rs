//! The threat log: the actor that owns the history of threats, on a thread of its own.
//!
//! A report is counted and found from the moment it is durable; the store answers in the order in which reports were given
//! to it, and so they are taken in. A search through millions of rows goes in steps, each a message, and keeps nobody
//! waiting but others who search.

mod queries;

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    io,
    rc::Rc,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, Release},
        },
    },
    time::Duration,
};

use actix::{Actor, Addr, AsyncContext, Context, Handler, ResponseFuture, WrapFuture};
use futures_util::future::BoxFuture;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, oneshot},
    task::LocalSet,
};

use super::{
    clock::Time,
    messages::{DrainReports, Forget, Report, RestoreThreats, Restored},
};
use crate::{
    clock::Clock,
    events::EventAggregator,
    limits::{DISCARD_MAX, THREAT_LOG_TICK_MS},
    metrics::Metrics,
    process::supervision::{Task, indispensable},
    store::{Change, Discard, Durability, StoreError, ThreatRange},
    threats::{History, Retention, ThreatEntry, ThreatId, ThreatKey, Trim},
};

/// The actor that owns the history.
#[derive(Debug)]
pub struct ThreatLog {
    state: Rc<State>,
}

/// What it shares with the task that waits for the store.
#[derive(Debug)]
struct State {
    history: RefCell<History>,
    retention: Retention,
    last_id: Cell<Option<ThreatId>>,
    /// Reports on their way to the store, in the order in which it has them.
    under_way: RefCell<VecDeque<UnderWay>>,
    more_under_way: Notify,
    is_taking_in: Cell<bool>,
    /// Wakes who waits until nothing is on its way to the store.
    at_rest: Notify,
    /// What has still to be reconciled with the store.
    to_reconcile: RefCell<Reconciliation>,
    reconciling: Cell<bool>,
    /// Up to where each tenant's threats have been dropped in this run.
    trimmed: RefCell<BTreeMap<Option<Box<str>>, ThreatId>>,
    durability: Durability,
    clock: Time,
    metrics: Arc<Metrics>,
    changes: Arc<EventAggregator>,
    kept: Arc<Kept>,
}

/// How much there is, as of a moment ago.
#[derive(Debug, Default)]
pub(in crate::engine) struct Kept {
    /// Whether all that the store has is counted.
    pub(in crate::engine) are_loaded: AtomicBool,
    /// Wakes who waits for that.
    pub(in crate::engine) loaded: Notify,
    pub(in crate::engine) threats: AtomicU64,
    pub(in crate::engine) bytes: AtomicU64,
}

struct UnderWay {
    entries: Vec<ThreatEntry>,
    /// What it takes of the room for reports; until the store has answered, whoever may have gone away.
    _room: OwnedSemaphorePermit,
    outcome: BoxFuture<'static, Result<(), StoreError>>,
    reply: oneshot::Sender<Result<Vec<ThreatId>, StoreError>>,
}

impl std::fmt::Debug for UnderWay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UnderWay").field("entries", &self.entries).finish_non_exhaustive()
    }
}

/// Threats that must not be in the store, or not any more.
#[derive(Debug, Default)]
struct Reconciliation {
    /// Of reports that were refused although the store may have them.
    outcome_unknown: Vec<ThreatKey>,
    /// The oldest ones of each tenant, which the history has dropped.
    dropped: BTreeMap<Option<Box<str>>, ThreatRange>,
}

/// What a threat log is made of.
#[derive(Debug)]
pub struct ThreatLogParts {
    /// How much is kept.
    pub retention: Retention,
    pub(in crate::engine) kept: Arc<Kept>,
    pub(in crate::engine) changes: Arc<EventAggregator>,
    pub(in crate::engine) durability: Durability,
    pub(in crate::engine) clock: Clock,
    pub(in crate::engine) metrics: Arc<Metrics>,
}

impl ThreatLog {
    /// A threat log without threats.
    pub fn new(parts: ThreatLogParts) -> Self {
        let ThreatLogParts { retention, kept, changes, durability, clock, metrics } = parts;
        let clock = Time::of(clock);
        Self {
            state: Rc::new(State {
                history: RefCell::new(History::new(retention, clock.now_ms())),
                retention,
                last_id: Cell::default(),
                under_way: RefCell::default(),
                more_under_way: Notify::new(),
                is_taking_in: Cell::default(),
                at_rest: Notify::new(),
                to_reconcile: RefCell::default(),
                reconciling: Cell::default(),
                trimmed: RefCell::default(),
                durability,
                clock,
                metrics,
                changes,
                kept,
            }),
        }
    }
}

/// Starts a threat log on a thread of its own: nobody's heartbeat waits for a search.
pub fn start_threat_log(parts: ThreatLogParts) -> io::Result<Addr<ThreatLog>> {
    let (here, there) = std::sync::mpsc::sync_channel(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    std::thread::Builder::new().name("threat-log".into()).spawn(move || {
        let threat_log = async {
            // Whoever waits for it has not gone away.
            let _ = here.send(ThreatLog::new(parts).start());
            std::future::pending::<()>().await;
        };
        LocalSet::new().block_on(&runtime, threat_log);
    })?;
    there.recv().map_err(io::Error::other)
}

impl Actor for ThreatLog {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.spawn(indispensable(Task::ThreatLog, take_in_durable(self.state.clone())).into_actor(self));
        ctx.run_interval(Duration::from_millis(THREAT_LOG_TICK_MS), |threat_log, ctx| {
            threat_log.state.tick();
            if !threat_log.state.reconciling.get() {
                let state = threat_log.state.clone();
                let reconciling = async move {
                    if let Err(error) = state.reconcile().await {
                        tracing::debug!(%error, "threats cannot be discarded from the store; it is tried again");
                    }
                };
                ctx.spawn(reconciling.into_actor(threat_log));
            }
        });
    }
}

/// Takes in what has become durable, one report after the other.
async fn take_in_durable(state: Rc<State>) {
    loop {
        let next = state.under_way.borrow_mut().pop_front();
        let Some(UnderWay { entries, _room, outcome, reply }) = next else {
            state.is_taking_in.set(false);
            state.at_rest.notify_waiters();
            state.more_under_way.notified().await;
            continue;
        };
        state.is_taking_in.set(true);
        let outcome = outcome.await;
        let ids = entries.iter().map(|entry| entry.id).collect();
        match &outcome {
            Ok(()) => state.take_in(entries),
            Err(StoreError::UnknownOutcome(_)) => {
                let keys = entries.into_iter().map(|entry| ThreatKey { org: entry.org, id: entry.id });
                state.to_reconcile.borrow_mut().outcome_unknown.extend(keys);
            }
            // It is not in the store.
            Err(
                StoreError::Unavailable(_)
                | StoreError::Damaged(_)
                | StoreError::Locked(_)
                | StoreError::Overloaded
                | StoreError::Format(_),
            ) => {}
        }
        // If nobody waits any more there is nobody to answer; the report stands.
        let _ = reply.send(outcome.map(|()| ids));
    }
}

impl State {
    /// Takes in threats that an agent has just reported.
    fn take_in(&self, entries: Vec<ThreatEntry>) {
        for entry in &entries {
            self.metrics.threat(entry.severity);
        }
        let worst = entries.iter().map(|entry| entry.severity).max();
        if let (Some(worst), Some(ThreatEntry { agent, hostname, .. })) = (worst, entries.first()) {
            self.changes.threats_reported(*agent, hostname, entries.len() as u64, worst);
        }
        self.add(entries);
    }

    fn add(&self, entries: Vec<ThreatEntry>) {
        let mut history = self.history.borrow_mut();
        let trims: Vec<_> = entries.into_iter().filter_map(|entry| history.add(entry)).collect();
        drop(history);
        self.dropped(trims);
    }

    /// The history as of now.
    fn up_to_date(&self) {
        let trims = self.history.borrow_mut().advance(self.clock.now_ms());
        self.dropped(trims);
    }

    /// Notes what the store has to drop too.
    fn dropped(&self, trims: Vec<Trim>) {
        let (mut to_reconcile, mut trimmed) = (self.to_reconcile.borrow_mut(), self.trimmed.borrow_mut());
        for Trim { org, up_to, aged, displaced } in trims {
            self.metrics.threats_aged.increment(aged.rows);
            self.metrics.threats_displaced.increment(displaced.rows);
            let from = trimmed.insert(org.clone(), up_to).unwrap_or(ThreatId::new(0));
            let range = to_reconcile.dropped.entry(org.clone()).or_insert(ThreatRange { org, from, up_to });
            range.up_to = range.up_to.max(up_to);
        }
    }

    fn tick(&self) {
        self.up_to_date();
        let history = self.history.borrow();
        self.kept.threats.store(history.rows(), Relaxed);
        self.kept.bytes.store(history.bytes(), Relaxed);
    }

    /// Whether no report is on its way to the store, and the store is being told of nothing.
    fn is_at_rest(&self) -> bool {
        !self.is_taking_in.get() && self.under_way.borrow().is_empty() && !self.reconciling.get()
    }

    /// Discards from the store what it must not have; what fails is tried again.
    async fn reconcile(&self) -> Result<(), StoreError> {
        let Reconciliation { outcome_unknown, dropped } = self.to_reconcile.take();
        if outcome_unknown.is_empty() && dropped.is_empty() {
            return Ok(());
        }
        self.reconciling.set(true);
        let mut discards: Vec<_> = dropped.values().cloned().map(Discard::Oldest).collect();
        discards.extend(outcome_unknown.chunks(DISCARD_MAX).map(|keys| Discard::Threats(keys.to_vec())));
        let outcome = self.durability.store.discard(discards).await;
        if outcome.is_ok() {
            // A history that was read in the meantime may have them.
            let mut history = self.history.borrow_mut();
            outcome_unknown.iter().for_each(|key| _ = history.remove(key.org.as_deref(), &[key.id]));
        } else {
            let mut to_reconcile = self.to_reconcile.borrow_mut();
            to_reconcile.outcome_unknown.extend(outcome_unknown);
            for (org, range) in dropped {
                let newer = to_reconcile.dropped.entry(org).or_insert_with(|| range.clone());
                newer.from = range.from;
            }
        }
        self.reconciling.set(false);
        self.at_rest.notify_waiters();
        outcome
    }
}

impl Handler<Forget> for ThreatLog {
    type Result = ();

    fn handle(&mut self, Forget: Forget, _: &mut Context<Self>) {
        let State { history, retention, clock, .. } = &*self.state;
        history.replace(History::new(*retention, clock.now_ms()));
    }
}

impl Handler<RestoreThreats> for ThreatLog {
    type Result = ();

    fn handle(&mut self, RestoreThreats(entries): RestoreThreats, _: &mut Context<Self>) {
        self.state.add(entries);
    }
}

impl Handler<Restored> for ThreatLog {
    type Result = ();

    fn handle(&mut self, Restored(loaded): Restored, _: &mut Context<Self>) {
        self.state.last_id.set(loaded.last.max(self.state.last_id.get()));
        if let Some(newest) = loaded.last {
            self.state.clock.compare(self.state.history.borrow().time(newest));
        }
        self.state.kept.are_loaded.store(true, Release);
        self.state.kept.loaded.notify_waiters();
    }
}

impl Handler<Report> for ThreatLog {
    type Result = ResponseFuture<Result<Vec<ThreatId>, StoreError>>;

    fn handle(&mut self, Report { mut threats, room }: Report, _: &mut Context<Self>) -> Self::Result {
        let state = &self.state;
        let now_ms = state.clock.now_ms();
        for threat in &mut threats {
            threat.entry.id = ThreatId::after(state.last_id.get(), now_ms);
            threat.entry.at_ms = state.history.borrow().own_time(threat.entry.id, now_ms);
            state.last_id.set(Some(threat.entry.id));
        }
        let entries = threats.iter().map(|threat| threat.entry.clone()).collect();
        // Queued here and now, in the order of the ids.
        let outcome = Box::pin(state.durability.committer.commit(Change::Report(threats)));
        let (reply, answer) = oneshot::channel();
        state.under_way.borrow_mut().push_back(UnderWay { entries, _room: room, outcome, reply });
        state.more_under_way.notify_one();
        Box::pin(async { answer.await.unwrap_or_else(|_| Err(StoreError::unavailable("the threat log has ended"))) })
    }
}

impl Handler<DrainReports> for ThreatLog {
    type Result = ResponseFuture<Result<(), StoreError>>;

    fn handle(&mut self, _: DrainReports, _: &mut Context<Self>) -> Self::Result {
        let state = self.state.clone();
        Box::pin(async move {
            loop {
                // Before the look: what comes to an end after it wakes this.
                let at_rest = state.at_rest.notified();
                if state.is_at_rest() {
                    return state.reconcile().await;
                }
                at_rest.await;
            }
        })
    }
}

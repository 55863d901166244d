//! The connections of one worker: how many there may be, and the sweep that ends those that have had their time.

use std::{
    cell::{Cell, RefCell},
    mem::MaybeUninit,
    rc::{Rc, Weak},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use chrono::DateTime;
use metrics::Counter;
use slab::Slab;

use super::{
    FrontRules,
    connection::{Common, Connection},
    live_count::LiveCount,
    times::{ConnectionPhase, Cut, Deadlines, Tick, ticks},
};
use crate::{
    clock::Clock,
    limits::{CONNECTION_TICK_MS, CROWD_WARNING_MS, CROWDED_SHARE, LEAN_REQUEST_MAX_BYTES},
    process::supervision::{Task, restarted},
};

/// Metrics of the connections of all workers of a listener, and the signal that they are to end.
#[derive(Clone)]
pub struct FrontMetrics {
    cut: Arc<[Counter; Cut::ALL.len()]>,
    stopping: Arc<AtomicBool>,
}

impl FrontMetrics {
    /// Counts with these counters, one for each of [`Cut::ALL`].
    pub fn new(cut: [Counter; Cut::ALL.len()]) -> Self {
        Self { cut: Arc::new(cut), stopping: Arc::default() }
    }

    /// From now on idle connections are closed, and others as soon as they are idle.
    pub fn stop(&self) {
        self.stopping.store(true, Relaxed);
    }
}

/// The connections of one worker.
pub(super) struct Worker {
    common: Rc<Common>,
    connections: RefCell<Slab<Rc<Connection>>>,
    most: usize,
    deadlines: Deadlines,
    metrics: FrontMetrics,
    /// When it was last logged that connections are used up.
    warned: Cell<Option<Tick>>,
    /// Open HTTP/2 streams, of all connections.
    pub(super) streams: LiveCount,
    /// HTTP/2 connections that may send more ahead than others.
    pub(super) large_windows: LiveCount,
    /// For what is being read of some connection; empty whenever another one has its turn.
    pub(super) read_buffer: RefCell<Box<[MaybeUninit<u8>]>>,
    /// For what is about to be written to some connection.
    pub(super) write_buffer: RefCell<Vec<u8>>,
    /// Bytes that were read and are not yet answered, of connections in the loop of agents' requests.
    pub(super) partial: Cell<usize>,
    clock: Clock,
    /// The time as HTTP writes it, and when it was that.
    date: RefCell<(Option<Tick>, String)>,
}

impl Worker {
    /// Begins to sweep, on this thread.
    pub(super) fn start(rules: &FrontRules, metrics: FrontMetrics, clock: Clock) -> Rc<Self> {
        let worker = Rc::new(Self::new(rules, metrics, clock));
        let swept = Rc::downgrade(&worker);
        actix_rt::spawn(restarted(Task::Sweeper, move || Self::sweep_all(swept.clone())));
        worker
    }

    async fn sweep_all(swept: Weak<Self>) {
        let mut tick = tokio::time::interval(Duration::from_millis(CONNECTION_TICK_MS));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let Some(worker) = swept.upgrade() else { break };
            worker.sweep();
        }
    }

    fn new(rules: &FrontRules, metrics: FrontMetrics, clock: Clock) -> Self {
        Self {
            common: Rc::default(),
            connections: RefCell::default(),
            most: rules.max_connections,
            deadlines: Deadlines { idle: ticks(rules.keep_alive.as_millis() as u64) },
            metrics,
            warned: Cell::default(),
            streams: LiveCount::default(),
            large_windows: LiveCount::default(),
            read_buffer: RefCell::new(Box::new_uninit_slice(LEAN_REQUEST_MAX_BYTES)),
            write_buffer: RefCell::default(),
            partial: Cell::default(),
            clock,
            date: RefCell::default(),
        }
    }

    /// Calls `write` with the time now, as HTTP writes it (RFC 9110, 5.6.7); as of this tick.
    pub(super) fn with_date<T>(&self, write: impl FnOnce(&str) -> T) -> T {
        let mut date = self.date.borrow_mut();
        let now = self.common.now.get();
        if date.0 != Some(now) {
            let wall = DateTime::from_timestamp_millis(self.clock.wall().as_millis()).unwrap_or_default();
            *date = (Some(now), wall.format("%a, %d %b %Y %H:%M:%S GMT").to_string());
        }
        write(&date.1)
    }

    /// Counts a connection that ended for this reason.
    pub(super) fn count(&self, why: Cut) {
        self.metrics.cut[why as usize].increment(1);
    }

    /// A slot for one more connection. At capacity the longest idle ones are closed for it; if all are being answered,
    /// there is none.
    pub(super) fn accept(self: &Rc<Self>) -> Option<Slot> {
        // Those that have been cut leave as soon as their tasks run.
        let staying = self.connections.borrow().len() - self.common.cut.get();
        if staying >= self.most {
            let has_room = self.make_room();
            self.warn_of_capacity(has_room);
            if !has_room {
                self.count(Cut::Crowded);
                return None;
            }
        }
        let mut connections = self.connections.borrow_mut();
        let entry = connections.vacant_entry();
        let key = entry.key();
        let number = u32::try_from(key).expect("there are fewer connections than 2^32");
        let connection = Rc::new(Connection::new(self.common.clone(), number));
        connection.look_again(connection.times().look_in(self.common.now.get(), self.deadlines));
        entry.insert(connection.clone());
        Some(Slot { worker: self.clone(), connection, key })
    }

    /// Rate-limited.
    fn warn_of_capacity(&self, has_room: bool) {
        let now = self.common.now.get();
        if self.warned.get().is_some_and(|last| now.wrapping_sub(last) < ticks(CROWD_WARNING_MS)) {
            return;
        }
        self.warned.set(Some(now));
        let most = self.most;
        if has_room {
            tracing::warn!(
                most,
                "connections of a worker are used up: those that wait the longest are closed for new ones"
            );
        } else {
            tracing::warn!(
                most,
                "connections of a worker are used up and all are being answered: new ones are refused"
            );
        }
    }

    /// Cuts a share of the connections that wait for their peers, the longest waiting first; returns whether there were any.
    /// A share, to amortise the scan of all.
    fn make_room(&self) -> bool {
        let (now, connections) = (self.common.now.get(), self.connections.borrow());
        let mut waiting: Vec<_> = connections
            .iter()
            .filter(|(_, connection)| connection.was_cut().is_none())
            .filter_map(|(_, connection)| Some((connection.times().precedence(now)?, connection)))
            .collect();
        if waiting.is_empty() {
            return false;
        }
        let share = (self.most / CROWDED_SHARE).clamp(1, waiting.len());
        if share < waiting.len() {
            waiting.select_nth_unstable_by_key(share, |(order, _)| *order);
        }
        for (_, connection) in &waiting[..share] {
            connection.cut(Cut::Crowded);
        }
        true
    }

    /// Moves the clock on by a tick, and ends what has had its time.
    fn sweep(&self) {
        let now = self.common.now.get().wrapping_add(1);
        self.common.now.set(now);
        let connections = self.connections.borrow();
        for key in self.common.due(now) {
            // Of a connection that is gone, or that another has the key of.
            let Some(connection) = connections.get(key as usize).filter(|connection| connection.is_due()) else {
                continue;
            };
            if connection.was_cut().is_some() {
                continue;
            }
            let times = connection.times();
            match times.overdue(now, self.deadlines) {
                Some(Cut::Idle) => connection.dismiss(Cut::Idle),
                Some(why) => connection.cut(why),
                None => connection.look_again(times.look_in(now, self.deadlines)),
            }
        }
        if self.metrics.stopping.load(Relaxed) {
            for (_, connection) in connections.iter().filter(|(_, connection)| connection.was_cut().is_none()) {
                if matches!(connection.times().phase, ConnectionPhase::Silent | ConnectionPhase::Idle) {
                    connection.dismiss(Cut::Stopping);
                }
            }
        }
    }
}

/// A connection among those of its worker, until it is dropped.
pub(super) struct Slot {
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    key: usize,
}

impl Slot {
    pub(super) fn connection(&self) -> &Rc<Connection> {
        &self.connection
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Worker { connections, common, .. } = &*self.worker;
        connections.borrow_mut().remove(self.key);
        if self.connection.was_cut().is_some() {
            common.cut.set(common.cut.get() - 1);
        }
        if let Some(why) = self.connection.why_ended() {
            self.worker.count(why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::ActiveTime;

    fn worker(most: usize) -> Rc<Worker> {
        worker_with(&FrontRules { max_connections: most, keep_alive: Duration::from_secs(75), tls: None })
    }

    fn worker_with(rules: &FrontRules) -> Rc<Worker> {
        Rc::new(Worker::new(
            rules,
            FrontMetrics::new(Cut::ALL.map(|_| Counter::noop())),
            Clock::new(1, ActiveTime::default(), Duration::ZERO),
        ))
    }

    #[test]
    fn the_longest_idle_connection_makes_room() {
        let worker = worker(3);
        let slots: Vec<_> = (0..3).map(|_| worker.accept().unwrap()).collect();
        for slot in &slots {
            worker.sweep();
            slot.connection().enter(ConnectionPhase::Idle);
        }
        let busy = slots[0].connection().begin(false);
        let fourth = worker.accept().unwrap();
        assert_eq!(fourth.connection().was_cut(), None);
        let cut: Vec<_> = slots.iter().map(|slot| slot.connection().was_cut()).collect();
        assert_eq!(cut, [None, Some(Cut::Crowded), None]);
        drop(busy);
    }

    #[test]
    fn several_that_come_at_once_have_room_made_for_each() {
        let worker = worker(3);
        let idle: Vec<_> = (0..3).map(|_| worker.accept().unwrap()).collect();
        idle.iter().for_each(|slot| slot.connection().enter(ConnectionPhase::Idle));
        let new: Vec<_> = (0..3).map(|_| worker.accept().expect("room")).collect();
        assert!(idle.iter().all(|slot| slot.connection().was_cut() == Some(Cut::Crowded)));
        assert!(new.iter().all(|slot| slot.connection().was_cut().is_none()));
    }

    #[test]
    fn a_connection_that_takes_notice_is_notified_first_and_cut_a_moment_later() {
        let worker = worker(10);
        let slot = worker.accept().unwrap();
        let connection = slot.connection();
        connection.takes_notice();
        connection.enter(ConnectionPhase::Idle);
        worker.metrics.stop();
        worker.sweep();
        assert_eq!((connection.was_cut(), connection.why_ended()), (None, Some(Cut::Stopping)));
        // A request that was on its way is answered.
        let request = connection.begin(false);
        for _ in 0..1_000 {
            worker.sweep();
        }
        assert_eq!(connection.was_cut(), None);
        drop(request);
        for _ in 0..=ticks(crate::limits::LINGER_MS) {
            worker.sweep();
        }
        assert_eq!((connection.was_cut(), connection.why_ended()), (Some(Cut::Ended), Some(Cut::Stopping)));
    }

    #[test]
    fn where_all_are_being_answered_there_is_no_room() {
        let worker = worker(2);
        let slots: Vec<_> = (0..2).map(|_| worker.accept().unwrap()).collect();
        let under_way: Vec<_> = slots.iter().map(|slot| slot.connection().begin(false)).collect();
        assert!(worker.accept().is_none());
        drop(under_way);
        assert!(worker.accept().is_some());
    }

    #[test]
    fn a_connection_that_has_had_its_time_is_cut_by_the_sweep() {
        let worker = worker(10);
        let (silent, busy) = (worker.accept().unwrap(), worker.accept().unwrap());
        let _request = busy.connection().begin(true);
        for _ in 0..1_000 {
            worker.sweep();
        }
        assert_eq!(silent.connection().was_cut(), Some(Cut::SlowHead));
        assert_eq!(busy.connection().was_cut(), None);
    }

    #[test]
    fn an_idle_connection_is_cut_in_time_however_short_that_is_and_whenever_it_was_looked_at() {
        for idle_ticks in [1, 2, 7, 39, 41, 300] {
            let rules =
                FrontRules { max_connections: 9, keep_alive: Duration::from_millis(250 * (idle_ticks - 1)), tls: None };
            let worker = worker_with(&rules);
            let slot = worker.accept().unwrap();
            for busy_ticks in [0, 1, 5, 50, 500] {
                let request = slot.connection().begin(false);
                (0..busy_ticks).for_each(|_| worker.sweep());
                drop(request);
                (0..idle_ticks).for_each(|_| worker.sweep());
                assert_eq!(slot.connection().was_cut(), None, "{idle_ticks} {busy_ticks}");
            }
            worker.sweep();
            assert_eq!(slot.connection().was_cut(), Some(Cut::Idle), "{idle_ticks}");
        }
    }

    #[test]
    fn a_server_that_ends_closes_idle_connections_at_once() {
        let worker = worker(10);
        let (idle, busy) = (worker.accept().unwrap(), worker.accept().unwrap());
        idle.connection().enter(ConnectionPhase::Idle);
        let request = busy.connection().begin(true);
        worker.metrics.stop();
        worker.sweep();
        assert_eq!((idle.connection().was_cut(), busy.connection().was_cut()), (Some(Cut::Stopping), None));
        drop(request);
        worker.sweep();
        assert_eq!(busy.connection().was_cut(), Some(Cut::Stopping));
    }
}

//! The way of an event from where it happens to those who read.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use metrics::Counter;
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use tokio::{
    sync::watch,
    time::{Duration, sleep},
};

use super::{
    aggregator::EventAggregator,
    coalescer::Coalescer,
    event::{EventKind, FleetEvent},
    ring::Ring,
    subscriber::Subscriber,
};
use crate::{clock::Clock, limits::EVENTS_TICK_MS, metrics::Metrics};

/// How many events and readers there may be.
#[derive(Clone, Copy, Debug)]
pub struct EventRules {
    /// Events kept for those who lag behind or come back.
    pub backlog: usize,
    /// Readers at one time.
    pub max_streams: usize,
}

/// There are as many readers as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyStreams;

/// The events of an engine; clones share them.
#[derive(Clone, Debug)]
pub struct Bus {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    /// Distinguishes the events of this run from those of others, which are numbered alike.
    pub(super) run: String,
    ring: RwLock<Ring>,
    /// Held while events are numbered and encoded, so that the ring is locked for a moment only.
    publishing: Mutex<()>,
    /// Changes with each publication; whether the streams are to end.
    pub(super) news: watch::Sender<bool>,
    aggregator: Arc<EventAggregator>,
    pub(super) metrics: Arc<Metrics>,
    /// Events that were published, by kind.
    published: [Counter; EventKind::ALL.len()],
    rules: EventRules,
    /// Readers there have been.
    readers: AtomicUsize,
}

impl Bus {
    pub fn new(rules: EventRules, aggregator: Arc<EventAggregator>, metrics: Arc<Metrics>) -> Self {
        let run = getrandom::u64().expect("the system has randomness");
        Self {
            shared: Arc::new(Shared {
                run: format!("{run:016x}"),
                ring: RwLock::new(Ring::new(rules.backlog)),
                publishing: Mutex::default(),
                news: watch::Sender::new(false),
                aggregator,
                published: metrics.counters("guardbeat_events_total", "type", EventKind::ALL.map(EventKind::name)),
                metrics,
                rules,
                readers: AtomicUsize::default(),
            }),
        }
    }

    /// Publishes what was aggregated, tick by tick, for ever. While nothing happens it sleeps.
    pub async fn collect(self, clock: Clock) {
        let (aggregator, mut coalescer) = (&self.shared.aggregator, Coalescer::default());
        // Who collected before, and panicked, may have been woken for what is there.
        let mut is_first = true;
        loop {
            if !mem::take(&mut is_first) && !coalescer.is_counting() {
                aggregator.filled().await;
            }
            sleep(Duration::from_millis(EVENTS_TICK_MS)).await;
            let (changes, others) = aggregator.take();
            let mut events = coalescer.tick(clock.monotonic(), changes);
            events.extend(others);
            self.publish(&events);
        }
    }

    /// Gives the events to all readers, in this order.
    pub(super) fn publish(&self, events: &[FleetEvent]) {
        if events.is_empty() {
            return;
        }
        let shared = &self.shared;
        let _one_at_a_time = shared.publishing.lock();
        let numbers = shared.ring().last() + 1..;
        let frames: Vec<_> =
            events.iter().zip(numbers).map(|(event, number)| event.frame(&shared.run, number)).collect();
        {
            let mut ring = shared.ring.write();
            frames.into_iter().for_each(|frame| ring.push(frame));
        }
        events.iter().for_each(|event| shared.published[event.kind() as usize].increment(1));
        shared.news.send_modify(|_| {});
    }

    /// A reader of all events from now on; or, if `last_event_id` names one of this run that is still known, of all that
    /// came after it.
    pub fn subscribe(&self, last_event_id: Option<&str>) -> Result<Subscriber, TooManyStreams> {
        let shared = &self.shared;
        if shared.metrics.event_streams.fetch_add(1, Relaxed) >= shared.rules.max_streams {
            shared.metrics.event_streams.fetch_sub(1, Relaxed);
            return Err(TooManyStreams);
        }
        let number = shared.readers.fetch_add(1, Relaxed);
        Ok(Subscriber::new(shared.clone(), number, last_event_id))
    }

    /// Ends all streams, now and for ever.
    pub fn close(&self) {
        self.shared.news.send_replace(true);
    }
}

impl Shared {
    /// The ring is whole after every step: a panic elsewhere does not spoil it.
    pub(super) fn ring(&self) -> RwLockReadGuard<'_, Ring> {
        self.ring.read()
    }

    /// The number of the event with this id, if it is of this run.
    pub(super) fn number_of(&self, id: &str) -> Option<u64> {
        let (run, number) = id.split_once('-')?;
        (run == self.run).then(|| number.parse().ok())?
    }
}

//! One who reads the events: a position in the ring, and what it receives.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use bytes::Bytes;
use serde_json::json;
use tokio::{
    sync::watch,
    time::{Duration, sleep, timeout},
};

use super::bus::Shared;
use crate::limits::{EVENTS_KEEPALIVE_MS, EVENTS_PACE_MAX_MS, EVENTS_PACE_READERS};

/// Reads the events, in the form of a stream of Server-Sent Events. It keeps nothing but how far it has come.
#[derive(Debug)]
pub struct Subscriber {
    shared: Arc<Shared>,
    news: watch::Receiver<bool>,
    /// Its number among all readers.
    number: usize,
    /// The last event it has.
    cursor: u64,
    /// What it receives first.
    greeting: Option<Bytes>,
    /// Whether it received that it was cut off: then nothing more comes.
    is_cut_off: bool,
}

impl Subscriber {
    pub(super) fn new(shared: Arc<Shared>, number: usize, last_event_id: Option<&str>) -> Self {
        let news = shared.news.subscribe();
        let (cursor, resumed) = {
            let ring = shared.ring();
            let known = last_event_id.and_then(|id| shared.number_of(id));
            let known = known.filter(|known| ring.index_after(*known).is_ok());
            (known.unwrap_or(ring.last()), known.is_some())
        };
        let message = if resumed {
            "Connected; what happened since the last event follows"
        } else {
            "Connected; what happens from now on follows"
        };
        let data = json!({ "message": message, "resumed": resumed });
        // With an id: who loses the connection before the first event can resume from here.
        let greeting = format!("id: {}-{cursor}\nevent: connected\ndata: {data}\n\n", shared.run);
        Self { shared, news, number, cursor, greeting: Some(greeting.into()), is_cut_off: false }
    }

    /// What comes next: whole events, or a sign of life. None when the stream has come to its end.
    pub async fn next(&mut self) -> Option<Bytes> {
        if let Some(greeting) = self.greeting.take() {
            return Some(greeting);
        }
        loop {
            if self.is_cut_off || *self.news.borrow_and_update() {
                return None;
            }
            let outcome = self.shared.ring().read(&mut self.cursor);
            match outcome {
                Ok(events) if !events.is_empty() => return Some(events),
                Ok(_) => {}
                Err(_) => {
                    self.is_cut_off = true;
                    let data =
                        json!({ "message": "Too slow: events were missed; connect again and read the fleet anew" });
                    return Some(format!("event: lagged\ndata: {data}\n\n").into());
                }
            }
            match timeout(Duration::from_millis(EVENTS_KEEPALIVE_MS), self.news.changed()).await {
                Ok(_) if *self.news.borrow() => return None,
                Ok(_) => self.wait_for_turn().await,
                Err(_) => return Some(Bytes::from_static(b": keepalive\n\n")),
            }
        }
    }

    /// All readers are woken at once; where there are many, they read one after the other over a while.
    async fn wait_for_turn(&self) {
        let pace = pace(self.number, self.shared.metrics.event_streams.load(Relaxed));
        if !pace.is_zero() {
            sleep(pace).await;
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.shared.metrics.event_streams.fetch_sub(1, Relaxed);
        // Whether it received that, or stood still until its connection was cut.
        if self.shared.ring().index_after(self.cursor).is_err() {
            self.shared.metrics.event_readers_cut_off.increment(1);
        }
    }
}

/// How long the reader with this number waits where there are so many.
fn pace(number: usize, readers: usize) -> Duration {
    let turns = (readers as u64 / EVENTS_PACE_READERS).clamp(1, EVENTS_PACE_MAX_MS);
    Duration::from_millis(number as u64 % turns)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::time::Instant;

    use super::*;
    use crate::{
        clock::Clock,
        events::{Bus, EventAggregator, EventRules, TooManyStreams, event::FleetEvent},
        fleet::{ActiveTime, AgentId},
        limits::{EVENTS_CHUNK_BYTES, EVENTS_TICK_MS},
        metrics::Metrics,
        threats::Severity,
    };

    const RULES: EventRules = EventRules { backlog: 4, max_streams: 2 };

    fn bus_with(rules: EventRules) -> Bus {
        Bus::new(rules, Arc::new(EventAggregator::new(1)), Arc::new(Metrics::new()))
    }

    fn bus() -> Bus {
        bus_with(RULES)
    }

    fn policy(rule_count: usize) -> FleetEvent {
        FleetEvent::PolicyCreated { policy_id: "pol".into(), version: "v1".into(), rule_count }
    }

    fn publish(bus: &Bus, policies: std::ops::RangeInclusive<usize>) {
        bus.publish(&policies.map(policy).collect::<Vec<_>>());
    }

    /// What is there to be read now.
    fn read(reader: &mut Subscriber) -> String {
        let mut text = String::new();
        while let Some(Some(chunk)) = reader.next().now_or_never() {
            assert!(chunk.len() <= EVENTS_CHUNK_BYTES);
            text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        text
    }

    /// The rule counts of the policies in it: they number the events of these tests.
    fn numbers(text: &str) -> Vec<usize> {
        let counts = text.split("\"ruleCount\":").skip(1);
        counts.map(|rest| rest.split('}').next().unwrap().parse().unwrap()).collect()
    }

    fn last_id(text: &str) -> String {
        text.lines().filter_map(|line| line.strip_prefix("id: ")).next_back().unwrap().to_owned()
    }

    #[tokio::test]
    async fn a_reader_is_greeted_and_reads_what_happens_from_then_on() {
        let bus = bus();
        publish(&bus, 1..=2);
        let mut reader = bus.subscribe(None).unwrap();
        let greeting = read(&mut reader);
        assert!(
            greeting.contains("\nevent: connected\ndata: {\"message\":") && greeting.contains("\"resumed\":false}")
        );
        assert!(numbers(&greeting).is_empty());
        publish(&bus, 3..=5);
        assert_eq!(numbers(&read(&mut reader)), [3, 4, 5]);
        assert_eq!(read(&mut reader), "");
    }

    #[tokio::test]
    async fn who_comes_back_reads_on_behind_its_last_event_if_that_is_still_known() {
        let bus = bus();
        let mut reader = bus.subscribe(None).unwrap();
        let greeting = last_id(&read(&mut reader));
        publish(&bus, 1..=2);
        let second = last_id(&read(&mut reader));
        publish(&bus, 3..=4);
        let last = last_id(&read(&mut reader));
        drop(reader);
        let (run, _) = last.split_once('-').unwrap();
        let resume = |id: &str| {
            let text = read(&mut bus.subscribe(Some(id)).unwrap());
            (text.contains("\"resumed\":true"), numbers(&text))
        };
        assert_eq!(resume(&greeting), (true, vec![1, 2, 3, 4]), "before the first event");
        assert_eq!(resume(&second), (true, vec![3, 4]));
        assert_eq!(resume(&last), (true, vec![]));
        publish(&bus, 5..=5);
        assert_eq!(resume(&greeting), (false, vec![]), "too long ago");
        assert_eq!(resume(&format!("{run}-1")), (true, vec![2, 3, 4, 5]));
        for unknown in [
            format!("{run}-6"),
            format!("{run}--1"),
            format!("{run}-"),
            format!("{run}-99999999999999999999999"),
            run.to_owned(),
            "0000000000000000-3".to_owned(),
            "-3".to_owned(),
            String::new(),
            "\u{e9}".to_owned(),
        ] {
            assert_eq!(resume(&unknown), (false, vec![]), "{unknown}");
        }
    }

    #[tokio::test]
    async fn a_reader_that_falls_behind_is_cut_off_and_holds_up_nobody() {
        let bus = bus();
        let (mut slow, mut quick) = (bus.subscribe(None).unwrap(), bus.subscribe(None).unwrap());
        read(&mut slow);
        read(&mut quick);
        for number in 1..=5 {
            publish(&bus, number..=number);
            assert_eq!(numbers(&read(&mut quick)), [number]);
        }
        let text = read(&mut slow);
        assert!(text.starts_with("event: lagged\ndata: {\"message\":") && numbers(&text).is_empty(), "{text}");
        assert_eq!(slow.next().now_or_never(), Some(None), "its stream has ended");
    }

    #[tokio::test]
    async fn one_reader_too_many_is_refused_until_another_goes() {
        let bus = bus();
        let first = bus.subscribe(None).unwrap();
        let _second = bus.subscribe(None).unwrap();
        assert_eq!(bus.subscribe(None).unwrap_err(), TooManyStreams);
        drop(first);
        assert!(bus.subscribe(None).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_broken_by_a_keepalive() {
        let bus = bus();
        let mut reader = bus.subscribe(None).unwrap();
        read(&mut reader);
        for _ in 0..2 {
            let began = Instant::now();
            assert_eq!(reader.next().await.unwrap(), ": keepalive\n\n");
            assert_eq!(began.elapsed(), Duration::from_millis(EVENTS_KEEPALIVE_MS));
        }
        publish(&bus, 1..=1);
        let began = Instant::now();
        assert_eq!(numbers(std::str::from_utf8(&reader.next().await.unwrap()).unwrap()), [1]);
        assert!(began.elapsed().is_zero());
    }

    #[tokio::test(start_paused = true)]
    async fn closing_ends_streams_that_wait_and_those_that_come_later() {
        let bus = bus();
        let mut reader = bus.subscribe(None).unwrap();
        read(&mut reader);
        let began = Instant::now();
        let (end, ()) = tokio::join!(reader.next(), async { bus.close() });
        assert_eq!((end, began.elapsed()), (None, Duration::ZERO));
        let mut late = bus.subscribe(None).unwrap();
        late.next().await.unwrap();
        assert_eq!(late.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn events_are_emitted_within_a_tick() {
        let aggregator = Arc::new(EventAggregator::new(1));
        let bus = Bus::new(RULES, aggregator.clone(), Arc::new(Metrics::new()));
        let collector = tokio::spawn(bus.clone().collect(Clock::new(0, ActiveTime::default(), Duration::from_secs(1))));
        let mut reader = bus.subscribe(None).unwrap();
        read(&mut reader);
        aggregator.threats_reported(AgentId::new(1), "h", 2, Severity::High);
        aggregator.threats_reported(AgentId::new(1), "h", 1, Severity::Low);
        aggregator.policy_created("pol", "v1", 1);
        let began = Instant::now();
        let chunk = reader.next().await.unwrap();
        assert!(began.elapsed() <= Duration::from_millis(EVENTS_TICK_MS + 1));
        let text = std::str::from_utf8(&chunk).unwrap();
        assert!(
            text.contains("event: policy_created")
                && text.contains("event: threats_reported")
                && text.contains(r#""count":3,"maxSeverity":"high"}"#),
            "{text}"
        );
        collector.abort();
    }

    #[tokio::test]
    async fn all_events_of_a_publication_are_read_in_bounded_chunks() {
        let bus = bus_with(EventRules { backlog: 10_000, max_streams: 1 });
        let mut reader = bus.subscribe(None).unwrap();
        bus.publish(&(0..2_000).map(policy).collect::<Vec<_>>());
        assert_eq!(numbers(&read(&mut reader)), (0..2_000).collect::<Vec<_>>());
    }

    #[test]
    fn a_few_readers_are_served_at_once_and_many_one_after_the_other() {
        let longest = |readers| (0..readers).map(|number| pace(number, readers)).max().unwrap();
        assert_eq!(longest(EVENTS_PACE_READERS as usize), Duration::ZERO);
        assert_eq!(longest(100), Duration::from_millis(11));
        assert_eq!(longest(100_000), Duration::from_millis(EVENTS_PACE_MAX_MS - 1));
    }
}

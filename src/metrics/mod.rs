//! What Prometheus sees: every metric's name, help and buckets, and the handles that the rest of the program records with.
//!
//! Counters and histograms are recorded where things happen. Gauges are set when somebody asks ([`Metrics::render`]), by
//! those who know their values; this room knows none of them. Label values that clients choose (`os`, `version`, `org`)
//! are bounded by those who set them; no agent id is ever a label.

mod requests;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use metrics::{
    Counter, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use metrics_process::Collector;
use metrics_util::MetricKindMask;
use parking_lot::Mutex;

use self::requests::Heartbeats;
pub(crate) use self::requests::{HEARTBEAT_ENDPOINT, OTHER_ENDPOINT};
use crate::{
    fleet::{Status, Timestamp, Transition},
    limits::GAUGE_IDLE_MS,
    process::output,
    threats::Severity,
};

/// Buckets of latencies, in seconds.
const LATENCY_BUCKETS: &[f64] =
    &[0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];
/// Buckets of the detection lag, in seconds. The promise is 0.1.
const LAG_BUCKETS: &[f64] = &[0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5];

const HEARTBEAT_LATENCY: &str = "guardbeat_heartbeat_latency_seconds";

/// How a heartbeat request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeartbeatResult {
    /// 200.
    Accepted,
    /// 400, 413, 415: the request itself was wrong.
    Invalid,
    /// 401 or 403.
    Refused,
    /// 404.
    Unknown,
    /// 503 and the like.
    Unavailable,
}

impl HeartbeatResult {
    const ALL: [Self; 5] = [Self::Accepted, Self::Invalid, Self::Refused, Self::Unknown, Self::Unavailable];

    const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Invalid => "invalid",
            Self::Refused => "refused",
            Self::Unknown => "unknown_agent",
            Self::Unavailable => "unavailable",
        }
    }
}

/// The metrics of one engine.
pub struct Metrics {
    /// Registrations answered 201.
    pub registrations: Counter,
    /// Deregistrations answered 200.
    pub deregistrations: Counter,
    /// Registrations of a machine under another hostname than before.
    pub machine_id_conflicts: Counter,
    /// Policies fetched by agents.
    pub policy_fetches: Counter,
    /// Actors started in place of one that panicked.
    pub actor_respawns: Counter,
    /// From the arrival of a heartbeat's head to its answer; of those that come alone.
    pub heartbeat_latency: Histogram,
    /// From the threshold of silence to its detection.
    pub detection_lag: Histogram,
    /// One flush of a shard's dirty set.
    pub flush_seconds: Histogram,
    /// Heartbeats written to the store.
    pub flushed_heartbeats: Counter,
    /// Flushes that failed.
    pub flush_failures: Counter,
    /// Records of the store that could not be read at the start.
    pub corrupt_records: Counter,
    /// Threats dropped because they were too old.
    pub threats_aged: Counter,
    /// Threats dropped for newer ones of their tenant.
    pub threats_displaced: Counter,
    threats: [Counter; Severity::ALL.len()],
    /// Event streams that are open.
    pub event_streams: AtomicUsize,
    /// Readers that stood still until what they had not read was gone.
    pub event_readers_cut_off: Counter,
    heartbeats: Heartbeats,
    transitions: [[Counter; Status::ALL.len()]; Status::ALL.len()],
    /// When the certificate expires, in seconds since 1970; 0 without TLS.
    certificate_expiry: AtomicI64,
    collector: Collector,
    /// The values that each label showed last.
    shown: Mutex<HashMap<&'static str, HashSet<Box<str>>>>,
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// A registry of its own, with every metric at zero.
    pub fn new() -> Self {
        let recorder = PrometheusBuilder::new()
            .set_buckets(LATENCY_BUCKETS)
            .and_then(|builder| {
                let lag = Matcher::Full("guardbeat_detection_lag_seconds".into());
                builder.set_buckets_for_metric(lag, LAG_BUCKETS)
            })
            .expect("the buckets are not empty")
            .idle_timeout(MetricKindMask::GAUGE, Some(Duration::from_millis(GAUGE_IDLE_MS)))
            .build_recorder();
        let recorder = Arc::new(recorder);
        metrics::with_local_recorder(&*recorder.clone(), || {
            describe();
            Self {
                registrations: counter!("guardbeat_registrations_total"),
                deregistrations: counter!("guardbeat_deregistrations_total"),
                machine_id_conflicts: counter!("guardbeat_machine_id_conflicts_total"),
                policy_fetches: counter!("guardbeat_policy_fetches_total"),
                actor_respawns: counter!("guardbeat_actor_respawns_total"),
                heartbeat_latency: histogram!(HEARTBEAT_LATENCY),
                detection_lag: histogram!("guardbeat_detection_lag_seconds"),
                flush_seconds: histogram!("guardbeat_store_flush_seconds"),
                flushed_heartbeats: counter!("guardbeat_store_flushed_heartbeats_total"),
                flush_failures: counter!("guardbeat_store_flush_failures_total"),
                corrupt_records: counter!("guardbeat_store_corrupt_records_total"),
                threats_aged: counter!("guardbeat_threats_dropped_total", "reason" => "age"),
                threats_displaced: counter!("guardbeat_threats_dropped_total", "reason" => "size"),
                threats: Severity::ALL
                    .map(|severity| counter!("guardbeat_threats_total", "severity" => severity.name())),
                event_streams: AtomicUsize::default(),
                event_readers_cut_off: counter!("guardbeat_event_readers_cut_off_total"),
                heartbeats: Heartbeats::default(),
                transitions: Status::ALL.map(|from| {
                    Status::ALL.map(|to| {
                        if from == to {
                            return Counter::noop();
                        }
                        counter!("guardbeat_transitions_total", "from" => from.name(), "to" => to.name())
                    })
                }),
                certificate_expiry: AtomicI64::default(),
                collector: Collector::default(),
                shown: Mutex::default(),
                handle: recorder.handle(),
                recorder,
            }
        })
    }

    /// A counter for each value of a label: for those who know what the values are.
    pub fn counters<const N: usize>(
        &self,
        name: &'static str,
        label: &'static str,
        values: [&'static str; N],
    ) -> [Counter; N] {
        metrics::with_local_recorder(&*self.recorder, || values.map(|value| counter!(name, label => value)))
    }

    /// Counts a threat that was reported.
    pub fn threat(&self, severity: Severity) {
        self.threats[severity.index()].increment(1);
    }

    /// Counts a change of status.
    pub fn transition(&self, transition: Transition) {
        self.transitions[transition.from as usize][transition.to as usize].increment(1);
    }

    /// Notes when the certificate that is served expires.
    pub fn certificate_expires(&self, at: Timestamp) {
        self.certificate_expiry.store(at.as_millis() / 1_000, Relaxed);
    }

    /// Moves recorded latencies into their buckets; to be called regularly, or they take up memory.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    /// The text that Prometheus scrapes. `set` sets the gauges of all others.
    pub fn render(&self, uptime: Duration, set: impl FnOnce()) -> String {
        metrics::with_local_recorder(&*self.recorder, || {
            set();
            self.show_heartbeats();
            gauge!("guardbeat_event_streams").set(self.event_streams.load(Relaxed) as f64);
            counter!("guardbeat_log_dropped_total").absolute(output::dropped_lines());
            let expiry = self.certificate_expiry.load(Relaxed);
            if expiry != 0 {
                gauge!("guardbeat_tls_certificate_expiry_timestamp_seconds").set(expiry as f64);
            }
            gauge!("guardbeat_uptime_seconds").set(uptime.as_secs_f64());
            gauge!("guardbeat_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
            self.collector.collect();
        });
        // The library's counters are whole numbers: those with fractions are kept as gauges.
        let text = self.handle.render().replace("_seconds_total gauge\n", "_seconds_total counter\n");
        requests::with_heartbeat_latency(&text)
    }

    /// Sets a gauge for each of these values of a label, within [`Self::render`]. Those that were shown before, and are not
    /// among them, are shown as 0 until they go.
    pub fn set_by(&self, name: &'static str, label: &'static str, values: &[(&str, u64)]) {
        let mut shown = self.shown.lock();
        let shown = shown.entry(name).or_default();
        for gone in shown.iter().filter(|value| values.iter().all(|(top, _)| top != &&***value)) {
            gauge!(name, label => gone.to_string()).set(0.0);
        }
        *shown = values.iter().map(|(value, _)| (*value).into()).collect();
        for (value, agents) in values {
            gauge!(name, label => (*value).to_owned()).set(*agents as f64);
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn describe() {
    describe_gauge!("guardbeat_agents", "Agents in the fleet, by status.");
    describe_gauge!("guardbeat_agents_by_os", "Agents by operating system: the 20 most frequent, and other.");
    describe_gauge!("guardbeat_agents_by_version", "Agents by Guard version: the 20 most frequent, and other.");
    describe_gauge!(
        "guardbeat_agents_by_org",
        "Agents by tenant: the 20 largest, and other. Agents without one are not counted."
    );
    describe_counter!("guardbeat_registrations_total", "Registrations answered 201.");
    describe_counter!("guardbeat_deregistrations_total", "Deregistrations answered 200.");
    describe_counter!("guardbeat_connections_cut_total", "Connections that the server ended, by reason.");
    describe_counter!(
        "guardbeat_machine_id_conflicts_total",
        "Registrations that took over an agent with the same machine_id and another hostname: a machine renamed, or cloned."
    );
    describe_counter!("guardbeat_heartbeats_total", "Heartbeats, alone or in a batch, by how they ended.");
    describe_counter!("guardbeat_transitions_total", "Changes of status of an agent.");
    describe_gauge!("guardbeat_policy_version", "Version of the newest policy; 0 while there is none.");
    describe_counter!("guardbeat_policy_fetches_total", "Policies fetched for an agent, or found unchanged.");
    describe_counter!("guardbeat_actor_respawns_total", "Actors started in place of one that panicked.");
    describe_histogram!(
        HEARTBEAT_LATENCY,
        Unit::Seconds,
        "From the arrival of a heartbeat request to its answer; batches are not counted."
    );
    describe_histogram!(
        "guardbeat_detection_lag_seconds",
        Unit::Seconds,
        "From the threshold of an agent's silence to its detection."
    );
    describe_histogram!("guardbeat_store_flush_seconds", Unit::Seconds, "One flush of a shard's last heartbeats.");
    describe_counter!("guardbeat_store_flushed_heartbeats_total", "Last heartbeats written to the store.");
    describe_counter!("guardbeat_store_flush_failures_total", "Flushes that failed and were repeated.");
    describe_counter!(
        "guardbeat_store_corrupt_records_total",
        "Records of the store that could not be read at the start."
    );
    describe_counter!("guardbeat_threats_total", "Threats reported and stored.");
    describe_counter!(
        "guardbeat_threats_dropped_total",
        "Threats dropped from the history: too old, or displaced by newer ones of their tenant."
    );
    describe_gauge!("guardbeat_threats", "Threats in the history.");
    describe_gauge!("guardbeat_threats_loaded", "Whether all threats of the store are counted: 1 or 0.");
    describe_gauge!("guardbeat_threats_bytes", Unit::Bytes, "What the threats in the history take in the store.");
    describe_gauge!("guardbeat_store_dirty_agents", "Agents whose last heartbeat is not in the store yet.");
    describe_gauge!("guardbeat_store_up", "Whether the store takes what it is given: 1 or 0.");
    describe_gauge!(
        "guardbeat_store_flush_age_seconds",
        Unit::Seconds,
        "Time since all heartbeats received were in the store: since the last good flush."
    );
    describe_gauge!("guardbeat_event_streams", "Event streams that are open.");
    describe_counter!("guardbeat_events_total", "Events sent on the streams, by type.");
    describe_counter!("guardbeat_event_readers_cut_off_total", "Readers of events that fell behind the backlog.");
    describe_gauge!(
        "guardbeat_paused_seconds_total",
        Unit::Seconds,
        "Time in which the process was paused (not scheduled), which does not count as silence."
    );
    describe_counter!("guardbeat_log_dropped_total", "Log lines that nobody took, or that could not be written.");
    describe_gauge!(
        "guardbeat_tls_certificate_expiry_timestamp_seconds",
        Unit::Seconds,
        "When the first of the certificates that clients check expires, in seconds since 1970. Not shown without TLS."
    );
    describe_gauge!("guardbeat_uptime_seconds", Unit::Seconds, "Time since the start.");
    describe_gauge!("guardbeat_build_info", "The running version.");
    requests::describe();
    Collector::default().describe();
}

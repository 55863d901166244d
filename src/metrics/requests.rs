//! Requests by endpoint: how many, how they ended, how long they took.
//!
//! Heartbeats that are answered 200, which are nearly all requests, cost nothing here: their series are made of what
//! is counted of them anyway, when somebody asks.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};

use super::{HEARTBEAT_LATENCY, HeartbeatResult, Metrics};

/// What the endpoint of heartbeats is called in labels.
pub const HEARTBEAT_ENDPOINT: &str = "heartbeat";
/// What is called so is no endpoint: paths that do not exist, methods that a path does not have, what is no HTTP.
pub const OTHER_ENDPOINT: &str = "other";

const REQUESTS: &str = "guardbeat_http_requests_total";
const LATENCY: &str = "guardbeat_http_request_duration_seconds";

/// Heartbeats by how they ended. On cache lines of its own: the workers write it with each heartbeat.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Heartbeats {
    alone: [AtomicU64; HeartbeatResult::ALL.len()],
    relayed: [AtomicU64; HeartbeatResult::ALL.len()],
}

impl Metrics {
    /// Counts a heartbeat that came alone.
    pub fn heartbeat(&self, result: HeartbeatResult) {
        self.heartbeats.alone[result as usize].fetch_add(1, Relaxed);
    }

    /// Counts heartbeats of a batch that ended alike.
    pub fn relayed_heartbeats(&self, count: u64, result: HeartbeatResult) {
        self.heartbeats.relayed[result as usize].fetch_add(count, Relaxed);
    }

    /// Counts a request that was answered; and the time from the arrival of its head to that of the answer's, if it was
    /// taken. Not for heartbeats that were answered 200.
    pub fn request(&self, endpoint: &'static str, status: u16, took: Option<Duration>) {
        metrics::with_local_recorder(&*self.recorder, || {
            counter!(REQUESTS, "endpoint" => endpoint, "status" => status.to_string()).increment(1);
            if let Some(took) = took {
                histogram!(LATENCY, "endpoint" => endpoint).record(took);
            }
        });
    }

    /// Shows what has been counted of heartbeats.
    pub(super) fn show_heartbeats(&self) {
        let Heartbeats { alone, relayed } = &self.heartbeats;
        for result in HeartbeatResult::ALL {
            let count = |counts: &[AtomicU64; HeartbeatResult::ALL.len()]| counts[result as usize].load(Relaxed);
            counter!("guardbeat_heartbeats_total", "result" => result.name()).absolute(count(alone) + count(relayed));
        }
        let accepted = alone[HeartbeatResult::Accepted as usize].load(Relaxed);
        counter!(REQUESTS, "endpoint" => HEARTBEAT_ENDPOINT, "status" => "200").absolute(accepted);
    }
}

/// Describes the meaning of what is shown here, and shows that there is a histogram.
pub(super) fn describe() {
    describe_counter!(REQUESTS, "Requests answered, by endpoint and status.");
    describe_histogram!(
        LATENCY,
        Unit::Seconds,
        "From the arrival of a request's head to the head of its answer, by endpoint. Heartbeats refused for want of room are not timed."
    );
    let _ = histogram!(LATENCY, "endpoint" => OTHER_ENDPOINT);
}

/// The text with the latency of heartbeats among those of the other endpoints.
pub(super) fn with_heartbeat_latency(text: &str) -> String {
    let mut whole = String::with_capacity(text.len() + 2_048);
    for line in text.lines() {
        whole.push_str(line);
        whole.push('\n');
        // The series of a name stand together, after its type.
        if line.strip_prefix("# TYPE ").and_then(|line| line.strip_suffix(" histogram")) != Some(LATENCY) {
            continue;
        }
        for series in text.lines().filter_map(|line| line.strip_prefix(HEARTBEAT_LATENCY)) {
            let Some((name, value)) = series.rsplit_once(' ') else { continue };
            let (suffix, labels) = name.split_once('{').unwrap_or((name, "}"));
            let comma = if labels == "}" { "" } else { "," };
            writeln!(whole, r#"{LATENCY}{suffix}{{endpoint="{HEARTBEAT_ENDPOINT}"{comma}{labels} {value}"#)
                .expect("a string takes all that is written to it");
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_stand_among_the_endpoints() {
        let text = "# HELP guardbeat_http_request_duration_seconds x\n\
            # TYPE guardbeat_http_request_duration_seconds histogram\n\
            guardbeat_http_request_duration_seconds_count{endpoint=\"other\"} 0\n\n\
            # TYPE guardbeat_heartbeat_latency_seconds histogram\n\
            guardbeat_heartbeat_latency_seconds_bucket{le=\"+Inf\"} 7\n\
            guardbeat_heartbeat_latency_seconds_sum 0.5\n";
        let whole = with_heartbeat_latency(text);
        let added = "guardbeat_http_request_duration_seconds_bucket{endpoint=\"heartbeat\",le=\"+Inf\"} 7\n\
            guardbeat_http_request_duration_seconds_sum{endpoint=\"heartbeat\"} 0.5\n";
        assert_eq!(whole.replacen(added, "", 1), text);
        assert!(
            whole.contains(&format!(" histogram\n{added}guardbeat_http_request_duration_seconds_count")),
            "{whole}"
        );
    }
}

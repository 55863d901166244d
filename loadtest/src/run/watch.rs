//! Looks at a run from aside, once a second: what was offered and answered, and how the server fares.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use serde::Serialize;

use crate::load::Window;
use crate::server::{Probe, Scrape, cpu_time_of, own_cpu_time, resident_bytes};
use crate::units;

use super::Stage;
use super::ledger::StatusCounts;

const PERIOD: Duration = Duration::from_secs(1);
/// A last look after less than this shows nothing: rates of moments jump.
const SHORTEST: Duration = Duration::from_millis(300);
/// How long the server's metrics may take: a look must not delay the next.
const SCRAPE_LIMIT: Duration = Duration::from_millis(800);

#[derive(Debug, Clone, Serialize, PartialEq)]
pub(crate) struct Point {
    /// Seconds since the end of the warm-up.
    pub(crate) at_s: f64,
    pub(crate) offered: f64,
    /// Beats answered 2xx, per second.
    pub(crate) achieved: f64,
    pub(crate) failed: f64,
    /// Latencies of those that were answered; `None` when none were.
    pub(crate) latency: Option<Latency>,
    /// As `latency`, of the probe's beats.
    pub(crate) probe: Option<Latency>,
    /// Processors in use by the server.
    pub(crate) server_cpu: Option<f64>,
    /// Processors in use by this client.
    pub(crate) client_cpu: f64,
    pub(crate) rss_mib: Option<f64>,
    #[serde(flatten)]
    pub(crate) counts: Option<StatusCounts>,
}

#[derive(Debug, Clone, Copy, Serialize, PartialEq)]
pub(crate) struct Latency {
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

impl Latency {
    fn of(window: &Window) -> Option<Self> {
        let quantile = |share| window.latency_us.value_at_quantile(share) as f64 / 1e3;
        (!window.latency_us.is_empty()).then(|| Self {
            p50_ms: quantile(0.5),
            p99_ms: quantile(0.99),
            max_ms: window.latency_us.max() as f64 / 1e3,
        })
    }
}

#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) points: Vec<Point>,
    /// Processor time of the server over the run; `None` if it could never be read.
    pub(crate) server_cpu: Option<Duration>,
    pub(crate) client_cpu: Duration,
}

pub(super) struct Watch<'a> {
    pub(super) stage: &'a Stage,
    pub(super) metrics: Probe,
    pub(super) spinner: &'a ProgressBar,
}

/// What the processes had used at the last look.
#[derive(Clone, Copy)]
struct Used {
    server: Option<Duration>,
    client: Duration,
}

impl Watch<'_> {
    pub(super) async fn run(mut self) -> anyhow::Result<Seen> {
        tokio::time::sleep_until(self.stage.zero.into()).await;
        let (mut seen, mut window, mut probed) = (Seen::default(), Window::new(), Window::new());
        self.stage.tally.lock().next_window(&mut window);
        self.stage.probed.lock().next_window(&mut probed);
        let scrape = self.scrape().await;
        let (mut used, mut last) = (self.used(&scrape)?, Instant::now());
        loop {
            let done = tokio::select! {
                biased;
                () = self.stage.done.cancelled() => true,
                () = tokio::time::sleep_until((last + PERIOD).into()) => false,
            };
            let now = Instant::now();
            self.stage.tally.lock().next_window(&mut window);
            self.stage.probed.lock().next_window(&mut probed);
            let scrape = self.scrape().await;
            let used_now = self.used(&scrape)?;
            let over = (now.duration_since(last), used, used_now);
            let point = self.point([&window, &probed], &scrape, now, over);
            seen.add(used, used_now);
            if over.0 >= SHORTEST || seen.points.is_empty() {
                seen.points.push(point);
            }
            (used, last) = (used_now, now);
            if done {
                return Ok(seen);
            }
        }
    }

    /// The server's metrics, which the ledger takes in; empty if there are none.
    async fn scrape(&mut self) -> Scrape {
        match tokio::time::timeout(SCRAPE_LIMIT, self.metrics.scrape()).await {
            Ok(Ok(scrape)) => {
                self.stage.ledger().note(&scrape);
                scrape
            }
            // Down, too slow, or not one of ours.
            Ok(Err(_)) | Err(_) => Scrape::default(),
        }
    }

    /// From the process if it is ours, else from what it says of itself.
    fn used(&self, scrape: &Scrape) -> anyhow::Result<Used> {
        let server = match self.stage.pid.load(Ordering::Relaxed) {
            0 => scrape.cpu_time(),
            pid => cpu_time_of(pid).ok(),
        };
        Ok(Used { server, client: own_cpu_time()? })
    }

    /// The windows are those of the load and of the probe; `over` is how long they are, and what was used at their
    /// beginning and end.
    fn point(
        &self,
        [window, probed]: [&Window; 2],
        scrape: &Scrape,
        now: Instant,
        over: (Duration, Used, Used),
    ) -> Point {
        let (period, then, used) = over;
        let seconds = period.as_secs_f64().max(1e-3);
        let cpu = |now: Duration, then: Duration| now.saturating_sub(then).as_secs_f64() / seconds;
        let rss = match self.stage.pid.load(Ordering::Relaxed) {
            0 => scrape.sum("process_resident_memory_bytes", &[]),
            pid => resident_bytes(pid).ok().map(|bytes| bytes as f64),
        };
        let point = Point {
            at_s: now.saturating_duration_since(self.stage.zero).as_secs_f64(),
            offered: window.due as f64 / seconds,
            achieved: window.successes as f64 / seconds,
            failed: window.failures as f64 / seconds,
            latency: Latency::of(window),
            probe: Latency::of(probed),
            server_cpu: used.server.zip(then.server).map(|(now, then)| cpu(now, then)),
            client_cpu: cpu(used.client, then.client),
            rss_mib: rss.map(|bytes| bytes / (1024.0 * 1024.0)),
            counts: StatusCounts::of(scrape),
        };
        self.show(&point);
        point
    }

    fn show(&self, point: &Point) {
        let latency = point.latency.map_or_else(
            || "no answers".to_owned(),
            |latency| format!("p50 {:.2} ms, p99 {:.2} ms", latency.p50_ms, latency.p99_ms),
        );
        let latency = match point.probe {
            Some(probe) => format!("{latency}; probe p99 {:.2} ms", probe.p99_ms),
            None => latency,
        };
        let failed = if point.failed > 0.0 { format!(", {} failed", units::rate(point.failed)) } else { String::new() };
        self.spinner.set_message(format!(
            "{}: {:.0} s: offered {}, answered {}{failed}, {latency}",
            self.stage.doing(),
            point.at_s,
            units::rate(point.offered),
            units::rate(point.achieved),
        ));
    }
}

impl Seen {
    fn add(&mut self, then: Used, now: Used) {
        // A new process begins at zero.
        if let Some(used) = now.server {
            let since = then.server.and_then(|then| used.checked_sub(then)).unwrap_or(used);
            let since = if self.points.is_empty() && then.server.is_none() { Duration::ZERO } else { since };
            self.server_cpu = Some(self.server_cpu.unwrap_or_default() + since);
        }
        self.client_cpu += now.client.saturating_sub(then.client);
    }
}

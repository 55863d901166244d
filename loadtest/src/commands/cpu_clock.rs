//! Where the processor time of a server can be read.

use std::time::Duration;

use crate::server::{Probe, cpu_time_of};

/// The metric of processes that tell it themselves.
const TOLD: &str = "process_cpu_seconds_total";

/// A clock that runs while a server works.
pub(super) enum CpuClock {
    /// A process on this machine.
    Process(u32),
    /// A server that tells it in its metrics.
    Metrics(Box<Probe>),
    /// A server of which nothing is known.
    Unknown,
}

impl CpuClock {
    /// The one that a server keeps in its metrics, if it does.
    pub(super) async fn told(mut metrics: Probe) -> Self {
        match metrics.scrape().await {
            Ok(scrape) if scrape.sum(TOLD, &[]).is_some() => Self::Metrics(Box::new(metrics)),
            Ok(_) | Err(_) => Self::Unknown,
        }
    }

    /// What it shows; `None` if it is unknown.
    pub(super) async fn read(&mut self) -> anyhow::Result<Option<Duration>> {
        Ok(match self {
            Self::Process(pid) => Some(cpu_time_of(*pid)?),
            Self::Metrics(metrics) => metrics.scrape().await?.sum(TOLD, &[]).map(Duration::from_secs_f64),
            Self::Unknown => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_has_a_clock_and_an_unknown_server_has_none() {
        assert!(CpuClock::Process(std::process::id()).read().await.expect("readable").is_some());
        assert!(CpuClock::Unknown.read().await.expect("nothing to read").is_none());
    }
}

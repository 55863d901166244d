//! Reports threats as fast as they are stored, many at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::ProgressBar;
use tokio::task::JoinSet;

use crate::wire::{KeepAlive, Target};

use super::Fleet;
use super::caller::Caller;
use super::report::{ReportWriter, Reports};

/// Sends so many reports, of one agent of the fleet after the other, over as many connections as are given; all must be
/// stored.
pub(crate) async fn report(
    target: &Arc<Target>,
    fleet: &Arc<Fleet>,
    reports: Reports,
    count: u64,
    connections: usize,
    bar: &ProgressBar,
) -> anyhow::Result<()> {
    let next = Arc::new(AtomicU64::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..connections {
        let worker = Worker {
            caller: Caller::of(target.clone()),
            writer: ReportWriter::to(target, KeepAlive::Yes, reports),
            fleet: fleet.clone(),
            bar: bar.clone(),
        };
        workers.spawn(worker.report_until(next.clone(), count, reports.events));
    }
    while let Some(done) = workers.join_next().await {
        done??;
    }
    Ok(())
}

struct Worker {
    caller: Caller,
    writer: ReportWriter,
    fleet: Arc<Fleet>,
    bar: ProgressBar,
}

impl Worker {
    async fn report_until(mut self, next: Arc<AtomicU64>, count: u64, events: u64) -> anyhow::Result<()> {
        let mut report = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return Ok(());
            }
            let (agent, token) = self.fleet.agent_of(number);
            self.writer.write(&mut report, number, agent, token);
            self.caller.call(&report, 201).await?;
            self.bar.inc(events);
        }
    }
}

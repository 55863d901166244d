//! A comparison: several servers take the same load in turn, as fast as they answer it (closed loop).
//!
//! Rounds alternate, so that what the machine does meanwhile falls on all sides alike, and each ratio is taken within a
//! round. Processor time is the figure to trust: it does not depend on how the client and the server share the cores, as
//! requests per second do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use tokio_util::sync::CancellationToken;

use crate::load::{Bulk, ClosedLoop, Fleet, Operation, SharedTally, Tally, Transport};
use crate::progress;
use crate::scenario::{ComparePlan, Scenario};
use crate::server::{Host, Meter};
use crate::table::Table;
use crate::units;
use crate::wire::KeepAlive;

use super::rounds::{Round, Sample, order, ratio, tables};
use super::stage::Stage;
use super::{Ended, Outcome, Record, Site};

/// Connections are made and caches are warm after this.
const WARM_UP: Duration = Duration::from_millis(500);
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

pub(super) async fn run(
    scenario: &Scenario,
    plan: &ComparePlan,
    site: Site,
    stop: &CancellationToken,
) -> anyhow::Result<Outcome> {
    let mut sides = start(scenario, plan, site).await?;
    let mut rounds = Vec::new();
    tokio::select! {
        measured = measure(plan, scenario.transport, &mut sides, &mut rounds) => measured?,
        () = stop.cancelled() => {}
    }
    let (stage, version) = (Stage::set(&sides[0].host, Instant::now()), sides[0].host.version().await);
    stage.interrupted.set(stop.is_cancelled());
    let mut record = Record::new(stage);
    let names: Vec<&str> = sides.iter().map(|side| side.name).collect();
    if !rounds.is_empty() {
        for (title, table) in tables(plan.operation, &names, &rounds) {
            record.tables.add(title, table);
        }
        if plan.operation == Operation::Register {
            record.tables.add("Latencies of registrations over all rounds", latencies(&sides));
        }
        record.figures.extend(ratio(&rounds, |sample| sample.cost.server_us).map(|ratio| ("cpu_ratio", ratio)));
        record.figures.extend(ratio(&rounds, |sample| Some(sample.per_second)).map(|ratio| ("rate_ratio", ratio)));
    }
    for side in &mut sides {
        if side.host.usage().await?.cpu.is_none() {
            record
                .stage
                .note(format!("{}: nothing is known of its processor time, as /metrics does not tell it", side.name));
        }
    }
    let target =
        sides.iter().map(|side| format!("{} ({})", side.name, side.host.target)).collect::<Vec<_>>().join(", ");
    let mut ended = Ok(());
    for side in sides {
        ended = ended.and(side.end(scenario).await);
    }
    if rounds.is_empty() {
        return Err(Ended::Interrupted).context("nothing was measured");
    }
    let ended_badly = ended.err().map(|error: anyhow::Error| format!("{error:#}"));
    Ok(Outcome { ended_badly, ..Outcome::of(scenario, record, target, version) })
}

async fn start(scenario: &Scenario, plan: &ComparePlan, mut site: Site) -> anyhow::Result<Vec<Side>> {
    let mut sides: Vec<Side> = Vec::new();
    for kind in &plan.sides {
        let tls_folder = sides.iter().find_map(|side| side.host.tls_folder());
        let host = site.side(*kind, &scenario.server, tls_folder).await?;
        sides.push(Side::enlist(kind.name(), host, scenario, plan).await?);
    }
    Ok(sides)
}

async fn measure(
    plan: &ComparePlan,
    transport: Transport,
    sides: &mut [Side],
    rounds: &mut Vec<Round>,
) -> anyhow::Result<()> {
    let spinner = progress::spinner("measuring");
    for number in 0..plan.rounds {
        let mut round = vec![None; sides.len()];
        for index in order(number, sides.len()) {
            let side = &mut sides[index];
            spinner.set_message(format!("round {} of {}: {}", number + 1, plan.rounds, side.name));
            round[index] = Some(side.measure(plan, transport).await?);
        }
        rounds.push(round.into_iter().flatten().collect());
    }
    spinner.finish_and_clear();
    Ok(())
}

/// One of the sides; a server that was started for it ends when this is dropped.
struct Side {
    name: &'static str,
    host: Host,
    fleet: Arc<Fleet>,
    /// Of all rounds.
    latency_us: Histogram<u64>,
}

impl Side {
    /// Registers its agents, if these are to beat.
    async fn enlist(name: &'static str, host: Host, scenario: &Scenario, plan: &ComparePlan) -> anyhow::Result<Self> {
        let fleet = match plan.operation {
            Operation::Register => Fleet::nobody(&host.token),
            Operation::Beat | Operation::Report(_) | Operation::Deregister => {
                bulk(&host, scenario).register(scenario.agents, scenario.credentials).await?
            }
        };
        Ok(Self { name, host, fleet: Arc::new(fleet), latency_us: Tally::new().latency_us })
    }

    async fn measure(&mut self, plan: &ComparePlan, transport: Transport) -> anyhow::Result<Sample> {
        let (tally, most) = (SharedTally::new(), Arc::new(AtomicU64::new(u64::MAX)));
        let load = ClosedLoop {
            target: self.host.target.clone(),
            fleet: self.fleet.clone(),
            operation: plan.operation,
            transport,
            most: most.clone(),
        };
        let begun_with = self.host.target.opened();
        let mut load = load.start(&tally);
        tokio::time::sleep(WARM_UP).await;
        let meter = Meter::start(&mut self.host).await?;
        let begun = Instant::now();
        // Connections that are kept come about in the warm-up: what TLS has done for them is told all the same.
        let before = match transport.keep_alive {
            KeepAlive::Yes if self.host.target.is_tls() => begun_with,
            KeepAlive::Yes | KeepAlive::No => self.host.target.opened(),
        };
        let warm = tally.lock().take();
        most.store(warm.successes() + plan.most, Ordering::Relaxed);
        let sending = async { while load.join_next().await.is_some() {} };
        // Earlier than that if all were sent.
        let _ = tokio::time::timeout(plan.duration, sending).await;
        let (elapsed, tally) = (begun.elapsed(), tally.lock().take());
        let opened = self.host.target.opened().since(before);
        let successes = tally.successes();
        let cost = meter.stop(&mut self.host, successes.max(1)).await?;
        drop(load);
        if let Some(failure) = warm.first_failure.as_ref().or(tally.first_failure.as_ref()) {
            let (failed, all) = (warm.failures() + tally.failures(), warm.successes() + successes);
            bail!("{failed} requests failed on the side `{}`, and {all} did not: {failure}", self.name);
        }
        if successes == 0 {
            bail!("nothing was answered on the side `{}`", self.name);
        }
        self.latency_us.add(&tally.latency_us)?;
        Ok(Sample { per_second: successes as f64 / elapsed.as_secs_f64(), cost, opened })
    }

    /// Ends its server in order; deregisters the agents from one that goes on.
    async fn end(self, scenario: &Scenario) -> anyhow::Result<()> {
        if !self.host.is_own() && scenario.deregister {
            return bulk(&self.host, scenario).deregister(&self.fleet).await;
        }
        self.host.end().await
    }
}

fn bulk(host: &Host, scenario: &Scenario) -> Bulk {
    Bulk { target: host.target.clone(), token: host.token.clone(), connections: scenario.transport.connections }
}

fn latencies(sides: &[Side]) -> Table {
    let names = QUANTILES.map(|(name, _)| name);
    let mut table = Table::with_headings(["side"].into_iter().chain(names).chain(["max", "registrations"]));
    for side in sides {
        let latency = &side.latency_us;
        let quantiles = QUANTILES.map(|(_, quantile)| units::micros(latency.value_at_quantile(quantile)));
        let rest = [units::micros(latency.max()), units::count(latency.len())];
        table.row(std::iter::once(side.name.to_owned()).chain(quantiles).chain(rest));
    }
    table
}

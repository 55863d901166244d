//! Agents that keep a connection each, and hardly use it: what a server pays for a connection that is idle.
//!
//! Sides are measured one after the other, the fleet registered before, so that agents are no part of the figure. Half the
//! connections come first and then all of them: where both halves cost the same the cost is linear, and may be
//! extrapolated.

mod fit;
mod found;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::ProgressBar;
use tokio_util::sync::CancellationToken;

use crate::load::{Bulk, Fleet, Kept, Operation, Tally};
use crate::progress;
use crate::scenario::{IdlePlan, Scenario, SideKind};
use crate::server::{Host, Meter, Room, ServerPlan};
use crate::units;

use found::{Again, Found, Memory, thirds};

use super::stage::Stage;
use super::{Ended, Outcome, Record, Site};

/// Connections that register the fleet: few, as their memory is used again by those that are measured.
const REGISTERING: usize = 16;
/// Until allocators and write-behind have come to rest.
const REST: Duration = Duration::from_secs(2);
/// How often memory is looked at.
const SAMPLING: Duration = Duration::from_millis(100);
/// Connections of a worker that a server allows by itself, and those it can be told to allow.
const CONNECTIONS: u64 = 25_000;
const MOST_CONNECTIONS: u64 = 1_000_000;
/// What servers keep an idle connection for at least.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
const LONGEST_KEEP_ALIVE: Duration = Duration::from_secs(3_600);

struct Side {
    name: &'static str,
    host: Host,
}

pub(super) async fn run(
    scenario: &Scenario,
    plan: &IdlePlan,
    mut site: Site,
    stop: &CancellationToken,
) -> anyhow::Result<Outcome> {
    let spinner = progress::spinner("starting");
    let mut sides = start(scenario, &plan.sides, &mut site).await?;
    let hosts: Vec<_> = sides.iter().map(|side| (side.name, &side.host)).collect();
    let (agents, fewer) = fit::fit(scenario.agents, &fit::bounds(&hosts, plan.reconnect)?);
    anyhow::ensure!(agents >= 2, "too few connections: {}", fewer.unwrap_or_default());
    let (stage, version) = (Stage::set(&sides[0].host, Instant::now()), sides[0].host.version().await);
    if let Some(fewer) = fewer {
        eprintln!("{fewer}");
        stage.note(fewer);
    }
    let mut found = Vec::new();
    let measuring = async {
        for side in &mut sides {
            found.push(side.measure(scenario, plan, agents, &spinner).await.with_context(|| side.name)?);
        }
        anyhow::Ok(())
    };
    tokio::select! {
        measured = measuring => measured?,
        () = stop.cancelled() => {}
    }
    spinner.finish_and_clear();
    stage.interrupted.set(stop.is_cancelled());
    let target =
        sides.iter().map(|side| format!("{} ({})", side.name, side.host.target)).collect::<Vec<_>>().join(", ");
    let mut ended = Ok(());
    for side in sides {
        ended = ended.and(side.host.end().await);
    }
    let mut record = Record::new(stage);
    if found.is_empty() {
        return Err(Ended::Interrupted).context("nothing was measured");
    }
    record.tables.add("Idle connections", found::table(&found));
    let first = found.remove(0);
    record.figures = first.figures();
    record.tally = first.tally;
    let ended_badly = ended.err().map(|error: anyhow::Error| format!("{error:#}"));
    Ok(Outcome { ended_badly, ..Outcome::of(scenario, record, target, version) })
}

/// Starts all: the baseline uses the certificate of an engine, which must be there.
async fn start(scenario: &Scenario, kinds: &[SideKind], site: &mut Site) -> anyhow::Result<Vec<Side>> {
    let room = Room {
        connections: scenario.agents.clamp(CONNECTIONS, MOST_CONNECTIONS),
        keep_alive: (scenario.interval * 3).clamp(KEEP_ALIVE, LONGEST_KEEP_ALIVE),
    };
    let server = ServerPlan { room: Some(room), ..scenario.server.clone() };
    let mut sides: Vec<Side> = Vec::new();
    for kind in kinds {
        let tls_folder = sides.iter().find_map(|side| side.host.tls_folder());
        let host = site.side(*kind, &server, tls_folder).await?;
        sides.push(Side { name: kind.name(), host });
    }
    Ok(sides)
}

impl Side {
    async fn measure(
        &mut self,
        scenario: &Scenario,
        plan: &IdlePlan,
        agents: u64,
        spinner: &ProgressBar,
    ) -> anyhow::Result<Found> {
        let name = self.name;
        let doing = |what: String| spinner.set_message(format!("{name}: {what}"));
        doing(format!("registering {} agents", units::count(agents)));
        let fleet = self.enlist(scenario, agents).await?;
        let resting = async {
            tokio::time::sleep(REST).await;
            Ok(())
        };
        let ((), samples) = self.watch(resting).await?;
        let without = thirds(&samples).1;

        let before = self.host.target.opened();
        let mut tally = Tally::new();
        let mut kept = Kept::of(&self.host.target, &fleet, scenario.interval, scenario.transport);
        // Each connects with its first beat, of which there is one in an interval.
        let half = agents / 2;
        doing(format!("connecting {} agents", units::count(half)));
        let meter = Meter::start(&mut self.host).await?;
        kept.grow_to(usize::try_from(half)?);
        let connecting = kept.beat(scenario.interval).await?;
        let opening = meter.stop(&mut self.host, half).await?;
        tally.add(connecting.only_failures());
        doing(format!("{} connections", units::count(half)));
        let (beaten, samples) = self.watch(kept.beat(plan.duration)).await?;
        let with_half = thirds(&samples).1;
        tally.add(beaten);

        doing(format!("connecting {} agents", units::count(agents - half)));
        kept.grow_to(usize::try_from(agents)?);
        tally.add(kept.beat(scenario.interval).await?.only_failures());
        doing(format!("{} connections", units::count(agents)));
        let meter = Meter::start(&mut self.host).await?;
        let (beaten, samples) = self.watch(kept.beat(plan.duration)).await?;
        let cost = meter.stop(&mut self.host, beaten.successes().max(1)).await?;
        let (with_all_at_first, with_all) = thirds(&samples);
        tally.add(beaten);

        let opened = self.host.target.opened().since(before);
        let again = if plan.reconnect {
            doing("connecting all of them again".to_owned());
            Some(self.reconnect(scenario, &kept, agents, &mut tally).await?)
        } else {
            None
        };
        let memory = Memory { agents, half, without, with_half, with_all, with_all_at_first };
        let reopened = opened.connections.saturating_sub(agents);
        Ok(Found { name, memory, cost, opening, opened, reopened, tally, again })
    }

    /// Registers the agents, and lets each beat once: an agent that has beaten takes more than one that has not.
    async fn enlist(&self, scenario: &Scenario, agents: u64) -> anyhow::Result<Arc<Fleet>> {
        let (target, token) = (self.host.target.clone(), self.host.token.clone());
        let bulk = Bulk { target, token, connections: REGISTERING };
        let fleet = Arc::new(bulk.register(agents, scenario.credentials).await?);
        bulk.send("beating", &fleet, Operation::Beat, agents).await?;
        Ok(fleet)
    }

    /// Closes all connections, and lets each agent connect and beat once more.
    async fn reconnect(
        &mut self,
        scenario: &Scenario,
        kept: &Kept,
        agents: u64,
        tally: &mut Tally,
    ) -> anyhow::Result<Again> {
        let before = self.host.target.opened();
        let meter = Meter::start(&mut self.host).await?;
        kept.disconnect().await;
        let connecting = kept.beat(scenario.interval).await?;
        let cost = meter.stop(&mut self.host, agents).await?;
        tally.add(connecting.only_failures());
        let opened = self.host.target.opened().since(before);
        Ok(Again { opened, cost, resident: self.host.resident_bytes()? })
    }

    /// Does something, and looks at the memory of the server meanwhile.
    async fn watch<Done>(&self, doing: impl Future<Output = anyhow::Result<Done>>) -> anyhow::Result<(Done, Vec<u64>)> {
        let mut samples = Vec::new();
        let mut sample = tokio::time::interval(SAMPLING);
        tokio::pin!(doing);
        loop {
            tokio::select! {
                done = &mut doing => return Ok((done?, samples)),
                _ = sample.tick() => samples.push(self.host.resident_bytes()?),
            }
        }
    }
}

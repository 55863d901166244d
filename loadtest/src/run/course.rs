//! What happens while agents beat: some fall silent, the server is killed, its store goes away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::load::{Fleet, OpenLoop, Schedule, Silence};
use crate::scenario::{Course, Incident, Scenario, SilencePlan};
use crate::server::{Host, Scrape};
use crate::units;

use super::Stage;
use super::roll::{self, Roll};

/// Requests that were on their way when the server came back may still fail; what happened last is told.
const SETTLE: Duration = Duration::from_secs(1);
/// How often metrics are looked at that tell the end of something.
const POLL: Duration = Duration::from_millis(20);
/// Silence is waited for at most so many timeouts, and so long beyond them.
const NOTICED_WITHIN: (u32, Duration) = (5, Duration::from_secs(30));

#[derive(Debug, Default)]
pub(super) struct Findings {
    /// How many agents fell silent.
    pub(super) silent: u64,
    /// Whether all of them were, by the metrics.
    pub(super) are_noticed: bool,
    /// Who of them was seen as such at the end, and who else.
    pub(super) roll: Option<Roll>,
    /// From the last beat of those who came back until all were online, as far as looks once a second tell.
    pub(super) back: Option<Duration>,
    /// From the start after a kill to ready.
    pub(super) ready: Option<Duration>,
    /// From the return of the store until it had everything that was heard before.
    pub(super) written: Option<Duration>,
}

/// For how long to beat after the warm-up, and who falls silent.
pub(super) fn plan(scenario: &Scenario, agents: u64, warm_up: Duration) -> (Duration, Silence) {
    match &scenario.course {
        Course::Steady(duration) => (*duration, Silence::never()),
        Course::Restart(incident) | Course::Outage(incident) => (incident.duration, Silence::never()),
        Course::Silence(plan) => {
            let silent = plan.of(agents).clamp(1, agents);
            let from_beat = scenario.schedule.released(warm_up + plan.after);
            let (timeouts, more) = NOTICED_WITHIN;
            let together = plan.together.unwrap_or_default() + plan.back.unwrap_or_default();
            let longest = plan.after + together + scenario.server.timeout * timeouts + more;
            (longest, Silence::of(silent, agents, from_beat))
        }
        Course::Ramp(_) | Course::Compare(_) | Course::Idle(_) | Course::Surveyed => (Duration::ZERO, Silence::never()),
    }
}

pub(super) async fn follow(
    scenario: &Scenario,
    stage: &Stage,
    host: &mut Host,
    fleet: &Arc<Fleet>,
    silence: Silence,
) -> anyhow::Result<Findings> {
    let mut findings = Findings::default();
    match &scenario.course {
        Course::Steady(_) | Course::Ramp(_) | Course::Compare(_) | Course::Idle(_) | Course::Surveyed => {}
        Course::Silence(plan) => {
            let part = Arc::new(fleet.part(|agent| silence.includes(agent)));
            fall_silent(scenario, plan, stage, host, &part, &mut findings).await?;
            match plan.back {
                Some(within) if findings.are_noticed => {
                    // Before they come back: then nobody is silent any more.
                    findings.roll = roll::call(&mut host.api(), fleet, silence).await.ok();
                    come_back(scenario, within, stage, host, &part, &mut findings).await?;
                }
                // One timeout more, in which nobody else may be called silent.
                None if findings.are_noticed => {
                    stage.now_doing("waiting whether anybody else is called silent");
                    stage.wait_until(Instant::now() + scenario.server.timeout).await;
                }
                Some(_) | None => {}
            }
            stage.stop.cancel();
        }
        Course::Restart(incident) => findings.ready = restart(incident, stage, host).await?,
        Course::Outage(incident) => findings.written = outage(incident, stage, host).await?,
    }
    Ok(findings)
}

/// The silent ones send a last beat together, if that is wanted; then they are waited for to be noticed.
async fn fall_silent(
    scenario: &Scenario,
    plan: &SilencePlan,
    stage: &Stage,
    host: &Host,
    silent: &Arc<Fleet>,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    if !stage.wait_until(stage.zero + plan.after).await {
        return Ok(());
    }
    let count = silent.len();
    findings.silent = count;
    stage.note(format!("{} agents fall silent", units::count(count)));
    if let Some(together) = plan.together {
        beat_once(scenario, stage, host, silent, together).await?;
        stage.note("their last beats are in");
    }
    stage.now_doing(format!("waiting for {} silent agents to be noticed", units::count(count)));
    while stage.ledger().most_missing() < count {
        if !stage.wait_until(Instant::now() + POLL).await {
            return Ok(());
        }
    }
    stage.note("all have been noticed");
    findings.are_noticed = true;
    Ok(())
}

/// The silent ones beat again, and are waited for to be online.
async fn come_back(
    scenario: &Scenario,
    within: Duration,
    stage: &Stage,
    host: &Host,
    silent: &Arc<Fleet>,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    stage.note("they come back");
    stage.now_doing("waiting until all are online again");
    beat_once(scenario, stage, host, silent, within).await?;
    let beaten = Instant::now();
    while stage.ledger().missing() > 0 {
        if !stage.wait_until(Instant::now() + POLL).await {
            return Ok(());
        }
    }
    findings.back = Some(beaten.elapsed());
    stage.note("all are online again");
    // It is told to those who read, too.
    stage.wait_until(Instant::now() + SETTLE).await;
    Ok(())
}

/// A beat of each of these, within that time.
async fn beat_once(
    scenario: &Scenario,
    stage: &Stage,
    host: &Host,
    fleet: &Arc<Fleet>,
    within: Duration,
) -> anyhow::Result<()> {
    let load = OpenLoop::of(&host.target, fleet, Schedule::every(fleet.len(), within), scenario.transport, within);
    load.run(stage.tally.clone()).await
}

/// Kills the server and starts it again; returns how long it took to be ready.
async fn restart(incident: &Incident, stage: &Stage, host: &mut Host) -> anyhow::Result<Option<Duration>> {
    if !stage.wait_until(stage.zero + incident.after).await {
        return Ok(None);
    }
    stage.note("kill -9");
    stage.now_doing("down");
    stage.tally.lock().disturbed = true;
    host.kill()?;
    if !stage.wait_until(Instant::now() + incident.down).await {
        return Ok(None);
    }
    stage.note("started again");
    stage.now_doing("starting");
    let ready = host.start_again().await?;
    stage.note(format!("ready after {}", units::duration(ready)));
    stage.now_doing("beating");
    stage.wait_until(Instant::now() + SETTLE).await;
    stage.tally.lock().disturbed = false;
    Ok(Some(ready))
}

/// Stops the server's Redis and starts it again; returns how long it took until everything heard before its return was
/// written to it.
async fn outage(incident: &Incident, stage: &Stage, host: &mut Host) -> anyhow::Result<Option<Duration>> {
    let mut metrics = host.metrics();
    if !stage.wait_until(stage.zero + incident.after).await {
        return Ok(None);
    }
    stage.note("Redis is stopped");
    stage.now_doing("without its store");
    stage.tally.lock().disturbed = true;
    host.redis()?.stop().await?;
    stage.wait_until(Instant::now() + incident.down).await;
    host.redis()?.start_again().await?;
    let back = Instant::now();
    stage.note("Redis is back");
    let mut written = None;
    while written.is_none() && stage.wait_until(Instant::now() + POLL).await {
        let since = back.elapsed();
        written = metrics.scrape().await.is_ok_and(|scrape| is_written(&scrape, since)).then(|| back.elapsed());
    }
    if let Some(written) = written {
        stage.note(format!("everything is written {} later", units::duration(written)));
    }
    stage.now_doing("beating");
    stage.wait_until(Instant::now() + SETTLE).await;
    stage.tally.lock().disturbed = false;
    Ok(written)
}

/// Whether the store has everything that was heard up to so long ago.
fn is_written(scrape: &Scrape, since: Duration) -> bool {
    let up = scrape.sum("guardbeat_store_up", &[]) == Some(1.0);
    up && scrape.sum("guardbeat_store_flush_age_seconds", &[]).is_some_and(|age| age <= since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_has_everything_once_it_was_flushed_after_its_return() {
        for (up, age_s, since_ms, written) in
            [(1, 0.1, 200, true), (1, 8.0, 200, false), (0, 0.0, 200, false), (1, 0.2, 200, true)]
        {
            let page = format!("guardbeat_store_up {up}\nguardbeat_store_flush_age_seconds {age_s}\n");
            let since = Duration::from_millis(since_ms);
            assert_eq!(is_written(&Scrape::parse(&page), since), written, "{page}");
        }
        assert!(!is_written(&Scrape::default(), Duration::MAX));
    }
}

//! What goes on beside the load, from the end of the warm-up to the end of the run; the probe's beats, reports of threats
//! and readers from its beginning.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::load::{Audience, Churn, Fleet, OpenLoop, Operation, Readers, Schedule, SharedTally, Tally, Transport};
use crate::scenario::{Beside as Plan, ListPlan, ProbePlan, ThreatsPlan};
use crate::server::{Listing, Probe};
use crate::units;
use crate::wire::Target;

use super::Stage;

/// The pause after a list that broke: a server that refuses at once is not to be asked without end.
const RETRY: Duration = Duration::from_millis(200);

#[derive(Default)]
pub(super) struct Beside {
    pub(super) churned: Option<Tally>,
    pub(super) probed: Option<Tally>,
    pub(super) lists: Option<Lists>,
    pub(super) reported: Option<Reported>,
    pub(super) audience: Option<Audience>,
}

pub(super) struct Reported {
    pub(super) tally: Tally,
    /// Threats in each.
    pub(super) events: u64,
}

impl Beside {
    pub(super) fn probed_beats(&self) -> f64 {
        self.probed.as_ref().map_or(0.0, |tally| tally.successes() as f64)
    }

    pub(super) fn first_failure(&self) -> Option<String> {
        let of = |tally: &Tally| tally.first_failure.clone();
        let churned = self.churned.as_ref().and_then(of);
        let probed = || self.probed.as_ref().and_then(of);
        let lists = || self.lists.as_ref()?.first_failure.clone();
        let reported = || self.reported.as_ref().and_then(|reported| of(&reported.tally));
        let audience = || self.audience.as_ref()?.first_failure.clone();
        churned.or_else(probed).or_else(lists).or_else(reported).or_else(audience)
    }
}

/// Lists that were read, or not.
#[derive(Debug, Default)]
pub(super) struct Lists {
    /// Those that came to their end.
    pub(super) whole: u64,
    pub(super) longest: Duration,
    /// Those that did not; what was said of the first.
    pub(super) broken: u64,
    pub(super) first_failure: Option<String>,
}

/// The probe's agents, and what they do.
pub(super) type Probing = Option<(ProbePlan, Arc<Fleet>)>;

pub(super) struct Going<'a> {
    pub(super) stage: &'a Stage,
    pub(super) target: Arc<Target>,
    pub(super) token: Arc<str>,
    pub(super) warm_up: Duration,
    /// Without the warm-up.
    pub(super) duration: Duration,
}

impl Going<'_> {
    pub(super) async fn all(&self, plan: &Plan, fleet: &Arc<Fleet>, probing: Probing) -> anyhow::Result<Beside> {
        let (churned, probed, lists, reported, audience) = tokio::try_join!(
            self.come_and_go(fleet, plan.churn_per_second),
            self.probe(probing),
            self.list(plan.list),
            self.report(fleet, plan.threats),
            self.read_events(plan.readers),
        )?;
        Ok(Beside { churned, probed, lists, reported, audience })
    }

    /// Lets agents come and go.
    async fn come_and_go(&self, fleet: &Arc<Fleet>, per_second: Option<f64>) -> anyhow::Result<Option<Tally>> {
        let Some(per_second) = per_second else { return Ok(None) };
        self.stage.wait_until(self.stage.zero).await;
        let (target, token, stop) = (self.target.clone(), self.token.clone(), self.stage.done.clone());
        Churn { target, token, fleet: fleet.clone(), per_second, stop }.run(SharedTally::new()).await.map(Some)
    }

    /// Beats one by one, for as long as the others do.
    async fn probe(&self, probing: Probing) -> anyhow::Result<Option<Tally>> {
        let Some((plan, fleet)) = probing else { return Ok(None) };
        let load = self.load(&fleet, Operation::Beat, plan.schedule(), plan.connections);
        load.run(self.stage.probed.clone()).await?;
        let tally = self.stage.probed.lock().take();
        Ok(Some(tally))
    }

    /// Reports threats of the fleet's agents, for as long as these beat.
    async fn report(&self, fleet: &Arc<Fleet>, plan: Option<ThreatsPlan>) -> anyhow::Result<Option<Reported>> {
        let Some(plan) = plan else { return Ok(None) };
        let load = self.load(fleet, Operation::Report(plan.reports), plan.schedule(), plan.connections);
        let tally = SharedTally::new();
        load.run(tally.clone()).await?;
        let tally = tally.lock().take();
        Ok(Some(Reported { tally, events: plan.reports.events }))
    }

    fn load(&self, fleet: &Arc<Fleet>, operation: Operation, schedule: Schedule, connections: usize) -> OpenLoop {
        OpenLoop {
            operation,
            warm_up: self.warm_up,
            stop: self.stage.stop.clone(),
            ..OpenLoop::of(&self.target, fleet, schedule, Transport::kept(connections), self.warm_up + self.duration)
        }
    }

    /// Lets so many read the events until the run is over, and until each of them has what the others have.
    async fn read_events(&self, count: Option<u64>) -> anyhow::Result<Option<Audience>> {
        let Some(count) = count else { return Ok(None) };
        let stop = CancellationToken::new();
        let (target, token) = (self.target.clone(), self.token.clone());
        let reading = Readers { target, token, count, stop: stop.clone() }.run();
        let ending = async {
            self.stage.over().await;
            stop.cancel();
        };
        let (audience, ()) = tokio::join!(reading, ending);
        let audience = audience?;
        self.stage.note(format!(
            "{} readers have seen {} events each; all together read {} bytes",
            units::count(audience.stayed),
            units::count(audience.events),
            units::count(audience.bytes)
        ));
        Ok(Some(audience))
    }

    /// Reads the whole list until the run is over; the last one, which is not finished by then, does not count.
    async fn list(&self, plan: Option<ListPlan>) -> anyhow::Result<Option<Lists>> {
        let Some(plan) = plan else { return Ok(None) };
        let stage = self.stage;
        let mut lists = Lists::default();
        let mut next = stage.zero;
        while stage.wait_until(next).await {
            let read = tokio::select! {
                read = Listing::read_aside(Probe::with_token(self.target.clone(), &self.token)) => read,
                () = stage.over() => break,
            };
            match read {
                Ok(listing) => {
                    if lists.whole == 0 {
                        stage.note(format!(
                            "the list has {} agents and {} bytes, and took {}",
                            units::count(listing.agents),
                            units::count(listing.bytes),
                            units::duration(listing.time)
                        ));
                    }
                    lists.whole += 1;
                    lists.longest = lists.longest.max(listing.time);
                    next = Instant::now() + plan.pause;
                }
                Err(error) => {
                    lists.broken += 1;
                    lists.first_failure.get_or_insert_with(|| format!("{error:#}"));
                    next = Instant::now() + RETRY;
                }
            }
        }
        Ok(Some(lists))
    }
}

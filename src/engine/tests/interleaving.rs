//! Reports, policies, new registrations and restarts in random order: every count is that of a simple model.

use std::{sync::Arc, time::Duration};

use proptest::{collection::vec, option, prelude::*, sample::select};
use tokio::time::sleep;

use super::{
    BEGINNING_MS, RETENTION_MS, on_a_worker,
    policies::{fetch, pending, publish, register_machine},
    shown, start_at,
    unknown_outcome::event,
};
use crate::engine::{Credential, EngineHandle};
use crate::{
    fleet::{AgentId, MachineKey, PolicyVersion},
    limits::THREAT_LOG_TICK_MS,
    store::{MemoryStore, Store},
    threats::{Period, ReportedThreat, Severity},
};

/// What happens in a fleet of three.
#[derive(Clone, Debug)]
enum Step {
    Publish(Option<&'static str>),
    Fetch(usize),
    Report {
        agent: usize,
        severity: Severity,
        kind: &'static str,
        events: usize,
    },
    Reregister(usize),
    Leave(usize),
    /// The server ends, with or without time to write everything down, and is back after so many hours by its clock; that
    /// may have been set back.
    Restart {
        crash: bool,
        hours: i64,
    },
}

const AGENTS: [Option<&str>; 3] = [Some("acme"), Some("bolt"), None];
const HOUR_MS: i64 = 3_600_000;

fn step() -> impl Strategy<Value = Step> {
    let agent = || 0..AGENTS.len();
    let report = (agent(), select(&Severity::ALL[..]), select(&["scan", "virus"][..]), 1..4_usize);
    prop_oneof![
        3 => option::of(select(&["acme", "bolt", "nobody"][..])).prop_map(Step::Publish),
        3 => agent().prop_map(Step::Fetch),
        5 => report.prop_map(|(agent, severity, kind, events)| Step::Report { agent, severity, kind, events }),
        1 => agent().prop_map(Step::Reregister),
        1 => agent().prop_map(Step::Leave),
        2 => (any::<bool>(), select(&[-696, -200, -20, -2, 0, 1, 5, 20, 100, 500, 720][..]))
            .prop_map(|(crash, hours)| Step::Restart { crash, hours }),
    ]
}

/// One threat, as the model remembers it.
struct Reported {
    /// What the clock said when it was reported.
    at_ms: u64,
    by: AgentId,
    org: Option<&'static str>,
    severity: Severity,
    kind: &'static str,
}

#[derive(Default)]
struct Model {
    /// The tenant of every policy.
    published: Vec<Option<&'static str>>,
    /// How many policies there were when each agent fetched last.
    fetched_at: [usize; AGENTS.len()],
    /// In the order in which they were reported.
    threats: Vec<Reported>,
    /// How many of them this run found, and when it began.
    found: (usize, u64),
}

impl Model {
    fn pending(&self, agent: usize) -> usize {
        let since = &self.published[self.fetched_at[agent]..];
        since.iter().filter(|org| org.is_none() || **org == AGENTS[agent]).count()
    }

    fn in_force(&self, agent: usize) -> Option<u32> {
        let newest = |org: Option<&str>| self.published.iter().rposition(|of| *of == org);
        newest(AGENTS[agent]).or(newest(None)).map(|index| index as u32 + 1)
    }

    fn threats_of(&self, period: Period, now_ms: u64) -> impl Iterator<Item = &Reported> {
        self.with_times().filter(move |(_, at_ms)| now_ms - at_ms <= period.millis()).map(|(threat, _)| threat)
    }

    /// The threats, and when each was taken in; the newest first.
    fn with_times(&self) -> impl Iterator<Item = (&Reported, u64)> {
        let mut at_ms = u64::MAX;
        self.threats.iter().enumerate().rev().map(move |(index, threat)| {
            // No later than those after it; and if it turned out to be from the future, no later than that.
            at_ms = at_ms.min(threat.at_ms);
            if index < self.found.0 && self.found_the_future() {
                at_ms = at_ms.min(self.found.1);
            }
            (threat, at_ms)
        })
    }

    /// A run begins. What is too old by its clock is gone for good, whatever the clock says later.
    fn begin(&mut self, now_ms: u64) {
        self.found = (self.threats.len(), now_ms);
        let kept = self.with_times().take_while(|(_, at_ms)| now_ms - at_ms <= RETENTION_MS).count();
        self.threats.drain(..self.threats.len() - kept);
        self.found.0 = kept;
    }

    fn found_the_future(&self) -> bool {
        let (found, began_ms) = self.found;
        self.threats[..found].last().is_some_and(|newest| newest.at_ms > began_ms)
    }

    async fn compare(&self, engine: &EngineHandle) {
        for (agent, org) in AGENTS.into_iter().enumerate() {
            let id = agent_of(engine, agent).await;
            assert_eq!(pending(engine, id).await as usize, self.pending(agent));
            let shown = shown(engine, id).await;
            assert_eq!(shown.policy.map(PolicyVersion::get), self.in_force(agent));
            let recent = self.threats_of(Period::Day1, now_ms(engine)).filter(|threat| threat.by == id).count();
            assert_eq!(shown.recent_threats, recent as u64);
            self.compare_summaries(engine, org).await;
        }
        self.compare_summaries(engine, None).await;
    }

    /// Of one tenant; or of the whole fleet, without one.
    async fn compare_summaries(&self, engine: &EngineHandle, org: Option<&str>) {
        for period in Period::ALL {
            let found = engine.threat_summary(org.map(Into::into), period).await.unwrap();
            let in_scope = |threat: &&Reported| org.is_none() || threat.org == org;
            let of = |matches: &dyn Fn(&Reported) -> bool| {
                let threats = self.threats_of(period, now_ms(engine)).filter(in_scope);
                threats.filter(|threat| matches(threat)).count() as u64
            };
            assert_eq!(found.total, of(&|_| true), "{org:?} {period:?}");
            assert_eq!(found.by_severity, Severity::ALL.map(|severity| of(&|threat| threat.severity == severity)));
            for (kind, count) in &found.by_kind {
                assert_eq!(*count, of(&|threat| *threat.kind == **kind));
            }
            assert_eq!(found.by_kind.iter().map(|(_, count)| count).sum::<u64>(), found.total);
            assert_eq!(found.top_agents.iter().map(|(_, _, count)| count).sum::<u64>(), found.total);
        }
    }
}

fn now_ms(engine: &EngineHandle) -> u64 {
    engine.clock().wall().as_millis().try_into().unwrap()
}

/// The agent of this number, which registers if it has not yet.
async fn agent_of(engine: &EngineHandle, agent: usize) -> AgentId {
    let key = MachineKey::new(AGENTS[agent], &agent.to_string());
    let known = engine.fleet.machines.pin().get(&key).copied();
    match known {
        Some(id) => id,
        None => register_machine(engine, AGENTS[agent], &agent.to_string()).await,
    }
}

/// Takes the steps up to the next restart, and checks after each. Answers when the next run begins, if there is one.
async fn live(
    store: &Arc<dyn Store>,
    began_ms: u64,
    steps: &mut impl Iterator<Item = Step>,
    model: &mut Model,
) -> Option<u64> {
    let engine = start_at(store.clone(), began_ms).await;
    model.begin(began_ms);
    loop {
        model.compare(&engine).await;
        match steps.next()? {
            Step::Publish(org) => {
                model.published.push(org);
                assert_eq!(publish(&engine, org).await.version.get() as usize, model.published.len());
            }
            Step::Fetch(agent) => {
                let id = agent_of(&engine, agent).await;
                assert_eq!(fetch(&engine, id).await, model.in_force(agent));
                model.fetched_at[agent] = model.published.len();
            }
            Step::Report { agent, severity, kind, events } => {
                let id = agent_of(&engine, agent).await;
                let report = vec![ReportedThreat { severity, kind: kind.into(), ..event() }; events];
                let at_ms = now_ms(&engine);
                assert_eq!(engine.report(id, Credential::Admin, report).await.unwrap().len(), events);
                let reported = |_| Reported { at_ms, by: id, org: AGENTS[agent], severity, kind };
                model.threats.extend((0..events).map(reported));
            }
            Step::Reregister(agent) => drop(register_machine(&engine, AGENTS[agent], &agent.to_string()).await),
            Step::Leave(agent) => {
                let id = agent_of(&engine, agent).await;
                engine.deregister(id, Credential::Admin).await.unwrap();
                // Whoever comes after it is new.
                model.fetched_at[agent] = 0;
            }
            Step::Restart { crash, hours } => {
                if crash {
                    // The next flush has what was fetched, and the threat log's next tick what was dropped; the runtime ends
                    // with all else that is on it.
                    sleep(Duration::from_millis(THREAT_LOG_TICK_MS + 150)).await;
                } else {
                    engine.drain().await.unwrap();
                }
                return now_ms(&engine).checked_add_signed(hours * HOUR_MS).or(Some(0));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn every_count_is_that_of_a_simple_model(steps in vec(step(), 1..25)) {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let (mut steps, mut model) = (steps.into_iter(), Model::default());
        let mut next = Some(BEGINNING_MS);
        while let Some(began_ms) = next {
            next = on_a_worker(live(&store, began_ms, &mut steps, &mut model));
        }
    }
}

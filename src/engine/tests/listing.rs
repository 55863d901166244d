//! Filtered listings against a look at every agent, in fleets whose agents come, change and go.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use proptest::prelude::*;
use tokio::time::sleep;

use super::{FROM, beat, on_a_worker, request, start};
use crate::engine::{AgentView, Credential, EngineHandle, ListQuery};
use crate::{
    fleet::{AgentFilter, AgentId, Registration, RegistrationRequest, Status, Text},
    store::MemoryStore,
};

const TAGS: [&str; 4] = ["production", "web", "db", "rack-1"];
const ORGS: [&str; 2] = ["acme", "globex"];

/// Something that happens to a fleet. Agents are chosen by their number among those there are.
#[derive(Clone, Debug)]
enum Event {
    /// Of a machine that is known, this is a re-registration.
    Register {
        machine: u8,
        org: Option<&'static str>,
        tags: Vec<&'static str>,
    },
    Beat(usize),
    Deregister(usize),
    /// Agents grow stale, and offline.
    Wait(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let org = proptest::option::of(proptest::sample::select(&ORGS[..]));
    let tags = proptest::sample::subsequence(TAGS.to_vec(), 0..=TAGS.len());
    prop_oneof![
        4 => (0..12_u8, org, tags).prop_map(|(machine, org, tags)| Event::Register { machine, org, tags }),
        2 => any::<usize>().prop_map(Event::Beat),
        1 => any::<usize>().prop_map(Event::Deregister),
        1 => (20..200_u64).prop_map(Event::Wait),
    ]
}

fn filter() -> impl Strategy<Value = AgentFilter> {
    let status = proptest::option::of(proptest::sample::select(&Status::ALL[..]));
    let org = proptest::option::of(proptest::sample::select(vec![ORGS[0], ORGS[1], "nobody's"]));
    let tags = proptest::sample::subsequence(vec![TAGS[0], TAGS[1], TAGS[2], TAGS[3], "nobody's"], 0..=2);
    (status, org, tags).prop_map(|(status, org, tags)| AgentFilter {
        status,
        org_id: org.map(Into::into),
        tags: tags.into_iter().map(Into::into).collect(),
    })
}

fn write_row(view: &AgentView<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(&view.agent.id().printed());
}

struct Fleet {
    engine: EngineHandle,
    ids: BTreeSet<AgentId>,
}

impl Fleet {
    async fn empty() -> Self {
        Self { engine: start(Arc::new(MemoryStore::default())).await, ids: BTreeSet::new() }
    }

    async fn apply(&mut self, event: Event) {
        let chosen = |number: usize| self.ids.iter().copied().nth(number % self.ids.len().max(1));
        match event {
            Event::Register { machine, org, tags } => {
                let tags = tags.into_iter().map(|tag| Text::new(tag).unwrap()).collect();
                let org_id = org.map(|org| Text::new(org).unwrap());
                let request = RegistrationRequest { org_id, tags, ..request("web-1", Some(&machine.to_string())) };
                self.ids.insert(self.engine.register(request, FROM, true).await.unwrap().registration.id);
            }
            Event::Beat(number) => {
                if let Some(id) = chosen(number) {
                    beat(&self.engine, id).await;
                }
            }
            Event::Deregister(number) => {
                if let Some(id) = chosen(number) {
                    self.engine.deregister(id, Credential::Admin).await.unwrap();
                    self.ids.remove(&id);
                }
            }
            // Not to the moment at which a timer goes off, but past it.
            Event::Wait(seconds) => sleep(Duration::from_millis(seconds * 1_000 + 101)).await,
        }
    }

    /// The agents that match, found by asking each.
    async fn matching(&self, filter: &AgentFilter) -> BTreeSet<AgentId> {
        let mut matching = BTreeSet::new();
        for &id in &self.ids {
            let shown = self.engine.show(id, Credential::Admin).await.unwrap();
            let Registration { org_id, tags, .. } = shown.registration;
            if filter.status.is_none_or(|status| shown.status == status)
                && (filter.org_id.is_none() || filter.org_id == org_id)
                && filter.tags.iter().all(|wanted| tags.contains(wanted))
            {
                matching.insert(id);
            }
        }
        matching
    }

    /// The next rows of a listing, and where to go on.
    async fn page(
        &self,
        filter: &Arc<AgentFilter>,
        after: Option<AgentId>,
        rows: usize,
    ) -> (Vec<AgentId>, Option<AgentId>) {
        let chunk = self.engine.list(ListQuery { after, filter: filter.clone(), rows, write_row }).await.unwrap();
        let names = String::from_utf8(chunk.json).unwrap();
        let ids: Vec<AgentId> = names.split(',').skip(1).map(|name| name.parse().unwrap()).collect();
        assert_eq!((ids.len(), ids.last().copied()), (chunk.rows, chunk.last));
        assert!(ids.len() <= rows);
        (ids, chunk.resume_after)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_filtered_listing_is_what_a_look_at_every_agent_finds(
        events in proptest::collection::vec(event(), 0..60),
        filters in proptest::collection::vec(filter(), 8),
        rows in 1..9_usize,
    ) {
        on_a_worker(async {
            let mut fleet = Fleet::empty().await;
            for event in events {
                fleet.apply(event).await;
            }
            for filter in filters.into_iter().map(Arc::new) {
                let (mut listed, mut after) = (Vec::new(), None);
                loop {
                    let (ids, next) = fleet.page(&filter, after, rows).await;
                    listed.extend(ids);
                    match next {
                        Some(next) => after = Some(next),
                        None => break,
                    }
                }
                prop_assert_eq!(listed, fleet.matching(&filter).await.into_iter().collect::<Vec<_>>(), "{:?}", filter);
            }
            Ok(())
        })?;
    }

    /// Between the pages the fleet changes. Whoever matches all along is listed once; whoever is listed once matched; and the
    /// order is kept.
    #[test]
    fn paging_sees_every_agent_that_matches_all_along_exactly_once(
        before in proptest::collection::vec(event(), 0..40),
        between in proptest::collection::vec(event(), 0..40),
        filter in filter(),
        rows in 1..4_usize,
    ) {
        on_a_worker(async {
            let mut fleet = Fleet::empty().await;
            for event in before {
                fleet.apply(event).await;
            }
            let filter = Arc::new(filter);
            let mut between = between.into_iter();
            let mut always = fleet.matching(&filter).await;
            let mut ever = always.clone();
            let (mut listed, mut after) = (Vec::new(), None);
            loop {
                let (ids, next) = fleet.page(&filter, after, rows).await;
                listed.extend(ids);
                after = match next {
                    Some(next) => Some(next),
                    None => break,
                };
                if let Some(event) = between.next() {
                    fleet.apply(event).await;
                    let matching = fleet.matching(&filter).await;
                    always.retain(|id| matching.contains(id));
                    ever.extend(matching);
                }
            }
            prop_assert!(listed.is_sorted_by(|a, b| a < b), "{listed:?}");
            prop_assert!(listed.iter().all(|id| ever.contains(id)));
            prop_assert!(always.iter().all(|id| listed.contains(id)), "{always:?} {listed:?}");
            Ok(())
        })?;
    }
}

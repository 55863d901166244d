//! The history against a plain list that is gone through for every figure.

use std::{cmp::Reverse, collections::BTreeMap, net::IpAddr};

use proptest::{collection::vec, prelude::*};

use super::{history::Dropped, *};
use crate::{fleet::AgentId, limits::CLOCK_BACK_MAX_MS};

mod measure;

const HOUR: u64 = 3600 * 1000;
const DAY: u64 = 24 * HOUR;
const START_MS: u64 = 1_772_885_100_000;
const RETENTION: Retention = Retention { max_age_ms: 31 * DAY, max_bytes: 5_000 };

fn entry(id: ThreatId, org: Option<&str>, agent: u64, kind: &str) -> ThreatEntry {
    ThreatEntry {
        id,
        at_ms: None,
        agent: AgentId::new(agent),
        org: org.map(Into::into),
        hostname: format!("host-{agent}").into(),
        kind: kind.into(),
        severity: Severity::Low,
        source_ip: None,
        bytes: 100,
    }
}

fn all(scope: ThreatScope<'_>) -> Filter<'_> {
    Filter { scope, since_ms: None, severity: None, kind: None, agent: None }
}

/// What the history is to be.
struct Plain {
    /// In the order of their ids.
    entries: Vec<ThreatEntry>,
    /// The own time of every threat that there ever was.
    times: BTreeMap<ThreatId, u64>,
    now_ms: u64,
}

impl Plain {
    fn of<'a>(&'a self, scope: ThreatScope<'a>) -> impl Iterator<Item = &'a ThreatEntry> {
        self.entries.iter().filter(move |entry| match scope {
            ThreatScope::Fleet => true,
            ThreatScope::Tenant(org) => entry.org.as_deref() == org,
        })
    }

    /// No threat is of a later time than one that was taken in after it.
    fn time(&self, id: ThreatId) -> u64 {
        self.times.range(id..).map(|(_, own_ms)| *own_ms).min().unwrap_or(id.millis())
    }

    /// What is from the future is of now.
    fn advance(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        if let Some(mut newest) = self.times.last_entry()
            && *newest.get() > now_ms.saturating_add(CLOCK_BACK_MAX_MS)
        {
            newest.insert(now_ms);
        }
    }

    fn add(&mut self, entry: ThreatEntry) {
        self.times.insert(entry.id, entry.at_ms.unwrap_or(entry.id.millis()));
        let place = self.entries.partition_point(|other| other.id < entry.id);
        self.entries.insert(place, entry);
    }

    /// Drops what is too old or too much.
    fn trim(&mut self, retention: Retention) -> Vec<Trim> {
        let mut trims = BTreeMap::<Option<Box<str>>, Trim>::new();
        loop {
            let mut sizes = BTreeMap::<Option<&str>, u64>::new();
            self.entries
                .iter()
                .for_each(|entry| *sizes.entry(entry.org.as_deref()).or_default() += u64::from(entry.bytes));
            let too_old = |entry: &ThreatEntry| self.time(entry.id) + retention.max_age_ms < self.now_ms;
            let unwanted = |entry: &ThreatEntry| too_old(entry) || sizes[&entry.org.as_deref()] > retention.max_bytes;
            let Some(place) = self.entries.iter().position(unwanted) else { break };
            let aged = too_old(&self.entries[place]);
            let entry = self.entries.remove(place);
            let nothing = Dropped::default();
            let trim = trims.entry(entry.org.clone()).or_insert(Trim {
                org: entry.org.clone(),
                up_to: entry.id,
                aged: nothing,
                displaced: nothing,
            });
            trim.up_to = entry.id;
            let dropped = if aged { &mut trim.aged } else { &mut trim.displaced };
            dropped.count += 1;
            dropped.bytes += u64::from(entry.bytes);
        }
        trims.into_values().collect()
    }

    /// The figures of a window, without the names of equal counts.
    fn summary(&self, scope: ThreatScope<'_>, period: Period, most: usize) -> (u64, BySeverity, [Vec<u64>; 3]) {
        let since_ms = self.now_ms.saturating_sub(period.millis());
        let entries: Vec<_> = self.of(scope).filter(|entry| self.time(entry.id) >= since_ms).collect();
        let mut by_severity = BySeverity::default();
        entries.iter().for_each(|entry| by_severity[entry.severity.index()] += 1);
        let kinds = highest(entries.iter().map(|entry| &entry.kind), usize::MAX);
        let agents = highest(entries.iter().map(|entry| entry.agent), most);
        let ips = highest(entries.iter().filter_map(|entry| entry.source_ip), most);
        (entries.len() as u64, by_severity, [kinds, agents, ips])
    }
}

fn highest<K: Ord>(keys: impl Iterator<Item = K>, most: usize) -> Vec<u64> {
    let mut counts = BTreeMap::<K, u64>::new();
    keys.for_each(|key| *counts.entry(key).or_default() += 1);
    let mut counts: Vec<u64> = counts.into_values().collect();
    counts.sort_unstable_by_key(|count| Reverse(*count));
    counts.truncate(most);
    counts
}

/// What a client and the clock may do.
#[derive(Clone, Debug)]
enum Step {
    /// A threat, that much older than now.
    Add {
        age_ms: u64,
        org: usize,
        agent: u64,
        kind: usize,
        ip: Option<u8>,
        severity: usize,
        bytes: u32,
    },
    Remove {
        org: usize,
        picks: Vec<prop::sample::Index>,
    },
    Forward(u64),
    Back(u64),
}

const ORGS: [Option<&str>; 4] = [None, Some("acme"), Some("umbrella"), Some("initech")];
const KINDS: [&str; 4] = ["scan", "bruteforce", "malware", "exfiltration"];

fn step() -> impl Strategy<Value = Step> {
    let age = prop_oneof![4 => Just(0_u64), 2 => 0..2 * DAY, 1 => 0..40 * DAY];
    let place = (age, 0..ORGS.len(), 0_u64..6);
    let rest = (0..KINDS.len(), proptest::option::of(0_u8..5), 0_usize..4, 1_u32..600);
    let add = (place, rest).prop_map(|((age_ms, org, agent), (kind, ip, severity, bytes))| Step::Add {
        age_ms,
        org,
        agent,
        kind,
        ip,
        severity,
        bytes,
    });
    prop_oneof![
        12 => add,
        1 => (0..ORGS.len(), vec(any::<prop::sample::Index>(), 1..4)).prop_map(|(org, picks)| Step::Remove { org, picks }),
        3 => (0..2 * HOUR).prop_map(Step::Forward),
        1 => (0..9 * DAY).prop_map(Step::Forward),
        1 => prop_oneof![0..5_000_u64, 0..8 * DAY, Just(u64::MAX)].prop_map(Step::Back),
    ]
}

fn scopes() -> impl Iterator<Item = ThreatScope<'static>> {
    ORGS.into_iter().map(ThreatScope::Tenant).chain([ThreatScope::Fleet, ThreatScope::Tenant(Some("nobody"))])
}

fn check_figures(history: &mut History, plain: &Plain) -> Result<(), TestCaseError> {
    prop_assert_eq!(history.count(), plain.entries.len() as u64);
    prop_assert_eq!(history.bytes(), plain.entries.iter().map(|entry| u64::from(entry.bytes)).sum::<u64>());
    for period in Period::ALL {
        for scope in scopes() {
            let found = history.summary(scope, period, 3);
            let (total, by_severity, [kinds, agents, ips]) = plain.summary(scope, period, 3);
            prop_assert_eq!((found.total, found.by_severity, found.other_kinds), (total, by_severity, 0));
            prop_assert_eq!(found.by_kind.iter().map(|(_, count)| *count).collect::<Vec<_>>(), kinds);
            prop_assert_eq!(found.top_agents.iter().map(|(_, _, count)| *count).collect::<Vec<_>>(), agents);
            prop_assert_eq!(found.top_ips.iter().map(|(_, count)| *count).collect::<Vec<_>>(), ips);
            for (agent, hostname, count) in found.top_agents {
                let since_ms = plain.now_ms.saturating_sub(period.millis());
                let theirs = plain.of(scope).filter(|entry| entry.agent == agent && plain.time(entry.id) >= since_ms);
                prop_assert_eq!(theirs.count() as u64, count);
                prop_assert_eq!(&*hostname, format!("host-{}", agent.get()));
            }
        }
        let (total, by_severity, _) = plain.summary(ThreatScope::Fleet, period, 0);
        prop_assert_eq!(history.totals(period), (total, by_severity));
    }
    for agent in (0..7).map(AgentId::new) {
        let since_ms = plain.now_ms.saturating_sub(DAY);
        let recent = plain.entries.iter().filter(|entry| entry.agent == agent && plain.time(entry.id) >= since_ms);
        prop_assert_eq!(history.recent(agent), recent.count() as u64);
    }
    Ok(())
}

fn check_query(
    history: &History,
    plain: &Plain,
    filter: &Filter<'_>,
    limit: usize,
    budget: usize,
) -> Result<(), TestCaseError> {
    let matching = plain.of(filter.scope).filter(|entry| {
        filter.since_ms.is_none_or(|since_ms| plain.time(entry.id) >= since_ms)
            && filter.severity.is_none_or(|severity| entry.severity == severity)
            && filter.kind.is_none_or(|kind| &*entry.kind == kind)
            && filter.agent.is_none_or(|agent| entry.agent == agent)
    });
    let mut expected: Vec<_> =
        matching.map(|entry| (ThreatKey { org: entry.org.clone(), id: entry.id }, plain.time(entry.id))).collect();
    expected.reverse();

    let (mut found, mut before) = (Vec::new(), None);
    for _ in 0..=plain.entries.len() {
        let page = history.query(filter, before, limit, budget);
        prop_assert!(page.threats.len() <= limit);
        found.extend(page.threats);
        before = page.resume_before;
        if before.is_none() {
            break;
        }
    }
    prop_assert_eq!(before, None, "every call makes some headway");
    prop_assert_eq!(found, expected);
    Ok(())
}

proptest! {
    #[test]
    fn every_figure_is_that_of_the_threats_it_is_about(
        steps in vec(step(), 1..80),
        since in proptest::option::of(0..40 * DAY),
        (org, severity, kind, agent) in (0..6_usize, 0..6_usize, 0..6_usize, 0..9_u64),
        (limit, budget) in (1..8_usize, 1..12_usize),
    ) {
        let mut plain = Plain { entries: Vec::new(), times: BTreeMap::new(), now_ms: START_MS };
        let mut history = History::new(RETENTION, START_MS);
        let mut last = None;
        for step in steps {
            let mut trims = Vec::new();
            match step {
                Step::Add { age_ms, org, agent, kind, ip, severity, bytes } => {
                    let mut id = ThreatId::after(last.filter(|_| age_ms == 0), plain.now_ms.saturating_sub(age_ms));
                    while plain.entries.iter().any(|entry| entry.id == id) {
                        id = ThreatId::new(id.get() + 1);
                    }
                    last = last.max(Some(id));
                    let entry = ThreatEntry {
                        at_ms: history.own_time(id, plain.now_ms).filter(|_| age_ms == 0),
                        severity: Severity::ALL[severity],
                        source_ip: ip.map(|ip| IpAddr::from([10, 0, 0, ip])),
                        bytes,
                        ..entry(id, ORGS[org], agent, KINDS[kind])
                    };
                    plain.add(entry.clone());
                    trims.extend(history.add(entry.clone()));
                    if trims.is_empty() {
                        prop_assert_eq!(history.add(entry), None, "the same once more changes nothing");
                    }
                }
                Step::Remove { org, picks } => {
                    let ids: Vec<_> = plain.of(ThreatScope::Tenant(ORGS[org])).map(|entry| entry.id).collect();
                    let mut wanted: Vec<_> = picks.iter().filter(|_| !ids.is_empty()).map(|pick| *pick.get(&ids)).collect();
                    wanted.push(ThreatId::new(u64::MAX));
                    let before = plain.entries.len();
                    plain.entries.retain(|entry| !wanted.contains(&entry.id));
                    prop_assert_eq!(history.remove(ORGS[org], &wanted), before - plain.entries.len());
                }
                Step::Forward(ms) => {
                    plain.advance(plain.now_ms + ms);
                    trims = history.advance(plain.now_ms);
                }
                Step::Back(ms) => {
                    plain.advance(plain.now_ms.saturating_sub(ms));
                    trims = history.advance(plain.now_ms);
                }
            }
            trims.sort_by(|a, b| a.org.cmp(&b.org));
            prop_assert_eq!(trims, plain.trim(RETENTION));
            check_figures(&mut history, &plain)?;
        }
        let filter = Filter {
            scope: ORGS.get(org).map_or(ThreatScope::Fleet, |org| ThreatScope::Tenant(*org)),
            since_ms: since.map(|age_ms| plain.now_ms.saturating_sub(age_ms)),
            severity: Severity::ALL.get(severity).copied(),
            kind: KINDS.get(kind).copied(),
            agent: (agent < 7).then_some(AgentId::new(agent)),
        };
        check_query(&history, &plain, &filter, limit, budget)?;
        check_query(&history, &plain, &all(filter.scope), limit, budget)?;
    }
}

#[test]
fn a_threat_is_in_a_window_until_it_is_older_than_the_period() {
    let mut history = History::new(RETENTION, START_MS);
    history.add(entry(ThreatId::first_of(START_MS), Some("acme"), 1, "scan"));
    for period in Period::ALL {
        history.advance(START_MS + period.millis());
        assert_eq!(history.totals(period).0, 1, "{period}");
        history.advance(START_MS + period.millis() + 1);
        assert_eq!(history.totals(period).0, 0, "{period}");
    }
    assert_eq!(history.count(), 1);
    let trims = history.advance(START_MS + RETENTION.max_age_ms + 1);
    assert_eq!(trims.len(), 1);
    assert_eq!(trims[0].aged, Dropped { count: 1, bytes: 100 });
    assert_eq!(history.count(), 0);
}

#[test]
fn a_clock_that_was_wrong_for_a_while_leaves_no_trace_in_the_figures() {
    let mut history = History::new(RETENTION, START_MS);
    (0..9).for_each(|n| _ = history.add(entry(ThreatId::first_of(START_MS + n), None, n, "scan")));
    history.advance(START_MS + 20 * DAY);
    assert_eq!(history.recent(AgentId::new(3)), 0);
    history.advance(START_MS);
    assert_eq!(history.recent(AgentId::new(3)), 1);
    history.advance(0);
    assert_eq!(history.totals(Period::Hour1).0, 9, "threats of the future are not old");
}

#[test]
fn what_no_threat_names_is_not_looked_for() {
    let mut history = History::new(RETENTION, START_MS);
    (0..9).for_each(|n| _ = history.add(entry(ThreatId::first_of(START_MS + n), None, n, "scan")));
    for filter in [
        Filter { kind: Some("malware"), ..all(ThreatScope::Fleet) },
        Filter { agent: Some(AgentId::new(99)), ..all(ThreatScope::Fleet) },
        all(ThreatScope::Tenant(Some("acme"))),
    ] {
        assert_eq!(history.query(&filter, None, 5, 1), Page::default());
    }
}

#[test]
fn of_many_kinds_the_most_frequent_are_named_and_the_rest_is_one_number() {
    let mut history = History::new(Retention { max_bytes: u64::MAX, ..RETENTION }, START_MS);
    for n in 0..1_200 {
        history.add(entry(ThreatId::first_of(START_MS + n), None, 1, &format!("kind-{}", n % 150)));
    }
    let summary = history.summary(ThreatScope::Fleet, Period::Hour1, 10);
    assert_eq!(summary.by_kind.len(), 100);
    assert_eq!((summary.total, summary.other_kinds), (1_200, 50 * 8));
}

//! What every backend must do with threats.

use super::*;
use crate::{
    store::{Discard, LoadedThreats, StoredThreat, ThreatRange},
    threats::{Severity, Threat, ThreatEntry, ThreatId, ThreatKey},
};

const ORGS: [Option<&str>; 3] = [None, Some("acme"), Some("acme } \"quoted\" 组织")];

/// A threat of one of the tenants: which one follows from its number.
fn threat(number: u64) -> Threat {
    Threat {
        id: ThreatId::new(number),
        agent: AgentId::new(number % 7),
        org: ORGS[number as usize % ORGS.len()].map(Into::into),
        hostname: format!("host-{}", number % 7).into(),
        kind: "brute_force".into(),
        severity: Severity::ALL[number as usize % Severity::ALL.len()],
        confidence: Some(0.5).filter(|_| number.is_multiple_of(2)),
        rule_id: Some("r-1".into()).filter(|_| number.is_multiple_of(3)),
        source_ip: "203.0.113.9".parse().ok().filter(|_| number.is_multiple_of(2)),
        occurred_at: Some(Timestamp::from_millis(7)).filter(|_| number.is_multiple_of(5)),
        details: format!(r#"{{"n": {number}}}"#).into(),
        bytes: 0,
    }
}

fn report(numbers: impl IntoIterator<Item = u64>) -> Change {
    Change::Report(numbers.into_iter().map(|number| StoredThreat::new(&threat(number))).collect())
}

/// The numbers of the threats that are loaded, and what is reported of the load.
async fn loaded(store: &dyn Store) -> (Vec<u64>, LoadedThreats) {
    let (out, mut chunks) = mpsc::channel::<Vec<ThreatEntry>>(1);
    let collect = async {
        let mut entries: Vec<ThreatEntry> = Vec::new();
        while let Some(chunk) = chunks.recv().await {
            assert!(chunk.len() <= LOAD_CHUNK_MAX);
            entries.extend(chunk);
        }
        entries
    };
    let (loaded, entries) = tokio::join!(store.load_threats(out), collect);
    for org in ORGS {
        assert!(entries.iter().filter(|entry| entry.org.as_deref() == org).is_sorted_by_key(|entry| entry.id));
    }
    for entry in &entries {
        assert_eq!(*entry, StoredThreat::new(&threat(entry.id.get())).entry);
    }
    let mut numbers: Vec<_> = entries.iter().map(|entry| entry.id.get()).collect();
    numbers.sort_unstable();
    (numbers, loaded.unwrap())
}

/// Those of these threats that can be read.
async fn read(store: &dyn Store, numbers: &[u64]) -> Vec<u64> {
    let keys: Vec<ThreatKey> = numbers.iter().map(|number| threat(*number).key()).collect();
    let found = store.threats(keys).await.unwrap();
    assert_eq!(found.len(), numbers.len());
    let same = found.iter().zip(numbers).filter_map(|(found, number)| {
        let found = Threat { bytes: 0, ..found.clone()? };
        assert_eq!(found, threat(*number));
        Some(*number)
    });
    same.collect()
}

#[tokio::test]
async fn threats_are_there_after_the_store_is_opened_again_and_so_is_the_latest_id() {
    on_every_backend(async |backend| {
        {
            let store = backend.open().await;
            assert_eq!(loaded(&*store).await, (vec![], LoadedThreats::default()));
            assert!(read(&*store, &[]).await.is_empty());
            store.commit(vec![report(1..=3), register(9), report([4]), report(5..=12)]).await.unwrap();
            store.commit(vec![report([1 << 40, u64::MAX - 1])]).await.unwrap();
        }
        let store = backend.open().await;
        let all: Vec<_> = (1..=12).chain([1 << 40, u64::MAX - 1]).collect();
        let last = Some(ThreatId::new(u64::MAX - 1));
        assert_eq!(loaded(&*store).await, (all, LoadedThreats { threats: 14, corrupt: 0, last }));
        assert_eq!(read(&*store, &[12, 1, 13, u64::MAX - 1]).await, [12, 1, u64::MAX - 1]);
        assert_eq!(contents(&*store).await.0, [(registration(9), None)]);
    })
    .await;
}

#[tokio::test]
async fn what_is_discarded_is_gone_and_nothing_else() {
    on_every_backend(async |backend| {
        {
            let store = backend.open().await;
            store.commit(vec![report(1..=9)]).await.unwrap();
            let keys = [2, 9, 100].map(|number| threat(number).key());
            store.discard(vec![Discard::Threats(keys.into())]).await.unwrap();
            store.commit(vec![report([10])]).await.unwrap();
        }
        let store = backend.open().await;
        assert_eq!(loaded(&*store).await.0, [1, 3, 4, 5, 6, 7, 8, 10]);
        assert_eq!(read(&*store, &[1, 2, 9, 10]).await, [1, 10]);
    })
    .await;
}

#[tokio::test]
async fn the_oldest_of_a_tenant_are_dropped_and_the_latest_id_stays_known() {
    on_every_backend(async |backend| {
        {
            let store = backend.open().await;
            store.commit(vec![report(1..=9)]).await.unwrap();
            let trim = |number: u64, from, up_to| {
                let org = threat(number).org;
                Discard::Oldest(ThreatRange { org, from: ThreatId::new(from), up_to: ThreatId::new(up_to) })
            };
            // One tenant loses some, one all, one nothing.
            store.discard(vec![trim(1, 0, 4), trim(2, 0, 8), trim(0, 0, 2)]).await.unwrap();
            store.discard(vec![trim(1, 4, 4)]).await.unwrap();
        }
        let store = backend.open().await;
        assert_eq!(
            loaded(&*store).await,
            (vec![3, 6, 7, 9], LoadedThreats { threats: 4, corrupt: 0, last: Some(ThreatId::new(9)) })
        );
        assert_eq!(read(&*store, &[1, 2, 3, 4, 7, 8]).await, [3, 7]);
        store.commit(vec![report([11])]).await.unwrap();
        assert_eq!(loaded(&*store).await.0, [3, 6, 7, 9, 11]);
    })
    .await;
}

#[tokio::test]
async fn a_long_history_is_loaded_whole_and_in_bounded_chunks() {
    on_every_backend(async |backend| {
        let many = 3 * 3 * LOAD_CHUNK_MAX as u64;
        let store = backend.open().await;
        for some in 0..9 {
            let share = many / 9;
            store.commit(vec![report(1 + some * share..=(some + 1) * share)]).await.unwrap();
        }
        let (numbers, loaded) = loaded(&*store).await;
        assert!(numbers.into_iter().eq(1..=many));
        assert_eq!(loaded.threats, many);
        // Nobody wants more.
        let (out, chunks) = mpsc::channel(1);
        drop(chunks);
        assert!(store.load_threats(out).await.unwrap().threats < many);
    })
    .await;
}

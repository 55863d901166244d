//! Threats, as HTTP sees them: reports go from their agent to the threat log, questions to the threat log and the store.

pub(super) mod clock;
pub(super) mod log;
pub(super) mod messages;

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use actix::{Addr, Handler, Message};
use tokio::sync::mpsc;

use self::{
    log::ThreatLog,
    messages::{
        CountRecent, CountThreats, DrainReports, FindThreats, Forget, Report, RestoreThreats, Restored, Summarise,
        ThreatFilter,
    },
};
use super::{
    handle::{EngineError, EngineHandle},
    messages::{Credential, Describe, Reporter},
};
use crate::{
    fleet::{AgentId, Timestamp},
    limits::{THREAT_CHUNKS_AHEAD, THREAT_OVERHEAD_BYTES},
    store::{LoadedThreats, StoreError, StoredThreat},
    threats::{BySeverity, Period, ReportedThreat, Summary, Threat, ThreatId},
};

/// A page of threats, the newest first.
#[derive(Debug)]
pub struct ThreatPage {
    /// The threats, and when each was taken in.
    pub threats: Vec<(Threat, Timestamp)>,
    /// Where the next page begins; none on the last one.
    pub next: Option<ThreatId>,
}

impl EngineHandle {
    /// Stores what an agent reports. Durable when it returns.
    pub async fn report(
        &self,
        id: AgentId,
        credential: Credential,
        events: Vec<ReportedThreat>,
    ) -> Result<Vec<ThreatId>, EngineError> {
        let Reporter { hostname, org } = self.ask(id, || Describe { credential }).await??;
        let threat = |event: ReportedThreat| {
            StoredThreat::new(&Threat {
                // The threat log gives it its name.
                id: ThreatId::new(0),
                agent: id,
                org: org.clone(),
                hostname: hostname.clone(),
                kind: event.kind,
                severity: event.severity,
                confidence: event.confidence,
                rule_id: event.rule_id,
                source_ip: event.source_ip,
                occurred_at: event.occurred_at,
                details: event.details.into(),
                bytes: 0,
            })
        };
        let threats: Vec<_> = events.into_iter().map(threat).collect();
        // What is on its way to the store is held as a body, and its row twice.
        let held = threats.iter().map(|threat| 2 * threat.entry.bytes + THREAT_OVERHEAD_BYTES).sum();
        let room = self.fleet.room_for_reports.clone().try_acquire_many_owned(held);
        let room = room.map_err(|_| StoreError::Overloaded)?;
        Ok(self.ask_threat_log(Report { threats, room }).await??)
    }

    /// The newest threats that match, of those before `before`, `most` at most.
    pub async fn threats(
        &self,
        filter: ThreatFilter,
        before: Option<ThreatId>,
        most: usize,
    ) -> Result<ThreatPage, EngineError> {
        // One more than the page has room for, to know whether there is another page.
        let mut find = FindThreats { filter, before, most: most + 1 };
        let mut keys = Vec::new();
        loop {
            let found = self.ask_threat_log(find.clone()).await?;
            keys.extend(found.rows);
            find.most = (most + 1).saturating_sub(keys.len());
            find.before = found.resume_before;
            if find.most == 0 || find.before.is_none() {
                break;
            }
        }
        let is_last = keys.len() <= most;
        keys.truncate(most);
        let next = keys.last().map(|(key, _)| key.id).filter(|_| !is_last);
        let (keys, times): (Vec<_>, Vec<_>) = keys.into_iter().unzip();
        let threats = self.durability().store.threats(keys).await?.into_iter();
        let times = times.into_iter().map(|ms| Timestamp::from_millis(ms.cast_signed()));
        // What has been dropped meanwhile is not there any more.
        let threats = threats.zip(times).filter_map(|(threat, time)| Some((threat?, time))).collect();
        Ok(ThreatPage { threats, next })
    }

    /// The figures of a period: of one tenant, or of the whole fleet.
    pub async fn threat_summary(&self, org: Option<Box<str>>, period: Period) -> Result<Summary, EngineError> {
        self.ask_threat_log(Summarise { org, period }).await
    }

    /// How many threats the whole fleet had in a period, and of each severity.
    pub async fn threat_counts(&self, period: Period) -> Result<(u64, BySeverity), EngineError> {
        self.ask_threat_log(CountThreats(period)).await
    }

    /// How many threats there are in the history, and what they take in the store, in bytes; as of a moment ago.
    pub fn threats_kept(&self) -> (u64, u64) {
        let kept = &self.fleet.kept;
        (kept.threats.load(Relaxed), kept.bytes.load(Relaxed))
    }

    /// How many threats an agent reported in the last 24 hours.
    pub(super) async fn recent_threats(&self, id: AgentId) -> Result<u64, EngineError> {
        self.ask_threat_log(CountRecent(id)).await
    }

    /// Makes `threat_log` the one of this engine.
    pub(crate) fn attach_threat_log(&self, threat_log: Addr<ThreatLog>) {
        self.fleet.threat_log.set(threat_log).expect("the threat log is started once");
    }

    /// Hands the threat log the threats that are in the store. Until it has them all, no threats are shown and none are
    /// taken: figures that are not true are worse than none.
    pub(crate) async fn load_threats(&self) -> Result<LoadedThreats, EngineError> {
        let kept = &self.fleet.kept;
        kept.are_loaded.store(false, Release);
        self.tell_threat_log(Forget).await?;
        let (out, mut rows) = mpsc::channel(THREAT_CHUNKS_AHEAD);
        // It owns the receiver: if the threat log panics, the reading ends too.
        let restore = async move {
            while let Some(rows) = rows.recv().await {
                self.tell_threat_log(RestoreThreats(rows)).await?;
            }
            Ok::<_, EngineError>(())
        };
        let (loaded, restored) = tokio::join!(self.durability().store.load_threats(out), restore);
        restored?;
        let loaded = loaded?;
        self.tell_threat_log(Restored(loaded)).await?;
        Ok(loaded)
    }

    /// Whether all threats that are in the store are counted.
    pub fn threats_are_loaded(&self) -> bool {
        self.fleet.kept.are_loaded.load(Acquire)
    }

    /// Waits until all threats that are in the store are counted.
    pub(crate) async fn threats_loaded(&self) {
        loop {
            // Before the look: a history that is loaded after it wakes this.
            let loaded = self.fleet.kept.loaded.notified();
            if self.threats_are_loaded() {
                return;
            }
            loaded.await;
        }
    }

    /// Waits until no report is on its way to the store, and nothing is in it that was refused.
    pub(super) async fn drain_reports(&self) -> Result<(), EngineError> {
        Ok(self.tell_threat_log(DrainReports).await??)
    }

    async fn ask_threat_log<M>(&self, message: M) -> Result<M::Result, EngineError>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        ThreatLog: Handler<M>,
    {
        if self.threats_are_loaded() { self.tell_threat_log(message).await } else { Err(EngineError::ThreatsLoading) }
    }

    async fn tell_threat_log<M>(&self, message: M) -> Result<M::Result, EngineError>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        ThreatLog: Handler<M>,
    {
        let threat_log = self.fleet.threat_log.get().ok_or(EngineError::Unresponsive)?;
        // With an address of its own: see `send_to_shard`.
        threat_log.clone().send(message).await.map_err(|_| EngineError::Unresponsive)
    }
}

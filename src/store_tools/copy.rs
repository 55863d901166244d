//! Copying a fleet from one store to another.
//!
//! Policies and agents go before heartbeats, and active time goes last, when everything else has been read back: a server that
//! is started on half a copy by mistake then takes agents for alive for too long, and never one for silent that is not.

#[cfg(test)]
mod tests;

use std::{cell::Cell, fmt, sync::Arc, time::Duration};

use indicatif::HumanCount;

use super::{
    StoreLocation, ToolError, counted,
    location::{Owned, Source},
    progress::{Progress, Screen},
    reading::{Stopped, read},
    tally::{Content, Tally},
    threats,
};
use crate::{
    fleet::{ActiveTime, LastHeartbeat, PolicyVersion, Registration},
    limits::{COMMIT_BATCH_MAX, FLUSH_BATCH_MAX, STORE_CLOSE_MAX_MS},
    policy::{Policy, PolicyIndex, ScopePolicies},
    process::signals::Signals,
    store::{Change, Chunk, HeartbeatBatch, Loaded, Store, StoreError},
};

/// What to copy, and where to.
#[derive(Debug)]
pub struct CopyOrder {
    pub from: StoreLocation,
    pub to: StoreLocation,
    /// Whether the target may have agents already. Policies are published anew then, if it has had any.
    pub merge: bool,
}

/// What was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    pub agents: u64,
    /// Agents that have beaten since they registered, with their last heartbeat.
    pub last_heartbeats: u64,
    /// Policies in force: the global one, and those of tenants.
    pub scopes: u64,
    /// Threats that the target did not have.
    pub threats: u64,
    /// Records of the source that cannot be read, and were left out; each has been reported.
    pub corrupt: u64,
}

impl fmt::Display for Copied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (agents, last_heartbeats) =
            (counted(self.agents, "agent"), counted(self.last_heartbeats, "last heartbeat"));
        let threats = counted(self.threats, "threat");
        write!(f, "copied {agents}, {last_heartbeats}, {}, {threats}", in_force(self.scopes))
    }
}

/// So many scopes have policies, for people.
fn in_force(scopes: u64) -> String {
    match scopes {
        1 => "1 policy in force".into(),
        scopes => format!("{} policies in force", HumanCount(scopes)),
    }
}

/// Copies the fleet, reads it back, and compares. Ends with an error at SIGTERM or SIGINT.
///
/// # Errors
/// All that stands in the way, most of it before anything is written; after that, [`ToolError::Incomplete`].
pub async fn copy(order: &CopyOrder, screen: &Screen) -> Result<Copied, ToolError> {
    let CopyOrder { from, to, merge } = order;
    if from.is(to) {
        return Err(ToolError::Same(from.to_string()));
    }
    let mut signals = Signals::listen()?;
    let open = async {
        let source = from.open_source().await?;
        Ok::<_, ToolError>((source, to.open().await?))
    };
    let (source, target) = tokio::select! {
        opened = open => opened?,
        () = signals.next() => return Err(ToolError::Interrupted),
    };
    let transfer = Transfer { order, source: &source, target: &target, screen, has_begun: Cell::new(false) };
    let outcome = tokio::select! {
        outcome = transfer.run(*merge) => outcome,
        () = signals.next() => Err(ToolError::Interrupted),
    };
    let has_begun = transfer.has_begun.get();
    // A Redis that does not answer gives the fleet up by itself, once this process is gone.
    let close = async { tokio::join!(target.store.close(), source.close()) };
    let _ = tokio::time::timeout(Duration::from_millis(STORE_CLOSE_MAX_MS), close).await;
    outcome.map_err(|cause| match has_begun {
        true => ToolError::Incomplete { cause: cause.into(), location: to.to_string(), remedy: to.how_to_empty() },
        false => cause,
    })
}

/// A copy under way.
struct Transfer<'a> {
    order: &'a CopyOrder,
    source: &'a Source,
    target: &'a Owned,
    screen: &'a Screen,
    /// Whether anything may have been written.
    has_begun: Cell<bool>,
}

impl Transfer<'_> {
    async fn run(&self, merge: bool) -> Result<Copied, ToolError> {
        let (is_empty, known_policies) = self.look_into_target(merge).await?;
        threats::must_fit((&self.order.from, self.source), (&self.order.to, self.target)).await?;
        let from = self.source.reader.clock().await.map_err(|error| self.order.from.failed(error))?;
        let known = self.target.reader.clock().await.map_err(|error| self.order.to.failed(error))?;
        // A clock that is there goes on: agents may be there whose silence counts by it.
        let clock = known.or(from.filter(|_| is_empty)).unwrap_or_default();
        let (tally, loaded) = self.write(Shift::between(from.unwrap_or_default(), clock), known_policies).await?;
        let Content { agents, last_heartbeats, scopes, .. } = tally.content();
        self.verify(tally, is_empty).await?;
        let CopyOrder { from, to, .. } = self.order;
        let (threats, unreadable) = threats::copy((from, self.source), (to, self.target), self.screen).await?;
        let batch = HeartbeatBatch { heartbeats: Vec::new(), clock: Some(clock) };
        self.target.store.save(&batch).await.map_err(|error| self.order.to.failed(error))?;
        Ok(Copied { agents, last_heartbeats, scopes, threats, corrupt: loaded.corrupt + unreadable })
    }

    /// Makes sure that nothing is mixed up by mistake. Answers whether the target is empty, and its policies.
    async fn look_into_target(&self, merge: bool) -> Result<(bool, PolicyIndex), ToolError> {
        let location = &self.order.to;
        let progress = Progress::counting(self.screen, "looking into the target");
        let (mut agents, mut scopes, mut policy_index) = (0, 0, PolicyIndex::default());
        let loaded = read(&*self.target.reader, async |chunk| {
            match chunk {
                Chunk::Policies(policies) => {
                    scopes += policies.len() as u64;
                    policies.into_iter().for_each(|one| policy_index.put(one));
                }
                Chunk::Registrations(registrations) => agents += registrations.len() as u64,
                Chunk::Heartbeats(_) => {}
            }
            progress.reached(agents, 0);
            Ok(())
        })
        .await
        .map_err(|stopped| classified(stopped, location))?;
        policy_index.gave_out(loaded.policy_version);
        let threats = threats::read(&*self.target.reader, location, async |_| Ok(())).await?;
        let (threats, corrupt) = (threats.threats, loaded.corrupt + threats.corrupt);
        if (agents, scopes, threats, corrupt) == (0, 0, 0, 0) {
            return Ok((true, policy_index));
        }
        let mut content = counted(agents, "agent");
        if threats > 0 {
            content = format!("{content}, {}", counted(threats, "threat"));
        }
        if scopes > 0 {
            content = format!("{content}, {}", in_force(scopes));
        }
        if corrupt > 0 {
            content = format!("{content} and {} that cannot be read", counted(corrupt, "record"));
        }
        if merge {
            Ok((false, policy_index))
        } else {
            Err(ToolError::NotEmpty { location: location.to_string(), content })
        }
    }

    /// Writes everything but the clock.
    ///
    /// If the target has given out versions of policies, those of the source may be the same for others: its policies are
    /// then published anew, under the versions that come next, and its agents have fetched none of them.
    async fn write(&self, shift: Shift, mut policy_index: PolicyIndex) -> Result<(Tally, Loaded), ToolError> {
        let progress = Progress::counting(self.screen, "copying");
        let mut tally = Tally::default();
        let is_anew = policy_index.last() > PolicyVersion::NONE;
        let mut batches = Batches::new(&*self.target.store);
        self.has_begun.set(true);
        let loaded = read(&*self.source.reader, async |chunk| {
            match chunk {
                Chunk::Policies(policies) => {
                    let mut written = Vec::with_capacity(policies.len());
                    for one in policies {
                        let one = if is_anew { anew(&policy_index, &one) } else { one };
                        tally.publish(&one);
                        policy_index.put(one.clone());
                        written.push(one);
                    }
                    batches.publish(written, policy_index.last()).await?;
                }
                Chunk::Registrations(registrations) => {
                    for registration in registrations {
                        let registration =
                            Registration { last_active: shift.of(registration.last_active), ..registration };
                        tally.register(&registration);
                        batches.register(registration).await?;
                    }
                }
                Chunk::Heartbeats(heartbeats) => {
                    for last in heartbeats {
                        let last_fetched = if is_anew { PolicyVersion::NONE } else { last.last_fetched };
                        let last = LastHeartbeat { last_active: shift.of(last.last_active), last_fetched, ..last };
                        if tally.beat(&last) {
                            batches.beat(last).await?;
                        }
                    }
                }
            }
            progress.reached(tally.content().agents, tally.content().last_heartbeats);
            Ok(())
        })
        .await
        .map_err(|stopped| match stopped {
            Stopped::Store(error) => self.order.from.failed(error),
            Stopped::Reader(error) => self.order.to.failed(error),
        })?;
        if !is_anew {
            policy_index.gave_out(loaded.policy_version);
        }
        if policy_index.last() > PolicyVersion::NONE {
            batches.publish(Vec::new(), policy_index.last()).await.map_err(|error| self.order.to.failed(error))?;
        }
        batches.finish().await.map_err(|error| self.order.to.failed(error))?;
        Ok((tally, loaded))
    }

    /// Reads the target back and compares. What was in it before, and was not replaced, is passed over.
    async fn verify(&self, written: Tally, was_empty: bool) -> Result<(), ToolError> {
        let location = &self.order.to;
        let expected = written.content();
        let mut found = if was_empty { Tally::default() } else { Tally::among(written) };
        let progress =
            Progress::towards(self.screen, "reading the copy back", expected.agents, expected.last_heartbeats);
        read(&*self.target.reader, async |chunk| {
            found.count(&chunk);
            progress.reached(found.content().agents, found.content().last_heartbeats);
            Ok(())
        })
        .await
        .map_err(|stopped| classified(stopped, location))?;
        let found = found.content();
        if found == expected {
            return Ok(());
        }
        let shown = |content: Content| {
            let Content { agents, last_heartbeats, scopes, digest } = content;
            let (agents, last_heartbeats) = (counted(agents, "agent"), counted(last_heartbeats, "last heartbeat"));
            format!("{agents}, {last_heartbeats} and {} with the digest {digest:016x}", in_force(scopes))
        };
        Err(ToolError::Differs { location: location.to_string(), expected: shown(expected), found: shown(found) })
    }
}

/// The newest policy of a scope, as the next that is published among those of `policy_index`.
fn anew(policy_index: &PolicyIndex, policies: &ScopePolicies) -> Arc<ScopePolicies> {
    let policy = Policy { version: policy_index.last().next(), ..Policy::clone(policies.newest()) };
    Arc::new(ScopePolicies::after(policy_index.of(policies.scope()).map(|known| &**known), policy))
}

fn classified(stopped: Stopped<StoreError>, location: &StoreLocation) -> ToolError {
    match stopped {
        Stopped::Store(error) | Stopped::Reader(error) => location.failed(error),
    }
}

/// From the active time of one store to that of another: how long an agent has been silent stays the same.
#[derive(Clone, Copy, Debug)]
struct Shift {
    micros: i64,
}

impl Shift {
    fn between(from: ActiveTime, to: ActiveTime) -> Self {
        Self { micros: to.as_micros().saturating_sub(from.as_micros()) }
    }

    fn of(self, moment: ActiveTime) -> ActiveTime {
        ActiveTime::from_micros(moment.as_micros().saturating_add(self.micros))
    }
}

/// Hands a fleet to a store in batches of the size a server uses.
struct Batches<'a> {
    store: &'a dyn Store,
    changes: Vec<Change>,
    heartbeats: HeartbeatBatch,
}

impl<'a> Batches<'a> {
    fn new(store: &'a dyn Store) -> Self {
        Self { store, changes: Vec::new(), heartbeats: HeartbeatBatch::default() }
    }

    /// At once: they may be large. `last` is the newest version that has been given out.
    async fn publish(&mut self, policies: Vec<Arc<ScopePolicies>>, last: PolicyVersion) -> Result<(), StoreError> {
        let changes = policies.into_iter().map(Change::SetPolicies).chain([Change::PolicyVersion(last)]);
        self.store.commit(changes.collect()).await
    }

    async fn register(&mut self, registration: Registration) -> Result<(), StoreError> {
        self.changes.push(Change::Register(Box::new(registration)));
        if self.changes.len() == COMMIT_BATCH_MAX { self.commit().await } else { Ok(()) }
    }

    /// The agent must have been registered before.
    async fn beat(&mut self, last: LastHeartbeat) -> Result<(), StoreError> {
        self.heartbeats.heartbeats.push(last);
        if self.heartbeats.heartbeats.len() == FLUSH_BATCH_MAX { self.finish().await } else { Ok(()) }
    }

    /// Writes what is left: first the registrations that the heartbeats belong to.
    async fn finish(&mut self) -> Result<(), StoreError> {
        self.commit().await?;
        if !self.heartbeats.heartbeats.is_empty() {
            self.store.save(&self.heartbeats).await?;
            self.heartbeats.heartbeats.clear();
        }
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), StoreError> {
        let changes = std::mem::take(&mut self.changes);
        if changes.is_empty() { Ok(()) } else { self.store.commit(changes).await }
    }
}

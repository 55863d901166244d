//! The policies of a fleet at work: published one at a time, each durable before it is announced.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use parking_lot::RwLock;
use tokio::sync::{Mutex, MutexGuard};

use super::{Change, Committer, StoreError};
use crate::{
    fleet::{PolicyVersion, Timestamp},
    limits::POLICY_STEP_MAX,
    policy::{PolicyDraft, PolicyId, PolicyIndex, PolicyIndexFull, PolicyScope, ScopePolicies},
};

/// Why a policy was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error(transparent)]
    Full(#[from] PolicyIndexFull),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The index of policies that are durable.
///
/// Like an agent's registration, a publication that the store did not confirm may be there all the same. It is answered
/// as refused, so the store must be reconciled, with a later flush or before the next publication, with what there really is in its
/// scope. The same is done for all scopes when a store has lost what it had.
#[derive(Debug)]
pub struct Policies {
    committer: Committer,
    index: RwLock<PolicyIndex>,
    /// The scopes of which the store's record is of unknown outcome; who holds the lock may write.
    unknown: Mutex<BTreeSet<PolicyScope>>,
    /// Whether there are any: who has nothing to reconcile need not wait for the lock.
    outcome_unknown: AtomicBool,
}

impl Policies {
    /// No policies, to be written through `committer`.
    pub(super) fn new(committer: Committer) -> Self {
        Self { committer, index: RwLock::default(), unknown: Mutex::default(), outcome_unknown: AtomicBool::new(false) }
    }

    /// Takes over what a store has kept. Only before the first publication.
    pub fn restore(&self, policies: &[Arc<ScopePolicies>]) {
        policies.iter().for_each(|one| self.put(one.clone()));
    }

    /// Notes which versions were given out already, to policies that may be lost. Only before the first publication.
    pub fn gave_out(&self, version: PolicyVersion) {
        self.index.write().gave_out(version);
    }

    pub fn ask<T>(&self, question: impl FnOnce(&PolicyIndex) -> T) -> T {
        question(&self.index.read())
    }

    /// Publishes a policy; answers what there is in its scope now, and what `announce` does of it. One at a time, announcing
    /// included: versions have no gaps, and none is announced before an earlier one.
    pub async fn publish<T>(
        &self,
        draft: PolicyDraft,
        id: PolicyId,
        at: Timestamp,
        announce: impl FnOnce(&Arc<ScopePolicies>) -> T,
    ) -> Result<(Arc<ScopePolicies>, T), PublishError> {
        let mut unknown = self.unknown.lock().await;
        // A version whose publication is of unknown outcome must be gone before another policy gets it.
        self.write_truth(&mut unknown).await?;
        let next = Arc::new(self.ask(|index| index.publish(draft, id, at))?);
        let version = Change::PolicyVersion(next.newest().version);
        if let Err(error) = self.committer.commit_all(vec![Change::SetPolicies(next.clone()), version]).await {
            if let StoreError::UnknownOutcome(_) = error {
                self.mark_unknown(&mut unknown, [next.scope().clone()]);
            }
            return Err(error.into());
        }
        self.put(next.clone());
        let announced = announce(&next);
        Ok((next, announced))
    }

    /// The store has lost what it had: every scope must be written once more.
    pub async fn put_all_with_an_unknown_outcome(&self) {
        let mut unknown = self.unknown.lock().await;
        let scopes: Vec<_> = self.ask(|index| index.scopes().map(|one| one.scope().clone()).collect());
        self.mark_unknown(&mut unknown, scopes);
    }

    /// Writes every scope of which the store's record is of unknown outcome.
    pub async fn reconcile(&self) -> Result<(), StoreError> {
        if self.outcome_unknown.load(Relaxed) { self.write_truth(&mut self.unknown.lock().await).await } else { Ok(()) }
    }

    async fn write_truth(&self, unknown: &mut MutexGuard<'_, BTreeSet<PolicyScope>>) -> Result<(), StoreError> {
        while !unknown.is_empty() {
            let some: Vec<_> = unknown.iter().take(POLICY_STEP_MAX).cloned().collect();
            let truth = |scope: &PolicyScope| match self.ask(|index| index.of(scope).cloned()) {
                Some(policies) => Change::SetPolicies(policies),
                None => Change::ForgetPolicies(scope.clone()),
            };
            let last = Change::PolicyVersion(self.ask(PolicyIndex::last));
            self.committer.commit_all(some.iter().map(truth).chain([last]).collect()).await?;
            some.iter().for_each(|scope| {
                unknown.remove(scope);
            });
        }
        self.outcome_unknown.store(false, Relaxed);
        Ok(())
    }

    fn mark_unknown(
        &self,
        unknown: &mut MutexGuard<'_, BTreeSet<PolicyScope>>,
        scopes: impl IntoIterator<Item = PolicyScope>,
    ) {
        unknown.extend(scopes);
        self.outcome_unknown.store(!unknown.is_empty(), Relaxed);
    }

    fn put(&self, policies: Arc<ScopePolicies>) {
        self.index.write().put(policies);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as Lock;

    use futures_util::future::join_all;

    use super::*;
    use crate::{fleet::Text, store::MemoryStore};

    #[tokio::test]
    async fn policies_are_announced_in_the_order_of_their_versions() {
        let policies = Policies::new(Committer::start(Arc::<MemoryStore>::default()));
        let announced = Lock::new(Vec::new());
        let publish = |number: u64| {
            let org = ["acme", "bolt"].get(number as usize % 3).copied();
            let name = Text::new("p").unwrap();
            let draft = PolicyDraft { scope: PolicyScope::of(org), name, description: None, rules: vec![] };
            let announce = |next: &Arc<ScopePolicies>| announced.lock().unwrap().push(next.newest().version.get());
            policies.publish(draft, PolicyId::new(number), Timestamp::from_millis(1), announce)
        };
        join_all((0..30).map(publish)).await;
        assert!(announced.into_inner().unwrap().into_iter().eq(1..=30));
    }
}

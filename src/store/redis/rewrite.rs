//! Writing back what Redis has lost: which shard has still to write its agents.

use std::collections::BTreeSet;

use parking_lot::{Mutex, MutexGuard};

use crate::store::Sweep;

/// The rewriting of the fleet, if one is under way.
#[derive(Debug, Default)]
pub(super) struct Rewrite {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    begun: u64,
    losses: u64,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    sweep: Sweep,
    /// None: no shard has asked yet.
    shards_left: Option<BTreeSet<usize>>,
}

impl Rewrite {
    /// Begins; from the beginning if one was under way.
    pub(super) fn begin(&self, registrations: bool) {
        let mut state = self.state();
        let unfinished = state.current.as_ref().is_some_and(|current| current.sweep.registrations);
        state.begun += 1;
        state.losses += u64::from(registrations);
        let sweep = Sweep { number: state.begun, registrations: registrations || unfinished, urgent: true };
        state.current = Some(Current { sweep, shards_left: None });
    }

    /// How many times more than heartbeats was lost.
    pub(super) fn losses(&self) -> u64 {
        self.state().losses
    }

    /// What `shard`, one of `shards`, has still to write.
    pub(super) fn wanted(&self, shard: usize, shards: usize) -> Option<Sweep> {
        let mut state = self.state();
        let current = state.current.as_mut()?;
        let left = current.shards_left.get_or_insert_with(|| (0..shards).collect());
        left.contains(&shard).then_some(current.sweep)
    }

    /// The shard has written all that this sweep wanted.
    pub(super) fn done(&self, shard: usize, sweep: Sweep) {
        let mut state = self.state();
        let Some(current) = state.current.as_mut().filter(|current| current.sweep == sweep) else { return };
        let left = current.shards_left.get_or_insert_default();
        left.remove(&shard);
        if left.is_empty() {
            state.current = None;
            tracing::info!("what Redis had lost is written back");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shard_tells_once_and_a_loss_in_the_middle_begins_anew() {
        let rewrite = Rewrite::default();
        assert_eq!(rewrite.wanted(0, 2), None);
        rewrite.begin(true);
        let first = rewrite.wanted(0, 2).unwrap();
        assert!(first.registrations);
        rewrite.done(0, first);
        assert_eq!((rewrite.wanted(0, 2), rewrite.wanted(1, 2)), (None, Some(first)));
        // Only heartbeats were lost this time, but not all registrations are back from the time before.
        rewrite.begin(false);
        let second = rewrite.wanted(0, 2).unwrap();
        assert!(second.registrations && second != first);
        rewrite.done(1, first);
        assert_eq!(rewrite.wanted(1, 2), Some(second));
        rewrite.done(0, second);
        rewrite.done(1, second);
        assert_eq!((rewrite.wanted(0, 2), rewrite.wanted(1, 2)), (None, None));
        rewrite.begin(false);
        assert!(!rewrite.wanted(0, 2).unwrap().registrations);
    }
}

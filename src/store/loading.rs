//! What loading a fleet has in common, whatever store it comes out of: which part is read when and by how many threads,
//! and how it is handed over.
//!
//! A start is as fast as the machine only if nobody waits: neither the readers for each other nor one shard while
//! another is being filled. So several threads read, each takes the next partitions that nobody has taken, and the order
//! in which they are taken spreads them over the fleet, and with it over the shards, however many there are.

use std::{
    ops::RangeInclusive,
    sync::atomic::{AtomicU16, Ordering::Relaxed},
};

use super::Chunk;
use crate::{
    fleet::{AgentId, LastHeartbeat, Partition, Registration},
    limits::{LOAD_CHUNK_MAX, PARTITION_BITS, PARTITIONS},
};

/// Threads that read a fleet.
pub(super) fn readers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

pub(super) fn ids_of(partition: Partition) -> RangeInclusive<AgentId> {
    let first = u64::from(partition.get()) << (u64::BITS - PARTITION_BITS);
    AgentId::new(first)..=partition.last_id()
}

/// The partitions that are still to be read, in runs, each given out once.
#[derive(Debug)]
pub(super) struct WorkQueue {
    /// Consecutive partitions in a run; a power of two.
    run: u16,
    taken: AtomicU16,
}

impl WorkQueue {
    /// All partitions, in runs of `run`, which is a power of two.
    pub(super) fn of(run: u16) -> Self {
        assert!(run.is_power_of_two() && run < PARTITIONS, "partitions are divided evenly");
        Self { run, taken: AtomicU16::new(0) }
    }

    /// The next partitions to read; none when all have been given out.
    pub(super) fn take(&self) -> Option<impl Iterator<Item = Partition> + use<>> {
        let runs = PARTITIONS / self.run;
        let number = self.taken.fetch_update(Relaxed, Relaxed, |taken| (taken < runs).then_some(taken + 1)).ok()?;
        // With its bits reversed, a number that counts up goes through the whole range again and again, ever more finely.
        let first = number.reverse_bits() >> (u16::BITS - runs.trailing_zeros()) << self.run.trailing_zeros();
        Some((first..first + self.run).filter_map(Partition::new))
    }

    /// Gives no more out.
    pub(super) fn end(&self) {
        self.taken.store(PARTITIONS, Relaxed);
    }
}

/// Agents in the order of their ids, to be handed over in chunks of bounded size: first the registrations of a chunk,
/// then the heartbeats of the same agents, while the shard still has them at hand.
#[derive(Debug, Default)]
pub(super) struct ChunkBuilder {
    registrations: Vec<Registration>,
    heartbeats: Vec<LastHeartbeat>,
}

impl ChunkBuilder {
    /// Takes an agent whose id is greater than those before it. Answers the chunks that are full.
    pub(super) fn push(&mut self, registration: Registration, last: Option<LastHeartbeat>) -> Option<[Chunk; 2]> {
        if self.registrations.capacity() == 0 {
            self.registrations.reserve_exact(LOAD_CHUNK_MAX);
            self.heartbeats.reserve_exact(LOAD_CHUNK_MAX);
        }
        self.registrations.push(registration);
        self.heartbeats.extend(last);
        (self.registrations.len() == LOAD_CHUNK_MAX).then(|| self.take())
    }

    /// What is left, which may be nothing.
    pub(super) fn take(&mut self) -> [Chunk; 2] {
        let Self { registrations, heartbeats } = std::mem::take(self);
        [Chunk::Registrations(registrations), Chunk::Heartbeats(heartbeats)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(queue: &WorkQueue) -> Vec<Partition> {
        std::iter::from_fn(|| queue.take()).flatten().collect()
    }

    #[test]
    fn every_partition_is_given_out_once() {
        for run in [1, 16, PARTITIONS / 2] {
            let mut partitions = all(&WorkQueue::of(run));
            partitions.sort_unstable();
            assert!(partitions.into_iter().eq(Partition::all()), "in runs of {run}");
        }
    }

    #[test]
    fn runs_feed_all_shards_alike_from_the_first_to_the_last() {
        for shards in [2, 3, 8, 13] {
            let mut fed = vec![0_usize; shards];
            for (number, partition) in all(&WorkQueue::of(1)).into_iter().enumerate() {
                fed[partition.shard(shards)] += 1;
                let (least, most) = (fed.iter().min().unwrap(), fed.iter().max().unwrap());
                assert!(most - least <= 6, "{shards} shards, after {number} runs: {fed:?}");
            }
        }
    }

    #[test]
    fn after_the_end_nothing_is_given_out() {
        let queue = WorkQueue::of(1);
        assert!(queue.take().is_some());
        queue.end();
        assert!(queue.take().is_none());
    }

    #[test]
    fn the_ids_of_a_partition_are_those_that_lie_in_it() {
        for partition in Partition::all() {
            let ids = ids_of(partition);
            assert_eq!((ids.start().partition(), ids.end().partition()), (partition, partition));
            assert_eq!(ids.end().get() - ids.start().get(), u64::MAX >> PARTITION_BITS);
        }
    }
}

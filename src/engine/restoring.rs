//! Bringing the fleet back from the store, before the first request.

use futures_util::{
    TryStreamExt,
    future::{join_all, try_join_all},
    stream::FuturesUnordered,
};
use tokio::sync::mpsc;

use super::{
    handle::{EngineError, EngineHandle},
    messages::{Begin, Restore},
};
use crate::{
    fleet::AgentId,
    limits::{LIST_SCAN_MAX, SHARD_CHUNKS_AHEAD},
    store::Chunk,
};

impl EngineHandle {
    /// Hands the fleet, as it comes from the store, to the shards. Only before the first request.
    ///
    /// Each shard takes its part in, in the order in which it comes, without waiting for the others. Whoever sends the
    /// chunks notices by a closed channel that a shard panicked.
    pub(crate) async fn restore(&self, mut chunks: mpsc::Receiver<Chunk>) -> Result<(), EngineError> {
        let mut under_way = FuturesUnordered::new();
        while let Some(chunk) = chunks.recv().await {
            if under_way.len() >= (1 + SHARD_CHUNKS_AHEAD) * self.fleet.shards.len() {
                under_way.try_next().await?;
            }
            under_way.push(self.send_chunk(chunk));
        }
        under_way.try_collect().await
    }

    /// Puts a chunk into the mailboxes of the shards that it concerns. The answer is there when they have taken it in.
    fn send_chunk(&self, chunk: Chunk) -> impl Future<Output = Result<(), EngineError>> + use<> {
        let parts = match chunk {
            Chunk::Policies(policies) => {
                self.durability().policies.restore(&policies);
                (0..self.fleet.shards.len()).map(|shard| (shard, Chunk::Policies(policies.clone()))).collect()
            }
            Chunk::Registrations(registrations) => {
                self.fleet.capacity.occupy(registrations.len() as u64);
                by_shard(self.fleet.shards.len(), registrations, |one| one.id, Chunk::Registrations)
            }
            Chunk::Heartbeats(heartbeats) => {
                by_shard(self.fleet.shards.len(), heartbeats, |one| one.id, Chunk::Heartbeats)
            }
        };
        let sent: Vec<_> = parts.into_iter().map(|(shard, part)| self.send_to_shard(shard, Restore(part))).collect();
        async move {
            try_join_all(sent.into_iter().collect::<Result<Vec<_>, _>>()?)
                .await
                .map_err(|_| EngineError::Unresponsive)?;
            Ok(())
        }
    }

    /// Starts the actors of all agents that were restored, so many of them.
    pub(crate) async fn begin(&self, agents: u64) -> Result<(), EngineError> {
        // Growing on the way, the table would be copied again and again.
        self.fleet.routing.reserve(usize::try_from(agents).unwrap_or(0));
        let begin = async |shard| {
            let mut after = None;
            loop {
                after = self.ask_shard_at(shard, Begin { after, most: LIST_SCAN_MAX }).await?;
                if after.is_none() {
                    return Ok(());
                }
            }
        };
        join_all((0..self.fleet.shards.len()).map(begin)).await.into_iter().collect()
    }
}

/// Divides records that are in the order of their ids among the shards.
fn by_shard<T>(
    shards: usize,
    mut records: Vec<T>,
    id_of: impl Fn(&T) -> AgentId,
    chunk_of: impl Fn(Vec<T>) -> Chunk,
) -> Vec<(usize, Chunk)> {
    debug_assert!(records.is_sorted_by_key(&id_of), "a chunk is in the order of ids");
    let shard_of = |record: &T| id_of(record).partition().shard(shards);
    let mut parts = Vec::new();
    // From the end: as a rule all are of one shard, and nothing has to be moved.
    while let Some(shard) = records.last().map(shard_of) {
        let first = records.partition_point(|record| shard_of(record) < shard);
        let part = if first == 0 { std::mem::take(&mut records) } else { records.split_off(first) };
        parts.push((shard, chunk_of(part)));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::LastHeartbeat;

    /// The ids that go to each shard.
    fn divided(shards: usize, ids: &[u64]) -> Vec<(usize, Vec<u64>)> {
        let records = ids.iter().copied().map(LastHeartbeat::bare).collect();
        let mut parts: Vec<_> = by_shard(shards, records, |last| last.id, Chunk::Heartbeats)
            .into_iter()
            .map(|(shard, chunk)| match chunk {
                Chunk::Heartbeats(part) => (shard, part.iter().map(|last| last.id.get()).collect()),
                Chunk::Policies(_) | Chunk::Registrations(_) => panic!("a chunk keeps its kind"),
            })
            .collect();
        parts.sort();
        parts
    }

    #[test]
    fn each_shard_gets_its_part_of_a_chunk_in_the_same_order() {
        let half = 1 << 63;
        assert_eq!(divided(2, &[]), []);
        assert_eq!(divided(2, &[1, 2]), [(0, vec![1, 2])]);
        assert_eq!(divided(2, &[1, 2, half, half + 1]), [(0, vec![1, 2]), (1, vec![half, half + 1])]);
        assert_eq!(divided(4, &[0, half, u64::MAX]), [(0, vec![0]), (2, vec![half]), (3, vec![u64::MAX])]);
    }
}

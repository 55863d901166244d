//! The latest heartbeat of every agent: what a log of flushes comes down to when the fleet is loaded.
//!
//! A log holds several heartbeats of an agent, of which the last one counts. It is read backwards, so that those that are
//! superseded are passed over without being decoded; what counts is kept as it is stored, until the agent's turn comes.

use std::{
    collections::{HashMap, hash_map::Entry},
    ops::Range,
};

use parking_lot::Mutex;

use super::heartbeat_log::records_of;
use crate::{
    fleet::{AgentId, Partition},
    limits::PARTITIONS,
};

/// The latest heartbeats in one stretch of a log, by partition. Each partition is taken out once, by the thread that loads
/// it.
#[derive(Debug)]
pub(super) struct LogSegment {
    partitions: Box<[Mutex<Records>]>,
}

#[derive(Debug, Default)]
struct Records {
    bytes: Vec<u8>,
    places: HashMap<AgentId, Range<usize>>,
}

impl LogSegment {
    /// A stretch from its flushes, the latest first.
    pub(super) fn gather<E>(flushes: impl Iterator<Item = Result<impl AsRef<[u8]>, E>>) -> Result<Self, E> {
        let mut partitions: Vec<Records> = (0..PARTITIONS).map(|_| Records::default()).collect();
        for flush in flushes {
            let flush = flush?;
            let records: Vec<_> = records_of(flush.as_ref()).collect();
            for (id, record) in records.into_iter().rev() {
                partitions[usize::from(id.partition().get())].add_older(id, record);
            }
        }
        Ok(Self { partitions: partitions.into_iter().map(Mutex::new).collect() })
    }

    fn take(&self, partition: Partition) -> Records {
        let records = &self.partitions[usize::from(partition.get())];
        std::mem::take(&mut *records.lock())
    }
}

impl Records {
    /// Keeps the record, unless a later one of the same agent is there.
    fn add_older(&mut self, id: AgentId, record: &[u8]) {
        if let Entry::Vacant(place) = self.places.entry(id) {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(record);
            place.insert(start..self.bytes.len());
        }
    }
}

/// The latest heartbeats of a partition, out of all stretches of a log.
pub(super) struct Latest(Vec<Records>);

impl Latest {
    /// Takes those of `partition` out of `stretches`, of which the latest is the first.
    pub(super) fn take(stretches: &[LogSegment], partition: Partition) -> Self {
        Self(stretches.iter().map(|stretch| stretch.take(partition)).collect())
    }

    /// Takes the agent's, as it is stored.
    pub(super) fn of(&mut self, id: AgentId) -> Option<&[u8]> {
        let mut latest = None;
        for Records { bytes, places } in &mut self.0 {
            let place = places.remove(&id);
            latest = latest.or(place.map(|place| &bytes[place]));
        }
        latest
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// A stretch in which each flush is a list of ids and of records of one byte.
    fn stretch(latest_first: &[&[(u64, u8)]]) -> LogSegment {
        let flushes = latest_first.iter().map(|flush| {
            let record = |(id, byte): &(u64, u8)| [&id.to_be_bytes()[..], &[0, 1, *byte]].concat();
            Ok::<_, Infallible>(flush.iter().flat_map(record).collect::<Vec<_>>())
        });
        LogSegment::gather(flushes).unwrap()
    }

    fn id(number: u64) -> AgentId {
        AgentId::new(number)
    }

    #[test]
    fn the_latest_of_each_agent_counts_within_a_stretch_and_across_them() {
        let stretches = [stretch(&[&[(1, 9)], &[(1, 8), (2, 8)]]), stretch(&[&[(2, 7), (3, 7)], &[(3, 6)]])];
        let mut latest = Latest::take(&stretches, id(0).partition());
        assert_eq!(latest.of(id(1)), Some(&[9][..]));
        assert_eq!(latest.of(id(2)), Some(&[8][..]));
        assert_eq!(latest.of(id(3)), Some(&[7][..]));
        assert_eq!(latest.of(id(4)), None);
    }

    #[test]
    fn of_one_agent_in_a_flush_twice_the_second_counts() {
        let stretches = [stretch(&[&[(1, 8), (1, 9)]])];
        assert_eq!(Latest::take(&stretches, id(0).partition()).of(id(1)), Some(&[9][..]));
    }
}

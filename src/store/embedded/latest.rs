//! The latest heartbeat of every agent: what a log of flushes comes down to when the fleet is loaded.
//!
//! A log holds several heartbeats of an agent, of which the last one counts. It is read backwards, so that those that are
//! superseded are passed over without being decoded; what counts is kept as it is stored, until the agent is loaded.

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

/// The latest heartbeats in one segment of a log, by partition. Each partition is taken out once, by the thread that loads
/// it.
#[derive(Debug)]
pub(super) struct LogSegment {
    partitions: Box<[Mutex<Records>]>,
}

#[derive(Debug, Default)]
struct Records {
    bytes: Vec<u8>,
    ranges: HashMap<AgentId, Range<usize>>,
}

impl LogSegment {
    /// A segment from its flushes, the latest first.
    pub(super) fn collect<E>(flushes: impl Iterator<Item = Result<impl AsRef<[u8]>, E>>) -> Result<Self, E> {
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
        if let Entry::Vacant(range) = self.ranges.entry(id) {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(record);
            range.insert(start..self.bytes.len());
        }
    }
}

/// The latest heartbeats of a partition, out of all segments of a log.
pub(super) struct Latest(Vec<Records>);

impl Latest {
    /// Takes those of `partition` out of `segments`, of which the latest is the first.
    pub(super) fn take(segments: &[LogSegment], partition: Partition) -> Self {
        Self(segments.iter().map(|segment| segment.take(partition)).collect())
    }

    /// Takes the agent's, as it is stored.
    pub(super) fn of(&mut self, id: AgentId) -> Option<&[u8]> {
        let mut latest = None;
        for Records { bytes, ranges } in &mut self.0 {
            let range = ranges.remove(&id);
            latest = latest.or(range.map(|range| &bytes[range]));
        }
        latest
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// A segment in which each flush is a list of ids and of records of one byte.
    fn segment(latest_first: &[&[(u64, u8)]]) -> LogSegment {
        let flushes = latest_first.iter().map(|flush| {
            let record = |(id, byte): &(u64, u8)| [&id.to_be_bytes()[..], &[0, 1, *byte]].concat();
            Ok::<_, Infallible>(flush.iter().flat_map(record).collect::<Vec<_>>())
        });
        LogSegment::collect(flushes).unwrap()
    }

    fn id(number: u64) -> AgentId {
        AgentId::new(number)
    }

    #[test]
    fn the_latest_of_each_agent_counts_within_a_stretch_and_across_them() {
        let segments = [segment(&[&[(1, 9)], &[(1, 8), (2, 8)]]), segment(&[&[(2, 7), (3, 7)], &[(3, 6)]])];
        let mut latest = Latest::take(&segments, id(0).partition());
        assert_eq!(latest.of(id(1)), Some(&[9][..]));
        assert_eq!(latest.of(id(2)), Some(&[8][..]));
        assert_eq!(latest.of(id(3)), Some(&[7][..]));
        assert_eq!(latest.of(id(4)), None);
    }

    #[test]
    fn of_one_agent_in_a_flush_twice_the_second_counts() {
        let segments = [segment(&[&[(1, 8), (1, 9)]])];
        assert_eq!(Latest::take(&segments, id(0).partition()).of(id(1)), Some(&[9][..]));
    }
}

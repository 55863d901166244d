//! One partition of the fleet as Redis has it, and what is in it.

use redis::{RedisResult, Value, aio::MultiplexedConnection};

use super::{
    corrupt::{Corrupt, LeftOut, Unreadable},
    keys::{Keys, Kind, agent_of, field},
};
use crate::{
    fleet::{AgentId, Partition},
    store::{
        Chunk,
        loading::ChunkBuilder,
        record::{RecordError, decode_heartbeat, decode_registration},
    },
};

type Entry = (Vec<u8>, Vec<u8>);

/// A partition as Redis has it.
pub(super) struct Raw {
    partition: Partition,
    agents: Vec<Entry>,
    heartbeats: Vec<Entry>,
    /// Which of its keys hold something else.
    no_hashes: Vec<Kind>,
}

impl Raw {
    fn entries_mut(&mut self, kind: Kind) -> &mut Vec<Entry> {
        match kind {
            Kind::Agent => &mut self.agents,
            Kind::Heartbeat => &mut self.heartbeats,
        }
    }
}

/// Asks Redis for a partition.
pub(super) async fn fetch(
    mut connection: MultiplexedConnection,
    keys: &Keys,
    partition: Partition,
) -> RedisResult<Raw> {
    let mut ask = redis::pipe();
    ask.cmd("HGETALL").arg(keys.agents(partition)).cmd("HGETALL").arg(keys.heartbeats(partition));
    let answers: Vec<RedisResult<Value>> = ask.ignore_errors().query_async(&mut connection).await?;
    let mut raw = Raw { partition, agents: Vec::new(), heartbeats: Vec::new(), no_hashes: Vec::new() };
    for (kind, answer) in [Kind::Agent, Kind::Heartbeat].into_iter().zip(answers) {
        match answer {
            Ok(hash) => *raw.entries_mut(kind) = entries(hash),
            Err(error) if error.code() == Some("WRONGTYPE") => raw.no_hashes.push(kind),
            Err(error) => return Err(error),
        }
    }
    Ok(raw)
}

/// Fields and values of a hash; moved, not copied.
fn entries(hash: Value) -> Vec<Entry> {
    let Value::Array(items) = hash else { return Vec::new() };
    let mut items = items.into_iter();
    std::iter::from_fn(|| match (items.next()?, items.next()?) {
        (Value::BulkString(field), Value::BulkString(value)) => Some((field, value)),
        _ => None,
    })
    .collect()
}

/// A partition, understood.
pub(super) struct Content {
    partition: Partition,
    /// What is to be handed over.
    pub(super) chunks: Vec<Chunk>,
    /// What is not.
    pub(super) left_out: LeftOut,
}

impl Raw {
    /// Understands what can be understood.
    pub(super) fn decode(self) -> Content {
        let Self { partition, agents, heartbeats, no_hashes } = self;
        let left_out = LeftOut { partition, no_hashes, corrupt: Vec::new(), orphans: Vec::new() };
        let mut content = Content { partition, chunks: Vec::new(), left_out };
        let agents = content.in_order(Kind::Agent, agents);
        let mut heartbeats = content.in_order(Kind::Heartbeat, heartbeats).into_iter().peekable();
        let mut ordered = ChunkBuilder::default();
        for (id, value) in agents {
            let Some(registration) = content.understood(Kind::Agent, id, value, decode_registration) else {
                continue;
            };
            while let Some((orphan, value)) = heartbeats.next_if(|(other, _)| *other < id) {
                content.leave_out(orphan, value);
            }
            let last = heartbeats.next_if(|(other, _)| *other == id);
            let last = last.and_then(|(id, value)| content.understood(Kind::Heartbeat, id, value, decode_heartbeat));
            content.chunks.extend(ordered.push(registration, last).into_iter().flatten());
        }
        heartbeats.for_each(|(orphan, value)| content.leave_out(orphan, value));
        content.chunks.extend(ordered.take());
        content
    }
}

impl Content {
    /// The entries in the order of the agents' ids. Those that are of no agent of this partition are corrupt.
    fn in_order(&mut self, kind: Kind, entries: Vec<Entry>) -> Vec<(AgentId, Vec<u8>)> {
        let mut ordered = Vec::with_capacity(entries.len());
        for (field, value) in entries {
            match agent_of(&field, self.partition) {
                Some(id) => ordered.push((id, value)),
                None => self.left_out.corrupt.push(Corrupt { kind, field, value, error: Unreadable::Field }),
            }
        }
        ordered.sort_unstable_by_key(|(id, _)| *id);
        ordered
    }

    /// The record, unless it is corrupt.
    fn understood<T>(
        &mut self,
        kind: Kind,
        id: AgentId,
        value: Vec<u8>,
        decode: impl Fn(AgentId, &[u8]) -> Result<T, RecordError>,
    ) -> Option<T> {
        match decode(id, &value) {
            Ok(record) => Some(record),
            Err(error) => {
                self.left_out.corrupt.push(Corrupt { kind, field: field(id).to_vec(), value, error: error.into() });
                None
            }
        }
    }

    /// Notes the heartbeat of an agent that is not in the fleet.
    fn leave_out(&mut self, id: AgentId, value: Vec<u8>) {
        if self.understood(Kind::Heartbeat, id, value, decode_heartbeat).is_some() {
            self.left_out.orphans.push(field(id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::LOAD_CHUNK_MAX;

    const REGISTRATION: &[u8] =
        br#"[1,"h","linux","1","203.0.113.10",null,[],null,1,1,"n4bQgYhMfWWaL-qgxVrQFaO_TxsrC4Is0V1sFbDwCgg"]"#;
    const HEARTBEAT: &[u8] = br#"[1,1,1,1,"1",null,null,null]"#;

    fn entry(id: u64, value: &[u8]) -> Entry {
        (field(AgentId::new(id)).to_vec(), value.to_vec())
    }

    fn decoded(agents: Vec<Entry>, heartbeats: Vec<Entry>) -> Content {
        Raw { partition: AgentId::new(0).partition(), agents, heartbeats, no_hashes: Vec::new() }.decode()
    }

    /// The ids of what is handed over, chunk by chunk.
    fn ids(content: &Content) -> Vec<Vec<u64>> {
        let of = |chunk: &Chunk| match chunk {
            Chunk::Policies(_) => panic!("policies are of no partition"),
            Chunk::Registrations(registrations) => registrations.iter().map(|one| one.id.get()).collect(),
            Chunk::Heartbeats(heartbeats) => heartbeats.iter().map(|one| one.id.get()).collect(),
        };
        content.chunks.iter().map(of).collect()
    }

    #[test]
    fn agents_come_in_the_order_of_their_ids_each_with_its_heartbeat() {
        let agents = [3, 1, 2].map(|id| entry(id, REGISTRATION)).to_vec();
        let content = decoded(agents, vec![entry(3, HEARTBEAT), entry(1, HEARTBEAT)]);
        assert_eq!(ids(&content), [vec![1, 2, 3], vec![1, 3]]);
        assert_eq!((content.left_out.corrupt(), content.left_out.orphans()), (0, 0));
    }

    #[test]
    fn heartbeats_of_nobody_are_left_out_wherever_they_stand() {
        let heartbeats = (0..5).map(|id| entry(id, HEARTBEAT)).collect();
        let content = decoded(vec![entry(1, REGISTRATION), entry(3, REGISTRATION)], heartbeats);
        assert_eq!(ids(&content), [[1, 3], [1, 3]]);
        assert_eq!(content.left_out.orphans, [0, 2, 4].map(|id| field(AgentId::new(id))));
    }

    #[test]
    fn what_cannot_be_read_is_counted_and_all_else_is_handed_over() {
        let agents = vec![entry(1, b"torn"), entry(2, REGISTRATION), (b"nobody".to_vec(), REGISTRATION.to_vec())];
        let content = decoded(agents, vec![entry(1, HEARTBEAT), entry(2, b"torn"), entry(3, b"torn")]);
        assert_eq!(ids(&content), [vec![2], vec![]]);
        assert_eq!((content.left_out.corrupt(), content.left_out.orphans()), (4, 1));
    }

    #[test]
    fn a_large_partition_is_handed_over_in_chunks_of_bounded_size() {
        let agents = (0..2 * LOAD_CHUNK_MAX as u64 + 7).map(|id| entry(id, REGISTRATION)).collect();
        let sizes: Vec<_> = ids(&decoded(agents, Vec::new())).iter().map(Vec::len).collect();
        assert_eq!(sizes, [LOAD_CHUNK_MAX, 0, LOAD_CHUNK_MAX, 0, 7, 0]);
    }
}

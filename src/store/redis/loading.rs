//! The fleet out of Redis: partition by partition, several of them under way at once.

use futures_util::{StreamExt, TryStreamExt, stream};
use redis::{RedisResult, Value, aio::MultiplexedConnection};
use tokio::sync::mpsc;

use super::{
    keys::{Keys, agent_of},
    trouble::explained,
};
use crate::{
    fleet::{AgentId, LastHeartbeat, Partition, Registration},
    store::{
        Chunk, Loaded, StoreError,
        record::{RecordError, decode_heartbeat, decode_registration},
    },
};

/// Partitions that are asked for ahead of the one that is handed over.
const AHEAD: usize = 8;

/// Corrupt records of a partition that are named in the log; the others are counted.
const REPORTED_MAX: usize = 10;

/// Whether a load may put Redis in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tidy {
    /// Moves corrupt records aside, and removes heartbeats of agents that are not in the fleet.
    Yes,
    /// Only looks.
    No,
}

/// Hands the whole fleet to `out`.
pub(super) async fn load(
    connection: &MultiplexedConnection,
    keys: &Keys,
    out: mpsc::Sender<Chunk>,
    tidy: Tidy,
) -> Result<Loaded, StoreError> {
    let mut loaded = Loaded::default();
    let fetched = stream::iter(Partition::all()).map(async |partition| {
        let raw = fetch(connection.clone(), keys, partition).await.map_err(|error| unreadable(&error))?;
        // Decoding a large fleet on one thread would take longer than fetching it.
        tokio::task::spawn_blocking(move || raw.decode()).await.map_err(StoreError::unavailable)
    });
    let mut fetched = std::pin::pin!(fetched.buffer_unordered(AHEAD));
    while let Some(content) = fetched.try_next().await? {
        loaded.agents += content.registrations.len() as u64;
        loaded.heartbeats += content.heartbeats.len() as u64;
        loaded.corrupt += (content.corrupt.len() + content.no_hashes.len()) as u64;
        loaded.orphans += content.orphans.len() as u64;
        for corrupt in content.corrupt.iter().take(REPORTED_MAX) {
            tracing::error!(
                key = corrupt.kind.key(keys, content.partition),
                field = %String::from_utf8_lossy(&corrupt.field),
                error = %corrupt.error,
                "a record in Redis cannot be read; it is left out"
            );
        }
        for kind in &content.no_hashes {
            let key = kind.key(keys, content.partition);
            tracing::error!(key, "a key in Redis is not the hash it should be; it is left out");
        }
        if tidy == Tidy::Yes
            && let Err(error) = content.tidy_up(connection.clone(), keys).await
        {
            tracing::warn!(
                error = explained(&error),
                "corrupt records could not be set aside; they stay where they are"
            );
        }
        for chunk in [Chunk::Registrations(content.registrations), Chunk::Heartbeats(content.heartbeats)] {
            if out.send(chunk).await.is_err() {
                return Ok(loaded);
            }
        }
    }
    Ok(loaded)
}

fn unreadable(error: &redis::RedisError) -> StoreError {
    StoreError::unavailable(format_args!("the fleet could not be read from Redis: {}", explained(error)))
}

type Entry = (Vec<u8>, Vec<u8>);

/// A partition as Redis has it.
struct Raw {
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

async fn fetch(mut connection: MultiplexedConnection, keys: &Keys, partition: Partition) -> RedisResult<Raw> {
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

#[derive(Clone, Copy, Debug)]
enum Kind {
    Agent,
    Heartbeat,
}

impl Kind {
    fn key(self, keys: &Keys, partition: Partition) -> String {
        match self {
            Self::Agent => keys.agents(partition),
            Self::Heartbeat => keys.heartbeats(partition),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Heartbeat => "heartbeat",
        }
    }
}

/// A record that cannot be read.
struct Corrupt {
    kind: Kind,
    field: Vec<u8>,
    value: Vec<u8>,
    error: Unreadable,
}

#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error("its field is not an agent of this partition")]
    Field,
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// A partition, understood.
struct Content {
    partition: Partition,
    registrations: Vec<Registration>,
    heartbeats: Vec<LastHeartbeat>,
    corrupt: Vec<Corrupt>,
    /// Keys that are no hashes.
    no_hashes: Vec<Kind>,
    /// Fields of heartbeats whose agent is not in the fleet.
    orphans: Vec<Vec<u8>>,
}

impl Raw {
    fn decode(self) -> Content {
        let Self { partition, agents, heartbeats, no_hashes } = self;
        let mut corrupt = Vec::new();
        let registrations = decode_all(partition, Kind::Agent, agents, decode_registration, &mut corrupt);
        let known: std::collections::HashSet<AgentId> = registrations.iter().map(|agent| agent.id).collect();
        let decoded = decode_all(partition, Kind::Heartbeat, heartbeats, decode_heartbeat, &mut corrupt);
        let (heartbeats, orphans): (Vec<_>, Vec<_>) = decoded.into_iter().partition(|last| known.contains(&last.id));
        let orphans = orphans.into_iter().map(|last| super::keys::field(last.id).to_vec()).collect();
        Content { partition, registrations, heartbeats, corrupt, no_hashes, orphans }
    }
}

fn decode_all<T>(
    partition: Partition,
    kind: Kind,
    entries: Vec<Entry>,
    decode: impl Fn(AgentId, &[u8]) -> Result<T, RecordError>,
    corrupt: &mut Vec<Corrupt>,
) -> Vec<T> {
    let mut decoded = Vec::with_capacity(entries.len());
    for (field, value) in entries {
        let record = agent_of(&field, partition).ok_or(Unreadable::Field).and_then(|id| Ok(decode(id, &value)?));
        match record {
            Ok(record) => decoded.push(record),
            Err(error) => corrupt.push(Corrupt { kind, field, value, error }),
        }
    }
    decoded
}

impl Content {
    /// Moves what cannot be read to where it is kept for people, and removes what belongs to nobody.
    async fn tidy_up(&self, mut connection: MultiplexedConnection, keys: &Keys) -> RedisResult<()> {
        for kind in &self.no_hashes {
            let key = kind.key(keys, self.partition);
            let aside = format!("{key}:corrupt");
            redis::cmd("RENAME").arg(&key).arg(aside).query_async::<()>(&mut connection).await?;
        }
        if self.corrupt.is_empty() && self.orphans.is_empty() {
            return Ok(());
        }
        let mut transaction = redis::pipe();
        transaction.atomic();
        for Corrupt { kind, field, value, .. } in &self.corrupt {
            let kept_as = [kind.name().as_bytes(), b":", field].concat();
            transaction.cmd("HSET").arg(keys.corrupt(self.partition)).arg(kept_as).arg(value.as_slice()).ignore();
            transaction.cmd("HDEL").arg(kind.key(keys, self.partition)).arg(field.as_slice()).ignore();
        }
        for field in &self.orphans {
            transaction.cmd("HDEL").arg(keys.heartbeats(self.partition)).arg(field.as_slice()).ignore();
        }
        transaction.query_async(&mut connection).await
    }
}

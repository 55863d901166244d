//! Records in Redis that cannot be read: reported, and set aside under a key of their own.

use redis::{RedisResult, aio::MultiplexedConnection};

use super::keys::{Keys, Kind};
use crate::{fleet::Partition, limits::REDIS_CORRUPT_LOGGED_MAX, store::record::RecordError};

/// A record that cannot be read.
pub(super) struct Corrupt {
    pub(super) kind: Kind,
    pub(super) field: Vec<u8>,
    pub(super) value: Vec<u8>,
    pub(super) error: Unreadable,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("its field is not an agent of this partition")]
    Field,
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// What of a partition is not handed over.
pub(super) struct LeftOut {
    pub(super) partition: Partition,
    pub(super) corrupt: Vec<Corrupt>,
    /// Keys that are no hashes.
    pub(super) no_hashes: Vec<Kind>,
    /// Fields of heartbeats whose agent is not in the fleet.
    pub(super) orphans: Vec<[u8; 16]>,
}

impl LeftOut {
    /// Records that could not be read.
    pub(super) fn corrupt(&self) -> u64 {
        (self.corrupt.len() + self.no_hashes.len()) as u64
    }

    /// Heartbeats of agents that are not in the fleet.
    pub(super) fn orphans(&self) -> u64 {
        self.orphans.len() as u64
    }

    /// Logs what cannot be read.
    pub(super) fn report(&self, keys: &Keys) {
        for corrupt in self.corrupt.iter().take(REDIS_CORRUPT_LOGGED_MAX) {
            tracing::error!(
                key = corrupt.kind.key(keys, self.partition),
                field = %String::from_utf8_lossy(&corrupt.field),
                error = %corrupt.error,
                "a record in Redis cannot be read; it is left out"
            );
        }
        for kind in &self.no_hashes {
            let key = kind.key(keys, self.partition);
            tracing::error!(key, "a key in Redis is not the hash it should be; it is left out");
        }
    }

    /// Moves what cannot be read to where it is kept for people, and removes what belongs to nobody.
    pub(super) async fn set_aside(&self, mut connection: MultiplexedConnection, keys: &Keys) -> RedisResult<()> {
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

//! The policies of a fleet in Redis: one hash, with a field for each scope that has any.

use std::sync::Arc;

use redis::{Pipeline, RedisResult, aio::MultiplexedConnection};

use super::keys::Keys;
use crate::{
    fleet::PolicyVersion,
    limits::POLICY_STEP_MAX,
    policy::{PolicyScope, ScopePolicies},
    store::{
        Chunk,
        policy_record::{decode_policies, encode_policies},
        record::RecordError,
    },
};

/// The field of the newest version, among the facts of the fleet.
const VERSION: &str = "policy";

/// Appends to a transaction what there is in these scopes now; none: no policies.
pub(super) fn write<'a>(
    transaction: &mut Pipeline,
    keys: &Keys,
    scopes: impl IntoIterator<Item = (&'a PolicyScope, Option<&'a ScopePolicies>)>,
) {
    for (scope, policies) in scopes {
        match policies {
            Some(policies) => {
                let record = encode_policies(policies);
                transaction.cmd("HSET").arg(keys.policies()).arg(scope.to_string()).arg(record).ignore();
            }
            None => {
                transaction.cmd("HDEL").arg(keys.policies()).arg(scope.to_string()).ignore();
            }
        }
    }
}

/// Appends to a transaction the newest version of a policy that was ever given out.
pub(super) fn write_version(transaction: &mut Pipeline, keys: &Keys, version: PolicyVersion) {
    transaction.cmd("HSET").arg(keys.meta()).arg(VERSION).arg(version.get()).ignore();
}

/// The newest version of a policy that was ever given out.
pub(super) async fn fetch_version(mut connection: MultiplexedConnection, keys: &Keys) -> RedisResult<PolicyVersion> {
    let number: Option<u32> = redis::cmd("HGET").arg(keys.meta()).arg(VERSION).query_async(&mut connection).await?;
    Ok(number.map_or(PolicyVersion::NONE, PolicyVersion::new))
}

/// The policies of a fleet, understood.
#[derive(Default)]
pub(super) struct PolicyContent {
    pub(super) chunks: Vec<Chunk>,
    corrupt: Vec<Corrupt>,
    is_no_hash: bool,
}

struct Corrupt {
    scope: Vec<u8>,
    record: Vec<u8>,
    error: RecordError,
}

/// Asks Redis for the policies. What they may take together is bounded, so they are asked for together.
pub(super) async fn fetch(mut connection: MultiplexedConnection, keys: &Keys) -> RedisResult<PolicyContent> {
    let answer = redis::cmd("HGETALL").arg(keys.policies()).query_async(&mut connection).await;
    let entries: Vec<(Vec<u8>, Vec<u8>)> = match answer {
        Ok(entries) => entries,
        Err(error) if error.code() == Some("WRONGTYPE") => {
            return Ok(PolicyContent { is_no_hash: true, ..PolicyContent::default() });
        }
        Err(error) => return Err(error),
    };
    let (mut understood, mut corrupt) = (Vec::new(), Vec::new());
    for (scope, record) in entries {
        match decode_policies(&scope, &record) {
            Ok(policies) => understood.push(Arc::new(policies)),
            Err(error) => corrupt.push(Corrupt { scope, record, error }),
        }
    }
    let chunks = understood.chunks(POLICY_STEP_MAX).map(|some| Chunk::Policies(some.to_vec())).collect();
    Ok(PolicyContent { chunks, corrupt, is_no_hash: false })
}

impl PolicyContent {
    /// Records that could not be read.
    pub(super) fn corrupt(&self) -> u64 {
        (self.corrupt.len() + usize::from(self.is_no_hash)) as u64
    }

    /// Logs what cannot be read.
    pub(super) fn report(&self, keys: &Keys) {
        let key = keys.policies();
        for Corrupt { scope, error, .. } in &self.corrupt {
            let field = String::from_utf8_lossy(scope);
            tracing::error!(key, %field, %error, "policies in Redis cannot be read; they are left out");
        }
        if self.is_no_hash {
            tracing::error!(key, "a key in Redis is not the hash it should be; it is left out");
        }
    }

    /// Moves what cannot be read to where it is kept for people.
    pub(super) async fn set_aside(&self, mut connection: MultiplexedConnection, keys: &Keys) -> RedisResult<()> {
        if self.is_no_hash {
            let key = keys.policies();
            let aside = format!("{key}:corrupt");
            return redis::cmd("RENAME").arg(key).arg(aside).query_async(&mut connection).await;
        }
        if self.corrupt.is_empty() {
            return Ok(());
        }
        let mut transaction = redis::pipe();
        transaction.atomic();
        for Corrupt { scope, record, .. } in &self.corrupt {
            let kept_as = [b"policies:", &scope[..]].concat();
            transaction.cmd("HSET").arg(keys.corrupt_shared()).arg(kept_as).arg(&record[..]).ignore();
            transaction.cmd("HDEL").arg(keys.policies()).arg(&scope[..]).ignore();
        }
        transaction.query_async(&mut connection).await
    }
}

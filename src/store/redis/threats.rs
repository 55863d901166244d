//! The threats in Redis: for each tenant a stream of index entries and one of payloads, with the same ids.
//!
//! A stream is kept in the order of its ids, which are those of the threats and so their times; one is found by its id, all
//! are read from the first to the last, and the oldest are cut off in one command. That is all that is asked of it: what
//! is counted and searched for is in memory.

use std::{collections::BTreeMap, sync::Arc};

use redis::{Pipeline, RedisError, aio::MultiplexedConnection};
use tokio::sync::mpsc;

use super::{
    error_class::{ErrorClass, explained, is_wrong_type},
    keys::Keys,
    session::SessionFactory,
};
use crate::{
    limits::LOAD_CHUNK_MAX,
    store::{
        LoadedThreats, StoreError, StoredThreat, ThreatRange,
        loading::readers,
        threat_record::{decode_entry, encode_entry, read_payload},
    },
    threats::{Threat, ThreatEntry, ThreatId, ThreatKey},
};

/// The name of the only field of an entry.
const FIELD: &str = "r";

/// An entry as Redis gives it back: its id, and field and value.
type Entry = (String, Vec<Vec<u8>>);

pub(super) fn report(transaction: &mut Pipeline, keys: &Keys, threats: &[StoredThreat]) {
    let mut tenants: BTreeMap<&str, (String, String)> = BTreeMap::new();
    for StoredThreat { entry, payload } in threats {
        let org = entry.org.as_deref().unwrap_or_default();
        let (index, payloads) = tenants.entry(org).or_insert_with(|| (keys.threats(org), keys.threat_payloads(org)));
        let id = printed(entry.id);
        transaction.cmd("XADD").arg(&*index).arg(&id).arg(FIELD).arg(encode_entry(entry)).ignore();
        transaction.cmd("XADD").arg(&*payloads).arg(&id).arg(FIELD).arg(&payload[..]).ignore();
    }
    for org in tenants.keys() {
        transaction.cmd("SADD").arg(keys.threat_tenants()).arg(org).ignore();
    }
    if let Some(last) = threats.last() {
        transaction.cmd("HSET").arg(keys.meta()).arg("threat").arg(last.entry.id.get()).ignore();
    }
}

pub(super) fn remove(transaction: &mut Pipeline, keys: &Keys, threats: &[ThreatKey]) {
    for ThreatKey { org, id } in threats {
        let (org, id) = (org.as_deref().unwrap_or_default(), printed(*id));
        transaction.cmd("XDEL").arg(keys.threats(org)).arg(&id).ignore();
        transaction.cmd("XDEL").arg(keys.threat_payloads(org)).arg(&id).ignore();
    }
}

pub(super) fn trim(transaction: &mut Pipeline, keys: &Keys, trim: &ThreatRange) {
    let org = trim.org.as_deref().unwrap_or_default();
    let first_kept = printed(ThreatId::new(trim.up_to.get().saturating_add(1)));
    for key in [keys.threats(org), keys.threat_payloads(org)] {
        transaction.cmd("XTRIM").arg(key).arg("MINID").arg(&first_kept).ignore();
    }
}

/// Hands the index entries of all threats to `out`, from a thread with a connection of its own, as the fleet is loaded.
pub(super) async fn load(
    factory: &Arc<SessionFactory>,
    out: mpsc::Sender<Vec<ThreatEntry>>,
    is_ours: bool,
) -> Result<LoadedThreats, StoreError> {
    let factory = factory.clone();
    let read = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(StoreError::unavailable)?.block_on(async {
            let connection = if is_ours { factory.assist(readers()).await } else { factory.look().await };
            let reading =
                async { Ok(Reader { connection: connection?, keys: &factory.keys, out, is_ours }.read().await?) };
            reading.await.map_err(|error: ErrorClass| unreadable(&error.to_string()))
        })
    });
    read.await.unwrap_or_else(|panic| Err(StoreError::unavailable(panic)))
}

struct Reader<'a> {
    connection: MultiplexedConnection,
    keys: &'a Keys,
    out: mpsc::Sender<Vec<ThreatEntry>>,
    /// Whether keys that are no streams may be set aside.
    is_ours: bool,
}

impl Reader<'_> {
    async fn read(mut self) -> Result<LoadedThreats, RedisError> {
        let mut ask = redis::cmd("HGET");
        let last: Option<u64> = ask.arg(self.keys.meta()).arg("threat").query_async(&mut self.connection).await?;
        let mut loaded = LoadedThreats { last: last.map(ThreatId::new), ..LoadedThreats::default() };
        let mut ask = redis::cmd("SMEMBERS");
        let orgs = match ask.arg(self.keys.threat_tenants()).query_async::<Vec<Vec<u8>>>(&mut self.connection).await {
            Err(error) if is_wrong_type(&error) => {
                loaded.corrupt += 1;
                self.set_aside(&self.keys.threat_tenants(), "set of the tenants that have threats").await?;
                // Those of other tenants are there, and found again once one of them reports.
                vec![Vec::new()]
            }
            orgs => orgs?,
        };
        for org in orgs {
            // A name that is not text is not ours.
            let Ok(org) = String::from_utf8(org) else { continue };
            let are_streams = self.is_stream(self.keys.threats(&org)).await?
                && self.is_stream(self.keys.threat_payloads(&org)).await?;
            if !are_streams {
                loaded.corrupt += 1;
            } else if !self.read_tenant(&org, &mut loaded).await? {
                break;
            }
        }
        Ok(loaded)
    }

    /// Whether the key can be used. One of another type is set aside, as it would stand in the way of every report.
    async fn is_stream(&mut self, key: String) -> Result<bool, RedisError> {
        let mut ask = redis::cmd("XRANGE");
        ask.arg(&key).arg("-").arg("+").arg("COUNT").arg(1);
        match ask.query_async::<redis::Value>(&mut self.connection).await {
            Ok(_) => Ok(true),
            Err(error) if is_wrong_type(&error) => {
                self.set_aside(&key, "stream of threats").await?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    async fn set_aside(&mut self, key: &str, should_be: &str) -> Result<(), RedisError> {
        tracing::error!(key, "a key in Redis is no {should_be}; it is set aside under the name with :corrupt");
        if self.is_ours {
            let aside = format!("{key}:corrupt");
            redis::cmd("RENAME").arg(key).arg(aside).query_async::<()>(&mut self.connection).await?;
        }
        Ok(())
    }

    /// Answers whether more is wanted.
    async fn read_tenant(&mut self, org: &str, loaded: &mut LoadedThreats) -> Result<bool, RedisError> {
        let key = self.keys.threats(org);
        let mut from = "-".to_owned();
        loop {
            let mut ask = redis::cmd("XRANGE");
            ask.arg(&key).arg(&from).arg("+").arg("COUNT").arg(LOAD_CHUNK_MAX);
            let entries: Vec<Entry> = ask.query_async(&mut self.connection).await?;
            let Some((last, _)) = entries.last() else { return Ok(true) };
            from = format!("({last}");
            let decoded: Vec<_> = entries.iter().filter_map(|entry| decode(org, entry, loaded)).collect();
            loaded.threats += decoded.len() as u64;
            if self.out.send(decoded).await.is_err() {
                return Ok(false);
            }
        }
    }
}

fn decode(org: &str, (id, fields): &Entry, loaded: &mut LoadedThreats) -> Option<ThreatEntry> {
    // Entries with ids of another form are not ours.
    let id = parsed(id)?;
    let key = ThreatKey { org: (!org.is_empty()).then(|| org.into()), id };
    // Even of one that cannot be read: the stream takes none before it.
    loaded.last = loaded.last.max(Some(id));
    let decoded = decode_entry(key, fields.get(1).map_or(&[], Vec::as_slice));
    decoded.inspect_err(|error| loaded.is_corrupt(id, error)).ok()
}

/// The threats of these names, each if it is there and can be read.
pub(super) async fn read(
    mut connection: MultiplexedConnection,
    keys: &Keys,
    wanted: Vec<ThreatKey>,
) -> Result<Vec<Option<Threat>>, StoreError> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let mut ask = redis::pipe();
    for ThreatKey { org, id } in &wanted {
        let id = printed(*id);
        ask.cmd("XRANGE").arg(keys.threat_payloads(org.as_deref().unwrap_or_default())).arg(&id).arg(&id);
    }
    let found: Vec<Vec<Entry>> =
        ask.query_async(&mut connection).await.map_err(|error| unreadable(&explained(&error)))?;
    let read = found.iter().zip(wanted).map(|(found, key)| {
        let (_, fields) = found.first()?;
        read_payload(key, fields.get(1).map_or(&[], Vec::as_slice))
    });
    Ok(read.collect())
}

fn unreadable(reason: &str) -> StoreError {
    StoreError::unavailable(format_args!("the threats could not be read from Redis: {reason}"))
}

/// The id as Redis writes those of streams: milliseconds, and the number within them.
fn printed(id: ThreatId) -> String {
    format!("{}-{}", id.millis(), id.number())
}

fn parsed(text: &str) -> Option<ThreatId> {
    let (millis, number) = text.split_once('-')?;
    ThreatId::from_parts(millis.parse().ok()?, number.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_entries_are_those_of_threats() {
        for id in [0, 1, 0x019c_c8a1_e1e0_0007, u64::MAX].map(ThreatId::new) {
            assert_eq!(parsed(&printed(id)), Some(id));
        }
        assert_eq!(printed(ThreatId::after(None, 1_772_885_100_000)), "1772885100000-0");
        for foreign in ["", "1", "1-", "-1", "1-1048576", "17592186044416-0", "a-b"] {
            assert_eq!(parsed(foreign), None);
        }
    }
}

//! The threats of the embedded store: beside the registrations, so that one transaction, and one fsync, has both.
//!
//! | keyspace | key | value |
//! | --- | --- | --- |
//! | `threats` | length of the tenant's name (2 bytes, 0 for none), the name, the id (8 bytes), big-endian | the row |
//! | `threat_bodies` | the same | the body |
//! | `meta` | `threat` | the latest id that was given out, decimal |

use fjall::{Keyspace, Readable};
use tokio::sync::mpsc;

use super::{
    changing::{Changing, Kind, View},
    database::{Tables, plain, read_failed},
    files::Damage,
    ledger::Sum,
    registry::Registry,
};
use crate::{
    limits::{DISCARD_TRANSACTION_MAX, LOAD_CHUNK_MAX},
    store::{
        Discard, LoadedThreats, StoreError, StoredThreat, ThreatRange,
        threat_record::{decode_entry, encode_entry, read_payload},
    },
    threats::{Threat, ThreatEntry, ThreatId, ThreatKey},
};

/// The keyspaces of threats.
pub(super) struct Threats {
    pub(super) rows: Keyspace,
    bodies: Keyspace,
}

impl Threats {
    pub(super) fn of(tables: &Tables) -> fjall::Result<Self> {
        let (rows, bodies) = (tables.keyspace("threats")?, tables.keyspace("threat_bodies")?);
        Ok(Self { rows, bodies })
    }

    pub(super) fn report(changing: &mut Changing<'_>, threats: &[StoredThreat]) -> Result<(), StoreError> {
        for StoredThreat { entry, body } in threats {
            let key = key_of(entry.org.as_deref(), entry.id);
            changing.put(Kind::Threat, &key, encode_entry(entry).as_ref())?;
            let bodies = changing.threats()?.bodies.clone();
            changing.batch.insert(&bodies, key.as_slice(), &body[..]);
        }
        if let Some(last) = threats.last() {
            changing.batch.insert(&changing.tables.meta, "threat", last.entry.id.get().to_string());
        }
        Ok(())
    }
}

/// Discards threats, a few thousand at a time and without an fsync: what a power cut brings back is discarded again.
pub(super) fn discard(registry: &Registry, discards: &[Discard]) -> Result<(), StoreError> {
    discards.iter().try_for_each(|discard| match discard {
        Discard::Threats(keys) => keys.chunks(DISCARD_TRANSACTION_MAX).try_for_each(|keys| {
            let keys = keys.iter().map(|key| key_of(key.org.as_deref(), key.id));
            remove_all(registry, keys.collect())
        }),
        Discard::Oldest(ThreatRange { org, from, up_to }) => {
            let (mut from, up_to) = (key_of(org.as_deref(), *from), key_of(org.as_deref(), *up_to));
            loop {
                let rows = Threats::of(&registry.tables()?).map_err(|error| read_failed(registry.path(), &error))?.rows;
                let keys = rows
                    .range(&from[..]..=&up_to[..])
                    .take(DISCARD_TRANSACTION_MAX)
                    .map(|entry| Ok(entry.key()?.to_vec()));
                let keys: Vec<_> =
                    keys.collect::<fjall::Result<_>>().map_err(|error| read_failed(registry.path(), &error))?;
                drop(rows);
                let Some(last) = keys.last().cloned() else { return Ok(()) };
                remove_all(registry, keys)?;
                // What has been removed leaves marks, which are not to be gone through again.
                from = last;
            }
        }
    })
}

fn remove_all(registry: &Registry, keys: Vec<Vec<u8>>) -> Result<(), StoreError> {
    registry.change_softly(|changing| {
        let bodies = changing.threats()?.bodies.clone();
        for key in keys {
            changing.remove(Kind::Threat, &key)?;
            changing.batch.remove(&bodies, key.as_slice());
        }
        Ok(())
    })
}

/// Hands the rows of all threats to `out`.
pub(super) fn load(registry: &Registry, out: &mpsc::Sender<Vec<ThreatEntry>>) -> Result<LoadedThreats, StoreError> {
    let view = registry.view()?;
    let failed = |error: fjall::Error| read_failed(&view.path, &error);
    let threats = Threats::of(&view.tables).map_err(failed)?;
    let last = view.snapshot.get(&view.tables.meta, "threat").map_err(failed)?;
    let last = last.and_then(|digits| std::str::from_utf8(&digits).ok()?.parse().ok()).map(ThreatId::new);
    let mut loaded = LoadedThreats { last, ..LoadedThreats::default() };
    let mut rows = Vec::with_capacity(LOAD_CHUNK_MAX);
    let mut sum = Sum::default();
    let mut ends: Option<(fjall::Slice, fjall::Slice)> = None;
    for entry in view.snapshot.iter(&threats.rows) {
        let (key, row) = entry.into_inner().map_err(failed)?;
        sum.add(&key, &row);
        ends = Some((ends.map_or_else(|| key.clone(), |(first, _)| first), key.clone()));
        // Keys of another form are not ours.
        let Some(key) = named_by(&key) else { continue };
        let id = key.id;
        match decode_entry(key, &row) {
            Ok(row) => {
                loaded.last = loaded.last.max(Some(id));
                rows.push(row);
            }
            Err(error) => loaded.is_corrupt(id, &error),
        }
        if rows.len() == LOAD_CHUNK_MAX {
            loaded.threats += rows.len() as u64;
            if out.blocking_send(std::mem::replace(&mut rows, Vec::with_capacity(LOAD_CHUNK_MAX))).is_err() {
                return Ok(loaded);
            }
        }
    }
    view.must_be_all(Kind::Threat, sum)?;
    must_have_bodies(&view, &threats, ends)?;
    loaded.threats += rows.len() as u64;
    // If nobody wants them any more there is nobody to answer.
    let _ = out.blocking_send(rows);
    Ok(loaded)
}

/// Bodies are written with their rows, and are too many to be read at a start: that of the first row and that of the last
/// tell whether they are there at all.
fn must_have_bodies(
    view: &View,
    threats: &Threats,
    ends: Option<(fjall::Slice, fjall::Slice)>,
) -> Result<(), StoreError> {
    let Some((first, last)) = ends else { return Ok(()) };
    for key in [first, last] {
        let is_there = view.snapshot.contains_key(&threats.bodies, &key);
        if !is_there.map_err(|error| read_failed(&view.path, &error))? {
            return Err(Damage::new(&*view.path, "does not hold the bodies of its threats").into());
        }
    }
    Ok(())
}

/// The threats of these names, each if it is there and can be read.
pub(super) fn read(registry: &Registry, keys: Vec<ThreatKey>) -> Result<Vec<Option<Threat>>, StoreError> {
    let path = registry.path();
    let threats = Threats::of(&registry.tables()?).map_err(|error| read_failed(path, &error))?;
    let read = keys.into_iter().map(|key| {
        let id = key.id;
        let name = key_of(key.org.as_deref(), id);
        let left_out = |error: &str| tracing::error!(threat = %id, path = %path.display(), error, "{LEFT_OUT}");
        match threats.bodies.get(&name) {
            Ok(Some(body)) => Ok(read_payload(key, &body)),
            Ok(None) => {
                // It may have been discarded, but then its row has gone with it.
                if threats.rows.contains_key(&name).map_err(|error| read_failed(path, &error))? {
                    left_out("its body is missing");
                }
                Ok(None)
            }
            Err(error) => match read_failed(path, &error) {
                // The others can be read all the same.
                StoreError::Damaged(_) => {
                    left_out(&plain(&error));
                    Ok(None)
                }
                failed => Err(failed),
            },
        }
    });
    read.collect()
}

const LEFT_OUT: &str = "a threat in the store cannot be read; it is left out";

/// Removes rows without a body, and bodies without a row.
pub(super) fn drop_halves(tables: &Tables) -> fjall::Result<()> {
    let threats = Threats::of(tables)?;
    let mut batch = tables.database.batch();
    let mut bodies = threats.bodies.iter().map(fjall::Guard::key);
    let mut body = bodies.next().transpose()?;
    for row in threats.rows.iter().map(fjall::Guard::key) {
        let row = row?;
        while let Some(key) = body.take_if(|body| *body < row) {
            batch.remove(&threats.bodies, key);
            body = bodies.next().transpose()?;
        }
        if body.as_ref() == Some(&row) {
            body = bodies.next().transpose()?;
        } else {
            batch.remove(&threats.rows, row);
        }
        if batch.len() >= DISCARD_TRANSACTION_MAX {
            std::mem::replace(&mut batch, tables.database.batch()).commit()?;
        }
    }
    while let Some(key) = body {
        batch.remove(&threats.bodies, key);
        body = bodies.next().transpose()?;
    }
    batch.commit()
}

fn key_of(org: Option<&str>, id: ThreatId) -> Vec<u8> {
    let org = org.unwrap_or_default().as_bytes();
    let length = u16::try_from(org.len()).expect("a tenant's name has 64 characters at most");
    [&length.to_be_bytes()[..], org, &id.get().to_be_bytes()].concat()
}

fn named_by(key: &[u8]) -> Option<ThreatKey> {
    let (length, rest) = key.split_first_chunk()?;
    let (org, id) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    let org = (!org.is_empty()).then(|| std::str::from_utf8(org).map(Into::into)).transpose().ok()?;
    Some(ThreatKey { org, id: ThreatId::new(u64::from_be_bytes(id.try_into().ok()?)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_order_of_ids_within_a_tenant_and_tell_both() {
        let key = |org, id| key_of(org, ThreatId::new(id));
        assert!(key(None, u64::MAX) < key(Some("a"), 0));
        assert!(key(Some("a"), 1) < key(Some("a"), 256));
        assert!(key(Some("a"), u64::MAX) < key(Some("aa"), 0));
        for org in [None, Some("acme \u{7d44}")] {
            let named = named_by(&key(org, 7)).unwrap();
            assert_eq!((named.org.as_deref(), named.id), (org, ThreatId::new(7)));
        }
        for foreign in [&b""[..], b"\0", b"\0\x05abc", b"\0\x01\xff12345678", b"\0\x01a1234567"] {
            assert_eq!(named_by(foreign), None);
        }
    }
}

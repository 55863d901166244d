//! Copying the threats of a fleet, and counting them.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use super::{
    StoreLocation, ToolError, counted,
    location::{Owned, Source},
    progress::{Progress, Screen},
    reading::{Stopped, feed},
};
use crate::{
    store::{Change, LoadedThreats, StoreError, StoreReader, StoredThreat},
    threats::{ThreatEntry, ThreatId, ThreatKey},
};

/// Reads the index entries of all threats and hands them, chunk by chunk, to `work`.
pub(super) async fn read(
    store: &dyn StoreReader,
    location: &StoreLocation,
    work: impl AsyncFnMut(Vec<ThreatEntry>) -> Result<(), ToolError>,
) -> Result<LoadedThreats, ToolError> {
    feed(|out| store.load_threats(out), work).await.map_err(|stopped| match stopped {
        Stopped::Store(error) => location.failed(error),
        Stopped::Reader(error) => error,
    })
}

/// A store to copy from.
pub(super) type From<'a> = (&'a StoreLocation, &'a Source);
/// A store to copy to.
pub(super) type To<'a> = (&'a StoreLocation, &'a Owned);

/// The threats of a target: of each id a digest of its index entry, and of each tenant the latest id.
#[derive(Default)]
struct Present {
    entries: HashMap<ThreatId, u64>,
    latest: HashMap<Option<Box<str>>, ThreatId>,
}

impl Present {
    async fn of(location: &StoreLocation, store: &dyn StoreReader) -> Result<Self, ToolError> {
        let mut present = Self::default();
        read(store, location, async |entries| {
            for entry in entries {
                present.entries.insert(entry.id, digest(&entry));
                present.latest.insert(entry.org, entry.id);
            }
            Ok(())
        })
        .await?;
        Ok(present)
    }

    /// Whether the target has this threat, or has room for it: none of its tenant is later, nor has any its id.
    fn takes(&self, entry: &ThreatEntry) -> bool {
        match self.entries.get(&entry.id) {
            Some(known) => *known == digest(entry),
            None => self.latest.get(&entry.org).is_none_or(|latest| *latest < entry.id),
        }
    }
}

fn digest(entry: &ThreatEntry) -> u64 {
    // Of the same key at every start.
    let mut hasher = DefaultHasher::new();
    (&entry.org, entry.agent, &entry.hostname, &entry.kind, entry.severity, entry.source_ip).hash(&mut hasher);
    hasher.finish()
}

/// Makes sure that the threats of the source can be added to those of the target. Two histories of one tenant cannot be
/// mixed: threats have the order of their ids.
pub(super) async fn must_fit(from: From<'_>, to: To<'_>) -> Result<(), ToolError> {
    let present = Present::of(to.0, &*to.1.reader).await?;
    if present.entries.is_empty() {
        return Ok(());
    }
    read(&*from.1.reader, from.0, async |entries| {
        if entries.iter().all(|entry| present.takes(entry)) {
            Ok(())
        } else {
            Err(ToolError::Histories(to.0.to_string()))
        }
    })
    .await?;
    Ok(())
}

/// Copies the threats that the target does not have, and reads each back. Answers how many there were to copy, and how many
/// could not be read.
pub(super) async fn copy(from: From<'_>, to: To<'_>, screen: &Screen) -> Result<(u64, u64), ToolError> {
    let ((from, source), (to, target)) = (from, to);
    let present = Present::of(to, &*target.reader).await?;
    let progress = Progress::counting(screen, "copying threats");
    let (mut copied, mut unreadable) = (0, 0);
    let loaded = read(&*source.reader, from, async |entries| {
        let missing = entries.into_iter().filter(|entry| !present.entries.contains_key(&entry.id));
        let keys: Vec<_> = missing.map(|entry| ThreatKey { org: entry.org, id: entry.id }).collect();
        let wanted = keys.len() as u64;
        let threats = source.reader.threats(keys).await.map_err(|error| from.failed(error))?;
        let threats: Vec<_> = threats.into_iter().flatten().collect();
        unreadable += wanted - threats.len() as u64;
        if threats.is_empty() {
            return Ok(());
        }
        let failed = |error: StoreError| to.failed(error);
        let report = Change::Report(threats.iter().map(StoredThreat::new).collect());
        target.store.commit(vec![report]).await.map_err(failed)?;
        let keys = threats.iter().map(|threat| threat.key()).collect();
        let written = target.reader.threats(keys).await.map_err(failed)?;
        let same = written.iter().zip(&threats).filter(|(written, threat)| written.as_ref() == Some(threat)).count();
        if same < threats.len() {
            let (expected, found) = (counted(threats.len() as u64, "threat"), format!("{same} of them"));
            return Err(ToolError::Differs { location: to.to_string(), expected, found });
        }
        copied += threats.len() as u64;
        progress.reached_threats(copied);
        Ok(())
    })
    .await?;
    Ok((copied, unreadable + loaded.corrupt))
}

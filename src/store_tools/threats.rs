//! Copying the threats of a fleet, and counting them.

use std::collections::HashSet;

use tokio::sync::mpsc;

use super::{
    Place, ToolError, counted,
    place::Owned,
    progress::{Progress, Screen},
};
use crate::{
    store::{Change, LoadedThreats, StoreError, StoreReader, StoredThreat},
    threats::{ThreatEntry, ThreatId, ThreatKey},
};

/// Chunks that may wait while one is being worked on.
const CHUNKS_AHEAD: usize = 2;

/// Reads the rows of all threats and hands them, chunk by chunk, to `work`.
pub(super) async fn read(
    store: &dyn StoreReader,
    place: &Place,
    mut work: impl AsyncFnMut(Vec<ThreatEntry>) -> Result<(), ToolError>,
) -> Result<LoadedThreats, ToolError> {
    let (out, mut chunks) = mpsc::channel(CHUNKS_AHEAD);
    // It owns the receiver: when it ends early, so does the store.
    let work = async move {
        while let Some(chunk) = chunks.recv().await {
            work(chunk).await?;
        }
        Ok::<_, ToolError>(())
    };
    let (loaded, worked) = tokio::join!(store.load_threats(out), work);
    worked?;
    loaded.map_err(|error| place.failed(error))
}

/// A store to copy from or to.
pub(super) type Side<'a> = (&'a Place, &'a Owned);

/// Copies the threats that the target does not have, and reads each back. Answers how many there were to copy, and how many
/// could not be read.
pub(super) async fn copy(from: Side<'_>, to: Side<'_>, screen: &Screen) -> Result<(u64, u64), ToolError> {
    let ((from, source), (to, target)) = (from, to);
    let mut known: HashSet<ThreatId> = HashSet::new();
    read(&*target.reader, to, async |rows| {
        known.extend(rows.iter().map(|row| row.id));
        Ok(())
    })
    .await?;
    let progress = Progress::counting(screen, "copying threats");
    let (mut copied, mut unreadable) = (0, 0);
    let loaded = read(&*source.reader, from, async |rows| {
        let missing = rows.into_iter().filter(|row| !known.contains(&row.id));
        let keys: Vec<_> = missing.map(|row| ThreatKey { org: row.org, id: row.id }).collect();
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
            return Err(ToolError::Differs { place: to.to_string(), expected, found });
        }
        copied += threats.len() as u64;
        progress.reached_threats(copied);
        Ok(())
    })
    .await?;
    Ok((copied, unreadable + loaded.corrupt))
}

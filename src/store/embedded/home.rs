//! Whether the files that are written are still those of the folder.
//!
//! A folder that is removed, moved or replaced under a running server leaves the server with files that nobody will ever
//! find again; writing to them succeeds all the same.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use super::{
    files::{LOCK, VERSION, has_journal},
    ledger::LEDGER,
};
use crate::store::StoreError;

/// Files and folders as they were when the store was opened.
#[derive(Debug)]
pub(super) struct Home {
    path: PathBuf,
    known: Vec<(PathBuf, FileId)>,
    databases: [PathBuf; 2],
    /// Whether it has been logged that they are not there any more.
    reported: AtomicBool,
}

/// Which file it is, whatever its name: the device, and the number there.
type FileId = (u64, u64);

impl Home {
    /// The store in `path`, which is open.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let databases = ["agents", "heartbeats"].map(|name| path.join(name));
        let files = databases.iter().flat_map(|folder| [folder.clone(), folder.join(LOCK), folder.join(VERSION)]);
        let known = files.chain([path.join(LEDGER)]).map(|file| Ok((file.clone(), file_id(&file)?)));
        Ok(Self {
            path: path.into(),
            known: known.collect::<io::Result<_>>()?,
            databases,
            reported: AtomicBool::new(false),
        })
    }

    /// Makes sure that what is written will be found again.
    pub(super) fn must_be_there(&self) -> Result<(), StoreError> {
        let is_known = |(path, known): &(PathBuf, FileId)| file_id(path).is_ok_and(|found| found == *known);
        if self.known.iter().all(is_known) && self.databases.iter().all(|folder| has_journal(folder)) {
            if self.reported.swap(false, Relaxed) {
                tracing::info!(path = %self.path.display(), "the files of the store are back");
            }
            return Ok(());
        }
        let error = StoreError::unavailable(format_args!(
            "the files in {} have been removed or replaced under the running server, and what it writes now would be lost; \
             put them back, or stop the server (what it knows goes with it), restore a backup and start again",
            self.path.display()
        ));
        if !self.reported.swap(true, Relaxed) {
            tracing::error!(%error, "durable changes are refused");
        }
        Err(error)
    }
}

fn file_id(path: &Path) -> io::Result<FileId> {
    fs::metadata(path).map(|found| (found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_removed_replaced_or_put_back_are_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let make = || {
            for database in ["agents", "heartbeats"] {
                fs::create_dir_all(path.join(database)).unwrap();
                for file in [LOCK, VERSION, "0.jnl"] {
                    fs::write(path.join(database).join(file), "").unwrap();
                }
            }
            fs::write(path.join(LEDGER), "").unwrap();
        };
        make();
        let home = Home::of(&path).unwrap();
        home.must_be_there().unwrap();
        let elsewhere = folder.path().join("elsewhere");
        fs::rename(&path, &elsewhere).unwrap();
        assert!(home.must_be_there().unwrap_err().to_string().contains("removed or replaced"));
        make();
        home.must_be_there().unwrap_err();
        fs::remove_dir_all(&path).unwrap();
        fs::rename(&elsewhere, &path).unwrap();
        home.must_be_there().unwrap();
        fs::remove_file(path.join("agents/0.jnl")).unwrap();
        home.must_be_there().unwrap_err();
    }
}

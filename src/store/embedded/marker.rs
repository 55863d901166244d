//! A file beside the store's folder that says what was in there: without it a folder that is gone would look like a new
//! one.
//!
//! It is written when the store is opened, and when it gets its first record: so it says what there was at the last start, at
//! least. Only a store of which nothing else is left is compared with it.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use super::ledger::Ledger;
use crate::process::private_file;

#[derive(Debug)]
pub(super) struct Marker {
    /// None: nothing can be beside the folder.
    path: Option<PathBuf>,
    is_written: AtomicBool,
}

/// The name of the marker of the embedded store in the folder `store`, unless that is a whole file system.
pub fn marker_of(store: &Path) -> Option<PathBuf> {
    let mut name = store.file_name()?.to_owned();
    name.push(".marker");
    Some(store.with_file_name(name))
}

impl Marker {
    /// That of the store in the folder `store`.
    pub(super) fn of(store: &Path) -> Self {
        Self { path: marker_of(store), is_written: AtomicBool::new(false) }
    }

    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// What it says; nothing if it is not there or cannot be read.
    pub(super) fn read(&self) -> io::Result<Option<Ledger>> {
        match self.path.as_ref().map(fs::read) {
            None => Ok(None),
            Some(Ok(bytes)) => Ok(Ledger::decode(&bytes)),
            Some(Err(error)) if error.kind() == ErrorKind::NotFound => Ok(None),
            Some(Err(error)) => Err(error),
        }
    }

    /// Notes that there is a store, once there is something in it.
    pub(super) fn note(&self, ledger: &Ledger) {
        let Some(path) = self.path.as_ref().filter(|_| !self.is_written.load(Relaxed)) else { return };
        if ledger.is_of_nothing() && !path.exists() {
            return;
        }
        self.is_written.store(true, Relaxed);
        let write = || {
            private_file::write(path, &format!("{}\n", ledger.encode()))?;
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
        };
        if let Err(error) = write() {
            // A folder that is mounted may stand where nothing can be written.
            let path = path.display();
            tracing::info!(%path, %error, "the file cannot be written; if the store's folder were removed, that would go unnoticed");
        }
    }
}

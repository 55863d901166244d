//! Files that only their owner may read: keys and tokens.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// Mode of a file that only its owner may read.
pub const PRIVATE: u32 = 0o600;
/// Mode of a file that whoever gets into its folder may read.
pub const PUBLIC: u32 = 0o644;

/// Creates the folder, if it is missing, so that only its owner may enter it.
pub fn create_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Writes the file whole or not at all, with mode 0600.
pub fn write(path: &Path, content: &str) -> io::Result<()> {
    write_together(&[(path, content, PRIVATE)])
}

/// Writes files that belong together, each with its mode. Their contents are on the disk before the first of them has
/// its name, so that there is hardly a moment at which one is there without the others.
pub fn write_together(files: &[(&Path, &str, u32)]) -> io::Result<()> {
    let mut written = Vec::new();
    for (path, content, mode) in files {
        let temporary = temporary(path);
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(*mode).open(&temporary)?;
        // A left-over file may have had other permissions.
        file.set_permissions(fs::Permissions::from_mode(*mode))?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        written.push((temporary, path));
    }
    written.into_iter().try_for_each(|(temporary, path)| fs::rename(temporary, path))
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

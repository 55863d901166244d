//! A file that a setting names, and what is wrong with it.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A file, and the setting it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFile {
    /// The setting that names it, or the folder it is in.
    pub setting: &'static str,
    pub path: PathBuf,
}

impl NamedFile {
    /// The file at `path`, which `setting` names.
    pub fn new(setting: &'static str, path: impl Into<PathBuf>) -> Self {
        Self { setting, path: path.into() }
    }

    /// A file of the data folder.
    pub fn in_data_dir(data_dir: &Path, name: &str) -> Self {
        Self::new("server.data_dir", data_dir.join(name))
    }

    /// What is in it, without a byte order mark.
    pub fn read(&self) -> Result<Vec<u8>, FileError> {
        let bytes = fs::read(&self.path).map_err(|error| self.wrong(format_args!("it cannot be read: {error}")))?;
        Ok(without_byte_order_mark(&bytes).to_vec())
    }

    /// Whether something has this name, even if it cannot be read or leads nowhere: then nothing may take its place.
    pub fn is_there(&self) -> Result<bool, FileError> {
        match fs::symlink_metadata(&self.path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.wrong(format_args!("it cannot be looked at: {error}"))),
        }
    }

    /// The error that this is wrong with it.
    pub fn wrong(&self, fault: impl fmt::Display) -> FileError {
        FileError { file: self.clone(), fault: fault.to_string() }
    }
}

impl fmt::Display for NamedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.setting, self.path.display())
    }
}

/// Text without the byte order mark that some editors put before it.
pub fn without_byte_order_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
}

/// Why a file cannot be used: setting, file and cause.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {fault}")]
pub struct FileError {
    file: NamedFile,
    fault: String,
}

/// Everything that is wrong with the files; at least one error, displayed one per line.
#[derive(Debug, PartialEq, Eq)]
pub struct FileErrors(pub Vec<FileError>);

impl From<FileError> for FileErrors {
    fn from(error: FileError) -> Self {
        Self(vec![error])
    }
}

impl fmt::Display for FileErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.0.iter().map(FileError::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for FileErrors {}

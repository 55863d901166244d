//! The administrator's token: configured, or made at the first start and kept in the data folder.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{actors::token, fleet::TokenHash, private_file};

/// The administrator's token, and where it came from.
#[derive(Debug)]
pub struct AdminToken {
    /// Its hash.
    pub hash: TokenHash,
    /// The file it is in, unless it was configured.
    pub file: Option<PathBuf>,
    /// The token itself, if it was made just now: to be shown this once.
    pub fresh: Option<String>,
}

impl AdminToken {
    /// The configured token; else the one in `data_dir`, which is made if there is none. Fails with the file that
    /// cannot be used.
    pub fn find(configured: Option<&str>, data_dir: &Path) -> Result<Self, (PathBuf, io::Error)> {
        if let Some(token) = configured {
            return Ok(Self { hash: TokenHash::of(token), file: None, fresh: None });
        }
        let file = data_dir.join("admin-token");

        let (text, is_fresh) = match std::fs::read_to_string(&file) {
            Ok(text) if !text.trim().is_empty() => (text, false),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err((file, error)),
            Ok(_) | Err(_) => {
                let text = token::random_text();
                private_file::write(&file, &text).map_err(|error| (file.clone(), error))?;
                (text, true)
            }
        };
        Ok(Self { hash: TokenHash::of(text.trim()), file: Some(file), fresh: is_fresh.then_some(text) })
    }
}

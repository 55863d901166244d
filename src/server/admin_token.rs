//! The administrator's token: configured, in a file, or generated at the first start and kept in the data folder.

use std::path::{Path, PathBuf};

use crate::{
    config::{AuthConfig, token_text::cleaned},
    engine::token,
    fleet::TokenHash,
    process::{
        named_file::{FileError, NamedFile},
        private_file,
    },
};

/// The administrator's token, and where it came from.
#[derive(Debug)]
pub struct AdminToken {
    pub hash: TokenHash,
    /// The file it is in, unless it was configured.
    pub file: Option<PathBuf>,
    /// The token itself, if it was just generated: to be shown this once.
    pub fresh: Option<String>,
}

impl AdminToken {
    /// The configured token, else the one in the configured file, else the one in `data_dir`; none if there is nothing
    /// at all. Writes nothing.
    ///
    /// # Errors
    /// The file that cannot be read, or that holds something else.
    pub fn look(auth: &AuthConfig, data_dir: &Path) -> Result<Option<Self>, FileError> {
        if let Some(token) = &auth.admin_token {
            return Ok(Some(Self { hash: TokenHash::of(token), file: None, fresh: None }));
        }
        let file = match &auth.admin_token_file {
            Some(path) => NamedFile::new("auth.admin_token_file", path),
            None => kept(data_dir),
        };
        if auth.admin_token_file.is_none() && !file.is_there()? {
            return Ok(None);
        }
        let bytes = file.read()?;
        let text = String::from_utf8_lossy(&bytes);
        let token = cleaned(&text).map_err(|fault| file.wrong(fault))?;
        Ok(Some(Self { hash: TokenHash::of(token), file: Some(file.path), fresh: None }))
    }

    /// As [`AdminToken::look`]; if there is nothing at all, a token is generated and kept in `data_dir`.
    pub fn find(auth: &AuthConfig, data_dir: &Path) -> Result<Self, FileError> {
        if let Some(found) = Self::look(auth, data_dir)? {
            return Ok(found);
        }
        let (file, text) = (kept(data_dir), token::random_text());
        private_file::write(&file.path, &text)
            .map_err(|error| file.wrong(format_args!("it cannot be written: {error}")))?;
        Ok(Self { hash: TokenHash::of(&text), file: Some(file.path), fresh: Some(text) })
    }
}

/// The file that a generated token is kept in.
fn kept(data_dir: &Path) -> NamedFile {
    NamedFile::in_data_dir(data_dir, "admin-token")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::TempDir;

    const TOKEN: &str = "correct-horse";

    fn auth(admin_token_file: Option<PathBuf>) -> AuthConfig {
        AuthConfig { admin_token: None, admin_token_file, open_enrollment: Vec::new() }
    }

    #[test]
    fn a_file_that_holds_no_token_becomes_none_and_stays_as_it_is() {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("admin-token");
        let bad: [&[u8]; 5] = [b"x", b"", b"\n", b"two lines\nof text", b"\xff\xfec\0o\0r\0r\0e\0c\0t\0-\0h\0"];
        for text in bad {
            fs::write(&file, text).unwrap();
            let told = AdminToken::find(&auth(None), dir.path()).unwrap_err().to_string();
            assert!(told.starts_with("server.data_dir (") && told.contains("admin-token): it must be"), "{told}");
            let told = AdminToken::find(&auth(Some(file.clone())), dir.path()).unwrap_err().to_string();
            assert!(told.starts_with("auth.admin_token_file ("), "{told}");
            assert_eq!(fs::read(&file).unwrap(), text);
        }
    }

    #[test]
    fn a_link_that_leads_nowhere_is_not_replaced() {
        let dir = TempDir::new().unwrap();
        let link = dir.path().join("admin-token");
        std::os::unix::fs::symlink("/nowhere/secret", &link).unwrap();
        let told = AdminToken::find(&auth(None), dir.path()).unwrap_err().to_string();
        assert!(told.contains("it cannot be read: No such file"), "{told}");
        assert!(link.is_symlink());
    }

    #[test]
    fn a_token_is_found_in_the_named_file_and_otherwise_made_once() {
        let dir = TempDir::new().unwrap();
        let mounted = dir.path().join("mounted");
        fs::write(&mounted, format!("\u{feff}{TOKEN}\r\n")).unwrap();
        let found = AdminToken::find(&auth(Some(mounted)), dir.path()).unwrap();
        assert_eq!((found.hash, found.fresh), (TokenHash::of(TOKEN), None));
        assert!(AdminToken::look(&auth(None), dir.path()).unwrap().is_none(), "looking makes nothing");
        let missing = AdminToken::find(&auth(Some(dir.path().join("missing"))), dir.path()).unwrap_err();
        assert!(missing.to_string().contains("No such file"), "{missing}");

        let made = AdminToken::find(&auth(None), dir.path()).unwrap();
        let again = AdminToken::find(&auth(None), dir.path()).unwrap();
        assert!(made.fresh.is_some() && again.fresh.is_none());
        assert_eq!(made.hash, again.hash);
    }
}

//! What is looked at before the start, and by `guardbeat check-config`: the files that the settings name.

use super::{
    admin_token::AdminToken,
    tls::{self, Tls},
};
use crate::{
    clock,
    config::Config,
    process::named_file::{FileError, FileErrors, NamedFile},
};

/// What was found.
#[derive(Debug, Default)]
pub struct Preflight {
    /// What is to be warned of, of the settings too.
    pub warnings: Vec<String>,
    errors: Vec<FileError>,
}

impl Preflight {
    /// Opens every file that the settings name, and pairs certificates with their keys. Writes nothing.
    pub fn check(config: &Config) -> Self {
        let (data_dir, now) = (&config.server.data_dir, clock::system_time());
        let mut found = Self { warnings: config.warnings.clone(), errors: Vec::new() };
        found.add(Tls::check(&config.tls, data_dir, config.server.listen.ip(), now));
        let token = AdminToken::look(&config.auth, data_dir);
        found.add(token.map(|_| Vec::new()).map_err(FileErrors::from));
        if let Some(path) = &config.store.ca_file {
            let file = NamedFile::new("store.ca_file", path);
            found.add(tls::check_authorities(&file, now).map_err(FileErrors::from));
        }
        found
    }

    /// All files that cannot be used; the server would not start with them.
    pub fn errors(self) -> Result<(), FileErrors> {
        if self.errors.is_empty() { Ok(()) } else { Err(FileErrors(self.errors)) }
    }

    fn add(&mut self, checked: Result<Vec<String>, FileErrors>) {
        match checked {
            Ok(warnings) => self.warnings.extend(warnings),
            Err(FileErrors(errors)) => self.errors.extend(errors),
        }
    }
}

//! Errors in the settings, written for the operator who has to fix them.
//!
//! Each error is one line: the origin, the value, what would be right. No line shows a secret.

use std::{fmt, path::PathBuf, sync::Arc};

/// Everything that is wrong with the settings; displayed one per line, and then what was to be warned of, since that is
/// often the cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    pub(super) errors: Vec<ConfigError>,
    pub(super) warnings: Vec<String>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.errors.iter().enumerate() {
            write!(f, "{}{error}", if i == 0 { "" } else { "\n" })?;
        }
        self.warnings.iter().try_for_each(|warning| write!(f, "\nWarning: {warning}"))
    }
}

impl std::error::Error for ConfigErrors {}

/// One thing that is wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there, or may not be read.
    #[error("{}: cannot read the configuration file: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: String },
    /// The file is not TOML.
    #[error("{origin}: not valid TOML: {message}")]
    Syntax {
        /// File and line.
        origin: Origin,
        message: String,
    },
    /// There is no such setting.
    #[error("{unknown}; {remedy}")]
    Unknown {
        /// Which one, and where it was given.
        unknown: String,
        /// What may have been meant.
        remedy: String,
    },
    /// A value that its setting cannot have.
    #[error("{origin}: {key} {said}; {rule}")]
    Value {
        origin: Origin,
        key: &'static str,
        /// The value, as far as it may be shown.
        said: String,
        /// What would be right.
        rule: String,
    },
    /// Settings that cannot hold together.
    #[error("{0}")]
    Contradiction(String),
}

/// Who gave a setting its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A line of the file.
    File(Arc<std::path::Path>, usize),
    Variable(String),
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

//! Why the server does not run.

use std::{io, net::SocketAddr, path::PathBuf};

use super::tls::TlsError;
use crate::{
    engine::EngineError,
    process::{
        descriptors::TooFewFiles,
        named_file::{FileError, FileErrors},
    },
    store::StoreError,
};

/// That the server did not do what it was started for, and when.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// It was never in service.
    #[error("The server cannot start: {0}")]
    ToStart(ServeError),
    /// It was, and did not end well.
    #[error("The server ended: {0}")]
    InService(ServeError),
}

/// Why the server cannot start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An address cannot be listened on.
    #[error("{address} ({key}) cannot be listened on: {error}{}", hint(.error))]
    Listen {
        address: SocketAddr,
        /// The setting it comes from.
        key: &'static str,
        error: io::Error,
    },
    /// The data folder cannot be used.
    #[error("the data folder {path} cannot be used: {error}; choose another with --data-dir")]
    DataDir { path: PathBuf, error: io::Error },
    /// Files that the settings name cannot be used.
    #[error(transparent)]
    Files(#[from] FileErrors),
    /// A file of the data folder cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Part of the engine did not start, or did not write its last state.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A shard panicked.
    #[error(
        "a shard or the threat log panicked; nothing that was acknowledged is lost: start again, and report the panic above"
    )]
    ShardPanicked,
    /// There would be no room for connections.
    #[error(transparent)]
    TooFewFiles(#[from] TooFewFiles),
    /// A worker thread did not come up.
    #[error("some worker threads have not started; report the panic above, if there is one")]
    WorkersMissing,
    /// The operating system refused something else.
    #[error("the operating system does not give what the server needs: {0}")]
    Io(#[from] io::Error),
}

impl ServeError {
    /// Whether it is the operator's to put right: another start would end alike.
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Files(_) => true,
            Self::Listen { .. }
            | Self::DataDir { .. }
            | Self::File(_)
            | Self::Tls(_)
            | Self::Store(_)
            | Self::Engine(_)
            | Self::ShardPanicked
            | Self::TooFewFiles(_)
            | Self::WorkersMissing
            | Self::Io(_) => false,
        }
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another process listens there: stop it, or choose another port",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need a privilege: choose a higher one",
        io::ErrorKind::AddrNotAvailable => "; this machine does not have that address",
        _ => "",
    }
}

//! The baseline as a child process: this same binary with the command `bare`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tempfile::TempDir;

use crate::wire::Target;

use super::free_port;
use super::process::ServerProcess;

const START_LIMIT: Duration = Duration::from_secs(20);

/// A running baseline.
pub(crate) struct Bare {
    process: ServerProcess,
    target: Arc<Target>,
    _folder: TempDir,
}

impl Bare {
    /// Starts it on a free port; with TLS when given the folder of another server's certificate.
    pub(crate) async fn start(tls_folder: Option<&Path>) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        let port = free_port()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bare", "--listen", &format!("127.0.0.1:{port}")]);
        if let Some(tls) = tls_folder {
            let identity = Identity::find(tls)?;
            command.arg("--tls-cert").arg(identity.certificate);
            command.arg("--tls-key").arg(identity.key);
        }
        let mut process = ServerProcess::spawn("baseline", &mut command, &folder.path().join("log"))?;
        let target = match tls_folder {
            Some(tls) => {
                let url = format!("https://localhost:{port}");
                Target::expect(&url, Some(&tls.join("ca.pem"))).await?
            }
            None => Target::expect(&format!("http://127.0.0.1:{port}"), None).await?,
        };
        process.until_answers(&target, "/health", START_LIMIT).await?;
        Ok(Self { process, target, _folder: folder })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Where it listens.
    pub(crate) fn target(&self) -> &Arc<Target> {
        &self.target
    }
}

/// A certificate and its key, in files.
struct Identity {
    certificate: PathBuf,
    key: PathBuf,
}

impl Identity {
    /// Finds them by what is in the files, leaving out those of the CA (`ca…`).
    fn find(folder: &Path) -> anyhow::Result<Self> {
        let (mut certificate, mut key) = (None, None);
        let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("ca") {
                continue;
            }
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            if text.contains("PRIVATE KEY-----") {
                key = Some(entry.path());
            } else if text.contains("BEGIN CERTIFICATE") {
                certificate = Some(entry.path());
            }
        }
        match (certificate, key) {
            (Some(certificate), Some(key)) => Ok(Self { certificate, key }),
            _ => bail!("no certificate and key in {}", folder.display()),
        }
    }
}

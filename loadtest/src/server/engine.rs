//! The Guardbeat server under test, with a data folder of its own.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tempfile::TempDir;
use uuid::Uuid;

use crate::wire::Target;

use super::free_port;
use super::process::ServerProcess;
use super::redis::RedisStore;

/// How long a server may take to become ready.
const START_LIMIT: Duration = Duration::from_secs(300);
/// Variables of the caller's that would change which server is measured, or where it stores.
const CONFIGURING_PREFIXES: [&str; 2] = ["GUARDBEAT_", "MANAGER_"];
const CONFIGURING_VARIABLES: [&str; 2] = ["REDIS_URL", "CORS_ALLOWED_ORIGINS"];

/// How the server is to be started.
#[derive(Debug, Clone)]
pub(crate) struct EngineOptions {
    /// The `guardbeat` binary.
    pub(crate) binary: PathBuf,
    /// With its own certificate instead of plain HTTP.
    pub(crate) tls: bool,
    /// `MANAGER_HEARTBEAT_TIMEOUT_MS`.
    pub(crate) timeout_ms: Option<u64>,
    /// More arguments for `serve`.
    pub(crate) arguments: Vec<OsString>,
}

/// A server that can be started again and again on the same data and ports.
pub(crate) struct Engine {
    options: EngineOptions,
    /// `None` for the embedded store.
    redis: Option<RedisStore>,
    folder: TempDir,
    port: u16,
    operations_port: u16,
    token: String,
}

impl Engine {
    /// Chooses ports, a token and a temporary data folder; starts nothing. Its fleet is kept in Redis,
    /// or in that folder.
    pub(crate) fn prepare(mut options: EngineOptions, redis: Option<RedisStore>) -> anyhow::Result<Self> {
        // It will be started from another folder.
        options.binary = options.binary.canonicalize().with_context(|| {
            format!(
                "--server {}: no such file; `make build` makes the server and this program, side by side",
                options.binary.display()
            )
        })?;
        Ok(Self {
            options,
            redis,
            folder: tempfile::Builder::new()
                .prefix("guardbeat-loadtest-")
                .tempdir()
                .context("cannot make a temporary folder")?,
            port: free_port()?,
            operations_port: free_port()?,
            token: Uuid::new_v4().simple().to_string(),
        })
    }

    /// Starts the server and waits until it is ready; returns the time that took, too.
    pub(crate) async fn start(&self) -> anyhow::Result<(ServerProcess, Duration)> {
        let mut process = ServerProcess::spawn("server", &mut self.command(), &self.folder.path().join("log"))?;
        let operations = self.operations().await?;
        let ready = process.until_answers(&operations, "/readyz", START_LIMIT).await?;
        let target = self.target().await?;
        process.until_answers(&target, "/health", START_LIMIT).await?;
        Ok((process, ready))
    }

    /// Its main listener. Under TLS the server must have been started once, as it makes the CA.
    pub(crate) async fn target(&self) -> anyhow::Result<Arc<Target>> {
        if self.options.tls {
            // The host is the one in the self-made certificate.
            let url = format!("https://localhost:{}", self.port);
            Target::reach(&url, Some(&self.tls_folder().join("ca.pem"))).await
        } else {
            Target::expect(&format!("http://127.0.0.1:{}", self.port), None).await
        }
    }

    /// Its operations listener.
    pub(crate) async fn operations(&self) -> anyhow::Result<Arc<Target>> {
        Target::expect(&format!("http://127.0.0.1:{}", self.operations_port), None).await
    }

    /// Its admin token.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// Where a server with self-signed TLS keeps its CA, certificate and key.
    pub(crate) fn tls_folder(&self) -> PathBuf {
        self.data_folder().join("tls")
    }

    fn data_folder(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.options.binary);
        for (name, _) in std::env::vars_os() {
            let known = name.to_str().is_some_and(|name| {
                CONFIGURING_VARIABLES.contains(&name)
                    || CONFIGURING_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            });
            if known {
                command.env_remove(name);
            }
        }
        let tls = if self.options.tls { "self-signed" } else { "off" };
        command
            .arg("serve")
            .args(["--listen", &format!("127.0.0.1:{}", self.port)])
            .arg("--data-dir")
            .arg(self.data_folder())
            .args(["--tls", tls])
            .args(&self.options.arguments)
            .current_dir(self.folder.path())
            .env("MANAGER_AUTH_TOKEN", &self.token)
            .env("GUARDBEAT_METRICS__LISTEN", format!("127.0.0.1:{}", self.operations_port));
        if let Some(timeout_ms) = self.options.timeout_ms {
            command.env("MANAGER_HEARTBEAT_TIMEOUT_MS", timeout_ms.to_string());
        }
        if let Some(redis) = &self.redis {
            command.args(["--store", redis.url.with_password()]);
            command.env("GUARDBEAT_STORE__KEY_PREFIX", &redis.key_prefix);
        }
        command
    }
}

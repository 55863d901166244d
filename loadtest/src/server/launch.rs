//! How a server is started: the engine under test, or the baseline. Again and again, on the same data and ports.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use guardbeat_testkit::free_port;
use tempfile::TempDir;
use uuid::Uuid;

use crate::wire::Target;

use super::process::ServerProcess;
use super::redis::Redis;

const START_LIMIT: Duration = Duration::from_secs(300);
/// Variables of the caller's that would change which server is measured, or where it stores.
const CONFIGURING_PREFIXES: [&str; 2] = ["GUARDBEAT_", "MANAGER_"];
const CONFIGURING_VARIABLES: [&str; 2] = ["REDIS_URL", "CORS_ALLOWED_ORIGINS"];

/// The engine that is to be started.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ServerPlan {
    pub(crate) timeout: Duration,
    /// With its own certificate.
    pub(crate) tls: bool,
    pub(crate) store: StorePlan,
    pub(crate) args: Vec<String>,
    /// For more connections, or for longer silence on them, than it would allow by itself.
    pub(crate) room: Option<Room>,
}

/// What a server is to allow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Room {
    /// Open connections of each worker.
    pub(crate) connections: u64,
    /// How long one may be idle.
    pub(crate) keep_alive: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StorePlan {
    /// In its data folder.
    Embedded,
    Redis,
    /// Nowhere.
    Memory,
}

pub(super) struct Launch {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
    folder: TempDir,
    port: u16,
    /// The baseline has none.
    operations_port: Option<u16>,
    /// Where its certificate and key are, and the CA that has signed it; `None` for plain HTTP.
    pub(super) tls_folder: Option<PathBuf>,
    pub(super) token: String,
}

impl Launch {
    /// The engine, with ports, a token and a temporary data folder of its own. Its fleet is kept in Redis if one is given.
    pub(super) fn engine(program: &Path, plan: &ServerPlan, redis: Option<&Redis>) -> anyhow::Result<Self> {
        // It will be started from another folder.
        let program = program.canonicalize().with_context(|| {
            let shown = program.display();
            format!("--server {shown}: no such file; `make build` makes the server and this program, side by side")
        })?;
        let folder = tempfile::Builder::new().prefix("guardbeat-loadtest-").tempdir()?;
        let (data, port, operations_port) = (folder.path().join("data"), free_port(), free_port());
        let token = Uuid::new_v4().simple().to_string();
        let tls = if plan.tls { "self-signed" } else { "off" };
        let mut arguments =
            ["serve", "--listen", &format!("127.0.0.1:{port}"), "--tls", tls, "--data-dir"].map(str::to_owned).to_vec();
        arguments.push(data.to_str().context("the temporary folder is not UTF-8")?.to_owned());
        let mut environment = vec![
            ("MANAGER_AUTH_TOKEN", token.clone()),
            ("GUARDBEAT_METRICS__LISTEN", format!("127.0.0.1:{operations_port}")),
            ("MANAGER_HEARTBEAT_TIMEOUT_MS", plan.timeout.as_millis().to_string()),
        ];
        match redis {
            Some(redis) => {
                arguments.push(format!("--store={}", redis.url()));
                environment.push(("GUARDBEAT_STORE__KEY_PREFIX", redis.key_prefix.clone()));
            }
            None if plan.store == StorePlan::Memory => arguments.push("--store=memory:".to_owned()),
            None => {}
        }
        if let Some(room) = plan.room {
            environment.push(("GUARDBEAT_SERVER__MAX_CONNECTIONS", room.connections.to_string()));
            environment.push(("GUARDBEAT_SERVER__KEEP_ALIVE_MS", room.keep_alive.as_millis().to_string()));
        }
        arguments.extend(plan.args.iter().cloned());
        Ok(Self {
            name: "server",
            program,
            arguments,
            environment,
            folder,
            port,
            operations_port: Some(operations_port),
            tls_folder: plan.tls.then(|| data.join("tls")),
            token,
        })
    }

    /// The baseline: this same program with the command `bare`; with the certificate of another server, if one is given.
    pub(super) fn bare(tls_folder: Option<&Path>, room: Option<Room>) -> anyhow::Result<Self> {
        let port = free_port();
        let mut arguments = ["bare", "--listen", &format!("127.0.0.1:{port}")].map(str::to_owned).to_vec();
        if let Some(room) = room {
            arguments.push(format!("--max-connections={}", room.connections));
            arguments.push(format!("--keep-alive-ms={}", room.keep_alive.as_millis()));
        }
        if let Some(tls) = tls_folder {
            arguments.push(format!("--tls-cert={}", tls.join("server.pem").display()));
            arguments.push(format!("--tls-key={}", tls.join("server-key.pem").display()));
        }
        Ok(Self {
            name: "baseline",
            program: std::env::current_exe()?,
            arguments,
            environment: Vec::new(),
            folder: tempfile::tempdir()?,
            port,
            operations_port: None,
            tls_folder: tls_folder.map(Path::to_owned),
            token: "any".to_owned(),
        })
    }

    /// Starts the server and waits until it is ready; returns the time that took, too.
    pub(super) async fn start(&self) -> anyhow::Result<(ServerProcess, Duration)> {
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os() {
            let configures = name.to_str().is_some_and(|name| {
                CONFIGURING_VARIABLES.contains(&name)
                    || CONFIGURING_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            });
            if configures {
                command.env_remove(name);
            }
        }
        command.args(&self.arguments).envs(self.environment.iter().cloned()).current_dir(self.folder.path());
        let mut process = ServerProcess::spawn(self.name, &mut command, &self.folder.path().join("log"))?;
        let mut ready = None;
        if let Some(operations) = self.operations().await? {
            ready = Some(process.until_answers(&operations, "/readyz", START_LIMIT).await?);
        }
        let (url, ca) = self.address();
        let target = Target::expect(&url, ca.as_deref()).await?;
        let answers = process.until_answers(&target, "/health", START_LIMIT).await?;
        Ok((process, ready.unwrap_or(answers)))
    }

    /// Where its main listener is, and the CA. Under TLS the server must have been started once, as it makes the CA.
    pub(super) fn address(&self) -> (String, Option<PathBuf>) {
        match &self.tls_folder {
            // The host is the one in the self-made certificate.
            Some(tls) => (format!("https://localhost:{}", self.port), Some(tls.join("ca.pem"))),
            None => (format!("http://127.0.0.1:{}", self.port), None),
        }
    }

    pub(super) async fn operations(&self) -> anyhow::Result<Option<Arc<Target>>> {
        match self.operations_port {
            Some(port) => Ok(Some(Target::expect(&format!("http://127.0.0.1:{port}"), None).await?)),
            None => Ok(None),
        }
    }
}

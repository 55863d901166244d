//! The server: which binary, or how the command line says where one runs already and who may register there.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::server::Host;
use crate::wire::Target;

/// The binary beside this program: where cargo puts both, whatever its target folder is.
pub(super) fn server_beside() -> PathBuf {
    std::env::current_exe().unwrap_or_default().with_file_name("guardbeat")
}

#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Access {
    /// The server's CA (PEM); with https only
    #[arg(long, value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
    /// The admin token, which may register agents
    #[arg(long, env = "GUARDBEAT_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// A file with the admin token in it
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    pub(super) token_file: Option<PathBuf>,
}

impl Access {
    pub(super) async fn reach(&self, url: &str) -> anyhow::Result<Host> {
        let token = self.admin_token()?;
        Ok(Host::given(Target::reach(url, self.ca.as_deref()).await?, &token))
    }

    fn admin_token(&self) -> anyhow::Result<String> {
        // A file that is named on the command line goes before a variable; clap sees to the flags.
        if let Some(path) = &self.token_file {
            return read_token(path);
        }
        self.token.clone().context(
            "registering agents needs the admin token: give it with --token, --token-file or GUARDBEAT_TOKEN. \
             It is MANAGER_AUTH_TOKEN of the server, or, if none was set, the one it made in its data folder \
             and named at its start",
        )
    }
}

fn read_token(path: &Path) -> anyhow::Result<String> {
    let token =
        std::fs::read_to_string(path).with_context(|| format!("--token-file {}: cannot be read", path.display()))?;
    Ok(token.trim().to_owned())
}

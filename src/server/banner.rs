//! The banner that is shown when the server has started.

use std::{fmt, net::SocketAddr, path::Path};

use serde_json::{Value, json};

use super::listener::host_of;
use crate::{config::StoreUrl, fleet::Timestamp};

/// Where everything is, and how to call it.
#[derive(Debug)]
pub struct Banner<'a> {
    pub api: SocketAddr,
    pub operations: SocketAddr,
    pub data_dir: Option<&'a Path>,
    pub store: &'a StoreUrl,
    /// Agents found in it.
    pub agents: u64,
    pub tls: bool,
    /// The certificate of our own authority.
    pub ca_file: Option<&'a Path>,
    /// The file with the administrator's token, unless it was configured.
    pub token_file: Option<&'a Path>,
    /// That token, if it was just generated and is to be shown this once.
    pub new_token: Option<&'a str>,
}

fn absolute(path: &Path) -> String {
    path.canonicalize().unwrap_or_else(|_| path.into()).display().to_string()
}

impl Banner<'_> {
    fn api_url(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, host_of(self.api))
    }

    fn metrics_url(&self) -> String {
        format!("http://{}/metrics", host_of(self.operations))
    }

    /// For programs, in the shape of a log line.
    pub fn json(&self, now: Timestamp) -> Value {
        json!({
            "timestamp": now,
            "level": "INFO",
            "fields": {
                "message": format!("Guardbeat {} is ready", env!("CARGO_PKG_VERSION")),
                "api": self.api_url(),
                "metrics": self.metrics_url(),
                "data": self.data_dir.map(absolute),
                "store": self.store.to_string(),
                "agents": self.agents,
                "ca_file": self.ca_file.map(absolute),
                "token_file": self.token_file.map(absolute),
                "token": self.new_token,
            },
            "target": "guardbeat",
        })
    }
}

impl fmt::Display for Banner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let api = self.api_url();
        let store = match self.store {
            StoreUrl::Embedded(None) => "embedded store".to_owned(),
            StoreUrl::Embedded(Some(path)) => format!("embedded store in {}", absolute(path)),
            StoreUrl::Redis(url) => format!("fleet in {url}"),
            StoreUrl::Memory => "kept in memory only: gone when the server stops".to_owned(),
        };
        writeln!(f, "Guardbeat {} is ready", env!("CARGO_PKG_VERSION"))?;
        writeln!(f, "  API       {api}")?;
        writeln!(f, "  metrics   {}", self.metrics_url())?;
        match self.data_dir {
            Some(folder) => writeln!(f, "  data      {} ({store}, agents: {})", absolute(folder), self.agents)?,
            None => writeln!(f, "  data      {store} (agents: {})", self.agents)?,
        }
        let trust = self.ca_file.map(|file| format!(" --cacert {}", quoted(&absolute(file)))).unwrap_or_default();
        match self.token_file {
            Some(file) => {
                let file = absolute(file);
                match self.new_token {
                    Some(token) => {
                        writeln!(f, "  token     {token} (made just now; it may do everything; kept in {file})")?
                    }
                    None => writeln!(f, "  token     in {file}")?,
                }
                writeln!(f, "Try it:")?;
                let file = quoted(&file);
                writeln!(f, "  curl{trust} -H \"Authorization: Bearer $(cat {file})\" {api}/api/agents")
            }
            None => {
                writeln!(f, "  token     as configured (auth.admin_token)")?;
                writeln!(f, "Try it:")?;
                writeln!(f, "  curl{trust} {api}/health")
            }
        }
    }
}

/// As one word of a shell command.
fn quoted(path: &str) -> String {
    let plain = path.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+".contains(c));
    if plain { path.to_owned() } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

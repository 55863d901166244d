//! `guardbeat store`: looking into the store, and copying the fleet to another one.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};

use super::{Exit, Flag, load_config, refuse, run_here};
use crate::{
    config::{Config, ConfigErrors, StoreUrl},
    process::output::{LogConfig, print, print_error, start_log},
    store_tools::{CopyOrder, Screen, StoreLocation, ToolError, check, copy},
};

#[derive(Debug, Subcommand)]
pub(super) enum StoreCommand {
    /// Say what is in the store, and whether all of it can be read.
    ///
    /// A Redis may be in use meanwhile; an embedded store must not be. Nothing is written into either. A damaged embedded store
    /// is refused as a server refuses it; with store.accept_loss = true (GUARDBEAT_STORE__ACCEPT_LOSS=true) it is said what a
    /// server would go on with, and what would be lost.
    Check(CheckSettings),
    /// Copy the fleet from one store to another, and read it back.
    ///
    /// No server may use either store meanwhile. Of --from and --to, the one that is left out is the configured store:
    /// a password need not be among the flags, which others can see. All other settings of the store (store.ca_file,
    /// store.key_prefix …) hold for either side that is a Redis.
    Copy(CopySettings),
}

#[derive(Debug, Args)]
struct Common {
    /// Configuration file (TOML), the same as the server's.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data folder of the server; the store embedded: is in it [default: ./data].
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct CheckSettings {
    #[command(flatten)]
    common: Common,
    /// Which store [default: embedded:].
    #[arg(long, value_name = "URL")]
    store: Option<String>,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("stores").args(["from", "to"]).required(true).multiple(true)))]
pub(super) struct CopySettings {
    #[command(flatten)]
    common: Common,
    /// The store to copy from; nothing of the fleet in it is changed.
    #[arg(long, value_name = "URL")]
    from: Option<String>,
    /// The store to copy to.
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// store.key_prefix of the Redis to copy from, if it is not the configured one.
    #[arg(long, value_name = "PREFIX")]
    from_key_prefix: Option<String>,
    /// store.key_prefix of the Redis to copy to, if it is not the configured one.
    #[arg(long, value_name = "PREFIX")]
    to_key_prefix: Option<String>,
    /// Add to a store that is not empty, and replace agents of the same id. A machine that has registered with both
    /// fleets is two agents then. Where the store has had policies, those that are added are published anew.
    #[arg(long)]
    merge: bool,
}

impl StoreCommand {
    pub(super) fn run(self) -> Exit {
        let done = match self {
            Self::Check(settings) => settings.run(),
            Self::Copy(settings) => settings.run(),
        };
        done.unwrap_or_else(|exit| exit)
    }
}

impl CheckSettings {
    fn run(&self) -> Result<Exit, Exit> {
        let url = self.store.clone().map(|url| ("store.url", url, "--store"));
        let config = self.common.load(url).map_err(|errors| refuse(&errors))?;
        let location = location(config.store.url.clone(), &config)?;
        let report = run(&config, "The store cannot be checked", async |screen| check(&location, screen).await)?;
        print(&report);
        if report.damage > 0 {
            print_error(
                "The store is not as it should be; the lines above say what is amiss, and what a server makes of it.",
            );
            return Ok(Exit::Failed);
        }
        Ok(verdict(report.corrupt, "Servers pass them over"))
    }
}

impl CopySettings {
    fn run(&self) -> Result<Exit, Exit> {
        let from = Side {
            url: self.from.as_deref(),
            flag: "--from",
            key_prefix: self.from_key_prefix.as_deref(),
            prefix_flag: "--from-key-prefix",
        };
        let to = Side {
            url: self.to.as_deref(),
            flag: "--to",
            key_prefix: self.to_key_prefix.as_deref(),
            prefix_flag: "--to-key-prefix",
        };
        let ((from, config), (to, _)) = (from.find(&self.common, &to)?, to.find(&self.common, &from)?);
        let order = CopyOrder { from, to, merge: self.merge };
        let copied = run(&config, "Nothing was copied", async |screen| copy(&order, screen).await)?;
        print(format_args!("{copied} from {} to {}\n", order.from, order.to));
        Ok(verdict(copied.corrupt, "They were not copied"))
    }
}

/// The flags of one side of a copy.
struct Side<'a> {
    url: Option<&'a str>,
    flag: &'static str,
    key_prefix: Option<&'a str>,
    prefix_flag: &'static str,
}

impl Side<'_> {
    /// The store that is meant, and the configuration.
    ///
    /// What the configuration says of a Redis may be meant for one side of the copy and contradict the other, as it
    /// would contradict the store of a server. So it is enough if it is right for one of those it may be meant for.
    fn find(&self, common: &Common, other: &Self) -> Result<(StoreLocation, Config), Exit> {
        let parse = |url: &str| url.parse::<StoreUrl>();
        let url = self
            .url
            .map(parse)
            .transpose()
            .map_err(|rule| refuse(&format!("flag {} is not the URL of a store; {rule}", self.flag)))?;
        let meant_for = match &url {
            None => vec![None],
            Some(StoreUrl::Redis(_)) => vec![self.url_setting(), other.url_setting(), None],
            Some(url @ (StoreUrl::Embedded(_) | StoreUrl::Memory)) => {
                if self.key_prefix.is_some() {
                    let (prefix, flag) = (self.prefix_flag, self.flag);
                    return Err(refuse(&format!(
                        "flag {prefix} is for Redis, and {flag} ({url}) is none; leave it out"
                    )));
                }
                vec![None, other.url_setting()]
            }
        };
        let key_prefix = self.key_prefix.map(|prefix| ("store.key_prefix", prefix.to_owned(), self.prefix_flag));
        let mut attempts = meant_for.into_iter().map(|url| common.load(url.into_iter().chain(key_prefix.clone())));
        let first = attempts.next().expect("there is at least one that it may be meant for");
        let config = first.or_else(|refused| attempts.find_map(Result::ok).ok_or(refused));
        let config = config.map_err(|errors| refuse(&errors))?;
        Ok((location(url.unwrap_or_else(|| config.store.url.clone()), &config)?, config))
    }

    fn url_setting(&self) -> Option<Flag> {
        self.url.map(|url| ("store.url", url.to_owned(), self.flag))
    }
}

impl Common {
    fn load(&self, flags: impl IntoIterator<Item = Flag>) -> Result<Config, ConfigErrors> {
        let data_dir = self.data_dir.clone().map(|folder| ("server.data_dir", folder, "--data-dir"));
        let flags: Vec<_> = data_dir.into_iter().chain(flags).collect();
        load_config(self.config.as_deref(), &flags)
    }
}

fn location(url: StoreUrl, config: &Config) -> Result<StoreLocation, Exit> {
    StoreLocation::new(url, config.store.clone(), &config.server.data_dir)
        .map_err(|error| failed("Nothing was done", &error))
}

/// Runs a command; `otherwise` is the heading of its error.
fn run<T>(
    config: &Config,
    otherwise: &str,
    work: impl AsyncFnOnce(&Screen) -> Result<T, ToolError>,
) -> Result<T, Exit> {
    let screen = Screen::default();
    // However little a server may log: who looks into a store wants to see what is wrong with it.
    start_log(&LogConfig { level: "info".into(), format: config.log.format }, screen.clone());
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    run_here(otherwise, work(&screen))?.map_err(|error| failed(otherwise, &error))
}

fn failed(otherwise: &str, error: &ToolError) -> Exit {
    match error {
        ToolError::Incomplete { .. } => print_error(format_args!("The copy is incomplete: {error}")),
        error => print_error(format_args!("{otherwise}: {error}")),
    }
    if error.is_usage() { Exit::WrongConfig } else { Exit::Failed }
}

/// Whether all is well.
fn verdict(corrupt: u64, consequence: &str) -> Exit {
    if corrupt == 0 {
        return Exit::Good;
    }
    print_error(format_args!("Records that cannot be read: {corrupt}. {consequence}; the errors above name them."));
    Exit::Failed
}

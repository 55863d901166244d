//! The command line.

mod store;

use std::{
    future::Future,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Parser, Subcommand};

use self::store::StoreCommand;
use crate::{
    api::openapi,
    config::{Config, ConfigErrors},
    limits::RUNTIME_END_MAX_MS,
    process::{
        output::{self, complain, report, say},
        supervision::{Task, indispensable, watch_acceptors},
    },
    server::{self, error::Failed, preflight::Preflight},
};

/// The heartbeat engine for very large fleets of guard agents.
#[derive(Debug, Parser)]
#[command(name = "guardbeat", version, about, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Settings,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server (the default).
    Serve(Settings),
    /// Check the configuration, print it as it takes effect, and exit.
    CheckConfig(Settings),
    /// Look into the store, or copy the fleet to another one.
    #[command(subcommand)]
    Store(StoreCommand),
    /// Print the description of the API: OpenAPI 3.1, as JSON.
    Openapi {
        /// Print it as a page for people instead.
        #[arg(long)]
        markdown: bool,
    },
}

/// Flags that stand over the environment and the configuration file.
#[derive(Debug, Args)]
struct Settings {
    /// Configuration file (TOML); config/guardbeat.toml in the source tree shows every key.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address of the API [default: 127.0.0.1:8443].
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Where the fleet is kept: embedded:, embedded:FOLDER, memory:, redis://, rediss://, redis-sentinel:// or
    /// redis+unix:// [default: embedded:]. A URL with a password belongs into REDIS_URL: flags can be seen by others.
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Folder for keys, tokens and the embedded store [default: ./data].
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<String>,
    /// TLS: self-signed, files or off [default: self-signed].
    #[arg(long, value_name = "MODE")]
    tls: Option<String>,
    /// Accept on addresses that other machines can reach: token (nobody chose the administrator's token), tls (the API is
    /// in clear text), metrics (the operations listener, which asks for no token); several separated by commas.
    #[arg(long, value_name = "WHAT")]
    allow_exposed: Option<String>,
}

/// What the process ends with. Usage errors, which clap finds, end with 2 as well.
#[derive(Clone, Copy, Debug)]
enum Exit {
    Good = 0,
    Failed = 1,
    WrongConfig = 2,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl Cli {
    /// Does what was asked.
    pub fn run(self) -> ExitCode {
        match self.command {
            None => serve(&self.serve),
            Some(Command::Serve(settings)) => serve(&settings),
            Some(Command::CheckConfig(settings)) => check_config(&settings),
            Some(Command::Store(command)) => command.run(),
            Some(Command::Openapi { markdown }) => {
                say(if markdown { openapi::page() } else { openapi::document().to_owned() });
                Exit::Good
            }
        }
        .into()
    }
}

impl Settings {
    fn load(&self) -> Result<Config, Exit> {
        let flag = |key, value: &Option<String>, name| value.clone().map(|value| (key, value, name));
        let flags: Vec<_> = [
            flag("server.listen", &self.listen, "--listen"),
            flag("store.url", &self.store, "--store"),
            flag("server.data_dir", &self.data_dir, "--data-dir"),
            flag("tls.mode", &self.tls, "--tls"),
            flag("server.allow_exposed", &self.allow_exposed, "--allow-exposed"),
        ]
        .into_iter()
        .flatten()
        .collect();
        load_config(self.config.as_deref(), &flags).map_err(|errors| refuse(&errors))
    }
}

/// A setting that a flag makes: key, value, name of the flag.
type Flag = (&'static str, String, &'static str);

/// The settings of the file, the environment and these flags.
fn load_config(file: Option<&Path>, flags: &[Flag]) -> Result<Config, ConfigErrors> {
    // Lossy, so that a variable that is not UTF-8 is refused by its rule rather than passed over.
    let env = std::env::vars_os();
    let env = env.map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()));
    Config::load(file, env, flags)
}

fn refuse(errors: &dyn std::fmt::Display) -> Exit {
    report(format_args!("The configuration is not right:\n{errors}"));
    Exit::WrongConfig
}

fn check_config(settings: &Settings) -> Exit {
    match settings.load() {
        Ok(config) => {
            let found = Preflight::check(&config);
            for warning in &found.warnings {
                complain(format_args!("Warning: {warning}"));
            }
            if let Err(errors) = found.errors() {
                return refuse(&errors);
            }
            say(config.describe());
            Exit::Good
        }
        Err(exit) => exit,
    }
}

fn serve(settings: &Settings) -> Exit {
    let config = match settings.load() {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    if let Err(error) = output::begin(&config.log) {
        complain(format_args!("The server cannot start: {error}"));
        return Exit::Failed;
    }
    watch_acceptors();
    // The main thread starts, ends and commits; the fleet lives on the worker threads.
    let serve = indispensable(Task::Main, server::serve(config));
    let ended = run_here("The server cannot start", async { tokio::task::LocalSet::new().run_until(serve).await });
    let exit = match ended {
        Ok(Ok(())) => Exit::Good,
        Ok(Err(Failed::ToStart(error))) if error.is_configuration() => refuse(&error),
        Ok(Err(error)) => {
            report(error);
            Exit::Failed
        }
        Err(exit) => exit,
    };
    output::finish();
    exit
}

/// Runs to its end what needs no thread of its own.
fn run_here<T>(otherwise: &str, work: impl Future<Output = T>) -> Result<T, Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        report(format_args!("{otherwise}: {error}"));
        Exit::Failed
    })?;
    let done = runtime.block_on(work);
    runtime.shutdown_timeout(Duration::from_millis(RUNTIME_END_MAX_MS));
    Ok(done)
}

//! The command line.

use std::{io::IsTerminal, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand};

use crate::{
    config::{Config, LogFormat},
    engine,
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
    /// Allow a non-loopback address without a configured admin token, or without TLS.
    #[arg(long)]
    allow_exposed: bool,
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
        }
        .into()
    }
}

impl Settings {
    fn load(&self) -> Result<Config, Exit> {
        let flag = |key, value: &Option<String>, name| value.clone().map(|value| (key, value, name));
        let exposed = self.allow_exposed.then(|| "true".to_owned());
        let flags: Vec<_> = [
            flag("server.listen", &self.listen, "--listen"),
            flag("store.url", &self.store, "--store"),
            flag("server.data_dir", &self.data_dir, "--data-dir"),
            flag("tls.mode", &self.tls, "--tls"),
            flag("server.allow_exposed", &exposed, "--allow-exposed"),
        ]
        .into_iter()
        .flatten()
        .collect();
        // Lossy, so that a variable that is not UTF-8 is refused by its rule rather than passed over.
        let env = std::env::vars_os();
        let env = env.map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()));
        Config::load(self.config.as_deref(), env, &flags).map_err(|errors| {
            eprintln!("The configuration is not right:\n{errors}");
            Exit::WrongConfig
        })
    }
}

fn check_config(settings: &Settings) -> Exit {
    match settings.load() {
        Ok(config) => {
            print!("{}", config.describe());
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
    start_log(&config);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("The server cannot start: {error}");
            return Exit::Failed;
        }
    };
    // The main thread starts, ends and commits; the fleet lives on the worker threads.
    let ended = tokio::task::LocalSet::new().block_on(&runtime, engine::serve(config));
    // A disk that does not answer must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match ended {
        Ok(()) => Exit::Good,
        Err(error) => {
            eprintln!("The server ended: {error}");
            Exit::Failed
        }
    }
}

fn start_log(config: &Config) {
    // The framework's own chatter is of interest only to who asks for it; and what it says of malformed requests would
    // let any stranger fill the log.
    let directives = format!("actix_server=warn,actix_http=off,{}", config.log.level);
    let filter = tracing_subscriber::EnvFilter::builder().parse_lossy(directives);
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match config.log.format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}

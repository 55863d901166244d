//! The settings: defaults, over them a file, the environment and flags, as one checked [`Config`].
//!
//! Promises: a [`Config`] is complete, every value is within its bounds and no two contradict each other, so nobody
//! checks again; all errors are reported at once, each with its origin and what would be right; secrets appear
//! neither in errors nor in [`Config::describe`] nor in `Debug`. Nothing here reads the environment or the command
//! line: both are handed in.
//!
//! - [`keys`](self::KEYS): the table of keys, one entry for each; `key`: what an entry is: names, default, how to read
//!   it, how to show it.
//! - `layers`: file, environment and flags as one list, in the order of their precedence; `setting`: one of them.
//! - `file`: the configuration file as a layer; refuses keys that do not exist.
//! - `environment`: the environment as a layer; what to make of variables that are no settings, or empty ones.
//! - `suggestions`: what was probably meant by an unrecognised name.
//! - `texts`: what a token, an origin, a log filter must look like.
//! - `value`: one given value, and how to make a number, an address, a list of it.
//! - `rules`: defaults that follow from other settings, and what contradicts what.
//! - `exposure`: what may be accepted of listeners that other machines can reach.
//! - `errors`: the errors that an operator sees.

mod environment;
#[cfg(test)]
mod environment_tests;
mod errors;
mod exposure;
mod file;
mod key;
mod keys;
mod layers;
#[cfg(test)]
mod mistakes_tests;
pub(crate) mod redis_url;
mod rules;
#[cfg(test)]
mod rules_tests;
mod setting;
#[cfg(test)]
mod store_tests;
mod store_url;
mod suggestions;
#[cfg(test)]
mod tests;
mod texts;
pub(crate) mod token_text;
mod value;

pub use self::{
    redis_url::{RedisUrl, RedisUrlError},
    store_url::StoreUrl,
};
use std::{
    collections::BTreeSet,
    fmt,
    net::{Ipv4Addr, SocketAddr},
    num::NonZero,
    path::{Path, PathBuf},
};

use ipnet::IpNet;

use crate::{
    limits::WORKERS_MAX,
    process::output::{LogConfig, LogFormat},
};

#[cfg(test)]
use self::key::KeyDefault;
pub(crate) use self::texts::certificate_name;
pub use self::{errors::ConfigErrors, exposure::Exposure, keys::KEYS};
use self::{
    layers::Layers,
    rules::{Draft, Sources},
    setting::Setting,
};

/// All settings of one daemon.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The HTTPS API, and what the whole process shares.
    pub server: ServerConfig,
    /// Who may do what.
    pub auth: AuthConfig,
    /// How silence is judged.
    pub liveness: LivenessConfig,
    /// Where the fleet survives the process.
    pub store: StoreConfig,
    /// How much of the threats is kept.
    pub threats: ThreatsConfig,
    /// The certificate of the API.
    pub tls: TlsConfig,
    /// The operations listener.
    pub metrics: MetricsConfig,
    pub events: EventsConfig,
    /// What the process takes on at most.
    pub limits: LimitsConfig,
    pub log: LogConfig,
    /// What was given that can hardly have been meant so, a sentence each: to be shown to the operator.
    pub warnings: Vec<String>,
}

/// `[server]`
#[derive(Clone, Debug, PartialEq)]
pub struct ServerConfig {
    /// Where the API listens. Port 0: any free one.
    pub listen: SocketAddr,
    /// Worker threads, each with its share of the fleet: 1 to 64.
    pub workers: usize,
    /// Folder for all that the process keeps; relative to the working directory.
    pub data_dir: PathBuf,
    /// Origins whose scripts may use the API: `*`, or `scheme://host[:port]` as a browser sends it (lower case,
    /// without the scheme's own port).
    pub cors_allowed_origins: Vec<String>,
    /// Trusted proxies: their forwarding header is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The header in which they name the client. Only this one is believed: a proxy passes the other one on as its client wrote it.
    pub forwarded_header: ForwardedHeader,
    /// Open connections per worker: 1 to 1,000,000.
    pub max_connections: usize,
    /// An idle connection is closed after this: 1,000 to 3,600,000.
    pub keep_alive_ms: u64,
    /// How long a shutdown waits for requests that are being answered: 0 to 600,000.
    pub shutdown_grace_ms: u64,
    /// What the operator accepts of listeners that other machines can reach.
    pub allow_exposed: Vec<Exposure>,
}

/// The header in which a trusted proxy names its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedHeader {
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// `[auth]`
#[derive(Clone, PartialEq)]
pub struct AuthConfig {
    /// The administrator's token: 8 to 256 visible ASCII characters. None, and no file either: one is generated and kept
    /// in the data folder.
    pub admin_token: Option<String>,
    /// The file that holds it instead; relative to the working directory.
    pub admin_token_file: Option<PathBuf>,
    /// Networks from which an agent may register without a token.
    pub open_enrollment: Vec<IpNet>,
}

/// `[liveness]`
#[derive(Clone, Debug, PartialEq)]
pub struct LivenessConfig {
    /// The interval at which agents are expected to beat: [`TIMEOUT_MIN_MS`](crate::limits::TIMEOUT_MIN_MS) to
    /// [`LIVENESS_MAX_MS`](crate::limits::LIVENESS_MAX_MS).
    pub timeout_ms: u64,
    /// How late a heartbeat may be: up to [`LIVENESS_MAX_MS`](crate::limits::LIVENESS_MAX_MS).
    pub grace_ms: u64,
    /// Silence that makes an agent offline: more than `timeout_ms + grace_ms`, up to
    /// [`LIVENESS_MAX_MS`](crate::limits::LIVENESS_MAX_MS).
    pub offline_after_ms: u64,
    /// After a start no agent turns stale within this: up to [`LIVENESS_MAX_MS`](crate::limits::LIVENESS_MAX_MS).
    pub restart_grace_ms: u64,
}

/// `[store]`
#[derive(Clone, Debug, PartialEq)]
pub struct StoreConfig {
    /// Which store, and where.
    pub url: StoreUrl,
    /// Whether an embedded store that is damaged is opened with what is left of it.
    pub accept_loss: bool,
    /// How often the last heartbeats are written, and so how many of them a crash may cost: 10 to 10,000.
    pub flush_interval_ms: u64,
    /// What the names of all keys in Redis begin with, so that several fleets can share it: 1 to 64 characters of
    /// `A–Z a–z 0–9 : . _ -`.
    pub key_prefix: String,
    /// The authority that signed the certificate of Redis, in PEM form; relative to the working directory. Only with a
    /// URL with TLS. None: the system's roots are trusted.
    pub ca_file: Option<PathBuf>,
    /// Replicas of Redis that must have a durable change before it is answered: 0 to 100.
    pub min_replicas: u32,
    /// The longest that a command to Redis may take: 50 to 60,000.
    pub timeout_ms: u64,
    /// How long the start waits for a Redis that does not answer: 100 to 3,600,000.
    pub connect_timeout_ms: u64,
}

/// `[threats]`
#[derive(Clone, Debug, PartialEq)]
pub struct ThreatsConfig {
    /// How long threats are kept, in days: 1 to 3,650.
    pub retention_days: u64,
    /// What the threats of one tenant may take in the store, in bytes; the oldest are dropped for newer ones:
    /// [`THREATS_BYTES_MIN`](crate::limits::THREATS_BYTES_MIN) to
    /// [`THREATS_BYTES_MAX`](crate::limits::THREATS_BYTES_MAX).
    pub max_bytes_per_tenant: u64,
}

/// `[tls]`
#[derive(Clone, Debug, PartialEq)]
pub struct TlsConfig {
    /// Where the certificate comes from.
    pub mode: TlsMode,
    /// DNS names and IP addresses in the self-made certificate, besides those it always has.
    pub names: Vec<String>,
}

/// Where the certificate of the API comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// From a local authority in the data folder.
    SelfSigned,
    /// From files in PEM form; relative to the working directory.
    Files {
        /// The certificate and those that lead from it to a root.
        cert: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
    /// There is none: plain HTTP.
    Off,
}

/// `[metrics]`
#[derive(Clone, Debug, PartialEq)]
pub struct MetricsConfig {
    /// Where the operations listener listens, in plain HTTP and without a token. Port 0: any free one.
    pub listen: SocketAddr,
}

/// `[events]`
#[derive(Clone, Debug, PartialEq)]
pub struct EventsConfig {
    /// Events kept for readers that fall behind or come back: [`EVENTS_BACKLOG_MIN`](crate::limits::EVENTS_BACKLOG_MIN)
    /// to 1,000,000.
    pub backlog: usize,
    /// Event streams that are open at one time: 1 to 1,000,000.
    pub max_streams: usize,
}

/// `[limits]`
#[derive(Clone, Debug, PartialEq)]
pub struct LimitsConfig {
    /// Agents in the fleet: 1 to [`MAX_AGENTS_CEILING`](crate::limits::MAX_AGENTS_CEILING).
    pub max_agents: u64,
    /// Requests being answered at one time, per worker: 1 to 1,000,000.
    pub max_in_flight: usize,
}

impl Config {
    /// The settings that follow from a file (if any), the environment and flags, each over the ones before.
    ///
    /// A flag is the key it sets, its value and the flag's name: `("server.listen", "0.0.0.0:8443", "--listen")`.
    ///
    /// # Errors
    /// All that is wrong, in the order file, environment, flags, contradictions.
    pub fn load(
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
        flags: &[(&'static str, String, &'static str)],
    ) -> Result<Self, ConfigErrors> {
        let Layers { settings, mut errors, mut warnings, empty, complete } = Layers::collect(file, env, flags);
        let mut draft = Draft::default();
        let (mut sources, mut refused) = (Sources::new(), BTreeSet::new());
        for Setting { key, part, value, origin } in settings {
            let set = key.set_part.filter(|_| part).unwrap_or(key.set);
            match set(&mut draft, &value) {
                Ok(()) => {
                    let rest = sources.get(key.name).filter(|_| part);
                    let source = rest.map_or(format!("from {origin}"), |rest| format!("{rest} and {origin}"));
                    sources.insert(key.name, source);
                }
                Err(wrong) => {
                    refused.insert(key.name);
                    errors.push(wrong.into_error(key, &value, origin));
                }
            }
        }
        let (mut config, contradictions) = draft.resolve(&sources, &refused);
        warnings.extend(empty.iter().map(|(key, variable)| environment::empty(key, variable, &config, &sources)));
        // Of a file that could not be read whole nobody knows whether it contradicts itself.
        if complete {
            errors.extend(contradictions);
        }
        if errors.is_empty() {
            config.warnings = warnings;
            Ok(config)
        } else {
            Err(ConfigErrors { errors, warnings })
        }
    }

    /// Whether anything has to be kept in the data folder.
    pub fn needs_data_dir(&self) -> bool {
        let token = self.auth.admin_token.is_none() && self.auth.admin_token_file.is_none();
        token || self.tls.mode == TlsMode::SelfSigned || self.store.url == StoreUrl::Embedded(None)
    }

    /// The settings as a file that would set exactly these, but for secrets: the administrator's token is left out, and
    /// `***` stands for the password of a URL.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        let mut section = "";
        for key in KEYS {
            if key.section() != section {
                let gap = if section.is_empty() { "" } else { "\n" };
                section = key.section();
                text.push_str(&format!("{gap}[{section}]\n"));
            }
            match (key.show)(self) {
                Some(_) if key.secret => text.push_str(&format!("# {} is set; it is not shown\n", key.field())),
                Some(value) => text.push_str(&format!("{} = {value}\n", key.field())),
                None => text.push_str(&format!("# {}: {}\n", key.field(), key.default)),
            }
        }
        text
    }

    /// The defaults, before those that depend on other settings have been worked out.
    fn static_defaults() -> Self {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            server: ServerConfig {
                listen: local(8443),
                workers: cores.min(WORKERS_MAX),
                data_dir: "./data".into(),
                cors_allowed_origins: Vec::new(),
                trusted_proxies: Vec::new(),
                forwarded_header: ForwardedHeader::XForwardedFor,
                max_connections: 25_000,
                keep_alive_ms: 75_000,
                shutdown_grace_ms: 10_000,
                allow_exposed: Vec::new(),
            },
            auth: AuthConfig { admin_token: None, admin_token_file: None, open_enrollment: Vec::new() },
            liveness: LivenessConfig { timeout_ms: 60_000, grace_ms: 0, offline_after_ms: 0, restart_grace_ms: 0 },
            store: StoreConfig {
                url: StoreUrl::Embedded(None),
                accept_loss: false,
                flush_interval_ms: 100,
                key_prefix: rules::KEY_PREFIX_DEFAULT.into(),
                ca_file: None,
                min_replicas: 0,
                timeout_ms: 2_000,
                connect_timeout_ms: 10_000,
            },
            threats: ThreatsConfig { retention_days: 30, max_bytes_per_tenant: 1 << 30 },
            tls: TlsConfig { mode: TlsMode::SelfSigned, names: Vec::new() },
            metrics: MetricsConfig { listen: local(9464) },
            events: EventsConfig { backlog: 10_000, max_streams: 10_000 },
            limits: LimitsConfig { max_agents: 20_000_000, max_in_flight: 10_000 },
            log: LogConfig { level: "info".into(), format: LogFormat::Text },
            warnings: Vec::new(),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Draft::default().resolve(&Sources::new(), &BTreeSet::new()).0
    }
}

impl fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthConfig")
            .field("admin_token", &self.admin_token.as_ref().map(|_| format_args!("[redacted]")))
            .field("admin_token_file", &self.admin_token_file)
            .field("open_enrollment", &self.open_enrollment)
            .finish()
    }
}

//! Settings that depend on each other: defaults that follow from other settings, and what contradicts what.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use super::StoreUrl;
use super::{Config, Exposure, TlsMode, errors::ConfigError, key::Key};
use crate::limits::{LIVENESS_MAX_MS, OFFLINE_AFTER_DEFAULT_MS};

/// `store.key_prefix` when nobody sets it.
pub(super) const KEY_PREFIX_DEFAULT: &str = "guardbeat:";

/// For each key that somebody set: who, as in "from flag --listen".
pub(super) type Sources = BTreeMap<&'static str, String>;

/// Settings that are being collected: those whose default depends on others are still open.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) config: Config,
    pub(super) grace_ms: Option<u64>,
    pub(super) offline_after_ms: Option<u64>,
    pub(super) restart_grace_ms: Option<u64>,
    pub(super) tls_mode: TlsModeName,
    pub(super) cert_file: Option<PathBuf>,
    pub(super) key_file: Option<PathBuf>,
}

/// [`TlsMode`] without what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TlsModeName {
    SelfSigned,
    Files,
    Off,
}

impl TlsModeName {
    pub(super) const ALL: [Self; 3] = [Self::SelfSigned, Self::Files, Self::Off];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::SelfSigned => "self-signed",
            Self::Files => "files",
            Self::Off => "off",
        }
    }

    pub(super) const fn of(mode: &TlsMode) -> Self {
        match mode {
            TlsMode::SelfSigned => Self::SelfSigned,
            TlsMode::Files { .. } => Self::Files,
            TlsMode::Off => Self::Off,
        }
    }
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            config: Config::static_defaults(),
            grace_ms: None,
            offline_after_ms: None,
            restart_grace_ms: None,
            tls_mode: TlsModeName::SelfSigned,
            cert_file: None,
            key_file: None,
        }
    }
}

impl Draft {
    /// The settings, and every contradiction between those whose value was not refused already.
    pub(super) fn resolve(self, sources: &Sources, refused: &BTreeSet<&'static str>) -> (Config, Vec<ConfigError>) {
        let mut config = self.config;
        let liveness = &mut config.liveness;
        liveness.grace_ms = self.grace_ms.unwrap_or(liveness.timeout_ms / 2);
        let stale_after = liveness.timeout_ms + liveness.grace_ms;
        let offline_by_default = match OFFLINE_AFTER_DEFAULT_MS {
            usual if usual > stale_after => usual,
            _ => (2 * stale_after).min(LIVENESS_MAX_MS),
        };
        liveness.offline_after_ms = self.offline_after_ms.unwrap_or(offline_by_default);
        liveness.restart_grace_ms = self.restart_grace_ms.unwrap_or(stale_after.min(LIVENESS_MAX_MS));

        let mut check = Check { sources, refused, config: &config, found: Vec::new() };
        let files = check.tls_files(self.tls_mode, self.cert_file, self.key_file);
        check.liveness();
        check.token();
        check.listeners(self.tls_mode);
        check.redis();
        let contradictions = check.found;
        config.tls.mode = match (self.tls_mode, files) {
            (TlsModeName::Files, Some((cert, key))) => TlsMode::Files { cert, key },
            // Without its files it was a contradiction, or one of them was refused.
            (TlsModeName::Files, None) | (TlsModeName::SelfSigned, _) => TlsMode::SelfSigned,
            (TlsModeName::Off, _) => TlsMode::Off,
        };
        (config, contradictions)
    }
}

/// The search for contradictions.
struct Check<'a> {
    sources: &'a Sources,
    refused: &'a BTreeSet<&'static str>,
    config: &'a Config,
    found: Vec<ConfigError>,
}

impl Check<'_> {
    /// Notes a contradiction between settings `keys`, unless one of them was refused: then nobody knows.
    fn refuse(&mut self, keys: &[&str], what: String) {
        if !keys.iter().any(|key| self.refused.contains(key)) {
            self.found.push(ConfigError::Contradiction(what));
        }
    }

    /// A setting, its value and where that came from.
    fn cite(&self, name: &'static str) -> String {
        let value = Key::find(name).and_then(|key| (key.show)(self.config)).unwrap_or_else(|| "not set".into());
        self.cite_as(name, &value)
    }

    fn cite_as(&self, name: &'static str, value: &str) -> String {
        let source = self.sources.get(name).map_or("default", String::as_str);
        format!("{name} ({value}, {source})")
    }

    fn liveness(&mut self) {
        let keys = ["liveness.offline_after_ms", "liveness.timeout_ms", "liveness.grace_ms"];
        let liveness = &self.config.liveness;
        if liveness.offline_after_ms <= liveness.timeout_ms + liveness.grace_ms {
            let [offline, timeout, grace] = keys.map(|key| self.cite(key));
            self.refuse(
                &keys,
                format!("{offline} must exceed {timeout} + {grace}; raise the first or lower the others"),
            );
        }
    }

    /// The files of the certificate, if the mode wants them and they are there.
    fn tls_files(
        &mut self,
        mode: TlsModeName,
        cert: Option<PathBuf>,
        key: Option<PathBuf>,
    ) -> Option<(PathBuf, PathBuf)> {
        let cited_mode = self.cite_as("tls.mode", &format!("\"{}\"", mode.name()));
        for (name, file) in [("tls.cert_file", &cert), ("tls.key_file", &key)] {
            match (mode, file) {
                (TlsModeName::Files, None) => self.refuse(
                    &["tls.mode", name],
                    format!("{cited_mode} needs tls.cert_file and tls.key_file; {name} is not set"),
                ),
                (TlsModeName::SelfSigned | TlsModeName::Off, Some(file)) => {
                    let cited = self.cite_as(name, &format!("{file:?}"));
                    let remedy = format!("set tls.mode to \"files\" or leave {name} out");
                    self.refuse(&["tls.mode", name], format!("{cited} contradicts {cited_mode}; {remedy}"));
                }
                (TlsModeName::Files, Some(_)) | (TlsModeName::SelfSigned | TlsModeName::Off, None) => {}
            }
        }
        cert.zip(key)
    }

    /// Settings that promise something only Redis can keep. The timeouts promise nothing: they may stay in a file whose
    /// store is another for once.
    fn redis(&mut self) {
        const URL: &str = "store.url";
        const CA: &str = "store.ca_file";
        let store = &self.config.store;
        let url = self.cite(URL);
        match &store.url {
            StoreUrl::Redis(redis) => {
                if store.ca_file.is_some() && !redis.tls {
                    let remedy = "begin the URL with rediss:// or rediss-sentinel://, or leave store.ca_file out";
                    let what = format!("{} is of no use, for {url} is without TLS; {remedy}", self.cite(CA));
                    self.refuse(&[URL, CA], what);
                }
            }
            StoreUrl::Embedded(_) | StoreUrl::Memory => {
                for (key, set) in [
                    ("store.key_prefix", store.key_prefix != KEY_PREFIX_DEFAULT),
                    (CA, store.ca_file.is_some()),
                    ("store.min_replicas", store.min_replicas != 0),
                ] {
                    if set {
                        let cited = self.cite(key);
                        let remedy = format!("give store.url (REDIS_URL) a Redis, or leave {key} out");
                        self.refuse(&[URL, key], format!("{cited} is for Redis, and {url} is none; {remedy}"));
                    }
                }
            }
        }
    }

    fn token(&mut self) {
        const TOKEN: &str = "auth.admin_token";
        const FILE: &str = "auth.admin_token_file";
        let auth = &self.config.auth;
        if auth.admin_token.is_some() && auth.admin_token_file.is_some() {
            let (token, file) = (self.cite_as(TOKEN, "set"), self.cite(FILE));
            self.refuse(&[TOKEN, FILE], format!("{token} and {file} both give the token; leave one of them out"));
        }
    }

    fn listeners(&mut self, tls: TlsModeName) {
        const LISTEN: &str = "server.listen";
        const METRICS: &str = "metrics.listen";
        const ALLOW: &str = "server.allow_exposed";
        let (server, metrics) = (&self.config.server, &self.config.metrics);
        let (listen, metrics_listen) = (self.cite(LISTEN), self.cite(METRICS));
        if collide(server.listen, metrics.listen) {
            let what = format!("{listen} and {metrics_listen} are the same place; give one of them another port");
            self.refuse(&[LISTEN, METRICS], what);
        }
        let accepts = |rule: Exposure| server.allow_exposed.contains(&rule);
        let accept = |rule: Exposure| format!("or accept it with --allow-exposed {rule} (server.allow_exposed)");
        if is_exposed(server.listen) {
            let reachable = format!("{listen} can be reached from other machines, but");
            let auth = &self.config.auth;
            if auth.admin_token.is_none() && auth.admin_token_file.is_none() && !accepts(Exposure::Token) {
                let why = "nobody has chosen the administrator's token";
                let remedy = "set auth.admin_token (MANAGER_AUTH_TOKEN) or auth.admin_token_file, listen on 127.0.0.1";
                let what = format!("{reachable} {why}; {remedy}, {}", accept(Exposure::Token));
                self.refuse(&[LISTEN, ALLOW, "auth.admin_token", "auth.admin_token_file"], what);
            }
            if tls == TlsModeName::Off && !accepts(Exposure::Tls) {
                let mode = self.cite_as("tls.mode", "\"off\"");
                let what = format!(
                    "{reachable} {mode} would send tokens over the network in clear text; turn TLS on (tls.mode \
                     \"self-signed\" or \"files\"), listen on 127.0.0.1, {}",
                    accept(Exposure::Tls)
                );
                self.refuse(&[LISTEN, ALLOW, "tls.mode"], what);
            }
        }
        if is_exposed(metrics.listen) && !accepts(Exposure::Metrics) {
            let why = "can be reached from other machines, but asks for no token";
            let remedy = "listen on 127.0.0.1 (the API serves /metrics with the admin token)";
            let what = format!("{metrics_listen} {why}; {remedy}, {}", accept(Exposure::Metrics));
            self.refuse(&[METRICS, ALLOW], what);
        }
    }
}

/// Whether other machines may reach it.
fn is_exposed(address: SocketAddr) -> bool {
    !address.ip().to_canonical().is_loopback()
}

/// Whether two listeners cannot have these addresses at the same time.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let (x, y) = (a.ip().to_canonical(), b.ip().to_canonical());
    // All addresses of IPv6 are, on most systems, those of IPv4 too.
    let covers = |all: IpAddr, one: IpAddr| all.is_unspecified() && (all.is_ipv6() || one.is_ipv4());
    a.port() == b.port() && a.port() != 0 && (x == y || covers(x, y) || covers(y, x))
}

//! The table of keys: one entry for each setting.
//!
//! A key is declared here and nowhere else, except that `config/guardbeat.toml` documents it (a test compares the two)
//! and that its value has a field in [`Config`].

use super::{
    Exposure, ForwardedHeader, TlsMode,
    key::{
        Key,
        KeyDefault::{Derived, Value as Fixed},
    },
    rules::TlsModeName,
    texts::{certificate_name, choice, key_prefix, log_level, origin, store_url, token},
    value::{InvalidValue, quoted},
};
use crate::{
    limits::{
        EVENTS_BACKLOG_MIN, LIVENESS_MAX_MS, MAX_AGENTS_CEILING, MAX_CONNECTIONS_CEILING, MAX_IN_FLIGHT_CEILING,
        THREATS_BYTES_MAX, THREATS_BYTES_MIN, TIMEOUT_MIN_MS, WORKERS_MAX,
    },
    process::output::LogFormat,
};

const MILLISECONDS: &str = "a whole number of milliseconds";
const FORWARDED_HEADERS: [(&str, ForwardedHeader); 2] =
    [("x-forwarded-for", ForwardedHeader::XForwardedFor), ("forwarded", ForwardedHeader::Forwarded)];
const ADDRESS: &str = "an IP address and a port, such as 127.0.0.1:8443 or [::1]:8443";

/// Every setting, section by section.
pub static KEYS: &[Key] = &[
    Key::new(
        "server.listen",
        Fixed("\"127.0.0.1:8443\""),
        "address and port of the API",
        |d, v| put(&mut d.config.server.listen, v.parsed(ADDRESS)),
        |c| show(quoted(&c.server.listen.to_string())),
    )
    .alias_for_part("MANAGER_PORT", |d, v| {
        let port = v.number("a port: a whole number", 0..=u16::MAX.into())?;
        d.config.server.listen.set_port(port);
        Ok(())
    }),
    Key::new(
        "server.workers",
        Derived("one per processor"),
        "worker threads, each with its share of the fleet",
        |d, v| put(&mut d.config.server.workers, v.number("a whole number of threads", 1..=WORKERS_MAX as u64)),
        |c| show(c.server.workers),
    ),
    Key::new(
        "server.data_dir",
        Fixed("\"./data\""),
        "folder for all that the process keeps",
        |d, v| put(&mut d.config.server.data_dir, v.path()),
        |c| show(quoted(&c.server.data_dir.to_string_lossy())),
    ),
    Key::new(
        "server.cors_allowed_origins",
        Fixed("[]"),
        "origins whose scripts may use the API",
        |d, v| {
            let right = "* or an origin such as https://dashboard.example:8080, without a path";
            put(&mut d.config.server.cors_allowed_origins, v.list(right, origin))
        },
        |c| show_list(&c.server.cors_allowed_origins),
    )
    .alias("CORS_ALLOWED_ORIGINS"),
    Key::new(
        "server.trusted_proxies",
        Fixed("[]"),
        "peers that are believed whom they forward requests of",
        |d, v| put(&mut d.config.server.trusted_proxies, v.networks()),
        |c| show_list(&c.server.trusted_proxies),
    ),
    Key::new(
        "server.forwarded_header",
        Fixed("\"x-forwarded-for\""),
        "the header in which trusted proxies say whom they were called by",
        |d, v| put(&mut d.config.server.forwarded_header, choice(v, &FORWARDED_HEADERS)),
        |c| {
            let is_it = |(_, header): &&(_, _)| *header == c.server.forwarded_header;
            FORWARDED_HEADERS.iter().find(is_it).and_then(|(word, _)| show(quoted(word)))
        },
    ),
    Key::new(
        "server.max_connections",
        Fixed("25000"),
        "open connections per worker",
        |d, v| {
            put(
                &mut d.config.server.max_connections,
                v.number("a whole number of connections", 1..=MAX_CONNECTIONS_CEILING),
            )
        },
        |c| show(c.server.max_connections),
    ),
    Key::new(
        "server.keep_alive_ms",
        Fixed("75000"),
        "an idle connection is closed after this",
        |d, v| put(&mut d.config.server.keep_alive_ms, v.number(MILLISECONDS, 1_000..=3_600_000)),
        |c| show(c.server.keep_alive_ms),
    ),
    Key::new(
        "server.shutdown_grace_ms",
        Fixed("10000"),
        "how long a shutdown waits for requests that are being answered",
        |d, v| put(&mut d.config.server.shutdown_grace_ms, v.number(MILLISECONDS, 0..=600_000)),
        |c| show(c.server.shutdown_grace_ms),
    ),
    Key::new(
        "server.allow_exposed",
        Fixed("[]"),
        "rules for listeners that other machines can reach which need not hold",
        |d, v| put(&mut d.config.server.allow_exposed, v.list("token, tls or metrics", Exposure::parse)),
        |c| show_list(&c.server.allow_exposed),
    ),
    Key::new(
        "auth.admin_token",
        Derived("one is generated at the first start, kept in the data folder, and shown if stdout is a terminal"),
        "the administrator's token",
        |d, v| put(&mut d.config.auth.admin_token, token(v).map(Some)),
        |c| c.auth.admin_token.as_ref().map(|_| "\"[redacted]\"".into()),
    )
    .alias("MANAGER_AUTH_TOKEN")
    .secret(),
    Key::new(
        "auth.admin_token_file",
        Derived("none; it is auth.admin_token, or generated"),
        "the file that holds the administrator's token",
        |d, v| put(&mut d.config.auth.admin_token_file, v.path().map(Some)),
        |c| c.auth.admin_token_file.as_ref().map(|file| quoted(&file.to_string_lossy())),
    ),
    Key::new(
        "auth.open_enrollment",
        Fixed("[]"),
        "networks from which an agent may register without a token",
        |d, v| put(&mut d.config.auth.open_enrollment, v.networks()),
        |c| show_list(&c.auth.open_enrollment),
    ),
    Key::new(
        "liveness.timeout_ms",
        Fixed("60000"),
        "the interval at which agents are expected to beat",
        |d, v| put(&mut d.config.liveness.timeout_ms, v.number(MILLISECONDS, TIMEOUT_MIN_MS..=LIVENESS_MAX_MS)),
        |c| show(c.liveness.timeout_ms),
    )
    .alias("MANAGER_HEARTBEAT_TIMEOUT_MS"),
    Key::new(
        "liveness.grace_ms",
        Derived("half of timeout_ms"),
        "how late a heartbeat may be",
        |d, v| put(&mut d.grace_ms, v.number(MILLISECONDS, 0..=LIVENESS_MAX_MS).map(Some)),
        |c| show(c.liveness.grace_ms),
    ),
    Key::new(
        "liveness.offline_after_ms",
        Derived("300000, or twice timeout_ms + grace_ms if that is more"),
        "silence that makes an agent offline",
        |d, v| put(&mut d.offline_after_ms, v.number(MILLISECONDS, 1..=LIVENESS_MAX_MS).map(Some)),
        |c| show(c.liveness.offline_after_ms),
    ),
    Key::new(
        "liveness.restart_grace_ms",
        Derived("timeout_ms + grace_ms"),
        "after a start no agent turns stale within this",
        |d, v| put(&mut d.restart_grace_ms, v.number(MILLISECONDS, 0..=LIVENESS_MAX_MS).map(Some)),
        |c| show(c.liveness.restart_grace_ms),
    ),
    Key::new(
        "store.url",
        Fixed("\"embedded:\""),
        "which store, and where",
        |d, v| put(&mut d.config.store.url, store_url(v)),
        |c| show(quoted(&c.store.url.to_string())),
    )
    .alias("REDIS_URL")
    .may_hold_password(),
    Key::new(
        "store.accept_loss",
        Fixed("false"),
        "open an embedded store that is damaged with what is left of it",
        |d, v| put(&mut d.config.store.accept_loss, v.boolean()),
        |c| show(c.store.accept_loss),
    ),
    Key::new(
        "store.flush_interval_ms",
        Fixed("100"),
        "how often the last heartbeats are written",
        |d, v| put(&mut d.config.store.flush_interval_ms, v.number(MILLISECONDS, 10..=10_000)),
        |c| show(c.store.flush_interval_ms),
    ),
    Key::new(
        "store.key_prefix",
        Fixed("\"guardbeat:\""),
        "what the names of all keys in Redis begin with",
        |d, v| put(&mut d.config.store.key_prefix, key_prefix(v)),
        |c| show(quoted(&c.store.key_prefix)),
    ),
    Key::new(
        "store.ca_file",
        Derived("none; the system's roots are trusted"),
        "the authority that signed the certificate of Redis, in PEM form",
        |d, v| put(&mut d.config.store.ca_file, v.path().map(Some)),
        |c| c.store.ca_file.as_ref().map(|file| quoted(&file.to_string_lossy())),
    ),
    Key::new(
        "store.min_replicas",
        Fixed("0"),
        "replicas of Redis that must have a durable change before it is answered",
        |d, v| put(&mut d.config.store.min_replicas, v.number("a whole number of replicas", 0..=100)),
        |c| show(c.store.min_replicas),
    ),
    Key::new(
        "store.timeout_ms",
        Fixed("2000"),
        "the longest that a command to Redis may take",
        |d, v| put(&mut d.config.store.timeout_ms, v.number(MILLISECONDS, 50..=60_000)),
        |c| show(c.store.timeout_ms),
    ),
    Key::new(
        "store.connect_timeout_ms",
        Fixed("10000"),
        "how long the start waits for a Redis that does not answer",
        |d, v| put(&mut d.config.store.connect_timeout_ms, v.number(MILLISECONDS, 100..=3_600_000)),
        |c| show(c.store.connect_timeout_ms),
    ),
    Key::new(
        "threats.retention_days",
        Fixed("30"),
        "how long threats are kept",
        |d, v| put(&mut d.config.threats.retention_days, v.number("a whole number of days", 1..=3_650)),
        |c| show(c.threats.retention_days),
    ),
    Key::new(
        "threats.max_bytes_per_tenant",
        Fixed("1073741824"),
        "what the threats of one tenant may take",
        |d, v| {
            let bytes = v.number("a whole number of bytes", THREATS_BYTES_MIN..=THREATS_BYTES_MAX);
            put(&mut d.config.threats.max_bytes_per_tenant, bytes)
        },
        |c| show(c.threats.max_bytes_per_tenant),
    ),
    Key::new(
        "tls.mode",
        Fixed("\"self-signed\""),
        "where the certificate of the API comes from",
        |d, v| {
            let modes = TlsModeName::ALL.map(|mode| (mode.name(), mode));
            put(&mut d.tls_mode, choice(v, &modes))
        },
        |c| show(quoted(TlsModeName::of(&c.tls.mode).name())),
    ),
    Key::new(
        "tls.cert_file",
        Derived("none; needed when mode is \"files\""),
        "the certificate and those that lead from it to a root, in PEM form",
        |d, v| put(&mut d.cert_file, v.path().map(Some)),
        |c| match &c.tls.mode {
            TlsMode::Files { cert, key: _ } => show(quoted(&cert.to_string_lossy())),
            TlsMode::SelfSigned | TlsMode::Off => None,
        },
    ),
    Key::new(
        "tls.key_file",
        Derived("none; needed when mode is \"files\""),
        "the private key of the certificate, in PEM form",
        |d, v| put(&mut d.key_file, v.path().map(Some)),
        |c| match &c.tls.mode {
            TlsMode::Files { cert: _, key } => show(quoted(&key.to_string_lossy())),
            TlsMode::SelfSigned | TlsMode::Off => None,
        },
    ),
    Key::new(
        "tls.names",
        Fixed("[]"),
        "further names and addresses in the self-made certificate",
        |d, v| put(&mut d.config.tls.names, v.list("a DNS name or an IP address", certificate_name)),
        |c| show_list(&c.tls.names),
    ),
    Key::new(
        "metrics.listen",
        Fixed("\"127.0.0.1:9464\""),
        "address and port of the operations listener",
        |d, v| put(&mut d.config.metrics.listen, v.parsed(ADDRESS)),
        |c| show(quoted(&c.metrics.listen.to_string())),
    ),
    Key::new(
        "events.backlog",
        Fixed("10000"),
        "events kept for readers that fall behind or come back",
        |d, v| put(&mut d.config.events.backlog, v.number("a whole number of events", EVENTS_BACKLOG_MIN..=1_000_000)),
        |c| show(c.events.backlog),
    ),
    Key::new(
        "events.max_streams",
        Fixed("10000"),
        "event streams that are open at one time",
        |d, v| put(&mut d.config.events.max_streams, v.number("a whole number of streams", 1..=1_000_000)),
        |c| show(c.events.max_streams),
    ),
    Key::new(
        "limits.max_agents",
        Fixed("20000000"),
        "agents in the fleet",
        |d, v| put(&mut d.config.limits.max_agents, v.number("a whole number of agents", 1..=MAX_AGENTS_CEILING)),
        |c| show(c.limits.max_agents),
    )
    .alias("MANAGER_MAX_AGENTS"),
    Key::new(
        "limits.max_in_flight",
        Fixed("10000"),
        "requests being answered at one time, per worker",
        |d, v| {
            put(&mut d.config.limits.max_in_flight, v.number("a whole number of requests", 1..=MAX_IN_FLIGHT_CEILING))
        },
        |c| show(c.limits.max_in_flight),
    ),
    Key::new(
        "log.level",
        Fixed("\"info\""),
        "what is logged: a level, or levels by module",
        |d, v| put(&mut d.config.log.level, log_level(v)),
        |c| show(quoted(&c.log.level)),
    ),
    Key::new(
        "log.format",
        Fixed("\"text\""),
        "for whom: people or programs",
        |d, v| put(&mut d.config.log.format, choice(v, &[("text", LogFormat::Text), ("json", LogFormat::Json)])),
        |c| {
            show(quoted(match c.log.format {
                LogFormat::Text => "text",
                LogFormat::Json => "json",
            }))
        },
    ),
];

fn put<T>(place: &mut T, value: Result<T, InvalidValue>) -> Result<(), InvalidValue> {
    *place = value?;
    Ok(())
}

#[expect(clippy::unnecessary_wraps, reason = "what `Key::show` returns")]
fn show(value: impl ToString) -> Option<String> {
    Some(value.to_string())
}

fn show_list<T: ToString>(items: &[T]) -> Option<String> {
    let items: Vec<_> = items.iter().map(|item| quoted(&item.to_string())).collect();
    show(format!("[{}]", items.join(", ")))
}

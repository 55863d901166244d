//! The table of keys: one entry for each setting.
//!
//! A key is declared here and nowhere else, except that `config/guardbeat.toml` documents it (a test compares the two)
//! and that its value has a field in [`super::Config`].

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
        EVENT_STREAMS, EVENTS_BACKLOG_MAX, EVENTS_BACKLOG_MIN, FLUSH_INTERVAL_MS, KEEP_ALIVE_MS, LIVENESS_MAX_MS,
        MAX_AGENTS_CEILING, MAX_CONNECTIONS_CEILING, MAX_IN_FLIGHT_CEILING, MIN_REPLICAS, RETENTION_DAYS,
        SHUTDOWN_GRACE_MS, STORE_CONNECT_TIMEOUT_MS, STORE_TIMEOUT_MS, THREATS_BYTES_MAX, THREATS_BYTES_MIN,
        TIMEOUT_MIN_MS, WORKERS_MAX,
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
        |d, v| put(&mut d.config.server.workers, v.number("a whole number of threads", 1..=WORKERS_MAX as u64)),
        |c| show(c.server.workers),
    ),
    Key::new(
        "server.data_dir",
        Fixed("\"./data\""),
        |d, v| put(&mut d.config.server.data_dir, v.path()),
        |c| show(quoted(&c.server.data_dir.to_string_lossy())),
    ),
    Key::new(
        "server.cors_allowed_origins",
        Fixed("[]"),
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
        |d, v| put(&mut d.config.server.trusted_proxies, v.networks()),
        |c| show_list(&c.server.trusted_proxies),
    ),
    Key::new(
        "server.forwarded_header",
        Fixed("\"x-forwarded-for\""),
        |d, v| put(&mut d.config.server.forwarded_header, choice(v, &FORWARDED_HEADERS)),
        |c| {
            let is_it = |(_, header): &&(_, _)| *header == c.server.forwarded_header;
            FORWARDED_HEADERS.iter().find(is_it).and_then(|(word, _)| show(quoted(word)))
        },
    ),
    Key::new(
        "server.max_connections",
        Fixed("25000"),
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
        |d, v| put(&mut d.config.server.keep_alive_ms, v.number(MILLISECONDS, KEEP_ALIVE_MS)),
        |c| show(c.server.keep_alive_ms),
    ),
    Key::new(
        "server.shutdown_grace_ms",
        Fixed("10000"),
        |d, v| put(&mut d.config.server.shutdown_grace_ms, v.number(MILLISECONDS, SHUTDOWN_GRACE_MS)),
        |c| show(c.server.shutdown_grace_ms),
    ),
    Key::new(
        "server.allow_exposed",
        Fixed("[]"),
        |d, v| put(&mut d.config.server.allow_exposed, v.list("token, tls or metrics", Exposure::parse)),
        |c| show_list(&c.server.allow_exposed),
    ),
    Key::new(
        "auth.admin_token",
        Derived("one is generated at the first start, kept in the data folder, and shown if stdout is a terminal"),
        |d, v| put(&mut d.config.auth.admin_token, token(v).map(Some)),
        |c| c.auth.admin_token.as_ref().map(|_| "\"[redacted]\"".into()),
    )
    .alias("MANAGER_AUTH_TOKEN")
    .secret(),
    Key::new(
        "auth.admin_token_file",
        Derived("none; it is auth.admin_token, or generated"),
        |d, v| put(&mut d.config.auth.admin_token_file, v.path().map(Some)),
        |c| c.auth.admin_token_file.as_ref().map(|file| quoted(&file.to_string_lossy())),
    ),
    Key::new(
        "auth.open_enrollment",
        Fixed("[]"),
        |d, v| put(&mut d.config.auth.open_enrollment, v.networks()),
        |c| show_list(&c.auth.open_enrollment),
    ),
    Key::new(
        "liveness.timeout_ms",
        Fixed("60000"),
        |d, v| put(&mut d.config.liveness.timeout_ms, v.number(MILLISECONDS, TIMEOUT_MIN_MS..=LIVENESS_MAX_MS)),
        |c| show(c.liveness.timeout_ms),
    )
    .alias("MANAGER_HEARTBEAT_TIMEOUT_MS"),
    Key::new(
        "liveness.grace_ms",
        Derived("half of timeout_ms"),
        |d, v| put(&mut d.grace_ms, v.number(MILLISECONDS, 0..=LIVENESS_MAX_MS).map(Some)),
        |c| show(c.liveness.grace_ms),
    ),
    Key::new(
        "liveness.offline_after_ms",
        Derived("300000, or twice timeout_ms + grace_ms if that is more"),
        |d, v| put(&mut d.offline_after_ms, v.number(MILLISECONDS, 1..=LIVENESS_MAX_MS).map(Some)),
        |c| show(c.liveness.offline_after_ms),
    ),
    Key::new(
        "liveness.restart_grace_ms",
        Derived("timeout_ms + grace_ms"),
        |d, v| put(&mut d.restart_grace_ms, v.number(MILLISECONDS, 0..=LIVENESS_MAX_MS).map(Some)),
        |c| show(c.liveness.restart_grace_ms),
    ),
    Key::new(
        "store.url",
        Fixed("\"embedded:\""),
        |d, v| put(&mut d.config.store.url, store_url(v)),
        |c| show(quoted(&c.store.url.to_string())),
    )
    .alias("REDIS_URL")
    .may_hold_password(),
    Key::new(
        "store.accept_loss",
        Fixed("false"),
        |d, v| put(&mut d.config.store.accept_loss, v.boolean()),
        |c| show(c.store.accept_loss),
    ),
    Key::new(
        "store.flush_interval_ms",
        Fixed("100"),
        |d, v| put(&mut d.config.store.flush_interval_ms, v.number(MILLISECONDS, FLUSH_INTERVAL_MS)),
        |c| show(c.store.flush_interval_ms),
    ),
    Key::new(
        "store.key_prefix",
        Fixed("\"guardbeat:\""),
        |d, v| put(&mut d.config.store.key_prefix, key_prefix(v)),
        |c| show(quoted(&c.store.key_prefix)),
    ),
    Key::new(
        "store.ca_file",
        Derived("none; the system's roots are trusted"),
        |d, v| put(&mut d.config.store.ca_file, v.path().map(Some)),
        |c| c.store.ca_file.as_ref().map(|file| quoted(&file.to_string_lossy())),
    ),
    Key::new(
        "store.min_replicas",
        Fixed("0"),
        |d, v| put(&mut d.config.store.min_replicas, v.number("a whole number of replicas", MIN_REPLICAS)),
        |c| show(c.store.min_replicas),
    ),
    Key::new(
        "store.timeout_ms",
        Fixed("2000"),
        |d, v| put(&mut d.config.store.timeout_ms, v.number(MILLISECONDS, STORE_TIMEOUT_MS)),
        |c| show(c.store.timeout_ms),
    ),
    Key::new(
        "store.connect_timeout_ms",
        Fixed("10000"),
        |d, v| put(&mut d.config.store.connect_timeout_ms, v.number(MILLISECONDS, STORE_CONNECT_TIMEOUT_MS)),
        |c| show(c.store.connect_timeout_ms),
    ),
    Key::new(
        "threats.retention_days",
        Fixed("30"),
        |d, v| put(&mut d.config.threats.retention_days, v.number("a whole number of days", RETENTION_DAYS)),
        |c| show(c.threats.retention_days),
    ),
    Key::new(
        "threats.max_bytes_per_tenant",
        Fixed("1073741824"),
        |d, v| {
            let bytes = v.number("a whole number of bytes", THREATS_BYTES_MIN..=THREATS_BYTES_MAX);
            put(&mut d.config.threats.max_bytes_per_tenant, bytes)
        },
        |c| show(c.threats.max_bytes_per_tenant),
    ),
    Key::new(
        "tls.mode",
        Fixed("\"self-signed\""),
        |d, v| {
            let modes = TlsModeName::ALL.map(|mode| (mode.name(), mode));
            put(&mut d.tls_mode, choice(v, &modes))
        },
        |c| show(quoted(TlsModeName::of(&c.tls.mode).name())),
    ),
    Key::new(
        "tls.cert_file",
        Derived("none; needed when mode is \"files\""),
        |d, v| put(&mut d.cert_file, v.path().map(Some)),
        |c| match &c.tls.mode {
            TlsMode::Files { cert, key: _ } => show(quoted(&cert.to_string_lossy())),
            TlsMode::SelfSigned | TlsMode::Off => None,
        },
    ),
    Key::new(
        "tls.key_file",
        Derived("none; needed when mode is \"files\""),
        |d, v| put(&mut d.key_file, v.path().map(Some)),
        |c| match &c.tls.mode {
            TlsMode::Files { cert: _, key } => show(quoted(&key.to_string_lossy())),
            TlsMode::SelfSigned | TlsMode::Off => None,
        },
    ),
    Key::new(
        "tls.names",
        Fixed("[]"),
        |d, v| put(&mut d.config.tls.names, v.list("a DNS name or an IP address", certificate_name)),
        |c| show_list(&c.tls.names),
    ),
    Key::new(
        "metrics.listen",
        Fixed("\"127.0.0.1:9464\""),
        |d, v| put(&mut d.config.metrics.listen, v.parsed(ADDRESS)),
        |c| show(quoted(&c.metrics.listen.to_string())),
    ),
    Key::new(
        "events.backlog",
        Fixed("10000"),
        |d, v| {
            put(
                &mut d.config.events.backlog,
                v.number("a whole number of events", EVENTS_BACKLOG_MIN..=EVENTS_BACKLOG_MAX),
            )
        },
        |c| show(c.events.backlog),
    ),
    Key::new(
        "events.max_streams",
        Fixed("10000"),
        |d, v| put(&mut d.config.events.max_streams, v.number("a whole number of streams", EVENT_STREAMS)),
        |c| show(c.events.max_streams),
    ),
    Key::new(
        "limits.max_agents",
        Fixed("20000000"),
        |d, v| put(&mut d.config.limits.max_agents, v.number("a whole number of agents", 1..=MAX_AGENTS_CEILING)),
        |c| show(c.limits.max_agents),
    )
    .alias("MANAGER_MAX_AGENTS"),
    Key::new(
        "limits.max_in_flight",
        Fixed("10000"),
        |d, v| {
            put(&mut d.config.limits.max_in_flight, v.number("a whole number of requests", 1..=MAX_IN_FLIGHT_CEILING))
        },
        |c| show(c.limits.max_in_flight),
    ),
    Key::new(
        "log.level",
        Fixed("\"info\""),
        |d, v| put(&mut d.config.log.level, log_level(v)),
        |c| show(quoted(&c.log.level)),
    ),
    Key::new(
        "log.format",
        Fixed("\"text\""),
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

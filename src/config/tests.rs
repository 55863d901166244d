//! The settings as an operator gives them, and what is said about wrong ones.

use std::{io::Write, path::PathBuf};

use proptest::prelude::*;
use tempfile::NamedTempFile;

use super::*;

const SHIPPED: &str = include_str!("../../config/guardbeat.toml");

/// A file with this text; in errors it is `FILE`.
fn load_with(text: &str, env: &[(&str, &str)], flags: &[(&'static str, &str, &'static str)]) -> Result<Config, String> {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let env = env.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    let flags: Vec<_> = flags.iter().map(|(key, value, flag)| (*key, value.to_string(), *flag)).collect();
    let loaded = Config::load(Some(file.path()), env, &flags);
    loaded.map_err(|errors| errors.to_string().replace(&file.path().display().to_string(), "FILE"))
}

pub(super) fn from_file(text: &str) -> Result<Config, String> {
    load_with(text, &[], &[])
}

pub(super) fn from_env(env: &[(&str, &str)]) -> Result<Config, String> {
    load_with("", env, &[])
}

/// The lines that show a default, made into settings.
fn uncommented(text: &str) -> String {
    let is_setting = |rest: &str| rest.starts_with(|c: char| c.is_ascii_lowercase());
    text.lines()
        .map(|line| line.strip_prefix('#').filter(|rest| is_setting(rest)).unwrap_or(line).to_owned() + "\n")
        .collect()
}

#[test]
fn nothing_given_is_the_defaults() {
    let config = Config::load(None, std::iter::empty(), &[]).unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8443");
    assert!((1..=64).contains(&config.server.workers));
    let expected =
        LivenessConfig { timeout_ms: 60_000, grace_ms: 30_000, offline_after_ms: 300_000, restart_grace_ms: 90_000 };
    assert_eq!(config.liveness, expected);
}

#[test]
fn the_shipped_file_sets_nothing() {
    assert_eq!(from_file(SHIPPED).unwrap(), Config::default());
}

#[test]
fn the_shipped_file_documents_every_key_with_its_default() {
    let mut places = Vec::new();
    for key in KEYS {
        let start = format!("#{} = ", key.field());
        let section = SHIPPED.find(&format!("[{}]\n", key.section())).expect(key.name);
        let at = section + SHIPPED[section..].find(&format!("\n{start}")).expect(key.name) + 1;
        places.push(at);
        let paragraph = SHIPPED[..at].rsplit("\n\n").next().unwrap();
        match key.default {
            KeyDefault::Value(value) => assert_eq!(SHIPPED[at..].lines().next(), Some(&*format!("{start}{value}"))),
            KeyDefault::Derived(words) => {
                assert!(paragraph.contains(&format!("# Default: {words}.\n")), "{}", key.name)
            }
        }
        assert!(key.alias.is_none_or(|alias| paragraph.contains(alias)), "{}", key.name);
    }
    assert!(places.is_sorted(), "the file has the order of the table");
    let shown = uncommented(SHIPPED).lines().filter(|line| line.contains(" = ") && !line.starts_with('#')).count();
    assert_eq!(shown, KEYS.len(), "the file shows nothing else");
}

#[test]
fn setting_every_default_that_is_the_same_everywhere_changes_nothing() {
    let elsewhere = ["workers =", "admin_token =", "admin_token_file =", "cert_file =", "key_file =", "ca_file ="];
    let text: String = uncommented(SHIPPED)
        .lines()
        .filter(|line| !elsewhere.iter().any(|key| line.starts_with(key)))
        .fold(String::new(), |text, line| text + line + "\n");
    assert_eq!(from_file(&text).unwrap(), Config::default());
}

#[test]
fn every_key_can_be_set_by_its_variable() {
    let text = Config::default().describe();
    for key in KEYS {
        let value = match key.name {
            "auth.admin_token" => "correct-horse".to_owned(),
            "tls.cert_file" | "tls.key_file" | "store.ca_file" | "auth.admin_token_file" => continue,
            _ => {
                let (_, section) = text.split_once(&format!("[{}]\n", key.section())).unwrap();
                let (_, rest) = section.split_once(&format!("{} = ", key.field())).unwrap();
                rest.lines().next().unwrap().replace(['"', '[', ']'], "")
            }
        };
        let config = from_env(&[(&key.variable(), &value)]).unwrap();
        assert_eq!(config.auth.admin_token.is_some(), key.secret, "{}", key.name);
        // An empty list is an empty variable, which is warned of.
        assert_eq!(Config { auth: Config::default().auth, warnings: vec![], ..config }, Config::default());
    }
}

#[test]
fn flags_hold_over_the_environment_that_over_aliases_and_these_over_the_file() {
    let file = "[liveness]\ntimeout_ms = 1_000";
    let alias = ("MANAGER_HEARTBEAT_TIMEOUT_MS", "2000");
    let own = ("GUARDBEAT_LIVENESS__TIMEOUT_MS", "3000");
    let timeout = |env: &[_], flags: &[_]| load_with(file, env, flags).unwrap().liveness.timeout_ms;
    assert_eq!(timeout(&[], &[]), 1_000);
    assert_eq!(timeout(&[alias], &[]), 2_000);
    assert_eq!(timeout(&[own, alias], &[]), 3_000);
    assert_eq!(timeout(&[own, alias], &[("liveness.timeout_ms", "4000", "--timeout")]), 4_000);
    assert_eq!(timeout(&[(own.0, ""), (alias.0, "")], &[]), 1_000, "set to nothing is not set");
}

#[test]
fn the_names_of_the_panguard_manager_are_understood() {
    let config = from_env(&[
        ("MANAGER_PORT", "9000"),
        ("MANAGER_AUTH_TOKEN", "correct-horse"),
        ("MANAGER_MAX_AGENTS", "500"),
        ("MANAGER_HEARTBEAT_TIMEOUT_MS", "200000"),
        ("CORS_ALLOWED_ORIGINS", "https://A.example:443, http://b.example:3000,"),
        ("REDIS_URL", "memory:"),
        ("GUARDBEAT_TOKEN", "for the command-line client"),
        ("PATH", "/bin"),
    ])
    .unwrap();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:9000");
    assert_eq!(config.auth.admin_token.as_deref(), Some("correct-horse"));
    assert_eq!(config.limits.max_agents, 500);
    assert_eq!(config.server.cors_allowed_origins, ["https://a.example", "http://b.example:3000"]);
    assert_eq!(config.store.url, StoreUrl::Memory);
    // What follows from a longer timeout.
    let expected =
        LivenessConfig { timeout_ms: 200_000, grace_ms: 100_000, offline_after_ms: 600_000, restart_grace_ms: 300_000 };
    assert_eq!(config.liveness, expected);
}

#[test]
fn manager_port_changes_the_port_alone() {
    let file = "[server]\nlisten = \"[::1]:7000\"";
    let listen = |env: &[_]| load_with(file, env, &[]).unwrap().server.listen.to_string();
    assert_eq!(listen(&[("MANAGER_PORT", "9000")]), "[::1]:9000");
    assert_eq!(listen(&[("MANAGER_PORT", "9000"), ("GUARDBEAT_SERVER__LISTEN", "127.0.0.1:1")]), "127.0.0.1:1");
}

#[test]
fn lists_and_files_are_read() {
    let config = from_file(
        "auth.open_enrollment = [\"10.1.2.3/8\", \"fd00::1\"]\n[tls]\nmode = \"files\"\ncert_file = \"a.pem\"\nkey_file = \"b.pem\"\n\
         names = [\"*.example.org\", \"192.0.2.1\"]\n[server]\ncors_allowed_origins = [\"*\", \"http://[::1]:80\"]\n",
    )
    .unwrap();
    assert_eq!(config.auth.open_enrollment, ["10.0.0.0/8".parse().unwrap(), "fd00::1/128".parse::<IpNet>().unwrap()]);
    assert_eq!(config.tls.mode, TlsMode::Files { cert: "a.pem".into(), key: "b.pem".into() });
    assert_eq!(config.tls.names, ["*.example.org", "192.0.2.1"]);
    assert_eq!(config.server.cors_allowed_origins, ["*", "http://[::1]"]);
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let file = "[liveness]\ntimout_ms = 5\ntimeout_ms = \"soon\"\n\n[severs]\nlisten = 1\n[limits]\nmax_agents = 0\n";
    let env = [("MANAGER_PORT", "http"), ("GUARDBEAT_LIVENESS__TIMOUT_MS", "1"), ("GUARDBEAT_SERVER__WORKERS", "65")];
    let errors = load_with(file, &env, &[("server.listen", "localhost:1", "--listen")]).unwrap_err();
    let expected = "\
FILE:2: unknown key liveness.timout_ms; did you mean liveness.timeout_ms?
FILE:5: unknown section severs; did you mean [server]?
unknown environment variable GUARDBEAT_LIVENESS__TIMOUT_MS; did you mean GUARDBEAT_LIVENESS__TIMEOUT_MS?
FILE:3: liveness.timeout_ms is \"soon\"; it must be a whole number of milliseconds from 100 to 2592000000
FILE:8: limits.max_agents is 0; it must be a whole number of agents from 1 to 1000000000
environment variable MANAGER_PORT: server.listen is \"http\"; it must be a port: a whole number from 0 to 65535
environment variable GUARDBEAT_SERVER__WORKERS: server.workers is \"65\"; it must be a whole number of threads from 1 to 64
flag --listen: server.listen is \"localhost:1\"; it must be an IP address and a port, such as 127.0.0.1:8443 or [::1]:8443";
    assert_eq!(errors, expected);
}

#[test]
fn a_wrong_value_is_reported_with_what_would_be_right() {
    let cases = [
        ("server.workers = 1.5", "server.workers is a number with a fraction; it must be a whole number of threads"),
        ("server.workers = \"2\"", "server.workers is \"2\"; it must be a whole number"),
        ("server.workers = -1", "server.workers is -1; it must be"),
        ("server.workers = 99999999999999999999", "server.workers is 99999999999999999999; it must be"),
        ("server.allow_exposed = true", "is true; it must be a list of strings, each token, tls or metrics"),
        ("server.allow_exposed = [\"all\"]", "has \"all\"; each must be token, tls or metrics"),
        ("server.data_dir = \"\"", "server.data_dir is \"\"; it must be the path"),
        ("server.cors_allowed_origins = \"*\"", "is \"*\"; it must be a list of strings, each * or an origin"),
        ("server.cors_allowed_origins = [\"https://a/\"]", "has \"https://a/\"; each must be * or an origin"),
        ("server.cors_allowed_origins = [\"a\", 5]", "has \"a\"; each must be"),
        ("server.cors_allowed_origins = [\"https://u:secret@h\"]", "has \"[redacted]@h\"; each must be"),
        ("server.trusted_proxies = [\"10.0.0.0/33\"]", "has \"10.0.0.0/33\"; each must be an IP address or a network"),
        ("server.trusted_proxies = [[]]", "has an array; each must be"),
        ("server.listen = 1979-05-27", "is a date or time; it must be an IP address and a port"),
        ("[server.listen]\nport = 1", "server.listen is a section; it must be an IP address and a port"),
        ("tls.mode = \"on\"", "tls.mode is \"on\"; it must be \"self-signed\" or \"files\" or \"off\""),
        ("tls.names = [\"300.1.1.1\"]", "has \"300.1.1.1\"; each must be a DNS name or an IP address"),
        ("store.url = \"redi://:hunter2@h\"", "store.url is \"redi:…\"; it must be `embedded:`"),
        ("log.level = \"inof\"", "log.level is \"inof\"; it must be error, warn"),
        ("log.level = \"a=b=c\"", "log.level is \"a=b=c\"; it must be error, warn"),
        ("log.level = \" A®=\"", "log.level is \" A®=\"; it must be error, warn"),
        ("log.format = \"xml\"", "log.format is \"xml\"; it must be \"text\" or \"json\""),
        ("server = 5", "FILE:1: server is not a setting but a section; write [server], and its settings below"),
        ("listen = \"x\"", "FILE:1: unknown key listen; did you mean server.listen?"),
        ("liveness.grace = 1", "FILE:1: unknown key liveness.grace; did you mean liveness.grace_ms?"),
        ("zzzzzz = 1", "the sections are server, auth, liveness, store, threats, tls, metrics, events, limits, log"),
        ("tls.zzzzzz = 1", "unknown key tls.zzzzzz; the keys of [tls] are mode, cert_file, key_file, names"),
        ("tls.\"a\\nb\" = 1", "unknown key tls.a\\nb; "),
        ("server.max_agents = 1", "unknown key server.max_agents; did you mean limits.max_agents?"),
        ("[log]\nlevel = debug", "FILE:2: not valid TOML: string values must be quoted"),
        (
            "server.listen = 127.0.0.1:8443",
            "FILE:1: not valid TOML: invalid float, expected nothing; text stands in quotes",
        ),
        ("[log]\n\n[log]", "FILE:3: not valid TOML: duplicate key"),
    ];
    for (text, expected) in cases {
        let errors = from_file(text).unwrap_err();
        assert!(errors.contains(expected), "{text}\n{errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
}

#[test]
fn every_line_that_is_not_toml_is_reported() {
    let errors = from_file("[server]\nlisten = 127.0.0.1:8443\nworkers = \nmax_connections = [1,\n").unwrap_err();
    let lines: Vec<_> = errors.lines().filter_map(|line| line.split(": ").next()).collect();
    assert_eq!(lines, ["FILE:2", "FILE:3", "FILE:4"], "{errors}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let missing = PathBuf::from("/nowhere/guardbeat.toml");
    let errors = Config::load(Some(&missing), std::iter::empty(), &[]).unwrap_err().to_string();
    assert!(
        errors.starts_with("/nowhere/guardbeat.toml: cannot read the configuration file: No such file"),
        "{errors}"
    );
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(b"[server]\n# \xff").unwrap();
    let errors = Config::load(Some(file.path()), std::iter::empty(), &[]).unwrap_err().to_string();
    assert!(errors.ends_with(":2: not valid TOML: these bytes are not UTF-8"), "{errors}");
}

#[test]
fn contradictions_name_both_sides() {
    let cases = [
        (
            "liveness.offline_after_ms = 300000",
            &[("MANAGER_HEARTBEAT_TIMEOUT_MS", "200000")][..],
            "liveness.offline_after_ms (300000, from FILE:1) must exceed liveness.timeout_ms (200000, from environment \
             variable MANAGER_HEARTBEAT_TIMEOUT_MS) + liveness.grace_ms (100000, default)",
        ),
        (
            "liveness.timeout_ms = 2592000000",
            &[],
            "liveness.offline_after_ms (2592000000, default) must exceed liveness.timeout_ms (2592000000, from FILE:1)",
        ),
        (
            "",
            &[("MANAGER_PORT", "9464")],
            "server.listen (\"127.0.0.1:9464\", from environment variable MANAGER_PORT) and metrics.listen \
             (\"127.0.0.1:9464\", default) are the same place",
        ),
        (
            "server.listen = \"0.0.0.0:1\"",
            &[("MANAGER_PORT", "2")],
            "server.listen (\"0.0.0.0:2\", from FILE:1 and environment variable MANAGER_PORT) can be reached from other \
             machines, but nobody has chosen the administrator's token; set auth.admin_token",
        ),
        (
            "server.listen = \"0.0.0.0:1\"\nauth.admin_token = \"correct-horse\"\ntls.mode = \"off\"",
            &[],
            "but tls.mode (\"off\", from FILE:3) would send tokens over the network in clear text; turn TLS on",
        ),
        (
            "auth.admin_token_file = \"t\"",
            &[("MANAGER_AUTH_TOKEN", "correct-horse")],
            "auth.admin_token (set, from environment variable MANAGER_AUTH_TOKEN) and auth.admin_token_file (\"t\", from \
             FILE:1) both give the token",
        ),
        (
            "metrics.listen = \"[::]:1\"",
            &[],
            "metrics.listen (\"[::]:1\", from FILE:1) can be reached from other machines",
        ),
        (
            "tls.mode = \"files\"\ntls.key_file = \"k\"",
            &[],
            "tls.mode (\"files\", from FILE:1) needs tls.cert_file and tls.key_file; tls.cert_file is not set",
        ),
        (
            "tls.key_file = \"k\"",
            &[],
            "tls.key_file (\"k\", from FILE:1) contradicts tls.mode (\"self-signed\", default); set tls.mode to",
        ),
    ];
    for (text, env, expected) in cases {
        let errors = load_with(text, env, &[]).unwrap_err();
        assert!(errors.contains(expected), "{text}\n{errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
}

#[test]
fn a_refused_value_contradicts_nothing() {
    let errors = from_file("server.listen = \"0.0.0.0:1\"\nauth.admin_token = \"short\"\n").unwrap_err();
    assert_eq!(
        errors,
        "FILE:2: auth.admin_token cannot be used (it is not shown); it must be 8 to 256 visible ASCII characters, and has \
         5"
    );
}

#[test]
fn an_exposed_address_needs_a_chosen_token_and_tls_or_consent() {
    let loopback = ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"];
    let exposed = ["0.0.0.0:1", "192.0.2.1:1", "[::]:1", "[fe80::1]:1"];
    let loads =
        |listen, more: &[_]| load_with("", &[&[("GUARDBEAT_SERVER__LISTEN", listen)], more].concat(), &[]).is_ok();
    let (token, tls_off) = (("MANAGER_AUTH_TOKEN", "correct-horse"), ("GUARDBEAT_TLS__MODE", "off"));
    let consent = |what| ("GUARDBEAT_SERVER__ALLOW_EXPOSED", what);
    for listen in loopback {
        assert!(loads(listen, &[]) && loads(listen, &[tls_off]), "{listen}");
    }
    for listen in exposed {
        assert!(!loads(listen, &[]) && !loads(listen, &[tls_off]) && !loads(listen, &[token, tls_off]), "{listen}");
        assert!(loads(listen, &[token]) && loads(listen, &[("GUARDBEAT_AUTH__ADMIN_TOKEN_FILE", "t")]), "{listen}");
        assert!(loads(listen, &[consent("token")]) && loads(listen, &[tls_off, consent("token,tls")]), "{listen}");
        assert!(loads(listen, &[tls_off, token, consent("tls")]), "{listen}");
        for (more, what) in
            [(&[][..], "tls,metrics"), (&[tls_off], "tls,metrics"), (&[tls_off, token], "token,metrics")]
        {
            assert!(!loads(listen, &[more, &[consent(what)]].concat()), "{listen}: {what} is another matter");
        }
        let metrics = ("GUARDBEAT_METRICS__LISTEN", listen);
        assert!(loads("127.0.0.1:2", &[metrics, consent("metrics")]), "{listen}");
        assert!(!loads("127.0.0.1:2", &[metrics, consent("token,tls")]), "{listen}");
    }
}

#[test]
fn listeners_that_cannot_both_be_bound_are_refused() {
    let cases = [
        ("127.0.0.1:1", "127.0.0.1:1", false),
        ("127.0.0.1:0", "127.0.0.1:0", true),
        ("127.0.0.1:1", "127.0.0.2:1", true),
        ("0.0.0.0:1", "127.0.0.1:1", false),
        ("[::]:1", "127.0.0.1:1", false),
        ("[::1]:1", "0.0.0.0:1", true),
    ];
    for (server, metrics, possible) in cases {
        let text = format!(
            "server = {{ listen = \"{server}\", allow_exposed = [\"token\", \"metrics\"] }}\nmetrics.listen = \"{metrics}\""
        );
        assert_eq!(from_file(&text).is_ok(), possible, "{text}");
    }
}

#[test]
fn the_token_is_shown_nowhere() {
    let config = from_env(&[("MANAGER_AUTH_TOKEN", "correct-horse")]).unwrap();
    assert!(format!("{config:?}").contains("[redacted]"));
    assert!(!format!("{config:?}{}", config.describe()).contains("horse"));
    assert!(config.describe().contains("\n# admin_token is set; it is not shown\n"));
}

proptest! {
    #[test]
    fn a_refused_secret_appears_in_no_error(secret in "[a-zA-Z0-9]{10,20}", broken in "[ \t\u{e9}]", prefix in "[a-z:/@?]{0,10}") {
        let token = format!("{secret}{broken}");
        let url = format!("{prefix}:{secret}");
        let file = format!("[auth]\nadmin_token = \"{token}\"\n[store]\nurl = \"{url}@host\"\n");
        let env = [("MANAGER_AUTH_TOKEN", &*token), ("REDIS_URL", &*url), ("GUARDBEAT_STORE__URL", &*url)];
        let errors = load_with(&file, &env, &[("auth.admin_token", &token, "--token"), ("store.url", &url, "--store")]);
        // What begins with `embedded:` is a folder, whatever it looks like.
        prop_assume!(!url.starts_with("embedded:"));
        let errors = errors.unwrap_err();
        prop_assert!(!errors.contains(&secret), "{}", errors);
        prop_assert!(errors.lines().count() >= 3);
    }

    #[test]
    fn no_file_and_no_variable_panics(text in "([a-z\\[\\]=.\"\n #0-9]|\\PC|server|liveness|tls|listen|mode|= ){0,60}", name in "[A-Z_]{0,20}", value in any::<String>()) {
        let name = format!("GUARDBEAT_{name}");
        if let Err(errors) = load_with(&text, &[(&name, &value)], &[]) {
            prop_assert!(!errors.is_empty());
        }
        for key in KEYS {
            let _ = from_env(&[(&key.variable(), &value)]);
        }
    }

    #[test]
    fn what_is_described_sets_exactly_that(
        (timeout, grace, more) in (100_u64..1_000_000, 0_u64..1_000_000, 1_u64..1_000_000),
        workers in 1_usize..=64,
        port in 10_000_u16..,
        folder in "[^\u{0}]{1,20}",
        files: bool,
        networks in proptest::collection::vec(any::<(std::net::Ipv4Addr, u8)>(), 0..3),
    ) {
        let offline = timeout + grace + more;
        let liveness =
            LivenessConfig { timeout_ms: timeout, grace_ms: grace, offline_after_ms: offline, restart_grace_ms: more };
        let mut config = Config { liveness, ..Config::default() };
        config.server.workers = workers;
        config.server.listen.set_port(port);
        config.server.data_dir = folder.clone().into();
        config.store.url = StoreUrl::Embedded(Some(folder.clone().into()));
        config.tls.mode = if files { TlsMode::Files { cert: folder.into(), key: "k".into() } } else { TlsMode::Off };
        config.auth.open_enrollment =
            networks.into_iter().map(|(ip, bits)| IpNet::new(ip.into(), bits % 33).unwrap().trunc()).collect();
        prop_assert_eq!(from_file(&config.describe()).unwrap(), config);
    }
}

//! The settings as an operator gives them, and what is said about wrong ones.

use std::io::Write;

use proptest::prelude::*;
use tempfile::NamedTempFile;

use super::*;

const SHIPPED: &str = include_str!("../../config/guardbeat.toml");

/// A file with this text; in errors it is `FILE`.
pub(super) fn load_with(
    text: &str,
    env: &[(&str, &str)],
    flags: &[(&'static str, &str, &'static str)],
) -> Result<Config, String> {
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
        assert!(!key.about.is_empty());
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

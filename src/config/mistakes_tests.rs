//! What is said about values that are wrong, keys that do not exist, and files that cannot be read.

use std::{io::Write, path::PathBuf};

use tempfile::NamedTempFile;

use super::{
    tests::{from_file, load_with},
    *,
};

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

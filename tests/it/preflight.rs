//! What is found before the start: files that cannot be used, and settings that can hardly have been meant so.

use std::{fs, path::Path};

use nix::sys::signal::Signal;
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

use crate::support::{Launch, server::run};

/// A certificate that is good from and to so many days from now, and its key.
pub fn certificate(from: i64, to: i64) -> (String, String) {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let now = std::time::SystemTime::now().into();
    let days_later = |days| OffsetDateTime::checked_add(now, Duration::days(days)).unwrap();
    (params.not_before, params.not_after) = (days_later(from), days_later(to));
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn write(dir: &Path, name: &str, text: impl AsRef<[u8]>) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Everything below the folder.
fn contents(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

/// Names with text, variables, and what is said.
type Case<'a> = (&'a [(&'a str, &'a str)], &'a [(&'a str, &'a str)], &'a [&'a str]);

#[test]
fn a_file_that_cannot_be_used_ends_check_and_start_alike_and_nothing_is_written() {
    let ((cert, key), (_, other_key)) = (certificate(-1, 1), certificate(-1, 1));
    let files = [
        ("GUARDBEAT_TLS__MODE", "files"),
        ("GUARDBEAT_TLS__CERT_FILE", "cert.pem"),
        ("GUARDBEAT_TLS__KEY_FILE", "key.pem"),
    ];
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let off = ("GUARDBEAT_TLS__MODE", "off");
    let cases: &[Case<'_>] = &[
        (&[], &files, &["tls.cert_file (cert.pem): it cannot be read", "tls.key_file (key.pem): it cannot be read"]),
        (
            &[("cert.pem", &cert), ("key.pem", &other_key)],
            &files,
            &["tls.key_file (key.pem)", "of another certificate"],
        ),
        (&[("cert.pem", &cert), ("key.pem", &encrypted)], &files, &["tls.key_file (key.pem)", "is encrypted"]),
        (
            &[("cert.pem", &key), ("key.pem", &key)],
            &files,
            &["tls.cert_file (cert.pem): there is no certificate in it"],
        ),
        (&[("data/tls/ca.pem", &cert)], &[], &["server.data_dir (./data/tls/ca-key.pem): it is missing"]),
        (&[("data/tls/ca-key.pem", &key)], &[], &["server.data_dir (./data/tls/ca.pem): it is missing"]),
        (
            &[("data/tls/ca.pem", &cert), ("data/tls/ca-key.pem", &other_key)],
            &[],
            &["server.data_dir (./data/tls/ca-key.pem)", "of another certificate"],
        ),
        (
            &[("data/admin-token", "x")],
            &[off],
            &["server.data_dir (./data/admin-token)", "visible ASCII characters, and has 1"],
        ),
        (&[("data/admin-token", "")], &[off], &["server.data_dir (./data/admin-token)", "and is empty"]),
        (
            &[("token", "\"correct-horse\"\n")],
            &[off, ("GUARDBEAT_AUTH__ADMIN_TOKEN_FILE", "token")],
            &["auth.admin_token_file (token)", "the quotes around it"],
        ),
        (
            &[],
            &[off, ("GUARDBEAT_AUTH__ADMIN_TOKEN_FILE", "missing")],
            &["auth.admin_token_file (missing): it cannot be read: No such file"],
        ),
        (
            &[("redis-ca.pem", &key)],
            &[off, ("REDIS_URL", "rediss://127.0.0.1:1"), ("GUARDBEAT_STORE__CA_FILE", "redis-ca.pem")],
            &["store.ca_file (redis-ca.pem): there is no certificate in it, but PRIVATE KEY"],
        ),
    ];
    for (written, env, said) in cases {
        let dir = TempDir::new().unwrap();
        for (name, text) in *written {
            write(dir.path(), name, text);
        }
        let before = contents(dir.path());
        let ports = [("GUARDBEAT_SERVER__LISTEN", "127.0.0.1:0"), ("GUARDBEAT_METRICS__LISTEN", "127.0.0.1:0")];
        for command in ["check-config", "serve"] {
            let ended = run(dir.path(), &[command], &[&ports[..], env].concat());
            assert_eq!(ended.code, Some(2), "{command}: {}", ended.stderr);
            for part in *said {
                assert!(ended.stderr.contains(part), "{command}: {part} is not in {}", ended.stderr);
            }
        }
        let mut after = contents(dir.path());
        after.retain(|(name, _)| !name.contains("/run.std"));
        assert_eq!(after, before, "nothing is written");
    }
}

#[test]
fn what_can_hardly_have_been_meant_is_said_by_check_and_start() {
    let dir = TempDir::new().unwrap();
    let env = [
        ("GUARDBEAT_SERVER_WORKERS", "1"),
        ("REDIS_URL", ""),
        ("MANAGER_PORT", "tcp://10.96.12.3:8443"),
        ("GUARDBEAT_SERVICE_HOST", "10.96.12.3"),
    ];
    let said = [
        "GUARDBEAT_SERVER_WORKERS sets nothing; did you mean GUARDBEAT_SERVER__WORKERS?",
        "REDIS_URL is empty and counts as not set; store.url is \"embedded:\" (default)",
        "GUARDBEAT_SERVICE_HOST, MANAGER_PORT are links that Kubernetes sets",
    ];
    let checked = run(dir.path(), &["check-config"], &env);
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    assert!(checked.stdout.contains("listen = \"127.0.0.1:8443\""), "{}", checked.stdout);
    let server = env.iter().fold(Launch::plain(), |launch, (name, value)| launch.env(name, *value)).start();
    let log = server.log();
    for part in said {
        assert!(checked.stderr.lines().any(|line| line.starts_with("Warning: ") && line.contains(part)), "{part}");
        assert!(log.lines().any(|line| line.contains("WARN") && line.contains(part)), "{part} is not in {log}");
    }
    let looked = run(dir.path(), &["store", "check"], &[("REDIS_URL", "")]);
    assert!(looked.stderr.contains("REDIS_URL is empty"), "{}", looked.stderr);
}

#[test]
fn an_expired_certificate_is_warned_of_and_shown_in_the_metrics() {
    let dir = TempDir::new().unwrap();
    let (cert, key) = certificate(-3, -2);
    write(dir.path(), "cert.pem", format!("\u{feff}{cert}"));
    write(dir.path(), "key.pem", format!("\u{feff}{key}"));
    let path = |name: &str| dir.path().join(name).display().to_string();
    let env = [("GUARDBEAT_TLS__CERT_FILE", path("cert.pem")), ("GUARDBEAT_TLS__KEY_FILE", path("key.pem"))];
    let server =
        env.iter().fold(Launch::tls().arg("--tls").arg("files"), |launch, (name, file)| launch.env(name, file));
    let server = server.start();
    assert!(server.log().contains("cert.pem): it expired at "), "{}", server.log());
    let expiry = server.metric(EXPIRY);
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((since_epoch - expiry - 2.0 * 86_400.0).abs() < 600.0, "{expiry}");
}

const EXPIRY: &str = "guardbeat_tls_certificate_expiry_timestamp_seconds";

#[test]
fn the_end_of_our_own_certificate_is_in_the_metrics_and_without_tls_there_is_none() {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let days = (Launch::tls().start().metric(EXPIRY) - since_epoch) / 86_400.0;
    assert!((800.0..824.0).contains(&days), "{days}");
    let plain = Launch::plain().start();
    assert!(!plain.operations().get("/metrics").text().lines().any(|line| line.starts_with(EXPIRY)));
}

#[test]
fn a_new_authority_for_a_fleet_that_trusts_another_is_warned_of() {
    let mut server = Launch::tls().start();
    server.client().enrol("h");
    let mut server = {
        assert!(server.terminate().success());
        assert_eq!(server.log(), "");
        server.restart()
    };
    assert!(server.terminate().success());
    assert_eq!(server.log(), "", "it is the same authority");
    fs::remove_dir_all(server.data().join("tls")).unwrap();
    let server = server.restart();
    assert!(server.log().contains("a new one was made") && server.log().contains("agents=1"), "{}", server.log());
    server.anonymous().get("/health").data(200);
}

#[test]
fn a_token_in_a_file_is_the_administrators() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), "token", "\u{feff}correct-horse\r\n");
    let file = dir.path().join("token").display().to_string();
    let server = Launch::plain().env("GUARDBEAT_AUTH__ADMIN_TOKEN_FILE", file).start();
    assert_eq!(server.token, "correct-horse");
    server.client().get("/api/agents").data(200);
    assert!(!server.data().join("admin-token").exists());
}

#[test]
fn where_nothing_is_to_be_kept_no_folder_is_made() {
    let launch = Launch::plain().arg("--store").arg("memory:").env("MANAGER_AUTH_TOKEN", "correct-horse");
    let mut server = launch.start();
    server.client().enrol("h");
    server.signal(Signal::SIGTERM);
    assert!(server.wait_for_end().success(), "{}", server.log());
    assert!(!server.data().exists());
}

/// The shipped configuration, with this line of it made into a setting.
fn with_line(text: &str, number: usize) -> String {
    let uncommented = |(index, line): (usize, &str)| {
        let line = if index == number { line.strip_prefix('#').unwrap_or(line) } else { line };
        format!("{line}\n")
    };
    text.lines().enumerate().map(uncommented).collect()
}

#[test]
fn every_sample_of_the_shipped_configuration_is_good() {
    let shipped = include_str!("../../config/guardbeat.toml");
    let is_sample =
        |line: &str| line.strip_prefix('#').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
    let samples: Vec<_> = shipped.lines().enumerate().filter(|(_, line)| is_sample(line)).collect();
    assert!(samples.len() > 30);
    let dir = TempDir::new().unwrap();
    for (number, line) in samples {
        write(dir.path(), "guardbeat.toml", with_line(shipped, number));
        let name = line.trim_start_matches('#').split(' ').next().unwrap();
        // Those that go with others, and name files that are somebody's own.
        let with: &[(&str, &str)] = match name {
            "cert_file" => &[("GUARDBEAT_TLS__MODE", "files"), ("GUARDBEAT_TLS__KEY_FILE", "/nowhere")],
            "key_file" => &[("GUARDBEAT_TLS__MODE", "files"), ("GUARDBEAT_TLS__CERT_FILE", "/nowhere")],
            "ca_file" => &[("REDIS_URL", "rediss://127.0.0.1")],
            _ => &[],
        };
        let ended = run(dir.path(), &["check-config", "--config", "guardbeat.toml"], with);
        if name.ends_with("_file") {
            let complaints: Vec<_> = ended.stderr.lines().skip(1).collect();
            assert!(!complaints.is_empty(), "{line}");
            assert!(complaints.iter().all(|line| line.contains("it cannot be read: No such file")), "{complaints:?}");
        } else {
            assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{line}");
        }
    }
}

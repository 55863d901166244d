//! The command line: wrong use, configuration, start and end.

use std::{
    fs,
    net::TcpListener,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::preflight::certificate;
use crate::support::{
    Launch, Request, SOON,
    server::{Ended, run},
    wait_until,
};

fn dir() -> TempDir {
    TempDir::new().unwrap()
}

fn check_config(file: &str) -> Ended {
    let dir = dir();
    fs::write(dir.path().join("guardbeat.toml"), file).unwrap();
    run(dir.path(), &["check-config", "--config", "guardbeat.toml"], &[])
}

/// Everything is said in this text.
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

#[test]
fn help_and_version_are_told() {
    let dir = dir();
    let help = run(dir.path(), &["--help"], &[]);
    assert_eq!(help.code, Some(0));
    says(&help.stdout, &["--config", "--listen", "--data-dir", "--tls", "--allow-exposed", "check-config"]);
    says(&help.stdout, &["--store", "embedded:FOLDER", "redis://", "rediss://", "redis-sentinel://", "redis+unix://"]);
    let version = run(dir.path(), &["--version"], &[]);
    assert_eq!((version.code, &*version.stdout), (Some(0), concat!("guardbeat ", env!("CARGO_PKG_VERSION"), "\n")));
}

#[test]
fn the_description_of_the_api_is_printed_for_programs_and_for_people() {
    let dir = dir();
    let json = run(dir.path(), &["openapi"], &[]);
    assert_eq!(json.code, Some(0), "{}", json.stderr);
    let document: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let page = run(dir.path(), &["openapi", "--markdown"], &[]);
    assert_eq!(page.code, Some(0), "{}", page.stderr);
    says(&page.stdout, &["# The API", "POST /api/agents/register"]);
    assert!(!dir.path().join("data").exists(), "it needs no server");
}

#[test]
fn wrong_use_is_explained() {
    let dir = dir();
    for (args, parts) in [
        (&["--nonsense"][..], &["--nonsense", "Usage"][..]),
        (&["nonsense"], &["nonsense", "Usage"]),
        (&["--listen"], &["--listen"]),
        (&["--listen", "nowhere"], &["--listen", "server.listen", "nowhere"]),
        (&["--tls", "maybe"], &["--tls", "tls.mode", "self-signed"]),
        (&["--store", "postgres:x"], &["--store", "store.url"]),
        (&["--config", "missing.toml"], &["missing.toml"]),
    ] {
        let ended = run(dir.path(), args, &[]);
        assert_eq!(ended.code, Some(2), "{args:?}: {}", ended.stderr);
        says(&ended.stderr, parts);
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    }
}

#[test]
fn a_good_configuration_is_printed_as_it_takes_effect_without_secrets() {
    let dir = dir();
    fs::write(
        dir.path().join("guardbeat.toml"),
        "[liveness]\ntimeout_ms = 2000\n[auth]\nadmin_token = \"a-secret-token\"\n",
    )
    .unwrap();
    let env = [("MANAGER_MAX_AGENTS", "77"), ("MANAGER_PORT", "9999")];
    let args = ["check-config", "--config", "guardbeat.toml", "--tls", "off"];
    let ended = run(dir.path(), &args, &env);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let lines =
        ["listen = \"127.0.0.1:9999\"", "timeout_ms = 2000", "grace_ms = 1000", "max_agents = 77", "mode = \"off\""];
    says(&ended.stdout, &lines);
    assert!(!format!("{}{}", ended.stdout, ended.stderr).contains("a-secret-token"));
    assert!(!dir.path().join("data").exists(), "checking changes nothing");
}

#[test]
fn a_redis_is_printed_without_its_password() {
    let dir = dir();
    fs::write(dir.path().join("ca.pem"), certificate(-1, 1).0).unwrap();
    let url = "rediss://guardbeat:hunter2@redis.example/3";
    let env = [("REDIS_URL", url), ("GUARDBEAT_STORE__MIN_REPLICAS", "1"), ("GUARDBEAT_STORE__CA_FILE", "ca.pem")];
    let good = run(dir.path(), &["check-config"], &env);
    assert_eq!(good.code, Some(0), "{}", good.stderr);
    let lines = [
        "url = \"rediss://guardbeat:***@redis.example:6379/3\"",
        "key_prefix = \"guardbeat:\"",
        "ca_file = \"ca.pem\"",
        "min_replicas = 1",
        "timeout_ms = 2000",
        "connect_timeout_ms = 10000",
    ];
    says(&good.stdout, &lines);
    let scheme = run(dir.path(), &["check-config", "--store", "redi://:hunter2@h"], &[]);
    assert_eq!(scheme.code, Some(2), "{}", scheme.stdout);
    says(&scheme.stderr, &["--store", "store.url", "redi:…", "redis://", "embedded:"]);
    let colon = run(dir.path(), &["check-config", "--store", "redis://hunter2@h"], &[]);
    assert_eq!(colon.code, Some(2), "{}", colon.stdout);
    says(&colon.stderr, &["--store", "store.url", "redis://:password@host"]);
    let useless = run(dir.path(), &["check-config", "--store", "redis://:hunter2@h"], &env[2..]);
    assert_eq!(useless.code, Some(2), "{}", useless.stdout);
    says(&useless.stderr, &["store.ca_file", "redis://:***@h:6379/0", "GUARDBEAT_STORE__CA_FILE", "rediss://"]);
    for ended in [good, scheme, colon, useless] {
        assert!(!format!("{}{}", ended.stdout, ended.stderr).contains("hunter2"));
    }
}

#[test]
fn a_wrong_setting_is_told_with_its_name_and_line() {
    for (file, parts) in [
        ("[liveness]\ntimeout_ms = \"soon\"\n", &["guardbeat.toml:2", "liveness.timeout_ms"][..]),
        ("\n\n[liveness]\ntimeout_ms = 1\n", &["guardbeat.toml:4", "liveness.timeout_ms"]),
        ("[liveness]\ntimeout = 5000\n", &["guardbeat.toml:2", "timeout", "liveness.timeout_ms"]),
        ("[livenes]\ntimeout_ms = 5000\n", &["guardbeat.toml:1", "livenes"]),
        ("[server]\nlisten = nowhere\n", &["guardbeat.toml:2"]),
        ("[server]\nlisten = \"nowhere\"\n", &["guardbeat.toml:2", "server.listen"]),
        ("[auth]\nadmin_token = \"short\"\n", &["guardbeat.toml:2", "auth.admin_token"]),
        ("[liveness]\noffline_after_ms = 1000\n", &["liveness.offline_after_ms", "liveness.timeout_ms"]),
        (
            "[limits]\nmax_agents = 0\n[log]\nformat = \"xml\"\n",
            &["guardbeat.toml:2", "guardbeat.toml:4", "log.format"],
        ),
    ] {
        let ended = check_config(file);
        assert_eq!(ended.code, Some(2), "{file}: {}", ended.stderr);
        says(&ended.stderr, parts);
    }
    let secret = check_config("[auth]\nadmin_token = \"sécret-tökén\"\n");
    assert!(!secret.stderr.contains("sécret"), "{}", secret.stderr);
}

#[test]
fn a_wrong_variable_is_told_with_its_name() {
    let dir = dir();
    for (name, value) in
        [("GUARDBEAT_LIVENESS__TIMEOUT_MS", "x"), ("MANAGER_PORT", "70000"), ("GUARDBEAT_SERVER__LISTN", "x")]
    {
        let ended = run(dir.path(), &["check-config"], &[(name, value)]);
        assert_eq!(ended.code, Some(2), "{name}");
        says(&ended.stderr, &[name]);
    }
}

#[test]
fn a_taken_port_is_told_with_its_setting() {
    let dir = dir();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (listen, metrics, key) in
        [(&*address, "127.0.0.1:0", "server.listen"), ("127.0.0.1:0", &*address, "metrics.listen")]
    {
        let ended = run(dir.path(), &["--listen", listen], &[("GUARDBEAT_METRICS__LISTEN", metrics)]);
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        says(&ended.stderr, &[key, &address, "another process"]);
    }
}

#[test]
fn an_exposed_address_is_refused_with_the_reason() {
    let dir = dir();
    let token = [("MANAGER_AUTH_TOKEN", "a-configured-token")];
    let refused = run(dir.path(), &["--listen", "0.0.0.0:0"], &[]);
    assert_eq!(refused.code, Some(2));
    says(&refused.stderr, &["server.listen", "0.0.0.0", "auth.admin_token", "--allow-exposed token"]);
    let refused = run(dir.path(), &["--listen", "[::]:0", "--tls", "off"], &token);
    assert_eq!(refused.code, Some(2));
    says(&refused.stderr, &["server.listen", "tls.mode", "clear text", "--allow-exposed tls"]);
    let refused = run(dir.path(), &[], &[("GUARDBEAT_METRICS__LISTEN", "0.0.0.0:9464")]);
    assert_eq!(refused.code, Some(2));
    says(&refused.stderr, &["metrics.listen", "token", "--allow-exposed metrics"]);
    for args in [&["check-config", "--listen", "0.0.0.0:8443"][..], &["check-config", "--listen", "127.0.0.2:8443"]] {
        assert_eq!(run(dir.path(), args, &token).code, Some(0), "{args:?}");
    }
    let exposed = ["check-config", "--listen", "0.0.0.0:8443", "--tls", "off", "--allow-exposed"];
    for (what, code) in [("token,tls", 0), ("tls", 2), ("token", 2), ("metrics", 2), ("everything", 2)] {
        let ended = run(dir.path(), &[&exposed[..], &[what]].concat(), &[]);
        assert_eq!(ended.code, Some(code), "{what}: {}", ended.stderr);
    }
}

#[test]
fn a_second_process_on_the_same_data_is_refused() {
    let server = Launch::plain().start();
    let (id, _) = server.client().enrol("h");
    let data = server.data();
    let args = ["--listen", "127.0.0.1:0", "--tls", "off", "--data-dir", data.to_str().unwrap()];
    let second = run(dir().path(), &args, &[("GUARDBEAT_METRICS__LISTEN", "127.0.0.1:0")]);
    assert_eq!(second.code, Some(1), "{}", second.stderr);
    says(&second.stderr, &[data.to_str().unwrap(), "in use by another process"]);
    server.client().beat(&id, "{}").data(200);
}

#[test]
fn a_shutdown_finishes_what_is_under_way_and_keeps_it() {
    let mut server = Launch::plain().start();
    let mut client = server.client();
    let (id, _) = client.enrol("h");
    // A request whose body is still on its way. The server asks for it: the request is under way.
    let body = json!({"cpu": 42, "version": "2.0.0"}).to_string();
    let mut slow = server.anonymous();
    let head = format!(
        "POST /api/agents/{id}/heartbeat HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Type: \
         application/json\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        server.token,
        body.len()
    );
    slow.write(head.as_bytes()).unwrap();
    assert_eq!(slow.read_reply(false).unwrap().status, 100);

    server.signal(Signal::SIGTERM);
    let mut operations = server.operations();
    wait_until(SOON, "not ready", || operations.get("/readyz").status == 503);
    let not_ready = operations.get("/readyz");
    assert!(not_ready.header("retry-after").is_some(), "{not_ready:?}");
    assert_eq!(operations.get("/livez").status, 200, "and alive all the while");
    // A connection that was open before is told.
    let refused = client.get("/api/agents");
    refused.error(503);
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    assert!(server.is_running());

    slow.write(body.as_bytes()).unwrap();
    slow.read_reply(false).unwrap().data(200);
    assert_eq!(server.wait_for_end().code(), Some(0), "{}", server.log());
    let told = server.log();
    assert!(told.lines().all(|line| line.contains("The server is shutting down")), "nothing to warn of: {told}");
    let server = server.restart();
    let shown = server.client().get(&format!("/api/agents/{id}")).data(200);
    assert_eq!((&shown["cpu"], &shown["version"]), (&json!(42), &json!("2.0.0")));
}

#[test]
fn idle_connections_do_not_hold_up_a_shutdown() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
        let mut server = Launch::tls().start();
        let mut idle: Vec<_> = (0..5).map(|_| server.client()).collect();
        for client in &mut idle {
            client.get("/health").data(200);
        }
        let began = Instant::now();
        server.signal(signal);
        assert_eq!(server.wait_for_end().code(), Some(0), "{}", server.log());
        assert!(began.elapsed() < Duration::from_secs(8), "the grace period was not needed: {:?}", began.elapsed());
        for client in &mut idle {
            client.try_send(&Request::new("GET", "/health")).unwrap_err();
        }
    }
}

#[test]
fn signals_that_mean_nothing_to_the_server_do_not_end_it() {
    let mut server = Launch::plain().env("GUARDBEAT_LOG__LEVEL", "info").start();
    let (id, _) = server.client().enrol("h");
    for signal in [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGALRM, Signal::SIGIO, Signal::SIGPIPE] {
        server.signal(signal);
        server.client().beat(&id, "{}").data(200);
    }
    wait_until(SOON, "SIGHUP is logged", || server.log().contains("SIGHUP"));
    assert!(server.is_running());
    assert_eq!(server.terminate().code(), Some(0), "{}", server.log());
}

#[test]
fn a_grace_period_ends_and_a_second_signal_does_not_wait_for_it() {
    for second_signal in [false, true] {
        let grace = if second_signal { "600000" } else { "200" };
        let mut server = Launch::plain().env("GUARDBEAT_SERVER__SHUTDOWN_GRACE_MS", grace).start();
        let (id, token) = server.client().enrol("h");
        let mut stuck = server.anonymous();
        let head = format!(
            "POST /api/agents/{id}/heartbeat HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Type: \
             application/json\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n",
        );
        stuck.write(head.as_bytes()).unwrap();
        assert_eq!(stuck.read_reply(false).unwrap().status, 100);
        server.signal(Signal::SIGTERM);
        let mut operations = server.operations();
        let unready =
            |reply: std::io::Result<_>| reply.map_or(true, |reply: crate::support::Reply| reply.status == 503);
        wait_until(SOON, "not ready", || unready(operations.try_send(&Request::new("GET", "/readyz"))));
        if second_signal {
            assert!(server.is_running());
            server.signal(Signal::SIGTERM);
            assert_eq!(server.wait_for_end().code(), Some(130), "{}", server.log());
        } else {
            assert_eq!(server.wait_for_end().code(), Some(0), "{}", server.log());
            says(&server.log(), &["WARN", "grace period"]);
        }
    }
}

#[test]
fn whoever_reads_only_the_beginning_of_what_is_printed_sees_no_panic() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_guardbeat"))
        .arg("openapi")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}

//! What the server says, and that it goes on when nobody listens.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, PipeReader, Write, pipe},
    net::TcpListener,
    os::fd::OwnedFd,
    process::{Command, Stdio},
};

use nix::{pty::openpty, sys::signal::Signal};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    Launch, SOON, Server,
    server::{Ended, run},
    wait_until,
};

/// A server that logs, into this.
fn logging_to(stderr: impl Into<OwnedFd>) -> Server {
    Launch::plain().env("GUARDBEAT_LOG__LEVEL", "info").stderr(stderr).start()
}

/// It works, says a thing or two, ends in order, and has kept everything.
fn goes_on(mut server: Server) {
    let mut client = server.client();
    let (id, _) = client.enrol("h");
    server.signal(Signal::SIGHUP);
    client.beat(&id, r#"{"cpu":42}"#).data(200);
    assert!(server.is_ready());
    assert_eq!(server.metric("guardbeat_store_up"), 1.0);
    assert_eq!(server.terminate().code(), Some(0));
    let server = server.restart();
    assert_eq!(server.client().get(&format!("/api/agents/{id}")).data(200)["cpu"], 42);
}

#[test]
fn a_log_that_cannot_be_written_is_counted_and_harms_nothing() {
    let server = logging_to(File::options().write(true).open("/dev/full").unwrap());
    wait_until(SOON, "lines are counted", || server.metric("guardbeat_log_dropped_total") >= 1.0);
    goes_on(server);
}

#[test]
fn a_log_whose_reader_has_gone_away_harms_nothing() {
    let (reader, writer) = pipe().unwrap();
    let server = logging_to(writer);
    drop(reader);
    server.signal(Signal::SIGHUP);
    wait_until(SOON, "the line is counted", || server.metric("guardbeat_log_dropped_total") >= 1.0);
    goes_on(server);
}

#[test]
fn a_log_whose_reader_stands_still_makes_nobody_wait() {
    let (reader, mut writer) = pipe().unwrap();
    // As much as a pipe of Linux holds.
    writer.write_all(&[b'x'; 64 * 1024]).unwrap();
    let server = logging_to(writer);
    (0..100).for_each(|_| server.signal(Signal::SIGHUP));
    goes_on(server);
    drop::<PipeReader>(reader);
}

/// Every line is an object as log lines are.
fn messages(text: &str) -> Vec<String> {
    let message = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        assert!(line["timestamp"].is_string() && line["level"].is_string() && line["target"].is_string(), "{line}");
        line["fields"]["message"].as_str().expect("a message").to_owned()
    };
    text.lines().map(message).collect()
}

fn run_json(args: &[&str], level: &str) -> Ended {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let args = [&["--tls", "off", "--data-dir", data.to_str().unwrap()][..], args].concat();
    let env = [
        ("GUARDBEAT_LOG__FORMAT", "json"),
        ("GUARDBEAT_LOG__LEVEL", level),
        ("GUARDBEAT_METRICS__LISTEN", "127.0.0.1:0"),
    ];
    run(dir.path(), &args, &env)
}

#[test]
fn everything_is_json_when_the_log_is() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    for level in ["info", "off"] {
        let failed = run_json(&["--listen", &taken.local_addr().unwrap().to_string()], level);
        assert_eq!(failed.code, Some(1));
        let said = messages(&failed.stderr);
        assert!(said.last().is_some_and(|last| last.starts_with("The server cannot start: ")), "{said:?}");
    }
    let faults = TempDir::new().unwrap();
    let mut server = Launch::plain()
        .env("GUARDBEAT_LOG__FORMAT", "json")
        .env(guardbeat::process::supervision::FAULTS_VARIABLE, faults.path().to_str().unwrap())
        .start();
    fs::write(faults.path().join("committer"), "").unwrap();
    assert_eq!(server.wait_for_end().code(), Some(1));
    let said = messages(&server.log());
    assert!(said.iter().any(|message| message.contains("panicked at")), "{said:?}");
    assert!(said.last().is_some_and(|last| last.starts_with("The server ended: ")), "{said:?}");
}

/// What a first start prints, up to the end of the banner, and the token it has made.
fn first_start(stdout: OwnedFd, reader: impl Into<OwnedFd>, format: &str) -> (String, String) {
    let dir = TempDir::new().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_guardbeat"))
        .args(["--listen", "127.0.0.1:0", "--tls", "off", "--data-dir"])
        .arg(dir.path())
        .env("GUARDBEAT_METRICS__LISTEN", "127.0.0.1:0")
        .env("GUARDBEAT_LOG__FORMAT", format)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = String::new();
    for line in BufReader::new(File::from(reader.into())).lines() {
        let line = line.unwrap();
        said += &line;
        if line.contains("curl") || line.starts_with('{') {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    (said, fs::read_to_string(dir.path().join("admin-token")).unwrap().trim().to_owned())
}

#[test]
fn a_fresh_token_is_shown_to_a_terminal_only_and_elsewhere_its_file_is() {
    for format in ["text", "json"] {
        let (reader, writer) = pipe().unwrap();
        let (said, token) = first_start(writer.into(), reader, format);
        assert!(!said.contains(&token) && said.contains("admin-token"), "{said}");
        let terminal = openpty(None, None).unwrap();
        let (said, token) = first_start(terminal.slave, terminal.master, format);
        assert!(said.contains(&token) && said.contains("admin-token"), "{said}");
    }
}

#[test]
fn commands_too_do_without_a_reader() {
    for args in [&["store", "check", "--store", "embedded:/nowhere/at/all"][..], &["check-config", "--listen", "x"]] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let ended = Command::new(env!("CARGO_BIN_EXE_guardbeat")).args(args).stderr(full).output().unwrap();
        assert!(matches!(ended.status.code(), Some(1 | 2)), "{args:?}: {ended:?}");
    }
}

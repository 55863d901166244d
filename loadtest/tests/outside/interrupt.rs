//! Ctrl-C: to the whole process group, as a terminal sends it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{LOADTEST, server};

/// All that may be limited with a part of the fleet silent, and some of it never reached.
const SILENT: &str = r#"
[fleet]
agents = 50
interval = "500ms"
[load]
warm_up = "100ms"
connections = 4
[silence]
after = "1h"
[server]
timeout_ms = 5_000
store = "memory"
[thresholds]
p99_ms = 0
missed = 0
lag_p99_ms = 100
back_ms = 1_000
"#;

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(60), "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn start(folder: &Path, args: &[&str]) -> Child {
    let mut command = Command::new(LOADTEST);
    command.current_dir(folder).args(args).process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("started")
}

fn interrupt(running: Child) -> Output {
    kill_process_group(Pid::from_child(&running), Signal::INT).expect("it runs");
    running.wait_with_output().expect("it ends")
}

/// Where the metrics of the server are that this load test has started.
fn metrics_of(load_test: &Child) -> Option<String> {
    let pid = load_test.id();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    let environment = std::fs::read(format!("/proc/{}/environ", children.split_whitespace().next()?)).ok()?;
    let environment = String::from_utf8_lossy(&environment);
    let address = environment.split('\0').find_map(|line| line.strip_prefix("GUARDBEAT_METRICS__LISTEN="))?;
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

fn wait_for_beats(load_test: &Child) {
    let is_beat = |line: &str| line.starts_with("guardbeat_heartbeats_total") && !line.ends_with(" 0");
    wait_until("a beat", || metrics_of(load_test).is_some_and(|text| text.lines().any(is_beat)));
}

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

#[test]
fn an_interrupted_run_has_its_results_and_accuses_nobody_of_what_was_not_measured() {
    let Some(server) = server() else { return };
    let folder = TempDir::new().expect("a folder");
    std::fs::write(folder.path().join("small.toml"), SILENT).expect("a file");
    let server = server.to_str().expect("a path");
    let running = start(folder.path(), &["run", "small.toml", "--server", server, "--out", "out"]);
    wait_for_beats(&running);
    let output = interrupt(running);
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let (shown, said) = (text(&output.stdout), text(&output.stderr));
    assert!(shown.contains("interrupted, not measured") && !shown.contains("BROKEN"), "{shown}");
    assert!(said.contains("error: interrupted") && !said.contains("threshold"), "{said}");
    let result = std::fs::read_to_string(folder.path().join("out/result.json")).expect("result.json");
    let result: Value = serde_json::from_str(&result).expect("JSON");
    assert_eq!(result["interrupted"], true);
    assert_eq!(result["ended_badly"], Value::Null, "the server went on until it was told to end");
    let verdicts = result["thresholds"].as_array().expect("a list");
    assert!(verdicts.len() == 4 && verdicts.iter().all(|verdict| verdict["kept"].is_null()), "{verdicts:?}");
    let page = std::fs::read_to_string(folder.path().join("out/report.html")).expect("report.html");
    assert!(page.contains("Interrupted: ") && !page.contains(r#"class="bad""#), "{page}");
}

#[test]
fn an_interrupted_tour_says_what_was_interrupted_and_what_was_not_run() {
    let Some(server) = server() else { return };
    let folder = TempDir::new().expect("a folder");
    let sets = ["--set", "fleet.agents=50", "--set", "steady:load.duration=1h", "--set", "thresholds.p99_ms=0"];
    let args = ["tour", "--only", "steady,herd", "--server", server.to_str().expect("a path")];
    let running = start(folder.path(), &[&args[..], &sets[..]].concat());
    wait_for_beats(&running);
    let output = interrupt(running);
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let shown = text(&output.stdout);
    let row = |name: &str| shown.lines().rfind(|line| line.trim_start().starts_with(name)).expect("a row").to_owned();
    assert!(row("steady").ends_with("interrupted") && row("herd").ends_with("not run"), "{shown}");
    assert!(!shown.contains("BROKEN") && !shown.contains("FAILED"), "{shown}");
}

#[test]
fn a_run_that_is_interrupted_before_it_has_begun_says_so() {
    let Some(server) = server() else { return };
    let folder = TempDir::new().expect("a folder");
    std::fs::write(folder.path().join("small.toml"), SILENT).expect("a file");
    let more_than_can_register = ["--set", "fleet.agents=50000000", "--set", "fleet.tokens=admin"];
    let args = ["run", "small.toml", "--server", server.to_str().expect("a path"), "--out", "out"];
    let running = start(folder.path(), &[&args[..], &more_than_can_register[..]].concat());
    wait_until("a registration", || {
        metrics_of(&running).is_some_and(|text| text.lines().any(|line| line.starts_with("guardbeat_agents{")))
    });
    let output = interrupt(running);
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let said = text(&output.stderr);
    assert!(said.contains("nothing was measured: interrupted") && !said.contains("BROKEN"), "{said}");
    assert!(!folder.path().join("out/report.html").exists());
}

//! `run` from the outside: the real program against the real server.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{LOADTEST, server};

fn run(folder: &Path, scenario: &str, more: &[&str]) -> Output {
    command(folder, scenario, more).output().expect("started")
}

fn command(folder: &Path, scenario: &str, more: &[&str]) -> Command {
    let file = folder.join("small.toml");
    std::fs::write(&file, scenario).expect("a file");
    let mut command = Command::new(LOADTEST);
    command.arg("run").arg(&file).arg("--out").arg(folder.join("out")).args(more);
    command
}

fn result(folder: &Path) -> Value {
    let text = std::fs::read_to_string(folder.join("out/result.json")).expect("result.json");
    serde_json::from_str(&text).expect("JSON")
}

const SMALL: &str = r#"
[fleet]
agents = 50
interval = "500ms"
[load]
warm_up = "100ms"
duration = "1s"
connections = 4
[server]
timeout_ms = 5_000
store = "memory"
"#;

#[test]
fn a_run_keeps_its_thresholds_and_leaves_a_report() {
    let Some(server) = server() else { return };
    let folder = TempDir::new().expect("a folder");
    let scenario = format!("{SMALL}[thresholds]\nerrors = 0\nfalse_stale = 0\nachieved = 1\n");
    let output = run(folder.path(), &scenario, &["--server", server.to_str().expect("a path")]);
    assert!(output.status.success(), "{output:?}");
    let result = result(folder.path());
    assert_eq!((&result["due"], &result["statuses"]["200"]), (&Value::from(100), &Value::from(100)));
    assert!(result["figures"]["cpu_us"].as_f64().is_some_and(|us| us > 0.0), "{result}");
    assert!(result["points"][0]["online"].as_u64().is_some_and(|online| online == 50), "{result}");
    let page = std::fs::read_to_string(folder.path().join("out/report.html")).expect("report.html");
    assert!(page.contains("Passed: all 3 thresholds were kept.") && page.contains("<polyline"));
}

#[test]
fn a_probe_and_a_list_beside_the_load_have_figures_of_their_own() {
    let Some(server) = server() else { return };
    let folder = TempDir::new().expect("a folder");
    let scenario = format!("{SMALL}[probe]\nagents = 20\nrate = 200\n[list]\npause = \"50ms\"\n");
    let limits = "[thresholds]\nprobe_errors = 0\nprobe_p99_ms = 1_000\nlists = 1\nlist_errors = 0\nerrors = 0\n";
    let output = run(folder.path(), &(scenario + limits), &["--server", server.to_str().expect("a path")]);
    assert!(output.status.success(), "{output:?}");
    let result = result(folder.path());
    // The probe's beats are no part of the load's.
    assert_eq!(result["due"], Value::from(100));
    assert!(result["figures"]["probe_rate"].as_f64().is_some_and(|rate| rate > 50.0), "{result}");
    assert!(result["probe_latency"].as_array().is_some_and(|curve| !curve.is_empty()));
    assert!(result["events"][0]["what"].as_str().is_some_and(|what| what.contains("the list has 70 agents")));
    let page = std::fs::read_to_string(folder.path().join("out/report.html")).expect("report.html");
    assert!(page.contains("Latency of the probe"));
}

#[test]
fn threats_beside_the_load_are_all_stored_and_told_to_the_readers() {
    let Some(server) = server() else { return };
    let folder = TempDir::new().expect("a folder");
    let sections = "[threats]\nper_minute = 12_000\nevents = 4\nconnections = 4\n[readers]\ncount = 20\n";
    let limits = "[thresholds]\nthreat_errors = 0\nthreats_per_minute = 2_000\nthreats_p99_ms = 5_000\nerrors = 0\n\
                  readers_lost = 0\nevents_seen = 1\n";
    let scenario = format!("{SMALL}{sections}{limits}").replace("store = \"memory\"", "store = \"embedded\"");
    let output = run(folder.path(), &scenario, &["--server", server.to_str().expect("a path")]);
    assert!(output.status.success(), "{output:?}");
    let result = result(folder.path());
    // Reports are no part of the load's beats.
    assert_eq!(result["due"], Value::from(100));
    assert!(result["figures"]["threats_per_minute"].as_f64().is_some_and(|rate| rate <= 13_000.0), "{result}");
}

#[test]
fn readers_lose_nothing_while_most_of_the_fleet_falls_silent_and_comes_back() {
    let Some(server) = server() else { return };
    let folder = TempDir::new().expect("a folder");
    let scenario = r#"
[fleet]
agents = 500
interval = "1s"
tokens = "admin"
[load]
batch = 100
connections = 4
warm_up = "100ms"
[silence]
share = 0.8
after = "200ms"
together = "100ms"
back = "100ms"
[readers]
count = 30
[server]
timeout_ms = 2_000
store = "memory"
[thresholds]
readers_lost = 0
events_seen = 2
missed = 0
back_ms = 5_000
errors = 0
"#;
    let output = run(folder.path(), scenario, &["--server", server.to_str().expect("a path")]);
    assert!(output.status.success(), "{output:?}");
    let told = result(folder.path())["events"].to_string();
    for what in ["400 agents fall silent", "all have been noticed", "all are online again", "30 readers have seen"] {
        assert!(told.contains(what), "{what}: {told}");
    }
}

#[test]
fn a_broken_threshold_is_told_and_makes_the_status_1() {
    let Some(server) = server() else { return };
    let folder = TempDir::new().expect("a folder");
    let server = server.to_str().expect("a path");
    let output = run(folder.path(), SMALL, &["--server", server, "--set", "thresholds.rate=1000000"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("1 of 1 thresholds broken") && said.contains("below its limit of 1000000/s"), "{said}");
    assert_eq!(result(folder.path())["thresholds"][0]["kept"], false);
}

#[test]
fn a_mistake_in_a_scenario_is_told_with_its_line_and_makes_the_status_2() {
    let folder = TempDir::new().expect("a folder");
    let output = run(folder.path(), "[fleet]\nagents = 0\n", &["--server", "never/started"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("small.toml:2: fleet.agents is 0: it must be a whole number"), "{said}");
}

#[test]
fn results_that_would_have_no_place_are_told_before_the_run() {
    let folder = TempDir::new().expect("a folder");
    std::fs::write(folder.path().join("out"), "a file, where a folder should be").expect("a file");
    let output = run(folder.path(), SMALL, &["--server", "never/started"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("--out") && said.contains("out: the folder cannot be made"), "{said}");
}

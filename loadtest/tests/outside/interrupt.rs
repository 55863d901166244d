//! Ctrl-C: to the whole process group, as a terminal sends it.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};

use guardbeat_testkit::http::{Client, Request};
use guardbeat_testkit::{SOON, wait_until};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use crate::support::{Place, SMALL, has_server, text};

/// All that may be limited with a part of the fleet silent, and some of it never reached.
fn silent() -> Place {
    let limits = "[thresholds]\np99_ms = 0\nmissed = 0\nlag_p99_ms = 100\nback_ms = 1_000\n";
    let load = SMALL.replace("duration = \"1s\"\n", "");
    Place::with(&format!("{load}[silence]\nafter = \"1h\"\n{limits}"))
}

fn start(mut command: Command) -> Child {
    command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started")
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
    // It may not listen yet.
    let reply = Client::new(address.parse().ok()?, None).try_send(&Request::new("GET", "/metrics")).ok()?;
    Some(reply.text().to_owned())
}

fn wait_for_beats(load_test: &Child) {
    let is_beat = |line: &str| line.starts_with("guardbeat_heartbeats_total") && !line.ends_with(" 0");
    wait_until(SOON, "a beat", || metrics_of(load_test).is_some_and(|text| text.lines().any(is_beat)));
}

#[test]
fn an_interrupted_run_has_its_results_and_accuses_nobody_of_what_was_not_measured() {
    if !has_server() {
        return;
    }
    let place = silent();
    let running = start(place.command("run small.toml --out out"));
    wait_for_beats(&running);
    let output = interrupt(running);
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let (shown, said) = (text(&output.stdout), text(&output.stderr));
    assert!(shown.contains("interrupted, not measured") && !shown.contains("BROKEN"), "{shown}");
    assert!(said.contains("error: interrupted") && !said.contains("threshold"), "{said}");
    let result = place.result();
    assert_eq!(result["interrupted"], true);
    assert_eq!(result["ended_badly"], Value::Null, "the server went on until it was told to end");
    let verdicts = result["thresholds"].as_array().expect("a list");
    assert!(verdicts.len() == 4 && verdicts.iter().all(|verdict| verdict["kept"].is_null()), "{verdicts:?}");
    let page = place.page();
    assert!(page.contains("Interrupted: ") && !page.contains(r#"class="bad""#), "{page}");
}

#[test]
fn an_interrupted_tour_says_what_was_interrupted_and_what_was_not_run() {
    if !has_server() {
        return;
    }
    let sets = "--set fleet.agents=50 --set steady:load.duration=1h --set thresholds.p99_ms=0";
    let place = Place::with("");
    let running = start(place.command(&format!("tour --only steady,herd {sets}")));
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
    if !has_server() {
        return;
    }
    let place = silent();
    let more_than_can_register = "--set fleet.agents=50000000 --set fleet.tokens=admin";
    let running = start(place.command(&format!("run small.toml --out out {more_than_can_register}")));
    wait_until(SOON, "a registration", || {
        metrics_of(&running).is_some_and(|text| text.lines().any(|line| line.starts_with("guardbeat_agents{")))
    });
    let output = interrupt(running);
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let said = text(&output.stderr);
    assert!(said.contains("nothing was measured: interrupted") && !said.contains("BROKEN"), "{said}");
    assert!(!place.0.path().join("out/report.html").exists());
}

#[test]
fn idle_connections_that_are_interrupted_on_their_first_side_say_so() {
    if !has_server() {
        return;
    }
    let place = Place::with("");
    let running = start(place.command("run idle --out out --set fleet.agents=50 --set load.duration=1h"));
    wait_for_beats(&running);
    let output = interrupt(running);
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    assert!(text(&output.stderr).contains("nothing was measured: interrupted"), "{output:?}");
}

#[test]
fn a_comparison_that_is_interrupted_in_its_first_round_says_so() {
    if !has_server() {
        return;
    }
    let place = Place::with("");
    let running = start(place.command("run compare --out out --set fleet.agents=50 --set load.duration=1h"));
    wait_for_beats(&running);
    let output = interrupt(running);
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    assert!(text(&output.stderr).contains("nothing was measured: interrupted"), "{output:?}");
}

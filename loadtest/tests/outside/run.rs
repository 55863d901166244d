//! `run` from the outside: the real program against the real server.

use serde_json::Value;

use crate::support::{Place, SMALL, has_server, text};

#[test]
fn a_run_keeps_its_thresholds_and_leaves_a_report() {
    if !has_server() {
        return;
    }
    let scenario = format!("{SMALL}[thresholds]\nerrors = 0\nfalse_stale = 0\nachieved = 1\n");
    let place = Place::with(&scenario);
    let output = place.run("");
    assert!(output.status.success(), "{output:?}");
    let result = place.result();
    assert_eq!((&result["due"], &result["statuses"]["200"]), (&Value::from(100), &Value::from(100)));
    assert!(result["figures"]["cpu_us"].as_f64().is_some_and(|us| us > 0.0), "{result}");
    assert!(result["points"][0]["online"].as_u64().is_some_and(|online| online == 50), "{result}");
    let page = place.page();
    assert!(page.contains("Passed: all 3 thresholds were kept.") && page.contains("<polyline"));
}

#[test]
fn a_probe_and_a_list_beside_the_load_have_figures_of_their_own() {
    if !has_server() {
        return;
    }
    let scenario = format!("{SMALL}[probe]\nagents = 20\nrate = 200\n[list]\npause = \"50ms\"\n");
    let limits = "[thresholds]\nprobe_errors = 0\nprobe_p99_ms = 1_000\nlists = 1\nlist_errors = 0\nerrors = 0\n";
    let place = Place::with(&(scenario + limits));
    let output = place.run("");
    assert!(output.status.success(), "{output:?}");
    let result = place.result();
    // The probe's beats are no part of the load's.
    assert_eq!(result["due"], Value::from(100));
    assert!(result["figures"]["probe_rate"].as_f64().is_some_and(|rate| rate > 50.0), "{result}");
    assert!(result["probe_latency"].as_array().is_some_and(|curve| !curve.is_empty()));
    assert!(result["events"][0]["what"].as_str().is_some_and(|what| what.contains("the list has 70 agents")));
    let page = place.page();
    assert!(page.contains("Latency of the probe"));
}

#[test]
fn threats_beside_the_load_are_all_stored_and_told_to_the_readers() {
    if !has_server() {
        return;
    }
    let sections = "[threats]\nper_minute = 12_000\nevents = 4\nconnections = 4\n[readers]\ncount = 20\n";
    let limits = "[thresholds]\nthreat_errors = 0\nthreats_per_minute = 2_000\nthreats_p99_ms = 5_000\nerrors = 0\n\
                  readers_lost = 0\nevents_seen = 1\n";
    let scenario = format!("{SMALL}{sections}{limits}").replace("store = \"memory\"", "store = \"embedded\"");
    let place = Place::with(&scenario);
    let output = place.run("");
    assert!(output.status.success(), "{output:?}");
    let result = place.result();
    // Reports are no part of the load's beats.
    assert_eq!(result["due"], Value::from(100));
    assert!(result["figures"]["threats_per_minute"].as_f64().is_some_and(|rate| rate <= 13_000.0), "{result}");
}

#[test]
fn readers_lose_nothing_while_most_of_the_fleet_falls_silent_and_comes_back() {
    if !has_server() {
        return;
    }
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
    let place = Place::with(scenario);
    let output = place.run("");
    assert!(output.status.success(), "{output:?}");
    let told = place.result()["events"].to_string();
    for what in ["400 agents fall silent", "all have been noticed", "all are online again", "30 readers have seen"] {
        assert!(told.contains(what), "{what}: {told}");
    }
}

#[test]
fn a_broken_threshold_is_told_and_makes_the_status_1() {
    if !has_server() {
        return;
    }
    let place = Place::with(SMALL);
    let output = place.run("--set thresholds.rate=1000000");
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("1 of 1 thresholds broken") && said.contains("below its limit of 1000000/s"), "{said}");
    assert_eq!(place.result()["thresholds"][0]["kept"], false);
}

#[test]
fn a_mistake_in_a_scenario_is_told_with_its_line_and_makes_the_status_2() {
    let output = Place::with("[fleet]\nagents = 0\n").run("--server never/started");
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.contains("small.toml:2: fleet.agents is 0: it must be a whole number"), "{said}");
}

#[test]
fn results_that_would_have_no_place_are_told_before_the_run() {
    let place = Place::with(SMALL);
    std::fs::write(place.0.path().join("out"), "a file, where a folder should be").expect("a file");
    let output = place.run("--server never/started");
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("--out") && said.contains("out: the folder cannot be made"), "{said}");
}

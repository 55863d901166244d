//! Idle connections from the outside: the real program against the real server, beside the baseline.

use std::process::Command;

use serde_json::Value;

use crate::support::{LOADTEST, Place, has_server};

/// Each agent beats twice while half of them are connected, if it is one of them, and twice while all are.
const IDLE: &str = r#"
[fleet]
agents = 50
interval = "1s"
[load]
duration = "2s"
[idle]
sides = ["memory", "bare"]
[thresholds]
errors = 0
reopened = 0
million_mib = 1_000_000
rss_growth = 1.5
"#;

/// The cells of the rows that begin with these words, a cell for each side.
fn rows(result: &Value, words: &str) -> Vec<Vec<String>> {
    let table = &result["tables"][0][1];
    assert_eq!(table["headings"].to_string(), r#"["what","memory","bare"]"#, "{result}");
    let cells = |row: &Value| -> Vec<String> {
        row.as_array().into_iter().flatten().map(|cell| cell.as_str().unwrap_or_default().to_owned()).collect()
    };
    let rows = table["rows"].as_array().into_iter().flatten().map(cells);
    rows.filter(|row| row[0] == words).map(|row| row[1..].to_vec()).collect()
}

#[test]
fn fifty_agents_keep_a_connection_each_on_both_sides() {
    if !has_server() {
        return;
    }
    let place = Place::with(IDLE);
    let output = place.run("");
    assert!(output.status.success(), "{output:?}");
    let result = place.result();
    // 25 agents twice, and 50 agents twice.
    assert_eq!((&result["due"], &result["statuses"]["200"]), (&Value::from(150), &Value::from(150)));
    for (words, cells) in [
        ("agents, each with a connection", ["50", "50"]),
        ("beats that count", ["150", "150"]),
        ("not answered 2xx", ["0", "0"]),
        ("connections not kept", ["0", "0"]),
        ("TLS handshakes", ["0", "0"]),
    ] {
        assert_eq!(rows(&result, words), [cells], "{words}");
    }
    for figure in ["connection_bytes", "slope_bytes", "cpu_us", "p99_ms"] {
        assert!(result["figures"][figure].is_number(), "{figure}: {result}");
    }
    let page = place.page();
    assert!(
        page.contains("<h2>Idle connections</h2>") && page.contains("Passed: all 4 thresholds were kept."),
        "{page}"
    );
}

#[test]
fn over_tls_each_agent_has_one_handshake_and_resumes_its_session_when_it_connects_again() {
    if !has_server() {
        return;
    }
    let place = Place::with(IDLE);
    let output = place.run("--set server.tls=true --set thresholds.resumed=1");
    assert!(output.status.success(), "{output:?}");
    let result = place.result();
    assert_eq!(rows(&result, "TLS handshakes"), [["50", "50"]]);
    assert_eq!(rows(&result, "all connected again: TLS handshakes"), [["50", "50"]]);
    // First of the fifty, then of the same again; the baseline keeps enough sessions for so few.
    assert_eq!(rows(&result, "… share resumed"), [["0.000", "0.000"], ["1.000", "1.000"]]);
}

#[test]
fn there_are_fewer_agents_where_the_limit_of_open_files_says_so_and_that_is_told() {
    if !has_server() {
        return;
    }
    let place = Place::with(IDLE);
    let run = "run small.toml --out out --set fleet.agents=5000 --set load.duration=500ms --set idle.sides=memory";
    let limited = format!("ulimit -n 1024; exec {LOADTEST} {run}");
    let output = Command::new("sh").current_dir(place.0.path()).args(["-c", &limited]).output().expect("started");
    assert!(output.status.success(), "{output:?}");
    let result = place.result();
    let told = result["events"][0]["what"].as_str().expect("told");
    assert!(told.contains(" agents instead of 5,000: the limit of open files of the side `memory` is 1,024"), "{told}");
    let agents: u64 = result["tables"][0][1]["rows"][0][1].as_str().expect("a number").parse().expect("a number");
    assert!((100..1_024).contains(&agents), "{agents}");
}

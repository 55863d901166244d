//! Surveys from the outside: the real program against the real server.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::support::{LOADTEST, server};

fn survey(server: &Path, scenario: &str, sets: &[&str]) -> String {
    let folder = TempDir::new().expect("a folder");
    let mut command = Command::new(LOADTEST);
    command.args(["run", scenario, "--out"]).arg(folder.path()).arg("--server").arg(server);
    for set in ["fleet.agents=20", "load.connections=4"].iter().chain(sets) {
        command.args(["--set", set]);
    }
    let output = command.output().expect("started");
    assert!(output.status.success(), "{output:?}");
    let page = std::fs::read_to_string(folder.path().join("report.html")).expect("report.html");
    assert!(page.contains("<h2>Restarts</h2>"), "{page}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn a_fleet_is_measured_and_its_silent_agents_are_noticed_afterwards() {
    let Some(server) = server() else { return };
    let sets = ["silence.agents=3", "silence.after=0s", "fleet.interval=1s", "thresholds.missed=0", "load.warm_up=1s"];
    let text = survey(&server, "fleet", &sets);
    for part in ["A first heartbeat from each", "The unlimited list", "Requests, with 3 agents stale or offline"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.contains("memory of the server per agent"), "{text}");
}

#[test]
fn a_history_is_stored_asked_for_and_there_again_after_restarts() {
    let Some(server) = server() else { return };
    let sets = ["survey.threats=1990", "survey.events=20", "survey.types=3"];
    let text = survey(&server, "history", &sets);
    // The last report is a full one, too.
    assert!(text.contains("Requests, with 2,000 threats of 20 agents"), "{text}");
    // The row that begins with these words, without the words.
    let row = |words: &str| -> Vec<&str> {
        let found = text.lines().find_map(|line| line.trim_start().strip_prefix(words));
        found.unwrap_or_else(|| panic!("no row {words}: {text}")).split_whitespace().collect()
    };
    for (request, threats) in [("/api/threats?limit=50", "50"), ("/api/threats?type=unheard-of&limit=50", "0")] {
        assert_eq!(row(&format!("GET {request}"))[1], threats, "{request}");
    }
    for restart in ["after SIGTERM", "after kill -9"] {
        assert!(row(restart).contains(&"2,000"), "{restart}");
    }
}

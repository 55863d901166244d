//! Surveys from the outside: the real program against the real server.

use crate::support::{Place, has_server};

fn survey(scenario: &str, sets: &str) -> String {
    let place = Place::with("");
    let small = "--set fleet.agents=20 --set load.connections=4";
    let output = place.command(&format!("run {scenario} --out out {small} {sets}")).output().expect("started");
    assert!(output.status.success(), "{output:?}");
    assert!(place.page().contains("<h2>Restarts</h2>"), "{}", place.page());
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn a_fleet_is_measured_and_its_silent_agents_are_noticed_afterwards() {
    if !has_server() {
        return;
    }
    let silence = "--set silence.agents=3 --set silence.after=0s --set thresholds.missed=0";
    let text = survey("fleet", &format!("{silence} --set fleet.interval=1s --set load.warm_up=1s"));
    for part in ["A first heartbeat from each", "The unlimited list", "Requests, with 3 agents stale or offline"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.contains("memory of the server per agent"), "{text}");
}

#[test]
fn a_history_is_stored_asked_for_and_there_again_after_restarts() {
    if !has_server() {
        return;
    }
    let text = survey("history", "--set survey.threats=1990 --set survey.events=20 --set survey.types=3");
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

//! `history` from the outside: the real program against the real server.

use std::process::Command;

use crate::support::{LOADTEST, server};

#[test]
fn a_history_is_stored_asked_for_and_there_again_after_restarts() {
    let Some(server) = server() else { return };
    let output = Command::new(LOADTEST)
        .arg("history")
        .arg("--server")
        .arg(server)
        .args(["--agents", "20", "--threats", "1990", "--per-report", "20", "--types", "3", "--connections", "4"])
        .output()
        .expect("started");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
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

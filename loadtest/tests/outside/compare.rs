//! `compare` against another server, in batches, and over TLS.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

use crate::support::{LOADTEST, Place, has_server, text};

/// A baseline of its own, as somebody might start one on another machine.
struct Bare {
    process: Child,
    url: String,
}

impl Bare {
    fn start() -> Self {
        let mut process =
            Command::new(LOADTEST).args(["bare", "--workers", "1"]).stdout(Stdio::piped()).spawn().expect("started");
        let mut line = String::new();
        let out = process.stdout.take().expect("piped");
        BufReader::new(out).read_line(&mut line).expect("says where it listens");
        let url = line.trim().strip_prefix("listening on ").expect("a URL").to_owned();
        Self { process, url }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn compare(sides: &str, more: &str) -> Output {
    let small = "--set compare.rounds=1 --set load.duration=1s --set load.connections=4 --set fleet.agents=40";
    let arguments = format!("run compare --set compare.sides={sides} {small} {more}");
    Place::with("").command(&arguments).output().expect("started")
}

/// The row of medians of the table with this title.
fn medians(output: &Output, title: &str) -> Vec<f64> {
    let text = text(&output.stdout).into_owned();
    let table = text.split(title).nth(1).unwrap_or_else(|| panic!("no table {title}: {output:?}"));
    let row = table.lines().find(|line| line.contains("median")).expect("a median");
    row.split_whitespace().skip(1).map(|cell| cell.parse().expect("a number")).collect()
}

#[test]
fn any_url_can_be_the_other_side() {
    let other = Bare::start();
    let output = compare("bare,url", &format!("--url {} --token any", other.url));
    assert!(output.status.success(), "{output:?}");
    // The baseline tells nothing of its processor time: that of the first side and of the client remain.
    assert_eq!(medians(&output, "Processor time").len(), 2);
    let rates = medians(&output, "Answered heartbeats per second");
    assert!(rates.len() == 3 && rates.iter().all(|rate| *rate > 0.0), "{rates:?}");
}

#[test]
fn both_sides_take_batches() {
    let output = compare("bare,bare", "--set load.batch=10 --set fleet.tokens=admin");
    assert!(output.status.success(), "{output:?}");
    assert!(medians(&output, "Answered heartbeats per second").iter().all(|rate| *rate > 0.0));
}

#[test]
fn sessions_are_resumed_when_each_beat_has_a_connection() {
    if !has_server() {
        return;
    }
    // More connections than a client keeps tickets: each must be a client of its own.
    let load = "--set load.keep_alive=false --set load.connections=24 --set load.duration=2s";
    let output = compare("memory,bare", &format!("--set server.tls=true {load}"));
    assert!(output.status.success(), "{output:?}");
    let [connections, handshakes, resumed, _, bare_handshakes, bare_resumed] =
        medians(&output, "Connections that were opened")[..]
    else {
        panic!("not the same columns for both: {output:?}")
    };
    assert!(handshakes >= connections && bare_handshakes > 0.0, "{output:?}");
    assert!(resumed > 0.9, "{output:?}");
    // The baseline keeps 256 sessions, as rustls does unless told otherwise: enough for these.
    assert!(bare_resumed > 0.5, "{output:?}");
}

#[test]
fn connections_that_are_kept_have_a_handshake_each() {
    if !has_server() {
        return;
    }
    let output = compare("memory,bare", "--set server.tls=true");
    assert!(output.status.success(), "{output:?}");
    let text = text(&output.stdout).into_owned();
    let table = text.split("Connections that were opened").nth(1).expect("a table");
    let row: Vec<&str> =
        table.lines().find(|line| line.contains("median")).expect("a median").split_whitespace().collect();
    assert_eq!(row[1..], ["4", "4", "0.000", "4", "4", "0.000"], "{text}");
}

#[test]
fn a_url_where_nothing_listens_is_told_before_anything_is_measured() {
    let output = compare("bare,url", "--url http://127.0.0.1:9 --token any");
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("nothing listens at http://127.0.0.1:9"), "{said}");
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_started() {
    for (sides, more, told) in [
        ("bare,url", "", "say with --url where that server is"),
        ("bare,bare", "--url http://127.0.0.1:9", "compare.sides must have `url` in it"),
        ("bare,bare", "--ca ca.pem", "--ca and --token-file are those of the server at --url"),
        ("bare,bare", "--redis redis://127.0.0.1:9", "no server of this scenario keeps its fleet there"),
    ] {
        let output = compare(sides, more);
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(told), "{sides} {more}: {said}");
    }
}

#[test]
fn registrations_are_compared_by_rate_cost_and_latency() {
    if !has_server() {
        return;
    }
    let output = compare("memory,bare", "--set compare.send=registrations --set compare.most=500");
    assert!(output.status.success(), "{output:?}");
    assert!(medians(&output, "Answered registrations per second").iter().all(|rate| *rate > 0.0));
    let text = text(&output.stdout);
    assert!(text.contains("Latencies of registrations over all rounds"), "{text}");
}

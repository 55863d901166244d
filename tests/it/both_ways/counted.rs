//! What the server counts and logs of requests.

use std::collections::BTreeMap;

use super::{BOTH, Both, Sent, Way};
use crate::support::{Launch, SOON, wait_until};

const BEAT: &str = "POST /api/agents/{id}/heartbeat";

/// Two of each kind at most: more are not logged one by one.
fn requests() -> Vec<Vec<u8>> {
    let requests = [
        (BEAT, "Bearer {token}", "application/json", "{}"),
        (BEAT, "Bearer {admin}", "application/json", r#"{"cpu":5}"#),
        (BEAT, "Bearer {token}", "application/json", r#"{"cpu":-1}"#),
        (BEAT, "Bearer {token}", "text/plain", "{}"),
        (BEAT, "Bearer {token}x", "application/json", "{}"),
        ("POST /api/agents/{other}/heartbeat", "Bearer {token}", "application/json", "{}"),
        ("POST /api/agents/agent-0000000000000001/heartbeat", "Bearer {admin}", "application/json", "{}"),
        ("POST /api/agents/nobody/heartbeat", "Bearer {admin}", "application/json", "{}"),
        (BEAT, "Basic x", "application/json", "{}"),
        ("GET /api/rules/latest", "Bearer {token}", "", ""),
        ("GET /api/policy/agent/{other}", "Bearer {token}", "", ""),
        ("POST /api/agents/{id}/events", "Bearer {token}", "application/json", "{}"),
        ("POST /api/agents/register", "", "application/json", "{}"),
        ("PUT /api/agents/{id}/heartbeat", "Bearer {token}", "", ""),
        ("GET /api/nowhere", "Bearer {token}", "", ""),
        ("GET /\u{e9}\0", "Bearer {token}", "", ""),
    ];
    let numbered = requests.iter().enumerate();
    let encoded = numbered.map(|(number, (line, authorization, kind, body))| {
        let length = body.len();
        format!(
            "{line} HTTP/1.1\r\nHost: l\r\nAuthorization: {authorization}\r\nContent-Type: {kind}\r\n\
             X-Request-Id: 00000000-0000-4000-8000-{number:012}\r\nContent-Length: {length}\r\n\
             X-Forwarded-For: 192.0.2.1, 192.0.2.{number}\r\nx-forwarded-for: 127.0.0.2\r\n\r\n{body}"
        )
    });
    encoded.map(String::into_bytes).collect()
}

/// The counters of requests, heartbeats and connections; without those of the request that hands a connection over.
fn counters(both: &Both) -> BTreeMap<String, u64> {
    let reply = both.server.operations().get("/metrics");
    let lines = reply.text().lines().filter_map(|line| line.rsplit_once(' '));
    lines
        .filter(|(series, _)| {
            let is_of_requests = ["guardbeat_http", "guardbeat_heartbeat", "guardbeat_connections"]
                .iter()
                .any(|start| series.starts_with(start));
            let is_count = series.contains("_total") || series.contains("_count");
            is_of_requests && is_count && !series.contains(r#""health""#) && !series.contains(r#""metrics""#)
        })
        .map(|(series, value)| (series.to_owned(), value.parse::<f64>().expect("a number") as u64))
        .collect()
}

/// The lines of refused requests, without their times and with the names of their agents' parts.
fn refusals(both: &Both, way: Way) -> Vec<String> {
    let names = &both.names[way as usize];
    let log = both.server.log();
    let lines = log.lines().filter_map(|line| line.split_once(": ")).filter(|(_, line)| line.contains("refused"));
    lines
        .map(|(_, line)| line.replace(&names.id, "{id}").replace(&names.other, "{other}"))
        .map(|line| match line.split_once("malformed_http") {
            // Of what could not be read there is no id.
            Some((start, rest)) => [start, rest.split("request_id").next().unwrap_or_default()].concat(),
            None => line,
        })
        .collect()
}

#[test]
fn requests_are_counted_and_refusals_logged_alike() {
    let [ours, theirs] = BOTH.map(|way| {
        let both = Both::start(Launch::plain().env("GUARDBEAT_SERVER__TRUSTED_PROXIES", "127.0.0.0/8"));
        let before = counters(&both);
        for request in requests() {
            both.exchange(way, &Sent::at_once(request));
        }
        let counted = || -> BTreeMap<String, u64> {
            let grown = counters(&both).into_iter().map(|(series, count)| {
                let earlier = before.get(&series).copied().unwrap_or_default();
                (series, count - earlier)
            });
            grown.filter(|(_, count)| *count > 0).collect()
        };
        wait_until(SOON, "the last refusal is logged", || log_has_the_last(&both));
        (counted(), refusals(&both, way))
    });
    assert_eq!(ours.0, theirs.0);
    assert!(ours.1.len() > 10, "{:#?}", ours.1);
    assert_eq!(ours.1, theirs.1);
    assert!(ours.0.len() > 5, "{:#?}", ours.0);
    assert!(ours.1.iter().filter(|line| line.contains("address=192.0.2.")).count() > 10, "{:#?}", ours.1);
}

fn log_has_the_last(both: &Both) -> bool {
    both.server.log().contains("malformed_http")
}

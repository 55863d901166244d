//! `POST /api/heartbeats`.

use serde_json::{Value, json};

use super::NOBODY;
use crate::support::{Client, Launch, Reply, Request, SOON, keys, wait_until};

fn send(client: &mut Client, body: impl Into<Vec<u8>>) -> Reply {
    client.send(&Request::new("POST", "/api/heartbeats").header("Content-Type", "application/x-ndjson").body(body))
}

#[test]
fn each_line_of_a_batch_is_the_heartbeat_of_its_agent() {
    let server = Launch::either().start();
    let mut client = server.client();
    let ids: Vec<String> = (0..20).map(|n| client.enrol(&format!("h{n}")).0).collect();
    let lines: Vec<String> =
        ids.iter().zip(0..).map(|(id, n)| json!({"id": id, "cpu": n, "version": "2.0"}).to_string()).collect();
    let data = send(&mut client, lines.join("\r\n") + "\n\n").data(200);
    assert_eq!(data, json!({"accepted": 20, "rejected": []}));
    for (id, n) in ids.iter().zip(0..) {
        let agent = client.get(&format!("/api/agents/{id}")).data(200);
        assert_eq!((agent["cpu"].as_u64(), agent["version"].as_str()), (Some(n), Some("2.0")));
        assert!(agent["lastHeartbeat"].as_str() > agent["registeredAt"].as_str(), "{agent}");
    }
    assert_eq!(send(&mut client, "").data(200), json!({"accepted": 0, "rejected": []}));
}

#[test]
fn of_the_heartbeats_of_an_agent_in_a_batch_the_last_line_is_heard_last() {
    let server = Launch::either().start();
    let mut client = server.client();
    // Agents of every shard, and batches of many steps.
    for n in 0..20 {
        let (id, _) = client.enrol(&format!("h{n}"));
        let lines: String = (0..10_000).map(|n| format!("{{\"id\":\"{id}\",\"uptime\":{n}}}\n")).collect();
        assert_eq!(send(&mut client, lines).data(200)["accepted"], 10_000);
        assert_eq!(client.get(&format!("/api/agents/{id}")).data(200)["uptime"], 9_999);
    }
}

#[test]
fn lines_that_are_wrong_are_named_and_keep_no_other_from_being_heard() {
    let server = Launch::either().start();
    let mut client = server.client();
    let (id, _) = client.enrol("h");
    let body =
        format!("{{\"id\":\"{id}\",\"cpu\":101}}\n\nnonsense\n{{\"id\":\"{NOBODY}\"}}\n{{\"id\":\"{id}\",\"cpu\":7}}");
    let data = send(&mut client, body).data(200);
    assert_eq!(keys(&data), ["accepted", "rejected"]);
    assert_eq!(data["accepted"], 1);
    let rejected: Vec<_> =
        data["rejected"].as_array().unwrap().iter().map(|one| (one["line"].as_u64(), &one["error"])).collect();
    assert_eq!(rejected[0], (Some(1), &json!("cpu must be a number from 0 to 100")));
    assert_eq!(rejected[1].0, Some(3));
    assert_eq!(rejected[2], (Some(4), &json!("Agent not found")));
    assert_eq!(client.get(&format!("/api/agents/{id}")).data(200)["cpu"], 7);
}

#[test]
fn a_batch_needs_the_administrators_token_and_says_what_it_is() {
    let server = Launch::either().start();
    let mut client = server.client();
    let (id, token) = client.enrol("h");
    let line = json!({"id": id, "cpu": 7}).to_string();
    send(&mut client.with_token(&token), line.clone()).error(403);
    send(&mut client.with_token("wrong"), line.clone()).error(401);
    assert!(client.post("/api/heartbeats", &line).error(415).contains("application/x-ndjson"));
    assert_eq!(client.get("/api/heartbeats").error(405), "Method not allowed; this path answers POST");
    assert_eq!(client.get(&format!("/api/agents/{id}")).data(200)["cpu"], Value::Null);
}

#[test]
fn a_batch_that_is_too_large_is_refused_as_a_whole() {
    let server = Launch::either().start();
    let mut client = server.client();
    let (id, _) = client.enrol("h");
    let line = format!("{{\"id\":\"{id}\",\"cpu\":7}}\n");
    assert!(send(&mut client, line.repeat(10_001)).error(400).contains("10000"));
    send(&mut client, line.clone() + &" ".repeat(8 << 20)).error(413);
    assert_eq!(client.get(&format!("/api/agents/{id}")).data(200)["cpu"], Value::Null);
    let mut client = server.client();
    assert_eq!(send(&mut client, line.repeat(10_000)).data(200)["accepted"], 10_000);
}

#[test]
fn heartbeats_of_a_batch_survive_kill_9_like_single_ones() {
    let mut server = Launch::plain().start();
    let mut client = server.client();
    let (id, _) = client.enrol("h");
    assert_eq!(send(&mut client, json!({"id": id, "cpu": 7}).to_string()).data(200)["accepted"], 1);
    wait_until(SOON, "it is in the store", || server.metric("guardbeat_store_flushed_heartbeats_total") >= 1.0);
    server.kill9();
    let server = server.restart();
    assert_eq!(server.client().get(&format!("/api/agents/{id}")).data(200)["cpu"], 7);
}

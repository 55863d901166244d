//! `POST /api/agents/:id/heartbeat`.

use serde_json::{Value, json};

use super::NOBODY;
use crate::support::{Client, FieldRule, Launch, Request, is_time, keys};

fn show(client: &mut Client, id: &str) -> Value {
    client.get(&format!("/api/agents/{id}")).data(200)
}

#[test]
fn a_heartbeat_is_answered_with_the_status_and_the_time() {
    let server = Launch::either().start();
    let mut client = server.client();
    let (id, _) = client.enrol("h");
    let data = client.beat(&id, json!({"uptime": 5, "cpu": 1, "memory": 2, "version": "1.0.0"})).data(200);
    assert_eq!(keys(&data), ["id", "lastHeartbeat", "pendingPolicies", "status"]);
    assert_eq!(data["id"], *id);
    assert_eq!(data["status"], "online");
    assert_eq!(data["pendingPolicies"], 0);
    assert!(is_time(&data["lastHeartbeat"]), "{data}");
    assert_eq!(show(&mut client, &id)["lastHeartbeat"], data["lastHeartbeat"]);
}

#[test]
fn an_empty_object_or_no_body_at_all_is_a_sign_of_life() {
    let server = Launch::either().start();
    let mut client = server.client();
    let (id, _) = client.enrol("h");
    let path = format!("/api/agents/{id}/heartbeat");
    let post = || Request::new("POST", path.clone());
    for request in [
        post().json("{}"),
        post().json(" { } \n"),
        post(),
        post().body(""),
        post().json(""),
        post().header("Content-Type", "application/json"),
        post().body("").chunked(),
        post().json("{}").chunked(),
    ] {
        let data = client.send(&request).data(200);
        assert_eq!(data["status"], "online", "{request:?}");
        assert_eq!(show(&mut client, &id)["lastHeartbeat"], data["lastHeartbeat"], "{request:?}");
    }
    assert_eq!(show(&mut client, &id)["cpu"], Value::Null);
}

/// Of every field that the document has.
fn rules(client: &mut Client) -> Vec<FieldRule> {
    let schemas = client.get("/api/openapi.json").json()["components"]["schemas"].take();
    let fields = schemas["Heartbeat"]["properties"].as_object().unwrap();
    assert!(fields.len() >= 9, "{fields:?}");
    let rule = |(name, field): (&String, &Value)| {
        let schema = field["oneOf"][0]["$ref"].as_str().unwrap().rsplit('/').next().unwrap();
        match (name.clone().leak(), &schemas[schema]) {
            (name, text) if text["type"] == "string" => {
                FieldRule::text(name, text["maxLength"].as_u64().unwrap() as usize)
            }
            (name, number) => FieldRule::number(name, number["maximum"] == 100),
        }
    };
    fields.iter().map(rule).collect()
}

#[test]
fn each_field_takes_its_bounds_and_the_error_of_any_other_value_names_it() {
    let server = Launch::either().start();
    let mut client = server.client();
    let (id, _) = client.enrol("h");
    for FieldRule { name, good, bad } in &rules(&mut client) {
        for good in good {
            client.beat(&id, json!({*name: good})).data(200);
            let shown = show(&mut client, &id)[*name].clone();
            let same = shown == *good || shown.as_f64().is_some_and(|shown| Some(shown) == good.as_f64());
            assert!(same, "{name} = {good}, shown {shown}");
        }
        let before = show(&mut client, &id);
        for bad in bad {
            let error = client.beat(&id, json!({*name: bad})).error(400);
            assert!(error.contains(name), "{name} = {bad}: {error}");
        }
        assert_eq!(show(&mut client, &id), before, "what was refused changed nothing: {name}");
    }
}

#[test]
fn numbers_that_json_does_not_have_are_refused() {
    let server = Launch::either().start();
    let mut client = server.client();
    let (id, _) = client.enrol("h");
    let before = show(&mut client, &id);
    for number in ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "0x10", "01", "1.", ".5", "+1", "1e"] {
        client.beat(&id, format!(r#"{{"uptime":{number}}}"#)).error(400);
    }
    assert_eq!(show(&mut client, &id), before);
}

#[test]
fn one_wrong_field_refuses_the_whole_heartbeat() {
    let server = Launch::either().start();
    let mut client = server.client();
    let (id, _) = client.enrol("h");
    let before = show(&mut client, &id);
    client.beat(&id, json!({"uptime": 1, "version": "9.9.9", "cpu": 100.5})).error(400);
    client.beat(&id, json!({"mode": "learning", "uptime": "1", "cpu": 1})).error(400);
    assert_eq!(show(&mut client, &id), before);
}

#[test]
fn an_upgrade_shows_in_the_list_and_alone() {
    let server = Launch::either().start();
    let mut client = server.client();
    let (id, _) = client.enrol("h");
    client.beat(&id, json!({"version": "2.0.0"})).data(200);
    assert_eq!(show(&mut client, &id)["version"], "2.0.0");
    assert_eq!(client.get("/api/agents").data(200)[0]["version"], "2.0.0");
    client.beat(&id, "{}").data(200);
    assert_eq!(show(&mut client, &id)["version"], "2.0.0");
}

#[test]
fn a_field_left_out_keeps_its_last_value() {
    let server = Launch::either().start();
    let mut client = server.client();
    let (id, _) = client.enrol("h");
    client.beat(&id, json!({"cpu": 10, "memory": 20.5, "uptime": 30, "mode": "learning"})).data(200);
    client.beat(&id, json!({"cpu": 11, "eventsProcessed": 7})).data(200);
    client.beat(&id, json!({"cpu": null, "memory": null, "uptime": null, "version": null})).data(200);
    client.beat(&id, "{}").data(200);
    let shown = show(&mut client, &id);
    for (name, value) in [
        ("cpu", json!(11)),
        ("memory", json!(20.5)),
        ("uptime", json!(30)),
        ("mode", json!("learning")),
        ("eventsProcessed", json!(7)),
        ("version", json!("1.0.0")),
    ] {
        assert_eq!(shown[name], value, "{name}");
    }
}

#[test]
fn what_the_published_client_sends_is_kept_and_shown() {
    let server = Launch::either().start();
    let (id, token) = server.client().enrol("h");
    let sent = json!({"eventsProcessed": 120, "threatsDetected": 3, "actionsExecuted": 1, "mode": "protection",
                      "uptime": 3600.5, "memoryUsageMB": 84.25});
    server.anonymous().with_token(&token).beat(&id, &sent).data(200);
    let shown = show(&mut server.client(), &id);
    for name in keys(&sent) {
        assert_eq!(shown[name], sent[name], "{name}");
    }
}

#[test]
fn heartbeats_of_nobody_are_404() {
    let server = Launch::either().start();
    let mut client = server.client();
    for id in [NOBODY, "agent-ffffffffffffffff", "agent-1", "web-server-1", "agent-000000000000000G", "%00", "..%2f"] {
        assert_eq!(client.beat(id, "{}").error(404), "Agent not found", "{id}");
    }
    let (id, _) = client.enrol("h");
    client.delete(&format!("/api/agents/{id}")).data(200);
    assert_eq!(client.beat(&id, "{}").error(404), "Agent not found");
}

#[test]
fn the_last_heartbeat_outlives_a_shutdown() {
    let mut server = Launch::either().start();
    let mut client = server.client();
    let (id, _) = client.enrol("h");
    client.beat(&id, json!({"cpu": 12.5, "uptime": 9, "version": "3", "mode": "learning"})).data(200);
    let before = show(&mut client, &id);
    assert!(server.terminate().success());
    let server = server.restart();
    assert_eq!(show(&mut server.client(), &id), before);
}

#[test]
fn a_heartbeat_is_answered_alike_by_both_ways_in() {
    let server = Launch::either().start();
    let mut client = server.client();
    let (id, token) = client.enrol("h");
    let (other, _) = client.enrol("other");
    let post = |id: &str| Request::new("POST", format!("/api/agents/{id}/heartbeat"));
    let wrong = b"Bearer wrong".to_vec();
    let cases = [
        post(&id).json(r#"{"cpu":1}"#),
        post(&id),
        post(&id).json("{").chunked(),
        post(&id).json(r#"{"cpu":101}"#),
        post(&id).body(r#"{"cpu":1}"#),
        post(&id).json("x".repeat(70_000)),
        post(&id).json("{}").header("Authorization", wrong.clone()),
        post(&other).json("{}").header("Authorization", format!("Bearer {token}")),
        post(NOBODY).json("{}"),
        post("nobody").json("{}"),
        post(NOBODY).json("{}").header("Authorization", wrong),
    ];
    let told = |reply: crate::support::Reply| {
        let mut json = reply.json();
        json["data"]["lastHeartbeat"].take();
        // Whether the connection goes on after a refusal depends on whether the body had arrived by then.
        let volatile = |name: &str| ["date", "x-request-id", "content-length", "connection"].contains(&name);
        let mut headers: Vec<_> = reply.headers.into_iter().filter(|(name, _)| !volatile(name)).collect();
        headers.sort();
        (reply.status, headers, json)
    };
    for case in cases {
        let by_the_lane = told(server.client().send(&case));
        // An origin, of which nothing is known here, is the framework's business.
        let by_the_app = told(server.client().send(&case.clone().header("Origin", "https://example.org")));
        assert_eq!(by_the_lane, by_the_app, "{case:?}");
    }
}

#[test]
fn a_body_that_does_not_arrive_is_not_waited_for_for_ever() {
    let server = Launch::plain().start();
    let mut client = server.client();
    let (id, _) = client.enrol("h");
    let request = Request::new("POST", format!("/api/agents/{id}/heartbeat")).json(r#"{"cpu":1}"#);
    let bytes = request.encode(Some(&server.token));
    let mut slow = server.client();
    slow.write(&bytes[..bytes.len() - 3]).unwrap();
    // Within the limit of this client's reads; the server's is 10 s.
    let reply = slow.read_reply(false).unwrap();
    assert_eq!(reply.error(408), "The body did not arrive in time");
    assert_eq!(show(&mut client, &id)["cpu"], Value::Null);
}

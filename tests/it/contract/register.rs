//! `POST /api/agents/register`: the answer, and what each field takes and refuses.

use serde_json::{Value, json};

use crate::support::{FieldRule, Launch, is_agent_id, is_time, keys};

const PATH: &str = "/api/agents/register";

fn minimal() -> Value {
    json!({"hostname": "web-server-1", "os": "linux", "version": "1.2.0"})
}

fn minimal_with(name: &str, value: &Value) -> Value {
    let mut body = minimal();
    body[name] = value.clone();
    body
}

#[test]
fn a_registration_is_answered_with_all_that_was_kept() {
    let server = Launch::either().start();
    let reply = server.client().post(
        PATH,
        json!({"hostname": "web-server-1", "os": "linux", "version": "1.2.0", "ip": "203.0.113.10", "org_id": "acme",
               "tags": ["production", "web-tier"], "machine_id": "m-1"}),
    );
    let data = reply.data(201);
    let answer = reply.json();
    assert_eq!(keys(&answer), ["agentId", "data", "ok", "token"]);
    assert_eq!(keys(&data), ["hostname", "id", "ip", "org_id", "os", "registeredAt", "status", "tags", "version"]);
    assert!(is_agent_id(&data["id"]), "{data}");
    assert!(is_time(&data["registeredAt"]), "{data}");
    for (name, value) in [
        ("hostname", json!("web-server-1")),
        ("os", json!("linux")),
        ("version", json!("1.2.0")),
        ("ip", json!("203.0.113.10")),
        ("org_id", json!("acme")),
        ("tags", json!(["production", "web-tier"])),
        ("status", json!("online")),
    ] {
        assert_eq!(data[name], value, "{name}");
    }
    assert_eq!(answer["agentId"], data["id"], "what the published client reads");
    assert!(answer["token"].as_str().is_some_and(|token| token.len() >= 32), "{answer}");
}

#[test]
fn without_the_optional_fields_there_are_no_tags_and_no_org_and_the_address_is_the_connections() {
    let server = Launch::either().start();
    let data = server.client().post(PATH, minimal()).data(201);
    assert_eq!(keys(&data), ["hostname", "id", "ip", "os", "registeredAt", "status", "tags", "version"]);
    assert_eq!(data["tags"], json!([]));
    assert_eq!(data["ip"], "127.0.0.1");
}

#[test]
fn each_text_takes_its_bounds_and_the_error_of_any_other_value_names_it() {
    let server = Launch::either().start();
    let mut client = server.client();
    let mut registered = 0;
    for (name, max) in [("hostname", 255), ("os", 128), ("version", 64), ("org_id", 64), ("machine_id", 128)] {
        let mut rule = FieldRule::text(name, max);
        if name == "machine_id" {
            // A blank one is none.
            rule.bad.retain(|bad| bad != "");
        }
        for good in &rule.good {
            let data = client.post(PATH, minimal_with(name, good)).data(201);
            if name != "machine_id" {
                assert_eq!(data[name], *good);
            }
            registered += 1;
        }
        for bad in &rule.bad {
            let error = client.post(PATH, minimal_with(name, bad)).error(400);
            assert!(error.contains(name), "{name} = {bad}: {error}");
        }
    }
    let total = client.get("/health").data(200)["agents"]["total"].clone();
    assert_eq!(total, registered, "what was refused changed nothing");
}

#[test]
fn aliases_are_the_fields_they_stand_for() {
    let server = Launch::either().start();
    let mut client = server.client();
    let data = client.post(PATH, minimal_with("organizationId", &json!("acme"))).data(201);
    assert_eq!(data["org_id"], "acme");
    let nulls = json!({"hostname": "h", "os": "l", "version": "1", "org_id": null, "organizationId": "acme"});
    assert_eq!(client.post(PATH, nulls).data(201)["org_id"], "acme");
    let twice = json!({"hostname": "h", "os": "l", "version": "1", "machine_id": "a-1", "machineId": "a-1"});
    assert_eq!(client.post(PATH, twice).error(400), "machine_id is given twice");
    let first = client.register(&minimal_with("machineId", &json!("m-1")));
    let again = client.register(&minimal_with("machine_id", &json!("m-1")));
    assert_eq!(first["agentId"], again["agentId"]);
    for (alias, name, max) in [("organizationId", "org_id", 64), ("machineId", "machine_id", 128)] {
        let mut rule = FieldRule::text(alias, max);
        if name == "machine_id" {
            rule.bad.retain(|bad| bad != "");
        }
        for good in &rule.good {
            client.post(PATH, minimal_with(alias, good)).data(201);
        }
        for bad in &rule.bad {
            let error = client.post(PATH, minimal_with(alias, bad)).error(400);
            assert!(error.contains(alias) || error.contains(name), "{alias} = {bad}: {error}");
        }
    }
}

#[test]
fn every_missing_field_is_named() {
    let server = Launch::either().start();
    let mut client = server.client();
    for (body, error) in [
        (json!({"os": "l", "version": "1"}), "Missing required field: hostname"),
        (json!({"hostname": "h", "version": "1"}), "Missing required field: os"),
        (json!({"hostname": "h", "os": "l"}), "Missing required field: version"),
        (json!({"version": "1"}), "Missing required fields: hostname, os"),
        (json!({"os": "l"}), "Missing required fields: hostname, version"),
        (json!({"hostname": "h"}), "Missing required fields: os, version"),
        (json!({}), "Missing required fields: hostname, os, version"),
        (json!({"tags": ["a"], "unknown": 1}), "Missing required fields: hostname, os, version"),
        (json!({"hostname": null, "os": "l", "version": "1"}), "Missing required field: hostname"),
        (json!({"hostname": "h", "os": null, "version": null}), "Missing required fields: os, version"),
    ] {
        assert_eq!(client.post(PATH, &body).error(400), error, "{body}");
    }
}

#[test]
fn null_is_the_same_as_left_out() {
    let server = Launch::either().start();
    let body = json!({"hostname": "h", "os": "linux", "version": "1", "ip": null, "org_id": null, "tags": null,
                      "machine_id": null});
    let data = server.client().post(PATH, &body).data(201);
    assert_eq!(data["ip"], "127.0.0.1");
    assert_eq!(data["tags"], json!([]));
    assert_eq!(data.get("org_id"), None);
}

#[test]
fn tags_keep_their_order_without_duplicates_and_within_their_bounds() {
    let server = Launch::either().start();
    let mut client = server.client();
    let many = |n: usize| (0..n).map(|n| json!(format!("tag-{n}"))).collect::<Vec<_>>();
    let accepted = [
        (json!([]), json!([])),
        (json!(["b", "a", "b", "c", "a"]), json!(["b", "a", "c"])),
        (json!(["x".repeat(64)]), json!(["x".repeat(64)])),
        (json!(["é".repeat(64)]), json!(["é".repeat(64)])),
        (json!(many(32)), json!(many(32))),
    ];
    for (given, kept) in accepted {
        assert_eq!(client.post(PATH, minimal_with("tags", &given)).data(201)["tags"], kept);
    }
    for refused in [
        json!(many(33)),
        json!(["x".repeat(65)]),
        json!([""]),
        json!(["a", ""]),
        json!([5]),
        json!([null]),
        json!([["a"]]),
        json!("production"),
        json!(5),
        json!(true),
        json!({"a": "b"}),
    ] {
        let error = client.post(PATH, minimal_with("tags", &refused)).error(400);
        assert!(error.contains("tags"), "{refused}: {error}");
    }
}

#[test]
fn an_address_is_one_of_ipv4_or_ipv6() {
    let server = Launch::either().start();
    let mut client = server.client();
    for ip in ["203.0.113.10", "0.0.0.0", "255.255.255.255", "::1", "2001:db8::1"] {
        assert_eq!(client.post(PATH, minimal_with("ip", &json!(ip))).data(201)["ip"], ip);
    }
    for ip in [
        json!(""),
        json!("localhost"),
        json!("999.1.1.1"),
        json!("1.2.3"),
        json!("1.2.3.4.5"),
        json!("1.2.3.4/24"),
        json!("1.2.3.4:80"),
        json!("[::1]"),
        json!(" 1.2.3.4"),
        json!("2001:db8::1::2"),
        json!(16_909_060),
        json!(true),
        json!(["1.2.3.4"]),
        json!({"v4": "1.2.3.4"}),
    ] {
        let error = client.post(PATH, minimal_with("ip", &ip)).error(400);
        assert!(error.split(' ').any(|word| word == "ip"), "{ip}: {error}");
    }
}

#[test]
fn unknown_fields_are_ignored() {
    let server = Launch::either().start();
    let body = json!({"hostname": "h", "os": "linux", "version": "1.0.0", "arch": "x64", "id": "agent-1",
                      "status": "offline", "token": {"deep": [1, 2, {"er": null}]}, "": 0});
    let data = server.client().post(PATH, &body).data(201);
    assert_eq!(data["status"], "online");
    assert!(is_agent_id(&data["id"]));
}

#[test]
fn a_registration_outlives_a_kill() {
    let mut server = Launch::either().start();
    let mut client = server.client();
    let body = json!({"hostname": "h", "os": "plan9", "version": "3", "ip": "2001:db8::7", "org_id": "acme",
                      "tags": ["b", "a"]});
    let enrolled = client.register(&body);
    let (gone, _) = client.enrol("gone");
    client.delete(&format!("/api/agents/{gone}")).data(200);
    server.kill9();
    let server = server.restart();
    let (id, token) = (enrolled["agentId"].as_str().unwrap(), enrolled["token"].as_str().unwrap());
    let shown = server.client().get(&format!("/api/agents/{id}")).data(200);
    for name in ["id", "hostname", "os", "version", "ip", "org_id", "tags", "status", "registeredAt"] {
        assert_eq!(shown[name], enrolled["data"][name], "{name}");
    }
    server.client().with_token(token).beat(id, "{}").data(200);
    assert_eq!(server.client().get(&format!("/api/agents/{gone}")).error(404), "Agent not found");
}

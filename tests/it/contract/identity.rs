//! A machine that registers again, and agents without an identity.

use serde_json::{Value, json};

use crate::support::{Client, Launch, SOON, wait_until};

fn machine(org: Option<&str>, id: &str) -> Value {
    json!({"hostname": "h", "os": "linux", "version": "1", "org_id": org, "machine_id": id})
}

fn beats(client: &Client, id: &str, token: &str) -> u16 {
    client.with_token(token).beat(id, "{}").status
}

#[test]
fn a_machine_that_registers_again_gets_its_id_back_and_everything_else_is_new() {
    let server = Launch::either().start();
    let mut client = server.client();
    let first = client.register(
        &json!({"hostname": "old", "os": "linux", "version": "1", "ip": "192.0.2.1", "org_id": "acme", "tags": ["a"],
                "machine_id": "m-1"}),
    );
    let again = client.register(
        &json!({"hostname": "new", "os": "darwin", "version": "2", "ip": "192.0.2.2", "org_id": "acme", "tags": ["b", "c"],
                "machine_id": "m-1"}),
    );
    let id = first["agentId"].as_str().unwrap();
    assert_eq!(again["agentId"], id);
    let (old, new) = (first["token"].as_str().unwrap(), again["token"].as_str().unwrap());
    assert_ne!(old, new);
    assert_eq!(beats(&client, id, new), 200);
    assert_eq!(client.with_token(old).beat(id, "{}").error(401), "Unauthorized");

    let shown = client.get(&format!("/api/agents/{id}")).data(200);
    for (name, value) in [
        ("hostname", json!("new")),
        ("os", json!("darwin")),
        ("version", json!("2")),
        ("ip", json!("192.0.2.2")),
        ("tags", json!(["b", "c"])),
        ("org_id", json!("acme")),
        ("status", json!("online")),
    ] {
        assert_eq!(shown[name], value, "{name}");
        assert_eq!(again["data"][name], value, "{name}");
    }
    assert_eq!(client.get("/api/agents").data(200).as_array().unwrap().len(), 1);
    assert_eq!(client.get("/health").data(200)["agents"]["total"], 1);
}

#[test]
fn a_silent_machine_that_registers_again_is_online() {
    let server =
        Launch::either().env("MANAGER_HEARTBEAT_TIMEOUT_MS", "100").env("GUARDBEAT_LIVENESS__GRACE_MS", "50").start();
    let mut client = server.client();
    let enrolled = client.register(&machine(None, "m-1"));
    let path = format!("/api/agents/{}", enrolled["agentId"].as_str().unwrap());
    wait_until(SOON, "the agent is stale", || client.get(&path).data(200)["status"] == "stale");
    let again = client.register(&machine(None, "m-1"));
    assert_eq!(again["agentId"], enrolled["agentId"]);
    assert_eq!(again["data"]["status"], "online");
    // It may have fallen silent again before we look, so look until we were fast enough.
    wait_until(SOON, "the agent is seen online", || {
        client.register(&machine(None, "m-1"));
        client.get(&path).data(200)["status"] == "online"
    });
}

#[test]
fn an_identity_belongs_to_one_tenant() {
    let server = Launch::either().start();
    let mut client = server.client();
    let mut ids: Vec<_> = [None, Some("acme"), Some("globex")]
        .into_iter()
        .map(|org| client.register(&machine(org, "m-1"))["agentId"].to_string())
        .collect();
    ids.push(client.register(&machine(Some("acme"), "other"))["agentId"].to_string());
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4);
}

#[test]
fn without_an_identity_every_registration_is_a_new_agent() {
    let server = Launch::either().start();
    let mut client = server.client();
    let (first, first_token) = client.enrol("same");
    let (second, second_token) = client.enrol("same");
    assert_ne!(first, second);
    assert_eq!(beats(&client, &first, &first_token), 200);
    assert_eq!(beats(&client, &second, &second_token), 200);
}

#[test]
fn an_identity_is_remembered_across_a_restart() {
    let mut server = Launch::either().start();
    let id = server.client().register(&machine(Some("acme"), "m-1"))["agentId"].clone();
    server.kill9();
    let server = server.restart();
    assert_eq!(server.client().register(&machine(Some("acme"), "m-1"))["agentId"], id);
}

#[test]
fn a_deregistered_identity_is_free_again() {
    let server = Launch::either().env("GUARDBEAT_AUTH__OPEN_ENROLLMENT", "127.0.0.1/32").start();
    let mut anonymous = server.anonymous();
    let first = anonymous.register(&machine(None, "m-1"));
    server.client().delete(&format!("/api/agents/{}", first["agentId"].as_str().unwrap())).data(200);
    let second = anonymous.register(&machine(None, "m-1"));
    assert_eq!(second["data"]["status"], "online");
}

#[test]
fn an_enrolment_without_a_token_never_takes_over_a_machine() {
    let server = Launch::either().env("GUARDBEAT_AUTH__OPEN_ENROLLMENT", "127.0.0.1/32").start();
    let mut client = server.client();
    let enrolled = client.register(&machine(Some("acme"), "m-1"));
    let (id, token) = (enrolled["agentId"].as_str().unwrap(), enrolled["token"].as_str().unwrap());
    let mut body = machine(Some("acme"), "m-1");
    body["hostname"] = json!("taken-over");
    server.anonymous().post("/api/agents/register", &body).error(409);
    assert_eq!(client.get(&format!("/api/agents/{id}")).data(200)["hostname"], "h");
    assert_eq!(beats(&client, id, token), 200, "its token still works");
    assert_eq!(client.register(&body)["agentId"], id, "with a token it may");
}

#[test]
fn what_factories_leave_is_no_identity() {
    let server = Launch::either().start();
    let mut client = server.client();
    for placeholder in [
        "",
        "  ",
        "00000000-0000-0000-0000-000000000000",
        "03000200-0400-0500-0006-000700080009",
        "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
        "Not Settable",
        "To be filled by O.E.M.",
        "Default string",
    ] {
        let ids = [(); 2].map(|()| client.register(&machine(Some("acme"), placeholder))["agentId"].clone());
        assert_ne!(ids[0], ids[1], "{placeholder:?}");
    }
}

#[test]
fn an_identity_is_the_same_however_it_is_spaced_and_a_uuid_in_either_case() {
    let server = Launch::either().start();
    let mut client = server.client();
    let mut id = |text: &str| client.register(&machine(None, text))["agentId"].clone();
    let uuid = "4c4c4544-0044-4a10-8057-b7c04f4e3532";
    let first = id(uuid);
    for same in [uuid.to_uppercase(), format!(" {uuid}\n"), format!("\t{}", uuid.to_uppercase())] {
        assert_eq!(id(&same), first, "{same:?}");
    }
    assert_eq!(id("serial A1"), id("serial A1\r\n"));
    assert_ne!(id("serial A1"), id("serial a1"), "what is no UUID keeps its case");
}

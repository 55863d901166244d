//! Policies: published, fetched, counted as pending.

use serde_json::{Value, json};

use super::NOBODY;
use crate::support::{Client, Launch, Request, SOON, Server, is_time, keys, wait_until};

/// Publishes a policy: `data` of the answer.
pub(super) fn publish(client: &mut Client, body: Value) -> Value {
    client.post("/api/policy", body).data(201)
}

/// A policy with one rule, for everybody or for a tenant.
pub(super) fn policy(name: &str, org: Option<&str>) -> Value {
    let rule = json!({"type": "block_ip", "config": {"ip": "203.0.113.66"}});
    match org {
        Some(org) => json!({"name": name, "rules": [rule], "org_id": org}),
        None => json!({"name": name, "rules": [rule]}),
    }
}

/// Registers an agent of a tenant: its id and its token.
fn enrol_in(client: &mut Client, org: &str) -> (String, String) {
    let enrolled =
        client.register(&json!({"hostname": "h", "os": "linux", "version": "1", "org_id": org, "machine_id": "m-1"}));
    (enrolled["agentId"].as_str().unwrap().into(), enrolled["token"].as_str().unwrap().into())
}

fn pending(client: &mut Client, id: &str) -> u64 {
    client.beat(id, "{}").data(200)["pendingPolicies"].as_u64().unwrap()
}

pub(super) fn of_agent(id: &str) -> String {
    format!("/api/policy/agent/{id}")
}

fn wait_until_written(server: &Server) {
    wait_until(SOON, "everything is written", || server.metric("guardbeat_store_dirty_agents") == 0.0);
}

#[test]
fn a_published_policy_is_answered_with_what_is_kept_of_it() {
    let server = Launch::either().start();
    let mut client = server.client();
    client.enrol("h");
    enrol_in(&mut client, "acme");
    let rules = json!([
        {"type": "block_ip", "config": {"ips": ["203.0.113.66"], "minutes": 2.5}},
        {"type": "custom", "config": {}, "enabled": false},
    ]);
    let kept = json!([
        {"type": "block_ip", "config": {"ips": ["203.0.113.66"], "minutes": 2.5}, "enabled": true},
        {"type": "custom", "config": {}, "enabled": false},
    ]);
    let data = publish(&mut client, json!({"name": "baseline", "rules": rules}));
    assert_eq!(keys(&data), ["broadcastedTo", "createdAt", "id", "name", "rules", "version"]);
    let digits = data["id"].as_str().unwrap().strip_prefix("pol_").unwrap();
    assert!(digits.len() == 16 && digits.bytes().all(|b| b"0123456789abcdef".contains(&b)), "{data}");
    assert_eq!((&data["name"], &data["version"], &data["rules"]), (&json!("baseline"), &json!("v1"), &kept));
    assert_eq!(data["broadcastedTo"], 2);
    assert!(is_time(&data["createdAt"]), "{data}");
    let tenants = json!({"name": "second", "description": "for\nacme", "organizationId": "acme", "rules": []});
    let data = publish(&mut client, tenants);
    assert_eq!(keys(&data), ["broadcastedTo", "createdAt", "description", "id", "name", "org_id", "rules", "version"]);
    assert_eq!((&data["version"], &data["broadcastedTo"]), (&json!("v2"), &json!(1)));
    assert_eq!((&data["org_id"], &data["description"]), (&json!("acme"), &json!("for\nacme")));
    assert_eq!(server.metric("guardbeat_policy_version"), 2.0);
}

#[test]
fn the_active_policy_is_the_newest_of_all_or_of_what_concerns_a_tenant() {
    let server = Launch::either().start();
    let mut client = server.client();
    assert_eq!(client.get("/api/policy/active").data(200), Value::Null);
    assert_eq!(client.get("/api/policy/active?org_id=acme").data(200), Value::Null);
    let mut published = Vec::new();
    for org in [None, Some("acme"), None, Some("bolt")] {
        let mut data = publish(&mut client, policy("p", org));
        data.as_object_mut().unwrap().remove("broadcastedTo");
        published.push(data);
    }
    let mut active = |query: &str| client.get(&format!("/api/policy/active{query}")).data(200);
    assert_eq!(active(""), published[3]);
    assert_eq!(active("?org_id=bolt"), published[3]);
    assert_eq!(active("?org_id=acme"), published[2], "the global one is newer");
    assert_eq!(active("?org_id=nobody"), published[2]);
    assert_eq!(client.get("/api/policy/active?org_id=a&org_id=b").error(400), "org_id is given twice");
    for wrong in ["", &"a".repeat(65)] {
        let error = client.get(&format!("/api/policy/active?org_id={wrong}")).error(400);
        assert!(error.starts_with("org_id must be "), "{error}");
    }
}

#[test]
fn what_is_pending_is_counted_until_it_is_fetched() {
    let server = Launch::either().start();
    let mut client = server.client();
    let (global, _) = client.enrol("h");
    let (acme, token) = enrol_in(&mut client, "acme");
    assert_eq!((pending(&mut client, &global), pending(&mut client, &acme)), (0, 0));
    for org in [None, Some("acme"), Some("bolt"), None] {
        publish(&mut client, policy("p", org));
    }
    assert_eq!((pending(&mut client, &global), pending(&mut client, &acme)), (2, 3));
    let (late, _) = client.enrol("late");
    assert_eq!(pending(&mut client, &late), 2, "who joins has fetched none of them");

    let data = server.anonymous().with_token(&token).get(&of_agent(&acme)).data(200);
    assert_eq!(keys(&data), ["agentId", "appliedAt", "policyVersion", "rules"]);
    assert_eq!((&data["agentId"], &data["policyVersion"]), (&json!(acme), &json!("v2")), "its tenant's over global");
    assert_eq!(data["rules"], json!([{"type": "block_ip", "config": {"ip": "203.0.113.66"}, "enabled": true}]));
    assert!(is_time(&data["appliedAt"]), "{data}");
    assert_eq!((pending(&mut client, &global), pending(&mut client, &acme)), (2, 0));
    // The administrator may fetch it as well.
    assert_eq!(client.get(&of_agent(&global)).data(200)["policyVersion"], "v4");
    assert_eq!(pending(&mut client, &global), 0);
    publish(&mut client, policy("p", None));
    assert_eq!((pending(&mut client, &global), pending(&mut client, &acme)), (1, 1));
    let shown = |client: &mut Client, id: &str| client.get(&format!("/api/agents/{id}")).data(200);
    assert_eq!(shown(&mut client, &acme)["activePolicyVersion"], "v2");
    assert_eq!(shown(&mut client, &global)["activePolicyVersion"], "v5");
    assert_eq!(server.metric("guardbeat_policy_fetches_total"), 2.0);
}

#[test]
fn a_policy_that_has_not_changed_is_304_and_counts_as_fetched() {
    let server = Launch::either().start();
    let mut client = server.client();
    let (id, _) = enrol_in(&mut client, "acme");
    let fetch = |known: &str| Request::new("GET", of_agent(&id)).header("If-None-Match", known);
    let nothing = client.get(&of_agent(&id));
    assert_eq!(nothing.data(200), json!({"agentId": id, "policyVersion": null, "rules": [], "appliedAt": null}));
    let none = nothing.header("etag").unwrap().to_owned();
    assert_eq!(client.send(&fetch(&none)).status, 304);

    publish(&mut client, policy("p", Some("acme")));
    let first = client.send(&fetch(&none));
    assert_eq!(first.data(200)["policyVersion"], "v1");
    let etag = first.header("etag").unwrap().to_owned();
    assert!(etag.starts_with('"') && etag != none, "a strong tag: {etag}");
    // In its scope, but not for it.
    publish(&mut client, policy("p", None));
    for known in [&*etag, &format!("W/{etag}"), &format!("\"x\", {etag}"), "*"] {
        let unchanged = client.send(&fetch(known));
        assert_eq!((unchanged.status, unchanged.body.len()), (304, 0), "{known}");
        assert_eq!(unchanged.header("etag"), Some(&*etag));
        assert_eq!(unchanged.header("content-type"), None);
        assert_eq!(pending(&mut client, &id), 0, "{known}");
    }
    assert_eq!(client.get(&of_agent(&id)).data(200), first.data(200), "what has the same tag is the same");
    publish(&mut client, policy("p", Some("acme")));
    assert_eq!(client.send(&fetch(&etag)).data(200)["policyVersion"], "v3");
}

#[test]
fn head_hands_nothing_over_and_clears_nothing() {
    let server = Launch::either().start();
    let mut client = server.client();
    let (id, token) = client.enrol("h");
    publish(&mut client, policy("p", None));
    let mut agent = server.anonymous().with_token(&token);
    for path in [of_agent(&id), "/api/rules/latest".into()] {
        assert_eq!(agent.send(&Request::new("HEAD", path)).status, 200);
    }
    assert_eq!(client.send(&Request::new("HEAD", "/api/policy/active")).status, 200);
    assert_eq!(pending(&mut client, &id), 1);
}

#[test]
fn the_published_client_gets_its_enabled_rules_as_strings() {
    let server = Launch::either().start();
    let mut client = server.client();
    let (id, token) = enrol_in(&mut client, "acme");
    let mut agent = server.anonymous().with_token(&token);
    let latest = Request::new("GET", "/api/rules/latest").header("Content-Type", "application/json");
    let reply = agent.send(&latest);
    assert_eq!(reply.data(200), json!({"agentId": id, "policyVersion": null}));
    assert_eq!(reply.json()["rules"], json!([]));
    let rules = json!([{"type": "block_ip", "config": {"ip": "203.0.113.66"}}, {"type": "custom", "config": {}, "enabled": false}]);
    publish(&mut client, json!({"name": "p", "org_id": "acme", "rules": rules}));
    publish(&mut client, policy("p", None));
    assert_eq!(pending(&mut client, &id), 2);
    let reply = agent.send(&latest);
    assert_eq!(reply.data(200), json!({"agentId": id, "policyVersion": "v1"}));
    let rule = r#"{"type":"block_ip","config":{"ip":"203.0.113.66"},"enabled":true}"#;
    assert_eq!(reply.json()["rules"], json!([rule]));
    assert_eq!(pending(&mut client, &id), 0, "that is fetching, too");
    let to_admin = client.send(&latest);
    assert_eq!(to_admin.data(200), json!({"agentId": null, "policyVersion": "v2"}), "the newest global one");
    assert_eq!(to_admin.json()["rules"], json!([rule]));
}

#[test]
fn who_may_not_is_refused() {
    let server = Launch::either().start();
    let mut client = server.client();
    let (id, token) = client.enrol("h");
    let (other, _) = client.enrol("other");
    publish(&mut client, policy("p", None));
    let good = policy("p", None).to_string();
    let everything = |id: &str| {
        [
            Request::new("POST", "/api/policy").json(good.clone()),
            Request::new("POST", "/api/policy").body("x".repeat(2 << 20)),
            Request::new("GET", "/api/policy/active"),
            Request::new("GET", of_agent(id)),
        ]
    };
    let mut agent = server.anonymous().with_token(&token);
    for request in everything(&other)
        .into_iter()
        .chain([Request::new("GET", of_agent(NOBODY)), Request::new("GET", of_agent("x"))])
    {
        server.anonymous().send(&request).error(401);
        server.anonymous().with_token("wrong").send(&request).error(401);
        agent.send(&request).error(403);
    }
    server.anonymous().get("/api/rules/latest").error(401);
    server.anonymous().with_token("wrong").get("/api/rules/latest").error(401);
    assert_eq!(pending(&mut client, &other), 1, "who was refused has not fetched");
    for nobody in [NOBODY, "x", "%00"] {
        assert_eq!(client.get(&of_agent(nobody)).error(404), "Agent not found");
    }
    client.delete(&format!("/api/agents/{id}")).data(200);
    for path in [of_agent(&id), "/api/rules/latest".into()] {
        assert_eq!(agent.get(&path).error(401), "Unauthorized", "its token is nobody's");
    }
    assert_eq!(client.get(&of_agent(&id)).error(404), "Agent not found");
    for (method, path, allow) in [
        ("GET", "/api/policy".into(), "POST"),
        ("POST", "/api/policy/active".into(), "GET, HEAD"),
        ("DELETE", of_agent(&other), "GET, HEAD"),
        ("POST", "/api/rules/latest".into(), "GET, HEAD"),
    ] {
        let request = Request::new(method, path);
        server.anonymous().send(&request).error(401);
        let reply = client.send(&request);
        reply.error(405);
        assert_eq!(reply.header("allow"), Some(allow));
    }
    assert_eq!(server.metric("guardbeat_policy_version"), 1.0);
}

#[test]
fn policies_and_what_was_fetched_of_them_outlive_a_shutdown_and_a_crash() {
    for crash in [false, true] {
        let mut server = Launch::either().start();
        let mut client = server.client();
        let (never, _) = client.enrol("never beats");
        let (acme, token) = enrol_in(&mut client, "acme");
        for org in [None, Some("acme"), None] {
            publish(&mut client, policy("p", org));
        }
        let before = client.get(&of_agent(&acme)).data(200);
        client.get(&of_agent(&never)).data(200);
        let show = |client: &mut Client| client.get(&format!("/api/agents/{never}")).data(200);
        let shown = show(&mut client);
        assert_eq!(shown["lastHeartbeat"], shown["registeredAt"], "fetching is no heartbeat");
        wait_until_written(&server);
        // Durable as soon as it is answered.
        publish(&mut client, policy("p", Some("acme")));
        let active = client.get("/api/policy/active").data(200);
        if crash {
            server.kill9();
        } else {
            assert!(server.terminate().success());
        }
        let server = server.restart();
        let mut client = server.client();
        assert_eq!(show(&mut client), shown);
        assert_eq!((pending(&mut client, &acme), pending(&mut client, &never)), (1, 0));
        assert_eq!(client.get("/api/policy/active").data(200), active);
        let after = server.anonymous().with_token(&token).get(&of_agent(&acme)).data(200);
        assert_eq!((&before["policyVersion"], &after["policyVersion"]), (&json!("v2"), &json!("v4")));
        assert_eq!(publish(&mut client, policy("p", None))["version"], "v5");
        assert_eq!((pending(&mut client, &acme), pending(&mut client, &never)), (1, 1));
    }
}

#[test]
fn an_agent_that_registers_again_has_seen_what_it_had_seen() {
    let mut server = Launch::either().start();
    let mut client = server.client();
    let (id, _) = enrol_in(&mut client, "acme");
    publish(&mut client, policy("p", None));
    client.get(&of_agent(&id)).data(200);
    publish(&mut client, policy("p", Some("acme")));
    let (again, _) = enrol_in(&mut client, "acme");
    assert_eq!((&again, pending(&mut client, &id)), (&id, 1));
    assert!(server.terminate().success());
    let server = server.restart();
    assert_eq!(pending(&mut server.client(), &id), 1);
}

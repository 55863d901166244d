//! One agent: shown, deregistered, and acting for itself.

use serde_json::{Value, json};

use super::NOBODY;
use crate::support::{Launch, Request, keys};

#[test]
fn an_agent_alone_is_shown_with_what_it_has_not_reported_as_null() {
    let server = Launch::either().start();
    let mut client = server.client();
    let (id, _) = client.enrol("h");
    let shown = client.get(&format!("/api/agents/{id}")).data(200);
    assert_eq!(
        keys(&shown),
        [
            "activePolicyVersion",
            "cpu",
            "hostname",
            "id",
            "ip",
            "lastHeartbeat",
            "memory",
            "os",
            "recentThreats",
            "registeredAt",
            "status",
            "tags",
            "uptime",
            "version"
        ]
    );
    for name in ["cpu", "memory", "uptime", "activePolicyVersion"] {
        assert_eq!(shown[name], Value::Null, "{name}");
    }
    assert_eq!(shown["recentThreats"], 0);
    assert_eq!(shown["lastHeartbeat"], shown["registeredAt"], "it has not beaten yet");
    client.beat(&id, json!({"cpu": 23.5, "memory": 61, "uptime": 86_400})).data(200);
    let shown = client.get(&format!("/api/agents/{id}")).data(200);
    assert_eq!((&shown["cpu"], &shown["memory"], &shown["uptime"]), (&json!(23.5), &json!(61), &json!(86_400)));
}

#[test]
fn an_agent_with_a_tenant_is_shown_with_it() {
    let server = Launch::either().start();
    let mut client = server.client();
    let body = json!({"hostname": "h", "os": "linux", "version": "1", "org_id": "acme", "tags": ["b", "a"]});
    let id = client.register(&body)["agentId"].as_str().unwrap().to_owned();
    let shown = client.get(&format!("/api/agents/{id}")).data(200);
    assert_eq!(shown["org_id"], "acme");
    assert_eq!(shown["tags"], json!(["b", "a"]));
}

#[test]
fn nobody_is_404() {
    let server = Launch::either().start();
    let mut client = server.client();
    for id in [NOBODY, "agent-", "agent-00F3A1B2C3D4E5F6", "x", "%20", "agent-0000000000000000%00", "%ff", "%C3%A4"] {
        let path = format!("/api/agents/{id}");
        assert_eq!(client.get(&path).error(404), "Agent not found", "{id}");
        assert_eq!(client.delete(&path).error(404), "Agent not found", "{id}");
    }
}

#[test]
fn a_deregistered_agent_is_gone() {
    let server = Launch::either().start();
    let mut client = server.client();
    let (id, token) = client.enrol("h");
    let (other, _) = client.enrol("other");
    let path = format!("/api/agents/{id}");
    let reply = client.delete(&path);
    assert_eq!(reply.data(200), json!({"message": format!("Agent {id} deregistered successfully")}));
    assert_eq!(keys(&reply.json()), ["data", "ok"]);
    assert_eq!(client.delete(&path).error(404), "Agent not found");
    assert_eq!(client.get(&path).error(404), "Agent not found");
    assert_eq!(client.beat(&id, "{}").error(404), "Agent not found");
    let mut agent = client.with_token(&token);
    for request in [
        Request::new("POST", format!("{path}/heartbeat")).json("{}"),
        Request::new("GET", path.clone()),
        Request::new("DELETE", path.clone()),
    ] {
        assert_eq!(agent.send(&request).error(401), "Unauthorized", "its token is nobody's");
    }
    let rest = client.get("/api/agents").data(200);
    assert_eq!(rest.as_array().unwrap().iter().map(|agent| &agent["id"]).collect::<Vec<_>>(), [&json!(other)]);
    assert_eq!(client.get("/health").data(200)["agents"]["total"], 1);
}

#[test]
fn an_agent_may_act_for_itself() {
    let server = Launch::either().start();
    let (id, token) = server.client().enrol("h");
    let mut agent = server.anonymous().with_token(&token);
    agent.beat(&id, json!({"cpu": 5})).data(200);
    assert_eq!(agent.get(&format!("/api/agents/{id}")).data(200)["cpu"], 5);
    agent.delete(&format!("/api/agents/{id}")).data(200);
    assert_eq!(agent.beat(&id, "{}").error(401), "Unauthorized");
}

#[test]
fn an_agent_may_do_nothing_else() {
    let server = Launch::either().start();
    let mut client = server.client();
    let (_, token) = client.enrol("h");
    let (other, _) = client.enrol("other");
    let mut agent = server.anonymous().with_token(&token);
    let registration = json!({"hostname": "h", "os": "linux", "version": "1"}).to_string();
    for id in [&*other, NOBODY, "x"] {
        for request in [
            Request::new("POST", format!("/api/agents/{id}/heartbeat")).json("{}"),
            Request::new("GET", format!("/api/agents/{id}")),
            Request::new("DELETE", format!("/api/agents/{id}")),
        ] {
            agent.send(&request).error(403);
        }
    }
    agent.get("/api/agents").error(403);
    agent.get("/api/agents?limit=1").error(403);
    agent.get("/metrics").error(403);
    agent.post("/api/agents/register", registration).error(403);
    assert_eq!(client.get("/health").data(200)["agents"]["total"], 2);
}

#[test]
fn health_needs_no_token_and_counts_the_fleet() {
    let server = Launch::either().start();
    let data = server.anonymous().get("/health").data(200);
    assert_eq!(keys(&data), ["agents", "status", "uptime", "version"]);
    assert_eq!(data["status"], "healthy");
    assert_eq!(data["version"], env!("CARGO_PKG_VERSION"));
    assert!(data["uptime"].is_u64());
    assert_eq!(data["agents"], json!({"total": 0, "online": 0}));
    server.client().enrol("h");
    assert_eq!(server.anonymous().get("/health").data(200)["agents"], json!({"total": 1, "online": 1}));
}

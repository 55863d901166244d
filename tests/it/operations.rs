//! The operations listener, and `/metrics` on the main one.

use serde_json::json;

use crate::support::{Client, Launch, SOON, Server, expect::metric, wait_until};

fn metrics(server: &Server) -> String {
    let reply = server.operations().get("/metrics");
    assert_eq!(reply.status, 200);
    assert!(reply.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")), "{reply:?}");
    reply.text().to_owned()
}

fn populate(client: &mut Client) -> Vec<(String, String)> {
    let agent = |os: &str, version: &str, org: Option<&str>| json!({"hostname": "h", "os": os, "version": version, "org_id": org});
    let bodies = [
        agent("linux", "1.0", Some("acme")),
        agent("linux", "1.1", Some("acme")),
        agent("darwin", "1.1", None),
        agent("win\"32\\", "1.1", Some("globex")),
    ];
    bodies
        .iter()
        .map(|body| client.register(body))
        .map(|enrolled| (enrolled["agentId"].as_str().unwrap().into(), enrolled["token"].as_str().unwrap().into()))
        .collect()
}

#[test]
fn the_metrics_tell_of_the_fleet_and_of_what_was_done() {
    let server = Launch::plain().start();
    let mut client = server.client();
    let agents = populate(&mut client);
    let (first, _) = &agents[0];
    for _ in 0..3 {
        client.beat(first, json!({"cpu": 1})).data(200);
    }
    client.beat(first, json!({"cpu": -1})).error(400);
    client.beat("agent-0000000000000000", "{}").error(404);
    server.anonymous().beat(first, "{}").error(401);
    client.with_token(&agents[1].1).beat(first, "{}").error(403);
    client.delete(&format!("/api/agents/{}", agents[2].0)).data(200);

    let text = metrics(&server);
    for (series, expected) in [
        (r#"guardbeat_agents{status="online"}"#, 3.0),
        (r#"guardbeat_agents{status="stale"}"#, 0.0),
        (r#"guardbeat_agents{status="offline"}"#, 0.0),
        ("guardbeat_registrations_total", 4.0),
        ("guardbeat_deregistrations_total", 1.0),
        (r#"guardbeat_heartbeats_total{result="accepted"}"#, 3.0),
        (r#"guardbeat_heartbeats_total{result="invalid"}"#, 1.0),
        (r#"guardbeat_heartbeats_total{result="unknown_agent"}"#, 1.0),
        (r#"guardbeat_heartbeats_total{result="refused"}"#, 2.0),
        (r#"guardbeat_agents_by_os{os="linux"}"#, 2.0),
        (r#"guardbeat_agents_by_os{os="win\"32\\"}"#, 1.0),
        (r#"guardbeat_agents_by_os{os="other"}"#, 0.0),
        (r#"guardbeat_agents_by_version{version="1.0"}"#, 1.0),
        (r#"guardbeat_agents_by_version{version="1.1"}"#, 2.0),
        (r#"guardbeat_agents_by_version{version="other"}"#, 0.0),
        (r#"guardbeat_agents_by_org{org="acme"}"#, 2.0),
        (r#"guardbeat_agents_by_org{org="globex"}"#, 1.0),
        (r#"guardbeat_agents_by_org{org="other"}"#, 0.0),
        ("guardbeat_actor_respawns_total", 0.0),
        ("guardbeat_heartbeat_latency_seconds_count", 7.0),
        (r#"guardbeat_heartbeat_latency_seconds_bucket{le="+Inf"}"#, 7.0),
    ] {
        assert_eq!(metric(&text, series), Some(expected), "{series}\n{text}");
    }
    let build = format!(r#"guardbeat_build_info{{version="{}"}}"#, env!("CARGO_PKG_VERSION"));
    assert_eq!(metric(&text, &build), Some(1.0));
    for series in ["process_cpu_seconds_total", "process_resident_memory_bytes", "guardbeat_uptime_seconds"] {
        assert!(metric(&text, series).is_some(), "{series}\n{text}");
    }
    for counter in ["process_cpu_seconds_total", "guardbeat_paused_seconds_total", "guardbeat_log_dropped_total"] {
        assert!(text.contains(&format!("# TYPE {counter} counter\n")), "{counter}\n{text}");
    }
    wait_until(SOON, "fractions of seconds", || server.metric("process_cpu_seconds_total").fract() > 0.0);
    assert!(metric(&text, "process_resident_memory_bytes").is_some_and(|bytes| bytes > 1e6));
    for series in ["guardbeat_store_dirty_agents", "guardbeat_detection_lag_seconds", "guardbeat_store_flush_seconds"] {
        assert!(text.contains(&format!("# HELP {series} ")), "{series}\n{text}");
        assert!(text.contains(&format!("# TYPE {series} ")), "{series}\n{text}");
    }
    assert!(!text.contains("agent-"), "no agent is named: {text}");
    for (id, token) in &agents {
        assert!(!text.contains(id.trim_start_matches("agent-")) && !text.contains(&**token));
    }
}

#[test]
fn transitions_and_their_detection_are_counted() {
    let server = Launch::plain()
        .env("MANAGER_HEARTBEAT_TIMEOUT_MS", "100")
        .env("GUARDBEAT_LIVENESS__GRACE_MS", "50")
        .env("GUARDBEAT_LIVENESS__OFFLINE_AFTER_MS", "400")
        .start();
    let mut client = server.client();
    let (id, _) = client.enrol("h");
    let transitions = |from: &str, to: &str| {
        metric(&metrics(&server), &format!(r#"guardbeat_transitions_total{{from="{from}",to="{to}"}}"#)).unwrap_or(0.0)
    };
    wait_until(SOON, "online to stale to offline", || {
        transitions("online", "stale") == 1.0 && transitions("stale", "offline") == 1.0
    });
    let text = metrics(&server);
    assert_eq!(metric(&text, r#"guardbeat_agents{status="offline"}"#), Some(1.0));
    assert_eq!(metric(&text, r#"guardbeat_agents{status="online"}"#), Some(0.0));
    assert!(metric(&text, "guardbeat_detection_lag_seconds_count").is_some_and(|count| count >= 1.0), "{text}");
    client.beat(&id, "{}").data(200);
    assert_eq!(transitions("offline", "online"), 1.0);
    wait_until(SOON, "a flush", || {
        let text = metrics(&server);
        metric(&text, "guardbeat_store_flush_seconds_count").is_some_and(|flushes| flushes >= 1.0)
            && metric(&text, "guardbeat_store_dirty_agents") == Some(0.0)
    });
}

#[test]
fn labels_that_clients_choose_are_bounded() {
    let server = Launch::plain().start();
    let mut client = server.client();
    for n in 0..50 {
        let agents = if n < 5 { 2 } else { 1 };
        for _ in 0..agents {
            client.register(&json!({"hostname": "h", "os": format!("os-{n}"), "version": format!("v-{n}"),
                                    "org_id": format!("org-{n}")}));
        }
    }
    let text = metrics(&server);
    for (name, label) in [("os", "os"), ("version", "v"), ("org", "org")] {
        let series: Vec<_> =
            text.lines().filter(|line| line.starts_with(&format!("guardbeat_agents_by_{name}{{"))).collect();
        assert_eq!(series.len(), 21, "{series:#?}");
        for n in 0..5 {
            let top = format!(r#"guardbeat_agents_by_{name}{{{name}="{label}-{n}"}}"#);
            assert_eq!(metric(&text, &top), Some(2.0), "{top}");
        }
        let other = format!(r#"guardbeat_agents_by_{name}{{{name}="other"}}"#);
        assert_eq!(metric(&text, &other), Some(30.0), "{other}");
    }
}

#[test]
fn the_main_listener_serves_metrics_to_the_administrator_alone() {
    let server = Launch::plain().start();
    let (_, token) = server.client().enrol("h");
    let reply = server.client().get("/metrics");
    assert_eq!(reply.status, 200);
    assert_eq!(metric(reply.text(), r#"guardbeat_agents{status="online"}"#), Some(1.0));
    let refused = server.anonymous().get("/metrics");
    assert_eq!(refused.error(401), "Unauthorized");
    assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
    server.anonymous().with_token("wrong-token").get("/metrics").error(401);
    server.anonymous().with_token(&token).get("/metrics").error(403);
}

#[test]
fn a_running_server_is_alive_and_ready() {
    let server = Launch::plain().start();
    let mut client = server.operations();
    client.get("/livez").data(200);
    client.get("/readyz").data(200);
    client.post("/livez", "{}").error(405);
    client.get("/nothing").error(404);
    client.get("/api/agents").error(404);
    server.anonymous().get("/livez").error(404);
}

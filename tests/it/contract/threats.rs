//! Threats: reported, found again, summed up.

use serde_json::{Value, json};

use super::NOBODY;
use crate::support::{Client, Launch, Request, Server, is_time, keys};

fn events_of(id: &str) -> String {
    format!("/api/agents/{id}/events")
}

fn event(kind: &str, severity: &str) -> Value {
    json!({"type": kind, "severity": severity, "details": {"sourceIP": "203.0.113.9"}})
}

/// Reports events: their ids.
fn report(client: &mut Client, id: &str, events: &[Value]) -> Vec<String> {
    let data = client.post(&events_of(id), json!({ "events": events })).data(201);
    assert_eq!(data["received"], events.len());
    data["eventIds"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect()
}

fn found(client: &mut Client, query: &str) -> Vec<Value> {
    client.get(&format!("/api/threats?{query}")).data(200).as_array().unwrap().clone()
}

fn ids(threats: &[Value]) -> Vec<&str> {
    threats.iter().map(|threat| threat["id"].as_str().unwrap()).collect()
}

fn enrol_in(client: &mut Client, hostname: &str, org: Option<&str>) -> (String, String) {
    let mut agent = json!({"hostname": hostname, "os": "linux", "version": "1"});
    if let Some(org) = org {
        agent["org_id"] = org.into();
    }
    let enrolled = client.register(&agent);
    (enrolled["agentId"].as_str().unwrap().into(), enrolled["token"].as_str().unwrap().into())
}

fn recent(client: &mut Client, id: &str) -> Value {
    client.get(&format!("/api/agents/{id}")).data(200)["recentThreats"].clone()
}

#[test]
fn a_report_is_answered_with_ids_and_is_found_the_newest_first() {
    let server = Launch::either().start();
    let mut client = server.client();
    let (id, token) = enrol_in(&mut client, "web-1", Some("acme"));
    let mut agent = server.anonymous().with_token(&token);
    let full = json!({
        "type": "brute_force", "severity": "high", "details": {"b": 1, "a": [1.50, null]}, "confidence": 0.75,
        "ruleId": "r-7", "timestamp": "2026-03-07T13:05:00+01:00", "unknown": true,
    });
    let mut given = report(&mut agent, &id, &[full, event("port_scan", "low")]);
    given.extend(report(&mut agent, &id, &[event("port_scan", "critical")]));
    for id in &given {
        let digits = id.strip_prefix("evt_").unwrap();
        assert!(digits.len() == 16 && digits.bytes().all(|b| b"0123456789abcdef".contains(&b)), "{id}");
    }
    let threats = found(&mut client, "");
    given.reverse();
    assert_eq!(ids(&threats), given);
    let bare = &threats[0];
    assert_eq!(
        keys(bare),
        ["agentId", "confidence", "details", "hostname", "id", "org_id", "severity", "timestamp", "type"]
    );
    assert_eq!((&bare["confidence"], &bare["details"]), (&Value::Null, &json!({"sourceIP": "203.0.113.9"})));
    let full = &threats[2];
    for (field, value) in [
        ("agentId", json!(id)),
        ("hostname", json!("web-1")),
        ("org_id", json!("acme")),
        ("type", json!("brute_force")),
        ("severity", json!("high")),
        ("confidence", json!(0.75)),
        ("details", json!({"a": [1.5, null], "b": 1})),
        ("ruleId", json!("r-7")),
        ("occurredAt", json!("2026-03-07T12:05:00.000Z")),
    ] {
        assert_eq!(full[field], value, "{field}");
    }
    assert!(is_time(&full["timestamp"]), "{full}");
    assert_eq!(recent(&mut client, &id), 3);
}

#[test]
fn what_the_published_client_sends_is_one_threat() {
    let server = Launch::either().start();
    let mut client = server.client();
    let (id, token) = enrol_in(&mut client, "web-1", None);
    let body = json!({
        "event": {"id": "e-1", "timestamp": "2026-03-07T12:05:00.000Z", "source": "network", "severity": "critical",
            "category": "malware", "description": "d", "raw": {"x": 1}, "host": "web-1",
            "metadata": {"sourceIP": "198.51.100.7"}},
        "verdict": {"conclusion": "malicious", "confidence": 90, "action": "block_ip"},
    });
    let data = server.anonymous().with_token(&token).post(&events_of(&id), body).data(201);
    assert_eq!((&data["received"], data["eventIds"].as_array().unwrap().len()), (&json!(1), 1));
    let threats = found(&mut client, "");
    assert_eq!(threats.len(), 1);
    let threat = &threats[0];
    assert_eq!((&threat["type"], &threat["severity"]), (&json!("malware"), &json!("critical")));
    assert_eq!(threat["confidence"], 0.9);
    assert_eq!(threat["details"]["verdict"], json!({"conclusion": "malicious", "action": "block_ip"}));
    assert_eq!((&threat["details"]["description"], &threat["details"]["category"]), (&json!("d"), &Value::Null));
    let summary = client.get("/api/threats/summary").data(200);
    assert_eq!(summary["topSourceIps"], json!([{"ip": "198.51.100.7", "count": 1}]));
}

#[test]
fn a_report_is_taken_whole_or_not_at_all_and_the_error_names_what_is_wrong() {
    let server = Launch::either().start();
    let mut client = server.client();
    let (id, _) = enrol_in(&mut client, "web-1", None);
    let good = event("t", "low");
    let many = vec![good.clone(); 101];
    for (body, error) in [
        (json!({}), "Missing required field: events"),
        (json!({"events": null}), "Missing required field: events"),
        (json!({"events": []}), "events must be an array of 1 to 100 objects"),
        (json!({"events": many}), "events must be an array of 1 to 100 objects"),
        (json!({"events": {}}), "events must be an array of 1 to 100 objects"),
        (json!({"events": [good, 5]}), "events[1]: The event must be a JSON object"),
        (json!({"events": [good, {}]}), "events[1]: Missing required fields: type, severity, details"),
        (
            json!({"events": [{"type": 5, "severity": "low", "details": {}}]}),
            "events[0]: type must be a string of 1 to 128 characters",
        ),
        (
            json!({"events": [good, {"type": "t", "severity": "worst", "details": {}}]}),
            "events[1]: severity must be low, medium, high or critical",
        ),
        (
            json!({"events": [{"type": "t", "severity": "low", "details": "d"}]}),
            "events[0]: details must be an object of at most 65536 bytes that can be read as JSON",
        ),
        (
            json!({"events": [{"type": "t", "severity": "low", "details": {}, "confidence": 2}]}),
            "events[0]: confidence must be a number from 0 to 1",
        ),
        (
            json!({"events": [{"type": "t", "severity": "low", "details": {}, "timestamp": 5}]}),
            "events[0]: timestamp must be a time such as 2026-03-07T12:05:00Z",
        ),
        (json!({"events": [good], "event": {}}), "events and event cannot be given together"),
        (json!({"event": {"severity": "low"}}), "Missing required field: event.category"),
        (json!({"event": 5}), "event must be an object"),
    ] {
        assert_eq!(client.post(&events_of(&id), body).error(400), error);
    }
    assert_eq!(found(&mut client, ""), Vec::<Value>::new());
    assert_eq!(recent(&mut client, &id), 0);
    // As many as may be, as large as may be.
    let large = json!({"type": "t".repeat(128), "severity": "low", "details": {"a": "x".repeat(9_000)}});
    assert_eq!(report(&mut client, &id, &vec![large.clone(); 100]).len(), 100);
    let body =
        json!({"events": vec![json!({"type": "t", "severity": "low", "details": {"a": "x".repeat(11_000)}}); 100]});
    assert_eq!(client.post(&events_of(&id), body).status, 413);
}

#[test]
fn who_may_report_and_who_may_read() {
    let server = Launch::either().start();
    let mut client = server.client();
    let (id, token) = enrol_in(&mut client, "web-1", None);
    let (other, _) = enrol_in(&mut client, "web-2", None);
    let body = || json!({"events": [event("t", "low")]});
    let mut agent = server.anonymous().with_token(&token);
    assert_eq!(server.anonymous().post(&events_of(&id), body()).status, 401);
    assert_eq!(agent.post(&events_of(&other), body()).status, 403);
    assert_eq!(agent.post(&events_of(NOBODY), body()).status, 403);
    assert_eq!(client.post(&events_of(NOBODY), body()).error(404), "Agent not found");
    assert_eq!(client.post(&events_of("nonsense"), body()).error(404), "Agent not found");
    assert_eq!(client.post(&events_of(&id), body()).status, 201);
    for path in ["/api/threats", "/api/threats/summary", "/api/overview"] {
        assert_eq!(server.anonymous().get(path).status, 401, "{path}");
        assert_eq!(agent.get(path).status, 403, "{path}");
        assert_eq!(client.send(&Request::new("POST", path)).header("allow"), Some("GET, HEAD"), "{path}");
    }
    let wrong = client.send(&Request::new("GET", events_of(&id)));
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("POST")));
    let text = Request::new("POST", events_of(&id)).header("Content-Type", "text/plain").body(body().to_string());
    assert_eq!(client.send(&text).status, 415);
}

#[test]
fn threats_are_found_by_what_they_are_page_by_page() {
    let server = Launch::either().start();
    let mut client = server.client();
    let (a, _) = enrol_in(&mut client, "web-1", Some("acme"));
    let (b, _) = enrol_in(&mut client, "web-2", Some("bolt"));
    let (c, _) = enrol_in(&mut client, "web-3", None);
    let severities = ["low", "medium", "high", "critical"];
    let mut all = Vec::new();
    for n in 0..60 {
        let (kind, severity) = (["scan", "brute_force", "a&b=c"][n % 3], severities[n % 4]);
        let agent = [&a, &b, &c][n % 3];
        all.extend(report(&mut client, agent, &[event(kind, severity)]));
    }
    all.reverse();
    let mut check = |query: &str, wanted: &dyn Fn(usize) -> bool| {
        let expected: Vec<_> = all.iter().enumerate().filter(|(n, _)| wanted(59 - n)).map(|(_, id)| &**id).collect();
        assert_eq!(ids(&found(&mut client, &format!("limit=200&{query}"))), expected, "{query}");
        // The same in small pages.
        let (mut paged, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = client.get(&format!("/api/threats?limit=7&{query}{cursor}")).json();
            paged.extend(page["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()));
            match page["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(paged, expected, "{query} in pages");
    };
    check("", &|_| true);
    check("severity=high", &|n| n % 4 == 2);
    check("type=a%26b%3Dc", &|n| n % 3 == 2);
    check("org_id=acme", &|n| n % 3 == 0);
    check("org_id=nobody", &|_| false);
    check(&format!("agent_id={b}"), &|n| n % 3 == 1);
    check(&format!("agent_id={b}&severity=low&org_id=bolt"), &|n| n % 3 == 1 && n % 4 == 0);
    check(&format!("agent_id={b}&org_id=acme"), &|_| false);
    check("agent_id=nonsense", &|_| false);
    check("since=2026-01-01T00:00:00Z", &|_| true);
    check("since=2126-01-01T00:00:00Z", &|_| false);
    check("since=2026-01-01T00:00:00+01:00", &|_| true);
    check("since=2026-01-01T00:00:00%2B01:00", &|_| true);
    assert_eq!(found(&mut client, "").len(), 50, "by default");
    for (query, error) in [
        ("limit=0", "limit must be a whole number from 1 to 200"),
        ("limit=201", "limit must be a whole number from 1 to 200"),
        ("agent_id=nonsense&limit=201", "limit must be a whole number from 1 to 200"),
        ("severity=bad", "severity must be low, medium, high or critical"),
        (
            "since=yesterday",
            "since must be a time such as 2026-03-07T12:05:00Z or 2026-03-07T13:05:00%2B01:00 (%2B is a plus sign)",
        ),
        ("cursor=5", "cursor must be a nextCursor of an earlier page"),
        ("org_id=", "org_id must be a string of 1 to 64 characters"),
        ("limit=5&limit=5", "limit is given twice"),
    ] {
        assert_eq!(client.get(&format!("/api/threats?{query}")).error(400), error, "{query}");
    }
}

#[test]
fn a_summary_counts_what_there_was_in_a_period() {
    let server = Launch::either().start();
    let mut client = server.client();
    let (a, _) = enrol_in(&mut client, "web-1", Some("acme"));
    let (b, _) = enrol_in(&mut client, "web-2", None);
    report(&mut client, &a, &[event("scan", "low"), event("scan", "high")]);
    report(&mut client, &b, &[event("scan", "low"), event("virus", "critical"), event("virus", "low")]);
    for period in ["1h", "6h", "24h", "7d", "30d"] {
        let data = client.get(&format!("/api/threats/summary?period={period}")).data(200);
        assert_eq!(
            data,
            json!({
                "period": period, "total": 5, "bySeverity": {"critical": 1, "high": 1, "medium": 0, "low": 3},
                "byType": {"scan": 3, "virus": 2},
                "topAgents": [{"agentId": b, "hostname": "web-2", "count": 3}, {"agentId": a, "hostname": "web-1", "count": 2}],
                "topSourceIps": [{"ip": "203.0.113.9", "count": 5}],
            })
        );
    }
    let acme = client.get("/api/threats/summary?org_id=acme").data(200);
    assert_eq!((&acme["period"], &acme["total"]), (&json!("24h"), &json!(2)));
    assert_eq!(client.get("/api/threats/summary?org_id=nobody").data(200)["total"], 0);
    for (query, error) in [
        ("period=2h", "period must be 1h, 6h, 24h, 7d or 30d"),
        ("org_id=", "org_id must be a string of 1 to 64 characters"),
    ] {
        assert_eq!(client.get(&format!("/api/threats/summary?{query}")).error(400), error);
    }
}

#[test]
fn the_overview_has_the_fleet_at_one_glance() {
    let server = Launch::either().start();
    let mut client = server.client();
    let (id, _) = enrol_in(&mut client, "web-1", None);
    enrol_in(&mut client, "web-2", None);
    let empty = client.get("/api/overview").data(200);
    assert_eq!(empty["threatSummary"]["last7d"], json!({"total": 0, "critical": 0, "high": 0, "medium": 0, "low": 0}));
    assert_eq!((&empty["activePolicyVersion"], &empty["topThreats"]), (&Value::Null, &json!([])));
    report(&mut client, &id, &[event("scan", "low"), event("virus", "high"), event("virus", "high")]);
    client.post("/api/policy", json!({"name": "p", "rules": []})).data(201);
    let overview = client.get("/api/overview").data(200);
    assert!(is_time(&overview["updatedAt"]));
    for (field, value) in [
        ("totalAgents", json!(2)),
        ("onlineAgents", json!(2)),
        ("staleAgents", json!(0)),
        ("offlineAgents", json!(0)),
        ("activePolicyVersion", json!("v1")),
        ("topThreats", json!([{"type": "virus", "count": 2}, {"type": "scan", "count": 1}])),
        ("agentsByOs", json!({"linux": 2})),
    ] {
        assert_eq!(overview[field], value, "{field}");
    }
    let figures = json!({"total": 3, "critical": 0, "high": 2, "medium": 0, "low": 1});
    assert_eq!(overview["threatSummary"], json!({"last24h": figures, "last7d": figures}));
}

/// What is known of the threats.
fn everything(server: &Server) -> (Vec<Value>, Value, Value) {
    let mut client = server.client();
    let threats = found(&mut client, "limit=200");
    let summary = client.get("/api/threats/summary?period=30d").data(200);
    (threats, summary, client.get("/api/threats/summary?org_id=acme").data(200))
}

#[test]
fn threats_outlive_their_agent_and_the_server() {
    let server = Launch::either().start();
    let mut client = server.client();
    let (a, _) = enrol_in(&mut client, "web-1", Some("acme"));
    let (b, _) = enrol_in(&mut client, "web-2", None);
    for _ in 0..5 {
        report(&mut client, &a, &[event("scan", "low"), event("virus", "high")]);
        report(&mut client, &b, &[event("scan", "medium")]);
    }
    client.delete(&format!("/api/agents/{a}")).data(200);
    let before = everything(&server);
    assert_eq!(before.0.len(), 15);
    assert_eq!(found(&mut client, &format!("agent_id={a}")).len(), 10);
    let mut server = server;
    server.kill9();
    let server = server.restart();
    assert_eq!(everything(&server), before);
    let mut client = server.client();
    assert_eq!(recent(&mut client, &b), 5);
    let newest = report(&mut client, &b, &[event("scan", "low")]);
    assert_eq!(ids(&found(&mut client, "limit=1")), newest, "later ids are greater");
}

//! What requests leave behind: counts, and lines in the log.

use serde_json::json;

use crate::support::{Launch, Reply, Request, SOON, Server, wait_until};

/// The lines of the log with all of these words, once there is one.
fn lines(server: &Server, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    wait_until(SOON, &format!("a line with {words:?}"), || {
        let log = server.log();
        found = log.lines().filter(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned).collect();
        !found.is_empty()
    });
    found
}

fn requests(server: &Server, endpoint: &str, status: u16) -> f64 {
    server.metric(&format!(r#"guardbeat_http_requests_total{{endpoint="{endpoint}",status="{status}"}}"#))
}

fn request_id(reply: &Reply) -> &str {
    reply.header("x-request-id").unwrap()
}

#[test]
fn a_refused_request_is_counted_and_told_with_who_and_why() {
    let server = Launch::plain().start();
    let mut admin = server.client();
    let (id, token) = admin.enrol("h");
    let (gone, gone_token) = admin.enrol("gone");
    admin.delete(&format!("/api/agents/{gone}")).data(200);
    let wrong_token = format!("{token}x");
    let agents = Request::new("GET", "/api/agents");
    let beat = |id: &str, body: &str| Request::new("POST", format!("/api/agents/{id}/heartbeat")).json(body);
    let register = || Request::new("POST", "/api/agents/register");
    for (token, request, endpoint, status, kind, agent) in [
        (None, beat(&id, "{}"), "heartbeat", 401, "no_token", Some(&id)),
        (Some("x"), beat(&id, "{}"), "heartbeat", 401, "malformed_token", Some(&id)),
        (Some(&*wrong_token), beat(&id, "{}"), "heartbeat", 401, "wrong_token", Some(&id)),
        (Some(&*gone_token), beat(&gone, "{}"), "heartbeat", 401, "unknown_agent", Some(&gone)),
        (Some(&*token), beat(&gone, "{}"), "heartbeat", 403, "forbidden", Some(&id)),
        (Some(&*server.token), beat(&gone, "{}"), "heartbeat", 404, "agent_not_found", Some(&gone)),
        (Some(&*server.token), beat("nobody", "{}"), "heartbeat", 404, "agent_not_found", None),
        (Some(&*token), beat(&id, r#"{"cpu":101}"#), "heartbeat", 400, "bad_request", Some(&id)),
        (
            Some(&*token),
            beat(&id, r#"{"cpu":101}"#).header("Origin", "http://x"),
            "heartbeat",
            400,
            "bad_request",
            Some(&id),
        ),
        (Some(&*token), beat(&id, &" ".repeat(70_000)), "heartbeat", 413, "body_too_large", Some(&id)),
        (Some(&*gone_token), agents.clone(), "list_agents", 401, "unknown_agent", Some(&gone)),
        (Some(&*wrong_token), agents.clone(), "list_agents", 401, "wrong_token", Some(&id)),
        (Some(&*token), agents, "list_agents", 403, "forbidden", Some(&id)),
        (Some(&*server.token), Request::new("GET", "/api/x"), "other", 404, "no_such_path", None),
        (Some(&*server.token), Request::new("PUT", "/api/agents"), "other", 405, "wrong_method", None),
        (Some(&*server.token), register().json("{"), "register", 400, "bad_request", None),
        (Some(&*server.token), register().body("{}"), "register", 415, "wrong_media_type", None),
    ] {
        let series = format!(r#"guardbeat_http_requests_total{{endpoint="{endpoint}",status="{status}"}}"#);
        let metrics = server.operations().get("/metrics");
        let before = crate::support::expect::metric(metrics.text(), &series).unwrap_or(0.0);
        let mut client = server.anonymous();
        if let Some(token) = token {
            client = client.with_token(token);
        }
        let reply = client.send(&request);
        assert_eq!(reply.status, status, "{request:?}: {reply:?}");
        assert_eq!(requests(&server, endpoint, status), before + 1.0, "{request:?}");
        let told = lines(&server, &[request_id(&reply)]);
        let [line] = &told[..] else { panic!("one line, not {told:#?}") };
        let agent = agent.map_or(String::new(), |agent| format!("agent={agent}"));
        let kind = format!("kind=\"{kind}\"");
        let (endpoint, status) = (format!("endpoint=\"{endpoint}\""), format!("status={status}"));
        for word in ["WARN", "address=127.0.0.1", "reason=", &kind, &endpoint, &status, &agent] {
            assert!(line.contains(word), "{word}: {line}");
        }
        assert_eq!(line.contains("agent="), !agent.is_empty(), "{line}");
        for secret in [token.unwrap_or("gb_"), &*server.token] {
            assert!(secret.len() < 5 || !line.contains(secret), "{line}");
        }
    }
}

#[test]
fn a_line_of_a_batch_that_is_refused_is_told_with_whose_it_says_to_be_and_why() {
    let server = Launch::plain().start();
    let mut admin = server.client();
    let (id, _) = admin.enrol("h");
    let gone = "agent-00000000000000ff";
    let batch = format!(
        "{{\"id\":\"{id}\"}}\n{{\"id\":\"{id}\",\"cpu\":101}}\n\n{{\"id\":\"{gone}\"}}\nnonsense\n{{\"id\":\"nobody\"}}\n"
    );
    let batch = Request::new("POST", "/api/heartbeats").header("Content-Type", "application/x-ndjson").body(batch);
    let reply = admin.send(&batch);
    assert_eq!(reply.data(200)["accepted"], 1);
    let id = format!("agent={id}");
    let gone = format!("agent={gone}");
    for (line, agent, reason) in [
        (2, Some(&id), "cpu must be a number from 0 to 100"),
        (4, Some(&gone), "Agent not found"),
        (5, None, "The line is not valid JSON"),
        (6, None, "Agent not found"),
    ] {
        let number = format!(" line={line} ");
        let told = lines(&server, &[request_id(&reply), &number]);
        let [told] = &told[..] else { panic!("one line, not {told:#?}") };
        for word in ["WARN", "kind=\"batch_line\"", "endpoint=\"heartbeat_batch\"", "address=127.0.0.1", reason] {
            assert!(told.contains(word), "{word}: {told}");
        }
        match agent {
            Some(agent) => assert!(told.contains(agent), "{told}"),
            None => assert!(!told.contains("agent="), "{told}"),
        }
    }
    // However many there are, the log has room for others.
    let many = Request::new("POST", "/api/heartbeats").header("Content-Type", "application/x-ndjson");
    assert_eq!(admin.send(&many.body("{}\n".repeat(5_000))).data(200)["accepted"], 0);
    let told = || server.log().lines().filter(|line| line.contains("batch_line")).count();
    wait_until(SOON, "the others are summed up", || server.log().contains("more requests were refused"));
    assert!(told() < 100, "{}", told());
    assert_eq!(server.metric(r#"guardbeat_heartbeats_total{result="invalid"}"#), 5_002.0);
}

#[test]
fn what_only_looks_like_a_heartbeat_is_counted_and_told_too() {
    let server = Launch::plain().start();
    let (id, _) = server.client().enrol("h");
    let beat = format!("/api/agents/{id}/heartbeat");
    let nowhere = format!("/api/agents/{}/x/heartbeat", &id[..id.len() - 2]);
    let upper = format!("/api/agents/{}A/heartbeat", &id[..id.len() - 1]);
    for (mut client, path, endpoint, status) in [
        (server.client(), &nowhere, "other", 404),
        (server.anonymous(), &nowhere, "other", 401),
        (server.client(), &upper, "heartbeat", 404),
        (server.operations(), &beat, "other", 404),
    ] {
        let series = format!(r#"guardbeat_http_requests_total{{endpoint="{endpoint}",status="{status}"}}"#);
        let count =
            || crate::support::expect::metric(server.operations().get("/metrics").text(), &series).unwrap_or(0.0);
        let before = count();
        let reply = client.post(path, "{}");
        reply.error(status);
        assert_eq!(count(), before + 1.0, "{path}");
        let told = lines(&server, &[request_id(&reply)]);
        assert!(told[0].contains(&format!("endpoint=\"{endpoint}\"")), "{told:?}");
        assert!(told[0].contains("address=127.0.0.1"), "{told:?}");
    }
}

#[test]
fn who_is_refused_behind_a_trusted_proxy_is_told_by_its_own_address() {
    let server = Launch::plain().env("GUARDBEAT_SERVER__TRUSTED_PROXIES", "127.0.0.1/32").start();
    let (id, _) = server.client().enrol("h");
    for request in [Request::new("GET", "/api/agents"), Request::new("POST", format!("/api/agents/{id}/heartbeat"))] {
        let reply = server.anonymous().send(&request.header("X-Forwarded-For", "203.0.113.10"));
        reply.error(401);
        assert!(lines(&server, &[request_id(&reply)])[0].contains("address=203.0.113.10"), "{}", server.log());
    }
}

#[test]
fn what_is_refused_for_want_of_room_is_counted_and_told() {
    let server =
        Launch::plain().env("GUARDBEAT_LIMITS__MAX_IN_FLIGHT", "1").env("GUARDBEAT_SERVER__WORKERS", "1").start();
    let mut admin = server.client();
    let (id, token) = admin.enrol("h");
    let mut slow = server.anonymous();
    let head = format!(
        "POST /api/agents/{id}/heartbeat HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n",
    );
    slow.write(head.as_bytes()).unwrap();
    assert_eq!(slow.read_reply(false).unwrap().status, 100);
    let refused = admin.beat(&id, "{}");
    refused.error(503);
    assert_eq!(requests(&server, "heartbeat", 503), 1.0);
    let line = &lines(&server, &[request_id(&refused)])[0];
    for word in ["kind=\"unavailable\"", "Too many requests at once", &format!("agent={id}"), "address=127.0.0.1"] {
        assert!(line.contains(word), "{word}: {line}");
    }
    slow.write(b"{}").unwrap();
    slow.read_reply(false).unwrap().data(200);
}

#[test]
fn a_flood_of_refusals_does_not_flood_the_log() {
    let server = Launch::plain().start();
    let mut admin = server.client();
    let (id, token) = admin.enrol("h");
    let (gone, gone_token) = admin.enrol("gone");
    admin.delete(&format!("/api/agents/{gone}")).data(200);
    let mut refused = server.anonymous().with_token(&gone_token);
    let mut wrong = server.anonymous().with_token(&token);
    for _ in 0..500 {
        assert_eq!(refused.beat(&gone, "{}").status, 401);
    }
    // One kind does not keep another out.
    let last = wrong.beat(&id, r#"{"cpu":101}"#);
    lines(&server, &[request_id(&last), "bad_request"]);
    assert_eq!(requests(&server, "heartbeat", 401), 500.0);
    // None is lost: those that have no line of their own are counted in another one, soon.
    let mut said = (0, 0);
    wait_until(SOON, "all are told", || {
        let told = lines(&server, &["WARN", "unknown_agent"]);
        let suppressed = |line: &String| -> u64 {
            line.split("suppressed=").nth(1).map_or(0, |rest| rest.split(' ').next().unwrap().parse().unwrap())
        };
        let whole = told.iter().filter(|line| line.contains("request_id=")).count() as u64;
        said = (told.len(), whole + told.iter().map(suppressed).sum::<u64>());
        said.1 == 500
    });
    assert!(said.0 < 100, "{} lines", said.0);
}

#[test]
fn requests_are_counted_and_timed_by_endpoint() {
    let server = Launch::plain().start();
    let mut admin = server.client();
    let (id, token) = admin.enrol("h");
    let mut agent = server.anonymous().with_token(&token);
    for _ in 0..3 {
        agent.beat(&id, "{}").data(200);
    }
    agent
        .send(&Request::new("POST", format!("/api/agents/{id}/heartbeat")).header("Origin", "http://x").json("{}"))
        .data(200);
    agent.beat(&id, r#"{"cpu":101}"#).error(400);
    let batch = format!("{{\"id\":\"{id}\"}}\n").repeat(5);
    admin
        .send(&Request::new("POST", "/api/heartbeats").header("Content-Type", "application/x-ndjson").body(batch))
        .data(200);
    admin.get("/api/agents").data(200);
    admin.get("/api/agents?limit=x").error(400);
    for (series, expected) in [
        (r#"guardbeat_http_requests_total{endpoint="register",status="201"}"#, 1.0),
        (r#"guardbeat_http_requests_total{endpoint="heartbeat",status="200"}"#, 4.0),
        (r#"guardbeat_http_requests_total{endpoint="heartbeat",status="400"}"#, 1.0),
        (r#"guardbeat_http_requests_total{endpoint="heartbeat_batch",status="200"}"#, 1.0),
        (r#"guardbeat_http_requests_total{endpoint="list_agents",status="200"}"#, 1.0),
        (r#"guardbeat_http_requests_total{endpoint="list_agents",status="400"}"#, 1.0),
        (r#"guardbeat_http_request_duration_seconds_count{endpoint="heartbeat"}"#, 5.0),
        (r#"guardbeat_http_request_duration_seconds_bucket{endpoint="heartbeat",le="+Inf"}"#, 5.0),
        (r#"guardbeat_http_request_duration_seconds_count{endpoint="list_agents"}"#, 2.0),
        (r#"guardbeat_http_request_duration_seconds_count{endpoint="register"}"#, 1.0),
        (r#"guardbeat_heartbeats_total{result="accepted"}"#, 9.0),
        ("guardbeat_heartbeat_latency_seconds_count", 5.0),
    ] {
        assert_eq!(server.metric(series), expected, "{series}");
    }
    assert!(server.metric(r#"guardbeat_http_request_duration_seconds_sum{endpoint="heartbeat"}"#) > 0.0);
}

#[test]
fn paths_that_clients_make_up_are_no_labels() {
    let server = Launch::plain().start();
    let mut admin = server.client();
    for n in 0..50 {
        admin.get(&format!("/api/{n}")).error(404);
        admin.get(&format!("/{n}/../x")).error(404);
        admin.get(&format!("/api/agents/{n}")).error(404);
    }
    let text = server.operations().get("/metrics").text().to_owned();
    let series = text.lines().filter(|line| line.starts_with("guardbeat_http_requests_total{")).count();
    assert!(series < 10, "{text}");
    assert_eq!(requests(&server, "other", 404), 100.0);
    assert_eq!(requests(&server, "show_agent", 404), 50.0);
}

#[test]
fn at_debug_every_request_that_is_no_heartbeat_has_a_line() {
    let server = Launch::plain().env("GUARDBEAT_LOG__LEVEL", "guardbeat=debug").start();
    let mut admin = server.client();
    let (id, _) = admin.enrol("h");
    for _ in 0..3 {
        admin.beat(&id, "{}").data(200);
    }
    for (request, words) in [
        (Request::new("GET", "/health"), ["method=GET", "endpoint=\"health\"", "status=200"]),
        (
            Request::new("GET", "/api/agents?limit=5"),
            ["path=\"/api/agents\"", "endpoint=\"list_agents\"", "status=200"],
        ),
        (Request::new("GET", "/nothing"), ["path=\"/nothing\"", "endpoint=\"other\"", "status=404"]),
    ] {
        let reply = admin.send(&request);
        let told = lines(&server, &["DEBUG", request_id(&reply), "address=127.0.0.1", "took_ms="]);
        assert!(words.iter().all(|word| told[0].contains(word)), "{words:?}: {told:?}");
    }
    assert!(!server.log().contains("endpoint=\"heartbeat\""), "{}", server.log());
}

#[test]
fn changes_are_told_with_who_and_from_where() {
    let server = Launch::plain()
        .env("GUARDBEAT_LOG__LEVEL", "info")
        .env("GUARDBEAT_AUTH__OPEN_ENROLLMENT", "127.0.0.1/32")
        .start();
    let body = json!({"hostname": "a \"b\"", "os": "linux", "version": "1"});
    let mut admin = server.client();
    let by_admin = admin.post("/api/agents/register", &body);
    let by_nobody = server.anonymous().post("/api/agents/register", &body);
    let (id, token) = (&by_nobody.json()["agentId"], &by_nobody.json()["token"]);
    let (id, token) = (id.as_str().unwrap(), token.as_str().unwrap());
    let deregistered = server.anonymous().with_token(token).delete(&format!("/api/agents/{id}"));
    let published = admin.post("/api/policy", json!({"name": "p", "rules": []}));
    published.data(201);
    let (agent, by_agent) = (format!("agent={id}"), format!("by={id}"));
    for (reply, words) in [
        (&by_admin, ["an agent registered", "by=admin", r#"hostname="a \"b\"""#]),
        (&by_nobody, ["an agent registered", "by=open enrolment", &agent]),
        (&deregistered, ["an agent was deregistered", &by_agent, &agent]),
        (&published, ["a policy was published", "by=admin", "version=v1"]),
    ] {
        let told = lines(&server, &["INFO", request_id(reply), "address=127.0.0.1"]);
        assert!(words.iter().all(|word| told[0].contains(word)), "{words:?}: {told:?}");
    }
}

#[test]
fn one_machine_id_under_two_hostnames_is_counted_and_told() {
    let server = Launch::plain().start();
    let mut admin = server.client();
    let machine = |hostname: &str| json!({"hostname": hostname, "os": "l", "version": "1", "machine_id": "m-1"});
    let conflicts = || server.metric("guardbeat_machine_id_conflicts_total");
    let first = admin.register(&machine("web-1"));
    for same in ["web-1", "WEB-1", "web-1"] {
        admin.register(&machine(same));
    }
    assert_eq!(conflicts(), 0.0);
    for (n, hostname) in ["web-2", "web-1", "web-2"].into_iter().enumerate() {
        let reply = admin.post("/api/agents/register", machine(hostname));
        assert_eq!(reply.json()["agentId"], first["agentId"]);
        assert_eq!(conflicts(), (n + 1) as f64);
        let told = lines(&server, &["WARN", "machine_id", request_id(&reply)]);
        assert!(told[0].contains(&format!("hostname=\"{hostname}\"")), "{told:?}");
        assert!(told[0].contains("earlier_hostname=\"web-"), "{told:?}");
    }
}

//! What every response carries; 404, 405, HEAD.

use serde_json::json;
use uuid::Uuid;

use super::NOBODY;
use crate::support::{Launch, Reply, Request};

fn has_common_headers(reply: &Reply, tls: bool) {
    for (name, value) in
        [("x-content-type-options", "nosniff"), ("x-frame-options", "DENY"), ("referrer-policy", "no-referrer")]
    {
        assert_eq!(reply.header(name), Some(value), "{name}: {reply:?}");
    }
    let id = reply.header("x-request-id").unwrap_or_else(|| panic!("no X-Request-Id: {reply:?}"));
    assert!(Uuid::try_parse(id).is_ok(), "{id}");
    assert_eq!(reply.header("strict-transport-security").is_some(), tls, "{reply:?}");
}

#[test]
fn every_response_has_the_security_headers() {
    for launch in [Launch::plain(), Launch::tls()] {
        let tls = launch.is_tls();
        let server = launch.env("MANAGER_MAX_AGENTS", "1").start();
        let mut client = server.client();
        let (id, token) = client.enrol("h");
        let register = || Request::new("POST", "/api/agents/register");
        let good = r#"{"hostname":"h","os":"linux","version":"1"}"#;
        for (request, status) in [
            (Request::new("GET", "/health"), 200),
            (Request::new("HEAD", "/health"), 200),
            (Request::new("GET", "/metrics"), 200),
            (Request::new("GET", "/api/agents"), 200),
            (Request::new("GET", "/api/agents?limit=1"), 200),
            (Request::new("GET", "/api/agents?limit=x"), 400),
            (Request::new("GET", format!("/api/agents/{id}")), 200),
            (Request::new("GET", format!("/api/agents/{NOBODY}")), 404),
            (Request::new("POST", format!("/api/agents/{id}/heartbeat")).json("{}"), 200),
            (register().json("{}"), 400),
            (register().json("["), 400),
            (register().body(good), 415),
            (register().json(" ".repeat(70_000)), 413),
            (register().json(good), 409),
            (Request::new("PUT", "/api/agents"), 405),
            (Request::new("OPTIONS", "/api/agents"), 405),
            (Request::new("GET", "/nothing"), 404),
            (Request::new("GET", "/api/nothing"), 404),
            (Request::new("DELETE", format!("/api/agents/{id}")), 200),
            (register().json(good), 201),
        ] {
            let reply = client.send(&request);
            assert_eq!(reply.status, status, "{request:?}");
            has_common_headers(&reply, tls);
        }
        let unauthorized = server.anonymous().get("/api/agents");
        assert_eq!(unauthorized.status, 401);
        has_common_headers(&unauthorized, tls);
        let gone = server.anonymous().with_token(&token).get("/api/agents");
        has_common_headers(&gone, tls);
        for path in ["/metrics", "/livez", "/readyz", "/nothing"] {
            has_common_headers(&server.operations().get(path), false);
        }
    }
}

#[test]
fn a_well_formed_request_id_is_kept_and_any_other_replaced() {
    let server = Launch::plain().start();
    let mut client = server.anonymous();
    let mut with = |id: &str| {
        let reply = client.send(&Request::new("GET", "/health").header("X-Request-Id", id));
        has_common_headers(&reply, false);
        reply.header("x-request-id").unwrap().to_owned()
    };
    for id in ["67e55044-10b1-426f-9247-bb680e5fe0c8", "018f3a5e-7c11-7d2a-8000-0123456789ab"] {
        assert_eq!(with(id), id);
    }
    for id in [
        "",
        "1",
        "not-a-uuid",
        "67e55044-10b1-426f-9247-bb680e5fe0cg",
        "67e55044-10b1-426f-9247-bb680e5fe0c80",
        "<script>",
    ] {
        assert_ne!(with(id), id);
    }
    assert_ne!(with("x"), with("x"), "each request has its own");
}

#[test]
fn unknown_paths_are_404() {
    let server = Launch::either().start();
    let mut client = server.client();
    let (id, _) = client.enrol("h");
    for path in ["/", "/index.html", "/api", "/api/", "/api/nothing", "/api/agents/", "/healthz", "//", "/Health"] {
        client.get(path).error(404);
    }
    client.get(&format!("/api/agents/{id}/nothing")).error(404);
    client.post(&format!("/api/agents/{id}/heartbeat/"), "{}").error(404);
    for path in ["/", "/nothing"] {
        server.anonymous().get(path).error(404);
    }
}

#[test]
fn a_path_with_a_slash_too_many_is_404_and_the_answer_names_it() {
    let server = Launch::either().start();
    let mut client = server.client();
    let (id, _) = client.enrol("h");
    for path in
        ["/api/agents", "/api/threats", "/api/policy", "/api/heartbeats", "/health", &format!("/api/agents/{id}")]
    {
        for wrong in [format!("/{path}"), format!("{path}/"), path.replacen("/api/", "/api//", 1)] {
            if wrong == path {
                continue;
            }
            for method in ["GET", "POST", "DELETE"] {
                let error = client.send(&Request::new(method, &*wrong).json("{}")).error(404);
                let expected = format!("Not found: {wrong} (paths have no doubled and no trailing slash)");
                assert_eq!(error, expected, "{method}");
            }
        }
    }
    assert_eq!(client.get("/api/nothing").error(404), "Not found: /api/nothing");
    for wrong in [
        format!("//api/agents/{id}/heartbeat"),
        format!("/api/agents/{id}/heartbeat/"),
        "/api/agents//heartbeat".into(),
    ] {
        assert!(client.post(&wrong, "{}").error(404).contains(&wrong));
    }
    assert_eq!(server.operations().get("/livez/").error(404).split(' ').nth(2), Some("/livez/"));
    let long = format!("/{}", "x".repeat(2_000));
    assert!(client.get(&long).error(404).len() < 300);
    assert_eq!(client.get("/health").data(200)["agents"]["total"], 1);
}

#[test]
fn who_asks_whether_anybody_is_there_is_told_so() {
    let server = Launch::plain().env("GUARDBEAT_SERVER__CORS_ALLOWED_ORIGINS", "https://dash.example").start();
    for (target, mut client) in ["/", "*"]
        .into_iter()
        .flat_map(|target| [server.anonymous(), server.operations()].map(|client| (target, client)))
    {
        let reply = client.send(&Request::new("OPTIONS", target));
        reply.data(200);
        has_common_headers(&reply, false);
        // As HAProxy asks: HTTP/1.0, without a host.
        client.write(format!("OPTIONS {target} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
        match client.read_reply(false) {
            Ok(reply) => assert_eq!(reply.status, 200),
            Err(error) => assert!(error.to_string().contains("HTTP/1.0 200"), "{error}"),
        }
    }
}

#[test]
fn a_refused_preflight_is_told_as_any_other_refusal() {
    let server = Launch::plain().env("GUARDBEAT_SERVER__CORS_ALLOWED_ORIGINS", "https://dash.example").start();
    let (id, _) = server.client().enrol("h");
    let mut client = server.anonymous();
    let preflight = |path: &str, origin: &str, method: &str, headers: &str| {
        Request::new("OPTIONS", path)
            .header("Origin", origin)
            .header("Access-Control-Request-Method", method)
            .header("Access-Control-Request-Headers", headers)
    };
    let beat = format!("/api/agents/{id}/heartbeat");
    let allowed = client.send(&preflight("/api/agents", "https://dash.example", "GET", "authorization"));
    assert_eq!(allowed.status, 200, "{allowed:?}");
    assert_eq!(allowed.header("access-control-allow-origin"), Some("https://dash.example"));
    for path in ["/api/agents", "/health", &*beat, "/nothing"] {
        for (origin, method, headers) in [
            ("https://evil.example", "GET", "authorization"),
            ("https://dash.example", "PATCH", "authorization"),
            ("https://dash.example", "GET", "x-secret"),
            ("null", "GET", "authorization"),
        ] {
            let reply = client.send(&preflight(path, origin, method, headers));
            let error = reply.error(400);
            assert!(error.contains("llowed"), "{error}");
            assert_eq!(reply.header("access-control-allow-origin"), None);
            has_common_headers(&reply, false);
        }
    }
}

#[test]
fn a_path_without_the_method_is_405_and_says_which_it_has() {
    let server = Launch::either().start();
    let mut client = server.client();
    let (id, _) = client.enrol("h");
    let agent = format!("/api/agents/{id}");
    let paths: [(&str, &[&str]); 6] = [
        ("/api/agents", &["GET", "HEAD"]),
        ("/api/agents/register", &["POST"]),
        (&agent, &["GET", "HEAD", "DELETE"]),
        (&format!("{agent}/heartbeat"), &["POST"]),
        ("/health", &["GET", "HEAD"]),
        ("/metrics", &["GET", "HEAD"]),
    ];
    for (path, has) in paths {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            if has.contains(&method) {
                continue;
            }
            let reply = client.send(&Request::new(method, path).json("{}"));
            reply.error(405);
            let mut allowed: Vec<_> = reply.header("allow").expect("Allow").split(", ").collect();
            allowed.sort_unstable();
            let mut expected = has.to_vec();
            expected.sort_unstable();
            assert_eq!(allowed, expected, "{method} {path}");
        }
    }
    assert_eq!(client.get("/health").data(200)["agents"]["total"], 1);
}

#[test]
fn head_is_get_without_the_body() {
    let server = Launch::either().start();
    let mut client = server.client();
    let (id, _) = client.enrol("h");
    let agent = format!("/api/agents/{id}");
    for path in ["/health", "/api/agents", "/api/agents?limit=10", &agent, "/api/agents?limit=0"] {
        let got = client.get(path);
        let head = client.send(&Request::new("HEAD", path));
        assert_eq!(head.status, got.status, "{path}");
        assert_eq!(head.header("content-type"), got.header("content-type"), "{path}");
        if let Some(length) = head.header("content-length") {
            assert_eq!(Some(length), got.header("content-length"), "{path}");
        }
        // The connection is still in step: what follows is the answer to what is asked next.
        client.get("/health").data(200);
    }
    let missing = client.send(&Request::new("HEAD", format!("/api/agents/{NOBODY}")));
    assert_eq!(missing.status, 404);
}

#[test]
fn a_client_of_http_1_0_is_answered() {
    let server = Launch::either().start();
    let mut client = server.anonymous();
    client.write(b"GET /health HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(client.read_reply(false).unwrap().status, 200);
}

#[test]
fn over_http_1_0_a_list_ends_with_its_connection_and_has_no_chunks() {
    let server = Launch::either().start();
    let mut client = server.client();
    (0..50).for_each(|n| drop(client.enrol(&format!("h{n}"))));
    for extra in ["", "Connection: keep-alive\r\n"] {
        let mut client = server.client();
        let head = format!("GET /api/agents HTTP/1.0\r\nAuthorization: Bearer {}\r\n{extra}\r\n", server.token);
        client.write(head.as_bytes()).unwrap();
        let reply = client.read_reply(false).unwrap();
        assert_eq!(reply.data(200).as_array().unwrap().len(), 50);
        assert_eq!((reply.header("transfer-encoding"), reply.header("content-length")), (None, None), "{reply:?}");
        assert_ne!(reply.header("connection"), Some("keep-alive"));
    }
}

#[test]
fn times_are_the_servers_in_utc_with_milliseconds() {
    let server = Launch::either().start();
    let mut client = server.client();
    let millis = || {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        i64::try_from(since.as_millis()).unwrap()
    };
    let moment = |time: &serde_json::Value| {
        chrono::DateTime::parse_from_rfc3339(time.as_str().unwrap()).unwrap().timestamp_millis()
    };
    let before = millis();
    let body = json!({"hostname": "h", "os": "linux", "version": "1", "timestamp": "1999-01-01T00:00:00.000Z",
                      "registeredAt": "1999-01-01T00:00:00.000Z"});
    let enrolled = client.register(&body);
    let id = enrolled["agentId"].as_str().unwrap();
    let beat = client.beat(id, json!({"timestamp": 5, "lastHeartbeat": "1999-01-01T00:00:00.000Z"})).data(200);
    // A little slack: the server's wall clock is read once and then follows the monotonic one.
    let after = millis() + 2;
    let shown = client.get(&format!("/api/agents/{id}")).data(200);
    let listed = client.get("/api/agents").data(200)[0].take();
    for time in [
        &enrolled["data"]["registeredAt"],
        &beat["lastHeartbeat"],
        &shown["registeredAt"],
        &shown["lastHeartbeat"],
        &listed["registeredAt"],
        &listed["lastHeartbeat"],
    ] {
        assert!(crate::support::is_time(time), "{time}");
        let moment = moment(time);
        assert!((before - 2..=after).contains(&moment), "{before} <= {moment} <= {after}");
    }
    assert_eq!(shown["registeredAt"], enrolled["data"]["registeredAt"]);
    assert_eq!(listed["lastHeartbeat"], beat["lastHeartbeat"]);
}

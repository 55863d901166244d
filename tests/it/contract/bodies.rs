//! 400, 413 and 415: bodies that are not what they should be.

use serde_json::json;

use crate::support::{Launch, Request, Server};

const REGISTER: &str = "/api/agents/register";
const GOOD: &str = r#"{"hostname":"h","os":"linux","version":"1"}"#;
const LIMIT: usize = 64 * 1024;

/// A registration padded with an unknown field.
fn of_length(length: usize) -> String {
    let start = r#"{"hostname":"h","os":"linux","version":"1","pad":""#;
    format!("{start}{}\"}}", "x".repeat(length - start.len() - 2))
}

/// The two endpoints that take a body, and what the fleet looks like.
fn endpoints(server: &Server) -> (Vec<String>, impl Fn() -> serde_json::Value) {
    let (id, _) = server.client().enrol("h");
    let mut client = server.client();
    client.beat(&id, json!({"cpu": 1})).data(200);
    let state = move || server.client().get("/api/agents").data(200);
    (vec![REGISTER.to_owned(), format!("/api/agents/{id}/heartbeat")], state)
}

#[test]
fn what_is_not_a_json_object_is_400() {
    let server = Launch::either().start();
    let (paths, state) = endpoints(&server);
    let before = state();
    let nested = |open: &str, close: &str| format!("{}1{}", open.repeat(1_000), close.repeat(1_000));
    let bodies: Vec<Vec<u8>> = [
        "[]",
        "5",
        "-1.5e3",
        r#""x""#,
        "true",
        "null",
        r#"["h","linux","1"]"#,
        r#"[{"hostname":"h","os":"linux","version":"1"}]"#,
        "{",
        "}",
        r#"{"hostname":"h","os":"linux","version":"1""#,
        r#"{"hostname":"h","os":"linux","version":"1"#,
        r#"{"hostname":"h","os":"linux","version":"1",}"#,
        r#"{"hostname":"h","os":"linux","version":"1"}{}"#,
        r#"{"hostname":"h","os":"linux","version":"1"} x"#,
        "{hostname:1}",
        "{'hostname':'h'}",
        r#"{"hostname"}"#,
        r#"{"hostname":"\u12"}"#,
        " ",
        "\0",
        "hostname=h&os=linux&version=1",
        "<xml/>",
    ]
    .into_iter()
    .map(Vec::from)
    .chain([
        b"\xff\xfe".to_vec(),
        b"{\"hostname\":\"\xff\",\"os\":\"linux\",\"version\":\"1\"}".to_vec(),
        b"{\"hostname\":\"\xc3\x28\",\"os\":\"linux\",\"version\":\"1\"}".to_vec(),
        b"\xef\xbb\xbf[]".to_vec(),
        nested("[", "]").into(),
        nested(r#"{"a":"#, "}").into(),
        nested("[", "").into(),
        format!(r#"{{"hostname":"h","os":"linux","version":"1","x":{}}}"#, nested("[", "]")).into(),
        format!(r#"{{"hostname":"h","os":"linux","version":"1","tags":{}}}"#, nested("[", "]")).into(),
        format!(r#"{{"cpu":{}}}"#, nested(r#"{"a":"#, "}")).into(),
    ])
    .collect();
    let mut client = server.client();
    let mut accepted = Vec::new();
    for (path, body) in paths.iter().flat_map(|path| bodies.iter().map(move |body| (path, body))) {
        let reply = client.send(&Request::new("POST", path.as_str()).json(body.clone()));
        if reply.status == 400 {
            let error = reply.error(400);
            assert!(!error.contains('\n'), "one sentence: {error}");
        } else {
            let start: String = String::from_utf8_lossy(body).chars().take(60).collect();
            accepted.push(format!("{} to {path} with {start}", reply.status));
        }
    }
    assert!(accepted.is_empty(), "{accepted:#?}");
    client.post(REGISTER, r#"{"hostname":"\ud800","os":"linux","version":"1"}"#).error(400);
    let no_body = client.send(&Request::new("POST", REGISTER).header("Content-Type", "application/json"));
    no_body.error(400);
    client.send(&Request::new("POST", REGISTER)).error(400);
    assert_eq!(state(), before);
}

#[test]
fn a_body_of_64_kib_is_the_largest() {
    let server = Launch::either().start();
    let (paths, state) = endpoints(&server);
    let mut client = server.client();
    for path in &paths {
        let largest = Request::new("POST", path.as_str()).json(of_length(LIMIT));
        assert!([200, 201].contains(&client.send(&largest).status), "{path}");
        assert!([200, 201].contains(&client.send(&largest.chunked()).status), "{path}");
    }
    let before = state();
    for path in &paths {
        for length in [LIMIT + 1, 2 * LIMIT, 8 << 20] {
            let request = Request::new("POST", path.as_str()).json(of_length(length));
            client.send(&request).error(413);
            client.send(&request.chunked()).error(413);
        }
    }
    assert_eq!(state(), before);
    client.post(REGISTER, GOOD).data(201);
}

#[test]
fn a_body_announced_as_too_large_is_413_before_it_is_sent() {
    let server = Launch::either().start();
    let mut client = server.anonymous();
    for length in ["65537", "1099511627776"] {
        let head = format!(
            "POST {REGISTER} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Type: \
             application/json\r\nContent-Length: {length}\r\n\r\n",
            server.token
        );
        client.write(head.as_bytes()).unwrap();
        client.read_reply(false).unwrap().error(413);
    }
}

#[test]
fn a_body_that_is_not_declared_as_json_is_415() {
    let server = Launch::either().start();
    let (paths, state) = endpoints(&server);
    let before = state();
    let mut client = server.client();
    for path in &paths {
        client.send(&Request::new("POST", path.as_str()).body(GOOD)).error(415);
        for kind in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "text/json",
            "application/jsonp",
            "application/xml",
            "json",
            "",
            "*/*",
        ] {
            let request = Request::new("POST", path.as_str()).body(GOOD).header("Content-Type", kind);
            client.send(&request).error(415);
        }
    }
    assert_eq!(state(), before);
    for kind in ["application/json; charset=utf-8", "Application/JSON", "application/json;charset=UTF-8"] {
        for path in &paths {
            let request = Request::new("POST", path.as_str()).body(GOOD).header("Content-Type", kind);
            assert!([200, 201].contains(&client.send(&request).status), "{kind}");
        }
    }
}

#[test]
fn a_json_content_type_without_a_body_on_get_does_no_harm() {
    let server = Launch::either().start();
    let mut client = server.client();
    client.send(&Request::new("GET", "/api/agents").header("Content-Type", "application/json")).data(200);
}

#[test]
fn a_body_in_pieces_is_one_body() {
    let server = Launch::either().start();
    let mut client = server.client();
    let bytes = Request::new("POST", REGISTER).json(GOOD).encode(Some(&server.token));
    for piece in bytes.chunks(7) {
        client.write(piece).unwrap();
    }
    client.read_reply(false).unwrap().data(201);
    let twice = [bytes.clone(), bytes].concat();
    client.write(&twice).unwrap();
    client.read_reply(false).unwrap().data(201);
    client.read_reply(false).unwrap().data(201);
}

#[test]
fn a_value_that_is_json_and_out_of_range_is_blamed_on_its_field() {
    let server = Launch::either().start();
    let mut client = server.client();
    let (id, _) = client.enrol("h");
    let beat = format!("/api/agents/{id}/heartbeat");
    let events = format!("/api/agents/{id}/events");
    for (path, body, field) in [
        (&*beat, r#"{"cpu":1e400}"#, "cpu must be a number from 0 to 100"),
        (&*beat, r#"{"memory":1e400}"#, "memory must be a number from 0 to 100"),
        (&*beat, r#"{"uptime":-1e999}"#, "uptime must be a number"),
        (&*beat, r#"{"cpu":1,"memoryUsageMB":1e309}"#, "memoryUsageMB must be a number"),
        (&*beat, r#"{"version":1e400}"#, "version must be a string"),
        (&*beat, r#"{"mode":"\ud800"}"#, "mode must be a string"),
        (REGISTER, r#"{"hostname":1e400,"os":"linux","version":"1"}"#, "hostname must be a string"),
        (REGISTER, r#"{"hostname":"\ud800","os":"linux","version":"1"}"#, "hostname must be a string"),
        (REGISTER, r#"{"hostname":"h","os":"linux","version":"1","tags":[1e400]}"#, "tags must be"),
        ("/api/policy", r#"{"name":1e400,"rules":[]}"#, "name must be"),
        (
            &*events,
            r#"{"events":[{"type":"t","severity":"low","details":{},"confidence":1e400}]}"#,
            "events[0]: confidence must be",
        ),
    ] {
        let error = client.post(path, body).error(400);
        assert!(error.starts_with(field), "{body}: {error}");
    }
    let lines = format!("{{\"id\":\"{id}\",\"cpu\":1e400}}\n{{\"id\":\"{id}\",\"x\":1e400}}\n");
    let batch = Request::new("POST", "/api/heartbeats").header("Content-Type", "application/x-ndjson").body(lines);
    let answer = client.send(&batch).data(200);
    assert_eq!(answer["accepted"], 1, "what is not looked at may be anything: {answer}");
    assert_eq!(answer["rejected"][0]["error"], "cpu must be a number from 0 to 100");
    // What is no JSON is still said to be none.
    assert!(client.post(&beat, r#"{"cpu":1e400"#).error(400).contains("not valid JSON"));
}

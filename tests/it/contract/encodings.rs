//! What may stand around a body: byte order marks and compression, in requests and in answers.

use std::{
    io::{Read, Write},
    process::{Command, Stdio},
};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use serde_json::{Value, json};

use crate::support::{Client, EventStream, Launch, Reply, Request};

const BATCH: &str = "/api/heartbeats";

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn gunzip(packed: &[u8]) -> String {
    let mut plain = String::new();
    GzDecoder::new(packed).read_to_string(&mut plain).unwrap();
    plain
}

fn batch(body: impl Into<Vec<u8>>) -> Request {
    Request::new("POST", BATCH).header("Content-Type", "application/x-ndjson").body(body)
}

fn encoded(request: Request, encoding: &str) -> Request {
    request.header("Content-Encoding", encoding)
}

fn threat() -> String {
    json!({"events": [{"type": "scan", "severity": "low", "details": {}}]}).to_string()
}

#[test]
fn a_byte_order_mark_before_a_body_is_passed_over() {
    let server = Launch::either().start();
    let mut client = server.client();
    let (id, _) = client.enrol("h");
    for (path, body, status) in [
        ("/api/agents/register".to_owned(), r#"{"hostname":"h","os":"linux","version":"1"}"#.to_owned(), 201),
        (format!("/api/agents/{id}/heartbeat"), r#"{"cpu":7}"#.to_owned(), 200),
        (format!("/api/agents/{id}/events"), threat(), 201),
        ("/api/policy".to_owned(), r#"{"name":"p","rules":[]}"#.to_owned(), 201),
    ] {
        client.post(&path, format!("\u{feff}{body}")).data(status);
        client.post(&path, format!("\u{feff} {body}")).data(status);
        client.post(&path, format!("\u{feff}\u{feff}{body}")).error(400);
    }
    let line = format!("{{\"id\":\"{id}\",\"cpu\":9}}\n");
    for body in [format!("\u{feff}{line}{line}"), format!("\u{feff}\r\n{line}{line}")] {
        assert_eq!(client.send(&batch(body)).data(200), json!({"accepted": 2, "rejected": []}));
    }
    assert_eq!(client.get(&format!("/api/agents/{id}")).data(200)["cpu"], 9);
    assert_eq!(
        client.post(&format!("/api/agents/{id}/heartbeat"), '\u{feff}').error(400),
        "The body must be a JSON object"
    );
}

#[test]
fn a_batch_and_events_may_come_compressed_with_gzip() {
    let server = Launch::either().start();
    let mut client = server.client();
    let (id, _) = client.enrol("h");
    let line = format!("{{\"id\":\"{id}\",\"cpu\":9}}\n");
    let twice = [gzip(line.as_bytes()), gzip(format!("{{\"id\":\"{id}\",\"cpu\":8}}").as_bytes())].concat();
    for encoding in ["gzip", "GZIP", "x-gzip"] {
        let request = encoded(batch(twice.clone()), encoding);
        assert_eq!(client.send(&request).data(200)["accepted"], 2, "{encoding}");
        assert_eq!(client.send(&request.chunked()).data(200)["accepted"], 2, "{encoding}");
    }
    assert_eq!(client.get(&format!("/api/agents/{id}")).data(200)["cpu"], 8);
    let events = format!("/api/agents/{id}/events");
    let report = Request::new("POST", &*events).json(gzip(threat().as_bytes()));
    assert_eq!(client.send(&encoded(report, "gzip")).data(201)["received"], 1);
    let report = Request::new("POST", &*events).json(threat());
    client.send(&encoded(report, "identity")).data(201);
    assert_eq!(client.get(&format!("/api/agents/{id}")).data(200)["recentThreats"], 2);
    // As large as it may be when it is plain, and the line after it too much.
    let most = line.clone() + &" ".repeat((8 << 20) - line.len());
    assert_eq!(client.send(&encoded(batch(gzip(most.as_bytes())), "gzip")).data(200)["accepted"], 1);
    client.send(&encoded(batch(gzip((most + " ").as_bytes())), "gzip")).error(413);
}

#[test]
fn a_compressed_body_that_is_none_or_bursts_its_bound_changes_nothing() {
    let server = Launch::either().start();
    let mut client = server.client();
    let (id, _) = client.enrol("h");
    let packed = gzip(format!("{{\"id\":\"{id}\",\"cpu\":9}}\n").repeat(100).as_bytes());
    let mut flipped = packed.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for broken in [&packed[..packed.len() - 1], &packed[..12], &flipped, b"{}", &[packed.clone(), b"x".into()].concat()]
    {
        let error = client.send(&encoded(batch(broken), "gzip")).error(400);
        assert!(error.starts_with("The body is not valid gzip"), "{error}");
    }
    // A gibibyte in a megabyte.
    let mebibytes = gzip(&vec![b' '; 1 << 20]).repeat(1_024);
    assert_eq!(
        client.send(&encoded(batch(mebibytes.clone()), "gzip")).error(413),
        "The body is larger than 8388608 bytes"
    );
    let report = Request::new("POST", format!("/api/agents/{id}/events")).json(&mebibytes[..900_000]);
    assert_eq!(client.send(&encoded(report, "gzip")).error(413), "The body is larger than 1048576 bytes");
    assert_eq!(client.get(&format!("/api/agents/{id}")).data(200)["cpu"], Value::Null);
}

#[test]
fn an_encoding_that_is_not_read_is_415_and_named() {
    let server = Launch::either().start();
    let mut client = server.client();
    let (id, _) = client.enrol("h");
    let line = format!("{{\"id\":\"{id}\",\"cpu\":9}}\n");
    let events = format!("/api/agents/{id}/events");
    for encoding in ["deflate", "br", "zstd", "gzip, gzip", "\u{e9}"] {
        for request in [batch(line.clone()), Request::new("POST", &*events).json(threat())] {
            let reply = client.send(&encoded(request, encoding));
            let named = if encoding.is_ascii() { encoding } else { "?" };
            assert_eq!(reply.error(415), format!("The body has Content-Encoding: {named}; only gzip is read here"));
            assert_eq!(reply.header("accept-encoding"), Some("gzip"));
        }
    }
    for (path, body) in [
        ("/api/agents/register".to_owned(), r#"{"hostname":"h","os":"linux","version":"1"}"#),
        (format!("/api/agents/{id}/heartbeat"), r#"{"cpu":9}"#),
        (format!("/api/agents/{id}/heartbeat?"), r#"{"cpu":9}"#),
        ("/api/policy".to_owned(), r#"{"name":"p","rules":[]}"#),
    ] {
        let reply = client.send(&encoded(Request::new("POST", &*path).json(gzip(body.as_bytes())), "gzip"));
        assert_eq!(reply.error(415), "The body has Content-Encoding: gzip; only identity is read here", "{path}");
        assert_eq!(reply.header("accept-encoding"), Some("identity"));
    }
    assert_eq!(client.get(&format!("/api/agents/{id}")).data(200)["cpu"], Value::Null);
    assert_eq!(client.get("/api/policy/active").data(200), Value::Null);
}

fn asking_for_gzip(client: &mut Client, method: &str, path: &str) -> Reply {
    client.send(&Request::new(method, path).header("Accept-Encoding", "gzip, br"))
}

#[test]
fn large_answers_are_compressed_for_who_asks_for_that() {
    let server = Launch::either().start();
    let mut client = server.client();
    let id = (0..200).map(|n| client.enrol(&format!("h{n}")).0).last().unwrap();
    (0..5).for_each(|_| drop(client.post(&format!("/api/agents/{id}/events"), threat()).data(201)));
    let is_compressed = |reply: &Reply| match reply.header("content-encoding") {
        Some(encoding) => {
            assert_eq!(encoding, "gzip");
            true
        }
        None => false,
    };
    for path in ["/api/agents", "/api/agents?limit=100", "/api/threats", "/api/openapi.json"] {
        let plain = client.get(path);
        let packed = asking_for_gzip(&mut client, "GET", path);
        assert!(is_compressed(&packed) && !is_compressed(&plain), "{path}");
        assert_eq!(gunzip(&packed.body), plain.text(), "{path}");
        for reply in [&packed, &plain, &asking_for_gzip(&mut client, "HEAD", path)] {
            assert_eq!(reply.header("vary"), Some("accept-encoding"), "{path}");
            assert_eq!(reply.header("content-type"), Some("application/json"), "{path}");
        }
        assert!(packed.body.len() * 2 < plain.body.len() || plain.body.len() < 1_000, "{path}");
    }
    // These have the time in them.
    let overview = asking_for_gzip(&mut client, "GET", "/api/overview");
    assert!(is_compressed(&overview) && gunzip(&overview.body).contains("\"totalAgents\":200"));
    for client in [&mut client, &mut server.operations()] {
        let metrics = asking_for_gzip(client, "GET", "/metrics");
        assert!(is_compressed(&metrics) && gunzip(&metrics.body).contains("guardbeat_agents"));
    }
    // Small ones, what agents fetch, and what must not wait are sent as they are.
    client.post("/api/policy", json!({"name": "p", "description": "x".repeat(1_000), "rules": []})).data(201);
    for path in ["/health".to_owned(), format!("/api/policy/agent/{id}"), format!("/api/agents/{id}/heartbeat")] {
        let method = if path.ends_with("heartbeat") { "POST" } else { "GET" };
        let reply = asking_for_gzip(&mut client, method, &path);
        assert_eq!((reply.status, is_compressed(&reply)), (200, false), "{path}");
    }
    let (events, _) = EventStream::open(server.client(), None);
    assert_eq!(events.head.header("vary"), None);
}

/// curl sees a stream that is reset where our own client would not look.
#[test]
fn an_early_answer_over_http_2_reaches_who_is_still_sending() {
    let server = Launch::tls().start();
    let (id, _) = server.client().enrol("h");
    let ca = server.data().join("tls/ca.pem");
    let ask = |path: &str, token: &str, length: usize| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--http2", "--max-time", "30", "--data-binary", "@-"]);
        curl.arg("--cacert").arg(&ca).args(["--write-out", "%{http_version} %{http_code}", "--output", "/dev/null"]);
        curl.args(["-H", "Content-Type: application/json", "-H", &format!("Authorization: Bearer {token}")]);
        curl.arg(format!("https://localhost:{}{path}", server.api.port()));
        let mut curl = curl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("curl");
        curl.stdin.take().unwrap().write_all(&vec![b' '; length]).unwrap();
        let ended = curl.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (ended.status.code(), text(ended.stdout), text(ended.stderr))
    };
    let answered = |status: u16| (Some(0), format!("2 {status}"), String::new());
    for _ in 0..5 {
        for path in ["/api/agents/register".to_owned(), format!("/api/agents/{id}/heartbeat")] {
            assert_eq!(ask(&path, "wrong-token", 60_000), answered(401), "{path}");
            assert_eq!(ask(&path, &server.token, 70_000), answered(413), "{path}");
        }
        assert_eq!(ask("/api/nothing", &server.token, 60_000), answered(404));
        assert_eq!(ask("/api/agents", &server.token, 60_000), answered(405));
        assert_eq!(ask("/api/heartbeats", &server.token, 60_000), answered(415));
    }
}

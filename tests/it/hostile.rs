//! Input that means harm: no 5xx, no closed server, no change of state without a 2xx.

use std::{io, time::Instant};

use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
    test_runner::{Config, TestCaseError, TestRunner},
};
use serde_json::{Value, json};

use crate::support::{Client, Launch, Reply, Request, SOON, Server, wait_until};

/// A server under attack, and what must stay as it is.
struct Target {
    server: Server,
    id: String,
    watch: std::cell::RefCell<Client>,
    total: std::cell::Cell<u64>,
}

impl Target {
    fn new() -> Self {
        let server = Launch::plain().start();
        let mut watch = server.client();
        let (id, _) = watch.enrol("h");
        Self { server, id, watch: watch.into(), total: 1.into() }
    }

    /// Sends a request that must be answered, whatever it is.
    fn attack(&self, request: &Request) -> Result<Reply, TestCaseError> {
        let reply = self.server.client().try_send(request);
        let reply = reply.map_err(|error| TestCaseError::fail(format!("not answered: {error}")))?;
        self.check(Some(&reply), request)?;
        Ok(reply)
    }

    /// The server is as it was, except for what the answer says was done.
    fn check(&self, reply: Option<&Reply>, request: &Request) -> Result<(), TestCaseError> {
        if let Some(reply) = reply {
            prop_assert!(reply.status < 500, "{reply:?}");
            let changes = match (reply.status, &*request.method) {
                (201, _) if request.target.ends_with(b"/register") => 1,
                (200, "DELETE") => -1,
                _ => 0,
            };
            self.total.set(self.total.get().saturating_add_signed(changes));
        }
        // A registration is answered when it is durable, and counted when the shard takes it in, right after.
        let counted = || self.watch.borrow_mut().get("/health").data(200)["agents"]["total"].as_u64();
        let deadline = Instant::now() + SOON;
        while counted() != Some(self.total.get()) && Instant::now() < deadline {}
        prop_assert_eq!(counted(), Some(self.total.get()), "after {:?}", reply);
        Ok(())
    }
}

fn run<T: std::fmt::Debug>(
    cases: u32,
    strategy: impl Strategy<Value = T>,
    test: impl Fn(T) -> Result<(), TestCaseError>,
) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    if let Err(failure) = TestRunner::new(config).run(&strategy, test) {
        panic!("{failure}");
    }
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..200)
}

/// Any JSON, and some that is nearly right.
fn any_json() -> impl Strategy<Value = Value> + Clone {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,80}".prop_map(Value::from),
        select(vec!["linux", "", "127.0.0.1", "::", "\u{0}", "\u{202e}", "'; --"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        let key = prop_oneof![select(FIELDS.to_vec()).prop_map(String::from), ".{0,12}"];
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            vec((key, inner), 0..8).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

const FIELDS: &[&str] = &[
    "hostname",
    "os",
    "version",
    "ip",
    "org_id",
    "organizationId",
    "tags",
    "machine_id",
    "machineId",
    "uptime",
    "cpu",
    "memory",
    "mode",
    "eventsProcessed",
    "memoryUsageMB",
    "events",
    "event",
    "verdict",
    "type",
    "severity",
    "details",
    "timestamp",
    "confidence",
    "category",
    "name",
    "rules",
    "config",
];

fn percent_encoded(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("%{byte:02X}")).collect()
}

/// What can stand in a request line or a header without ending it.
fn line_bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>().prop_filter("ends the line", |byte| !b"\r\n".contains(byte)), 0..120)
}

#[test]
fn bodies_of_any_bytes_and_any_json_do_no_harm() {
    let target = Target::new();
    let of_agent = |what| format!("/api/agents/{}/{what}", target.id);
    let paths =
        ["/api/agents/register".to_owned(), of_agent("heartbeat"), of_agent("events"), "/api/policy".to_owned()];
    let text = any_json().prop_map(|json| json.to_string().into_bytes());
    // A part of a good body, with one byte changed.
    let good = json!({
        "hostname": "h", "os": "linux", "version": "1", "ip": "::1", "tags": ["a", "b"], "cpu": 5.5,
        "events": [{"type": "t", "severity": "low", "details": {}}],
        "name": "n", "rules": [{"type": "custom", "config": {}}],
    });
    let good = good.to_string().into_bytes();
    let broken = (any::<Index>(), any::<Index>(), any::<u8>()).prop_map(move |(place, end, byte)| {
        let mut broken: Vec<u8> = good.clone();
        let changed = place.index(broken.len());
        broken[changed] = byte;
        broken.truncate(end.index(good.len() * 3));
        broken
    });
    let bodies = prop_oneof![bytes(), text.clone(), text, broken];
    run(160, (bodies, any::<Index>(), any::<bool>()), |(body, path, chunked)| {
        let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok();
        let is_empty = body.is_empty();
        let path = path.get(&paths);
        let request = Request::new("POST", path.as_str()).json(body);
        let reply = target.attack(&if chunked { request.chunked() } else { request })?;
        prop_assert!([200, 201, 400].contains(&reply.status), "{reply:?}");
        prop_assert!(is_json || (is_empty && path.ends_with("heartbeat")) || reply.status == 400, "{reply:?}");
        Ok(())
    });
}

#[test]
fn paths_of_any_bytes_do_no_harm() {
    let target = Target::new();
    let methods = select(vec!["GET", "POST", "DELETE", "PUT", "HEAD", "OPTIONS", "TRACE", "get", "X"]);
    let encoded = bytes().prop_map(|bytes| percent_encoded(&bytes).into_bytes());
    run(50, (methods, prop_oneof![line_bytes(), encoded], any::<bool>()), |(method, path, deep)| {
        let target_path = [b"/api/agents/".as_slice(), &path, if deep { b"/heartbeat" } else { &[] }].concat();
        let request = Request::new(method, target_path);
        let request = if method == "POST" { request.json("{}") } else { request };
        let reply = target.attack(&request)?;
        prop_assert!(
            reply.status >= 400 || path.is_empty() || path.starts_with(b"?") || path.starts_with(b"#"),
            "{reply:?}"
        );
        Ok(())
    });
}

#[test]
fn query_strings_of_any_bytes_do_no_harm() {
    let target = Target::new();
    let name = prop_oneof![
        select(vec![
            "status", "org_id", "tag", "limit", "cursor", "tag[]", "since", "severity", "type", "agent_id", "period"
        ])
        .prop_map(String::from),
        bytes().prop_map(|bytes| percent_encoded(&bytes)),
    ];
    let value = prop_oneof![
        bytes().prop_map(|bytes| percent_encoded(&bytes)),
        any::<i128>().prop_map(|number| number.to_string()),
        "[ -~&&[^ #]]{0,40}",
    ];
    let pairs = vec((name, value), 0..6).prop_map(|pairs| {
        pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
    });
    let paths = select(vec!["/api/agents?", "/api/threats?", "/api/threats/summary?", "/api/policy/active?"]);
    run(150, (paths, prop_oneof![pairs.prop_map(String::into_bytes), line_bytes()]), |(path, query)| {
        let reply = target.attack(&Request::new("GET", [path.as_bytes(), &query[..]].concat()))?;
        prop_assert!([200, 400].contains(&reply.status), "{reply:?}");
        Ok(())
    });
}

#[test]
fn header_values_of_any_bytes_do_no_harm() {
    let target = Target::new();
    let names = select(vec![
        "Authorization",
        "Content-Type",
        "X-Request-Id",
        "X-Forwarded-For",
        "Host",
        "Accept",
        "Origin",
        "Cookie",
        "Connection",
        "If-None-Match",
        "X-Anything",
    ]);
    let headers = vec((names, line_bytes()), 1..5);
    run(50, headers, |headers| {
        let mut request =
            Request::new("POST", "/api/agents/register").body(r#"{"hostname":"h","os":"o","version":"1"}"#);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let reply = target.attack(&request)?;
        prop_assert!([201, 400, 401, 415].contains(&reply.status), "{reply:?}");
        Ok(())
    });
}

/// Whatever it says, it must not be a 5xx, and the server must go on.
fn survives(target: &Target, client: &mut Client, bytes: &[u8]) {
    let answered = (|| -> io::Result<Reply> {
        client.write(bytes)?;
        client.finish_sending()?;
        client.read_reply(false)
    })();
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
    if let Ok(reply) = &answered {
        assert!((400..500).contains(&reply.status), "{shown:?}: {reply:?}");
    }
    target.check(None, &Request::new("GET", "")).unwrap_or_else(|failure| panic!("{shown:?}: {failure}"));
}

#[test]
fn a_corpus_of_broken_requests_does_no_harm() {
    let target = Target::new();
    let token = &target.server.token;
    let head = |rest: &str| {
        format!(
            "POST /api/agents/register HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n{rest}"
        )
    };
    let good = r#"{"hostname":"h","os":"o","version":"1"}"#;
    let corpus: Vec<Vec<u8>> = vec![
        b"\0".to_vec(),
        b"\r\n\r\n\r\n".to_vec(),
        b"GET".to_vec(),
        b"GET /health\r\n\r\n".to_vec(),
        b"GET /health HTTP/9.9\r\n\r\n".to_vec(),
        b"GET health HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"GET /health HTTP/1.1\r\nNo colon here\r\n\r\n".to_vec(),
        b"GET /health HTTP/1.1\r\n: empty\r\n\r\n".to_vec(),
        b"GET /health HTTP/1.1\r\nA: b\0c\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnonsense, not frames".to_vec(),
        [b"GET /".as_slice(), &b"a".repeat(200_000), b" HTTP/1.1\r\n\r\n"].concat(),
        [b"GET /health HTTP/1.1\r\nA: ".as_slice(), &b"a".repeat(300_000), b"\r\n\r\n"].concat(),
        [b"GET /health HTTP/1.1\r\n".as_slice(), &b"A: b\r\n".repeat(5_000), b"\r\n"].concat(),
        head("Content-Length: -1\r\n\r\n{}").into(),
        head("Content-Length: 99999999999999999999999\r\n\r\n{}").into(),
        head("Content-Length: 0x10\r\n\r\n{}").into(),
        head("Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}").into(),
        head("Content-Length: +39\r\n\r\n").replace("\r\n\r\n", &format!("\r\n\r\n{good}")).into(),
        head("Content-Length: 39\r\nTransfer-Encoding: chunked\r\n\r\n").into(),
        head("Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}\r\n0\r\n\r\n").into(),
        head("Transfer-Encoding: chunked\r\n\r\n-1\r\n{}\r\n0\r\n\r\n").into(),
        head("Transfer-Encoding: chunked\r\n\r\nzz\r\n").into(),
        head(&format!("Transfer-Encoding: chunked\r\n\r\n27\r\n{good}")).into(),
        head("Transfer-Encoding: gzip\r\n\r\n").into(),
        head(&format!("Content-Length: 500\r\n\r\n{good}")).into(),
    ];
    for bytes in &corpus {
        survives(&target, &mut target.server.anonymous(), bytes);
    }
}

#[test]
fn broken_handshakes_and_hung_up_callers_do_no_harm() {
    let server = Launch::tls().start();
    let mut watch = server.client();
    let (id, _) = watch.enrol("h");
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01\xff\xff", &[0; 4_096], b""] {
        let mut client = Client::new(server.api, None);
        client.write(bytes).unwrap();
    }
    let open: Vec<_> = (0..50).map(|_| std::net::TcpStream::connect(server.api).unwrap()).collect();
    watch.beat(&id, "{}").data(200);
    server.client().get("/api/agents").data(200);
    drop(open);
    // Half a request, and gone.
    for _ in 0..20 {
        let mut client = server.client();
        let request = Request::new("POST", format!("/api/agents/{id}/heartbeat")).json(r#"{"cpu":99}"#);
        let bytes = request.encode(Some(&server.token));
        client.write(&bytes[..bytes.len() - 3]).unwrap();
    }
    wait_until(SOON, "an agent without the half heartbeat", || {
        watch.get(&format!("/api/agents/{id}")).data(200)["cpu"] == Value::Null
    });
}

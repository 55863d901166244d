//! Requests that are made up, within the subset and around it.

use std::time::Duration;

use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select, subsequence},
    test_runner::{Config, TestCaseError, TestRunner},
};

use super::{PAUSE, Sent, plain_and_tls};

/// Unless `PROPTEST_CASES` says otherwise.
const CASES: u32 = 300;
/// A connection over TLS takes so many times as long in a debug build.
const TLS_SHARE: u32 = 4;

fn methods() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        8 => Just("POST"),
        4 => Just("GET"),
        1 => select(vec!["DELETE", "HEAD", "PUT", "OPTIONS", "PATCH", "TRACE", "post", "Get", "X-Y"]),
    ]
}

fn paths() -> impl Strategy<Value = String> {
    let known = select(vec![
        "/api/agents/{id}/heartbeat",
        "/api/agents/{id}/heartbeat",
        "/api/agents/{id}/heartbeat",
        "/api/agents/{other}/heartbeat",
        "/api/agents/agent-0000000000000001/heartbeat",
        "/api/agents/nobody/heartbeat",
        "/api/agents/{id}/events",
        "/api/agents/{other}/events",
        "/api/agents/{id}",
        "/api/agents/{other}",
        "/api/agents/register",
        "/api/policy/agent/{id}",
        "/api/policy/agent/x",
        "/api/rules/latest",
        "/api/heartbeats",
        "/api/policy/active",
        "/nowhere",
        "/",
    ]);
    let odd = select(vec!["", "", "", "", "", "", "", "", "/", "?", "?a=b", "%20", "#a", "//", "/.", "_", "\u{e9}"]);
    (known, odd).prop_map(|(path, odd)| format!("{path}{odd}"))
}

fn credentials() -> impl Strategy<Value = Vec<u8>> {
    let usual = select(vec![
        "Authorization: Bearer {token}\r\n",
        "authorization: bearer {token}\r\n",
        "AUTHORIZATION:Bearer {admin}\r\n",
    ]);
    let other = select(vec![
        "",
        "Authorization: Bearer {other_token}\r\n",
        "Authorization: Bearer {token}x\r\n",
        "Authorization: Bearer x\r\n",
        "Authorization: Bearer\r\n",
        "Authorization: Bearer  {token}\t\r\n",
        "Authorization: Bearer\t{token}\r\n",
        "Authorization: Basic {token}\r\n",
        "Authorization: {token}\r\n",
        "Authorization:\r\n",
        "Authorization: Bearer {token}\r\nAuthorization: Bearer {admin}\r\n",
        "Authorization: Bearer {other_token}\r\nauthorization: Bearer {token}\r\n",
    ]);
    prop_oneof![3 => usual, 1 => other].prop_map(Vec::from)
}

fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let known = select(vec![
        r#"{}"#,
        r#"{"cpu":5,"memory":50.5,"uptime":86400}"#,
        r#"{"cpu":5,"memory":50.5,"uptime":86400}"#,
        r#"{"cpu":101}"#,
        r#"{"cpu":1,"cpu":2}"#,
        r#"{"id":[[[]]],"unknown":null}"#,
        r#"{"version":"","mode":7}"#,
        "\u{feff} {\"cpu\":1}",
        r#"{"cpu":1"#,
        "[]",
        "null",
        "x",
        " ",
        r#"{"hostname":"h","os":"o","version":"1"}"#,
        r#"{"events":[{"type":"t","severity":"low","details":{}}]}"#,
    ]);
    prop_oneof![
        3 => Just(Vec::new()),
        8 => known.prop_map(Vec::from),
        1 => vec(any::<u8>(), 0..60),
        1 => (10_000_usize..20_000).prop_map(|length| format!("{{{}}}", " ".repeat(length)).into_bytes()),
        1 => (64 * 1024 - 4_usize..66_000).prop_map(|length| format!("{{{}}}", " ".repeat(length)).into_bytes()),
    ]
}

/// How the length of the body is told.
fn framings() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        8 => Just("content-length: N\r\n"),
        2 => select(vec!["Content-Length:N\r\n", "CONTENT-LENGTH: \t0N \r\n", "chunked", "", "Content-Length: N\r\nX: \r\n"]),
    ]
}

const KINDS: &[&str] = &[
    "Content-Type: application/json\r\n",
    "Content-Type: application/json\r\n",
    "content-type: Application/JSON ; charset=utf-8\r\n",
    "Content-Type: application/jsonx\r\n",
    "Content-Type: text/plain\r\n",
    "Content-Type: \u{e9}\r\n",
    "Content-Type:\r\n",
    "Content-Type: text/plain\r\nContent-Type: application/json\r\n",
    "Content-Type: application/json\r\nContent-Type: text/plain\r\n",
    "",
];

const CONNECTIONS: &[&str] = &[
    "",
    "",
    "",
    "",
    "Connection: keep-alive\r\n",
    "connection: Keep-Alive\r\n",
    "Connection: close\r\n",
    "CONNECTION:Close \r\n",
    "Connection: keep-alive, close\r\n",
    "Connection: x\r\n",
    "Connection:\r\n",
];

/// Some of these stand among the others.
const MORE: &[&str] = &[
    "X-Request-Id: 0b5f0b5f-0000-4000-8000-00000000abcd\r\n",
    "x-request-id: 0B5F0B5F-0000-4000-8000-00000000ABCE\r\n",
    "X-Request-Id: 0b5f0b5f000040008000000000000abcd\r\n",
    "X-Request-Id:\r\n",
    "X-Request-Id: \u{e9}\r\n",
    "Accept: */*\r\n",
    "User-Agent: guard/1.0 (\u{e9})\r\n",
    "Accept-Encoding: gzip\r\n",
    "Content-Encoding: gzip\r\n",
    "Content-Encoding: identity\r\n",
    "X-Forwarded-For: 1.2.3.4, x\r\n",
    "Forwarded: for=1.2.3.4\r\n",
    "Cookie: a=b; c\t\r\n",
    "If-None-Match: \"1\"\r\n",
    "Origin: http://a\r\n",
    "Expect: 100-continue\r\n",
    "TE: trailers\r\n",
    "Keep-Alive: timeout=1\r\n",
    "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n",
    "Transfer-Encoding: identity\r\n",
    "Host: other\r\n",
    "X: a\r\n b\r\n",
    "X : a\r\n",
    "X: \0\r\n",
    "!#$%&'*+-.^_`|~0: a\r\n",
];

prop_compose! {
    /// A request.
    fn requests()(
        method in methods(),
        path in paths(),
        host in prop_oneof![20 => Just("Host: l\r\n"), 1 => select(vec!["", "host:\r\n", "HOST: a:1\r\n"])],
        credentials in credentials(),
        kind in select(KINDS.to_vec()),
        connection in select(CONNECTIONS.to_vec()),
        more in prop_oneof![2 => Just(Vec::new()), 1 => subsequence(MORE.to_vec(), 0..4)],
        order in any::<[Index; 8]>(),
        framing in framings(),
        body in bodies(),
    ) -> Vec<u8> {
        let is_chunked = framing == "chunked";
        let length = if is_chunked {
            "Transfer-Encoding: chunked\r\n".to_owned()
        } else if body.is_empty() && method != "POST" {
            String::new()
        } else {
            framing.replace('N', &body.len().to_string())
        };
        let mut lines = vec![host.as_bytes().to_vec(), credentials, kind.into(), connection.into(), length.into()];
        lines.extend(more.into_iter().map(Vec::from));
        let count = lines.len();
        for (one, other) in order.iter().enumerate().take(count) {
            lines.swap(one, other.index(count));
        }
        let body = match (is_chunked, body.len()) {
            (false, _) => body,
            (true, 0) => b"0\r\n\r\n".to_vec(),
            (true, length) => [format!("{length:x}\r\n").as_bytes(), &body, b"\r\n0\r\n\r\n"].concat(),
        };
        [format!("{method} {path} HTTP/1.1\r\n").as_bytes(), &lines.concat(), b"\r\n", &body].concat()
    }
}

prop_compose! {
    /// One to five of them on a connection, in up to four pieces.
    fn connections()(
        requests in prop_oneof![3 => vec(requests(), 1..2), 1 => vec(requests(), 2..6)],
        pauses in prop_oneof![1 => Just(Vec::new()), 1 => vec(any::<Index>(), 1..4)],
        ends in any::<bool>(),
    ) -> Sent {
        let mut sent = Sent::at_once(requests.concat());
        sent.pauses = pauses.into_iter().map(|pause| pause.index(sent.bytes.len() + 1)).collect();
        sent.pauses.sort_unstable();
        if ends { sent.and_a_last_request() } else { sent }
    }
}

fn cases(is_tls: bool) -> u32 {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES);
    if is_tls { cases / TLS_SHARE } else { cases }
}

#[test]
fn requests_of_any_kind_have_the_same_answers_both_ways() {
    plain_and_tls(|both| {
        let cases = cases(both.server.trust().is_some());
        let both = std::cell::RefCell::new(both);
        let config = Config { cases, failure_persistence: None, ..Config::default() };
        let run = TestRunner::new(config).run(&connections(), |sent| {
            let compared = both.borrow().difference(&sent);
            // Whoever has deregistered an agent would be refused from now on.
            if sent.bytes.windows(6).any(|part| part == b"DELETE") {
                both.borrow_mut().enrol_anew();
            }
            compared.map(drop).map_err(TestCaseError::fail)
        });
        both.borrow().assert_unharmed();
        if let Err(failure) = run {
            panic!("{failure}");
        }
    });
}

#[test]
fn requests_that_come_in_pieces_for_longer_than_the_loop_waits_have_the_same_answers() {
    let pause = Duration::from_millis(1_700);
    assert!(pause > 100 * PAUSE);
    plain_and_tls(|both| {
        let beat = "POST /api/agents/{id}/heartbeat HTTP/1.1\r\nHost: l\r\nAuthorization: Bearer {token}\r\n\
                    Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{\"cpu\":7}";
        let twice = [beat, beat].concat();
        let differ: Vec<_> = std::thread::scope(|scope| {
            let places = [1, 5, 20, 43, 80, beat.len(), beat.len() + 70, beat.len() + 71, 2 * beat.len()];
            let running = places.map(|place| {
                let sent = Sent { pauses: vec![place], pause, ..Sent::at_once(&*twice) };
                let both = &both;
                scope.spawn(move || both.difference(&sent.and_a_last_request()).map(|seen| seen.replies.len()))
            });
            running.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(differ.iter().all(|outcome| *outcome == Ok(3)), "{differ:#?}");
        both.assert_unharmed();
    });
}

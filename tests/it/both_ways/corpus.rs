//! Odd and hostile requests, each of them for a reason.

use super::{BOTH, Both, Sent, Way, plain_and_tls};

const JSON: &str = "Content-Type: application/json\r\n";

/// A heartbeat with these header lines and this behind its head.
fn beat(lines: &str, body: &str) -> Vec<u8> {
    request("POST /api/agents/{id}/heartbeat HTTP/1.1", lines, body)
}

fn request(line: &str, lines: &str, rest: &str) -> Vec<u8> {
    format!("{line}\r\nHost: l\r\nAuthorization: Bearer {{token}}\r\n{lines}\r\n{rest}").into()
}

/// A good one.
fn good() -> Vec<u8> {
    with_length(r#"{"cpu":5}"#)
}

fn with_length(body: &str) -> Vec<u8> {
    beat(&format!("{JSON}Content-Length: {}\r\n", body.len()), body)
}

/// Whose head has so many bytes once the names are in it.
fn with_head_of(bytes: usize, names: &super::Names) -> Vec<u8> {
    let line = |length: usize| beat(&format!("X: {}\r\n", "x".repeat(length)), "");
    let least = names.fill(&line(0)).len();
    line(bytes - least)
}

/// A heartbeat with a body of spaces, so that the whole of it has so many bytes.
fn with_whole_of(bytes: usize, names: &super::Names) -> Vec<u8> {
    let whole = |length: usize| with_length(&format!("{{{}}}", " ".repeat(length)));
    let guess = bytes - names.fill(&whole(10_000)).len() + 10_000;
    whole(guess)
}

fn corpus(both: &Both) -> Vec<Vec<u8>> {
    let names = &both.names[0];
    let mut corpus = framing();
    corpus.extend(heads());
    corpus.extend(targets());
    corpus.extend(chunks());
    for bytes in [16 * 1024, 32 * 1024] {
        for bytes in [bytes - 1, bytes, bytes + 1] {
            corpus.push(with_head_of(bytes, names));
            corpus.push(with_whole_of(bytes, names));
        }
    }
    for bytes in [64 * 1024 - 1, 64 * 1024, 64 * 1024 + 1, 200_000] {
        corpus.push(with_length(&format!("{{{}}}", " ".repeat(bytes - 2))));
    }
    corpus
}

/// About where a request ends.
fn framing() -> Vec<Vec<u8>> {
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: l\r\n\r\n";
    let lengths = [
        "Content-Length: 2\r\nContent-Length: 2\r\n",
        "Content-Length: 2\r\nContent-Length: 3\r\n",
        "Content-Length: 2\r\ncontent-length: 0\r\n",
        "Content-Length: 2, 2\r\n",
        "Content-Length: +2\r\n",
        "Content-Length: -2\r\n",
        "Content-Length: 0x2\r\n",
        "Content-Length: 2.0\r\n",
        "Content-Length: 2 2\r\n",
        "Content-Length:\r\n",
        "Content-Length: \t 2 \t\r\n",
        "Content-Length:2\r\n",
        "Content-Length: 02\r\n",
        "Content-Length: 0000000000002\r\n",
        "Content-Length : 2\r\n",
        " Content-Length: 2\r\n",
        "Content-Length: \r\n 2\r\n",
        "Content-Length: 2\r\n\t3\r\n",
        "X: y\r\n Content-Length: 2\r\n",
        "Content-Length: 2\nX: y\r\n",
        "Content-Length: 2\rX: y\r\n",
        "Content_Length: 2\r\n",
        "Content-Length\0: 2\r\n",
        "Content-Length: 2\0\r\n",
        "Content-Length: \u{b2}\r\n",
        "Content-Length: 18446744073709551615\r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Content-Length: 999999999\r\n",
        "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n",
        "Transfer-Encoding: identity\r\nContent-Length: 2\r\n",
        "Transfer-Encoding: xchunked\r\nContent-Length: 2\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding : chunked\r\nContent-Length: 2\r\n",
        "Transfer-Encoding:\r\nContent-Length: 2\r\n",
        "Transfer_Encoding: chunked\r\nContent-Length: 2\r\n",
        "X: y\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n",
        "Connection: Content-Length\r\nContent-Length: 2\r\n",
        "Trailer: Content-Length\r\nContent-Length: 2\r\n",
        "TE: trailers\r\nContent-Length: 2\r\n",
    ];
    let mut all: Vec<_> = lengths.map(|lines| beat(&format!("{JSON}{lines}"), &format!("{{}}{smuggled}"))).into();
    all.extend([
        beat("", smuggled),
        beat("Content-Length: 0\r\n", smuggled),
        beat(&format!("{JSON}Content-Length: 1\r\n"), &format!("{{}}{smuggled}")),
        beat(&format!("{JSON}Content-Length: 4\r\n"), "{}\r\n"),
        beat(&format!("{JSON}Content-Length: 2\r\n"), "{}\r\n"),
        beat(&format!("{JSON}Content-Length: 2\r\n"), "{}\r\n\r\n"),
        beat(&format!("{JSON}Content-Length: 5\r\n"), "{}"),
        [b"\r\n".to_vec(), good()].concat(),
        [b"\n\n\r\n".to_vec(), good()].concat(),
        [b"\r\r\n".to_vec(), good()].concat(),
        [b" ".to_vec(), good()].concat(),
        [good(), b"\0".to_vec()].concat(),
        request("GET /api/agents/{id} HTTP/1.1", "Content-Length: 2\r\n", &format!("{{}}{smuggled}")),
        request("DELETE /api/agents/{id}x HTTP/1.1", "Content-Length: 2\r\n", &format!("{{}}{smuggled}")),
        request("HEAD /api/rules/latest HTTP/1.1", "Content-Length: 2\r\n", &format!("{{}}{smuggled}")),
        format!(
            "POST /api/agents/register HTTP/1.1\r\nHost: l\r\nAuthorization: Bearer {{admin}}\r\n{JSON}\
             Content-Length: 39\r\n\r\n{{\"hostname\":\"h\",\"os\":\"o\",\"version\":\"1\"}}{smuggled}"
        )
        .into(),
        request("POST /api/agents/register HTTP/1.1", "Content-Length: 2\r\n", &format!("{{}}{smuggled}")),
    ]);
    all
}

/// About what stands in heads.
fn heads() -> Vec<Vec<u8>> {
    let lines = [
        "Expect: 100-continue\r\n",
        "Expect: something\r\n",
        "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
        "Upgrade: websocket\r\nConnection: Upgrade\r\n",
        "Upgrade: websocket\r\n",
        "Connection: upgrade\r\n",
        "Connection: close\r\n",
        "Connection: CLOSE\r\n",
        "Connection: keep-alive\r\n",
        "Connection: keep-alive, close\r\n",
        "Connection: close, keep-alive\r\n",
        "Connection: keep-alive\r\nConnection: close\r\n",
        "Connection: close\r\nConnection: keep-alive\r\n",
        "Connection: , close\r\n",
        "Connection:\r\n",
        "Connection: closed\r\n",
        "Connection: \u{e9}\r\n",
        "Proxy-Connection: close\r\n",
        "Keep-Alive: timeout=1\r\n",
        "Host: l\r\n",
        "host: other\r\n",
        "Authorization: Bearer {token}\r\n",
        "Authorization: Bearer {other_token}\r\n",
        "X-Request-Id: 0B5F0B5F-0000-4000-8000-00000000ABCD\r\n",
        "X-Request-Id: 0b5f0b5f-0000-4000-8000-00000000abcd\r\nX-Request-Id: x\r\n",
        "X-Request-Id: {0b5f0b5f000040008000000000abcdab}\r\n",
        "X-Request-Id: x\r\n",
        "X: \u{e9}\u{ff}\r\n",
        "X: a\tb\r\n",
        "X:\t\tb\t\r\n",
        "X: a\u{7f}\r\n",
        "X: a\u{1}\r\n",
        "X: a\r\r\n",
        "X : b\r\n",
        "X\t: b\r\n",
        "X\r\n",
        ": b\r\n",
        "X\u{e9}: b\r\n",
        "X(: b\r\n",
        "X: b\r\n c\r\n",
        "X: b\n",
        "\n",
        "X: b\0\r\n",
        "Origin: http://a\r\n",
        "Origin:\r\n",
        "Content-Encoding: gzip\r\n",
        "Accept-Encoding: gzip\r\n",
        "If-None-Match: *\r\n",
        "Range: bytes=0-1\r\n",
        "X-Forwarded-For: 1.2.3.4\r\n",
        "X-HTTP-Method-Override: DELETE\r\n",
    ];
    let mut all: Vec<_> = lines.iter().map(|lines| beat(lines, "")).collect();
    for lines in lines {
        all.push(request("GET /api/policy/agent/{id} HTTP/1.1", lines, ""));
    }
    for count in [29, 30, 31, 93, 94, 95, 200] {
        all.push(beat(&"X: y\r\n".repeat(count), ""));
    }
    all.extend([
        b"POST /api/agents/{id}/heartbeat HTTP/1.1\r\n\r\n".to_vec(),
        b"POST /api/agents/{id}/heartbeat HTTP/1.1\r\nAuthorization: Bearer {token}\r\n\r\n".to_vec(),
        b"POST /api/agents/{id}/heartbeat HTTP/1.1\r\nHost:\r\nAuthorization: Bearer {token}\r\n\r\n".to_vec(),
        b"POST /api/agents/{id}/heartbeat HTTP/1.1\r\nHost: a b/:\r\nAuthorization: Bearer {token}\r\n\r\n".to_vec(),
        b"POST /api/agents/{id}/heartbeat HTTP/1.1\r\n Host: l\r\nAuthorization: Bearer {token}\r\n\r\n".to_vec(),
        b"POST /api/agents/{id}/heartbeat HTTP/1.1\nHost: l\nAuthorization: Bearer {token}\n\n".to_vec(),
        b"POST /api/agents/{id}/heartbeat HTTP/1.1\r\nHost: l\r\nAuthorization: Bearer {token}\r\n\n".to_vec(),
        b"POST /api/agents/{id}/heartbeat HTTP/1.1\r\nHost: l\r\nAuthorization: Bearer {token}\n\r\n".to_vec(),
        b"POST /api/agents/{id}/heartbeat HTTP/1.1\r\nHost: l\r\nAuthorization: Bearer {token}\r\r\n\r\n".to_vec(),
        b"POST /api/agents/{id}/heartbeat HTTP/1.1\r\nHost: l\r\nAuthorization:\r\n\r\n".to_vec(),
        b"POST /api/agents/{id}/heartbeat HTTP/1.1\r\nHost: l\r\nAuthorization: Bearer  {token} \r\n\r\n".to_vec(),
        b"POST /api/agents/{id}/heartbeat HTTP/1.1\r\nHost: l\r\nAuthorization: bearer\t{token}\r\n\r\n".to_vec(),
        b"POST /api/agents/{id}/heartbeat HTTP/1.1\r\nHost: l\r\nAuthorization: Bearer {token}\xe9\r\n\r\n".to_vec(),
    ]);
    all
}

/// About request lines.
fn targets() -> Vec<Vec<u8>> {
    let lines = [
        "POST /api/agents/{id}/heartbeat HTTP/1.2",
        "POST /api/agents/{id}/heartbeat HTTP/2.0",
        "POST /api/agents/{id}/heartbeat HTTP/0.9",
        "POST /api/agents/{id}/heartbeat http/1.1",
        "POST /api/agents/{id}/heartbeat HTTP/1.1 ",
        "POST /api/agents/{id}/heartbeat  HTTP/1.1",
        "POST  /api/agents/{id}/heartbeat HTTP/1.1",
        "POST\t/api/agents/{id}/heartbeat HTTP/1.1",
        "POST /api/agents/{id}/heartbeat",
        "POST HTTP/1.1",
        "post /api/agents/{id}/heartbeat HTTP/1.1",
        "Post /api/agents/{id}/heartbeat HTTP/1.1",
        "POSTS /api/agents/{id}/heartbeat HTTP/1.1",
        "P\u{d6}ST /api/agents/{id}/heartbeat HTTP/1.1",
        "P(ST /api/agents/{id}/heartbeat HTTP/1.1",
        "PUT /api/agents/{id}/heartbeat HTTP/1.1",
        "GET /api/agents/{id}/heartbeat HTTP/1.1",
        "OPTIONS /api/agents/{id}/heartbeat HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "POST * HTTP/1.1",
        "CONNECT l:80 HTTP/1.1",
        "CONNECT /api/agents/{id}/heartbeat HTTP/1.1",
        "TRACE /api/agents/{id}/heartbeat HTTP/1.1",
        "PRI * HTTP/2.0",
        "POST http://l/api/agents/{id}/heartbeat HTTP/1.1",
        "POST https://elsewhere:1/api/agents/{id}/heartbeat HTTP/1.1",
        "POST //l/api/agents/{id}/heartbeat HTTP/1.1",
        "POST //api/agents/{id}/heartbeat HTTP/1.1",
        "POST /api//agents/{id}/heartbeat HTTP/1.1",
        "POST /api/agents/{id}/heartbeat/ HTTP/1.1",
        "POST /api/agents/{id}/heartbeat? HTTP/1.1",
        "POST /api/agents/{id}/heartbeat?a=b HTTP/1.1",
        "POST /api/agents/{id}/heartbeat#a HTTP/1.1",
        "POST /api/agents/{id}/heartbeat;a HTTP/1.1",
        "POST /api/agents/{id}/heartbeat%20 HTTP/1.1",
        "POST /api/agents/{id}/%68eartbeat HTTP/1.1",
        "POST /api/agents/{id}/../{id}/heartbeat HTTP/1.1",
        "POST /api/agents/./{id}/heartbeat HTTP/1.1",
        "POST /api/agents/{id}\\heartbeat HTTP/1.1",
        "POST /api/agents/{id}/heartbeat\u{e9} HTTP/1.1",
        "POST /api/agents/{id}/heartbeat\0 HTTP/1.1",
        "POST api/agents/{id}/heartbeat HTTP/1.1",
        "POST /api/agents/AGENT-0000000000000001/heartbeat HTTP/1.1",
        "POST /api/agents/agent-00000000000000FF/heartbeat HTTP/1.1",
        "POST /api/agents/agent-1/heartbeat HTTP/1.1",
        "POST /api/agents/agent-0000000000000001/heartbeat HTTP/1.1",
        "POST /api/agents/{other}/heartbeat HTTP/1.1",
        "POST /api/agents/heartbeat HTTP/1.1",
        "POST /api/agents//heartbeat HTTP/1.1",
        "GET /api/agents/{id} HTTP/1.1",
        "HEAD /api/agents/{id} HTTP/1.1",
        "HEAD /api/rules/latest HTTP/1.1",
        "GET /api/rules/latest HTTP/1.1",
        "GET /api/rules/latest/ HTTP/1.1",
        "GET /api/rules/latest?a HTTP/1.1",
        "GET /api/policy/agent/{other} HTTP/1.1",
        "GET /api/policy/agent/x HTTP/1.1",
        "GET / HTTP/1.1",
        "GET /health HTTP/1.1",
        "GET /metrics HTTP/1.1",
        "\u{16}\u{3}\u{1}\u{2}",
        "\0",
        "",
    ];
    let mut all: Vec<_> = lines.iter().map(|line| request(line, "", "")).collect();
    all.push(request("POST /api/agents/{id}/heartbeat HTTP/1.0", "Content-Length: 0\r\n", ""));
    all.push(request(
        "POST /api/agents/{id}/heartbeat HTTP/1.0",
        "Connection: keep-alive\r\nContent-Length: 0\r\n",
        "",
    ));
    all.push(request("GET /api/rules/latest HTTP/1.0", "", ""));
    for length in [1_000, 20_000, 70_000] {
        all.push(request(&format!("POST /api/agents/{}/heartbeat HTTP/1.1", "a".repeat(length)), "", ""));
        all.push(request(&format!("{} / HTTP/1.1", "A".repeat(length)), "", ""));
    }
    all
}

/// Bodies in chunks, good and broken.
fn chunks() -> Vec<Vec<u8>> {
    let bodies = [
        "2\r\n{}\r\n0\r\n\r\n",
        "1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
        "2;a=b\r\n{}\r\n0\r\nX: y\r\n\r\n",
        "2\n{}\n0\n\n",
        "+2\r\n{}\r\n0\r\n\r\n",
        "0x2\r\n{}\r\n0\r\n\r\n",
        " 2\r\n{}\r\n0\r\n\r\n",
        "2 \r\n{}\r\n0\r\n\r\n",
        "2\r\n{}0\r\n\r\n",
        "2\r\n{}\r\n0\r\n",
        "3\r\n{}\r\n0\r\n\r\n",
        "ffffffffffffffff\r\n{}\r\n0\r\n\r\n",
        "fffffffffffffffff\r\n{}\r\n0\r\n\r\n",
        "-1\r\n{}\r\n0\r\n\r\n",
        "\r\n",
        "zz\r\n",
        "0\r\n\r\n",
    ];
    let lines = format!("{JSON}Transfer-Encoding: chunked\r\n");
    bodies.iter().map(|body| beat(&lines, body)).collect()
}

/// In their order on one connection; the loop takes some of the requests, others it does not.
fn pipelines() -> Vec<Vec<u8>> {
    let get = request("GET /api/rules/latest HTTP/1.1", "", "");
    let refused = request("POST /api/agents/{other}/heartbeat HTTP/1.1", "", "");
    let invalid = with_length("{\"cpu\":-1}");
    let chunked = beat(&format!("{JSON}Transfer-Encoding: chunked\r\n"), "2\r\n{}\r\n0\r\n\r\n");
    let health = request("GET /health?x HTTP/1.1", "", "");
    let closing = beat("Connection: close\r\n", "");
    let head = request("HEAD /api/agents/{id} HTTP/1.1", "", "");
    let broken = beat("X\r\n", "");
    vec![
        [good(), good()].concat(),
        [good(), invalid.clone(), refused.clone(), get.clone(), good()].concat(),
        [good(), chunked.clone(), good(), get.clone()].concat(),
        [refused, health, good()].concat(),
        [good(), closing.clone(), good()].concat(),
        [get.clone(), head, closing].concat(),
        [good(), b"\r\n".to_vec(), good(), invalid].concat(),
        [good(), broken, good()].concat(),
        [chunked, get].concat(),
    ]
}

#[test]
fn odd_and_hostile_requests_have_the_same_end_both_ways() {
    plain_and_tls(|both| {
        let mut differ = Vec::new();
        for request in corpus(&both).into_iter().chain(pipelines()) {
            let sent = Sent::at_once(request);
            differ.extend(both.difference(&sent).err());
            // What follows such a head is of its body, which has no end and is waited for.
            if !sent.bytes.windows(9).any(|part| part == b"websocket") {
                differ.extend(both.difference(&sent.and_a_last_request()).err());
            }
        }
        both.assert_unharmed();
        assert!(differ.is_empty(), "{} differ:\n{}", differ.len(), differ.join("\n"));
    });
}

#[test]
fn it_makes_no_difference_where_a_pipeline_is_split() {
    /// So many places of each pipeline.
    const PLACES: usize = 24;
    plain_and_tls(|both| {
        let mut differ = Vec::new();
        // A policy that waits is told of until it is fetched.
        let fetched = Sent::at_once(request("GET /api/rules/latest HTTP/1.1", "", ""));
        BOTH.iter().for_each(|way| drop(both.exchange(*way, &fetched)));
        for pipeline in pipelines() {
            // What actix-http makes of what is behind such a body depends on when it comes.
            let whole = Sent::at_once(pipeline).and_a_last_request();
            let length = both.names[0].fill(&whole.bytes).len();
            let expected = both.exchange(Way::Framework, &whole);
            for place in (0..PLACES).map(|place| 1 + place * (length - 1) / PLACES) {
                let split = whole.in_two(place);
                if whole.has_more_behind_chunks() {
                    differ.extend(both.difference(&split).err());
                    continue;
                }
                let seen = both.exchange(Way::Loop, &split);
                if seen != expected {
                    differ.push(format!("{seen:#?}\ninstead of\n{expected:#?}\nto {}", split.shown()));
                }
            }
        }
        both.assert_unharmed();
        assert!(differ.is_empty(), "{} differ:\n{}", differ.len(), differ.join("\n"));
    });
}

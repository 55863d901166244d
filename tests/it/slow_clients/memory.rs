//! What waits for a client that does not read: not much, and not for ever. And what follows an answer that ends a
//! connection.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use super::{DRIP, HEALTH, LOOK, NOWHERE, READING, REFUSED, RULES, SENDING, SLACK, side_by_side};
use crate::support::{
    Launch, Request, SOON, Server,
    client::{Reply, Stream},
    expect, wait_until,
};

/// Requests that are sent by somebody who does not read.
const PIPELINED: usize = 94_000;
/// What a connection may cost, with what the system holds for it.
const PER_CONNECTION: u64 = 5 * 1024 * 1024;

/// Writes until nothing more is taken for a while.
fn write_what_is_taken(stream: &mut Stream, bytes: &[u8]) {
    stream.socket().set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    // It need not be all, and nobody asks how much.
    let _ = stream.write_all(bytes).and_then(|()| stream.flush());
}

/// Its memory, once it has done with what was sent to it what it does.
fn settled_bytes(server: &Server) -> u64 {
    let deadline = Instant::now() + SENDING;
    let mut before = server.resident_bytes();
    loop {
        thread::sleep(DRIP / 2);
        let now = server.resident_bytes();
        if now <= before + 64 * 1024 || Instant::now() > deadline {
            return now;
        }
        before = now;
    }
}

#[test]
fn requests_of_somebody_who_does_not_read_wait_outside() {
    let launches = vec![
        ("plain", Launch::plain(), HEALTH),
        ("TLS", Launch::tls(), HEALTH),
        ("plain, in the loop", Launch::plain(), RULES),
        ("TLS, in the loop", Launch::tls(), RULES),
    ];
    side_by_side(launches, |(transport, launch, request)| {
        let server = launch.start();
        let all = request.repeat(PIPELINED);
        let pipeline = || {
            let mut stream = server.anonymous().into_stream().unwrap();
            write_what_is_taken(&mut stream, &all);
            stream
        };
        // What the allocator takes for the first of them, it takes once.
        let first = pipeline();
        let before = settled_bytes(&server);
        let streams: Vec<_> = thread::scope(|scope| {
            let writing: Vec<_> = (0..4).map(|_| scope.spawn(pipeline)).collect();
            writing.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let grown = settled_bytes(&server).saturating_sub(before) / streams.len() as u64;
        server.anonymous().get("/health").data(200);
        drop(first);
        match grown {
            0..=PER_CONNECTION => Ok(()),
            _ => Err(format!("{transport}: {} KiB for each connection", grown / 1024)),
        }
    });
}

#[test]
fn bodies_of_which_a_part_has_come_take_no_more_than_the_bound_over_all_connections() {
    /// The largest batch less a byte, so often that it is more than all may have together.
    const BODY: usize = 8 * 1024 * 1024 - 1;
    const COUNT: usize = 24;
    const BOUND: usize = 128 * 1024 * 1024;
    let server = Launch::plain().start();
    let (id, _) = server.client().enrol("h");
    let before = server.resident_bytes();
    let batch = |length: usize| {
        format!(
            "POST /api/heartbeats HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/x-ndjson\r\nContent-Length: {length}\r\n\r\n",
            server.token
        )
    };
    let body = vec![b'\n'; BODY];
    let mut held: Vec<_> = thread::scope(|scope| {
        let sending: Vec<_> = (0..COUNT)
            .map(|_| {
                scope.spawn(|| {
                    let mut stream = server.anonymous().into_stream().unwrap();
                    stream.socket().set_write_timeout(Some(SOON)).unwrap();
                    // Who is refused is cut while sending.
                    let sent = stream.write_all(batch(BODY + 1).as_bytes()).and_then(|()| stream.write_all(&body));
                    (stream, sent.is_ok())
                })
            })
            .collect();
        sending.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let refused = r#"guardbeat_http_requests_total{endpoint="heartbeat_batch",status="503"}"#;
    let count = || expect::metric(server.operations().get("/metrics").text(), refused).unwrap_or(0.0);
    wait_until(SOON, "those for whom there is no room are refused", || count() >= (COUNT - BOUND / BODY) as f64);
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 2 * BOUND as u64, "{} KiB", grown / 1024);
    // What comes at once is heard all the same.
    server.client().beat(&id, "{}").data(200);
    // Whoever was let in is answered, and gives back what was taken.
    let mut answered = 0;
    for (stream, _) in held.iter_mut().filter(|(_, is_sent)| *is_sent) {
        stream.socket().set_read_timeout(Some(SOON)).unwrap();
        let mut head = [0; 12];
        let is_answered = stream.write_all(b"\n").is_ok() && stream.read_exact(&mut head).is_ok();
        answered += usize::from(is_answered && &head == b"HTTP/1.1 200");
    }
    assert!(answered > 0);
    drop(held);
    let again = Request::new("POST", "/api/heartbeats").header("Content-Type", "application/x-ndjson").body(body);
    server.client().send(&again).data(200);
}

/// Sends on without reading; how long until the server has given it up.
fn until_given_up(mut stream: Stream, more: &[u8], limit: Duration) -> Option<Duration> {
    let begun = Instant::now();
    while begun.elapsed() < limit {
        thread::sleep(DRIP);
        stream.socket().set_write_timeout(Some(LOOK)).unwrap();
        match stream.write_all(more).and_then(|()| stream.flush()) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return Some(begun.elapsed()),
            Ok(()) => {}
        }
        // An error that the system knows of already, say that the server has cut it.
        if stream.socket().take_error().unwrap().is_some() {
            return Some(begun.elapsed());
        }
    }
    None
}

/// Whether their client sends on or is silent.
pub(super) fn unread_answers_are_given_up() {
    let servers = [("plain", Launch::plain().start()), ("TLS", Launch::tls().start())];
    let document = |server: &Server| Request::new("GET", "/api/openapi.json").encode(Some(&server.token));
    // In the loop, with an answer of a similar size.
    let rules = |server: &Server| {
        let rules = serde_json::json!([{"type": "custom", "config": {"text": "x".repeat(100_000)}}]);
        server.client().post("/api/policy", serde_json::json!({"name": "n", "rules": rules})).data(201);
        let (_, token) = server.client().enrol("h");
        Request::new("GET", "/api/rules/latest").encode(Some(&token))
    };
    let cases = servers.iter().flat_map(|(transport, server)| {
        [document(server), rules(server)]
            .into_iter()
            .flat_map(move |request| [false, true].map(|silent| (transport, server, request.clone(), silent)))
    });
    side_by_side(cases.collect(), |(transport, server, request, stays_silent)| {
        let mut stream = server.anonymous().into_stream().map_err(|error| error.to_string())?;
        socket2::SockRef::from(stream.socket()).set_recv_buffer_size(4_096).map_err(|error| error.to_string())?;
        write_what_is_taken(&mut stream, &request.repeat(200));
        // What it has in its hands is not read, and whether it sends on or not makes no difference.
        let limit = READING + SLACK;
        if stays_silent {
            thread::sleep(limit);
            let gone = until_given_up(stream, b"G", DRIP * 3);
            return gone.map(drop).ok_or_else(|| format!("{transport}: held by silence for {limit:?}"));
        }
        match until_given_up(stream, b"GET ", limit) {
            Some(time) if time + SLACK > READING => Ok(()),
            Some(time) => Err(format!("{transport}: given up after {time:?} already")),
            None => Err(format!("{transport}: held for {limit:?}")),
        }
    });
}

/// The answers on a connection until its end, or until `count` of them; and whether it has ended, without a byte more.
fn answers(mut stream: Stream, count: usize) -> Result<(Vec<Reply>, bool), String> {
    stream.socket().set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    let mut bytes = Vec::new();
    let has_ended = loop {
        let mut buffer = [0; 16_384];
        match stream.read(&mut buffer) {
            Ok(0) => break true,
            Ok(read) => bytes.extend(&buffer[..read]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break false,
            Err(_) => break true,
        }
        if !bytes.is_empty() && bytes.windows(9).filter(|part| part == b"HTTP/1.1 ").count() > count {
            return Err("more answers than requests".to_owned());
        }
    };
    let mut replies = Vec::new();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let Some(end) = rest.windows(4).position(|part| part == b"\r\n\r\n") else {
            return Err(format!("half a head: {:?}", String::from_utf8_lossy(rest)));
        };
        let head = String::from_utf8_lossy(&rest[..end]).into_owned();
        let status = head.get(9..12).and_then(|digits| digits.parse().ok()).ok_or_else(|| head.clone())?;
        let headers: Vec<(String, String)> = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut reply = Reply { status, headers, body: Vec::new() };
        let length: usize = reply.header("content-length").and_then(|text| text.parse().ok()).unwrap_or_default();
        let body = rest.get(end + 4..end + 4 + length).ok_or_else(|| format!("half a body after {head}"))?;
        reply.body = body.to_vec();
        rest = &rest[end + 4 + length..];
        replies.push(reply);
    }
    Ok((replies, has_ended))
}

#[test]
fn nothing_follows_an_answer_that_ends_the_connection_and_before_it_every_request_has_its_answer() {
    let servers = [Launch::plain().start(), Launch::tls().start()];
    let last = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_vec();
    let old = b"GET /health HTTP/1.0\r\n\r\n".to_vec();
    let too_large = b"POST /api/agents/register HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n".to_vec();
    let whole_body = b"2\r\n{}\r\n0\r\n\r\n";
    let cases = [
        ("Connection: close", last, 200),
        ("HTTP/1.0", old, 200),
        ("a 401 before a body that is there", [REFUSED, whole_body].concat(), 401),
        ("a 404 before a body that is there", [NOWHERE, whole_body].concat(), 404),
        ("a 401 before a body that goes on", [REFUSED, b"2\r\n{}\r\n"].concat(), 401),
        ("a body that is announced too large", too_large, 401),
        ("no request", b"GET /health HTTP/1.1\r\nNo colon\r\n\r\n".to_vec(), 400),
    ];
    let cases = servers.iter().flat_map(|server| cases.clone().map(|case| (server, case))).collect();
    side_by_side(cases, |(server, (name, middle, status))| {
        let mut stream = server.anonymous().into_stream().map_err(|error| error.to_string())?;
        let sent = [&HEALTH.repeat(3), &middle[..], &HEALTH.repeat(3)].concat();
        stream.write_all(&sent).and_then(|()| stream.flush()).map_err(|error| error.to_string())?;
        let (replies, has_ended) = answers(stream, 7).map_err(|error| format!("{name}: {error}"))?;
        let statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
        let closing = replies.iter().position(|reply| reply.header("connection") == Some("close"));
        let is_right = statuses.starts_with(&[200, 200, 200, status])
            && match closing {
                Some(at) => at + 1 == replies.len() && has_ended,
                // Where a request ends is not known if its body does not: the connection ends with it.
                None => replies.len() == 7 || (replies.len() == 4 && has_ended),
            };
        if is_right { Ok(()) } else { Err(format!("{name}: {statuses:?}, closing: {closing:?}, ended: {has_ended}")) }
    });
}

#[test]
fn requests_that_were_read_are_all_answered_when_their_sender_begins_to_read() {
    let server = Launch::plain().start();
    let (id, token) = server.client().enrol("h");
    let beat = Request::new("POST", format!("/api/agents/{id}/heartbeat")).json("{}").encode(Some(&token));
    side_by_side(vec![HEALTH, &beat], |request| {
        all_are_answered(&server, request);
        Ok(())
    });
}

fn all_are_answered(server: &Server, request: &[u8]) {
    let count = 3_000;
    let requests = request.repeat(count);
    // Reads late, not never.
    let mut stream = TcpStream::connect(server.api).unwrap();
    let mut reader = stream.try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || stream.write_all(&requests).unwrap());
        thread::sleep(DRIP);
        reader.set_read_timeout(Some(SOON)).unwrap();
        let (mut seen, mut text) = (0, Vec::<u8>::new());
        while seen < count {
            let mut buffer = [0; 65_536];
            let read = reader.read(&mut buffer).unwrap();
            assert_ne!(read, 0, "the connection ended after {seen} answers");
            text.extend(&buffer[..read]);
            seen += text.windows(12).filter(|part| part == b"HTTP/1.1 200").count();
            let kept = text.len().saturating_sub(11);
            text.drain(..kept);
        }
        assert_eq!(seen, count);
    });
}

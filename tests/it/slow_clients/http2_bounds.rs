//! What an HTTP/2 connection may take, and how it ends.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{
    LOOK, SLACK,
    raw_http2::{
        DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, Http2, RST_STREAM, WINDOW_UPDATE, frame, head, is_ok,
        literal,
    },
};
use crate::support::{Launch, Request, SOON, wait_until};

/// The last stream and the error of a GOAWAY.
fn goodbye(frame: &Frame) -> Option<(u32, u32)> {
    let number = |at: usize| Some(u32::from_be_bytes(frame.payload.get(at..at + 4)?.try_into().ok()?));
    (frame.kind == GOAWAY).then(|| Some((number(0)?, number(4)?)))?
}

/// Reads to the end of the connection, and returns its goodbyes.
fn until_over(http2: &mut Http2) -> Vec<(u32, u32)> {
    let begun = Instant::now();
    let mut goodbyes = Vec::new();
    while !http2.is_over && begun.elapsed() < SLACK {
        goodbyes.extend(http2.frames(LOOK).iter().filter_map(goodbye));
    }
    assert!(http2.is_over, "held, though it was told {goodbyes:?}");
    goodbyes
}

/// Any stream, and no error.
const FIRST_GOODBYE: (u32, u32) = (0x7fff_ffff, 0);

#[test]
fn an_idle_connection_is_told_that_it_ends_and_closed_a_moment_later_whatever_it_answers() {
    let server = Launch::tls().env("GUARDBEAT_SERVER__KEEP_ALIVE_MS", "1000").start();
    for (answers_pings, goodbyes) in [(true, vec![FIRST_GOODBYE, (1, 0)]), (false, vec![FIRST_GOODBYE])] {
        let mut http2 = Http2::open(&server, &[]);
        http2.answers_pings = answers_pings;
        http2.get(1, "/health", None);
        assert!(http2.until(SLACK, is_ok).is_some());
        assert_eq!(until_over(&mut http2), goodbyes);
    }
    wait_until(SOON, "both are counted as idle", || {
        server.metric(r#"guardbeat_connections_cut_total{reason="idle"}"#) == 2.0
    });
}

#[test]
fn a_request_that_crosses_the_goodbye_is_answered() {
    let server = Launch::tls().env("GUARDBEAT_SERVER__KEEP_ALIVE_MS", "1000").start();
    let mut http2 = Http2::open(&server, &[]);
    http2.answers_pings = false;
    http2.get(1, "/health", None);
    assert!(http2.until(SLACK, is_ok).is_some());
    assert!(http2.until(SLACK, |frame| goodbye(frame) == Some(FIRST_GOODBYE)).is_some());
    http2.get(3, "/health", None);
    assert!(http2.until(SLACK, |frame| frame.stream == 3 && is_ok(frame)).is_some());
}

#[test]
fn a_server_that_ends_says_goodbye() {
    let mut server = Launch::tls().start();
    let mut http2 = Http2::open(&server, &[]);
    http2.get(1, "/health", None);
    assert!(http2.until(SLACK, is_ok).is_some());
    server.signal(Signal::SIGTERM);
    assert_eq!(until_over(&mut http2), [FIRST_GOODBYE, (1, 0)]);
    assert_eq!(server.wait_for_end().code(), Some(0));
}

#[test]
fn a_head_has_the_same_bound_on_http_1_and_http_2_and_its_refusal_the_words_of_the_contract() {
    const TOO_LARGE: &str = "The head of the request is too large";
    let server = Launch::tls().start();
    for (bytes, is_too_large) in [(31 * 1024, false), (33 * 1024, true), (200 * 1024, true)] {
        let reply = server.anonymous().send(&Request::new("GET", "/health").header("X", vec![b'v'; bytes]));
        match is_too_large {
            true => assert_eq!(reply.error(431), TOO_LARGE),
            false => drop(reply.data(200)),
        }
        assert!(reply.header("x-request-id").is_some());
    }
    // A header of 3,900 bytes that is remembered, and then referred to by a byte.
    let mut http2 = Http2::open(&server, &[]);
    let mut remembered = literal("large", &"v".repeat(3_900));
    remembered[0] = 0x40;
    for (stream, references, is_too_large) in [(1, 6, false), (3, 8, true), (5, 14, true)] {
        let list = [head("GET", "/health", None), remembered.clone(), vec![0xbe; references]].concat();
        http2.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &list));
        if !is_too_large {
            assert!(http2.until(SLACK, |frame| frame.stream == stream && is_ok(frame)).is_some());
            continue;
        }
        let body = http2.until(SLACK, |frame| frame.stream == stream && frame.kind == DATA).expect("a body");
        let body = String::from_utf8(body.payload).unwrap();
        assert_eq!(body, format!(r#"{{"ok":false,"error":"{TOO_LARGE}"}}"#));
    }
    http2.get(7, "/health", None);
    assert!(http2.until(SLACK, |frame| frame.stream == 7 && is_ok(frame)).is_some());
    let told = || server.log().lines().filter(|line| line.contains("status=431")).count();
    wait_until(SOON, "all are told", || told() == 4);
    let counted = ["other", "health"].map(|endpoint| {
        server.metric(&format!(r#"guardbeat_http_requests_total{{endpoint="{endpoint}",status="431"}}"#))
    });
    assert_eq!(counted, [2.0, 2.0]);
}

/// Sends a body as far as windows allow, and returns the frames of its stream until all is sent and answered, or it is reset.
fn upload(http2: &mut Http2, stream: u32, body: &[u8]) -> Vec<Frame> {
    let (mut connection_window, mut stream_window, mut rest) = (65_535, 256 * 1024, body);
    http2.stream.socket().set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let (begun, mut frames, mut is_answered) = (Instant::now(), Vec::new(), false);
    while begun.elapsed() < SOON && !http2.is_over && !(is_answered && rest.is_empty()) {
        let fits = rest.len().min(16 * 1024).min(connection_window).min(stream_window);
        if fits > 0 {
            let (now, later) = rest.split_at(fits);
            let flags = if later.is_empty() { END_STREAM } else { 0 };
            http2.send(&frame(DATA, flags, stream, now));
            rest = later;
            connection_window -= fits;
            stream_window -= fits;
        }
        for frame in http2.frames(Duration::from_millis(1)) {
            let more = || u32::from_be_bytes(frame.payload[..4].try_into().unwrap()) as usize;
            match (frame.kind, frame.stream == stream) {
                (WINDOW_UPDATE, true) => stream_window += more(),
                (WINDOW_UPDATE, false) if frame.stream == 0 => connection_window += more(),
                (DATA | HEADERS, true) => is_answered |= frame.flags & END_STREAM != 0,
                (RST_STREAM, true) => (is_answered, rest) = (true, &[]),
                _ => {}
            }
            if frame.stream == stream {
                frames.push(frame);
            }
        }
    }
    frames
}

/// The error of a reset stream.
fn reset(frame: &Frame) -> Option<u32> {
    (frame.kind == RST_STREAM).then(|| u32::from_be_bytes(frame.payload[..4].try_into().unwrap()))
}

#[test]
fn an_early_answer_is_whole_before_its_stream_is_reset_and_who_ends_in_time_is_not_reset() {
    let server = Launch::tls().start();
    let mut http2 = Http2::open(&server, &[]);
    for (stream, token) in [(1, None), (3, Some(&*server.token))] {
        http2.send(&frame(HEADERS, END_HEADERS, stream, &head("POST", "/api/agents/register", token)));
        let frames = upload(&mut http2, stream, &vec![b' '; 1024 * 1024]);
        let body = frames.iter().find(|frame| frame.kind == DATA).expect("an answer");
        assert!(body.payload.starts_with(b"{\"ok\":false"), "{:?}", String::from_utf8_lossy(&body.payload));
        assert_eq!(frames.iter().find_map(reset), None, "stream {stream}");
    }
    // Whoever does not end gets the answer, and is cut off a moment later without an error.
    http2.send(&frame(HEADERS, END_HEADERS, 5, &head("POST", "/api/agents/register", None)));
    http2.send(&frame(DATA, 0, 5, b" "));
    let mut has_ended = false;
    let cut_off = http2.until(SLACK, |frame| {
        has_ended |= frame.stream == 5 && frame.kind == DATA && frame.flags & END_STREAM != 0;
        frame.kind == RST_STREAM
    });
    assert_eq!((has_ended, cut_off.as_ref().and_then(reset)), (true, Some(0)));
    http2.get(7, "/health", None);
    assert!(http2.until(SLACK, |frame| frame.stream == 7 && is_ok(frame)).is_some());
}

#[test]
fn windows_for_large_bodies_are_given_to_so_many_connections_and_the_others_send_within_the_least() {
    const LARGE_WINDOWS: usize = 64;
    let server = Launch::tls().env("GUARDBEAT_SERVER__WORKERS", "1").start();
    let (id, _) = server.client().enrol("h");
    let batch = [head("POST", "/api/heartbeats", Some(&server.token)), literal("content-type", "application/x-ndjson")]
        .concat();
    let is_larger = |frame: &Frame| frame.kind == WINDOW_UPDATE && frame.stream == 0;
    let mut held = Vec::new();
    for number in 0..LARGE_WINDOWS + 3 {
        let mut http2 = Http2::open(&server, &[]);
        // A small body has room enough.
        let small = [head("POST", "/api/agents/register", None), literal("content-length", "2")].concat();
        http2.send(&frame(HEADERS, END_HEADERS, 1, &small));
        http2.send(&frame(DATA, END_STREAM, 1, b"{}"));
        let answered = |frame: &Frame| frame.kind == HEADERS && frame.stream == 1;
        let begun = Instant::now();
        let first = http2.until(SOON, |frame| is_larger(frame) || answered(frame));
        let first = first.map(|frame| (frame.kind, frame.stream));
        assert_eq!(first, Some((HEADERS, 1)), "connection {number}, over: {}, {:?}", http2.is_over, begun.elapsed());
        http2.send(&frame(HEADERS, END_HEADERS, 3, &batch));
        let has_more = number < LARGE_WINDOWS;
        let limit = if has_more { SLACK } else { 4 * LOOK };
        assert_eq!(http2.until(limit, is_larger).is_some(), has_more, "connection {number}");
        held.push(http2);
    }
    let line = format!("{{\"id\":\"{id}\",\"cpu\":5}}\n");
    let body = line.repeat(1024 * 1024 / line.len() / 4 * 4).into_bytes();
    let body = &body[..body.len().min(line.len() * 10_000)];
    let last = held.last_mut().unwrap();
    last.send(&frame(HEADERS, END_HEADERS, 5, &batch));
    assert!(upload(last, 5, body).iter().any(is_ok));
    // What has been given is given again when a connection has ended.
    drop(held);
    wait_until(SOON, "there is room again", || {
        let mut http2 = Http2::open(&server, &[]);
        http2.send(&frame(HEADERS, END_HEADERS, 1, &batch));
        http2.until(4 * LOOK, is_larger).is_some()
    });
}

//! Peers that hold on to HTTP/2 connections.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{
    DRIP, LOOK, READING, SENDING, SLACK, assert_unharmed, beat_on_a_new_connection,
    raw_http2::{
        ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, Http2, INITIAL_WINDOW_SIZE,
        MAX_CONCURRENT_STREAMS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame, head, is_ok, literal,
    },
    side_by_side, until_closed,
};
use crate::support::Launch;

/// Most streams that a connection may have at a time.
const STREAMS_MAX: u32 = 128;
/// What a connection may cost, with what waits in it; some megabytes of it are the allocator's, which takes them whole.
const PER_CONNECTION: u64 = 10 * 1024 * 1024;

#[test]
fn http2_is_spoken_and_says_how_many_streams_there_may_be() {
    let server = Launch::tls().start();
    let mut http2 = Http2::open(&server, &[]);
    let settings = http2.until(SLACK, |frame| frame.kind == SETTINGS && frame.flags & ACK == 0).expect("settings");
    let setting = |wanted: u16| {
        let mut pairs = settings.payload.chunks(6).map(|pair| (u16::from_be_bytes([pair[0], pair[1]]), &pair[2..]));
        pairs.find(|(id, _)| *id == wanted).map(|(_, value)| u32::from_be_bytes(value.try_into().unwrap()))
    };
    let streams = setting(MAX_CONCURRENT_STREAMS).expect("MAX_CONCURRENT_STREAMS is announced");
    assert!((1..=STREAMS_MAX).contains(&streams), "{streams}");
    http2.get(1, "/health", None);
    assert!(http2.until(SLACK, |frame| frame.stream == 1 && is_ok(frame)).is_some());
    // Whoever does not heed it is refused.
    for number in 1..=400 {
        http2.send(&frame(HEADERS, END_HEADERS, 2 * number + 1, &head("POST", "/api/agents/register", Some("x"))));
    }
    let refused = |frames: &[Frame]| frames.iter().filter(|frame| frame.kind == RST_STREAM).count();
    let (mut count, mut said_goodbye) = (0, false);
    let begun = Instant::now();
    while begun.elapsed() < SLACK && !http2.is_over && !said_goodbye && count < 400 - STREAMS_MAX as usize {
        let frames = http2.frames(LOOK);
        count += refused(&frames);
        said_goodbye |= frames.iter().any(|frame| frame.kind == GOAWAY);
    }
    assert!(http2.is_over || said_goodbye || count >= 400 - STREAMS_MAX as usize, "{count} refused");
}

#[test]
fn windows_of_zero_take_neither_places_nor_memory_from_others() {
    const IN_FLIGHT: &str = "20";
    let server = Launch::tls().env("GUARDBEAT_LIMITS__MAX_IN_FLIGHT", IN_FLIGHT).start();
    let (id, _) = server.client().enrol("h");
    let before = server.resident_bytes();
    let mut held: Vec<_> = (0..2).map(|_| Http2::open(&server, &[(INITIAL_WINDOW_SIZE, 0)])).collect();
    let mut others = server.client();
    for round in 0..20 {
        for http2 in &mut held {
            for number in 0..100 {
                let path = if number % 2 == 0 { "/health" } else { "/api/openapi.json" };
                http2.get(2 * (100 * round + number) + 1, path, Some(&server.token));
            }
            http2.frames(Duration::from_millis(10));
        }
        others.beat(&id, "{}").data(200);
        server.client().get("/api/agents?limit=10").data(200);
    }
    let grown = server.resident_bytes().saturating_sub(before) / held.len() as u64;
    assert!(grown < PER_CONNECTION, "{} KiB for each connection", grown / 1024);
}

#[test]
fn an_answer_that_is_taken_byte_by_byte_keeps_nobody_out() {
    const MOST: usize = 50;
    let server = Launch::tls()
        .env("GUARDBEAT_SERVER__MAX_CONNECTIONS", MOST.to_string())
        .env("GUARDBEAT_SERVER__WORKERS", "1")
        .start();
    let (id, _) = server.client().enrol("h");
    let mut held: Vec<_> = (0..MOST).map(|_| Http2::open(&server, &[(INITIAL_WINDOW_SIZE, 0)])).collect();
    for http2 in &mut held {
        http2.get(1, "/health", None);
        http2.frames(Duration::from_millis(10));
        http2.send(&frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes()));
        http2.frames(Duration::from_millis(10));
    }
    for _ in 0..5 {
        server.client().beat(&id, "{}").data(200);
    }
}

#[test]
fn header_lists_are_bounded_after_decoding() {
    let server = Launch::tls().start();
    server.anonymous().get("/health").data(200);
    let before = server.resident_bytes();
    let mut http2 = Http2::open(&server, &[]);
    // A header of 4,000 bytes that is remembered, and then referred to by a byte: 16 MB in each list.
    let value = "v".repeat(3_900);
    let mut remembered = literal("bomb", &value);
    remembered[0] = 0x40;
    let bomb = [head("GET", "/health", None), remembered.clone(), vec![0xbe; 4_000]].concat();
    for number in 0..40 {
        http2.send(&frame(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, &bomb));
    }
    // The same over many frames, without an end.
    let start = [head("GET", "/health", None), remembered].concat();
    http2.send(&frame(HEADERS, END_STREAM, 101, &start));
    for _ in 0..40 {
        http2.send(&frame(CONTINUATION, 0, 101, &[0xbe; 4_000]));
    }
    let answered = http2.frames(Duration::from_secs(2)).iter().any(is_ok);
    assert!(!answered, "a list of 16 MB is no request");
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 2 * PER_CONNECTION, "{} KiB", grown / 1024);
    assert_unharmed(&server);
}

#[test]
fn a_flood_of_resets_or_of_frames_that_do_nothing_ends_the_connection() {
    let server = Launch::tls().start();
    let reset = |number: u32| {
        let stream = 2 * number + 1;
        let head = frame(HEADERS, END_HEADERS | END_STREAM, stream, &head("GET", "/health", None));
        [head, frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
    };
    let unread = |number: u32| frame(PING, 0, 0, &u64::from(number).to_be_bytes());
    let cases: Vec<(_, &(dyn Fn(u32) -> Vec<u8> + Sync), _)> =
        vec![("resets", &reset, true), ("pings that nobody reads the answers of", &unread, false)];
    side_by_side(cases, |(name, bytes, is_ended)| {
        let before = server.resident_bytes();
        let mut http2 = Http2::open(&server, &[]);
        let begun = Instant::now();
        let mut number = 0;
        while number < 30_000 && !http2.is_over && begun.elapsed() < SENDING {
            let many: Vec<u8> = (number..number + 200).flat_map(bytes).collect();
            number += 200;
            http2.send(&many);
        }
        let said_goodbye = http2.until(SLACK, |frame| frame.kind == GOAWAY).is_some();
        let grown = server.resident_bytes().saturating_sub(before);
        if grown > 2 * PER_CONNECTION {
            return Err(format!("{name}: {} KiB", grown / 1024));
        }
        if is_ended && !said_goodbye && !http2.is_over {
            return Err(format!("{name}: the connection goes on after {number}"));
        }
        Ok(())
    });
    assert_unharmed(&server);
}

pub(super) fn slow_requests_are_cut() {
    let server = Launch::tls().start();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let begun = [&preface[..], &frame(SETTINGS, 0, 0, &[])].concat();
    let half_head = head("GET", "/health", None);
    let cases = vec![
        ("half a preface", preface[..10].to_vec(), None),
        ("a head without its end", [&begun[..], &frame(HEADERS, END_STREAM, 1, &half_head)].concat(), None),
        (
            "a head that goes on, empty frame by empty frame",
            [&begun[..], &frame(HEADERS, END_STREAM, 1, &half_head)].concat(),
            Some(&b"\0\0\0\x09\0\0\0\0\x01"[..]),
        ),
        ("half a frame", [&begun[..], b"\0\x10"].concat(), None),
    ];
    side_by_side(cases, |(name, bytes, drip)| {
        let mut http2 = Http2::unopened(&server);
        http2.send(&bytes);
        let closed = until_closed(http2.stream, drip, SENDING + SLACK);
        closed.map(drop).ok_or_else(|| format!("{name}: held"))
    });
    assert_unharmed(&server);
}

/// A stream may end where its connection goes on.
pub(super) fn slow_bodies_are_cut() {
    let server = Launch::tls().start();
    let (id, _) = server.client().enrol("h");
    let path = format!("/api/agents/{id}/heartbeat");
    let body = frame(HEADERS, END_HEADERS, 1, &head("POST", &path, Some(&server.token)));
    let unauthorized = frame(HEADERS, END_HEADERS, 1, &head("POST", "/api/agents/register", None));
    side_by_side(vec![("a body, byte by byte", body), ("a body after a 401", unauthorized)], |(name, bytes)| {
        let mut http2 = Http2::open(&server, &[]);
        http2.send(&bytes);
        let deadline = Instant::now() + SENDING + SLACK;
        while Instant::now() < deadline {
            http2.send(&frame(DATA, 0, 1, b" "));
            let frames = http2.frames(DRIP);
            let is_end = |frame: &Frame| {
                let ends = matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0;
                frame.stream == 1 && (ends || frame.kind == RST_STREAM) || frame.kind == GOAWAY
            };
            if http2.is_over || frames.iter().any(is_end) {
                return Ok(());
            }
        }
        Err(format!("{name}: held"))
    });
}

/// Though pings are answered.
pub(super) fn unread_answers_are_given_up() {
    let server = Launch::tls().start();
    let (id, _) = server.client().enrol("h");
    let cases = vec!["/api/openapi.json", "/health", "/api/events/stream"];
    side_by_side(cases, |path| {
        let mut http2 = Http2::open(&server, &[(INITIAL_WINDOW_SIZE, 0)]);
        http2.get(1, path, Some(&server.token));
        let head = http2.until(SLACK, |frame| frame.stream == 1 && is_ok(frame));
        head.ok_or_else(|| format!("{path}: not answered"))?;
        let begun = Instant::now();
        while begun.elapsed() < READING + SLACK {
            http2.send(&frame(PING, 0, 0, b"anyone?!"));
            // Something to be told to those who listen.
            server.client().beat(&id, "{}").data(200);
            let given_up = |frame: &Frame| frame.kind == GOAWAY || (frame.kind == RST_STREAM && frame.stream == 1);
            if http2.frames(DRIP).iter().any(given_up) || http2.is_over {
                let time = begun.elapsed();
                let early = time + SLACK < READING;
                return if early { Err(format!("{path}: given up after {time:?} already")) } else { Ok(()) };
            }
        }
        Err(format!("{path}: held"))
    });
    assert_unharmed(&server);
}

pub(super) fn idle_connections_are_closed() {
    let server = Launch::tls().env("GUARDBEAT_SERVER__KEEP_ALIVE_MS", "3000").start();
    let mut http2 = Http2::open(&server, &[]);
    http2.get(1, "/health", None);
    http2.until(SLACK, is_ok).expect("an answer");
    let begun = Instant::now();
    // Pings are no requests.
    while !http2.is_over && begun.elapsed() < Duration::from_secs(3) + SLACK {
        http2.send(&frame(PING, 0, 0, b"anyone?!"));
        http2.frames(DRIP);
    }
    assert!(http2.is_over, "an idle connection is held by pings");
}

/// Though they ping.
pub(super) fn held_connections_leave_room() {
    let crowded = Launch::tls()
        .env("GUARDBEAT_SERVER__WORKERS", "1")
        .env("GUARDBEAT_SERVER__MAX_CONNECTIONS", super::MOST.to_string());
    let server = crowded.start();
    let (id, _) = server.client().enrol("h");
    let mut held = Vec::new();
    for _ in 0..super::MOST - 1 {
        let mut http2 = Http2::open(&server, &[(INITIAL_WINDOW_SIZE, 0)]);
        http2.get(1, "/api/openapi.json", Some(&server.token));
        http2.frames(LOOK);
        held.push(http2);
    }
    thread::scope(|scope| {
        let pinging = scope.spawn(|| {
            for _ in 0..3 {
                held.iter_mut().for_each(|http2| http2.send(&frame(PING, 0, 0, b"anyone?!")));
                thread::sleep(DRIP);
            }
        });
        for _ in 0..5 {
            beat_on_a_new_connection(&server, &id).unwrap();
        }
        pinging.join().unwrap();
    });
}

//! HTTP/2, frame by frame, since no library would do what is done here.

use std::{
    io::{self, ErrorKind, Read, Write},
    thread,
    time::{Duration, Instant},
};

use super::{
    DRIP, LOOK, READING, SENDING, SLACK, assert_unharmed, beat_on_a_new_connection, side_by_side, until_closed,
};
use crate::support::{Client, Launch, Server, client::Stream};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;

/// Most streams that a connection may have at a time.
const STREAMS_MAX: u32 = 128;
/// What a connection may cost, with what waits in it.
const PER_CONNECTION: u64 = 8 * 1024 * 1024;

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header that is not to be remembered.
fn literal(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| {
        let length = text.len();
        // A length of seven bits, or more behind them.
        let mut bytes = if length < 127 {
            vec![u8::try_from(length).unwrap()]
        } else {
            let more = length - 127;
            vec![127, u8::try_from(more % 128).unwrap() | 128, u8::try_from(more / 128).unwrap()]
        };
        bytes.extend(text.bytes());
        bytes
    };
    [vec![0], text(name), text(value)].concat()
}

fn head(method: &str, path: &str, token: Option<&str>) -> Vec<u8> {
    let mut head = [
        literal(":method", method),
        literal(":scheme", "https"),
        literal(":authority", "localhost"),
        literal(":path", path),
    ]
    .concat();
    if let Some(token) = token {
        head.extend(literal("authorization", &format!("Bearer {token}")));
    }
    head
}

/// A connection on which anything may be sent.
struct Http2 {
    stream: Stream,
    received: Vec<u8>,
    is_over: bool,
}

impl Http2 {
    /// After the beginning of a connection, with these settings.
    fn open(server: &Server, settings: &[(u16, u32)]) -> Self {
        let mut http2 = Self::unopened(server);
        let settings: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()[..]].concat())
            .collect();
        http2.send(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(SETTINGS, 0, 0, &settings)[..]].concat());
        http2
    }

    fn unopened(server: &Server) -> Self {
        let trust = server.trust().expect("TLS").speaking(b"h2");
        let stream = Client::new(server.api, Some(trust)).into_stream().unwrap();
        stream.socket().set_read_timeout(Some(LOOK)).unwrap();
        stream.socket().set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        Self { stream, received: Vec::new(), is_over: false }
    }

    /// Sends bytes; if they are not taken, the connection is over, or full, which [`Self::frames`] tells apart.
    fn send(&mut self, bytes: &[u8]) {
        match self.stream.write_all(bytes).and_then(|()| self.stream.flush()) {
            Err(error) if !is_late(&error) => self.is_over = true,
            Ok(()) | Err(_) => {}
        }
    }

    fn get(&mut self, stream: u32, path: &str, token: Option<&str>) {
        self.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &head("GET", path, token)));
    }

    /// What has come in for a while. Settings and pings are acknowledged, as a client does.
    fn frames(&mut self, time: Duration) -> Vec<Frame> {
        let begun = Instant::now();
        let mut frames = Vec::new();
        while begun.elapsed() < time && !self.is_over {
            let mut buffer = [0; 65_536];
            match self.stream.read(&mut buffer) {
                Ok(0) => self.is_over = true,
                Ok(read) => self.received.extend(&buffer[..read]),
                Err(error) if is_late(&error) => {}
                Err(_) => self.is_over = true,
            }
            while let Some(received) = self.take_frame() {
                match (received.kind, received.flags & ACK) {
                    (SETTINGS, 0) => self.send(&frame(SETTINGS, ACK, 0, &[])),
                    (PING, 0) => self.send(&frame(PING, ACK, 0, &received.payload)),
                    _ => {}
                }
                frames.push(received);
            }
        }
        frames
    }

    fn take_frame(&mut self) -> Option<Frame> {
        let &[a, b, c, kind, flags, d, e, f, g, ..] = &self.received[..] else { return None };
        let end = 9 + usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap();
        let payload = self.received.get(9..end)?.to_vec();
        self.received.drain(..end);
        Some(Frame { kind, flags, stream: u32::from_be_bytes([d & 127, e, f, g]), payload })
    }

    /// Frames until one is as wanted, or the connection has ended, or the time is over.
    fn until(&mut self, limit: Duration, mut is_wanted: impl FnMut(&Frame) -> bool) -> Option<Frame> {
        let begun = Instant::now();
        while begun.elapsed() < limit && !self.is_over {
            if let Some(frame) = self.frames(LOOK).into_iter().find(&mut is_wanted) {
                return Some(frame);
            }
        }
        None
    }
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// `:status: 200` is number 8 of the table that both sides know.
fn is_ok(frame: &Frame) -> bool {
    frame.kind == HEADERS && frame.payload.first() == Some(&0x88)
}

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

//! Clients that hold on to connections: by sending slowly, by not reading, by being there. Whatever one without a token
//! does, it is cut in time, takes no memory to speak of, and others are served.
//!
//! The times are the server's own. Cases of a test run side by side, each on a thread.

mod http2;
mod http2_bounds;
mod memory;
mod raw_http2;

use std::{
    io::{self, ErrorKind, Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use crate::support::{Client, Launch, Request, SOON, Server, client::Stream};

/// For a head, from its first byte; for a body with its trailers; for a handshake.
const SENDING: Duration = Duration::from_secs(10);
/// For an answer that is not read.
const READING: Duration = Duration::from_secs(30);
/// What a busy machine may add; and the moment that a connection drains for.
const SLACK: Duration = Duration::from_secs(4);
/// Between two pieces of what is sent slowly.
const DRIP: Duration = Duration::from_secs(1);
/// How often a connection is looked at.
const LOOK: Duration = Duration::from_millis(50);

const HEALTH: &[u8] = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// Without a token: answered 401 before its body.
const REFUSED: &[u8] = b"POST /api/agents/register HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                         Transfer-Encoding: chunked\r\n\r\n";
const NOWHERE: &[u8] = b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Answered by the loop of agents' requests, which keeps the connection; other requests hand it over to actix-http.
const RULES: &[u8] = b"GET /api/rules/latest HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// How a connection is held, once its first request has been answered.
#[derive(Clone)]
struct Way {
    name: &'static str,
    /// Sent at once.
    opening: Vec<u8>,
    /// Sent piece by piece, for ever.
    drip: Option<&'static [u8]>,
    /// Requested first, and answered; nothing if it is empty.
    first: &'static [u8],
}

impl Way {
    fn new(name: &'static str, opening: impl Into<Vec<u8>>, drip: Option<&'static [u8]>) -> Self {
        Self { name, opening: opening.into(), drip, first: HEALTH }
    }

    /// On a connection of its own.
    fn at_first(self) -> Self {
        Self { first: b"", ..self }
    }

    /// On a connection that the loop of agents' requests has.
    fn in_loop(self) -> Self {
        Self { first: RULES, ..self }
    }
}

/// The ways that do not depend on what may be done with a token.
fn ways() -> Vec<Way> {
    let head = b"GET /health HTTP/1.1\r\nX: ";
    vec![
        Way::new("nothing at all", "", None).at_first(),
        Way::new("a byte of a first head", "G", None).at_first(),
        Way::new("a first head, byte by byte", head, Some(b"x")).at_first(),
        Way::new("a byte of a second head", "G", None),
        Way::new("an empty line", "\r\n", None),
        Way::new("empty lines", "", Some(b"\r\n")),
        Way::new("half empty lines", "", Some(b"\r")),
        Way::new("a second head, byte by byte", head, Some(b"x")),
        Way::new("a second head, line by line", "GET /health HTTP/1.1\r\n", Some(b"A: b\r\n")),
        Way::new("chunks after a 401", REFUSED, Some(b"1\r\n \r\n")),
        Way::new("trailers after a 401", [REFUSED, b"0\r\n"].concat(), Some(b"A: b\r\n")),
        Way::new("a chunk's size after a 401", REFUSED, Some(b"0")),
        Way::new("chunks after a 404", NOWHERE, Some(b"1\r\n \r\n")),
        Way::new("a pipelined half after a whole", [HEALTH, b"GET /hea"].concat(), Some(b"l")),
        Way::new("a byte of a second head in the loop", "G", None).in_loop(),
        Way::new("an empty line in the loop", "\r\n", None).in_loop(),
        Way::new("a second head in the loop, byte by byte", head, Some(b"x")).in_loop(),
        Way::new("a pipelined half in the loop", [RULES, RULES, b"GET /api/r"].concat(), Some(b"u")).in_loop(),
    ]
}

/// The ways of somebody with a token, whose body is waited for.
fn bodies(server: &Server, id: &str) -> Vec<Way> {
    let head = |more: &str| {
        let token = &server.token;
        format!(
            "POST /api/agents/{id}/heartbeat HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\n{more}\r\n\r\n"
        )
    };
    let chunked = head("Transfer-Encoding: chunked");
    vec![
        Way::new("a body in the loop, byte by byte", head("Content-Length: 1000"), Some(b" ")).in_loop(),
        Way::new("no byte of a body in the loop", head("Content-Length: 2"), None).in_loop(),
        Way::new("no byte of a first body", head("Content-Length: 2"), None).at_first(),
        Way::new("a body, byte by byte", head("Content-Length: 1000"), Some(b" ")),
        Way::new("no byte of a body", head("Content-Length: 2"), None),
        Way::new("chunks of a body", chunked.clone(), Some(b"1\r\n \r\n")),
        Way::new("trailers of a body", chunked.clone() + "2\r\n{}\r\n0\r\n", Some(b"A: b\r\n")),
        Way::new("the size of a chunk", chunked, Some(b"0")),
    ]
}

/// A connection that has sent what it is held with.
fn hold(client: Client, way: &Way) -> io::Result<Stream> {
    let mut client = client;
    if !way.first.is_empty() {
        client.write(way.first)?;
        client.read_reply(false)?;
    }
    let mut stream = client.into_stream()?;
    stream.write_all(&way.opening)?;
    stream.flush()?;
    Ok(stream)
}

/// Goes on sending and reads what comes; how long until the server had nothing more to do with the connection.
fn until_closed(mut stream: Stream, drip: Option<&[u8]>, limit: Duration) -> Option<Duration> {
    let begun = Instant::now();
    let mut next = begun + DRIP;
    let mut has_ended = false;
    stream.socket().set_read_timeout(Some(LOOK)).unwrap();
    while begun.elapsed() < limit {
        match stream.read(&mut [0; 4_096]) {
            Ok(0) => has_ended = true,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            // The end of TLS without a farewell is an end as well.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => has_ended = true,
            Err(_) => return Some(begun.elapsed()),
        }
        if has_ended {
            // What is closed for good does not take anything any more.
            thread::sleep(LOOK);
            if stream.write_all(b"x").and_then(|()| stream.flush()).is_err() {
                return Some(begun.elapsed());
            }
        } else if drip.is_some() && Instant::now() >= next {
            next += DRIP;
            let sent = stream.write_all(drip.unwrap_or_default()).and_then(|()| stream.flush());
            if sent.is_err() {
                return Some(begun.elapsed());
            }
        }
    }
    None
}

/// Runs all cases at once, and fails with what each of them has to say.
fn side_by_side<T: Send>(cases: Vec<T>, check: impl Fn(T) -> Result<(), String> + Sync) {
    let failures = thread::scope(|scope| {
        let running: Vec<_> = cases.into_iter().map(|case| scope.spawn(|| check(case))).collect();
        running.into_iter().filter_map(|case| case.join().expect("no panic").err()).collect::<Vec<_>>()
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Runs whole checks at once, as most of them wait most of the time.
fn at_once(checks: &[fn()]) {
    thread::scope(|scope| checks.iter().for_each(|check| drop(scope.spawn(check))));
}

#[test]
fn an_answer_that_nobody_reads_is_given_up_after_its_time() {
    at_once(&[memory::unread_answers_are_given_up, http2::unread_answers_are_given_up]);
}

#[test]
fn a_client_that_sends_too_slowly_is_cut_and_one_that_is_slow_but_in_time_is_answered() {
    at_once(&[
        slow_requests_are_cut,
        slow_handshakes_are_cut,
        http2::slow_requests_are_cut,
        http2::slow_bodies_are_cut,
        requests_in_time_are_answered,
    ]);
}

#[test]
fn an_idle_connection_is_closed_when_its_time_is_over() {
    at_once(&[idle_connections_are_closed, http2::idle_connections_are_closed]);
}

#[test]
fn connections_held_in_any_way_leave_room_for_a_heartbeat() {
    at_once(&[held_connections_leave_room, http2::held_connections_leave_room]);
}

/// With every request of a connection.
fn slow_requests_are_cut() {
    let servers = [("plain", Launch::plain().start()), ("TLS", Launch::tls().start())];
    let mut cases = Vec::new();
    for (transport, server) in &servers {
        let (id, _) = server.client().enrol("h");
        cases.extend(ways().into_iter().chain(bodies(server, &id)).map(|way| (*transport, server, way)));
    }
    side_by_side(cases, |(transport, server, way)| {
        let Way { name, drip, .. } = way;
        let limit = SENDING + SLACK;
        let stream = hold(server.anonymous(), &way).map_err(|error| format!("{transport}, {name}: {error}"))?;
        match until_closed(stream, drip, limit) {
            Some(_) => Ok(()),
            None => Err(format!("{transport}, {name}: held for {limit:?}")),
        }
    });
    servers.iter().for_each(|(_, server)| assert_unharmed(server));
}

/// It answers, and nothing has panicked in it.
fn assert_unharmed(server: &Server) {
    server.anonymous().get("/health").data(200);
    let log = server.log();
    assert!(!log.contains("panicked"), "{log}");
}

fn slow_handshakes_are_cut() {
    let server = Launch::tls().start();
    // The beginning of a ClientHello of 512 bytes.
    let cases = vec![
        ("nothing", &b""[..], None),
        ("a record's type", &b"\x16"[..], None),
        ("byte by byte", &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], Some(&b"\0"[..])),
    ];
    side_by_side(cases, |(name, opening, drip)| {
        let mut socket = TcpStream::connect(server.api).map_err(|error| error.to_string())?;
        socket.write_all(opening).map_err(|error| error.to_string())?;
        let closed = until_closed(Stream::Plain(socket), drip, SENDING + SLACK);
        closed.map(drop).ok_or_else(|| format!("{name}: held"))
    });
    assert_unharmed(&server);
}

fn requests_in_time_are_answered() {
    let servers = [Launch::plain().start(), Launch::tls().start()];
    let mut cases = Vec::new();
    for server in &servers {
        let (id, _) = server.client().enrol("h");
        let beat = Request::new("POST", format!("/api/agents/{id}/heartbeat")).json(r#"{"cpu":5}"#);
        cases.push((server, HEALTH.to_vec()));
        cases.push((server, beat.encode(Some(&server.token))));
        cases.push((server, beat.chunked().encode(Some(&server.token))));
    }
    let cases =
        cases.into_iter().flat_map(|(server, request)| [HEALTH, RULES].map(|first| (server, first, request.clone())));
    side_by_side(cases.collect(), |(server, first, request)| {
        let mut client = server.anonymous();
        client.write(first).and_then(|()| client.read_reply(false)).map_err(|error| error.to_string())?;
        // Six seconds for all of it, again and again.
        for _ in 0..2 {
            for piece in request.chunks(request.len().div_ceil(6)) {
                client.write(piece).map_err(|error| error.to_string())?;
                thread::sleep(DRIP);
            }
            let status = client.read_reply(false).map_err(|error| error.to_string())?.status;
            if status != 200 {
                return Err(format!("{status} to {}", String::from_utf8_lossy(&request)));
            }
        }
        Ok(())
    });
}

/// And not before.
fn idle_connections_are_closed() {
    let idle = Duration::from_secs(3);
    let idle_way = Way::new("idle", "", None);
    let ways = [idle_way.clone(), idle_way.in_loop()];
    let cases = ways.iter().flat_map(|way| [(way, Launch::plain()), (way, Launch::tls())]).collect();
    side_by_side(cases, |(way, launch)| {
        let server = launch.env("GUARDBEAT_SERVER__KEEP_ALIVE_MS", idle.as_millis().to_string()).start();
        let stream = hold(server.anonymous(), way).map_err(|error| error.to_string())?;
        match until_closed(stream, None, idle + SLACK) {
            Some(time) if time + DRIP >= idle => Ok(()),
            other => Err(format!("closed after {other:?} instead of {idle:?}")),
        }
    });
}

/// So many connections are allowed.
const MOST: usize = 50;

fn held_connections_leave_room() {
    let idle = Way::new("idle after a request", "", None);
    let mut cases: Vec<_> = ways().into_iter().chain([idle.clone()]).map(|way| (Launch::plain(), way)).collect();
    let of_tls = ["nothing at all", "a second head, byte by byte", "chunks after a 401"];
    cases.extend(ways().into_iter().filter(|way| of_tls.contains(&way.name)).map(|way| (Launch::tls(), way)));
    cases.extend([(Launch::tls(), idle.clone()), (Launch::plain(), idle.in_loop())]);
    side_by_side(cases, |(launch, way)| {
        let name = format!("{}, TLS: {}", way.name, launch.is_tls());
        let one_worker = launch.env("GUARDBEAT_SERVER__WORKERS", "1");
        let server = one_worker.env("GUARDBEAT_SERVER__MAX_CONNECTIONS", MOST.to_string()).start();
        let (id, _) = server.client().enrol("h");
        // As many as are let in: the last may have to wait, or to go.
        let held: Vec<_> = (0..MOST).map_while(|_| hold(server.anonymous(), &way).ok()).collect();
        if held.len() < MOST - 2 {
            return Err(format!("{name}: {} connections only", held.len()));
        }
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        thread::scope(|scope| {
            scope.spawn(move || drip_on_all(held, way.drip, &stopped));
            let answered = beat_on_a_new_connection(&server, &id);
            drop(stop);
            answered.map_err(|error| format!("{name}: {error}"))
        })
    });
}

/// Whether a heartbeat is answered within the time; who is sent away at once may come again.
fn beat_on_a_new_connection(server: &Server, id: &str) -> Result<(), String> {
    let beat = Request::new("POST", format!("/api/agents/{id}/heartbeat")).json("{}");
    let begun = Instant::now();
    loop {
        let answer = server.client().try_send(&beat);
        match (answer, begun.elapsed() < SENDING + SLACK) {
            (Ok(reply), true) if reply.status == 200 => return Ok(()),
            (Err(_), true) => thread::sleep(2 * LOOK),
            (other, _) => return Err(format!("{other:?} after {:?}", begun.elapsed())),
        }
    }
}

/// Sends on on all of them until told to stop; those that were cut are gone.
fn drip_on_all(mut held: Vec<Stream>, drip: Option<&[u8]>, stopped: &std::sync::mpsc::Receiver<()>) {
    while stopped.recv_timeout(DRIP) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
        if let Some(drip) = drip {
            for stream in &mut held {
                // It may have been cut: that is what is wanted.
                let _ = stream.write_all(drip).and_then(|()| stream.flush());
            }
        }
    }
}

#[test]
fn silent_connections_do_not_delay_a_handshake() {
    let server = Launch::tls().start();
    // What a handshake takes here, on this busy machine.
    let shake = || {
        let begun = Instant::now();
        server.anonymous().get("/health").data(200);
        begun.elapsed()
    };
    let usual = (0..3).map(|_| shake()).max().expect("three of them");
    let mut silent = Vec::new();
    for count in [600, 2_000] {
        while silent.len() < count {
            silent.push(TcpStream::connect(server.api).unwrap());
        }
        let time = shake();
        assert!(time < usual * 3 + Duration::from_millis(750), "{time:?} instead of {usual:?} behind {count}");
    }
    // Nor do those that begin and stop.
    for socket in &mut silent {
        let _ = socket.write_all(b"\x16\x03\x01\x02\x00\x01");
    }
    let time = shake();
    assert!(time < SOON, "{time:?}");
}

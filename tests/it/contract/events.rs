//! `GET /api/events/stream`.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::support::{Event, EventStream, Launch, Request, SOON, Server, is_time, keys, wait_until};

const STREAMS: &str = "guardbeat_event_streams";

fn with_timeout(timeout_ms: u64, offline_after_ms: u64) -> Launch {
    Launch::either()
        .env("MANAGER_HEARTBEAT_TIMEOUT_MS", timeout_ms.to_string())
        .env("GUARDBEAT_LIVENESS__OFFLINE_AFTER_MS", offline_after_ms.to_string())
}

fn open(server: &Server) -> EventStream {
    EventStream::open(server.client(), None).0
}

#[test]
fn the_head_says_that_it_is_a_stream_and_not_to_be_kept() {
    let server = Launch::either().start();
    let (stream, connected) = EventStream::open(server.client(), None);
    let head = &stream.head;
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    assert_eq!(head.header("cache-control"), Some("no-store"));
    assert_eq!(head.header("x-accel-buffering"), Some("no"));
    assert_eq!(head.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(keys(&connected.data), ["message", "resumed"]);
    assert_eq!(connected.data["resumed"], false);
    assert!(connected.data["message"].as_str().is_some_and(|message| message.starts_with("Connected")));

    let mut client = server.client();
    for _ in 0..2 {
        let head = client.send(&Request::new("HEAD", "/api/events/stream"));
        assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
        assert_eq!(head.header("content-length"), None, "the stream has none");
    }
    assert_eq!(server.metric(STREAMS), 1.0);
}

#[test]
fn the_stream_is_the_administrators_alone() {
    let server = Launch::either().start();
    let (_, token) = server.client().enrol("h");
    let get = Request::new("GET", "/api/events/stream");
    assert_eq!(server.anonymous().send(&get).error(401), "Unauthorized");
    server.anonymous().with_token("wrong").send(&get).error(401);
    server.anonymous().with_token(&token).send(&get).error(403);
    for method in ["POST", "PUT", "DELETE"] {
        let refused = server.client().send(&Request::new(method, "/api/events/stream"));
        refused.error(405);
        assert_eq!(refused.header("allow"), Some("GET, HEAD"));
    }
    server.client().get("/api/events").error(404);
    server.client().get("/api/events/stream/more").error(404);
    assert_eq!(server.metric(STREAMS), 0.0);
}

#[test]
fn one_stream_too_many_is_refused_until_another_is_closed() {
    let server = Launch::either().env("GUARDBEAT_EVENTS__MAX_STREAMS", "2").start();
    let (first, _second) = (open(&server), open(&server));
    let refused = server.client().get("/api/events/stream");
    assert_eq!(refused.error(503), "Too many event streams are open; try again later");
    assert!(refused.header("retry-after").is_some());
    drop(first);
    // It is noticed when something is sent.
    wait_until(SOON, "a place is free", || {
        server.client().enrol("h");
        server.metric(STREAMS) == 1.0
    });
    open(&server);
}

#[test]
fn the_life_of_an_agent_is_told_in_order() {
    let server = with_timeout(400, 1_200).start();
    let mut stream = open(&server);
    let registered = server.client().register(&json!({
        "hostname": "web \"1\" \\\u{2028}", "os": "linux", "version": "1.0.0", "ip": "203.0.113.10"
    }));
    let id = registered["agentId"].as_str().unwrap();
    let about = |event: Event, name: &str, fields: &[&str]| {
        assert!(event.is(name, id), "{event:?}");
        assert_eq!(event.data["hostname"], "web \"1\" \\\u{2028}");
        assert_eq!(keys(&event.data), fields);
        event
    };
    let online =
        |event| assert_eq!(about(event, "agent_online", &["agentId", "hostname", "ip"]).data["ip"], "203.0.113.10");
    let silent = |event: Event, name| {
        let event = about(event, name, &["agentId", "hostname", "lastSeen"]);
        assert!(is_time(&event.data["lastSeen"]));
        event.data["lastSeen"].clone()
    };
    online(stream.next().unwrap());
    let seen = silent(stream.next().unwrap(), "agent_stale");
    assert_eq!(seen, registered["data"]["registeredAt"]);
    assert_eq!(silent(stream.next().unwrap(), "agent_offline"), seen);
    let beat = server.client().beat(id, "{}").data(200);
    online(stream.next().unwrap());
    assert_eq!(silent(stream.next().unwrap(), "agent_stale"), beat["lastHeartbeat"]);
    server.client().delete(&format!("/api/agents/{id}")).data(200);
    let last = stream.until(|event| event.name == "agent_deregistered").pop().unwrap();
    about(last, "agent_deregistered", &["agentId", "hostname"]);
    assert_eq!(server.metric(r#"guardbeat_events_total{type="agent_online"}"#), 2.0);
    assert_eq!(server.metric(r#"guardbeat_events_total{type="agent_deregistered"}"#), 1.0);
}

#[test]
fn a_machine_that_registers_again_is_told_only_if_it_was_silent() {
    let server = with_timeout(1_000, 60_000).start();
    let mut stream = open(&server);
    let body = json!({"hostname": "h", "os": "linux", "version": "1", "machine_id": "m-1"});
    let id = server.client().register(&body)["agentId"].as_str().unwrap().to_owned();
    server.client().register(&body);
    let told = stream.until(|event| event.name == "agent_stale");
    assert_eq!(told.iter().map(|event| &*event.name).collect::<Vec<_>>(), ["agent_online", "agent_stale"]);
    server.client().register(&body);
    assert!(stream.next().unwrap().is("agent_online", &id));
}

#[test]
fn agents_restored_at_a_start_are_not_told() {
    let server = Launch::either().start();
    server.client().enrol("old");
    let server = server.restart();
    let mut stream = open(&server);
    let (new, _) = server.client().enrol("new");
    assert!(stream.next().unwrap().is("agent_online", &new));
    assert_eq!(server.metric(r#"guardbeat_events_total{type="agent_online"}"#), 1.0);
}

#[test]
fn who_comes_back_misses_nothing_and_reads_nothing_twice() {
    let server = Launch::either().start();
    let (mut steady, connected) = EventStream::open(server.client(), None);
    let mut all = vec![];
    for n in 0..20 {
        server.client().enrol(&format!("h{n}"));
        all.push(steady.next().unwrap());
    }
    let numbers: Vec<_> = all.iter().map(Event::number).collect();
    assert_eq!(numbers, (1..=20).collect::<Vec<_>>());
    let ids: Vec<_> = [&connected].into_iter().chain(&all).map(|event| event.id.clone().unwrap()).collect();
    for (seen, id) in ids.iter().enumerate() {
        let (mut stream, connected) = EventStream::open(server.client(), Some(id));
        assert_eq!((connected.data["resumed"].as_bool(), connected.id.as_ref()), (Some(true), Some(id)));
        let rest: Vec<_> = (seen..20).map(|_| stream.next().unwrap()).collect();
        assert_eq!(rest, all[seen..]);
    }
}

#[test]
fn an_id_that_is_not_known_any_more_begins_anew_and_says_so() {
    let server = Launch::either().start();
    let mut before = open(&server);
    server.client().enrol("a");
    let old = before.next().unwrap().id.unwrap();
    let run = old.split_once('-').unwrap().0;
    let unknown = |server: &Server, id: &str| {
        let (mut stream, connected) = EventStream::open(server.client(), Some(id));
        assert_eq!(connected.data["resumed"], false, "{id}");
        let (agent, _) = server.client().enrol("b");
        assert!(stream.next().unwrap().is("agent_online", &agent), "{id}");
    };
    for id in
        [&format!("{run}-99"), &format!("{run}-x"), "0123456789abcdef-1", "1", "-", "", "\u{1F600}", &"9".repeat(4_000)]
    {
        unknown(&server, id);
    }
    let server = server.restart();
    // Numbers begin again with every run.
    unknown(&server, &old);
    unknown(&server, &old);
}

#[test]
fn draining_ends_all_streams_at_once() {
    let mut server = Launch::either().start();
    let mut streams: Vec<_> = (0..20).map(|_| open(&server)).collect();
    let began = Instant::now();
    assert!(server.terminate().success());
    assert!(began.elapsed() < Duration::from_secs(8), "far from the grace period of 10 s: {:?}", began.elapsed());
    for stream in &mut streams {
        assert_eq!(stream.next(), None, "its end is not torn off");
    }
}

#[test]
fn streams_take_no_place_of_requests() {
    let server = Launch::either().env("GUARDBEAT_LIMITS__MAX_IN_FLIGHT", "2").start();
    let _streams: Vec<_> = (0..20).map(|_| open(&server)).collect();
    for _ in 0..10 {
        server.client().enrol("h");
    }
}

#[test]
fn a_connection_can_be_used_on_after_a_refused_stream() {
    let server = Launch::either().start();
    let mut client = server.anonymous();
    client.get("/api/events/stream").error(401);
    client.get("/health").data(200);
}

/// Makes the agents online, all together.
fn beat_all(server: &Server, ids: &[String]) {
    for ids in ids.chunks(10_000) {
        let lines: String = ids.iter().map(|id| format!("{{\"id\":\"{id}\"}}\n")).collect();
        let batch = Request::new("POST", "/api/heartbeats").header("Content-Type", "application/x-ndjson").body(lines);
        assert_eq!(server.client().send(&batch).data(200)["accepted"], ids.len());
    }
}

/// How often agents changed from a status to another.
fn transitions(server: &Server, from: &str, to: &str) -> u64 {
    server.metric(&format!("guardbeat_transitions_total{{from=\"{from}\",to=\"{to}\"}}")) as u64
}

#[test]
fn a_hundred_readers_see_the_same_when_thousands_fall_silent_and_come_back_and_the_counts_add_up() {
    const AGENTS: u64 = 2_000;
    let server = with_timeout(2_000, 600_000).env("GUARDBEAT_STORE__URL", "memory:").start();
    let mut first = open(&server);
    let is_end = |event: &Event| event.data["hostname"] == "end";
    let readers: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = open(&server);
            thread::spawn(move || stream.until(is_end))
        })
        .collect();
    let mut client = server.client();
    let ids: Vec<_> = (0..AGENTS).map(|n| client.enrol(&format!("h{n}")).0).collect();
    for _ in 0..2 {
        beat_all(&server, &ids);
        wait_until(SOON, "all are silent", || server.client().get("/health").data(200)["agents"]["online"] == 0);
    }
    let (stale, back) = (transitions(&server, "online", "stale"), transitions(&server, "stale", "online"));
    assert!(stale >= 2 * AGENTS && back >= AGENTS, "{stale} {back}");
    let mut left = stale;
    first.until(|event| {
        left -= event.turned("stale");
        left == 0
    });
    server.client().enrol("end");

    let seen: Vec<_> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
    let events = &seen[0];
    assert!(seen.iter().all(|other| other == events), "one order for all");
    assert!(events.iter().map(Event::number).eq(1..=events.len() as u64), "none is missing");
    let turned = |status| events.iter().map(|event| event.turned(status)).sum::<u64>();
    assert_eq!((turned("stale"), turned("online")), (stale, AGENTS + back + 1));
    let masses = events.iter().filter(|event| event.name == "fleet_changed").count();
    assert!(masses >= 3 && events.len() < 2 * AGENTS as usize, "{masses} of {} events", events.len());
}

#[test]
fn readers_that_stand_still_are_cut_off_and_hold_up_nobody_and_no_memory() {
    let mut server = Launch::plain()
        .env("MANAGER_HEARTBEAT_TIMEOUT_MS", "100")
        .env("GUARDBEAT_STORE__URL", "memory:")
        .env("GUARDBEAT_EVENTS__BACKLOG", "1024")
        .start();
    let mut slow: Vec<_> = (0..20).map(|_| open(&server)).collect();
    let _never_reads = open(&server);
    let mut quick = open(&server);
    let hostname = "\u{1F600}".repeat(255);
    let ids: Vec<_> = (0..50).map(|_| server.client().enrol(&hostname).0).collect();
    let memory = |server: &Server| server.metric("process_resident_memory_bytes");
    let (mut seen, before) = (0, memory(&server));
    // A kilobyte each: far more than the backlog and the buffers of a connection hold.
    while seen < 1_024 + 1_500 {
        beat_all(&server, &ids);
        let mut silent = 0;
        seen += quick
            .until(|event| {
                silent += event.turned("stale");
                silent >= 50
            })
            .len() as u64;
    }
    let grown = memory(&server) - before;
    assert!(grown < 20e6, "50 MB were told to those who stood still, {grown} bytes are kept");
    for stream in &mut slow {
        let mut told = stream.until(|event| event.name == "lagged" || event.number() == seen);
        assert_eq!(stream.next(), None, "it was cut off");
        assert_eq!(told.pop().unwrap().id, None);
        assert!(told.iter().map(Event::number).eq(1..=told.len() as u64), "nothing is missing before its end");
    }
    wait_until(SOON, "they are counted", || server.metric("guardbeat_event_readers_cut_off_total") >= 20.0);
    let began = Instant::now();
    assert!(server.terminate().success());
    assert!(began.elapsed() < Duration::from_secs(8), "it does not wait for the last one: {:?}", began.elapsed());
}

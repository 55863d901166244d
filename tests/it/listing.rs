//! Large fleets: streamed whole, and paged while agents come and go.

use std::{
    collections::HashSet,
    io::{Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{Client, Launch, Request, SOON, Server, wait_until};

/// Registers agents over some connections at once; their ids, sorted.
fn populate(server: &Server, agents: usize, connections: usize) -> Vec<String> {
    let mut ids: Vec<String> = thread::scope(|scope| {
        let workers: Vec<_> = (0..connections)
            .map(|worker| {
                scope.spawn(move || {
                    let mut client = server.client();
                    let mine = (worker..agents).step_by(connections);
                    mine.map(|n| client.enrol(&format!("host-{n}")).0).collect::<Vec<_>>()
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    ids.sort();
    ids
}

fn ids(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|agent| agent["id"].as_str().unwrap().to_owned()).collect()
}

/// Walks through the fleet page by page.
fn walk(client: &mut Client, limit: usize) -> Vec<String> {
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let reply = client.get(&format!("/api/agents?limit={limit}{cursor}"));
        let page = ids(&reply.data(200));
        assert!(page.len() <= limit);
        seen.extend(page);
        match reply.json().get("nextCursor") {
            Some(next) => cursor = format!("&cursor={}", next.as_str().unwrap()),
            None => return seen,
        }
    }
}

#[test]
fn ten_thousand_agents_are_streamed_each_once_and_in_order() {
    let server = Launch::plain().start();
    let registered = populate(&server, 10_000, 32);
    let mut client = server.client();
    let reply = client.get("/api/agents");
    assert_eq!(reply.header("transfer-encoding"), Some("chunked"), "it is streamed");
    assert_eq!(ids(&reply.data(200)), registered);
    assert_eq!(walk(&mut client, 1_000), registered);
    assert_eq!(walk(&mut client, 999), registered);
    assert_eq!(client.get("/health").data(200)["agents"]["total"], 10_000);
    let none = client.get("/api/agents?status=offline").json();
    assert_eq!(none, serde_json::json!({"ok": true, "data": []}));
    // A reader that leaves in the middle troubles nobody.
    let mut leaver = server.client();
    leaver.write(&crate::support::Request::new("GET", "/api/agents").encode(Some(&server.token))).unwrap();
    drop(leaver);
    assert_eq!(ids(&client.get("/api/agents").data(200)), registered);
}

#[test]
fn paging_sees_every_agent_that_lives_through_it_exactly_once() {
    let server = Launch::plain().start();
    let stayers = populate(&server, 400, 8);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for worker in 0..4 {
            let (server, done) = (&server, &done);
            scope.spawn(move || {
                let mut client = server.client();
                while !done.load(Relaxed) {
                    let (id, _) = client.enrol(&format!("passer-by-{worker}"));
                    client.delete(&format!("/api/agents/{id}")).data(200);
                }
            });
        }
        let walks = scope.spawn(|| {
            let mut client = server.client();
            let mut strangers = 0;
            for limit in [3, 7, 10, 50, 399, 400] {
                let seen = walk(&mut client, limit);
                assert!(seen.is_sorted_by(|a, b| a < b), "in order, and none twice");
                let seen: HashSet<_> = seen.into_iter().collect();
                assert!(stayers.iter().all(|id| seen.contains(id)), "limit={limit}");
                strangers += seen.len() - stayers.len();
                let whole = ids(&client.get("/api/agents").data(200));
                assert!(whole.is_sorted_by(|a, b| a < b), "in order, and none twice");
                let whole: HashSet<_> = whole.into_iter().collect();
                assert!(stayers.iter().all(|id| whole.contains(id)));
            }
            strangers
        });
        let walked = walks.join();
        done.store(true, Relaxed);
        assert!(walked.unwrap() > 0, "agents came and went meanwhile");
    });
    assert_eq!(ids(&server.client().get("/api/agents").data(200)), stayers);
}

#[test]
fn a_cursor_stays_good_when_its_agent_is_gone() {
    let server = Launch::plain().start();
    let all = populate(&server, 10, 2);
    let mut client = server.client();
    let first = client.get("/api/agents?limit=4");
    let cursor = first.json()["nextCursor"].as_str().unwrap().to_owned();
    for id in &all[2..5] {
        client.delete(&format!("/api/agents/{id}")).data(200);
    }
    let rest = client.get(&format!("/api/agents?limit=10&cursor={cursor}"));
    assert_eq!(ids(&rest.data(200)), all[5..]);
}

#[test]
fn a_list_that_is_being_streamed_is_finished_before_the_process_ends() {
    let mut server = Launch::plain().start();
    let (agents, tags): (usize, Vec<_>) = (4_000, (0..32).map(|tag| format!("{tag:064}")).collect());
    thread::scope(|scope| {
        for _ in 0..8 {
            let mut client = server.client();
            let body = json!({"hostname": "h", "os": "linux", "version": "1", "tags": tags});
            scope.spawn(move || (0..agents / 8).for_each(|_| drop(client.register(&body))));
        }
    });
    // Ten megabytes: more than the sockets hold while nobody reads.
    let mut reader = TcpStream::connect(server.api).unwrap();
    reader.set_read_timeout(Some(SOON)).unwrap();
    reader.write_all(&Request::new("GET", "/api/agents").encode(Some(&server.token))).unwrap();
    let mut list = vec![0; 1_000];
    reader.read_exact(&mut list).unwrap();
    server.signal(Signal::SIGTERM);
    let mut operations = server.operations();
    wait_until(SOON, "it has been told to stop", || operations.get("/readyz").status == 503);
    assert!(server.is_running());
    reader.read_to_end(&mut list).unwrap();
    assert!(list.ends_with(b"]}\r\n0\r\n\r\n"), "to its last chunk");
    assert_eq!(String::from_utf8(list).unwrap().matches(r#""hostname":"h""#).count(), agents);
    assert_eq!(server.wait_for_end().code(), Some(0), "{}", server.log());
}

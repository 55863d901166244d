//! Large fleets: streamed whole, and paged while agents come and go.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

use serde_json::Value;

use crate::support::{Client, Launch, Server};

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

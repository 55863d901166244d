//! `GET /api/agents`: rows, filters, pages.

use serde_json::{Value, json};

use crate::support::{Client, Launch, SOON, keys, wait_until};

fn ids(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|agent| agent["id"].as_str().unwrap().to_owned()).collect()
}

fn hostnames(client: &mut Client, query: &str) -> String {
    let list = client.get(&format!("/api/agents{query}")).data(200);
    let mut names: Vec<_> =
        list.as_array().unwrap().iter().map(|agent| agent["hostname"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names.concat()
}

/// Every page of a query.
fn pages(client: &mut Client, query: &str) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut cursor = String::new();
    loop {
        let reply = client.get(&format!("/api/agents?{query}{cursor}"));
        pages.push(ids(&reply.data(200)));
        let json = reply.json();
        let Some(next) = json.get("nextCursor") else {
            assert_eq!(keys(&json), ["data", "ok"]);
            return pages;
        };
        assert_eq!(keys(&json), ["data", "nextCursor", "ok"]);
        cursor = format!("&cursor={}", next.as_str().expect("a string"));
    }
}

#[test]
fn an_empty_fleet_is_an_empty_list() {
    let server = Launch::either().start();
    let mut client = server.client();
    for query in ["", "?limit=1", "?status=online", "?tag=a&org_id=b"] {
        assert_eq!(client.get(&format!("/api/agents{query}")).json(), json!({"ok": true, "data": []}), "{query}");
    }
}

#[test]
fn a_row_has_these_fields_and_no_others() {
    let server = Launch::either().start();
    let mut client = server.client();
    let id = client.enrol("h").0;
    client.beat(&id, json!({"cpu": 1, "mode": "learning"})).data(200);
    let row = client.get("/api/agents").data(200)[0].take();
    let fields = ["hostname", "id", "ip", "lastHeartbeat", "os", "registeredAt", "status", "tags", "version"];
    assert_eq!(keys(&row), fields);
    client.delete(&format!("/api/agents/{id}")).data(200);

    let enrolled = client.register(
        &json!({"hostname": "web", "os": "linux", "version": "1", "ip": "192.0.2.1", "org_id": "acme", "tags": ["b", "a"]}),
    );
    let row = client.get("/api/agents").data(200)[0].take();
    assert_eq!(row["lastHeartbeat"], row["registeredAt"], "it has not beaten yet");
    for name in keys(&enrolled["data"]) {
        assert_eq!(row[name], enrolled["data"][name], "{name}");
    }
    assert_eq!(keys(&row).len(), fields.len() + 1);
}

#[test]
fn the_list_is_in_id_order() {
    let server = Launch::either().start();
    let mut client = server.client();
    let mut registered: Vec<_> = (0..50).map(|n| client.enrol(&format!("h{n}")).0).collect();
    registered.sort();
    assert_eq!(ids(&client.get("/api/agents").data(200)), registered);
    assert_eq!(pages(&mut client, "limit=9").concat(), registered);
}

#[test]
fn filters_narrow_alone_and_together() {
    let server = Launch::either().start();
    let mut client = server.client();
    for (hostname, org, tags) in [
        ("a", Some("acme"), json!(["web", "prod"])),
        ("b", Some("acme"), json!(["web"])),
        ("c", Some("globex"), json!(["web", "prod", "eu"])),
        ("d", None, json!(["prod"])),
        ("e", None, json!([])),
        ("f", Some("a&b=c d/é"), json!(["x y&z"])),
    ] {
        let body = json!({"hostname": hostname, "os": "linux", "version": "1", "org_id": org, "tags": tags});
        client.register(&body);
    }
    for (query, expected) in [
        ("", "abcdef"),
        ("?", "abcdef"),
        ("?org_id=acme", "ab"),
        ("?org_id=globex", "c"),
        ("?org_id=nobody", ""),
        ("?org_id=ACME", ""),
        ("?org_id=acm", ""),
        ("?tag=web", "abc"),
        ("?tag=prod", "acd"),
        ("?tag=web&tag=prod", "ac"),
        ("?tag=prod&tag=web", "ac"),
        ("?tag=web&tag=web", "abc"),
        ("?tag=web&tag=prod&tag=eu", "c"),
        ("?tag=web&tag=nothing", ""),
        ("?tag=we", ""),
        ("?org_id=acme&tag=prod", "a"),
        ("?org_id=acme&tag=eu", ""),
        ("?status=online", "abcdef"),
        ("?status=stale", ""),
        ("?status=offline", ""),
        ("?status=online&org_id=acme&tag=web&tag=prod", "a"),
        ("?status=offline&org_id=acme", ""),
        ("?org_id=acme&limit=1000", "ab"),
        ("?org_id=a%26b%3Dc%20d%2F%C3%A9", "f"),
        ("?tag=x+y%26z", "f"),
    ] {
        assert_eq!(hostnames(&mut client, query), expected, "{query}");
    }
}

#[test]
fn agents_are_found_by_each_status() {
    let server = Launch::either()
        .env("MANAGER_HEARTBEAT_TIMEOUT_MS", "200")
        .env("GUARDBEAT_LIVENESS__GRACE_MS", "100")
        .env("GUARDBEAT_LIVENESS__OFFLINE_AFTER_MS", "2000")
        .start();
    let mut client = server.client();
    let (beating, _) = client.enrol("b");
    client.enrol("s");
    for status in ["stale", "offline"] {
        wait_until(SOON, status, || {
            client.beat(&beating, "{}").data(200);
            let found = hostnames(&mut client, &format!("?status={status}")) == "s";
            found && hostnames(&mut client, "?status=online") == "b"
        });
        let other = if status == "stale" { "offline" } else { "stale" };
        // What is silent goes on to offline by itself, so the other one is only asked about where that cannot be.
        if status == "offline" {
            assert!(!hostnames(&mut client, &format!("?status={other}")).contains('s'));
        }
    }
    assert_eq!(hostnames(&mut client, "").len(), 2, "who is offline stays in the fleet");
}

#[test]
fn parameters_that_make_no_sense_are_400() {
    let server = Launch::either().start();
    let mut client = server.client();
    let (id, _) = client.enrol("h");
    for (name, values) in [
        ("status", vec!["", "Online", "up", "online,stale", "online%20", "0"]),
        ("limit", vec!["", "0", "1001", "-1", "1.5", "x", "1e2", "99999999999999999999", "%2B%2B1", "10%20"]),
        ("cursor", vec!["", "x", "agent-", "0", "%00", &id[..id.len() - 1]]),
    ] {
        for value in values {
            let error = client.get(&format!("/api/agents?{name}={value}")).error(400);
            assert!(error.contains(name), "{name}={value}: {error}");
            let error = client.get(&format!("/api/agents?limit=5&{name}={value}").replace("limit=5&limit", "limit"));
            assert!(error.error(400).contains(name), "{name}={value}");
        }
    }
    for good in ["limit=1", "limit=1000", "status=online", "status=stale", "status=offline"] {
        client.get(&format!("/api/agents?{good}")).data(200);
    }
}

#[test]
fn pages_are_full_and_the_last_one_has_no_cursor() {
    let server = Launch::either().start();
    let mut client = server.client();
    let mut all = Vec::new();
    for n in 0..30 {
        let org = if n % 3 == 0 { "third" } else { "rest" };
        let body = json!({"hostname": format!("h{n}"), "os": "linux", "version": "1", "org_id": org});
        all.push((client.register(&body)["agentId"].as_str().unwrap().to_owned(), org));
    }
    all.sort();
    let everyone: Vec<_> = all.iter().map(|(id, _)| id.clone()).collect();
    for (limit, sizes) in [
        (1, vec![1; 30]),
        (7, vec![7, 7, 7, 7, 2]),
        (10, vec![10, 10, 10]),
        (29, vec![29, 1]),
        (30, vec![30]),
        (31, vec![30]),
        (1000, vec![30]),
    ] {
        let pages = pages(&mut client, &format!("limit={limit}"));
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), sizes, "limit={limit}");
        assert_eq!(pages.concat(), everyone, "limit={limit}");
    }
    let thirds: Vec<_> = all.iter().filter(|(_, org)| *org == "third").map(|(id, _)| id.clone()).collect();
    for (limit, sizes) in [(3, vec![3, 3, 3, 1]), (5, vec![5, 5]), (10, vec![10])] {
        let pages = pages(&mut client, &format!("org_id=third&status=online&limit={limit}"));
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), sizes, "limit={limit}");
        assert_eq!(pages.concat(), thirds, "limit={limit}");
    }
}

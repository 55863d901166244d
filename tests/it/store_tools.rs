//! `guardbeat store`: looking into a store, and moving a fleet from one to another.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    Client, Launch, SOON, Server,
    redis::RedisServer,
    server::{Ended, run},
    wait_until,
};

mod stopped;

const TOKEN: &str = "a-configured-token";
/// Long enough for any wait that a test does not mean to see the end of.
const LONG: &str = "60000";

/// A daemon that calls an agent stale after four seconds, but none for a minute after its start, save those that were
/// stale before.
fn daemon(store: &str) -> Launch {
    let launch = Launch::plain().arg("--store").arg(store).env("MANAGER_AUTH_TOKEN", TOKEN);
    launch
        .env("GUARDBEAT_LIVENESS__TIMEOUT_MS", "3000")
        .env("GUARDBEAT_LIVENESS__GRACE_MS", "1000")
        .env("GUARDBEAT_LIVENESS__RESTART_GRACE_MS", LONG)
}

/// Registers agents with every field there is; id and token of each.
fn enrol<const N: usize>(client: &mut Client, names: [&str; N]) -> [(String, String); N] {
    names.map(|name| {
        let enrolled = client.register(&json!({
            "hostname": name, "os": "linux", "version": "1.0", "ip": "2001:db8::7", "org_id": "acme",
            "tags": ["production", "ürban"], "machine_id": format!("machine of {name}"),
        }));
        let text = |field: &str| enrolled[field].as_str().unwrap().to_owned();
        (text("agentId"), text("token"))
    })
}

/// A heartbeat with every figure there is.
fn beat(client: &mut Client, (id, token): &(String, String)) {
    let figures = json!({
        "uptime": 86_400, "cpu": 12.5, "memory": 48.25, "version": "1.1", "mode": "protect", "eventsProcessed": 7,
        "threatsDetected": 3, "actionsExecuted": 1, "memoryUsageMB": 55.5,
    });
    client.with_token(token).beat(id, figures).data(200);
}

/// Everything that is shown of every agent, its status included.
fn everything(server: &Server) -> BTreeMap<String, Value> {
    let mut client = server.client();
    let listed = client.get("/api/agents").data(200);
    let ids = listed.as_array().unwrap().iter().map(|agent| agent["id"].as_str().unwrap().to_owned());
    ids.map(|id| (id.clone(), client.get(&format!("/api/agents/{id}")).data(200))).collect()
}

fn store(dir: &Path, args: &[&str]) -> Ended {
    run(dir, &[&["store"], args].concat(), &[])
}

fn copy(dir: &Path, from: &str, to: &str, more: &[&str]) -> Ended {
    store(dir, &[&["copy", "--from", from, "--to", to], more].concat())
}

/// It ended with this code, and said all of this.
fn ends(ended: &Ended, code: i32, parts: &[&str]) {
    let said = format!("{}{}", ended.stdout, ended.stderr);
    assert_eq!(ended.code, Some(code), "{said}");
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

/// The value of a line of a check.
fn line<'a>(ended: &'a Ended, name: &str) -> &'a str {
    let line = ended.stdout.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in: {}", ended.stdout)).trim()
}

/// A fleet of three in an embedded store: one is alive, one has been heard once, one never. Its folder.
fn small_fleet() -> TempDir {
    let dir = TempDir::new().unwrap();
    let url = format!("embedded:{}", dir.path().join("store").display());
    let mut server = daemon(&url).start();
    let [alive, once, _] = enrol(&mut server.client(), ["alive", "once", "never"]);
    beat(&mut server.client(), &once);
    beat(&mut server.client(), &alive);
    assert!(server.terminate().success());
    dir
}

#[test]
fn after_a_clean_stop_a_check_finds_nothing_amiss() {
    for restart_grace in [LONG, "0"] {
        let dir = TempDir::new().unwrap();
        let url = format!("embedded:{}", dir.path().join("store").display());
        // A run that ends within its restart grace, and one that has none.
        let mut server = daemon(&url).env("GUARDBEAT_LIVENESS__RESTART_GRACE_MS", restart_grace).start();
        let mut client = server.client();
        let [stays, leaves] = enrol(&mut client, ["stays", "leaves"]);
        beat(&mut client, &stays);
        beat(&mut client, &leaves);
        // Its heartbeat is in the log already.
        wait_until(SOON, "both are written", || server.metric("guardbeat_store_flushed_heartbeats_total") >= 2.0);
        client.with_token(TOKEN).delete(&format!("/api/agents/{}", leaves.0)).data(200);
        assert!(server.terminate().success());
        let checked = store(dir.path(), &["check", "--store", &url]);
        ends(&checked, 0, &["agents           1\n", "last heartbeats  1\n", "corrupt records  0\n"]);
        assert!(line(&checked, "orphans").starts_with("0 "), "{}", checked.stdout);
        assert!(line(&checked, "clock").contains("s (time in which servers could hear)"), "{}", checked.stdout);
    }
}

#[test]
fn a_fleet_moves_to_redis_and_back_with_all_there_is_of_it() {
    let dir = TempDir::new().unwrap();
    let embedded = format!("embedded:{}", dir.path().join("first").display());
    let mut server = daemon(&embedded).env("GUARDBEAT_LIVENESS__RESTART_GRACE_MS", "0").start();
    let mut client = server.client();
    let [alive, once, never] = enrol(&mut client, ["alive", "once", "never"]);
    beat(&mut client, &once);
    for org in [Value::Null, json!("acme"), Value::Null] {
        client.post("/api/policy", json!({"name": "p", "org_id": org, "rules": []})).data(201);
    }
    client.get(&format!("/api/policy/agent/{}", never.0)).data(200);
    for agent in [&once, &never] {
        let event = json!({"type": "scan", "severity": "high", "details": {"n": 1}});
        client.post(&format!("/api/agents/{}/events", agent.0), json!({"events": [event, event]})).data(201);
    }
    let threats = client.get("/api/threats").data(200);
    let status = |client: &mut Client, agent: &(String, String)| {
        let shown = client.get(&format!("/api/agents/{}", agent.0)).data(200);
        shown["status"].as_str().unwrap().to_owned()
    };
    // For a while: the clock in the store is that of the last flush.
    let mut since = None;
    wait_until(SOON, "two have been stale for a second", || {
        beat(&mut client, &alive);
        let are_stale = status(&mut client, &never) == "stale" && status(&mut client, &once) == "stale";
        are_stale && since.get_or_insert_with(Instant::now).elapsed() > Duration::from_secs(1)
    });
    let before = everything(&server);
    assert!(server.terminate().success());

    let redis = RedisServer::start();
    let moved = copy(dir.path(), &embedded, &redis.url(), &[]);
    ends(&moved, 0, &["copied 3 agents, 2 last heartbeats, 2 policies in force, 4 threats", "first", &redis.url()]);
    let checked = store(dir.path(), &["check", "--store", &redis.url()]);
    ends(&checked, 0, &[]);
    let same = store(dir.path(), &["check", "--store", &embedded]);
    for name in [
        "agents",
        "last heartbeats",
        "never heard",
        "policies",
        "threats",
        "orphans",
        "corrupt records",
        "last saved",
        "clock",
    ] {
        assert_eq!(line(&checked, name), line(&same, name));
    }
    let mut server = daemon(&redis.url()).start();
    // Also who has been silent, and for how long.
    assert_eq!(everything(&server), before);
    assert_eq!(before[&never.0]["activePolicyVersion"], "v2");
    assert_eq!(
        (&before[&never.0]["recentThreats"], server.client().get("/api/threats").data(200)),
        (&json!(2), threats)
    );
    beat(&mut server.client(), &once);
    let before = everything(&server);
    assert_eq!(before[&once.0]["status"], "online");
    assert!(server.terminate().success());

    let back = format!("embedded:{}", dir.path().join("second").display());
    ends(&copy(dir.path(), &redis.url(), &back, &[]), 0, &["copied 3 agents, 2 last heartbeats"]);
    let server = daemon(&back).start();
    assert_eq!(everything(&server), before);
    let pending = |id: &str| server.client().beat(id, "{}").data(200)["pendingPolicies"].clone();
    assert_eq!((pending(&never.0), pending(&alive.0)), (json!(0), json!(3)));
    beat(&mut server.client(), &never);
    assert_eq!(server.metric("guardbeat_store_corrupt_records_total"), 0.0);
}

#[test]
fn a_check_tells_what_is_there() {
    let dir = small_fleet();
    let checked = store(dir.path(), &["check", "--store", "embedded:store"]);
    ends(&checked, 0, &[]);
    assert!(line(&checked, "store").ends_with("/store"));
    assert_eq!((line(&checked, "format"), line(&checked, "agents")), ("3", "3"));
    assert_eq!(line(&checked, "last heartbeats"), "2");
    assert!(line(&checked, "never heard").starts_with("1 "));
    assert!(line(&checked, "last saved").starts_with("20"));
    assert_eq!(checked.stderr, "");
    // The same by the data folder it is in.
    assert_eq!(store(dir.path(), &["check", "--data-dir", "."]).stdout, checked.stdout);
}

#[test]
fn what_is_not_there_is_not_made_by_looking_for_it() {
    let dir = TempDir::new().unwrap();
    ends(&store(dir.path(), &["check"]), 1, &["there is no store in", "data/store", "--data-dir"]);
    fs::create_dir(dir.path().join("other")).unwrap();
    ends(&store(dir.path(), &["check", "--store", "embedded:other"]), 1, &["there is no store in"]);
    let redis = RedisServer::start();
    ends(&copy(dir.path(), "embedded:nowhere", &redis.url(), &[]), 1, &["there is no store in", "nowhere"]);
    assert_eq!(redis.keys("*"), Vec::<String>::new());
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name == "data" || name == "nowhere"), "{left:?}");
    assert_eq!(fs::read_dir(dir.path().join("other")).unwrap().count(), 0);
    ends(&store(dir.path(), &["check", "--store", &redis.url()]), 0, &["agents           0", "never"]);
    assert_eq!(redis.keys("*"), Vec::<String>::new());
}

#[test]
fn a_store_that_is_in_use_is_left_alone() {
    let redis = RedisServer::start();
    let dir = TempDir::new().unwrap();
    let server = daemon(&redis.url()).start();
    let [(id, _)] = enrol(&mut server.client(), ["host"]);
    ends(&store(dir.path(), &["check", "--store", &redis.url()]), 0, &["agents           1"]);
    let embedded = Launch::plain().start();
    let in_use = format!("embedded:{}", embedded.data().join("store").display());
    let locked = "in use by another process";
    ends(&store(dir.path(), &["check", "--store", &in_use]), 1, &["cannot be checked", locked]);
    ends(&copy(dir.path(), &redis.url(), "embedded:new", &[]), 1, &["Nothing was copied", locked]);
    ends(&copy(dir.path(), "embedded:new", &in_use, &[]), 1, &["there is no store in"]);
    let from = small_fleet();
    let from = format!("embedded:{}", from.path().join("store").display());
    ends(&copy(dir.path(), &from, &redis.url(), &["--merge"]), 1, &["Nothing was copied", locked]);
    ends(&copy(dir.path(), &from, &in_use, &["--merge"]), 1, &["Nothing was copied", locked]);
    assert!(!dir.path().join("new").exists());
    assert_eq!(everything(&server).into_keys().collect::<Vec<_>>(), [id]);
    assert!(server.is_ready());
}

#[test]
fn a_target_that_is_not_empty_is_added_to_only_on_demand() {
    let dir = small_fleet();
    let redis = RedisServer::start();
    let mut server = daemon(&redis.url()).start();
    let [agent] = enrol(&mut server.client(), ["other"]);
    beat(&mut server.client(), &agent);
    assert!(server.terminate().success());
    let before = records(&redis, "guardbeat:");
    let refused = copy(dir.path(), "embedded:store", &redis.url(), &[]);
    ends(&refused, 1, &["Nothing was copied", "has 1 agent; copy into an empty store, or say --merge"]);
    assert_eq!(records(&redis, "guardbeat:"), before);
    for _ in 0..2 {
        let merged = copy(dir.path(), "embedded:store", &redis.url(), &["--merge"]);
        ends(&merged, 0, &["copied 3 agents, 2 last heartbeats"]);
    }
    let server = daemon(&redis.url()).start();
    let all = everything(&server);
    assert_eq!(all.len(), 4);
    assert!(all.values().all(|shown| shown["status"] == "online"), "{all:?}");
    beat(&mut server.client(), &agent);
}

#[test]
fn one_store_on_both_sides_is_refused() {
    let dir = small_fleet();
    let redis = RedisServer::start();
    let url = redis.url();
    ends(&copy(dir.path(), "embedded:store", "embedded:./store", &[]), 2, &["both sides", "two different stores"]);
    ends(&copy(dir.path(), "embedded:", "embedded:store", &["--data-dir", "."]), 2, &["both sides"]);
    ends(&copy(dir.path(), &url, &format!("{url}/0"), &[]), 2, &["both sides"]);
    // Under a name that does not show it, the lease does.
    let socket = format!("redis+unix://{}", redis.socket().display());
    ends(&copy(dir.path(), &url, &socket, &["--merge"]), 1, &["Nothing was copied", "in use by another process"]);
}

#[test]
fn wrong_flags_are_explained() {
    let dir = TempDir::new().unwrap();
    for (args, parts) in [
        (&["nonsense"][..], &["nonsense", "Usage"][..]),
        (&["copy"], &["--from", "--to", "Usage"]),
        (&["copy", "--from", "embedded:", "--listen", "x"], &["--listen"]),
        (&["copy", "--from", "embedded:", "--to", "redi://:hunter2@h"], &["--to", "embedded:FOLDER", "redis://"]),
        (&["copy", "--from", "redis://hunter2@h", "--to", "embedded:"], &["--from", "redis://:password@host"]),
        (&["copy", "--from", "memory:", "--to", "embedded:"], &["memory:"]),
        (&["copy", "--from", "embedded:", "--to", "memory:"], &["memory:"]),
        (&["copy", "--from", "embedded:", "--to", "embedded:x", "--to-key-prefix", "a:"], &["--to-key-prefix", "--to"]),
        (
            &["copy", "--from", "embedded:", "--to", "redis://h", "--to-key-prefix", "{a}"],
            &["--to-key-prefix", "1 to 64"],
        ),
        (&["copy", "--from", "embedded:", "--config", "missing.toml"], &["missing.toml"]),
        (&["copy", "--from", "embedded:x"], &["there is no store in"]),
        (&["check", "--store", "memory:"], &["memory:"]),
        (&["check", "--store", "postgres:x"], &["--store", "store.url"]),
    ] {
        let ended = store(dir.path(), args);
        let is_missing = parts[0].starts_with("there is");
        ends(&ended, if is_missing { 1 } else { 2 }, parts);
        assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
    }
}

#[test]
fn what_cannot_be_read_is_told_and_not_copied() {
    let dir = small_fleet();
    let redis = RedisServer::start();
    ends(&copy(dir.path(), "embedded:store", &redis.url(), &[]), 0, &[]);
    let fields = redis.fields("guardbeat:{p*}:agents");
    let (id, record) = fields.first_key_value().unwrap();
    let partition = u64::from_str_radix(id, 16).unwrap() >> 54;
    let key = format!("guardbeat:{{p{partition:04}}}:agents");
    redis.command(&["HSET", &key, "nobody", record]);
    redis.command(&["HSET", &key.replace("agents", "heartbeats"), id, "garbage"]);
    let before = (records(&redis, "guardbeat:"), redis.fields("guardbeat:meta"));

    let quiet = [("GUARDBEAT_LOG__LEVEL", "off")];
    let checked = run(dir.path(), &["store", "check", "--store", &redis.url()], &quiet);
    ends(&checked, 1, &[&key, "nobody", "is not an agent", id, "not a record", "Records that cannot be read: 2"]);
    assert_eq!((line(&checked, "corrupt records"), line(&checked, "agents")), ("2", "3"));
    let now = (records(&redis, "guardbeat:"), redis.fields("guardbeat:meta"));
    assert_eq!(now, before, "nothing is written");

    let copied = copy(dir.path(), &redis.url(), "embedded:new", &[]);
    ends(&copied, 1, &["copied 3 agents", "nobody", "cannot be read: 2. They were not copied"]);
    let after = store(dir.path(), &["check", "--store", "embedded:new"]);
    ends(&after, 0, &["agents           3"]);
    assert_eq!(records(&redis, "guardbeat:"), before.0);
}

/// All records of a fleet in a Redis: registrations, heartbeats, and what was set aside.
fn records(redis: &RedisServer, prefix: &str) -> [BTreeMap<String, String>; 3] {
    ["agents", "heartbeats", "corrupt"].map(|kind| redis.fields(&format!("{prefix}{{p*}}:{kind}")))
}

#[test]
fn the_configuration_holds_for_the_side_it_is_meant_for() {
    let dir = small_fleet();
    let redis = RedisServer::launch().line("requirepass hunter2").start();
    let url = redis.url().replace("redis://", "redis://:hunter2@");
    let config = format!("[store]\nurl = \"{url}\"\nkey_prefix = \"mine:\"\n");
    fs::write(dir.path().join("guardbeat.toml"), config).unwrap();
    // What is left out is the configured store: no password among the flags.
    let args = ["store", "copy", "--config", "guardbeat.toml", "--from", "embedded:store"];
    let copied = run(dir.path(), &args, &[]);
    ends(&copied, 0, &["copied 3 agents", "key prefix mine:"]);
    assert!(!format!("{}{}", copied.stdout, copied.stderr).contains("hunter2"));
    assert_eq!(redis.fields("mine:{p*}:agents").len(), 3);
    // One Redis, two fleets.
    let args = ["copy", "--config", "guardbeat.toml", "--from", &url, "--to", &url, "--to-key-prefix", "other:"];
    ends(&store(dir.path(), &args), 0, &["key prefix mine:", "key prefix other:"]);
    assert_eq!(records(&redis, "other:"), records(&redis, "mine:"));
    let args = ["copy", "--from", &url, "--from-key-prefix", "other:", "--to", "embedded:back"];
    ends(&store(dir.path(), &args), 0, &["copied 3 agents"]);
    // A setting for Redis in the environment contradicts an embedded store only where there is no Redis.
    let env = [("GUARDBEAT_STORE__KEY_PREFIX", "third:")];
    let copied = run(dir.path(), &["store", "copy", "--from", "embedded:back", "--to", &url], &env);
    ends(&copied, 0, &["key prefix third:"]);
    let refused = run(dir.path(), &["store", "copy", "--from", "embedded:back", "--to", "embedded:x"], &env);
    ends(&refused, 2, &["GUARDBEAT_STORE__KEY_PREFIX", "store.url"]);
}

#[test]
fn threats_of_one_tenant_from_two_fleets_are_not_mixed() {
    let dir = TempDir::new().unwrap();
    let report = |store: &str| {
        let mut server = daemon(&format!("embedded:{}", dir.path().join(store).display())).start();
        let mut client = server.client();
        let [agent] = enrol(&mut client, [store]);
        let event = json!({"type": "scan", "severity": "low", "details": {}});
        client.post(&format!("/api/agents/{}/events", agent.0), json!({"events": [event]})).data(201);
        assert!(server.terminate().success());
    };
    report("older");
    report("newer");
    let refused = copy(dir.path(), "embedded:older", "embedded:newer", &["--merge"]);
    ends(&refused, 1, &["has threats of its own", "Nothing has been written"]);
    ends(
        &store(dir.path(), &["check", "--store", "embedded:newer"]),
        0,
        &["agents           1\n", "threats          1\n"],
    );
    // Those that come later can be added; and once more, as after a copy that was stopped.
    for threats in [1, 0] {
        let merged = copy(dir.path(), "embedded:newer", "embedded:older", &["--merge"]);
        ends(&merged, 0, &[&format!("{threats} threat")]);
    }
    ends(&store(dir.path(), &["check", "--store", "embedded:older"]), 0, &["threats          2\n"]);
}

//! Redis refuses, or does not answer: what must be durable is refused, the rest goes on, and nobody need restart
//! anything when it is over.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{heartbeats, on, registrations, wait_until_registered, wait_until_written};
use crate::support::{
    Client, Launch, SOON, Server,
    proxy::{Proxy, Traffic},
    redis::RedisServer,
    wait_until,
};

/// How long a refusal may take once the daemon knows of the trouble. It takes no time; this is for a busy machine.
const AT_ONCE: Duration = Duration::from_millis(400);

fn register(client: &mut Client, hostname: &str) -> Option<String> {
    let body = json!({"hostname": hostname, "os": "linux", "version": "1"});
    let reply = client.post("/api/agents/register", &body);
    if reply.status == 503 {
        assert!(reply.header("retry-after").is_some(), "{reply:?}");
        assert_eq!(reply.error(503), "The store cannot be written to now; try again later");
        return None;
    }
    Some(reply.data(201)["id"].as_str().unwrap().to_owned())
}

/// Breaks something for a while; `redis` is where the fleet must be afterwards.
fn break_and_mend(launch: Launch, redis: &RedisServer, break_it: impl Fn(), mend_it: impl Fn(&Server)) {
    let mut server = launch.start();
    let mut client = server.client();
    let mut there = BTreeSet::from([register(&mut client, "beating").unwrap(), register(&mut client, "kept").unwrap()]);
    let [beating, kept] = ["beating", "kept"].map(|name| id_of(&mut client, name));
    wait_until_written(&server);

    break_it();
    let mut n = 0;
    wait_until(SOON, "registrations are refused", || {
        n += 1;
        register(&mut client, &format!("late-{n}")).map(|id| there.insert(id)).is_none()
    });
    wait_until(SOON, "it says so", || !server.is_ready() && server.metric("guardbeat_store_up") == 0.0);
    for n in 0..3 {
        let began = Instant::now();
        assert_eq!(register(&mut client, &format!("refused-{n}")), None);
        assert_eq!(client.delete(&format!("/api/agents/{kept}")).status, 503);
        assert!(began.elapsed() < AT_ONCE, "refused only after {:?}", began.elapsed());
    }
    let began = Instant::now();
    client.beat(&beating, r#"{"cpu":77}"#).data(200);
    assert_eq!(client.get("/api/agents").data(200).as_array().unwrap().len(), there.len());
    assert!(began.elapsed() < AT_ONCE, "a heartbeat and a list took {:?}", began.elapsed());

    mend_it(&server);
    wait_until(SOON, "it is ready again by itself", || server.is_ready());
    assert_eq!(server.metric("guardbeat_store_up"), 1.0);
    there.insert(register(&mut client, "afterwards").unwrap());
    wait_until_registered(redis, &there);
    wait_until_written(&server);
    server.kill9();
    let server = server.restart();
    let mut client = server.client();
    let listed = client.get("/api/agents").data(200);
    let listed: BTreeSet<_> =
        listed.as_array().unwrap().iter().map(|agent| agent["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(listed, there);
    assert_eq!(client.get(&format!("/api/agents/{beating}")).data(200)["cpu"], 77);
}

fn id_of(client: &mut Client, hostname: &str) -> String {
    let listed = client.get("/api/agents").data(200);
    let agent = listed.as_array().unwrap().iter().find(|agent| agent["hostname"] == hostname).unwrap();
    agent["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_redis_without_memory() {
    let redis = RedisServer::start();
    break_and_mend(
        on(redis.url()),
        &redis,
        || redis.configure("maxmemory", "1"),
        |_| redis.configure("maxmemory", "0"),
    );
}

#[test]
fn a_redis_that_cannot_write_its_snapshot() {
    let redis = RedisServer::launch().line("save 3600 1000000").start();
    // A folder in its place: the snapshot cannot be put there.
    let snapshot = redis.dir().join("dump.rdb");
    let save = |status: &str| {
        redis.command(&["BGSAVE"]);
        wait_until(SOON, "the snapshot", || redis.info("rdb_last_bgsave_status").as_deref() == Some(status));
    };
    let fail = || {
        fs::create_dir(&snapshot).unwrap();
        save("err");
    };
    let work = |_: &Server| {
        fs::remove_dir(&snapshot).unwrap();
        save("ok");
    };
    break_and_mend(on(redis.url()), &redis, fail, work);
}

#[test]
fn a_redis_that_was_made_a_replica() {
    let redis = RedisServer::start();
    let break_it = || drop(redis.command(&["REPLICAOF", "127.0.0.1", "1"]));
    break_and_mend(on(redis.url()), &redis, break_it, |_| redis.promote());
}

#[test]
fn a_primary_that_is_dead_and_a_replica_that_was_promoted() {
    let primary = RedisServer::start();
    let replica = RedisServer::start();
    replica.replicate(&primary);
    let proxy = Proxy::start(primary.port());
    let break_it = || primary.kill9();
    let promote = |server: &Server| {
        // First it still is a replica.
        proxy.redirect(replica.port());
        thread::sleep(Duration::from_millis(300));
        assert!(!server.is_ready());
        replica.promote();
    };
    break_and_mend(on(proxy.url()), &replica, break_it, promote);
}

#[test]
fn a_redis_that_takes_its_time_to_load() {
    let redis = RedisServer::launch()
        .line("rdbcompression no")
        .line("key-load-delay 60000")
        .line("loading-process-events-interval-bytes 1024")
        .start();
    for n in 0..100 {
        redis.command(&["SET", &format!("filler-{n}"), &"x".repeat(1_000)]);
    }
    let restart = || {
        redis.command(&["SAVE"]);
        redis.kill9();
        redis.start_loading();
    };
    break_and_mend(on(redis.url()), &redis, restart, |_| redis.wait_until_ready());
}

#[test]
fn a_redis_that_is_stopped() {
    let redis = RedisServer::start();
    break_and_mend(on(redis.url()), &redis, || redis.freeze(), |_| redis.thaw());
}

#[test]
fn a_redis_that_is_paused() {
    let redis = RedisServer::start();
    let pause = || drop(redis.command(&["CLIENT", "PAUSE", "60000", "WRITE"]));
    break_and_mend(on(redis.url()), &redis, pause, |_| drop(redis.command(&["CLIENT", "UNPAUSE"])));
}

#[test]
fn a_redis_whose_password_was_changed() {
    let redis = RedisServer::launch().line("requirepass first").start();
    let change_to = |password| {
        redis.configure("requirepass", password);
        // Connections that are open stay logged in.
        redis.command(&["CLIENT", "KILL", "TYPE", "normal"]);
    };
    let url = format!("redis://:first@127.0.0.1:{}", redis.port());
    break_and_mend(on(url), &redis, || change_to("second"), |_| change_to("first"));
}

#[test]
fn a_redis_that_refuses_connections() {
    let redis = RedisServer::start();
    let proxy = Proxy::start(redis.port());
    break_and_mend(on(proxy.url()), &redis, || proxy.set(Traffic::Refuse), |_| proxy.set(Traffic::Forward));
}

#[test]
fn a_network_that_loses_requests() {
    let redis = RedisServer::start();
    let proxy = Proxy::start(redis.port());
    break_and_mend(on(proxy.url()), &redis, || proxy.set(Traffic::SwallowRequests), |_| proxy.set(Traffic::Forward));
}

#[test]
fn a_network_that_loses_answers() {
    let redis = RedisServer::start();
    let proxy = Proxy::start(redis.port());
    let mend = |_: &Server| {
        // The two that were acknowledged, and one that was refused although Redis made it.
        assert_eq!(registrations(&redis).len(), 3);
        proxy.set(Traffic::Forward);
    };
    break_and_mend(on(proxy.url()), &redis, || proxy.set(Traffic::SwallowReplies), mend);
}

#[test]
fn a_daemon_that_is_told_to_stop_has_written_everything() {
    let redis = RedisServer::start();
    // It does not come to a flush by itself.
    let mut server = on(redis.url()).env("GUARDBEAT_STORE__FLUSH_INTERVAL_MS", "10000").start();
    let mut client = server.client();
    let (id, _) = client.enrol("host");
    client.beat(&id, r#"{"cpu":77}"#).data(200);
    assert!(heartbeats(&redis).is_empty());
    assert!(server.terminate().success());
    let server = server.restart();
    assert_eq!(server.client().get(&format!("/api/agents/{id}")).data(200)["cpu"], 77);
}

#[test]
fn a_daemon_that_is_told_to_stop_while_redis_is_away_says_that_something_is_not_written() {
    let redis = RedisServer::start();
    let mut server = on(redis.url()).env("GUARDBEAT_SERVER__SHUTDOWN_GRACE_MS", "500").start();
    let mut client = server.client();
    let (id, _) = client.enrol("host");
    wait_until_written(&server);
    redis.freeze();
    client.beat(&id, "{}").data(200);
    let began = Instant::now();
    assert_eq!(server.terminate().code(), Some(1));
    assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
    let log = server.log();
    assert!(log.contains("last heartbeats cannot be written") && log.contains("The server ended"), "{log}");
}

#[test]
fn a_redis_that_is_busy_for_long() {
    let redis = RedisServer::start();
    let busy = || UnixStream::connect(redis.socket()).unwrap().write_all(b"DEBUG SLEEP 6\r\n").unwrap();
    break_and_mend(on(redis.url()), &redis, busy, |_| redis.wait_until_ready());
}

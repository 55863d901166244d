//! What the start makes of a Redis that it cannot use, or not yet.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{on, partition_key, start_refused, wait_until_registered, wait_until_written};
use crate::support::{
    Client, SOON, Server,
    redis::{RedisReply, RedisServer},
    wait_until,
};

fn works(server: &Server, redis: &RedisServer) {
    let (id, _) = server.client().enrol("host");
    assert!(server.is_ready());
    wait_until_registered(redis, [&id]);
}

#[test]
fn a_wrong_password_is_told() {
    let redis = RedisServer::launch().line("requirepass right").start();
    for login in ["", ":wrong@", "somebody:right@"] {
        let began = Instant::now();
        let why = start_refused(&format!("redis://{login}127.0.0.1:{}", redis.port()), &[]);
        assert!(why.contains("password"), "{why}");
        assert!(!why.contains("wrong@") && !why.contains("right"), "no password is shown: {why}");
        assert!(began.elapsed() < Duration::from_secs(5), "not waited for: it will not change");
    }
    for login in [":right", "default:right"] {
        on(format!("redis://{login}@127.0.0.1:{}", redis.port())).start();
    }
}

#[test]
fn with_a_configured_token_and_without_tls_no_folder_is_made() {
    let redis = RedisServer::start();
    let launch = on(redis.url()).env("MANAGER_AUTH_TOKEN", "correct-horse");
    let server = launch.start();
    works(&server, &redis);
    assert!(!server.data().exists());
}

#[test]
fn a_node_of_a_cluster_is_refused() {
    let redis = RedisServer::launch().line("cluster-enabled yes").start();
    let why = start_refused(&redis.url(), &[]);
    assert!(why.to_lowercase().contains("cluster"), "{why}");
}

#[test]
fn a_redis_that_stays_a_replica_is_refused() {
    let redis = RedisServer::start();
    redis.command(&["REPLICAOF", "127.0.0.1", "1"]);
    let why = start_refused(&redis.url(), &[("GUARDBEAT_STORE__CONNECT_TIMEOUT_MS", "500")]);
    assert!(why.contains("replica") || why.contains("read-only"), "{why}");
}

#[test]
fn a_redis_that_is_not_there_is_waited_for_and_then_told() {
    let redis = RedisServer::start();
    redis.terminate();
    let began = Instant::now();
    let why = start_refused(&redis.url(), &[("GUARDBEAT_STORE__CONNECT_TIMEOUT_MS", "700")]);
    // It may see early that the next attempt would come too late.
    assert!(began.elapsed() > Duration::from_millis(300), "it waited only {:?}", began.elapsed());
    assert!(why.contains(&redis.port().to_string()), "it says where: {why}");
}

#[test]
fn a_redis_that_comes_up_later_is_waited_for() {
    let redis = RedisServer::start();
    redis.terminate();
    let launch = on(redis.url());
    let starting = thread::spawn(move || launch.start());
    let began = Instant::now();
    wait_until(SOON, "a moment is over", || began.elapsed() > Duration::from_millis(700));
    assert!(!starting.is_finished());
    redis.start_again();
    works(&starting.join().unwrap(), &redis);
}

#[test]
fn a_redis_that_is_loading_is_waited_for() {
    // Two seconds for what a Redis of a large fleet may take minutes for.
    let redis = RedisServer::launch()
        .line("rdbcompression no")
        .line("key-load-delay 20000")
        .line("loading-process-events-interval-bytes 1024")
        .start();
    let mut server = on(redis.url()).start();
    let (id, _) = server.client().enrol("host");
    assert!(server.terminate().success());
    for n in 0..100 {
        redis.command(&["SET", &format!("filler-{n}"), &"x".repeat(1_000)]);
    }
    redis.command(&["SAVE"]);
    redis.kill9();
    redis.start_loading();
    assert!(redis.try_command(&["PING"]).is_err_and(|error| error.starts_with("LOADING")));
    let server = server.restart();
    assert_eq!(server.client().get(&format!("/api/agents/{id}")).data(200)["status"], "online");
}

/// The user that the documents give to the server.
fn documented_user() -> &'static str {
    let document = include_str!("../../../docs/redis.md");
    document.lines().find(|line| line.starts_with("user guardbeat on >secret ")).expect("the line of the user")
}

const THREATS: &str = "guardbeat:{t:}:threats";

#[test]
fn the_rights_in_the_documents_are_enough_for_everything() {
    let redis = RedisServer::launch().line(documented_user()).start();
    let replica = RedisServer::start();
    replica.replicate(&redis);
    let launch = on(format!("redis://guardbeat:secret@127.0.0.1:{}/0", redis.port()));
    // Half of the time limit is the replica's.
    let launch = launch.env("GUARDBEAT_STORE__TIMEOUT_MS", "4000");
    let launch = launch.env("GUARDBEAT_THREATS__MAX_BYTES_PER_TENANT", "1048576");
    let mut server = launch.env("GUARDBEAT_STORE__MIN_REPLICAS", "1").start();
    let mut client = server.client();
    let (id, _) = client.enrol("stays");
    let (gone, _) = client.enrol("goes");
    client.beat(&id, "{}").data(200);
    client.delete(&format!("/api/agents/{gone}")).data(200);
    client.post("/api/policy", r#"{"name":"p","rules":[]}"#).data(201);
    let report = |client: &mut Client| {
        let event = json!({"type": "t", "severity": "low", "details": {"a": "x".repeat(60_000)}});
        client.post(&format!("/api/agents/{id}/events"), json!({"events": vec![event; 10]})).data(201)
    };
    // Twice what a tenant may have: the oldest are cut off.
    for _ in 0..4 {
        report(&mut client);
    }
    wait_until(SOON, "the oldest threats are gone", || {
        !matches!(redis.command(&["XLEN", THREATS]), RedisReply::Number(20..))
    });
    wait_until_written(&server);
    redis.command(&["FLUSHALL"]);
    wait_until_registered(&redis, [&id]);
    wait_until(SOON, "it knows that the threats are lost", || client.get("/api/threats").json()["data"] == json!([]));
    report(&mut client);
    // A record to be set aside, a heartbeat of nobody, and a fleet to be taken over.
    redis.command(&["HSET", &partition_key(&id, "agents"), "nobody", "garbage"]);
    redis.command(&["HSET", &partition_key(&id, "heartbeats"), "nobody", "garbage"]);
    redis.command(&["HSET", "guardbeat:policies", "nobody", "garbage"]);
    server.kill9();
    let mut server = server.restart();
    assert_eq!(server.metric("guardbeat_store_corrupt_records_total"), 3.0);
    wait_until_registered(&redis, [&id]);
    assert_eq!(server.client().get("/api/threats").data(200).as_array().unwrap().len(), 10);
    assert!(server.terminate().success());
    assert!(redis.keys("guardbeat:lease").is_empty());
    assert_eq!(redis.command(&["ACL", "LOG"]), RedisReply::List(vec![]), "nothing was refused");
}

#[test]
fn a_user_who_may_not_see_the_configuration_is_enough_and_that_is_told() {
    let user = documented_user().replace(" +config|get", "");
    let redis = RedisServer::launch().line("appendonly yes").line(user).start();
    let server = on(format!("redis://guardbeat:secret@127.0.0.1:{}", redis.port())).start();
    works(&server, &redis);
    let log = server.log();
    assert!(log.contains("WARN") && log.contains("CONFIG GET appendfsync is refused"), "{log}");
}

#[test]
fn a_user_who_may_not_write_is_told() {
    let user = documented_user().replace(" +hset", "");
    let redis = RedisServer::launch().line(user).start();
    let why = start_refused(&format!("redis://guardbeat:secret@127.0.0.1:{}", redis.port()), &[]);
    assert!(why.contains("may not do") && why.contains("hset"), "{why}");
}

#[test]
fn rights_that_are_missing_are_told_at_the_start_and_not_by_the_first_who_needs_them() {
    for right in [
        "xadd", "xrange", "xdel", "xtrim", "sadd", "smembers", "hincrby", "hdel", "rename", "eval", "set", "pexpire",
        "del",
    ] {
        let user = documented_user().replace(&format!(" +{right} "), " ");
        let redis = RedisServer::launch().line(user).start();
        let why = start_refused(&format!("redis://guardbeat:secret@127.0.0.1:{}", redis.port()), &[]);
        assert!(why.contains("may not do") && why.contains(&format!("'{right}'")), "{right}: {why}");
        assert!(redis.keys("*").is_empty(), "{right}: nothing was written");
    }
}

#[test]
fn a_redis_without_memory_is_started_on_and_written_to_when_it_has_some() {
    let redis = RedisServer::start();
    let mut server = on(redis.url()).start();
    let (id, token) = server.client().enrol("host");
    assert!(server.terminate().success());
    redis.configure("maxmemory", "1");
    let server = server.restart();
    let mut client = server.client();
    assert!(!server.is_ready());
    client.with_token(&token).beat(&id, "{}").data(200);
    assert_eq!(client.get(&format!("/api/agents/{id}")).data(200)["hostname"], "host");
    let refused = client.post("/api/agents/register", r#"{"hostname":"h","os":"linux","version":"1"}"#);
    assert_eq!(refused.status, 503);
    redis.configure("maxmemory", "0");
    wait_until(SOON, "it writes again", || server.is_ready());
    let (new, _) = client.with_token(&server.token).enrol("new");
    wait_until_registered(&redis, [&id, &new]);
    wait_until_written(&server);
}

#[test]
fn a_key_of_another_type_is_named_or_set_aside() {
    for key in ["meta", "lease"] {
        let redis = RedisServer::start();
        redis.command(&["SADD", &format!("guardbeat:{key}"), "x"]);
        let why = start_refused(&redis.url(), &[]);
        assert!(why.contains(&format!("guardbeat:{key}")) && why.contains("another type"), "{why}");
    }
    let redis = RedisServer::start();
    redis.command(&["SET", "guardbeat:threat-tenants", "x"]);
    let server = on(redis.url()).start();
    assert_eq!(redis.keys("guardbeat:threat-tenants*"), ["guardbeat:threat-tenants:corrupt"]);
    assert_eq!(server.client().get("/api/threats").data(200), json!([]));
}

#[test]
fn what_a_redis_may_lose_is_told() {
    let unsafe_redis = RedisServer::launch().line("maxmemory 100mb").line("maxmemory-policy allkeys-lru").start();
    let log = on(unsafe_redis.url()).start().log();
    assert!(log.contains("appendonly yes") && log.contains("maxmemory-policy noeviction"), "{log}");
    let safe = RedisServer::durable();
    let log = on(safe.url()).start().log();
    assert!(!log.contains("WARN"), "{log}");
}

#[test]
fn a_key_of_threats_that_is_no_stream_is_set_aside_and_stands_in_nobodys_way() {
    let redis = RedisServer::start();
    let mut server = on(redis.url()).start();
    let mut client = server.client();
    let (id, _) = client.enrol("host");
    let path = format!("/api/agents/{id}/events");
    let report = json!({"events": [{"type": "t", "severity": "low", "details": {}}]});
    client.post(&path, report.clone()).data(201);
    server.kill9();
    redis.command(&["SADD", "guardbeat:threat-tenants", "acme"]);
    redis.command(&["SET", "guardbeat:{t:acme}:threats", "nonsense"]);
    let server = server.restart();
    // The history may still be on its way when the fleet is in service.
    wait_until(SOON, "the key is reported", || server.metric("guardbeat_store_corrupt_records_total") == 1.0);
    assert_eq!(redis.keys("*nonsense*").len() + redis.keys("guardbeat:{t:acme}:threats:corrupt").len(), 1);
    let mut client = server.client();
    client.post(&path, report).data(201);
    assert_eq!(client.get("/api/threats").data(200).as_array().unwrap().len(), 2);
}

#[test]
fn a_newest_threat_from_the_future_is_warned_of_at_the_start_and_ids_grow_on() {
    let redis = RedisServer::start();
    let mut server = on(redis.url()).start();
    let (id, _) = server.client().enrol("reports");
    let report = |server: &Server| {
        let event = json!({"type": "t", "severity": "low", "details": {}});
        let taken = server.client().post(&format!("/api/agents/{id}/events"), json!({"events": [event]})).data(201);
        taken["eventIds"][0].as_str().unwrap().to_owned()
    };
    let first = report(&server);
    assert!(server.terminate().success());
    // Which an earlier run gave out while the clock was ahead by a month or so.
    let number = u64::from_str_radix(first.strip_prefix("evt_").unwrap(), 16).unwrap();
    let future = number + ((29 * 86_400_000) << 20);
    redis.command(&["HSET", "guardbeat:meta", "threat", &future.to_string()]);
    let mut server = server.restart();
    assert_eq!(report(&server), format!("evt_{:016x}", future + 1));
    assert!(server.log().contains("the newest threat in the store is ahead of the clock"), "{}", server.log());
    assert!(server.terminate().success());
}

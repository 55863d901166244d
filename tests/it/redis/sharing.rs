//! One process owns a fleet; several fleets may share a Redis.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    os::unix::net::UnixStream,
    sync::Arc,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use super::{heartbeats, on, records, start_refused, wait_until_registered, wait_until_written};
use crate::support::{
    Request, SOON, Server,
    proxy::{Proxy, Traffic},
    redis::{RedisReply, RedisServer},
    wait_until,
};

fn ids(server: &Server) -> BTreeSet<String> {
    let listed = server.client().get("/api/agents").data(200);
    listed.as_array().unwrap().iter().map(|agent| agent["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_second_process_is_refused_and_the_first_goes_on() {
    let redis = RedisServer::start();
    let server = on(redis.url()).start();
    let mut client = server.client();
    client.enrol("before");
    let why = start_refused(&redis.url(), &[]);
    assert!(why.contains("in use by another process"), "{why}");
    client.enrol("after");
    assert!(server.is_ready());
    wait_until_registered(&redis, &ids(&server));
}

#[test]
fn a_lease_that_somebody_deletes_lets_no_second_process_in() {
    let redis = RedisServer::start();
    let server = on(redis.url()).start();
    server.client().enrol("before");
    for _ in 0..3 {
        redis.command(&["DEL", "guardbeat:lease"]);
        let why = start_refused(&redis.url(), &[]);
        assert!(why.contains("in use by another process"), "{why}");
    }
    server.client().enrol("after");
    assert!(server.is_ready());
    wait_until_registered(&redis, &ids(&server));
}

#[test]
fn a_process_that_has_ended_leaves_the_fleet_to_the_next_at_once() {
    let redis = RedisServer::start();
    let mut first = on(redis.url()).start();
    first.client().enrol("host");
    let soon = Duration::from_secs(5);
    let began = Instant::now();
    first.kill9();
    let mut second = on(redis.url()).start();
    assert!(began.elapsed() < soon, "after kill -9 it took {:?}", began.elapsed());
    assert_eq!(ids(&second).len(), 1);
    let began = Instant::now();
    assert!(second.terminate().success());
    assert!(redis.keys("guardbeat:lease").is_empty(), "it gives the lease back");
    let third = on(redis.url()).start();
    assert!(began.elapsed() < soon, "after SIGTERM it took {:?}", began.elapsed());
    assert_eq!(ids(&third).len(), 1);
}

/// What is in the lease, and how many milliseconds it is left.
fn lease(redis: &RedisServer) -> (Option<String>, i64) {
    let at_once = "return {redis.call('GET', KEYS[1]), redis.call('PTTL', KEYS[1])}";
    match redis.command(&["EVAL", at_once, "1", "guardbeat:lease"]) {
        RedisReply::List(both) => match both.as_slice() {
            [RedisReply::Text(held), RedisReply::Number(left_ms)] => (Some(held.clone()), *left_ms),
            [RedisReply::Nil, RedisReply::Number(left_ms)] => (None, *left_ms),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// Somebody else has the lease from the moment in which a request with these bytes in it leaves the server.
fn loses_its_lease_before(proxy: &Proxy, redis: &Arc<RedisServer>, bytes: &str) {
    let redis = redis.clone();
    proxy.before(bytes, move || {
        redis.command(&["SET", "guardbeat:lease", "successor elsewhere", "PX", "3000"]);
    });
}

#[test]
fn a_lease_that_somebody_else_has_got_meanwhile_is_neither_given_back_nor_prolonged() {
    let redis = Arc::new(RedisServer::start());
    let proxy = Proxy::start(redis.port());
    let mut server = on(proxy.url()).start();
    loses_its_lease_before(&proxy, &redis, "$3\r\nDEL\r\n");
    server.terminate();
    assert!(proxy.has_acted(), "it gives its lease back");
    assert_eq!(redis.command(&["GET", "guardbeat:lease"]).text(), "successor elsewhere");

    redis.command(&["DEL", "guardbeat:lease"]);
    let server = on(proxy.url()).start();
    loses_its_lease_before(&proxy, &redis, "PEXPIRE");
    wait_until(SOON, "it prolongs its lease", || proxy.has_acted());
    // Nobody has that one's connections: in the end the lease is taken from it, but never prolonged for it.
    wait_until(SOON, "the other's lease ends", || {
        let (held, left_ms) = lease(&redis);
        let is_the_others = held.is_some_and(|held| held.starts_with("successor"));
        assert!(!is_the_others || left_ms <= 3_000, "{left_ms}");
        !is_the_others
    });
    drop(server);
}

#[test]
fn a_flush_in_the_middle_of_a_renewal_does_not_let_it_prolong_a_successors_lease() {
    let redis = Arc::new(RedisServer::start());
    let proxy = Proxy::start(redis.port());
    let server = on(proxy.url()).start();
    let mut client = server.client();
    let (id, _) = client.enrol("beating");
    let mut successor = UnixStream::connect(redis.socket()).unwrap();
    successor.write_all(b"CLIENT SETNAME guardbeat/guardbeat:/successor/0\r\n").unwrap();
    successor.read_exact(&mut [0; 5]).unwrap();
    // A transaction of the same connection comes between the renewal's first command and its last.
    proxy.hold("guardbeat:lease", "EXEC");
    loses_its_lease_before(&proxy, &redis, "PEXPIRE");
    wait_until(SOON, "it renews its lease", || {
        client.beat(&id, "{}").data(200);
        proxy.has_acted()
    });
    wait_until(SOON, "it knows that the fleet is another's", || !server.is_ready());
    let (held, left_ms) = lease(&redis);
    assert_eq!(held.as_deref(), Some("successor elsewhere"));
    assert!(left_ms <= 3_000, "{left_ms}");
    drop(successor);
}

#[test]
fn a_lease_that_changes_hands_while_it_is_taken_over_stays_with_its_new_owner() {
    let redis = Arc::new(RedisServer::start());
    let proxy = Proxy::start(redis.port());
    redis.command(&["SET", "guardbeat:lease", "gone elsewhere", "PX", "8000"]);
    let other = redis.clone();
    proxy.before("$2\r\nPX\r\n", move || {
        other.command(&["SET", "guardbeat:lease", "successor elsewhere", "PX", "10000"]);
    });
    let why = start_refused(&proxy.url(), &[]);
    assert!(proxy.has_acted(), "it takes the lease over");
    assert!(why.contains("in use by another process"), "{why}");
    assert_eq!(redis.command(&["GET", "guardbeat:lease"]).text(), "successor elsewhere");
}

/// The first process cannot be heard for longer than its lease lasts; a second takes the fleet over. When the first is
/// back it must do no harm.
fn is_replaced(redis: &RedisServer, mut first: Server, leave: impl Fn(&Server), come_back: impl Fn(&Server)) {
    let mut late = first.client();
    let (beating, _) = late.enrol("beating");
    wait_until_written(&first);
    leave(&first);
    wait_until(SOON, "its lease has run out", || redis.keys("guardbeat:lease").is_empty());
    let second = on(redis.url()).start();
    let mut client = second.client();
    client.delete(&format!("/api/agents/{beating}")).data(200);
    client.enrol("of the second");

    come_back(&first);
    let began = Instant::now();
    let registration =
        Request::new("POST", "/api/agents/register").json(r#"{"hostname":"of the first","os":"linux","version":"1"}"#);
    while first.is_running() && began.elapsed() < Duration::from_secs(3) {
        if let Ok(reply) = late.try_send(&registration) {
            assert_eq!(reply.status, 503, "{reply:?}");
        }
        // It may still be answered; it must not be written.
        let _ = late.try_send(&Request::new("POST", format!("/api/agents/{beating}/heartbeat")));
    }
    assert!(!first.is_running() || !first.is_ready());
    assert!(first.log().contains("lost the fleet"), "it is told: {}", first.log());
    assert!(second.is_ready());
    client.enrol("also of the second");
    assert_eq!(ids(&second).len(), 2);
    wait_until_registered(redis, &ids(&second));
    assert!(heartbeats(redis).is_empty());
}

#[test]
fn a_process_that_was_stopped_does_not_write_to_a_fleet_that_is_anothers_by_now() {
    let redis = RedisServer::start();
    let first = on(redis.url()).start();
    is_replaced(&redis, first, |first| first.signal(Signal::SIGSTOP), |first| first.signal(Signal::SIGCONT));
}

#[test]
fn a_process_that_was_cut_off_does_not_write_to_a_fleet_that_is_anothers_by_now() {
    let redis = RedisServer::start();
    let proxy = Proxy::start(redis.port());
    let first = on(proxy.url()).start();
    is_replaced(&redis, first, |_| proxy.set(Traffic::SwallowRequests), |_| proxy.set(Traffic::Forward));
}

#[test]
fn two_prefixes_are_two_fleets() {
    let redis = RedisServer::start();
    // One prefix begins with the other.
    let prefixes = ["fleet:", "fleet:2:"];
    let launch = |prefix: &str| on(redis.url()).env("GUARDBEAT_STORE__KEY_PREFIX", prefix);
    let servers = prefixes.map(|prefix| launch(prefix).start());
    let [one, two] = &servers;
    for n in 0..5 {
        one.client().enrol(&format!("one-{n}"));
        two.client().enrol(&format!("two-{n}"));
    }
    let fleets = [ids(one), ids(two)];
    assert!(fleets[0].is_disjoint(&fleets[1]) && fleets.iter().all(|fleet| fleet.len() == 5));
    for (prefix, fleet) in prefixes.iter().zip(&fleets) {
        let stored: BTreeSet<_> = records(&redis, prefix, "agents").into_keys().collect();
        assert_eq!(stored, *fleet);
    }
    assert!(redis.keys("*").iter().all(|key| key.starts_with("fleet:")));
    let [mut one, two] = servers;
    one.kill9();
    let one = one.restart();
    assert_eq!([ids(&one), ids(&two)], fleets);
    two.client().enrol("goes on");
}

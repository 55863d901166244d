//! Redis is away for longer than an agent may be silent, while a fleet beats on.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{BACK, heartbeats, on, registrations};
use crate::support::{
    Client, Reply, Request, SOON, Server,
    load::StopOnDrop,
    proxy::{Proxy, Traffic},
    redis::RedisServer,
    wait_until,
};

const CONNECTIONS: usize = 4;
/// Agents that beat or register in one go on a connection.
const TOGETHER: usize = 100;

/// A fleet, and how often its agents must beat. They are stale half as long again after it.
#[derive(Clone, Copy)]
struct Fleet {
    agents: usize,
    timeout: Duration,
}

impl Fleet {
    /// Longer than the silence that makes an agent stale.
    fn outage(self) -> Duration {
        self.timeout.mul_f64(1.6)
    }

    /// The longest that an agent is silent here, if the machine keeps up.
    fn pace(self) -> Duration {
        self.timeout.mul_f64(0.75)
    }

    /// Agents that beat last at this time have beaten again. Later than they must, nothing is promised to them.
    fn must_keep_up(self, last: &mut Instant) {
        assert!(
            last.elapsed() < self.timeout.mul_f64(1.4),
            "this machine is too slow for the test: {:?}",
            last.elapsed()
        );
        *last = Instant::now();
    }
}

/// What the agents were told.
#[derive(Default)]
struct Reported {
    /// The time of the last heartbeat that was acknowledged, in milliseconds since 1970.
    beats: BTreeMap<String, i64>,
    /// The host names of those that registered during the outages, by whether they were.
    registered: BTreeMap<bool, Vec<String>>,
}

fn millis(time: &str) -> i64 {
    chrono::DateTime::parse_from_rfc3339(time).unwrap().timestamp_millis()
}

/// Sends requests in one go, and reads all answers.
fn send_all(client: &mut Client, token: &str, requests: &[Request]) -> Vec<Reply> {
    let bytes: Vec<u8> = requests.iter().flat_map(|request| request.encode(Some(token))).collect();
    client.write(&bytes).unwrap();
    requests.iter().map(|_| client.read_reply(false).unwrap()).collect()
}

fn registration(hostname: &str) -> Request {
    let body = json!({"hostname": hostname, "os": "linux", "version": "1"});
    Request::new("POST", "/api/agents/register").json(body.to_string())
}

/// Registers agents; their ids.
fn enrol(server: &Server, agents: usize) -> Vec<String> {
    let names: Vec<_> = (0..agents).map(|n| registration(&format!("host-{n}"))).collect();
    let ids = Mutex::new(vec![]);
    thread::scope(|scope| {
        for names in names.chunks(agents.div_ceil(CONNECTIONS)) {
            let ids = &ids;
            scope.spawn(move || {
                let mut client = server.client();
                for names in names.chunks(TOGETHER) {
                    let replies = send_all(&mut client, &server.token, names);
                    let new = replies.iter().map(|reply| reply.data(201)["id"].as_str().unwrap().to_owned());
                    ids.lock().unwrap().extend(new);
                }
            });
        }
    });
    ids.into_inner().unwrap()
}

/// These agents beat once. No heartbeat may be refused.
fn beat(client: &mut Client, server: &Server, ids: &[String]) -> Vec<(String, i64)> {
    let beats: Vec<_> = ids.iter().map(|id| Request::new("POST", format!("/api/agents/{id}/heartbeat"))).collect();
    let replies = send_all(client, &server.token, &beats);
    let times = replies.iter().map(|reply| millis(reply.data(200)["lastHeartbeat"].as_str().unwrap()));
    ids.iter().cloned().zip(times).collect()
}

/// Every one of these agents beats, over and over.
fn beat_on(server: &Server, fleet: Fleet, ids: &[String], told: &Mutex<Reported>, over: &AtomicBool) {
    let _stop = StopOnDrop(over);
    let mut client = server.client();
    let mut last = vec![Instant::now(); ids.len().div_ceil(TOGETHER)];
    while !over.load(Relaxed) {
        let began = Instant::now();
        for (ids, last) in ids.chunks(TOGETHER).zip(&mut last) {
            let beats = beat(&mut client, server, ids);
            told.lock().unwrap().beats.extend(beats);
            fleet.must_keep_up(last);
            if over.load(Relaxed) {
                return;
            }
        }
        while began.elapsed() < fleet.pace() && !over.load(Relaxed) {
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// New agents register, and beat as well.
fn register_on(server: &Server, fleet: Fleet, told: &Mutex<Reported>, over: &AtomicBool) {
    let _stop = StopOnDrop(over);
    let mut client = server.client();
    let mut last = Instant::now();
    let mut ids = vec![];
    for n in 0.. {
        if over.load(Relaxed) {
            return;
        }
        let name = format!("late-{n}");
        let reply = client.send(&registration(&name));
        let is_registered = reply.status == 201;
        if is_registered {
            ids.push(reply.data(201)["id"].as_str().unwrap().to_owned());
        } else {
            assert!(reply.header("retry-after").is_some(), "{reply:?}");
            reply.error(503);
        }
        told.lock().unwrap().registered.entry(is_registered).or_default().push(name);
        if last.elapsed() > fleet.timeout / 2 {
            beat(&mut client, server, &ids);
            fleet.must_keep_up(&mut last);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// After an outage: Redis has soon every heartbeat that was acknowledged before its end, and of the registrations those
/// that were.
fn check(redis: &RedisServer, told: &Mutex<Reported>) {
    let (beats, registered) = {
        let told = told.lock().unwrap();
        (told.beats.clone(), told.registered.clone())
    };
    let [accepted, refused] = [true, false].map(|key| registered.get(&key).cloned().unwrap_or_default());
    wait_until(BACK, "Redis has all heartbeats", || {
        let found = heartbeats(redis);
        beats.iter().all(|(id, time)| found.get(id).is_some_and(|found| found >= time))
    });
    wait_until(BACK, "Redis has the agents that were registered, and not those that were refused", || {
        let found = registrations(redis);
        let names: BTreeSet<_> = found.values().map(|record| record[1].as_str().expect("the host name")).collect();
        accepted.iter().all(|name| names.contains(name.as_str()))
            && !refused.iter().any(|name| names.contains(name.as_str()))
    });
}

/// Redis goes away and comes back. In between the fleet beats on, and nobody is refused a heartbeat, stale, or lost.
fn beats_through(
    fleet: Fleet,
    redis: RedisServer,
    go: impl Fn(&RedisServer, &Proxy),
    come: impl Fn(&RedisServer, &Proxy),
) {
    let proxy = Proxy::start(redis.port());
    // Registering them all may take longer than they may be silent.
    let mut patient = on(proxy.url()).start();
    let ids = enrol(&patient, fleet.agents);
    assert!(patient.terminate().success());
    let server = on(proxy.url()).env("MANAGER_HEARTBEAT_TIMEOUT_MS", fleet.timeout.as_millis().to_string()).start();
    let told = Mutex::new(Reported::default());
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stop = StopOnDrop(&over);
        for ids in ids.chunks(fleet.agents.div_ceil(CONNECTIONS)) {
            scope.spawn(|| beat_on(&server, fleet, ids, &told, &over));
        }
        scope.spawn(|| register_on(&server, fleet, &told, &over));
        wait_until(SOON, "everybody has beaten", || told.lock().unwrap().beats.len() >= fleet.agents);

        go(&redis, &proxy);
        let began = Instant::now();
        let is_refused = || told.lock().unwrap().registered.contains_key(&false);
        wait_until(SOON, "a registration is refused", || is_refused() || over.load(Relaxed));
        wait_until(SOON, "it says so", || !server.is_ready() && server.metric("guardbeat_store_up") == 0.0);
        wait_until(SOON, "the outage is long enough", || began.elapsed() > fleet.outage());
        assert!(!server.is_ready());

        come(&redis, &proxy);
        check(&redis, &told);
        wait_until(SOON, "it is ready", || server.is_ready());
        assert_eq!(server.metric(r#"guardbeat_transitions_total{from="online",to="stale"}"#), 0.0);
    });
}

#[test]
fn ten_thousand_agents_beat_through_a_crash_of_redis_and_nobody_is_stale_or_lost() {
    let fleet = Fleet { agents: 10_000, timeout: Duration::from_secs(6) };
    beats_through(fleet, RedisServer::durable(), |redis, _| redis.kill9(), |redis, _| redis.start_again());
}

/// Small, and so quicker.
const SMALL: Fleet = Fleet { agents: 500, timeout: Duration::from_millis(1_500) };

#[test]
fn a_fleet_beats_through_a_restart_of_redis() {
    beats_through(SMALL, RedisServer::durable(), |redis, _| redis.terminate(), |redis, _| redis.start_again());
}

#[test]
fn a_fleet_beats_through_a_redis_that_is_stopped() {
    // What was sent to it lies in its sockets, and is done when it goes on.
    beats_through(SMALL, RedisServer::start(), |redis, _| redis.freeze(), |redis, _| redis.thaw());
}

#[test]
fn a_fleet_beats_through_a_network_that_loses_everything() {
    // Nothing closes the connections: time alone tells that they are dead.
    let lose = |_: &RedisServer, proxy: &Proxy| proxy.set(Traffic::SwallowReplies);
    beats_through(SMALL, RedisServer::start(), lose, |_, proxy| proxy.set(Traffic::Forward));
}

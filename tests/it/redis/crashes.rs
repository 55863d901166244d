//! Redis itself crashes, under load.

use std::{thread, time::Duration};

use super::{BACK, on, wait_until_registered, wait_until_written};
use crate::{
    crash::crash,
    support::{
        Server,
        load::{Reported, Rng, under_load},
        proxy::{Proxy, Traffic},
        redis::RedisServer,
        wait_until,
    },
};

#[test]
fn what_was_acknowledged_survives_a_crash_of_redis_and_the_daemon_at_once() {
    // The daemon's memory cannot help: Redis must have it on disk.
    let redis = RedisServer::durable();
    let kill_both = |server: &mut Server, rng: &mut Rng| {
        if rng.below(2) == 0 {
            redis.kill9();
            server.kill9();
        } else {
            server.kill9();
            redis.kill9();
        }
    };
    crash(on(redis.url()), 8, kill_both, || redis.start_again());
}

/// Rounds of load, in each of which `crash_redis` does something to Redis. All that was acknowledged must be in Redis soon
/// afterwards, and nothing else, and be there for the next run of the daemon.
fn crash_and_recover(redis: &RedisServer, url: String, rounds: u64, crash_redis: impl Fn(&mut Rng)) -> Reported {
    let mut server = on(url).start();
    let mut told = Reported::default();
    let mut rng = Rng::new();
    for round in 0..rounds {
        under_load(&mut server, &mut told, &mut rng, |server, rng| {
            pause(100 + rng.below(300));
            crash_redis(rng);
            wait_until(BACK, "ready", || server.is_ready());
            pause(rng.below(300));
        });
        eprintln!("round {round}: {}", told.summary());
        wait_until_written(&server);
        wait_until_registered(redis, told.agents.keys());
        told.check_exactly(&server);
        server.kill9();
        server = server.restart();
        told.check_exactly(&server);
    }
    assert!(told.agents.len() > 50 && told.gone.len() > 10, "there was load: {}", told.summary());
    told
}

fn pause(milliseconds: u64) {
    thread::sleep(Duration::from_millis(milliseconds));
}

#[test]
fn a_redis_that_writes_to_disk_every_second_is_given_back_what_it_lost_in_a_crash() {
    let redis = RedisServer::launch().line("appendonly yes").line("appendfsync everysec").start();
    let told = crash_and_recover(&redis, redis.url(), 4, |rng| {
        redis.kill9();
        pause(rng.below(200));
        redis.start_again();
    });
    assert!(told.refused > 0, "some were refused");
}

#[test]
fn a_redis_that_comes_back_from_an_old_snapshot_is_given_back_what_it_lost() {
    let redis = RedisServer::start();
    crash_and_recover(&redis, redis.url(), 4, |rng| {
        redis.command(&["SAVE"]);
        pause(100 + rng.below(300));
        redis.kill9();
        redis.start_again();
    });
}

#[test]
fn a_redis_whose_connections_are_cut_does_what_was_acknowledged_and_nothing_else() {
    let redis = RedisServer::start();
    let told = crash_and_recover(&redis, redis.url(), 3, |rng| {
        for _ in 0..30 {
            redis.command(&["CLIENT", "KILL", "TYPE", "normal"]);
            pause(rng.below(60));
        }
    });
    assert!(told.refused > 0, "some were refused");
}

#[test]
fn whatever_happens_to_redis_what_was_acknowledged_is_there_in_the_end() {
    let redis = RedisServer::start();
    let proxy = Proxy::start(redis.port());
    crash_and_recover(&redis, proxy.url(), 4, |rng| {
        for _ in 0..=rng.below(3) {
            fault(&redis, &proxy, rng);
            pause(rng.below(400));
        }
    });
}

/// Something happens to Redis, and passes; maybe before the daemon has noticed.
fn fault(redis: &RedisServer, proxy: &Proxy, rng: &mut Rng) {
    let lose = |traffic, milliseconds| {
        proxy.set(traffic);
        pause(milliseconds);
        proxy.set(Traffic::Forward);
    };
    let milliseconds = rng.below(800);
    let what = rng.below(9);
    eprintln!("fault {what} for {milliseconds} ms");
    match what {
        0 => lose(Traffic::SwallowRequests, milliseconds),
        1 => lose(Traffic::SwallowReplies, milliseconds),
        2 => lose(Traffic::Refuse, milliseconds),
        3 => {
            redis.freeze();
            pause(milliseconds);
            redis.thaw();
        }
        4 => {
            redis.kill9();
            redis.start_again();
        }
        5 => {
            redis.command(&["SAVE"]);
            pause(milliseconds);
            redis.kill9();
            redis.start_again();
        }
        6 => drop(redis.command(&["FLUSHALL"])),
        7 => {
            redis.configure("maxmemory", "1");
            pause(milliseconds);
            redis.configure("maxmemory", "0");
        }
        _ => drop(redis.command(&["CLIENT", "PAUSE", &milliseconds.to_string(), "WRITE"])),
    }
}

//! Redis itself falls, under load.

use std::{thread, time::Duration};

use super::{BACK, on, wait_until_registered, wait_until_written};
use crate::{
    crash::crash,
    support::{
        Server,
        proxy::{Proxy, Traffic},
        redis::RedisServer,
        trouble::{Reported, Rng, trouble},
        wait_until,
    },
};

#[test]
fn what_was_acknowledged_survives_a_crash_of_redis_and_the_daemon_at_once() {
    // The daemon's memory cannot help: Redis must have it on disk.
    let redis = RedisServer::durable();
    let fall = |server: &mut Server, dice: &mut Rng| {
        if dice.throw(2) == 0 {
            redis.kill9();
            server.kill9();
        } else {
            server.kill9();
            redis.kill9();
        }
    };
    crash(on(redis.url()), 8, fall, || redis.start_again());
}

/// Rounds of trouble, in each of which `fall` does something to Redis. All that was acknowledged must be in Redis soon
/// afterwards, and nothing else, and be there for the next run of the daemon.
fn fall_and_rise(redis: &RedisServer, url: String, rounds: u64, fall: impl Fn(&mut Rng)) -> Reported {
    let mut server = on(url).start();
    let mut told = Reported::default();
    let mut dice = Rng::new();
    for round in 0..rounds {
        trouble(&mut server, &mut told, &mut dice, |server, dice| {
            pause(100 + dice.throw(300));
            fall(dice);
            wait_until(BACK, "ready", || server.is_ready());
            pause(dice.throw(300));
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
    let told = fall_and_rise(&redis, redis.url(), 4, |dice| {
        redis.kill9();
        pause(dice.throw(200));
        redis.start_again();
    });
    assert!(told.refused > 0, "some were refused");
}

#[test]
fn a_redis_that_comes_back_from_an_old_snapshot_is_given_back_what_it_lost() {
    let redis = RedisServer::start();
    fall_and_rise(&redis, redis.url(), 4, |dice| {
        redis.command(&["SAVE"]);
        pause(100 + dice.throw(300));
        redis.kill9();
        redis.start_again();
    });
}

#[test]
fn a_redis_whose_connections_are_cut_does_what_was_acknowledged_and_nothing_else() {
    let redis = RedisServer::start();
    let told = fall_and_rise(&redis, redis.url(), 3, |dice| {
        for _ in 0..30 {
            redis.command(&["CLIENT", "KILL", "TYPE", "normal"]);
            pause(dice.throw(60));
        }
    });
    assert!(told.refused > 0, "some were refused");
}

#[test]
fn whatever_happens_to_redis_what_was_acknowledged_is_there_in_the_end() {
    let redis = RedisServer::start();
    let proxy = Proxy::start(redis.port());
    fall_and_rise(&redis, proxy.url(), 4, |dice| {
        for _ in 0..=dice.throw(3) {
            misfortune(&redis, &proxy, dice);
            pause(dice.throw(400));
        }
    });
}

/// Something happens to Redis, and passes; maybe before the daemon has noticed.
fn misfortune(redis: &RedisServer, proxy: &Proxy, dice: &mut Rng) {
    let lose = |traffic, milliseconds| {
        proxy.set(traffic);
        pause(milliseconds);
        proxy.set(Traffic::Forward);
    };
    let milliseconds = dice.throw(800);
    let what = dice.throw(9);
    eprintln!("misfortune {what} for {milliseconds} ms");
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

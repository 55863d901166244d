//! `kill -9` at random moments, under load: what was acknowledged is there, what was removed is gone, nobody is told to
//! be silent.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    Launch, Server,
    load::{Reported, Rng, under_load},
    redis::RedisServer,
};

/// Rounds of load, each ended in the middle of it by `kill`, which ends the daemon. `recover` restarts what else was killed.
pub fn crash(launch: Launch, rounds: u64, kill: impl Fn(&mut Server, &mut Rng), recover: impl Fn()) -> Reported {
    // Sixty seconds of timeout, a minute and a half of threshold: whoever is stale in here is falsely so.
    let mut server = launch.start();
    let mut told = Reported::default();
    let mut rng = Rng::new();
    let mut prompt = 0;
    for round in 0..rounds {
        let written = under_load(&mut server, &mut told, &mut rng, |server, rng| {
            thread::sleep(Duration::from_millis(300 + rng.below(400)));
            let (behind, written) = written_by(server);
            prompt += u64::from(behind < Duration::from_millis(300));
            kill(server, rng);
            written
        });
        recover();
        server = server.restart();
        told.check(&server, written);
        eprintln!("round {round}: {}", told.summary());
    }
    assert!(
        2 * prompt >= rounds,
        "flushes are prompt, but in moments when the machine is busy: in {prompt} of {rounds}"
    );
    assert!(told.agents.len() > 100 && told.gone.len() > 10, "there was load: {}", told.summary());
    // The tokens are good as well.
    let (id, agent) = told.agents.first_key_value().unwrap();
    assert_eq!(server.anonymous().with_token(&agent.token).beat(id, "{}").status, 200);
    told
}

/// The moment up to which all heartbeats are in the store, as the server itself says, and how long ago that is: on a busy
/// machine a flush takes its time, and then a crash may cost more than an interval. Active time leaves out what the server
/// was paused.
fn written_by(server: &Server) -> (Duration, Instant) {
    let asked = Instant::now();
    let age = server.metric("guardbeat_store_flush_age_seconds");
    assert!(age < 5.0, "flushes go on; the last one was {age} s ago");
    let behind = Duration::from_secs_f64(age + server.metric("guardbeat_paused_seconds_total"));
    (behind, asked - behind)
}

#[test]
fn twenty_crashes_lose_nothing_that_was_acknowledged() {
    let told = crash(Launch::plain(), 20, |server, _| server.kill9(), || {});
    assert_eq!(told.refused, 0);
}

#[test]
fn twenty_crashes_over_a_redis_lose_nothing_that_was_acknowledged() {
    let redis = RedisServer::start();
    let told = crash(Launch::plain().arg("--store").arg(redis.url()), 20, |server, _| server.kill9(), || {});
    assert_eq!(told.refused, 0);
}

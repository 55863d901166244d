//! Silence in real time, with a short timeout, against the real daemon.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use crate::support::{Launch, SOON, Server, wait_until};

fn with_timeout(timeout_ms: u64, offline_after_ms: u64) -> Launch {
    Launch::plain()
        .env("MANAGER_HEARTBEAT_TIMEOUT_MS", timeout_ms.to_string())
        .env("GUARDBEAT_LIVENESS__OFFLINE_AFTER_MS", offline_after_ms.to_string())
}

fn status(server: &Server, id: &str) -> String {
    server.client().get(&format!("/api/agents/{id}")).data(200)["status"].as_str().unwrap().to_owned()
}

const BECAME_STALE: &str = r#"guardbeat_transitions_total{from="online",to="stale"}"#;

#[test]
fn an_agent_goes_stale_then_offline_and_comes_back_with_a_heartbeat() {
    let server = with_timeout(300, 1_200).start();
    let before = Instant::now();
    let (id, token) = server.client().enrol("quiet");
    wait_until(SOON, "it is stale", || status(&server, &id) == "stale");
    assert!(before.elapsed() >= Duration::from_millis(450), "not before timeout and grace are over");
    wait_until(SOON, "it is offline", || status(&server, &id) == "offline");
    assert!(before.elapsed() >= Duration::from_millis(1_200), "not before offline_after is over");
    let listed = server.client().get("/api/agents?status=offline").data(200);
    assert_eq!(listed[0]["id"], *id);

    let acked = server.anonymous().with_token(&token).beat(&id, "{}").data(200);
    assert_eq!(acked["status"], "online");
    wait_until(SOON, "all three transitions are counted", || {
        server.metric(BECAME_STALE) >= 1.0
            && server.metric(r#"guardbeat_transitions_total{from="stale",to="offline"}"#) >= 1.0
            && server.metric(r#"guardbeat_transitions_total{from="offline",to="online"}"#) == 1.0
    });
}

/// Beats for `agents` agents every 50 ms, on two connections, until told to stop.
fn beat_on(server: &Server, agents: usize, over: &AtomicBool, meanwhile: impl FnOnce()) {
    let ids: Vec<String> = (0..agents).map(|n| server.client().enrol(&format!("host-{n}")).0).collect();
    thread::scope(|scope| {
        for half in ids.chunks(agents.div_ceil(2)) {
            scope.spawn(move || {
                let mut client = server.client();
                while !over.load(Relaxed) {
                    for id in half {
                        assert_eq!(client.beat(id, r#"{"cpu":1}"#).status, 200);
                    }
                    thread::sleep(Duration::from_millis(50));
                }
            });
        }
        // Reported to stop even if `meanwhile` panics: the threads would go on for ever.
        let _stop = StopOnDrop(over);
        meanwhile();
    });
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn agents_that_beat_are_never_stale() {
    let server = with_timeout(1_000, 10_000).start();
    beat_on(&server, 20, &AtomicBool::new(false), || {
        let began = Instant::now();
        wait_until(SOON, "several timeouts are over", || began.elapsed() > Duration::from_secs(4));
    });
    assert_eq!(server.metric(BECAME_STALE), 0.0);
}

#[test]
fn a_process_that_was_stopped_for_longer_than_the_timeout_calls_nobody_stale_who_beats_on() {
    let server = with_timeout(1_000, 10_000).start();
    beat_on(&server, 20, &AtomicBool::new(false), || {
        for _ in 0..2 {
            server.signal(Signal::SIGSTOP);
            let stopped = Instant::now();
            wait_until(SOON, "it was stopped for twice the threshold", || stopped.elapsed() > Duration::from_secs(3));
            server.signal(Signal::SIGCONT);
            let continued = Instant::now();
            wait_until(SOON, "the threshold is over again", || continued.elapsed() > Duration::from_secs(2));
        }
        assert_eq!(server.metric(BECAME_STALE), 0.0);
    });
    assert!(server.metric("guardbeat_paused_seconds_total") >= 5.0, "the two stops were noticed");
}

#[test]
fn agents_keep_their_status_over_a_restart_and_the_online_get_the_restart_grace() {
    let server = with_timeout(2_000, 600_000).start();
    let (silent, _) = server.client().enrol("silent");
    wait_until(SOON, "it is stale", || status(&server, &silent) == "stale");
    // The clock of this run is saved once it has outlived its restart grace: three seconds, and a tenth.
    let (beating, _) = server.client().enrol("beating");
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        server.client().beat(&beating, "{}");
        thread::sleep(Duration::from_millis(100));
    }
    let mut server = server;
    assert!(server.terminate().success());
    let server = server.restart();
    let restarted = Instant::now();
    assert_eq!(status(&server, &silent), "stale");
    assert_eq!(status(&server, &beating), "online");
    wait_until(SOON, "it is stale", || status(&server, &beating) == "stale");
    assert!(restarted.elapsed() > Duration::from_millis(2_500), "not before the restart grace is over");
}

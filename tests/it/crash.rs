//! `kill -9` at random moments, under load: what was acknowledged is there, what was removed is gone, nobody is told to
//! be silent.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{Client, Launch, Request, Server};

const ROUNDS: u64 = 20;
const CLIENTS: u64 = 4;
/// Heartbeats acknowledged so long before a crash must have been written. The flush interval is a fifth of it; the rest
/// is for a busy machine.
const WRITTEN_AFTER: Duration = Duration::from_millis(500);

/// What the clients were told.
#[derive(Default)]
struct Known {
    agents: BTreeMap<String, Agent>,
    gone: BTreeSet<String>,
}

struct Agent {
    /// As the registration was answered, and the token.
    registered: Value,
    token: String,
    /// The last acknowledged heartbeat: when the answer came, and the time it told.
    beat: Option<(Instant, String)>,
}

/// Numbers without a library: xorshift.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

static NAMES: AtomicU64 = AtomicU64::new(0);

/// Registers, beats and deregisters until the server is gone.
fn trouble(client: &mut Client, mut dice: Dice, over: &AtomicBool) -> Known {
    let mut known = Known::default();
    let mut mine: Vec<String> = vec![];
    while !over.load(Relaxed) {
        match dice.throw(10) {
            0..4 => {
                let name = NAMES.fetch_add(1, Relaxed);
                let body = json!({
                    "hostname": format!("host-{name}"), "os": "linux", "version": format!("1.{}.0", dice.throw(9)),
                    "ip": format!("10.0.{}.{}", dice.throw(256), dice.throw(256)), "org_id": "acme",
                    "tags": ["production", format!("rack-{}", dice.throw(9))],
                    "machine_id": format!("machine-{name}"),
                });
                let request = Request::new("POST", "/api/agents/register").json(body.to_string());
                let Ok(reply) = client.try_send(&request) else { break };
                assert_eq!(reply.status, 201, "{reply:?}");
                let answer = reply.json();
                let id = answer["agentId"].as_str().unwrap().to_owned();
                let token = answer["token"].as_str().unwrap().to_owned();
                known.agents.insert(id.clone(), Agent { registered: answer["data"].clone(), token, beat: None });
                mine.push(id);
            }
            4..9 if !mine.is_empty() => {
                let id = &mine[dice.throw(mine.len() as u64) as usize];
                let request = Request::new("POST", format!("/api/agents/{id}/heartbeat")).json(r#"{"cpu":12.5}"#);
                let Ok(reply) = client.try_send(&request) else { break };
                let time = reply.data(200)["lastHeartbeat"].as_str().unwrap().to_owned();
                known.agents.get_mut(id).unwrap().beat = Some((Instant::now(), time));
            }
            _ if !mine.is_empty() => {
                let id = mine.swap_remove(dice.throw(mine.len() as u64) as usize);
                known.agents.remove(&id);
                match client.try_send(&Request::new("DELETE", format!("/api/agents/{id}"))) {
                    Ok(reply) => {
                        assert_eq!(reply.status, 200, "{reply:?}");
                        known.gone.insert(id);
                    }
                    // Under way at the crash: it may have happened or not.
                    Err(_) => break,
                }
            }
            _ => {}
        }
    }
    known
}

fn check(server: &Server, known: &mut Known, killed: Instant) {
    let listed = server.client().get("/api/agents").data(200);
    let listed: BTreeMap<&str, &Value> =
        listed.as_array().unwrap().iter().map(|agent| (agent["id"].as_str().unwrap(), agent)).collect();
    for (id, agent) in &known.agents {
        let found = listed.get(id.as_str()).unwrap_or_else(|| panic!("{id} was registered and is lost"));
        for (field, value) in agent.registered.as_object().unwrap() {
            assert_eq!(&found[field], value, "{field} of {id}");
        }
        if let Some((acked, time)) = &agent.beat
            && killed.duration_since(*acked) > WRITTEN_AFTER
        {
            assert!(found["lastHeartbeat"].as_str().unwrap() >= time.as_str(), "a heartbeat of {id} is lost");
        }
    }
    for id in &known.gone {
        assert!(!listed.contains_key(id.as_str()), "{id} was deregistered and is back");
    }
    for agent in listed.values() {
        assert_eq!(agent["status"], "online", "{agent}");
    }
    // What was acknowledged in the last moment may be lost; of those heartbeats nothing more is known.
    for agent in known.agents.values_mut() {
        agent.beat = agent.beat.take().filter(|(acked, _)| killed.duration_since(*acked) > WRITTEN_AFTER);
    }
}

#[test]
fn twenty_crashes_lose_nothing_that_was_acknowledged() {
    // Sixty seconds of timeout, a minute and a half of threshold: whoever is stale in here is falsely so.
    let mut server = Launch::plain().start();
    let mut known = Known::default();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for round in 0..ROUNDS {
        let over = AtomicBool::new(false);
        let killed = thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|_| {
                    let (mut client, dice) = (server.client(), Dice(dice.throw(u64::MAX) | 1));
                    let over = &over;
                    scope.spawn(move || trouble(&mut client, dice, over))
                })
                .collect();
            thread::sleep(Duration::from_millis(300 + dice.throw(900)));
            server.kill9();
            let killed = Instant::now();
            over.store(true, Relaxed);
            for client in clients {
                let theirs = client.join().unwrap();
                known.agents.extend(theirs.agents);
                known.gone.extend(theirs.gone);
            }
            killed
        });
        server = server.restart();
        check(&server, &mut known, killed);
        let beats = known.agents.values().filter(|agent| agent.beat.is_some()).count();
        eprintln!("round {round}: {} agents, {beats} with beats, {} gone", known.agents.len(), known.gone.len());
    }
    assert!(known.agents.len() > 100 && known.gone.len() > 10, "there was load");
    // The tokens are good as well, and one machine is still one agent.
    let (id, agent) = known.agents.first_key_value().unwrap();
    assert_eq!(server.anonymous().with_token(&agent.token).beat(id, "{}").status, 200);
}

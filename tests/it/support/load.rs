//! Clients that register, beat, deregister and publish policies while a test breaks something, and remember what they were told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{Client, Reply, Request, SOON, Server, wait_until};

const CLIENTS: usize = 4;
/// Between two requests of a client: more of them would only heat the machine.
const PAUSE: Duration = Duration::from_millis(2);

/// Numbers without a library: xorshift.
pub struct Rng(u64);

impl Rng {
    /// The same numbers every time; others for each `GUARDBEAT_TEST_SEED`.
    pub fn new() -> Self {
        let seed = std::env::var("GUARDBEAT_TEST_SEED").map_or(1, |seed| seed.parse().expect("a number"));
        Self(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed) | 1)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// What the clients were told.
#[derive(Default)]
pub struct Reported {
    pub agents: BTreeMap<String, Agent>,
    pub gone: BTreeSet<String>,
    /// The policies that were published: the id of each version.
    policies: BTreeMap<u32, String>,
    /// The ids of the threats that were reported.
    threats: BTreeSet<String>,
    /// Requests that were answered 503. What they asked for has not happened, and will not.
    pub refused: u64,
    /// Agents of such requests: if the server dies before it could make sure of it, it may have happened all the same.
    doubtful: BTreeSet<String>,
    /// Requests that were not answered.
    pub unanswered: u64,
}

pub struct Agent {
    /// As the last registration was answered, and the token.
    registered: Value,
    pub token: String,
    /// The acknowledged heartbeats: when each answer came, and the time it told.
    beats: Vec<(Instant, String)>,
}

static NAMES: AtomicU64 = AtomicU64::new(0);

/// Sends everything at once until `meanwhile` is over; what the clients were told is added to `told`.
pub fn under_load<R>(
    server: &mut Server,
    told: &mut Reported,
    rng: &mut Rng,
    meanwhile: impl FnOnce(&mut Server, &mut Rng) -> R,
) -> R {
    let over = AtomicBool::new(false);
    let clients: Vec<_> = (0..CLIENTS).map(|_| (server.client(), Rng(rng.below(u64::MAX) | 1))).collect();
    thread::scope(|scope| {
        let clients: Vec<_> = clients
            .into_iter()
            .map(|(client, rng)| {
                let over = &over;
                scope.spawn(move || Troublemaker { client, rng, mine: vec![], told: Reported::default() }.run(over))
            })
            .collect();
        let result = {
            // Even if `meanwhile` panics: the clients would go on for ever.
            let _stop = StopOnDrop(&over);
            meanwhile(server, rng)
        };
        for client in clients {
            told.add(client.join().unwrap());
        }
        result
    })
}

/// Tells threads to stop.
pub struct StopOnDrop<'a>(pub &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

struct Troublemaker {
    client: Client,
    rng: Rng,
    mine: Vec<String>,
    told: Reported,
}

impl Troublemaker {
    fn run(mut self, over: &AtomicBool) -> Reported {
        while !over.load(Relaxed) {
            let answered = match self.rng.below(22) {
                0..6 => self.register(None).map(drop),
                6..17 if !self.mine.is_empty() => self.beat(),
                17 if !self.mine.is_empty() => self.register_again(),
                18 => self.publish(),
                20.. if !self.mine.is_empty() => self.report(),
                _ if !self.mine.is_empty() => self.deregister(),
                _ => Some(()),
            };
            if answered.is_none() {
                self.told.unanswered += 1;
                break;
            }
            thread::sleep(PAUSE);
        }
        self.told
    }

    /// The answer, if there is one; and none to speak of if it is a refusal.
    fn send(&mut self, request: Request, success: u16) -> Option<Option<Reply>> {
        let reply = self.client.try_send(&request).ok()?;
        if reply.status == 503 {
            assert!(reply.header("retry-after").is_some(), "{reply:?}");
            self.told.refused += 1;
            return Some(None);
        }
        assert_eq!(reply.status, success, "{reply:?}");
        Some(Some(reply))
    }

    fn one_of_mine(&mut self) -> usize {
        self.rng.below(self.mine.len() as u64) as usize
    }

    /// The id, unless it was refused.
    fn register(&mut self, machine: Option<&str>) -> Option<Option<String>> {
        let name = NAMES.fetch_add(1, Relaxed);
        let machine = machine.map_or_else(|| format!("machine-{name}"), str::to_owned);
        let body = json!({
            "hostname": format!("host-{name}"), "os": "linux", "version": format!("1.{}.0", self.rng.below(9)),
            "ip": format!("10.0.{}.{}", self.rng.below(256), self.rng.below(256)), "org_id": "acme",
            "tags": ["production", format!("rack-{}", self.rng.below(9)), machine],
            "machine_id": machine,
        });
        let request = Request::new("POST", "/api/agents/register").json(body.to_string());
        let Some(reply) = self.send(request, 201)? else { return Some(None) };
        let answer = reply.json();
        let id = answer["agentId"].as_str().unwrap().to_owned();
        let token = answer["token"].as_str().unwrap().to_owned();
        self.told.agents.insert(id.clone(), Agent { registered: answer["data"].clone(), token, beats: vec![] });
        self.mine.push(id.clone());
        Some(Some(id))
    }

    fn register_again(&mut self) -> Option<()> {
        let mine = self.one_of_mine();
        let id = self.mine.swap_remove(mine);
        let agent = self.told.agents.remove(&id).unwrap();
        let machine = agent.registered["tags"][2].as_str().unwrap().to_owned();
        // Not answered: it may have the old registration or the new one.
        match self.register(Some(&machine))? {
            Some(again) => assert_eq!(again, id, "one machine is one agent"),
            None => self.refused(id, agent),
        }
        Some(())
    }

    fn beat(&mut self) -> Option<()> {
        let mine = self.one_of_mine();
        let agent = self.told.agents.get_mut(&self.mine[mine]).unwrap();
        let request = Request::new("POST", format!("/api/agents/{}/heartbeat", self.mine[mine]))
            .header("Authorization", format!("Bearer {}", agent.token))
            .json(r#"{"cpu":12.5}"#);
        // Never refused.
        let reply = self.client.try_send(&request).ok()?;
        let time = reply.data(200)["lastHeartbeat"].as_str().unwrap().to_owned();
        agent.beats.push((Instant::now(), time));
        Some(())
    }

    fn deregister(&mut self) -> Option<()> {
        let mine = self.one_of_mine();
        let id = self.mine.swap_remove(mine);
        let agent = self.told.agents.remove(&id).unwrap();
        // Not answered: it may have happened or not.
        if self.send(Request::new("DELETE", format!("/api/agents/{id}")), 200)?.is_some() {
            self.told.gone.insert(id);
        } else {
            self.refused(id, agent);
        }
        Some(())
    }

    fn publish(&mut self) -> Option<()> {
        let org = [Value::Null, json!("acme"), json!("bolt")][self.rng.below(3) as usize].clone();
        let body = json!({"name": "trouble", "org_id": org, "rules": []});
        let request = Request::new("POST", "/api/policy").json(body.to_string());
        if let Some(reply) = self.send(request, 201)? {
            self.told.policies.extend(version_and_id(&reply.data(201)));
        }
        Some(())
    }

    fn report(&mut self) -> Option<()> {
        let mine = self.one_of_mine();
        let event = json!({"type": "trouble", "severity": "low", "details": {}});
        let events = vec![event; 1 + self.rng.below(3) as usize];
        let request = Request::new("POST", format!("/api/agents/{}/events", self.mine[mine]));
        if let Some(reply) = self.send(request.json(json!({ "events": events }).to_string()), 201)? {
            let data = reply.data(201);
            self.told.threats.extend(data["eventIds"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().into()));
        }
        Some(())
    }

    /// It goes on as it was.
    fn refused(&mut self, id: String, agent: Agent) {
        self.told.doubtful.insert(id.clone());
        self.told.agents.insert(id.clone(), agent);
        self.mine.push(id);
    }
}

/// Of a policy; none of none.
fn version_and_id(policy: &Value) -> Option<(u32, String)> {
    let version = policy["version"].as_str()?.strip_prefix('v')?.parse().ok()?;
    Some((version, policy["id"].as_str()?.to_owned()))
}

/// The ids of all threats.
fn threats(server: &Server) -> BTreeSet<String> {
    let mut client = server.client();
    let (mut threats, mut cursor) = (BTreeSet::new(), String::new());
    loop {
        let mut reply = None;
        wait_until(SOON, "the threat history is loaded", || {
            let answer = client.get(&format!("/api/threats?limit=200{cursor}"));
            let is_there = answer.status == 200;
            reply = Some(answer);
            is_there
        });
        let page = reply.unwrap().json();
        threats.extend(page["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()));
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return threats,
        }
    }
}

impl Reported {
    fn add(&mut self, more: Self) {
        for (version, id) in more.policies {
            assert_eq!(self.policies.insert(version, id), None, "v{version} was published twice");
        }
        self.threats.extend(more.threats);
        self.agents.extend(more.agents);
        self.gone.extend(more.gone);
        self.doubtful.extend(more.doubtful);
        self.refused += more.refused;
        self.unanswered += more.unanswered;
    }

    /// After a crash, `written` before which heartbeats were in the store: what was acknowledged is there, what was removed
    /// is gone, nobody is told to be silent.
    pub fn check(&mut self, server: &Server, written: Instant) {
        for id in std::mem::take(&mut self.doubtful) {
            self.agents.remove(&id);
        }
        // What was acknowledged after that may be lost; of those heartbeats nothing more is known.
        for agent in self.agents.values_mut() {
            agent.beats.retain(|(acked, _)| *acked < written);
        }
        self.compare(server);
        let found = threats(server);
        let lost: Vec<_> = self.threats.difference(&found).collect();
        assert!(lost.is_empty(), "{lost:?} were reported and are lost");
    }

    /// While the server lives, or after it has written everything: the same, and nothing else is there.
    pub fn check_exactly(&mut self, server: &Server) {
        assert_eq!(self.unanswered, 0);
        let listed = self.compare(server);
        let active = version_and_id(&server.client().get("/api/policy/active").data(200));
        assert_eq!(active, self.policies.last_key_value().map(|(version, id)| (*version, id.clone())));
        let unknown: Vec<_> = listed.into_iter().filter(|id| !self.agents.contains_key(id)).collect();
        assert!(unknown.is_empty(), "nobody was told of {unknown:?}");
        // A Redis that has lost threats cannot be given them back. But none comes that nobody was told of.
        let mut refused = Vec::new();
        wait_until(SOON, "what was refused is gone", || {
            refused = threats(server).difference(&self.threats).cloned().collect();
            refused.is_empty()
        });
        let total = server.client().get("/api/threats/summary").data(200)["total"].as_u64();
        assert_eq!(total, Some(threats(server).len() as u64));
        // There is no doubt any more.
        self.doubtful.clear();
    }

    /// How many of everything.
    pub fn summary(&self) -> String {
        let beats = self.agents.values().filter(|agent| !agent.beats.is_empty()).count();
        let Self { agents, gone, refused, unanswered, .. } = self;
        let (agents, gone) = (agents.len(), gone.len());
        format!("{agents} agents, {beats} with beats, {gone} gone; {refused} refused, {unanswered} not answered")
    }

    /// The ids of all agents there are.
    fn compare(&self, server: &Server) -> Vec<String> {
        let listed = server.client().get("/api/agents").data(200);
        let listed: BTreeMap<&str, &Value> =
            listed.as_array().unwrap().iter().map(|agent| (agent["id"].as_str().unwrap(), agent)).collect();
        for (id, agent) in &self.agents {
            let found = listed.get(id.as_str()).unwrap_or_else(|| panic!("{id} was registered and is lost"));
            for (field, value) in agent.registered.as_object().unwrap() {
                assert_eq!(&found[field], value, "{field} of {id}");
            }
            if let Some((acked, time)) = agent.beats.last() {
                let last = found["lastHeartbeat"].as_str().unwrap();
                let ago = acked.elapsed();
                assert!(
                    last >= time.as_str(),
                    "{id} was heard at {time}, {ago:?} ago; the last that is known is {last}"
                );
            }
        }
        if let Some((last, _)) = self.policies.last_key_value() {
            let active = version_and_id(&server.client().get("/api/policy/active").data(200));
            let (version, id) = active.expect("policies were published and are lost");
            // A later one may have been published and not answered.
            assert!(version >= *last, "v{last} was published and is lost");
            assert!(self.policies.get(&version).is_none_or(|told| *told == id), "v{version} is another one now");
        }
        for id in &self.gone {
            assert!(!listed.contains_key(id.as_str()), "{id} was deregistered and is back");
        }
        for agent in listed.values() {
            assert_eq!(agent["status"], "online", "{agent}");
        }
        listed.into_keys().map(str::to_owned).collect()
    }
}

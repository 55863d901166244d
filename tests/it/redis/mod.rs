//! The fleet in a real Redis: what is promised when that is slow, full, gone, emptied, read-only or somebody else's.

mod crashes;
mod faults;
mod loss;
mod outage;
mod replicas;
mod sharing;
mod start;
mod transport;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Launch, SOON, Server, redis::RedisServer, server::run, wait_until};

/// Time after which Redis has everything again once it is back.
const BACK: Duration = Duration::from_secs(5);

/// How to start a daemon whose fleet is in this Redis. It does not wait for an answer as long as in production.
fn on(url: impl Into<String>) -> Launch {
    Launch::plain().arg("--store").arg(url).env("GUARDBEAT_STORE__TIMEOUT_MS", "500")
}

/// The records of one kind, by agent, as JSON.
fn records(redis: &RedisServer, prefix: &str, kind: &str) -> BTreeMap<String, Value> {
    let fields = redis.fields(&format!("{prefix}{{p*}}:{kind}"));
    let records = fields.into_iter().map(|(id, record)| {
        let value = serde_json::from_str(&record).unwrap_or_else(|error| panic!("{error}: {record}"));
        (format!("agent-{id}"), value)
    });
    records.collect()
}

/// The registrations that Redis has.
fn registrations(redis: &RedisServer) -> BTreeMap<String, Value> {
    records(redis, "guardbeat:", "agents")
}

/// When each agent was last heard, as Redis has it: milliseconds since 1970.
fn heartbeats(redis: &RedisServer) -> BTreeMap<String, i64> {
    let records = records(redis, "guardbeat:", "heartbeats").into_iter();
    records.map(|(id, record)| (id, record[2].as_i64().expect("the time it was heard"))).collect()
}

/// Waits until Redis has these agents and no others.
fn wait_until_registered<'a>(redis: &RedisServer, agents: impl IntoIterator<Item = &'a String>) {
    let wanted: BTreeSet<_> = agents.into_iter().cloned().collect();
    let mut differing = vec![];
    wait_until(BACK, "Redis has the agents that were acknowledged, and no others", || {
        let found: BTreeSet<_> = registrations(redis).into_keys().collect();
        let now: Vec<_> = wanted.symmetric_difference(&found).cloned().collect();
        if now != differing {
            differing = now;
            let lost = differing.iter().filter(|id| wanted.contains(*id)).count();
            eprintln!("of {}: {lost} missing, {} too many", wanted.len(), differing.len() - lost);
        }
        differing.is_empty()
    });
}

/// Waits until the daemon has written everything it knows.
fn wait_until_written(server: &Server) {
    wait_until(SOON, "it is ready and everything is written", || {
        server.is_ready() && server.metric("guardbeat_store_dirty_agents") == 0.0
    });
}

/// Starts a daemon that will not come up: what it says.
fn start_refused(url: &str, env: &[(&str, &str)]) -> String {
    let folder = TempDir::new().unwrap();
    let args = ["--listen", "127.0.0.1:0", "--data-dir", "data", "--tls", "off", "--store", url];
    let env = [&[("GUARDBEAT_METRICS__LISTEN", "127.0.0.1:0")], env].concat();
    let ended = run(folder.path(), &args, &env);
    assert_eq!(ended.code, Some(1), "{}{}", ended.stdout, ended.stderr);
    ended.stderr
}

/// The name of an agent in the hashes of its partition.
fn field(id: &str) -> &str {
    id.strip_prefix("agent-").expect("an agent's id")
}

/// The key of the agent's partition.
fn partition_key(id: &str, kind: &str) -> String {
    let partition = u64::from_str_radix(field(id), 16).unwrap() >> 54;
    format!("guardbeat:{{p{partition:04}}}:{kind}")
}

//! What Redis has is not what was written: emptied, rewound, damaged, or of another time.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    BACK, field, heartbeats, on, partition_key, registrations, start_refused, wait_until_registered, wait_until_written,
};
use crate::support::{Client, SOON, Server, proxy::Proxy, redis::RedisServer, wait_until};

/// Registers agents with every field there is, and lets them beat with every figure; their ids.
fn enrol(client: &mut Client, names: impl IntoIterator<Item = &'static str>) -> Vec<String> {
    let enrol = |name: &str| {
        let enrolled = client.register(&json!({
            "hostname": name, "os": "linux", "version": "1.0", "ip": "2001:db8::7", "org_id": "acme",
            "tags": ["production", "ürban"], "machine_id": format!("machine of {name}"),
        }));
        let id = enrolled["agentId"].as_str().unwrap().to_owned();
        let figures = json!({
            "uptime": 86_400, "cpu": 12.5, "memory": 48.25, "version": "1.1", "mode": "protect",
            "eventsProcessed": 7, "threatsDetected": 3, "actionsExecuted": 1, "memoryUsageMB": 55.5,
        });
        client.beat(&id, figures).data(200);
        id
    };
    names.into_iter().map(enrol).collect()
}

/// Everything that is shown of every agent.
fn everything(server: &Server) -> BTreeMap<String, Value> {
    let mut client = server.client();
    let listed = client.get("/api/agents").data(200);
    let ids = listed.as_array().unwrap().iter().map(|agent| agent["id"].as_str().unwrap().to_owned());
    ids.map(|id| (id.clone(), client.get(&format!("/api/agents/{id}")).data(200))).collect()
}

/// Redis has soon what the daemon has, and a new run of the daemon finds all of it.
fn is_whole_again(mut server: Server, redis: &RedisServer) -> Server {
    let before = everything(&server);
    wait_until_registered(redis, before.keys());
    wait_until(BACK, "Redis has all heartbeats", || heartbeats(redis).len() == before.len());
    wait_until_written(&server);
    server.kill9();
    let server = server.restart();
    assert_eq!(everything(&server), before);
    server
}

#[test]
fn a_redis_that_is_emptied_is_given_everything_back() {
    let redis = RedisServer::start();
    let server = on(redis.url()).start();
    let mut client = server.client();
    let ids = enrol(&mut client, ["first", "second", "third"]);
    let machine = json!({"hostname": "again", "os": "linux", "version": "2", "org_id": "acme",
                         "machine_id": "machine of second"});
    wait_until_written(&server);

    redis.command(&["FLUSHALL"]);
    let server = is_whole_again(server, &redis);
    assert!(server.log().contains("ERROR"), "it is told: {}", server.log());
    // Also while agents come and go, and on the second run.
    let mut client = server.client();
    redis.command(&["FLUSHALL"]);
    wait_until(SOON, "one registers", || client.post("/api/agents/register", &machine).status == 201);
    wait_until(SOON, "one goes", || client.delete(&format!("/api/agents/{}", ids[0])).status == 200);
    let server = is_whole_again(server, &redis);
    let found = everything(&server);
    assert_eq!(found.len(), 2, "one machine is one agent: {found:?}");
    assert_eq!(found[&ids[1]]["hostname"], "again");
}

#[test]
fn a_replica_that_was_promoted_although_it_lagged_is_given_what_it_lacks() {
    let primary = RedisServer::start();
    let replica = RedisServer::start();
    let proxy = Proxy::start(primary.port());
    let server = on(proxy.url()).start();
    let mut client = server.client();
    let ids = enrol(&mut client, ["stays", "goes", "changes"]);
    wait_until_written(&server);
    replica.replicate(&primary);
    // From here on it hears nothing of the primary.
    replica.promote();

    let late = enrol(&mut client, ["comes"]);
    client.delete(&format!("/api/agents/{}", ids[1])).data(200);
    client.beat(&ids[0], json!({"cpu": 99})).data(200);
    client.register(&json!({"hostname": "changed", "os": "linux", "version": "3", "org_id": "acme",
                            "machine_id": "machine of changes"}));
    wait_until_written(&server);
    assert!(registrations(&replica).contains_key(&ids[1]) && !registrations(&replica).contains_key(&late[0]));

    primary.kill9();
    proxy.redirect(replica.port());
    let server = is_whole_again(server, &replica);
    let found = everything(&server);
    assert_eq!(found.len(), 3);
    assert!(!found.contains_key(&ids[1]), "who was deregistered does not come back");
    assert_eq!(found[&ids[0]]["cpu"], 99);
    assert_eq!(found[&ids[2]]["hostname"], "changed");
}

#[test]
fn a_lease_of_an_earlier_run_that_comes_back_with_older_data_is_not_another_process() {
    let redis = RedisServer::start();
    let mut server = on(redis.url()).start();
    enrol(&mut server.client(), ["host"]);
    redis.command(&["SAVE"]);
    server.kill9();
    let server = server.restart();

    redis.kill9();
    redis.start_again();
    assert_eq!(redis.keys("guardbeat:lease").len(), 1, "the lease has come back as well");
    wait_until(BACK, "the daemon has noticed", || !server.is_ready() || server.log().contains("written back"));
    // At the latest when that lease has run out.
    wait_until(SOON, "it goes on", || server.is_ready());
    let server = is_whole_again(server, &redis);
    assert_eq!(everything(&server).len(), 1);
}

#[test]
fn records_that_cannot_be_read_are_set_aside_and_the_rest_is_served() {
    let redis = RedisServer::start();
    let mut server = on(redis.url()).start();
    let ids = enrol(&mut server.client(), ["whole", "without a registration", "without a heartbeat"]);
    wait_until_written(&server);
    assert!(server.terminate().success());
    redis.command(&["HSET", &partition_key(&ids[1], "agents"), field(&ids[1]), "{\"v\":1,"]);
    redis.command(&["HSET", &partition_key(&ids[2], "heartbeats"), field(&ids[2]), "garbage"]);
    redis.command(&["HSET", &partition_key(&ids[0], "agents"), "nobody", "{}"]);

    let mut server = server.restart();
    let found = everything(&server);
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        [&ids[0], &ids[2]].into_iter().collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    );
    assert_eq!(found[&ids[0]]["cpu"], 12.5);
    assert_eq!(found[&ids[2]]["cpu"], Value::Null, "what was in the heartbeat is lost");
    assert_eq!(server.metric("guardbeat_store_corrupt_records_total"), 3.0);
    let aside = redis.fields("guardbeat:{p*}:corrupt");
    let mut values: Vec<_> = aside.values().map(String::as_str).collect();
    values.sort_unstable();
    assert_eq!(values, ["garbage", "{\"v\":1,", "{}"], "{aside:?}");
    assert!(!redis.fields("guardbeat:{p*}:agents").contains_key("nobody"));
    assert!(server.log().contains("ERROR"), "it is told: {}", server.log());

    // They are dealt with: the next start has nothing to say of them.
    assert!(server.terminate().success());
    let server = server.restart();
    assert_eq!(server.metric("guardbeat_store_corrupt_records_total"), 0.0);
    assert_eq!(everything(&server).len(), 2);
    assert_eq!(redis.fields("guardbeat:{p*}:corrupt"), aside);
}

/// Publishes a policy for everybody and one for a tenant; what is shown of policies.
fn publish(client: &mut Client, id: &str) -> [Value; 3] {
    let rule = json!({"type": "block_ip", "config": {"ip": "203.0.113.66"}});
    client.post("/api/policy", json!({"name": "all", "rules": [rule]})).data(201);
    client.post("/api/policy", json!({"name": "one", "rules": [rule], "org_id": "acme"})).data(201);
    policies(client, id)
}

fn policies(client: &mut Client, id: &str) -> [Value; 3] {
    let agent = format!("/api/policy/agent/{id}");
    ["/api/policy/active", "/api/policy/active?org_id=nobody", &agent].map(|path| client.get(path).data(200))
}

#[test]
fn policies_that_redis_has_lost_are_given_back() {
    let redis = RedisServer::start();
    let mut server = on(redis.url()).start();
    let ids = enrol(&mut server.client(), ["host"]);
    let before = publish(&mut server.client(), &ids[0]);
    wait_until_written(&server);
    let written = redis.fields("guardbeat:policies");
    assert_eq!(written.keys().collect::<Vec<_>>(), ["*", "o:acme"]);

    redis.command(&["FLUSHALL"]);
    wait_until(BACK, "Redis has the policies", || redis.fields("guardbeat:policies") == written);
    wait_until_registered(&redis, &ids);
    wait_until(BACK, "and what was fetched of them", || heartbeats(&redis).len() == 1);
    wait_until_written(&server);
    server.kill9();
    let server = server.restart();
    let mut client = server.client();
    assert_eq!(client.beat(&ids[0], "{}").data(200)["pendingPolicies"], 0);
    assert_eq!(policies(&mut client, &ids[0]), before);
    let next = json!({"name": "next", "rules": []});
    assert_eq!(client.post("/api/policy", next).data(201)["version"], "v3");
}

#[test]
fn policies_that_cannot_be_read_are_set_aside_and_the_rest_is_in_force() {
    let redis = RedisServer::start();
    let mut server = on(redis.url()).start();
    let ids = enrol(&mut server.client(), ["host"]);
    let before = publish(&mut server.client(), &ids[0]);
    assert!(server.terminate().success());
    redis.command(&["HSET", "guardbeat:policies", "*", "garbage"]);
    redis.command(&["HSET", "guardbeat:policies", "nobody", "[]"]);
    let mut server = server.restart();
    assert_eq!(server.metric("guardbeat_store_corrupt_records_total"), 2.0);
    let aside = redis.fields("guardbeat:corrupt");
    let expected = [("policies:*", "garbage"), ("policies:nobody", "[]")];
    assert_eq!(aside, expected.map(|(field, record)| (field.to_owned(), record.to_owned())).into());
    assert_eq!(redis.fields("guardbeat:policies").keys().collect::<Vec<_>>(), ["o:acme"]);
    let found = policies(&mut server.client(), &ids[0]);
    assert_eq!((&found[0], &found[1], &found[2]), (&before[0], &Value::Null, &before[2]));

    // The same for something that holds no policies at all.
    assert!(server.terminate().success());
    redis.command(&["DEL", "guardbeat:policies"]);
    redis.command(&["SET", "guardbeat:policies", "nonsense"]);
    let server = server.restart();
    assert_eq!(server.metric("guardbeat_store_corrupt_records_total"), 1.0);
    assert_eq!(redis.keys("guardbeat:policies:corrupt").len(), 1);
    let next = json!({"name": "next", "rules": []});
    assert_eq!(server.client().post("/api/policy", next).data(201)["version"], "v3", "v1 and v2 were others");
}

#[test]
fn a_fleet_of_a_newer_format_is_left_alone() {
    let redis = RedisServer::start();
    let mut server = on(redis.url()).start();
    enrol(&mut server.client(), ["host"]);
    assert!(server.terminate().success());
    redis.command(&["HSET", "guardbeat:meta", "format", "999"]);
    let before = redis.fields("*");
    let why = start_refused(&redis.url(), &[]);
    assert!(why.contains("999"), "{why}");
    assert_eq!(redis.fields("*"), before);
    redis.command(&["HSET", "guardbeat:meta", "format", "tomorrow"]);
    start_refused(&redis.url(), &[]);
}

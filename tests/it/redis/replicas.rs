//! Durable may mean: on so many replicas as well.

use super::{on, registrations, wait_until_registered, wait_until_written};
use crate::support::{Client, SOON, redis::RedisServer, wait_until};

const BODY: &str = r#"{"hostname":"host","os":"linux","version":"1"}"#;

fn ids(client: &mut Client) -> Vec<String> {
    let listed = client.get("/api/agents").data(200);
    listed.as_array().unwrap().iter().map(|agent| agent["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_the_replicas_do_not_have_is_not_acknowledged() {
    let primary = RedisServer::start();
    let server = on(primary.url()).env("GUARDBEAT_STORE__MIN_REPLICAS", "1").start();
    let mut client = server.client();
    for _ in 0..3 {
        let reply = client.post("/api/agents/register", BODY);
        assert!(reply.header("retry-after").is_some(), "{reply:?}");
        reply.error(503);
    }
    assert!(!server.is_ready());
    assert!(ids(&mut client).is_empty());

    let replica = RedisServer::start();
    replica.replicate(&primary);
    wait_until(SOON, "one registers", || client.post("/api/agents/register", BODY).status == 201);
    let there = ids(&mut client);
    assert_eq!(there.len(), 1);
    // At once: that is what the acknowledgement says.
    assert!(registrations(&replica).contains_key(&there[0]));
    // What was refused is undone.
    wait_until_registered(&primary, &there);
    wait_until_registered(&replica, &there);
    assert!(server.is_ready());

    replica.kill9();
    client.delete(&format!("/api/agents/{}", there[0])).error(503);
    client.post("/api/agents/register", BODY).error(503);
    client.beat(&there[0], r#"{"cpu":2}"#).data(200);
    replica.start_again();
    replica.replicate(&primary);
    wait_until(SOON, "it is ready again", || server.is_ready());
    wait_until_written(&server);
    assert_eq!(ids(&mut client), there);
    wait_until_registered(&primary, &there);
    wait_until_registered(&replica, &there);
}

//! Who may register, where the address comes from, and when the fleet is full.

use serde_json::json;

use crate::support::{Client, Launch, Request, Server};

const PATH: &str = "/api/agents/register";

fn body() -> String {
    json!({"hostname": "h", "os": "linux", "version": "1"}).to_string()
}

fn forwarded(client: &mut Client, header: &str) -> String {
    let request = Request::new("POST", PATH).json(body()).header("X-Forwarded-For", header);
    client.send(&request).data(201)["ip"].as_str().unwrap().to_owned()
}

/// What a proxy may say that tells nobody's address.
const UNREADABLE: [&str; 7] = ["unknown", "_hidden", "nonsense", "203.0.113.10,", "203.0.113.10, unknown", "unix:", ""];

fn total(server: &Server) -> u64 {
    server.anonymous().get("/health").data(200)["agents"]["total"].as_u64().unwrap()
}

#[test]
fn enrolment_without_a_token_is_closed_unless_configured() {
    let server = Launch::either().start();
    assert_eq!(server.anonymous().post(PATH, body()).error(401), "Unauthorized");
    assert_eq!(total(&server), 0);
}

#[test]
fn enrolment_without_a_token_is_open_to_named_networks() {
    let server = Launch::either().env("GUARDBEAT_AUTH__OPEN_ENROLLMENT", "127.0.0.1/32").start();
    // As the published client does it.
    let guard = json!({"hostname": "h", "os": "linux", "arch": "x64", "version": "1.0.0"});
    let enrolled = server.anonymous().register(&guard);
    let (id, token) = (enrolled["agentId"].as_str().unwrap(), enrolled["token"].as_str().unwrap());
    server.anonymous().with_token(token).beat(id, "{}").data(200);
    assert_eq!(server.anonymous().beat(id, "{}").error(401), "Unauthorized", "it is open to enrolment alone");
    assert_eq!(server.anonymous().get("/api/agents").error(401), "Unauthorized");
    assert_eq!(server.anonymous().with_token("a-wrong-token").post(PATH, body()).error(401), "Unauthorized");
    server.client().post(PATH, body()).data(201);
}

#[test]
fn enrolment_without_a_token_is_closed_to_other_networks() {
    let server = Launch::either().env("GUARDBEAT_AUTH__OPEN_ENROLLMENT", "203.0.113.0/24,2001:db8::/32").start();
    assert_eq!(server.anonymous().post(PATH, body()).error(401), "Unauthorized");
    let lie = Request::new("POST", PATH).json(body()).header("X-Forwarded-For", "203.0.113.10");
    assert_eq!(server.anonymous().send(&lie).error(401), "Unauthorized");
    assert_eq!(total(&server), 0);
}

#[test]
fn a_forwarded_address_is_believed_from_a_trusted_proxy_only() {
    let server = Launch::either().start();
    assert_eq!(forwarded(&mut server.client(), "203.0.113.10"), "127.0.0.1");

    let server = Launch::either().env("GUARDBEAT_SERVER__TRUSTED_PROXIES", "127.0.0.1/32,10.0.0.0/8").start();
    let mut client = server.client();
    for (header, ip) in [
        ("203.0.113.10", "203.0.113.10"),
        ("2001:db8::1", "2001:db8::1"),
        ("198.51.100.1, 203.0.113.10", "203.0.113.10"),
        ("203.0.113.10, 10.1.2.3", "203.0.113.10"),
        ("203.0.113.10,10.1.2.3 , 10.9.9.9", "203.0.113.10"),
        ("nonsense, 203.0.113.10", "203.0.113.10"),
        ("203.0.113.10:51234", "203.0.113.10"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("::ffff:203.0.113.10", "203.0.113.10"),
    ] {
        assert_eq!(forwarded(&mut client, header), ip, "{header:?}");
    }
    for header in UNREADABLE {
        let request = Request::new("POST", PATH).json(body()).header("X-Forwarded-For", header);
        let error = client.send(&request).error(400);
        assert!(error.starts_with("ip must be given"), "{header:?}: {error}");
    }
    assert_eq!(client.post(PATH, body()).data(201)["ip"], "127.0.0.1", "the header left out");
    let request = Request::new("POST", PATH)
        .json(json!({"hostname": "h", "os": "linux", "version": "1", "ip": "192.0.2.7"}).to_string())
        .header("X-Forwarded-For", "203.0.113.10");
    assert_eq!(client.send(&request).data(201)["ip"], "192.0.2.7", "what the agent says itself");
}

#[test]
fn behind_a_trusted_proxy_the_network_is_the_clients() {
    let server = Launch::either()
        .env("GUARDBEAT_SERVER__TRUSTED_PROXIES", "127.0.0.1/32")
        .env("GUARDBEAT_AUTH__OPEN_ENROLLMENT", "127.0.0.0/8,192.0.2.0/24")
        .start();
    let from = |address: &str| {
        let request = Request::new("POST", PATH).json(body()).header("X-Forwarded-For", address);
        server.anonymous().send(&request).status
    };
    assert_eq!(from("203.0.113.10"), 401, "the proxy's own network is not the client's");
    assert_eq!(from("192.0.2.5, 203.0.113.10"), 401, "what the client wrote itself is not believed");
    for address in UNREADABLE {
        assert_eq!(from(address), 401, "{address:?}");
    }
    assert_eq!(total(&server), 0);
    assert_eq!(from("192.0.2.5"), 201);
    assert_eq!(from("192.0.2.5:40000"), 201);
}

#[test]
fn networks_and_addresses_are_compared_in_their_one_form() {
    let server = Launch::either()
        .env("GUARDBEAT_SERVER__TRUSTED_PROXIES", "::ffff:127.0.0.0/104")
        .env("GUARDBEAT_AUTH__OPEN_ENROLLMENT", "::ffff:192.0.2.0/120,fe80::%eth0/64")
        .start();
    for (address, ip) in
        [("192.0.2.5", "192.0.2.5"), ("::ffff:192.0.2.5", "192.0.2.5"), ("[fe80::1%eth7]:1", "fe80::1")]
    {
        let request = Request::new("POST", PATH).json(body()).header("X-Forwarded-For", address);
        assert_eq!(server.anonymous().send(&request).data(201)["ip"], ip);
    }
    let mut client = server.client();
    for (ip, form) in
        [("::ffff:203.0.113.9", "203.0.113.9"), ("fe80::1%eth0", "fe80::1"), ("2001:DB8::01", "2001:db8::1")]
    {
        let enrolled = client.register(&json!({"hostname": "h", "os": "linux", "version": "1", "ip": ip}));
        assert_eq!(enrolled["data"]["ip"], form);
        assert_eq!(client.get(&format!("/api/agents/{}", enrolled["agentId"].as_str().unwrap())).data(200)["ip"], form);
    }
}

#[test]
fn one_header_alone_is_believed() {
    let launch = Launch::either().env("GUARDBEAT_SERVER__TRUSTED_PROXIES", "127.0.0.1");
    let rfc_7239 = launch.clone().env("GUARDBEAT_SERVER__FORWARDED_HEADER", "forwarded").start();
    let usual = launch.start();
    let request =
        |of, by| Request::new("POST", PATH).json(body()).header("X-Forwarded-For", of).header("Forwarded", by);
    let said = request("192.0.2.1", "for=\"[2001:db8::1]:443\";proto=https");
    assert_eq!(rfc_7239.client().send(&said).data(201)["ip"], "2001:db8::1");
    assert_eq!(usual.client().send(&said).data(201)["ip"], "192.0.2.1");
    rfc_7239.client().send(&request("192.0.2.1", "for=unknown")).error(400);
    usual.client().send(&request("unknown", "for=192.0.2.1")).error(400);
}

#[test]
fn a_full_fleet_is_409_until_somebody_leaves() {
    let server = Launch::either().env("MANAGER_MAX_AGENTS", "1").start();
    let mut client = server.client();
    let machine = json!({"hostname": "h", "os": "linux", "version": "1", "machine_id": "m-1"});
    let first = client.register(&machine);
    for _ in 0..3 {
        client.post(PATH, body()).error(409);
    }
    assert_eq!(total(&server), 1);
    let again = client.register(&machine);
    assert_eq!(again["agentId"], first["agentId"], "who is in the fleet already may register again");
    client.delete(&format!("/api/agents/{}", first["agentId"].as_str().unwrap())).data(200);
    client.post(PATH, body()).data(201);
    client.post(PATH, body()).error(409);
}

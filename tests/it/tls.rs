//! TLS with the authority made at the first start, and CORS.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    sync::Arc,
};

use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, Stream,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use serde_json::json;

use crate::support::{Client, Launch, Request, Server, client::Trust};

#[test]
fn an_agents_whole_life_over_tls() {
    let server = Launch::tls().start();
    let mut client = server.client();
    let (id, token) = client.enrol("h");
    let mut agent = client.with_token(&token);
    let data = agent.beat(&id, json!({"cpu": 5})).data(200);
    assert_eq!(data["status"], "online");
    assert_eq!(client.get("/api/agents").data(200)[0]["id"], *id);
    assert_eq!(agent.get(&format!("/api/agents/{id}")).data(200)["cpu"], 5);
    let reply = agent.delete(&format!("/api/agents/{id}"));
    reply.data(200);
    let hsts = reply.header("strict-transport-security").expect("HSTS");
    assert!(hsts.contains("max-age="), "{hsts}");
}

#[test]
fn the_certificate_is_good_for_this_machine_and_for_those_who_trust_the_authority() {
    let server = Launch::tls().start();
    let trust = Trust::in_file(&server.data().join("tls/ca.pem"));
    for name in ["localhost", "127.0.0.1", "::1"] {
        Client::new(server.api, Some(trust.clone().named(name))).get("/health").data(200);
    }
    let health = Request::new("GET", "/health");
    Client::new(server.api, Some(trust.named("elsewhere.example"))).try_send(&health).unwrap_err();
    Client::new(server.api, Some(Trust::nobody())).try_send(&health).unwrap_err();
    // Clear text on the port of TLS is no request.
    Client::new(server.api, None).try_send(&health).unwrap_err();
    server.anonymous().get("/health").data(200);
}

#[test]
fn keys_are_their_owners_alone() {
    let server = Launch::tls().start();
    let mode = |name: &str| server.data().join(name).metadata().unwrap().permissions().mode() & 0o777;
    for file in ["tls/ca-key.pem", "tls/server-key.pem", "admin-token"] {
        assert_eq!(mode(file), 0o600, "{file}");
    }
    assert_eq!(mode(""), 0o700);
    assert_eq!(mode("tls"), 0o700);
}

#[test]
fn the_authority_outlives_a_restart() {
    let server = Launch::tls().start();
    let ca = server.data().join("tls/ca.pem");
    let before = fs::read(&ca).unwrap();
    let server = server.restart();
    assert_eq!(fs::read(&ca).unwrap(), before, "who trusts it need not be told anew");
    server.anonymous().get("/health").data(200);
}

/// How a client with this configuration has shaken hands, on a connection of its own.
fn handshake(config: &Arc<ClientConfig>, server: &Server) -> HandshakeKind {
    let mut tls = ClientConnection::new(config.clone(), "localhost".try_into().unwrap()).unwrap();
    let mut tcp = TcpStream::connect(server.api).unwrap();
    let mut stream = Stream::new(&mut tls, &mut tcp);
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    // With the answer, if not before it, a ticket has come.
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    tls.handshake_kind().expect("hands have been shaken")
}

#[test]
fn clients_resume_their_sessions_each_time_and_after_a_kill_and_a_restart_too() {
    let server = Launch::tls().start();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(server.data().join("tls/ca.pem")).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = Arc::new(config);
    assert_eq!(handshake(&config, &server), HandshakeKind::Full);
    for _ in 0..5 {
        assert_eq!(handshake(&config, &server), HandshakeKind::Resumed);
    }
    let mut server = server.restart();
    assert_eq!(handshake(&config, &server), HandshakeKind::Resumed);
    server.kill9();
    let server = server.restart();
    assert_eq!(handshake(&config, &server), HandshakeKind::Resumed);
    let mode = server.data().join("tls/ticket-keys").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_certificate_from_files_is_served() {
    let made = Launch::tls().start();
    let tls = made.data().join("tls");
    let path = |name: &str| tls.join(name).to_str().unwrap().to_owned();
    let server = Launch::tls()
        .arg("--tls")
        .arg("files")
        .env("GUARDBEAT_TLS__CERT_FILE", path("server.pem"))
        .env("GUARDBEAT_TLS__KEY_FILE", path("server-key.pem"))
        .start();
    Client::new(server.api, Some(Trust::in_file(&tls.join("ca.pem")))).get("/health").data(200);
    assert!(server.data().join("tls/ticket-keys").exists(), "so clients resume after a restart");
}

const DASHBOARD: &str = "https://dashboard.example";

fn preflight(origin: &str) -> Request {
    Request::new("OPTIONS", "/api/agents")
        .header("Origin", origin)
        .header("Access-Control-Request-Method", "GET")
        .header("Access-Control-Request-Headers", "authorization,content-type")
}

#[test]
fn a_configured_origin_may_read_the_answers() {
    let server = Launch::tls().env("CORS_ALLOWED_ORIGINS", DASHBOARD).start();
    let reply = server.anonymous().send(&preflight(DASHBOARD));
    assert!((200..300).contains(&reply.status), "a preflight has no token: {reply:?}");
    assert_eq!(reply.header("access-control-allow-origin"), Some(DASHBOARD));
    let allowed = reply.header("access-control-allow-headers").expect("headers").to_ascii_lowercase();
    assert!(allowed.contains("authorization") && allowed.contains("content-type"), "{allowed}");
    assert!(reply.header("access-control-allow-methods").is_some_and(|methods| methods.contains("GET")));
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));

    let get = |origin: &str| Request::new("GET", "/api/agents").header("Origin", origin);
    let reply = server.client().send(&get(DASHBOARD));
    reply.data(200);
    assert_eq!(reply.header("access-control-allow-origin"), Some(DASHBOARD));
    let refused = server.anonymous().send(&get(DASHBOARD));
    refused.error(401);
    assert_eq!(refused.header("access-control-allow-origin"), Some(DASHBOARD), "a script may see why");

    for other in ["https://evil.example", "http://dashboard.example", "https://dashboard.example:444", "null"] {
        let reply = server.client().send(&get(other));
        assert_eq!(reply.header("access-control-allow-origin"), None, "{other}");
        let reply = server.anonymous().send(&preflight(other));
        assert_eq!(reply.header("access-control-allow-origin"), None, "{other}");
    }
}

#[test]
fn without_configured_origins_there_is_no_cors() {
    let server = Launch::plain().start();
    let reply = server.client().send(&Request::new("GET", "/api/agents").header("Origin", DASHBOARD));
    reply.data(200);
    let preflight = server.anonymous().send(&preflight(DASHBOARD));
    preflight.error(401);
    for reply in [reply, preflight] {
        assert!(!reply.headers.iter().any(|(name, _)| name.starts_with("access-control")), "{reply:?}");
    }
}

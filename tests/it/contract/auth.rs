//! 401: who has no valid token learns nothing.

use super::NOBODY;
use crate::support::{Launch, Reply, Request};

fn is_401(reply: &Reply) {
    assert_eq!(reply.error(401), "Unauthorized");
    assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
}

/// Requests that would be answered in every other way if there were a token.
fn requests(id: &str) -> Vec<Request> {
    let agent = format!("/api/agents/{id}");
    vec![
        Request::new("GET", "/api/agents"),
        Request::new("HEAD", "/api/agents"),
        Request::new("GET", "/api/agents?status=nonsense&limit=0"),
        Request::new("GET", agent.clone()),
        Request::new("DELETE", agent.clone()),
        Request::new("GET", format!("/api/agents/{NOBODY}")),
        Request::new("DELETE", format!("/api/agents/{NOBODY}")),
        Request::new("POST", format!("{agent}/heartbeat")).json("{}"),
        Request::new("POST", format!("{agent}/heartbeat")).body("{}"),
        Request::new("POST", format!("{agent}/heartbeat")).json("nonsense"),
        Request::new("POST", format!("{agent}/heartbeat")).json(" ".repeat(70_000)),
        Request::new("POST", format!("/api/agents/{NOBODY}/heartbeat")).json("{}"),
        Request::new("POST", "/api/agents/register").json(r#"{"hostname":"h","os":"o","version":"1"}"#),
        Request::new("POST", "/api/agents/register").json("{}"),
        Request::new("POST", "/api/agents/register").body("x".repeat(70_000)),
        // Neither which paths nor which methods there are.
        Request::new("PUT", "/api/agents"),
        Request::new("GET", "/api/events/stream"),
        Request::new("HEAD", "/api/events/stream"),
        Request::new("POST", "/api/events/stream"),
        Request::new("GET", "/api/agents/register"),
        Request::new("GET", format!("{agent}/heartbeat")),
        Request::new("PATCH", agent),
        Request::new("OPTIONS", "/api/agents"),
        Request::new("GET", "/api/nothing/here"),
        Request::new("POST", "/api/nothing").json("{}"),
        Request::new("GET", "/api"),
        Request::new("GET", "/api/"),
        Request::new("GET", "/api/agents/"),
    ]
}

#[test]
fn without_a_valid_token_everything_under_api_is_401() {
    let server = Launch::either().start();
    let (id, token) = server.client().enrol("h");
    let zeros = "0".repeat(43);
    let forged = format!("gb_{}_{zeros}", id.trim_start_matches("agent-"));
    let nobodys = format!("gb_0000000000000000_{zeros}");
    let tokens = [
        "wrong".to_owned(),
        format!("{}x", server.token),
        server.token[..server.token.len() - 1].to_owned(),
        server.token.to_uppercase(),
        format!("{token}x"),
        forged,
        nobodys,
    ];
    let callers = std::iter::once(None).chain(tokens.iter().map(Some));
    let mut revealing = Vec::new();
    for (request, token) in requests(&id).iter().flat_map(|request| callers.clone().map(move |token| (request, token)))
    {
        let mut client = server.anonymous();
        if let Some(token) = token {
            client = client.with_token(token);
        }
        let reply = client.send(request);
        if reply.status == 401 && request.method != "HEAD" {
            is_401(&reply);
        } else if reply.status != 401 {
            let path = String::from_utf8_lossy(&request.target);
            revealing.push(format!("{} {path} with {token:?}: {}", request.method, reply.status));
        }
    }
    assert!(revealing.is_empty(), "{revealing:#?}");
    assert_eq!(server.client().get("/health").data(200)["agents"]["total"], 1);
}

#[test]
fn the_scheme_is_bearer_in_any_case() {
    let server = Launch::either().start();
    let token = &server.token;
    let mut client = server.anonymous();
    let mut with = |header: &str| client.send(&Request::new("GET", "/api/agents").header("Authorization", header));
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
        with(&format!("{scheme} {token}")).data(200);
    }
    for header in [
        format!("Basic {token}"),
        format!("Token {token}"),
        format!("Bearer{token}"),
        format!("Bearer: {token}"),
        format!("Bearer \"{token}\""),
        format!("Bearer {token} {token}"),
        format!("Bearer {token}, Bearer {token}"),
        token.clone(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        String::new(),
    ] {
        is_401(&with(&header));
    }
}

#[test]
fn a_token_is_not_taken_from_anywhere_else() {
    let server = Launch::either().start();
    let token = &server.token;
    is_401(&server.anonymous().get(&format!("/api/agents?token={token}&access_token={token}")));
    let request = Request::new("GET", "/api/agents").header("Cookie", format!("token={token}"));
    is_401(&server.anonymous().send(&request.header("X-Api-Key", token.clone())));
}

#[test]
fn a_configured_token_is_the_administrators() {
    let server = Launch::either().env("MANAGER_AUTH_TOKEN", "a-configured-token").start();
    assert!(!server.data().join("admin-token").exists());
    server.client().get("/api/agents").data(200);
    is_401(&server.anonymous().with_token("a-configured-tokeN").get("/api/agents"));
}

#[test]
fn a_generated_token_stays_the_same_over_a_restart() {
    use std::os::unix::fs::PermissionsExt;
    let server = Launch::either().start();
    let token = server.token.clone();
    let mode = server.data().join("admin-token").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let server = server.restart();
    assert_eq!(server.token, token);
    server.client().get("/api/agents").data(200);
}

//! `/api/openapi.json`: the document, and whether the server has just what it says.

use serde_json::Value;

use crate::support::{Client, EventStream, Launch, Request};

const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"];

fn document(client: &mut Client) -> Value {
    let reply = client.get("/api/openapi.json");
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")));
    reply.json()
}

#[test]
fn the_document_is_for_whoever_has_a_token() {
    let server = Launch::either().start();
    let mut admin = server.client();
    let (_, token) = admin.enrol("h");
    assert_eq!(document(&mut admin)["openapi"], "3.1.0");
    assert_eq!(document(&mut server.anonymous().with_token(&token))["openapi"], "3.1.0");
    server.anonymous().get("/api/openapi.json").error(401);
}

#[test]
fn every_path_of_the_document_has_the_methods_it_says_and_no_others() {
    let server = Launch::either().start();
    let mut client = server.client();
    let paths = document(&mut client)["paths"].take();
    for (path, item) in paths.as_object().unwrap() {
        let mut documented: Vec<_> = item.as_object().unwrap().keys().map(|method| method.to_uppercase()).collect();
        if documented.iter().any(|method| method == "GET") {
            documented.push("HEAD".into());
        }
        documented.sort_unstable();
        // Nobody's id: a method that is there answers 404.
        let target = path.replace("{id}", super::NOBODY);
        for method in METHODS {
            if method == "GET" && is_stream(&item["get"]) {
                EventStream::open(server.client(), None);
                continue;
            }
            let reply = client.send(&Request::new(method, &*target).json("{}"));
            if documented.iter().any(|documented| documented == method) {
                assert_ne!(reply.status, 405, "{method} {path}");
                continue;
            }
            assert_eq!(reply.status, 405, "{method} {path}");
            let mut allowed: Vec<_> = reply.header("allow").expect("Allow").split(", ").collect();
            allowed.sort_unstable();
            assert_eq!(allowed, documented, "{method} {path}");
        }
    }
}

#[test]
fn a_query_parameter_that_is_not_in_the_document_is_named_whatever_the_endpoint() {
    let server = Launch::either().start();
    let mut client = server.client();
    let paths = document(&mut client)["paths"].take();
    for (path, item) in paths.as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let (id, token) = client.enrol("h");
            let target = path.replace("{id}", &id);
            let request = |query: &str| {
                let kind = if path == "/api/heartbeats" { "application/x-ndjson" } else { "application/json" };
                let request = Request::new(&method.to_uppercase(), format!("{target}?{query}"));
                if method == "post" { request.header("Content-Type", kind).body("{}") } else { request }
            };
            let error = client.send(&request("no_such=1")).error(400);
            assert!(error.starts_with("Unknown query parameter: no_such"), "{method} {path}: {error}");
            let error = client.send(&request("no_such=1&%00other")).error(400);
            assert!(error.starts_with("Unknown query parameters: no_such, \u{fffd}other"), "{method} {path}: {error}");
            let is_open = operation["security"] == serde_json::json!([{}]);
            for wrong in [Some("wrong".to_owned()), Some(token + "x"), None] {
                let mut stranger = server.anonymous();
                if let Some(token) = wrong {
                    stranger = stranger.with_token(&token);
                }
                let status = stranger.send(&request("no_such=1")).status;
                assert_eq!(status, if is_open { 400 } else { 401 }, "{method} {path}");
            }
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                if parameter["in"] == "query" {
                    let name = parameter["name"].as_str().unwrap();
                    let reply = client.send(&request(&format!("{name}=x")));
                    assert!(!String::from_utf8(reply.body).unwrap().contains("Unknown"), "{method} {path} has {name}");
                    let misspelt = client.send(&request(&format!("{name}s=x"))).error(400);
                    assert!(misspelt.contains(&format!("(did you mean {name}?)")), "{misspelt}");
                }
            }
            client.get(&format!("/api/agents/{id}")).data(200);
        }
    }
}

#[test]
fn every_example_is_answered_as_the_document_shows() {
    let server = Launch::either().start();
    let mut client = server.client();
    let document = document(&mut client);
    let mut operations: Vec<_> = operations(&document).collect();
    // The agent of the examples comes first and goes last, and what is told is told before it is shown.
    operations.sort_by_key(|(_, method, operation)| match (operation["operationId"].as_str(), *method) {
        (Some("registerAgent"), _) => 0,
        (_, "post") => 1,
        (_, "delete") => 3,
        _ => 2,
    });
    let mut id = EXAMPLE_ID.to_owned();
    let mut agent = server.anonymous();
    for (path, method, operation) in operations {
        if is_stream(operation) {
            EventStream::open(server.client(), None);
            continue;
        }
        let (status, response) = success(operation);
        let (kind, shown) = only(&response["content"]).expect("an answer");
        for (announced, body) in bodies(operation) {
            let mut request = Request::new(&method.to_uppercase(), target(path, operation).replace(EXAMPLE_ID, &id));
            if let Some(announced) = announced {
                request = request.header("Content-Type", announced).body(body.replace(EXAMPLE_ID, &id));
            }
            // Who asks for rules is shown as an agent; all other examples hold for the administrator too.
            let caller = if path == "/api/rules/latest" { &mut agent } else { &mut client };
            let reply = caller.send(&request);
            assert_eq!(reply.status, status, "{method} {path}: {}", reply.text());
            if kind == "application/json" {
                let answer = reply.json();
                shows(&shown["example"], &answer, path);
                if path == "/api/agents/register" {
                    id = answer["agentId"].as_str().unwrap().to_owned();
                    agent = server.anonymous().with_token(answer["token"].as_str().unwrap());
                }
            } else {
                assert!(!reply.text().is_empty() && shown["example"].is_string(), "{method} {path}");
            }
        }
    }
}

/// The agent of the examples.
const EXAMPLE_ID: &str = "agent-00f3a1b2c3d4e5f6";

/// Path, method and operation.
fn operations(document: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    document["paths"].as_object().unwrap().iter().flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().iter();
        methods.map(move |(method, operation)| (&**path, &**method, operation))
    })
}

/// Whether its answer has no end.
fn is_stream(operation: &Value) -> bool {
    operation.pointer("/responses/200/content/text~1event-stream").is_some()
}

/// The bodies of an operation's examples, with their media types.
fn bodies(operation: &Value) -> Vec<(Option<&str>, String)> {
    let Some((kind, content)) = operation.pointer("/requestBody/content").and_then(only) else {
        return vec![(None, String::new())];
    };
    let named = content["examples"].as_object().into_iter().flatten().map(|(_, example)| &example["value"]);
    let examples = content.get("example").into_iter().chain(named);
    let bodies = examples.map(|body| body.as_str().map_or_else(|| body.to_string(), str::to_owned));
    bodies.map(|body| (Some(kind), body)).collect()
}

/// The path with the examples of its parameters.
fn target(path: &str, operation: &Value) -> String {
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let query = parameters.filter(|parameter| parameter["in"] == "query" && !parameter["example"].is_null());
    let query = query.map(|parameter| {
        let example = &parameter["example"];
        let example = example.get(0).unwrap_or(example);
        format!("{}={}", parameter["name"].as_str().unwrap(), example.to_string().trim_matches('"'))
    });
    format!("{}?{}", path.replace("{id}", EXAMPLE_ID), query.collect::<Vec<_>>().join("&"))
}

/// The only member of an object.
fn only(object: &Value) -> Option<(&str, &Value)> {
    object.as_object()?.iter().next().map(|(name, value)| (&**name, value))
}

fn success(operation: &Value) -> (u16, &Value) {
    let responses = operation["responses"].as_object().unwrap();
    let (status, response) = responses.iter().find(|(status, _)| status.starts_with('2')).expect("a success");
    (status.parse().unwrap(), response)
}

/// Whether the answer has what the example shows, with values of the same kind.
fn shows(example: &Value, answer: &Value, at: &str) {
    match (example, answer) {
        (Value::Object(example), Value::Object(answer)) => {
            for (name, example) in example {
                let answer = answer.get(name).unwrap_or_else(|| panic!("{at} has no {name}"));
                shows(example, answer, &format!("{at} {name}"));
            }
        }
        (Value::Array(example), Value::Array(answer)) => {
            assert!(!answer.is_empty() || example.is_empty(), "{at} is empty");
            for (example, answer) in example.iter().zip(answer) {
                shows(example, answer, at);
            }
        }
        (Value::Null, _) => {}
        _ => assert_eq!(std::mem::discriminant(example), std::mem::discriminant(answer), "{at}: {answer}"),
    }
}

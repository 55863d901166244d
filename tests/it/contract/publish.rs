//! Policies as they are published: what a body and its fields must be.

use serde_json::{Value, json};

use super::policy::{of_agent, policy, publish};
use crate::support::{FieldRule, Launch, Request};

#[test]
fn each_field_takes_its_bounds_and_the_error_of_any_other_value_names_it() {
    let server = Launch::either().start();
    let mut client = server.client();
    let rule = json!({"type": "custom", "config": {}});
    let rules = |n| Value::Array(vec![rule.clone(); n]);
    let mut description = FieldRule::text("description", 1_024);
    description.bad.retain(|value| value != "");
    let fields = [
        FieldRule::text("name", 128),
        description,
        FieldRule::text("org_id", 64),
        FieldRule {
            name: "rules",
            good: vec![rules(0), rules(1), rules(1_000)],
            bad: vec![
                rules(1_001),
                json!("x"),
                json!(5),
                json!({}),
                json!([5]),
                json!([null]),
                json!([[]]),
                json!([{}]),
            ],
        },
    ];
    let mut published = 0;
    for FieldRule { name, good, bad } in &fields {
        let with = |value: &Value| {
            let mut body = json!({"name": "p", "rules": [rule]});
            body[*name] = value.clone();
            body
        };
        for good in good {
            publish(&mut client, with(good));
            published += 1;
        }
        for bad in bad {
            let error = client.post("/api/policy", with(bad)).error(400);
            assert!(error.contains(name), "{name} = {bad}: {error}");
        }
    }
    for (rule, field) in [
        (json!({"type": "nonsense", "config": {}}), "rules[1].type"),
        (json!({"config": {}}), "rules[1].type"),
        (json!({"type": "custom"}), "rules[1].config"),
        (json!({"type": "custom", "config": []}), "rules[1].config"),
        (json!({"type": "custom", "config": {}, "enabled": "yes"}), "rules[1].enabled"),
    ] {
        let error = client.post("/api/policy", json!({"name": "p", "rules": [rules(1)[0], rule]})).error(400);
        assert!(error.starts_with(&format!("{field} must be ")), "{error}");
    }
    assert_eq!(client.post("/api/policy", "{}").error(400), "Missing required fields: name, rules");
    let misnamed = r#"{"rules":[{"type":"custom","config":{}}],"name":5}"#;
    assert_eq!(client.post("/api/policy", misnamed).error(400), "name must be a string of 1 to 128 characters");
    let twice = r#"{"name":"p","rules":[],"org_id":"a","organizationId":"a"}"#;
    assert_eq!(client.post("/api/policy", twice).error(400), "org_id is given twice");
    assert_eq!(server.metric("guardbeat_policy_version"), f64::from(published), "what was refused got no version");
}

#[test]
fn a_body_is_json_of_at_most_1_mib() {
    let server = Launch::either().start();
    let mut client = server.client();
    for body in ["", "[]", "5", "{", "null", "{\"name\":\"p\",\"rules\":[}"] {
        client.post("/api/policy", body).error(400);
    }
    client.send(&Request::new("POST", "/api/policy").json(b"{\"name\":\"\xff\",\"rules\":[]}".to_vec())).error(400);
    let deep = format!(r#"{{"name":"p","rules":[{}]}}"#, "[".repeat(1_000));
    client.post("/api/policy", deep).error(400);
    client.send(&Request::new("POST", "/api/policy").body(policy("p", None).to_string())).error(415);
    let of_length = |length: usize| {
        let start = r#"{"name":"p","rules":[{"type":"custom","config":{"x":""#;
        format!("{start}{}\"}}}}]}}", "x".repeat(length - start.len() - 5))
    };
    client.post("/api/policy", of_length((1 << 20) + 1)).error(413);
    assert_eq!(client.get("/api/policy/active").data(200), Value::Null, "nothing of that was published");
    client.post("/api/policy", of_length(1 << 20)).data(201);
    client.send(&Request::new("POST", "/api/policy").json(of_length(1 << 20)).chunked()).data(201);
    let (id, _) = client.enrol("h");
    let rules = client.get(&of_agent(&id)).data(200)["rules"].clone();
    assert!(rules[0]["config"]["x"].as_str().unwrap().len() > 1_000_000);
}

#[test]
fn a_field_that_a_policy_or_its_rule_does_not_have_is_named_and_nothing_is_published() {
    let server = Launch::either().start();
    let mut client = server.client();
    let known = "known here: name, description, org_id, organizationId, rules";
    for (policy, error) in [
        (
            json!({"name": "p", "rules": [{"type": "custom", "config": {}}, {"type": "custom", "config": {}, "enable": false}]}),
            "Unknown field: rules[1].enable (did you mean enabled?); known here: type, config, enabled".to_owned(),
        ),
        (
            json!({"name": "p", "rules": [], "orgId": "acme"}),
            format!("Unknown field: orgId (did you mean org_id?); {known}"),
        ),
        (json!({"x": 1, "nmae": "p", "rules": []}), format!("Unknown fields: nmae (did you mean name?), x; {known}")),
    ] {
        assert_eq!(client.post("/api/policy", policy).error(400), error);
    }
    assert_eq!(client.get("/api/policy/active").data(200), Value::Null);
    client
        .post("/api/policy", json!({"name": "p", "rules": [{"type": "custom", "config": {"any": {"thing": 1}}}]}))
        .data(201);
}

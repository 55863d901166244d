//! The document of the API: OpenAPI 3.1, made from the routes, from the `Description` that stands beside each handler, and
//! from the types that are parsed and serialised.
//!
//! A description says what is special about an endpoint. What its route says and what holds for all is added here, taken
//! from the code that answers so: who may ask, the refusals that any request with a token, or with a body, may meet, and the
//! headers that every response carries. The document is served, printed by `guardbeat openapi`, and checked in as
//! docs/openapi.json; docs/api.md is made from it.

mod description;
mod page;

use std::{collections::BTreeMap, sync::LazyLock};

use actix_web::{HttpResponse, ResponseError, http::StatusCode};
use serde_json::{Map, Value, json};
use utoipa::{PartialSchema, ToSchema};

use self::description::reference;
pub(super) use self::description::{Description, query_of};
use super::{
    auth::Access,
    body,
    call::{Call, Query},
    envelope::{self, ApiError, Failure},
    refusal::Unproven,
    routes::{self, Route},
};
use crate::{
    fleet::AgentId,
    limits::{BODY_MAX_BYTES, RETRY_AFTER_SECONDS},
};

/// The document as a page for people, in Markdown.
pub fn page() -> String {
    page::render(&serde_json::from_str(document()).expect("it is JSON"))
}

/// The document, as JSON.
pub fn document() -> &'static str {
    static JSON: LazyLock<String> = LazyLock::new(|| format!("{:#}\n", assembled()));
    &JSON
}

pub(super) fn describe() -> Description {
    Description::new("Operations", "openapi", "Get this document")
        .about("The description of the API, in the words of OpenAPI 3.1.")
        .answers_as(200, "The document", body::JSON, json!({ "type": "object" }))
        .example(json!({ "openapi": "3.1.0", "info": { "title": "Guardbeat" } }))
}

pub(super) async fn serve(_: Call<'_>) -> Result<HttpResponse, ApiError> {
    Ok(envelope::json_response(StatusCode::OK, document()))
}

fn assembled() -> Value {
    let mut paths = Map::new();
    let mut schemas = BTreeMap::from([(Failure::name().into_owned(), json!(Failure::schema()))]);
    for (route, description) in routes::documented() {
        let Description { operation, schemas: of_operation, .. } = complete(route, description);
        paths.entry(route.path).or_insert_with(|| json!({}))[route.verb.name()] = operation;
        schemas.extend(of_operation);
    }
    let responses: BTreeMap<_, _> = CommonRefusal::all().map(|refusal| (refusal.name, refusal.response())).into();
    let bearer = "The administrator's token, or the one that an agent got when it registered. An agent's token may act for \
                  that agent alone.";
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Guardbeat",
            "description": include_str!("about.md"),
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
            "version": env!("CARGO_PKG_VERSION"),
        },
        "servers": [{ "url": "https://localhost:8443", "description": "Where `make run` listens" }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": responses,
            "headers": BTreeMap::from(common_headers()),
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer", "description": bearer } },
        },
        "tags": [
            { "name": "Agents", "description": "Agents join the fleet, beat, and are looked at." },
            { "name": "Threats", "description": "Agents report threats, and administrators look for them." },
            { "name": "Policies", "description": "Administrators publish rules, and agents fetch them." },
            { "name": "Dashboards", "description": "For those who watch the fleet." },
            { "name": "Operations", "description": "For those who run the server." },
        ],
    })
}

/// Adds what the route says, and what holds for all.
fn complete(route: &Route, description: Description) -> Description {
    let (token, none) = (json!({ "token": [] }), json!({}));
    let (security, mut description) = match route.access {
        Access::Anybody => (json!([none]), description),
        Access::Own => (json!([token]), description.about("With an agent's token, or the administrator's.")),
        Access::AnyToken => (json!([token]), description.about("With the administrator's token, or any agent's.")),
        Access::Registration => {
            let who = "With the administrator's token, or without any from a network in `auth.open_enrollment`.";
            (json!([token, none]), description.about(who).refuses(403, "An agent's token may not register"))
        }
        Access::Agent => {
            let description = description.about("With the agent's own token, or the administrator's.");
            let missing = json!({ "ok": false, "error": "Agent not found" });
            let description = description.refuses(403, "Another agent's token").refuses(404, "No such agent");
            (json!([token]), description.example(missing))
        }
        Access::Admin => {
            let description = description.about("With the administrator's token.");
            (json!([token]), description.refuses(403, "An agent's token: this is the administrator's"))
        }
    };
    if let Query::Of(parameters) = route.query {
        description.add_parameters(parameters().into_iter().map(|parameter| json!(parameter)));
    }
    if route.path.contains("{id}") {
        let id = description.refer::<AgentId>();
        description.add_parameters([
            json!({ "name": "id", "in": "path", "description": "The agent", "required": true, "schema": id }),
        ]);
    }
    let operation = &mut description.operation;
    operation["security"] = security;
    for CommonRefusal { name, error, meets, .. } in CommonRefusal::all() {
        let is_own = !operation["responses"][error.status_code().as_str()].is_null();
        if meets(route, operation) && !is_own {
            let place = format!("#/components/responses/{name}");
            operation["responses"][error.status_code().as_str()] = json!({ "$ref": place });
        }
    }
    let fields = operation.as_object_mut().expect("it is one");
    fields.retain(|_, value| !value.is_null() && *value != json!([]));
    let responses = fields["responses"].as_object_mut().expect("they have names");
    responses.sort_keys();
    responses.values_mut().for_each(add_common_headers);
    description
}

/// A refusal that many operations share.
struct CommonRefusal {
    name: &'static str,
    /// What is answered; the document says of it what it says of itself.
    error: ApiError,
    when: &'static str,
    /// Which operations it can meet.
    meets: fn(&Route, &Value) -> bool,
}

impl CommonRefusal {
    fn all() -> [Self; 6] {
        [
            Self {
                name: "BadRequest",
                error: ApiError::BadRequest("hostname must be a string of 1 to 255 characters".into()),
                when: "Malformed, a value out of its range, or a name that is not known; the sentence names the field or parameter",
                // A query that the operation does not take is refused too.
                meets: |_, _| true,
            },
            Self {
                name: "Unauthorized",
                error: ApiError::Unauthorized(Unproven::NoToken),
                when: "No token, or not a valid one",
                meets: |route, _| route.access != Access::Anybody,
            },
            Self {
                name: "BodyTimeout",
                error: ApiError::BodyTimeout,
                when: "The body took longer than 10 seconds to arrive",
                meets: |_, operation| !operation["requestBody"].is_null(),
            },
            Self {
                name: "BodyTooLarge",
                error: ApiError::BodyTooLarge { most: BODY_MAX_BYTES },
                when: "The body is larger than this endpoint takes: 64 KiB, or what its description says",
                meets: |_, operation| !operation["requestBody"].is_null(),
            },
            Self {
                name: "WrongMediaType",
                error: ApiError::WrongMediaType { expected: body::JSON },
                when: "The body is not announced as what this endpoint takes, or has a Content-Encoding that it does not read",
                meets: |_, operation| !operation["requestBody"].is_null(),
            },
            Self {
                name: "Unavailable",
                error: ApiError::Unavailable("The store cannot be written to now; try again later"),
                when: "Not now: starting, stopping, overloaded, or unable to write. The same request may succeed later",
                meets: |route, _| route.access != Access::Anybody,
            },
        ]
    }

    fn response(&self) -> Value {
        let answered = self.error.error_response();
        let mut headers = Map::new();
        for name in ["Retry-After", "WWW-Authenticate"] {
            if let Some(value) = answered.headers().get(name) {
                let (least, most) = RETRY_AFTER_SECONDS.into_inner();
                let schema = match name {
                    "Retry-After" => json!({ "type": "integer", "maximum": most, "minimum": least }),
                    _ => json!({ "type": "string", "enum": [value.to_str().expect("our headers are ASCII")] }),
                };
                headers.insert(name.into(), json!({ "schema": schema, "required": true }));
            }
        }
        let example = json!({ "ok": false, "error": self.error.to_string() });
        let content = json!({ body::JSON: { "schema": reference(&Failure::name()), "example": example } });
        let mut response = json!({ "description": self.when, "headers": headers, "content": content });
        add_common_headers(&mut response);
        response
    }
}

/// What `admission.rs` adds to every response.
fn common_headers() -> [(&'static str, Value); 4] {
    let only = |value| json!({ "schema": { "type": "string", "enum": [value] }, "required": true });
    let about = "The client's if it sent a UUID, else a new one";
    let uuid = json!({ "type": "string", "format": "uuid", "description": about });
    [
        ("X-Request-Id", json!({ "schema": uuid, "required": true })),
        ("X-Content-Type-Options", only("nosniff")),
        ("X-Frame-Options", only("DENY")),
        ("Referrer-Policy", only("no-referrer")),
    ]
}

fn add_common_headers(response: &mut Value) {
    if let Some(headers) = response.get_mut("headers").and_then(Value::as_object_mut) {
        let common = common_headers().map(|(name, _)| name);
        headers.extend(common.map(|name| (name.into(), json!({ "$ref": format!("#/components/headers/{name}") }))));
        headers.sort_keys();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{
        BATCH_MAX_BYTES, BATCH_MAX_LINES, BODY_TIMEOUT_MS, EVENT_DETAILS_MAX_BYTES, EVENTS_KEEPALIVE_MS, PAGE_MAX,
        POLICY_BODY_MAX_BYTES, POLICY_DESCRIPTION_MAX_CHARS, POLICY_RULES_MAX, REPORT_MAX_BYTES, REPORT_MAX_EVENTS,
        TAGS_MAX, THREATS_PAGE, THREATS_PAGE_MAX,
    };

    #[test]
    fn bounds_that_are_written_out_are_those_of_the_limits() {
        let document: serde_json::Value = serde_json::from_str(document()).unwrap();
        let at = |place| document.pointer(place).unwrap_or_else(|| panic!("{place} is there"));
        let is = |place, bound: usize| assert_eq!(*at(place), bound, "{place}");
        is("/components/schemas/Enrolment/properties/tags/maxItems", TAGS_MAX);
        is("/components/schemas/Report/oneOf/0/properties/events/maxItems", REPORT_MAX_EVENTS);
        is("/components/schemas/NewPolicy/properties/rules/maxItems", POLICY_RULES_MAX);
        is("/components/schemas/NewPolicy/properties/description/maxLength", POLICY_DESCRIPTION_MAX_CHARS);
        let limit = |path: &str| {
            let parameters = document["paths"][path]["get"]["parameters"].as_array().unwrap();
            &parameters.iter().find(|parameter| parameter["name"] == "limit").unwrap()["schema"]
        };
        assert_eq!(limit("/api/agents")["maximum"], PAGE_MAX);
        assert_eq!(limit("/api/threats")["maximum"], THREATS_PAGE_MAX);
        assert_eq!(limit("/api/threats")["default"], THREATS_PAGE);
        let says = |place, what: String| assert!(at(place).as_str().unwrap().contains(&what), "{place}: {what}");
        let batch = format!("{},000 lines and {} MiB", BATCH_MAX_LINES / 1_000, BATCH_MAX_BYTES >> 20);
        says("/paths/~1api~1heartbeats/post/description", batch);
        says("/components/responses/BodyTooLarge/description", format!("{} KiB", BODY_MAX_BYTES >> 10));
        says("/paths/~1api~1agents~1{id}~1events/post/description", format!("{} MiB", REPORT_MAX_BYTES >> 20));
        says("/paths/~1api~1policy/post/description", format!("{} MiB", POLICY_BODY_MAX_BYTES >> 20));
        says("/paths/~1api~1events~1stream/get/description", format!("{} seconds", EVENTS_KEEPALIVE_MS / 1_000));
        says("/components/schemas/ReportedEvent/properties/details/description", {
            format!("{} KiB", EVENT_DETAILS_MAX_BYTES >> 10)
        });
        says("/components/responses/BodyTimeout/description", format!("{} seconds", BODY_TIMEOUT_MS / 1_000));
    }

    #[test]
    fn what_is_checked_in_is_what_the_code_says() {
        let checked_in = include_str!("../../../docs/openapi.json");
        assert!(
            checked_in == document(),
            "docs/openapi.json is out of date; make it anew: cargo run -- openapi > docs/openapi.json",
        );
        assert!(
            include_str!("../../../docs/api.md") == page(),
            "docs/api.md is out of date; make it anew: cargo run -- openapi --markdown > docs/api.md",
        );
    }
}

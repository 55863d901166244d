//! The document of the API: OpenAPI 3.1, made from what stands beside the handlers (`#[utoipa::path]`) and from the types
//! that are parsed and serialised.
//!
//! A handler says what is special about it. What holds for all is added here, taken from the code that answers so: the
//! refusals that any request with a token, or with a body, may meet, and the headers that every response carries. The
//! document is served, printed by `guardbeat openapi`, and checked in as docs/openapi.json; docs/api.md is made from it.

mod page;

use std::{ops::RangeInclusive, sync::LazyLock};

use actix_web::{HttpRequest, HttpResponse, ResponseError, http::StatusCode};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        Content, Header, HeaderBuilder, OpenApi as Document, PathItem, Ref, RefOr, Response,
        extensions::Extensions,
        path::Operation,
        request_body::RequestBody,
        schema::{ObjectBuilder, Schema, SchemaFormat, Type},
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};

use super::{
    State, agents,
    auth::{self, Unproven},
    body,
    envelope::{self, ApiError, Failure},
    events, heartbeat, listing, operations, overview, policy, query, relay, summary, threats,
};
use crate::limits::{BODY_MAX_BYTES, RETRY_AFTER_SECONDS};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Guardbeat",
        description = include_str!("about.md"),
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    servers((url = "https://localhost:8443", description = "Where `make run` listens")),
    tags(
        (name = "Agents", description = "Agents join the fleet, beat, and are looked at."),
        (name = "Threats", description = "Agents report threats, and administrators look for them."),
        (name = "Policies", description = "Administrators publish rules, and agents fetch them."),
        (name = "Dashboards", description = "For those who watch the fleet."),
        (name = "Operations", description = "For those who run the server."),
    ),
    paths(
        agents::register,
        heartbeat::receive,
        relay::heartbeats,
        listing::list,
        agents::show,
        agents::deregister,
        threats::report,
        threats::list,
        summary::summarise,
        policy::publish,
        policy::active,
        policy::of_agent,
        policy::latest_rules,
        overview::overview,
        events::stream,
        operations::health,
        operations::metrics_for_admin,
        serve,
    ),
    components(schemas(Failure)),
    modifiers(&Common),
)]
struct Api;

/// The document as a page for people, in Markdown.
pub fn page() -> String {
    page::render(&serde_json::from_str(document()).expect("it is JSON"))
}

/// The document, as JSON.
pub fn document() -> &'static str {
    static JSON: LazyLock<String> = LazyLock::new(|| {
        let json = Api::openapi().to_pretty_json().expect("a document has only string keys");
        json + "\n"
    });
    &JSON
}

/// Get this document
///
/// The description of the API, in the words of OpenAPI 3.1. With the administrator's token, or any agent's.
#[utoipa::path(
    get,
    path = "/api/openapi.json",
    operation_id = "openapi",
    tag = "Operations",
    security(("token" = [])),
    responses((status = 200, description = "The document", body = Object, example = json!({
        "openapi": "3.1.0",
        "info": { "title": "Guardbeat" },
    }))),
)]
pub(super) async fn serve(request: &HttpRequest, state: &State) -> Result<HttpResponse, ApiError> {
    auth::authenticate(request, state).await?;
    query::none(request.query_string())?;
    Ok(envelope::json_response(StatusCode::OK, document()))
}

/// What holds for all operations.
struct Common;

impl Modify for Common {
    fn modify(&self, document: &mut Document) {
        let components = document.components.get_or_insert_default();
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(
            "The administrator's token, or the one that an agent got when it registered. An agent's token may act for that \
             agent alone.",
        ));
        components.security_schemes.insert("token".into(), SecurityScheme::Http(bearer.build()).into());
        for (name, header) in common_headers() {
            components.headers.insert(name.into(), header.into());
        }
        for refusal in Refusal::all() {
            components.responses.insert(refusal.name.into(), refusal.response().into());
        }
        for operation in document.paths.paths.values_mut().flat_map(operations_of) {
            if let Some(RefOr::T(body)) = &mut operation.request_body {
                unmake_null(body);
            }
            for refusal in Refusal::all() {
                if (refusal.meets)(operation) {
                    let status = refusal.error.status_code().as_u16().to_string();
                    let response = RefOr::Ref(Ref::from_response_name(refusal.name));
                    operation.responses.responses.entry(status).or_insert(response);
                }
            }
            for response in operation.responses.responses.values_mut() {
                if let RefOr::T(response) = response {
                    add_common_headers(response);
                }
            }
        }
    }
}

fn operations_of(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, options, head, patch, trace, .. } = item;
    [get, put, post, delete, options, head, patch, trace].into_iter().flatten()
}

/// utoipa has only one word for a body that may be left out and one that may be null; ours are the former.
fn unmake_null(body: &mut RequestBody) {
    for content in body.content.values_mut() {
        if let RefOr::T(Content { schema: Some(schema), .. }) = content
            && let RefOr::T(Schema::OneOf(either)) = schema
        {
            *schema = either.items.swap_remove(0);
        }
    }
}

/// A refusal that many operations share.
struct Refusal {
    name: &'static str,
    /// What is answered; the document says of it what it says of itself.
    error: ApiError,
    when: &'static str,
    /// Which operations it can meet.
    meets: fn(&Operation) -> bool,
}

impl Refusal {
    fn all() -> [Self; 6] {
        [
            Self {
                name: "BadRequest",
                error: ApiError::BadRequest("hostname must be a string of 1 to 255 characters".into()),
                when: "Malformed, a value out of its range, or a name that is not known; the sentence names the field or parameter",
                // A query that the operation does not take is refused too.
                meets: |_| true,
            },
            Self {
                name: "Unauthorized",
                error: ApiError::Unauthorized(Unproven::NoToken),
                when: "No token, or not a valid one",
                meets: has_token,
            },
            Self {
                name: "BodyTimeout",
                error: ApiError::BodyTimeout,
                when: "The body took longer than 10 seconds to arrive",
                meets: has_body,
            },
            Self {
                name: "BodyTooLarge",
                error: ApiError::BodyTooLarge { most: BODY_MAX_BYTES },
                when: "The body is larger than this endpoint takes: 64 KiB, or what its description says",
                meets: has_body,
            },
            Self {
                name: "WrongMediaType",
                error: ApiError::WrongMediaType { expected: body::JSON },
                when: "The body is not announced as what this endpoint takes, or has a Content-Encoding that it does not read",
                meets: has_body,
            },
            Self {
                name: "Unavailable",
                error: ApiError::Unavailable("The store cannot be written to now; try again later"),
                when: "Not now: starting, stopping, overloaded, or unable to write. The same request may succeed later",
                meets: has_token,
            },
        ]
    }

    fn response(&self) -> Response {
        let mut response = Response::new(self.when);
        let example = serde_json::json!({ "ok": false, "error": self.error.to_string() });
        let content = Content::builder().schema(Some(Ref::from_schema_name("Failure"))).example(Some(example));
        response.content.insert(body::JSON.into(), content.build().into());
        let answered = self.error.error_response();
        for name in ["Retry-After", "WWW-Authenticate"] {
            if let Some(value) = answered.headers().get(name) {
                let value = value.to_str().expect("our headers are ASCII");
                let schema = if name == "Retry-After" { seconds(RETRY_AFTER_SECONDS) } else { text(value) };
                response.headers.insert(name.into(), header(schema).into());
            }
        }
        add_common_headers(&mut response);
        response
    }
}

fn has_body(operation: &Operation) -> bool {
    operation.request_body.is_some()
}

/// Whether it asks for a token, be it from some callers only.
fn has_token(operation: &Operation) -> bool {
    operation.security.iter().flatten().any(|wanted| *wanted != SecurityRequirement::default())
}

/// What `guard.rs` adds to every response.
fn common_headers() -> [(&'static str, Header); 4] {
    let uuid = ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::Custom("uuid".into())))
        .description(Some("The client's if it sent a UUID, else a new one"));
    [
        ("X-Request-Id", header(uuid)),
        ("X-Content-Type-Options", header(text("nosniff"))),
        ("X-Frame-Options", header(text("DENY"))),
        ("Referrer-Policy", header(text("no-referrer"))),
    ]
}

fn add_common_headers(response: &mut Response) {
    // What a response has of its own it has always.
    for header in response.headers.values_mut() {
        if let RefOr::T(header) = header {
            header.extensions = Some(required());
        }
    }
    for (name, _) in common_headers() {
        response.headers.insert(name.into(), RefOr::Ref(Ref::new(format!("#/components/headers/{name}"))));
    }
}

fn header(schema: ObjectBuilder) -> Header {
    HeaderBuilder::new().schema(Some(schema)).extensions(Some(required())).build()
}

/// utoipa has no word for it, but OpenAPI does.
fn required() -> Extensions {
    Extensions::from_iter([("required", true)])
}

fn text(value: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some([value]))
}

fn seconds(range: RangeInclusive<u32>) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(*range.start())).maximum(Some(*range.end()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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

    /// The routes stand in a `match`, which nothing but its text tells from outside: each begins with a pattern such as
    /// `[Some("api"), Some("agents"), Some(id), None, _] => (`.
    #[test]
    fn every_route_is_in_the_document_and_nothing_else() {
        let arms = include_str!("../endpoint.rs").split("\n            [").skip(1);
        let patterns = arms.filter_map(|arm| arm.split_once("] => ("));
        let routes = patterns.map(|(pattern, _)| {
            let segments = pattern.split("Some(").skip(1).map(|rest| rest.split(')').next().unwrap());
            let segments = segments.map(|segment| match segment.strip_prefix('"') {
                Some(name) => format!("/{}", name.trim_end_matches('"')),
                None => format!("/{{{segment}}}"),
            });
            segments.collect::<String>()
        });
        let document = Api::openapi();
        let documented = document.paths.paths.keys().cloned();
        assert_eq!(routes.collect::<BTreeSet<_>>(), documented.collect::<BTreeSet<_>>());
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

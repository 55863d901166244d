//! The document of the API: OpenAPI 3.1, made from the routes, from the [`Description`] that stands beside each handler, and
//! from the types that are parsed and serialised.
//!
//! A description says what is special about an endpoint. What its route says and what holds for all is added here, taken
//! from the code that answers so: who may ask, the refusals that any request with a token, or with a body, may meet, and the
//! headers that every response carries. The document is served, printed by `guardbeat openapi`, and checked in as
//! docs/openapi.json; docs/api.md is made from it.

mod description;
mod page;

use std::{ops::RangeInclusive, sync::LazyLock};

use actix_web::{HttpResponse, ResponseError, http::StatusCode};
use serde_json::json;
use utoipa::{
    OpenApi, ToSchema,
    openapi::{
        Content, Header, HeaderBuilder, OpenApi as Document, Ref, RefOr, Required, Response,
        extensions::Extensions,
        path::{HttpMethod, Operation, ParameterBuilder, ParameterIn},
        schema::{ObjectBuilder, SchemaFormat, Type},
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};

pub(super) use self::description::{Description, query_of};
use super::{
    auth::{Access, Unproven},
    body,
    envelope::{self, ApiError, Failure},
    routes::{self, Call, Query, Route, Verb},
};
use crate::{
    fleet::AgentId,
    limits::{BODY_MAX_BYTES, RETRY_AFTER_SECONDS},
};

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
    components(schemas(Failure)),
)]
struct Api;

/// The document as a page for people, in Markdown.
pub fn page() -> String {
    page::render(&serde_json::from_str(document()).expect("it is JSON"))
}

/// The document, as JSON.
pub fn document() -> &'static str {
    static JSON: LazyLock<String> = LazyLock::new(|| {
        let json = assembled().to_pretty_json().expect("a document has only string keys");
        json + "\n"
    });
    &JSON
}

pub(super) fn describe() -> Description {
    let about =
        "The description of the API, in the words of OpenAPI 3.1. With the administrator's token, or any agent's.";
    let schema = ObjectBuilder::new().schema_type(Type::Object);
    let example = json!({ "openapi": "3.1.0", "info": { "title": "Guardbeat" } });
    Description::new("Operations", "openapi", "Get this document", about).answers_as(
        200,
        "The document",
        body::JSON,
        schema,
        example,
    )
}

pub(super) async fn serve(_: Call<'_>) -> Result<HttpResponse, ApiError> {
    Ok(envelope::json_response(StatusCode::OK, document()))
}

fn assembled() -> Document {
    let mut document = Api::openapi();
    let components = document.components.get_or_insert_default();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(
        "The administrator's token, or the one that an agent got when it registered. An agent's token may act for that \
         agent alone.",
    ));
    components.security_schemes.insert("token".into(), SecurityScheme::Http(bearer.build()).into());
    components.headers.extend(common_headers().map(|(name, header)| (name.into(), header.into())));
    components.responses.extend(Refusal::all().map(|refusal| (refusal.name.into(), refusal.response().into())));
    for (route, description) in routes::documented() {
        let (operation, schemas) = complete(route, description).into_parts();
        components.schemas.extend(schemas);
        let method = match route.verb {
            Verb::Get => HttpMethod::Get,
            Verb::Post => HttpMethod::Post,
            Verb::Delete => HttpMethod::Delete,
        };
        document.paths.add_path_operation(route.path, vec![method], operation);
    }
    document
}

/// Adds what the route says, and what holds for all.
fn complete(route: &Route, description: Description) -> Description {
    let token = || SecurityRequirement::new("token", [""; 0]);
    let (security, mut description) = match route.access {
        Access::Anybody => (vec![SecurityRequirement::default()], description),
        Access::Enrolment => (
            vec![token(), SecurityRequirement::default()],
            description.refuses(403, "An agent's token may not register", None),
        ),
        Access::AnyToken | Access::Own => (vec![token()], description),
        Access::Agent => (
            vec![token()],
            description.refuses(403, "Another agent's token", None).refuses(
                404,
                "No such agent",
                Some("Agent not found"),
            ),
        ),
        Access::Admin => {
            (vec![token()], description.refuses(403, "An agent's token: this is the administrator's", None))
        }
    };
    if let Query::Of(parameters) = route.query {
        description.add_parameters(parameters());
    }
    if route.path.contains("{id}") {
        description.refer::<AgentId>();
        let id = ParameterBuilder::new().name("id").parameter_in(ParameterIn::Path).required(Required::True);
        let schema = Ref::from_schema_name(AgentId::name());
        description.add_parameters([id.description(Some("The agent")).schema(Some(schema)).build()]);
    }
    let operation = description.operation();
    operation.security = Some(security);
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
    description
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

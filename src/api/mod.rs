//! The HTTP side: turns requests into questions to the [`EngineHandle`], and its answers into the contract's JSON.
//!
//! `admission.rs` adds what every response carries, `envelope.rs` turns every failure into a status, `body.rs` reads every
//! body, `delivery.rs` encodes every response for its client. `routes.rs` is the table of endpoints and of who may call
//! them; `call.rs` is what its handlers are called with; each endpoint has a file with its request, its response and their description for the API's document
//! (`openapi/`). Nothing here knows how the engine works.
//!
//! ```text
//! bytes ──▶ direct ─── heartbeats that are in order ──────────────────────────────▶ heartbeat.rs
//! request ─▶ admission ─▶ fast path ─┬─ heartbeats ───────────────────────────────┬─▶ heartbeat.rs
//!                                    └─ all others ─▶ App: route() ─▶ routes.rs ──┴─▶ agents.rs, events.rs, listing.rs, …
//! ```

mod admission;
mod agents;
mod auth;
mod batch;
mod body;
mod call;
mod compact;
mod delivery;
mod direct;
mod envelope;
mod events;
mod fast_path;
mod fields;
mod guard_report;
mod heartbeat;
mod json;
pub(crate) mod lifecycle;
mod listing;
pub(crate) mod openapi;
mod operations;
mod overview;
mod peer;
mod policy;
mod publish;
mod query;
mod readable;
mod refusal;
mod register;
mod report;
mod request_id;
mod request_log;
mod routes;
mod shared;
mod summary;
mod threats;
mod unparsed;
mod values;

use std::{sync::Arc, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    body::EitherBody,
    dev::{self, ServiceResponse},
    http::StatusCode,
    web::{self, Payload},
};
use ipnet::IpNet;
use tokio::time::Instant;

use self::lifecycle::{Lifecycle, Phase};
pub(crate) use self::{
    admission::Admission, auth::AuthRules, direct::Direct, envelope::ApiError, fast_path::FastPath,
    request_log::RequestLog, routes::Listener, unparsed::refuse_unparsed,
};
pub use self::{agents::write_row, heartbeat::HeartbeatBody};
use self::{
    auth::{Access, Principal},
    call::{Call, Query},
    openapi::Description,
    request_log::{Visit, shown_path},
    routes::{Destination, Route},
};
use crate::{config::ForwardedHeader, engine::EngineHandle, events::Bus, fleet::AgentId, metrics::HEARTBEAT_ENDPOINT};

/// State shared by all handlers.
#[derive(Debug)]
pub(crate) struct ApiState {
    pub engine: EngineHandle,
    pub events: Bus,
    pub auth: AuthRules,
    /// Trusted proxies: their forwarding header is believed.
    pub trusted_proxies: Vec<IpNet>,
    pub request_log: RequestLog,
    /// The header in which trusted proxies name the client.
    pub forwarded_header: ForwardedHeader,
    pub lifecycle: Arc<Lifecycle>,
    pub started: Instant,
}

impl ApiState {
    /// Whether requests about the fleet can be answered, and durable ones kept.
    fn is_ready(&self) -> bool {
        self.lifecycle.phase() == Phase::Serving && self.engine.durability().is_up()
    }

    fn uptime(&self) -> Duration {
        self.engine.clock().monotonic() - self.started
    }
}

type State = web::Data<ApiState>;

/// Handles a request on the main listener.
pub(crate) async fn route(request: HttpRequest, payload: Payload, state: State) -> Result<HttpResponse, ApiError> {
    answer(Listener::Api, &request, payload, &state).await
}

/// Handles a request on the operations listener.
pub(crate) async fn route_operations(
    request: HttpRequest,
    payload: Payload,
    state: State,
) -> Result<HttpResponse, ApiError> {
    answer(Listener::Operations, &request, payload, &state).await
}

async fn answer(
    listener: Listener,
    request: &HttpRequest,
    payload: Payload,
    state: &State,
) -> Result<HttpResponse, ApiError> {
    let mut payload = payload.into_inner();
    let outcome = dispatch(listener, request, &mut payload, state).await;
    body::drain(request.headers(), &mut payload, outcome.as_ref().err()).await;
    outcome.map(|answer| delivery::fitted(request, answer))
}

async fn dispatch(
    listener: Listener,
    request: &HttpRequest,
    payload: &mut dev::Payload,
    state: &State,
) -> Result<HttpResponse, ApiError> {
    let path = request.path();
    let (refusal, is_open) = match listener.destination(request.method(), path) {
        Destination::Route(route, id) => {
            let begun = state.engine.clock().monotonic();
            let outcome = ask(route, id.parse().ok(), request, payload, state).await;
            if route.name == HEARTBEAT_ENDPOINT {
                heartbeat::note(state, begun, outcome.as_ref().err());
            }
            return outcome;
        }
        Destination::WrongMethod { allow, is_open } => (ApiError::MethodNotAllowed { allow }, is_open),
        Destination::Nowhere => {
            let is_open = listener == Listener::Operations || (path != "/api" && !path.starts_with("/api/"));
            (no_such_path(path), is_open)
        }
    };
    // Without a token, a client does not learn which paths and methods of the API exist.
    let access = if is_open { Access::Anybody } else { Access::AnyToken };
    Err(access.authorize(request.headers(), request.peer_addr(), None, state).await.err().unwrap_or(refusal))
}

/// Authorises the request, refuses a query that the route does not take, and calls the handler.
async fn ask(
    route: &Route,
    named: Option<AgentId>,
    request: &HttpRequest,
    payload: &mut dev::Payload,
    state: &State,
) -> Result<HttpResponse, ApiError> {
    let principal = route.access.authorize(request.headers(), request.peer_addr(), named, state).await?;
    if let Query::Refused = route.query
        && let Err(unknown) = query::none(request.query_string())
    {
        // An agent's actor has yet to check its token.
        let is_claim = matches!(principal, Principal::Agent { .. });
        let refused = if is_claim { principal.check(state).await.err() } else { None };
        return Err(refused.unwrap_or(unknown));
    }
    (route.handler)(Call { request, payload, state, principal, named }).await
}

/// Post-processes the responses of the framework's `App`: its own errors get the contract's envelope, and refused
/// heartbeats the log record that admission control did not create for them.
pub fn complete<B>(answer: ServiceResponse<B>) -> ServiceResponse<EitherBody<B>> {
    let mut answer = envelope::in_our_words(answer);
    let request = answer.request();
    let visit = (answer.status() != StatusCode::OK && fast_path::is_heartbeat(request.head()))
        .then(|| request.app_data::<State>())
        .flatten()
        .map(|state| Visit::of_heartbeat(&state.request_log, request.head()));
    if let Some(visit) = visit {
        answer.response_mut().extensions_mut().insert(visit);
    }
    answer
}

/// Shows the path, which is often not the one the client meant to request.
fn no_such_path(path: &str) -> ApiError {
    let shown = shown_path(path);
    let is_slashed = path.contains("//") || (path.ends_with('/') && path != "/");
    let hint = if is_slashed { " (paths have no doubled and no trailing slash)" } else { "" };
    ApiError::NoSuchPath(format!("Not found: {shown}{hint}"))
}

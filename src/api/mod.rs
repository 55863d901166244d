//! The HTTP side: turns requests into questions to the [`EngineHandle`], and its answers into the contract's JSON.
//!
//! What every response carries is added in one place (`guard.rs`), every failure becomes a status in one place
//! (`envelope.rs`), every body is read in one place (`body.rs`), every answer is fitted to its reader in one place
//! (`delivery.rs`). What there is to ask and who may ask it is one table (`routes.rs`); each of its rows has its request,
//! its answer and what the API's document (`openapi/`) says of them in a file of its own. Nothing here knows how the
//! engine works.
//!
//! ```text
//! request ─▶ guard ─▶ lane ─┬─ heartbeats ───────────────────────────────┬─▶ heartbeat.rs
//!                           └─ all others ─▶ App: route() ─▶ routes.rs ──┴─▶ agents.rs, events.rs, listing.rs, …
//! ```

mod admission;
mod agents;
mod auth;
mod body;
mod compact;
mod delivery;
mod envelope;
mod events;
mod fast_path;
mod fields;
mod guard_report;
mod heartbeat;
mod json;
pub mod lifecycle;
mod listing;
pub mod openapi;
mod operations;
mod overview;
mod peer;
mod policy;
mod publish;
mod query;
mod readable;
mod refusal;
mod register;
mod relay;
mod report;
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
pub use self::{
    admission::Admission,
    agents::write_row,
    auth::{AuthRules, Unproven},
    envelope::ApiError,
    fast_path::FastPath,
    heartbeat::HeartbeatBody,
    request_log::RequestLog,
    routes::Listener,
    unparsed::refuse_unparsed,
};
use self::{
    auth::{Access, Principal},
    openapi::Description,
    request_log::{Visit, shown_path},
    routes::{Call, Destination, Query, Route},
};
use crate::{config::ForwardedHeader, engine::EngineHandle, events::Bus, fleet::AgentId, metrics::HEARTBEAT_ENDPOINT};

/// What the handlers share.
#[derive(Debug)]
pub struct ApiState {
    /// The engine.
    pub engine: EngineHandle,
    /// What happens in it.
    pub events: Bus,
    /// Who may do what.
    pub auth: AuthRules,
    /// Proxies that are believed whom they forward requests of.
    pub trusted_proxies: Vec<IpNet>,
    /// What is kept of requests.
    pub request_log: RequestLog,
    /// Where they say it.
    pub forwarded_header: ForwardedHeader,
    /// Where the process stands.
    pub lifecycle: Arc<Lifecycle>,
    /// When it started.
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

/// Answers what comes to the main listener.
pub async fn route(request: HttpRequest, payload: Payload, state: State) -> Result<HttpResponse, ApiError> {
    answer(Listener::Api, &request, payload, &state).await
}

/// Answers what comes to the operations listener.
pub async fn route_operations(request: HttpRequest, payload: Payload, state: State) -> Result<HttpResponse, ApiError> {
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
    // Who has no token does not learn which paths and methods of the API do not exist.
    let access = if is_open { Access::Anybody } else { Access::AnyToken };
    Err(access.admit(request.headers(), request.peer_addr(), None, state).await.err().unwrap_or(refusal))
}

/// Lets in who may ask, refuses a query that the route does not take, and asks who answers.
async fn ask(
    route: &Route,
    named: Option<AgentId>,
    request: &HttpRequest,
    payload: &mut dev::Payload,
    state: &State,
) -> Result<HttpResponse, ApiError> {
    let principal = route.access.admit(request.headers(), request.peer_addr(), named, state).await?;
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

/// What answers of the framework's `App` pass: refusals of its own are put into the contract's words, and refused heartbeats
/// are given what the guard has not kept of them.
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

/// Names the path, which is often not the one that the client believes it asked for.
fn no_such_path(path: &str) -> ApiError {
    let shown = shown_path(path);
    let is_slashed = path.contains("//") || (path.ends_with('/') && path != "/");
    let hint = if is_slashed { " (paths have no doubled and no trailing slash)" } else { "" };
    ApiError::NoSuchPath(format!("Not found: {shown}{hint}"))
}

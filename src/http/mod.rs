//! The HTTP side: turns requests into questions to the [`EngineHandle`], and its answers into the contract's JSON.
//!
//! What every response carries is added in one place (`guard.rs`), every failure becomes a status in one place
//! (`envelope.rs`), every body is read in one place (`body.rs`), every answer is fitted to its reader in one place
//! (`delivery.rs`). What an endpoint takes and answers is written beside its handler and gathered into the API's document
//! (`openapi/`). Nothing here knows how the engine works.
//!
//! ```text
//! request ─▶ guard ─▶ lane ─┬─ heartbeats ──────────────────────┬─▶ heartbeat.rs
//!                           └─ all others ─▶ App: route() ──────┴─▶ agents.rs, events.rs, listing.rs, …
//! ```

mod agents;
mod auth;
mod body;
mod delivery;
mod endpoint;
mod envelope;
mod events;
mod guard;
mod heartbeat;
mod lane;
mod listing;
pub mod openapi;
mod operations;
mod overview;
mod peer;
mod policy;
mod query;
mod refusal;
mod relay;
mod request_log;
mod shared;
mod summary;
mod threats;
mod unparsed;

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

pub use self::{
    auth::{AuthRules, Unproven},
    endpoint::Listener,
    envelope::ApiError,
    guard::Gate,
    lane::Lane,
    operations::route_operations,
    request_log::RequestLog,
    unparsed::refuse_unparsed,
};
use self::{
    endpoint::{Destination, Endpoint},
    request_log::{Visit, shown_path},
};
use crate::{
    actors::EngineHandle,
    config::ForwardedHeader,
    events::Bus,
    lifecycle::{Lifecycle, Phase},
};

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

/// The routes of the main listener.
pub async fn route(request: HttpRequest, payload: Payload, state: State) -> Result<HttpResponse, ApiError> {
    let mut payload = payload.into_inner();
    let outcome = dispatch(&request, &mut payload, &state).await;
    body::drain(request.headers(), &mut payload, outcome.as_ref().err()).await;
    outcome.map(|answer| delivery::fitted(&request, answer))
}

async fn dispatch(request: &HttpRequest, payload: &mut dev::Payload, state: &State) -> Result<HttpResponse, ApiError> {
    let (endpoint, id) = match Listener::Api.destination(request.method(), request.path()) {
        Destination::Endpoint(endpoint, id) => (endpoint, id),
        Destination::WrongMethod(allow) => return Err(no_such(request, state, wrong_method(allow)).await),
        Destination::Nowhere => return Err(no_such(request, state, no_such_path(request.path())).await),
    };
    match endpoint {
        Endpoint::Heartbeat => {
            query::none_of(auth::Caller::of(request.headers(), &state.auth)?, request, state).await?;
            let json = heartbeat::receive(request.headers(), payload, state, agents::parse_id(id)).await?;
            Ok(envelope::json_response(StatusCode::OK, json))
        }
        Endpoint::ReportEvents => threats::report(request, payload, state, id).await,
        Endpoint::Register => agents::register(request, payload, state).await,
        Endpoint::ShowAgent => agents::show(request, state, id).await,
        Endpoint::Deregister => agents::deregister(request, state, id).await,
        Endpoint::ListAgents => listing::list(request, state).await,
        Endpoint::HeartbeatBatch => relay::heartbeats(request, payload, state).await,
        Endpoint::ListThreats => threats::list(request, state).await,
        Endpoint::ThreatSummary => summary::summarise(request, state).await,
        Endpoint::Overview => overview::overview(request, state).await,
        Endpoint::PublishPolicy => policy::publish(request, payload, state).await,
        Endpoint::ActivePolicy => policy::active(request, state).await,
        Endpoint::AgentPolicy => policy::of_agent(request, state, id).await,
        Endpoint::LatestRules => policy::latest_rules(request, state).await,
        Endpoint::EventStream => events::stream(request, state).await,
        Endpoint::Openapi => openapi::serve(request, state).await,
        Endpoint::Metrics => operations::metrics_for_admin(request, state).await,
        Endpoint::Health => operations::health(request, state),
        Endpoint::Ping => Ok(operations::ping()),
        Endpoint::Livez | Endpoint::Readyz | Endpoint::Other => Err(no_such_path(request.path())),
    }
}

/// What answers of the framework's `App` pass: refusals of its own are put into the contract's words, and refused heartbeats
/// are given what the guard has not kept of them.
pub fn complete<B>(answer: ServiceResponse<B>) -> ServiceResponse<EitherBody<B>> {
    let mut answer = envelope::in_our_words(answer);
    let request = answer.request();
    let visit = (answer.status() != StatusCode::OK && lane::is_heartbeat(request.head()))
        .then(|| request.app_data::<State>())
        .flatten()
        .map(|state| Visit::of_heartbeat(&state.request_log, request.head()));
    if let Some(visit) = visit {
        answer.response_mut().extensions_mut().insert(visit);
    }
    answer
}

/// The refusal of what does not exist. Who has no token does not learn which paths and methods of the API do.
async fn no_such(request: &HttpRequest, state: &ApiState, refusal: ApiError) -> ApiError {
    let path = request.path();
    let is_open = path == "/health" || (path != "/metrics" && path != "/api" && !path.starts_with("/api/"));
    if is_open {
        return refusal;
    }
    auth::authenticate(request, state).await.err().unwrap_or(refusal)
}

fn wrong_method(allow: &'static str) -> ApiError {
    ApiError::MethodNotAllowed { allow }
}

/// Names the path, which is often not the one that the client believes it asked for.
fn no_such_path(path: &str) -> ApiError {
    let shown = shown_path(path);
    let is_slashed = path.contains("//") || (path.ends_with('/') && path != "/");
    let hint = if is_slashed { " (paths have no doubled and no trailing slash)" } else { "" };
    ApiError::NoSuchPath(format!("Not found: {shown}{hint}"))
}

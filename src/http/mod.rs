//! The HTTP side: turns requests into questions to the [`EngineHandle`], and its answers into the contract's JSON.
//!
//! What every response carries is added in one place (`guard.rs`), every failure becomes a status in one place
//! (`envelope.rs`), every body is read in one place (`body.rs`). What an endpoint takes and answers is written beside its
//! handler and gathered into the API's document (`openapi/`). Nothing here knows how the engine works.
//!
//! ```text
//! request ─▶ guard ─▶ lane ─┬─ heartbeats ──────────────────────┬─▶ heartbeat.rs
//!                           └─ all others ─▶ App: route() ──────┴─▶ agents.rs, events.rs, listing.rs, …
//! ```

mod agents;
mod auth;
mod body;
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
mod relay;
mod shared;
mod summary;
mod threats;
mod unparsed;

use std::{sync::Arc, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{Method, StatusCode},
    web::{self, Payload},
};
use ipnet::IpNet;
use tokio::time::Instant;

pub use self::{
    auth::AuthRules, envelope::ApiError, guard::Gate, lane::Lane, operations::route_operations,
    unparsed::refuse_unparsed,
};
use crate::{
    actors::EngineHandle,
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
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
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
///
/// By hand rather than with the framework's router: that one tries a regular expression after the other, which takes an
/// eighth of the processor time of a heartbeat (docs/benchmarks.md).
pub async fn route(request: HttpRequest, payload: Payload, state: State) -> Result<HttpResponse, ApiError> {
    let mut segments = request.path().strip_prefix('/').unwrap_or_default().split('/');
    let segments = [segments.next(), segments.next(), segments.next(), segments.next(), segments.next()];
    match (segments, request.method()) {
        ([Some("api"), Some("agents"), Some(id), Some("heartbeat"), None], method) => match method {
            &Method::POST => {
                let json =
                    heartbeat::receive(request.headers(), &mut payload.into_inner(), &state, agents::parse_id(id))
                        .await?;
                Ok(envelope::json_response(StatusCode::OK, json))
            }
            _ => wrong_method(&request, &state, "POST").await,
        },
        ([Some("api"), Some("agents"), Some(id), Some("events"), None], method) => match method {
            &Method::POST => threats::report(&request, payload, &state, id).await,
            _ => wrong_method(&request, &state, "POST").await,
        },
        ([Some("api"), Some("agents"), Some("register"), None, None], method) => match method {
            &Method::POST => agents::register(&request, payload, &state).await,
            _ => wrong_method(&request, &state, "POST").await,
        },
        ([Some("api"), Some("agents"), Some(id), None, None], method) => match method {
            &Method::GET | &Method::HEAD => agents::show(&request, &state, id).await,
            &Method::DELETE => agents::deregister(&request, &state, id).await,
            _ => wrong_method(&request, &state, "GET, HEAD, DELETE").await,
        },
        ([Some("api"), Some("agents"), None, None, None], method) => match method {
            &Method::GET | &Method::HEAD => listing::list(&request, &state).await,
            _ => wrong_method(&request, &state, "GET, HEAD").await,
        },
        ([Some("api"), Some("heartbeats"), None, ..], method) => match method {
            &Method::POST => relay::heartbeats(&request, payload, &state).await,
            _ => wrong_method(&request, &state, "POST").await,
        },
        ([Some("api"), Some("threats"), None, ..], method) => match method {
            &Method::GET | &Method::HEAD => threats::list(&request, &state).await,
            _ => wrong_method(&request, &state, "GET, HEAD").await,
        },
        ([Some("api"), Some("threats"), Some("summary"), None, _], method) => match method {
            &Method::GET | &Method::HEAD => summary::summarise(&request, &state).await,
            _ => wrong_method(&request, &state, "GET, HEAD").await,
        },
        ([Some("api"), Some("overview"), None, ..], method) => match method {
            &Method::GET | &Method::HEAD => overview::overview(&request, &state).await,
            _ => wrong_method(&request, &state, "GET, HEAD").await,
        },
        ([Some("api"), Some("policy"), None, ..], method) => match method {
            &Method::POST => policy::publish(&request, payload, &state).await,
            _ => wrong_method(&request, &state, "POST").await,
        },
        ([Some("api"), Some("policy"), Some("active"), None, None], method) => match method {
            &Method::GET | &Method::HEAD => policy::active(&request, &state).await,
            _ => wrong_method(&request, &state, "GET, HEAD").await,
        },
        ([Some("api"), Some("policy"), Some("agent"), Some(id), None], method) => match method {
            &Method::GET | &Method::HEAD => policy::of_agent(&request, &state, id).await,
            _ => wrong_method(&request, &state, "GET, HEAD").await,
        },
        ([Some("api"), Some("rules"), Some("latest"), None, None], method) => match method {
            &Method::GET | &Method::HEAD => policy::latest_rules(&request, &state).await,
            _ => wrong_method(&request, &state, "GET, HEAD").await,
        },
        ([Some("api"), Some("events"), Some("stream"), None, None], method) => match method {
            &Method::GET | &Method::HEAD => events::stream(&request, &state).await,
            _ => wrong_method(&request, &state, "GET, HEAD").await,
        },
        ([Some("api"), Some("openapi.json"), None, ..], method) => match method {
            &Method::GET | &Method::HEAD => openapi::serve(&request, &state).await,
            _ => wrong_method(&request, &state, "GET, HEAD").await,
        },
        ([Some("metrics"), None, ..], method) => match method {
            &Method::GET | &Method::HEAD => operations::metrics_for_admin(&request, &state).await,
            _ => wrong_method(&request, &state, "GET, HEAD").await,
        },
        ([Some("health"), None, ..], method) => match method {
            &Method::GET | &Method::HEAD => Ok(operations::health(&state)),
            _ => Err(ApiError::MethodNotAllowed { allow: "GET, HEAD" }),
        },
        ([Some("api"), ..], _) => {
            auth::authenticate(&request, &state).await?;
            Err(ApiError::NotFound("Not found"))
        }
        _ => Err(ApiError::NotFound("Not found")),
    }
}

/// Who has no token does not learn which methods there are.
async fn wrong_method(request: &HttpRequest, state: &ApiState, allow: &'static str) -> Result<HttpResponse, ApiError> {
    auth::authenticate(request, state).await?;
    Err(ApiError::MethodNotAllowed { allow })
}

//! For those who run the server: health, readiness and metrics.

use actix_web::{HttpRequest, HttpResponse, http::StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    ApiState, State,
    auth::Caller,
    delivery,
    endpoint::{Destination, Endpoint, Listener},
    envelope::{self, ApiError, Failure, Success},
    no_such_path, query,
};
use crate::lifecycle::Phase;

/// The routes of the operations listener. It has no token: bind it where only the monitoring reaches it.
pub async fn route_operations(request: HttpRequest, state: State) -> Result<HttpResponse, ApiError> {
    match Listener::Operations.destination(request.method(), request.path()) {
        Destination::Endpoint(Endpoint::Metrics, _) => {
            render(&state).await.map(|answer| delivery::fitted(&request, answer))
        }
        Destination::Endpoint(Endpoint::Livez, _) => Ok(envelope::data(br#"{"status":"alive"}"#)),
        Destination::Endpoint(Endpoint::Readyz, _) => readyz(&state),
        Destination::Endpoint(Endpoint::Ping, _) => Ok(ping()),
        Destination::WrongMethod(allow) => Err(ApiError::MethodNotAllowed { allow }),
        Destination::Endpoint(..) | Destination::Nowhere => Err(no_such_path(request.path())),
    }
}

/// `OPTIONS /` and `OPTIONS *`: somebody is here. It is what load balancers ask when nobody told them what to ask.
pub(super) fn ping() -> HttpResponse {
    envelope::data(br#"{"status":"alive"}"#)
}

/// See whether it is alive
///
/// Answered without a token, and in every phase of the process.
#[utoipa::path(
    get,
    path = "/health",
    operation_id = "health",
    tag = "Operations",
    security(()),
    responses(
        (status = 200, description = "It is", body = Success<Health>, example = json!({
            "ok": true,
            "data": {
                "status": "healthy",
                "version": "0.1.0",
                "uptime": 86400,
                "agents": { "total": 12, "online": 10 },
            },
        })),
    ),
)]
pub(super) fn health(request: &HttpRequest, state: &State) -> Result<HttpResponse, ApiError> {
    query::none(request.query_string())?;
    let counts = state.engine.counts();
    Ok(envelope::data_with(
        StatusCode::OK,
        &Health {
            status: "healthy",
            version: env!("CARGO_PKG_VERSION"),
            uptime: state.uptime().as_secs(),
            agents: HealthOfFleet { total: counts.total(), online: counts.online },
        },
    ))
}

/// How the server is.
#[derive(Serialize, ToSchema)]
struct Health {
    /// `healthy`.
    status: &'static str,
    /// Its version.
    version: &'static str,
    /// Seconds since it started.
    uptime: u64,
    agents: HealthOfFleet,
}

/// How many agents there are.
#[derive(Serialize, ToSchema)]
struct HealthOfFleet {
    /// In all.
    total: u64,
    /// Online now.
    online: u64,
}

/// Read the metrics
///
/// The text that Prometheus scrapes; the operations listener has the same without a token. With the administrator's
/// token.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "metrics",
    tag = "Operations",
    security(("token" = [])),
    responses(
        (
            status = 200,
            description = "The metrics, in the text format of Prometheus",
            content_type = "text/plain",
            body = String,
            example = "# HELP guardbeat_agents Agents in the fleet, by status.\n# TYPE guardbeat_agents gauge\n\
                guardbeat_agents{status=\"online\"} 10\n",
        ),
        (status = 403, description = "An agent's token may not read them", body = Failure),
    ),
)]
pub(super) async fn metrics_for_admin(request: &HttpRequest, state: &State) -> Result<HttpResponse, ApiError> {
    Caller::of(request.headers(), &state.auth)?.must_be_admin(state).await?;
    query::none(request.query_string())?;
    render(state).await
}

async fn render(state: &ApiState) -> Result<HttpResponse, ApiError> {
    // Before the shards run there is nothing to ask them.
    let censuses = state.engine.census().await.unwrap_or_default();
    let engine = &state.engine;
    let text = engine.metrics().render(engine, &censuses, state.uptime());
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text))
}

/// `GET /readyz`: requests can be answered, and what must be durable can be kept.
fn readyz(state: &State) -> Result<HttpResponse, ApiError> {
    if state.is_ready() {
        return Ok(envelope::json_response(StatusCode::OK, &br#"{"ok":true,"data":{"status":"ready"}}"#[..]));
    }
    Err(ApiError::Unavailable(match state.lifecycle.phase() {
        Phase::Starting => "The fleet is being loaded",
        Phase::Serving => "The store cannot be written to",
        Phase::Draining => "The server is shutting down",
    }))
}

//! For those who run the server: health, readiness and metrics.

use actix_web::{HttpResponse, http::StatusCode};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::lifecycle::Phase;
use super::{ApiError, Call, Description, envelope};

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

pub(super) fn describe_health() -> Description {
    Description::new("Operations", "health", "See whether it is alive")
        .about("Answered without a token, and in every phase of the process.")
    .answers::<Health>(200, "It is")
        .example(json!({ "status": "healthy", "version": "0.1.0", "uptime": 86400, "agents": { "total": 12, "online": 10 } }))
}

pub(super) async fn health(call: Call<'_>) -> Result<HttpResponse, ApiError> {
    let counts = call.state.engine.counts();
    let health = Health {
        status: "healthy",
        version: env!("CARGO_PKG_VERSION"),
        uptime: call.state.uptime().as_secs(),
        agents: HealthOfFleet { total: counts.total(), online: counts.online },
    };
    Ok(envelope::data(StatusCode::OK, &health))
}

pub(super) fn describe_metrics() -> Description {
    Description::new("Operations", "metrics", "Read the metrics")
        .about("The text that Prometheus scrapes; the operations listener has the same without a token.")
        .answers_as(200, "The metrics, in the text format of Prometheus", "text/plain", json!({ "type": "string" }))
        .example(
            "# HELP guardbeat_agents Agents in the fleet, by status.\n# TYPE guardbeat_agents gauge\n\
         guardbeat_agents{status=\"online\"} 10\n",
        )
}

pub(super) async fn metrics(call: Call<'_>) -> Result<HttpResponse, ApiError> {
    let engine = &call.state.engine;
    // Before the shards run there is nothing to ask them.
    let shards = engine.label_counts().await.unwrap_or_default();
    let text = engine.metrics().render(call.state.uptime(), || engine.set_gauges(&shards));
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text))
}

/// How the process is.
#[derive(Serialize)]
struct Condition {
    status: &'static str,
}

/// `GET /livez`, and whoever asks for the server as a whole: somebody is here.
pub(super) async fn alive(_: Call<'_>) -> Result<HttpResponse, ApiError> {
    Ok(envelope::data(StatusCode::OK, &Condition { status: "alive" }))
}

/// `GET /readyz`: requests can be answered, and what must be durable can be kept.
pub(super) async fn readyz(call: Call<'_>) -> Result<HttpResponse, ApiError> {
    if call.state.is_ready() {
        return Ok(envelope::data(StatusCode::OK, &Condition { status: "ready" }));
    }
    Err(ApiError::Unavailable(match call.state.lifecycle.phase() {
        Phase::Starting => "The fleet is being loaded",
        Phase::Serving => "The store cannot be written to",
        Phase::Draining => "The server is shutting down",
    }))
}

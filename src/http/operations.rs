//! For those who run the server: health, readiness and metrics.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{Method, StatusCode},
};
use serde_json::json;

use super::{
    ApiState, State,
    auth::Caller,
    envelope::{self, ApiError},
};
use crate::lifecycle::Phase;

/// The routes of the operations listener. It has no token: bind it where only the monitoring reaches it.
pub async fn route_operations(request: HttpRequest, state: State) -> Result<HttpResponse, ApiError> {
    let is_get = [Method::GET, Method::HEAD].contains(request.method());
    match request.path() {
        "/metrics" | "/livez" | "/readyz" if !is_get => Err(ApiError::MethodNotAllowed { allow: "GET, HEAD" }),
        "/metrics" => render(&state).await,
        "/livez" => Ok(envelope::data(br#"{"status":"alive"}"#)),
        "/readyz" => readyz(&state),
        _ => Err(ApiError::NotFound("Not found")),
    }
}

/// `GET /health`
pub(super) fn health(state: &State) -> HttpResponse {
    let counts = state.engine.counts();
    let data = json!({
        "status": "healthy",
        "version": env!("CARGO_PKG_VERSION"),
        "uptime": state.uptime().as_secs(),
        "agents": { "total": counts.total(), "online": counts.online },
    });
    envelope::data(data.to_string().as_bytes())
}

/// `GET /metrics` on the main listener.
pub(super) async fn metrics_for_admin(request: &HttpRequest, state: &State) -> Result<HttpResponse, ApiError> {
    Caller::of(request.headers(), &state.auth)?.must_be_admin(state).await?;
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

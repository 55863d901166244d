//! The HTTP side: turns requests into questions to the [`EngineHandle`], and its answers into the contract's JSON.
//!
//! What every response carries is added in one place ([`guard`]), every failure becomes a status in one place
//! ([`envelope`]), every body is read in one place ([`body`]). Nothing here knows how the engine works.

mod agents;
mod auth;
mod body;
mod envelope;
mod guard;
mod listing;
mod operations;
mod peer;

use std::{sync::Arc, time::Duration};

use actix_web::{HttpRequest, HttpResponse, guard::Guard, web};
use ipnet::IpNet;
use tokio::time::Instant;

use self::envelope::ApiError;
pub use self::{auth::AuthRules, guard::Gate, operations::operations_routes};
use crate::{
    actors::EngineHandle,
    lifecycle::{Lifecycle, Phase},
};

/// What the handlers share.
#[derive(Debug)]
pub struct ApiState {
    /// The engine.
    pub engine: EngineHandle,
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
        self.lifecycle.phase() == Phase::Serving && self.engine.can_commit()
    }

    fn uptime(&self) -> Duration {
        self.engine.clock().monotonic() - self.started
    }
}

type State = web::Data<ApiState>;

/// The routes of the main listener.
pub fn routes(config: &mut web::ServiceConfig) {
    config
        .service(resource("/api/agents/{id}/heartbeat", "POST").route(web::post().to(agents::heartbeat)))
        .service(resource("/api/agents/register", "POST").route(web::post().to(agents::register)))
        .service(
            resource("/api/agents/{id}", "GET, HEAD, DELETE")
                .route(get().to(agents::show))
                .route(web::delete().to(agents::deregister)),
        )
        .service(resource("/api/agents", "GET, HEAD").route(get().to(listing::list)))
        .service(open_resource("/health", "GET, HEAD").route(get().to(operations::health)))
        .service(resource("/metrics", "GET, HEAD").route(get().to(operations::metrics_for_admin)))
        .default_service(web::to(unknown_path));
}

/// A resource behind a token: with a method that it does not have, it answers 405 to those who have one.
fn resource(path: &str, allow: &'static str) -> actix_web::Resource {
    web::resource(path).default_service(web::to(move |request: HttpRequest, state: State| async move {
        auth::authenticate(&request, &state).await?;
        Err::<HttpResponse, _>(ApiError::MethodNotAllowed { allow })
    }))
}

/// A resource that anybody may ask.
fn open_resource(path: &str, allow: &'static str) -> actix_web::Resource {
    web::resource(path)
        .default_service(web::to(move || async move { Err::<HttpResponse, _>(ApiError::MethodNotAllowed { allow }) }))
}

fn get() -> actix_web::Route {
    web::route().guard(GetOrHead)
}

/// GET, and HEAD, whose answer is the same without the body.
struct GetOrHead;

impl Guard for GetOrHead {
    fn check(&self, context: &actix_web::guard::GuardContext<'_>) -> bool {
        use actix_web::http::Method;
        [Method::GET, Method::HEAD].contains(&context.head().method)
    }
}

/// Under `/api`, who has no token does not learn which paths exist.
async fn unknown_path(request: HttpRequest, state: State) -> Result<HttpResponse, ApiError> {
    let path = request.path();
    if path == "/api" || path.starts_with("/api/") {
        auth::authenticate(&request, &state).await?;
    }
    Err(ApiError::NotFound("Not found"))
}

//! The fast path for heartbeats, in front of the framework's `App`.
//!
//! Nearly all requests are heartbeats, and half of what one costs is the framework's: its own request and response types,
//! extractors, boxed handlers. A heartbeat needs none of that, so it is answered here, one layer down, over actix-http's
//! types (figures: docs/benchmarks.md). Everything else goes on to the `App`, and so does a heartbeat that asks for more
//! than an answer: one with an `Origin`, which wants CORS headers, with a query, or with a path that is not spelt the usual
//! way or names no agent. Both ways share the checks and the response in `heartbeat.rs`.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use actix_http::{Request, RequestHead, Response};
use actix_web::{
    Error,
    body::{BoxBody, EitherBody, MessageBody},
    dev::{AppConfig, Service, ServiceFactory, ServiceResponse},
    http::{
        Method, StatusCode,
        header::{CONTENT_TYPE, HeaderValue, ORIGIN},
    },
};
use futures_util::future::LocalBoxFuture;
use pin_project_lite::pin_project;

use super::{ApiState, State, body, envelope::ApiError, heartbeat, request_log::Visit};
use crate::fleet::AgentId;

/// What stands before and after the agent's name in the path of a heartbeat.
const AROUND_ID: (&str, &str) = around_id(heartbeat::PATH);
const PATH_BYTES: usize = AROUND_ID.0.len() + AgentId::PRINTED_LEN + AROUND_ID.1.len();

const fn around_id(path: &str) -> (&str, &str) {
    let mut at = 0;
    while path.as_bytes()[at] != b'{' {
        at += 1;
    }
    let (before, from_id) = path.split_at(at);
    (before, from_id.split_at("{id}".len()).1)
}

/// The body of an answer: that of a heartbeat, of a refused one, or the `App`'s.
pub type FastPathBody<B> = EitherBody<EitherBody<String, BoxBody>, B>;

/// Creates the fast path in front of an `App` on each worker.
#[derive(Debug)]
pub struct FastPath<F> {
    state: State,
    app: F,
}

impl<F> FastPath<F> {
    /// A fast path in front of the service that `app` creates.
    pub fn before(app: F, state: State) -> Self {
        Self { state, app }
    }
}

impl<F, B> ServiceFactory<Request> for FastPath<F>
where
    F: ServiceFactory<Request, Config = AppConfig, Response = ServiceResponse<B>, Error = Error, InitError = ()>,
    F::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = Response<FastPathBody<B>>;
    type Error = Error;
    type Config = AppConfig;
    type Service = FastPathService<F::Service>;
    type InitError = ();
    type Future = LocalBoxFuture<'static, Result<Self::Service, ()>>;

    fn new_service(&self, config: AppConfig) -> Self::Future {
        let (state, app) = (self.state.clone(), self.app.new_service(config));
        Box::pin(async move { Ok(FastPathService { state, app: app.await? }) })
    }
}

/// The fast path of one worker.
#[derive(Debug)]
pub struct FastPathService<S> {
    state: State,
    app: S,
}

impl<S, B> Service<Request> for FastPathService<S>
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    type Response = Response<FastPathBody<B>>;
    type Error = Error;
    type Future = Way<S::Future>;

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.app.poll_ready(cx)
    }

    fn call(&self, request: Request) -> Self::Future {
        match agent_of(&request) {
            Some(id) => Way::FastPath { answer: Box::pin(answer(request, id, self.state.clone())) },
            None => Way::App { answer: self.app.call(request) },
        }
    }
}

pin_project! {
    /// A request on the fast path or in the `App`.
    #[project = WayProjection]
    pub enum Way<F> {
        /// A heartbeat.
        FastPath { answer: LocalBoxFuture<'static, Response<EitherBody<String, BoxBody>>> },
        /// Anything else.
        App { #[pin] answer: F },
    }
}

impl<F, B> Future for Way<F>
where
    F: Future<Output = Result<ServiceResponse<B>, Error>>,
    B: MessageBody,
{
    type Output = Result<Response<FastPathBody<B>>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            WayProjection::FastPath { answer } => {
                answer.as_mut().poll(cx).map(|answer| Ok(answer.map_body(|_, body| EitherBody::left(body))))
            }
            WayProjection::App { answer } => {
                answer.poll(cx).map_ok(|answer| Response::from(answer).map_body(|_, body| EitherBody::right(body)))
            }
        }
    }
}

/// The agent that sends a heartbeat; none if the request is for the framework.
fn agent_of(request: &Request) -> Option<AgentId> {
    let head = request.head();
    let id = (head.method == Method::POST).then(|| named_by(head.uri.path()))??;
    (head.uri.query().is_none() && !head.headers.contains_key(ORIGIN)).then_some(id)
}

/// The agent that a heartbeat's path names: `/api/agents/:id/heartbeat`. What is no id is for the framework.
pub(super) fn named_by(path: &str) -> Option<AgentId> {
    path.strip_prefix(AROUND_ID.0)?.strip_suffix(AROUND_ID.1)?.parse().ok()
}

async fn answer(mut request: Request, id: AgentId, state: State) -> Response<EitherBody<String, BoxBody>> {
    let mut payload = request.take_payload();
    match heartbeat::receive(&request.head().headers, &mut payload, &state, id).await {
        Ok(json) => {
            let mut response = Response::with_body(StatusCode::OK, EitherBody::left(json));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(error) => {
            body::drain(&request.head().headers, &mut payload, Some(&error)).await;
            refused(&request, &state, &error)
        }
    }
}

#[cold]
fn refused(request: &Request, state: &ApiState, error: &ApiError) -> Response<EitherBody<String, BoxBody>> {
    let response = Visit::of_heartbeat(&state.request_log, request.head()).refused(error);
    Response::from(response).map_body(|_, body| EitherBody::right(body))
}

/// Whether the request looks like a heartbeat; without reading all of its path, since that is done for each.
pub(super) fn is_heartbeat(head: &RequestHead) -> bool {
    let path = head.uri.path();
    head.method == Method::POST
        && path.len() == PATH_BYTES
        && path.strip_prefix(AROUND_ID.0).is_some_and(|rest| rest.starts_with(AgentId::PREFIX))
        && path.ends_with(AROUND_ID.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fast_path_is_for_heartbeats_spelt_the_usual_way() {
        assert_eq!(named_by("/api/agents/agent-00f3a1b2c3d4e5f6/heartbeat"), Some(AgentId::new(0x00f3_a1b2_c3d4_e5f6)));
        for other in [
            "/api/agents/agent-00f3a1b2c3d4e5f6/heartbeat/",
            "/api/agents/agent-00f3a1b2c3d4e5f%36/heartbeat",
            "//api/agents/agent-00f3a1b2c3d4e5f6/heartbeat",
            "/api/agents//agent-00f3a1b2c3d4e5f6/heartbeat",
            "/api/agents/agent-00f3a1b2c3d4e5f6",
            "/api/agents/nobody/heartbeat",
            "/api/agents/heartbeat",
            "/",
        ] {
            assert_eq!(named_by(other), None, "{other}");
        }
    }
}

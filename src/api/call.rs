//! What the handler of a route is called with, and what it answers.

use actix_web::{
    HttpRequest, HttpResponse,
    dev::Payload,
    http::{Method, header::HeaderMap},
};
use futures_util::future::LocalBoxFuture;
use serde::de::DeserializeOwned;
use utoipa::openapi::path::Parameter;

use super::{State, auth::Principal, envelope::ApiError, query, refusal::Unproven};
use crate::{
    engine::{Credential, EngineError},
    fleet::AgentId,
};

/// The query strings that a route takes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Query {
    /// None: any is refused.
    Refused,
    /// Any; it is not read.
    Ignored,
    /// One with these parameters.
    Of(fn() -> Vec<Parameter>),
}

/// What a handler answers.
pub(super) type Answer<'a> = LocalBoxFuture<'a, Result<HttpResponse, ApiError>>;

/// An authorised request.
pub(super) struct Call<'a> {
    pub(super) request: &'a HttpRequest,
    pub(super) payload: &'a mut Payload,
    pub(super) state: &'a State,
    pub(super) principal: Principal,
    /// The agent that the path names; none if it names none that there can be.
    pub(super) named: Option<AgentId>,
}

impl Call<'_> {
    pub(super) fn headers(&self) -> &HeaderMap {
        self.request.headers()
    }

    pub(super) fn query<Q: DeserializeOwned>(&self) -> Result<Q, ApiError> {
        query::read(self.request.query_string())
    }

    /// The agent that the request is about. What is not an id is an agent that does not exist.
    pub(super) fn agent(&self) -> Result<AgentId, ApiError> {
        self.named.ok_or(EngineError::NotFound.into())
    }

    /// The credential that an agent's actor checks.
    pub(super) fn credential(&self) -> Result<Credential, ApiError> {
        self.principal.credential().ok_or(ApiError::Unauthorized(Unproven::NoToken))
    }

    /// HEAD hands nothing over, so nothing has been fetched.
    pub(super) fn is_head(&self) -> bool {
        self.request.method() == Method::HEAD
    }
}

//! Who sends a request, and what that one may do.

use std::fmt;

use actix_web::{
    HttpRequest,
    http::header::{AUTHORIZATION, HeaderMap, HeaderValue},
};
use ipnet::IpNet;

use super::{ApiState, envelope::ApiError, peer};
use crate::{
    actors::{EngineError, Proof, token::Token},
    fleet::{AgentId, TokenHash},
};

/// Who may do what.
#[derive(Debug)]
pub struct AuthRules {
    /// Hash of the administrator's token, which may do everything.
    pub admin_token: TokenHash,
    /// Networks from which agents may register without a token.
    pub open_enrollment: Vec<IpNet>,
}

/// Why a request has no valid token. For the log: the client is not told which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// There is none.
    #[error("no token")]
    NoToken,
    /// It is nobody's: neither the administrator's, nor written as agents' are.
    #[error("the token is not the administrator's, nor of the form of an agent's")]
    Malformed,
    /// It is not, or no longer, that of the agent that it names.
    #[error("the token is not, or no longer, that of the agent it names")]
    WrongToken,
    /// It names an agent that is not in the fleet.
    #[error("the token names an agent that is not in the fleet")]
    UnknownAgent,
}

/// Who a request says to be from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// The administrator; checked.
    Admin,
    /// An agent; its actor has yet to check the token.
    Agent {
        /// Whose token it claims to be.
        id: AgentId,
        /// Hash of the token.
        token: TokenHash,
    },
    /// Somebody without a token.
    Anonymous,
}

impl Caller {
    /// Reads the `Authorization` header. One that cannot be anybody's token is refused at once.
    pub(super) fn of(headers: &HeaderMap, rules: &AuthRules) -> Result<Self, ApiError> {
        let Some(header) = headers.get(AUTHORIZATION) else {
            return Ok(Self::Anonymous);
        };
        let token = bearer(header).ok_or(ApiError::Unauthorized(Unproven::Malformed))?;
        let hash = TokenHash::of(token);
        if hash == rules.admin_token {
            return Ok(Self::Admin);
        }
        let id = Token::claimed_agent(token).ok_or(ApiError::Unauthorized(Unproven::Malformed))?;
        Ok(Self::Agent { id, token: hash })
    }

    /// The proof to show to the agent `id`. Who is another agent, or nobody, is refused here.
    pub(super) async fn proof_for(self, id: Option<AgentId>, state: &ApiState) -> Result<Proof, ApiError> {
        match self {
            Self::Admin => Ok(Proof::Admin),
            Self::Agent { id: own, token } if id == Some(own) => Ok(Proof::Token(token)),
            Self::Agent { .. } => Err(self.refusal(state).await),
            Self::Anonymous => Err(ApiError::Unauthorized(Unproven::NoToken)),
        }
    }

    /// Refuses everybody but the administrator.
    pub(super) async fn must_be_admin(self, state: &ApiState) -> Result<(), ApiError> {
        match self {
            Self::Admin => Ok(()),
            Self::Agent { .. } | Self::Anonymous => Err(self.refusal(state).await),
        }
    }

    /// Refuses whoever has no valid token.
    pub(super) async fn check(self, state: &ApiState) -> Result<(), ApiError> {
        match self.must_be_admin(state).await {
            Ok(()) | Err(ApiError::Forbidden(_)) => Ok(()),
            Err(refused) => Err(refused),
        }
    }

    /// 403 if the token is some agent's after all, else 401.
    async fn refusal(self, state: &ApiState) -> ApiError {
        let Self::Agent { id, token } = self else {
            return ApiError::Unauthorized(Unproven::NoToken);
        };
        match state.engine.check_token(id, token).await {
            Ok(()) => ApiError::Forbidden("This token may act for its own agent alone"),
            Err(error) => self.explain(error),
        }
    }

    /// The error to answer with. An agent that is gone has no valid token any more.
    pub(super) fn explain(self, error: EngineError) -> ApiError {
        match (self, error) {
            (Self::Agent { .. }, EngineError::NotFound) => ApiError::Unauthorized(Unproven::UnknownAgent),
            (_, error) => error.into(),
        }
    }
}

impl fmt::Display for Caller {
    /// As the log has it: whose act it was.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admin => f.write_str("admin"),
            Self::Agent { id, .. } => id.fmt(f),
            Self::Anonymous => f.write_str("open enrolment"),
        }
    }
}

/// The token of an `Authorization` header; none if it is of another scheme.
fn bearer(header: &HeaderValue) -> Option<&str> {
    let (scheme, token) = header.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The agent that the token of a request names, be it a valid one or not.
pub(super) fn claimed_agent(headers: &HeaderMap) -> Option<AgentId> {
    Token::claimed_agent(bearer(headers.get(AUTHORIZATION)?)?)
}

/// Lets through whoever has a valid token, the administrator's or an agent's.
pub(super) async fn authenticate(request: &HttpRequest, state: &ApiState) -> Result<(), ApiError> {
    Caller::of(request.headers(), &state.auth)?.check(state).await
}

/// Who registers, if that one may: the administrator, or somebody without a token, who may not take over a machine.
pub(super) async fn may_enrol(request: &HttpRequest, state: &ApiState) -> Result<Caller, ApiError> {
    match Caller::of(request.headers(), &state.auth)? {
        Caller::Admin => Ok(Caller::Admin),
        Caller::Anonymous if peer::is_within(&state.auth.open_enrollment, peer::address(request, state)) => {
            Ok(Caller::Anonymous)
        }
        caller => Err(caller.refusal(state).await),
    }
}

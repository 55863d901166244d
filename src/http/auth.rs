//! Who sends a request, and what that one may do.

use actix_web::{
    HttpRequest,
    http::header::{AUTHORIZATION, HeaderMap},
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
        let (scheme, token) =
            header.to_str().ok().and_then(|header| header.split_once(' ')).ok_or(ApiError::Unauthorized)?;
        let token = token.trim();
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(ApiError::Unauthorized);
        }
        let hash = TokenHash::of(token);
        if hash == rules.admin_token {
            return Ok(Self::Admin);
        }
        let id = Token::claimed_agent(token).ok_or(ApiError::Unauthorized)?;
        Ok(Self::Agent { id, token: hash })
    }

    /// The proof to show to the agent `id`. Who is another agent, or nobody, is refused here.
    pub(super) async fn proof_for(self, id: Option<AgentId>, state: &ApiState) -> Result<Proof, ApiError> {
        match self {
            Self::Admin => Ok(Proof::Admin),
            Self::Agent { id: own, token } if id == Some(own) => Ok(Proof::Token(token)),
            Self::Agent { .. } => Err(self.refusal(state).await),
            Self::Anonymous => Err(ApiError::Unauthorized),
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
            return ApiError::Unauthorized;
        };
        match state.engine.is_token_of(id, token).await {
            Ok(true) => ApiError::Forbidden("This token may act for its own agent alone"),
            Ok(false) => ApiError::Unauthorized,
            Err(error) => error.into(),
        }
    }

    /// The error to answer with. An agent that is gone has no valid token any more.
    pub(super) fn explain(self, error: EngineError) -> ApiError {
        match (self, error) {
            (Self::Agent { .. }, EngineError::NotFound) => ApiError::Unauthorized,
            (_, error) => error.into(),
        }
    }
}

/// Lets through whoever has a valid token, the administrator's or an agent's.
pub(super) async fn authenticate(request: &HttpRequest, state: &ApiState) -> Result<(), ApiError> {
    Caller::of(request.headers(), &state.auth)?.check(state).await
}

/// Whether the request may register, and whether it has a token: one without may not take over a machine.
pub(super) async fn may_enrol(request: &HttpRequest, state: &ApiState) -> Result<bool, ApiError> {
    match Caller::of(request.headers(), &state.auth)? {
        Caller::Admin => Ok(true),
        Caller::Anonymous if peer::is_within(&state.auth.open_enrollment, peer::address(request, state)) => Ok(false),
        caller => Err(caller.refusal(state).await),
    }
}

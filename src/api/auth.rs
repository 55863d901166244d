//! The principal of a request, and what it may do.

use std::{fmt, net::SocketAddr};

use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use ipnet::IpNet;

use super::{ApiState, envelope::ApiError, peer, refusal::Unproven};
use crate::{
    engine::{Credential, EngineError, token::Token},
    fleet::{AgentId, TokenHash},
};

#[derive(Debug)]
pub struct AuthRules {
    /// Hash of the administrator's token, which may do everything.
    pub admin_token: TokenHash,
    /// Networks from which agents may register without a token.
    pub open_enrollment: Vec<IpNet>,
}

/// Who a request claims to be from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Principal {
    /// The administrator; checked.
    Admin,
    /// An agent; its actor has yet to check the token.
    Agent {
        /// The agent that the token names.
        id: AgentId,
        token: TokenHash,
    },
    /// Somebody without a token.
    Anonymous,
}

impl Principal {
    /// Reads the `Authorization` header. One that cannot be anybody's token is refused at once.
    pub(super) fn of(headers: &HeaderMap, rules: &AuthRules) -> Result<Self, ApiError> {
        let Some(header) = headers.get(AUTHORIZATION) else {
            return Ok(Self::Anonymous);
        };
        let token = header.to_str().ok().and_then(bearer);
        Self::with_token(token.ok_or(ApiError::Unauthorized(Unproven::Malformed))?, rules)
    }

    /// Whose token this is. One that cannot be anybody's is refused at once.
    pub(super) fn with_token(token: &str, rules: &AuthRules) -> Result<Self, ApiError> {
        let hash = TokenHash::of(token);
        if hash == rules.admin_token {
            return Ok(Self::Admin);
        }
        let id = Token::claimed_agent(token).ok_or(ApiError::Unauthorized(Unproven::Malformed))?;
        Ok(Self::Agent { id, token: hash })
    }

    /// The agent that the token names.
    pub(super) fn agent(self) -> Option<AgentId> {
        match self {
            Self::Agent { id, .. } => Some(id),
            Self::Admin | Self::Anonymous => None,
        }
    }

    /// The credential that an agent's actor checks; none without a token.
    pub(super) fn credential(self) -> Option<Credential> {
        match self {
            Self::Admin => Some(Credential::Admin),
            Self::Agent { token, .. } => Some(Credential::Token(token)),
            Self::Anonymous => None,
        }
    }

    /// Refuses whoever has no valid token.
    pub(super) async fn check(self, state: &ApiState) -> Result<(), ApiError> {
        match self {
            Self::Admin => Ok(()),
            Self::Agent { .. } | Self::Anonymous => match self.refusal(state).await {
                ApiError::Forbidden(_) => Ok(()),
                refused => Err(refused),
            },
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

impl fmt::Display for Principal {
    /// As the log names it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admin => f.write_str("admin"),
            Self::Agent { id, .. } => id.fmt(f),
            Self::Anonymous => f.write_str("open enrolment"),
        }
    }
}

/// The token of an `Authorization` header; none if it is of another scheme.
pub(super) fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The agent that the token of a request names, be it a valid one or not.
pub(super) fn claimed_agent(headers: &HeaderMap) -> Option<AgentId> {
    Token::claimed_agent(bearer(headers.get(AUTHORIZATION)?.to_str().ok()?)?)
}

/// Who may use a route. Anybody else gets 401 without a valid token, else 403.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Anybody; tokens are not checked.
    Anybody,
    /// The administrator, or anybody in a network of `auth.open_enrollment`.
    Registration,
    /// Anybody with a valid token.
    AnyToken,
    /// The administrator, or an agent about itself; its actor has yet to check the token.
    Own,
    /// The administrator, or the agent that the path names; its actor has yet to check the token.
    Agent,
    Admin,
}

impl Access {
    /// The principal of a request about `named`, if it is authorised.
    pub(super) async fn authorize(
        self,
        headers: &HeaderMap,
        peer: Option<SocketAddr>,
        named: Option<AgentId>,
        state: &ApiState,
    ) -> Result<Principal, ApiError> {
        if self == Self::Anybody {
            return Ok(Principal::Anonymous);
        }
        let principal = Principal::of(headers, &state.auth)?;
        let may = match (self, principal) {
            (Self::AnyToken, Principal::Agent { .. }) => return principal.check(state).await.map(|()| principal),
            (Self::Registration, Principal::Anonymous) => {
                let from = peer::client(peer, headers, &state.trusted_proxies, state.forwarded_header);
                peer::is_within(&state.auth.open_enrollment, from)
            }
            _ => self.allows(principal, named),
        };
        if may { Ok(principal) } else { Err(principal.refusal(state).await) }
    }

    /// Whether this principal is authorised, as far as that can be seen without looking anything up.
    pub(super) fn allows(self, principal: Principal, named: Option<AgentId>) -> bool {
        match (self, principal) {
            (Self::Anybody, _) | (_, Principal::Admin) | (Self::Own, Principal::Agent { .. }) => true,
            (Self::Agent, Principal::Agent { id, .. }) => named == Some(id),
            (Self::Registration | Self::AnyToken | Self::Admin, Principal::Agent { .. })
            | (Self::Registration | Self::AnyToken | Self::Own | Self::Agent | Self::Admin, Principal::Anonymous) => {
                false
            }
        }
    }
}

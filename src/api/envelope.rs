//! The response envelope, and the one mapping of errors to statuses.
//!
//! Every response is `{"ok":true,"data":…}` or `{"ok":false,"error":"one clear sentence"}`. A client error names what is
//! wrong with the request. A server error tells the client what to do; the cause goes to the log.

use actix_web::{
    HttpResponse, ResponseError,
    body::EitherBody,
    dev::ServiceResponse,
    http::{
        StatusCode,
        header::{self, ContentType},
    },
};
use serde::Serialize;
use utoipa::{
    ToSchema,
    openapi::schema::{Object, ObjectBuilder, Type},
};

use super::refusal::{Kind, Refusal, Unproven};
use crate::{
    engine::{EngineError, token::random_u64},
    events::TooManyStreams,
    limits::RETRY_AFTER_SECONDS,
    store::StoreError,
};

/// Why a request is not answered with 2xx.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// 400: malformed or out of range.
    #[error("{0}")]
    BadRequest(String),
    /// 401: no token, or a wrong one; the client does not learn which.
    #[error("Unauthorized")]
    Unauthorized(Unproven),
    /// 403: a valid token that may not do this.
    #[error("{0}")]
    Forbidden(&'static str),
    /// 404.
    #[error("{0}")]
    NotFound(&'static str),
    /// 404: there is nothing under this path.
    #[error("{0}")]
    NoSuchPath(String),
    /// 405: the path does not have this method.
    #[error("Method not allowed; this path answers {allow}")]
    MethodNotAllowed {
        /// The methods it has.
        allow: String,
    },
    /// 408: the body did not arrive in time.
    #[error("The body did not arrive in time")]
    BodyTimeout,
    /// 409.
    #[error("{0}")]
    Conflict(String),
    /// 413.
    #[error("The body is larger than {most} bytes")]
    BodyTooLarge { most: usize },
    /// 415.
    #[error("The body must be sent with Content-Type: {expected}")]
    WrongMediaType { expected: &'static str },
    /// 415: compressed, or otherwise encoded, in a way that is not read here.
    #[error("The body has Content-Encoding: {encoding}; only {accepted} is read here")]
    WrongEncoding {
        /// What it is announced to have.
        encoding: String,
        /// What it may have.
        accepted: &'static str,
    },
    /// 431.
    #[error("The head of the request is too large")]
    HeadTooLarge,
    /// 503: the same request may succeed later.
    #[error("{0}")]
    Unavailable(&'static str),
}

/// How every success looks.
#[derive(Serialize)]
pub(super) struct Success<T> {
    ok: bool,
    data: T,
}

impl<T> Success<T> {
    pub(super) const fn of(data: T) -> Self {
        Self { ok: true, data }
    }
}

/// A boolean that is always this one, in the document.
pub(super) fn always<const VALUE: bool>() -> Object {
    ObjectBuilder::new().schema_type(Type::Boolean).enum_values(Some([VALUE])).build()
}

/// How every failure looks.
#[derive(Serialize, ToSchema)]
pub(super) struct Failure {
    #[schema(schema_with = always::<false>)]
    ok: bool,
    /// What is wrong, in one sentence. That of a wrong input names the field.
    error: String,
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) | Self::NoSuchPath(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::WrongMediaType { .. } | Self::WrongEncoding { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        match self {
            Self::Unauthorized(_) => {
                response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
            }
            Self::MethodNotAllowed { allow } => {
                response.insert_header((header::ALLOW, &**allow));
            }
            Self::Unavailable(_) => {
                response.insert_header((header::RETRY_AFTER, retry_after_seconds()));
            }
            Self::WrongEncoding { accepted, .. } => {
                response.insert_header((header::ACCEPT_ENCODING, *accepted));
            }
            Self::BodyTimeout | Self::BodyTooLarge { .. } => {
                // The rest of the body may still be on its way; it is not worth reading.
                response.force_close();
            }
            Self::BadRequest(_)
            | Self::Forbidden(_)
            | Self::NotFound(_)
            | Self::NoSuchPath(_)
            | Self::Conflict(_)
            | Self::WrongMediaType { .. }
            | Self::HeadTooLarge => {}
        }
        let mut response = response.json(Failure { ok: false, error: self.to_string() });
        response.extensions_mut().insert(self.refusal());
        response
    }
}

impl ApiError {
    /// The reason, for the log.
    fn refusal(&self) -> Refusal {
        let kind = match self {
            Self::BadRequest(_) => Kind::BadRequest,
            Self::Unauthorized(unproven) => {
                let kind = match unproven {
                    Unproven::NoToken => Kind::NoToken,
                    Unproven::Malformed => Kind::MalformedToken,
                    Unproven::WrongToken => Kind::WrongToken,
                    Unproven::UnknownAgent => Kind::UnknownAgent,
                };
                return Refusal { kind, reason: unproven.to_string() };
            }
            Self::Forbidden(_) => Kind::Forbidden,
            Self::NotFound(_) => Kind::AgentNotFound,
            Self::NoSuchPath(_) => Kind::NoSuchPath,
            Self::MethodNotAllowed { .. } => Kind::WrongMethod,
            Self::BodyTimeout => Kind::BodyTimeout,
            Self::Conflict(_) => Kind::Conflict,
            Self::BodyTooLarge { .. } => Kind::BodyTooLarge,
            Self::WrongMediaType { .. } | Self::WrongEncoding { .. } => Kind::WrongMediaType,
            Self::HeadTooLarge => Kind::MalformedHttp,
            Self::Unavailable(_) => Kind::Unavailable,
        };
        Refusal { kind, reason: self.to_string() }
    }
}

/// `Retry-After`, with jitter.
fn retry_after_seconds() -> u32 {
    let (least, most) = RETRY_AFTER_SECONDS.into_inner();
    least + (random_u64() % u64::from(most - least + 1)) as u32
}

/// Rewrites an error response of the framework's own, such as a refused CORS preflight, into the envelope.
pub(super) fn in_our_words<B>(answer: ServiceResponse<B>) -> ServiceResponse<EitherBody<B>> {
    let theirs = answer.response().error().filter(|error| error.as_error::<ApiError>().is_none());
    let Some(error) = theirs.filter(|_| answer.status().is_client_error()) else {
        return answer.map_into_left_body();
    };
    let mut response = ApiError::BadRequest(error.to_string()).error_response();
    *response.status_mut() = answer.status();
    for (name, value) in answer.headers().iter().filter(|(name, _)| *name != header::CONTENT_TYPE) {
        response.headers_mut().append(name.clone(), value.clone());
    }
    answer.into_response(response).map_into_right_body()
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::NotFound => Self::NotFound("Agent not found"),
            EngineError::WrongToken => Self::Unauthorized(Unproven::WrongToken),
            EngineError::FleetFull(_) | EngineError::MachineTaken | EngineError::PoliciesFull(_) => {
                Self::Conflict(sentence(&error))
            }
            EngineError::Store(StoreError::Overloaded) => {
                Self::Unavailable("Too many changes are waiting to be stored; try again later")
            }
            EngineError::Store(error) => {
                // The store logs it once; this is for debugging single requests.
                tracing::debug!(%error, "a request was refused because the store cannot be used");
                Self::Unavailable("The store cannot be written to now; try again later")
            }
            EngineError::ThreatsLoading => Self::Unavailable("The threat history is being loaded; try again later"),
            EngineError::Unresponsive => {
                tracing::error!("an agent's actor or its shard did not answer");
                Self::Unavailable("The agent cannot be reached now; try again later")
            }
        }
    }
}

impl From<TooManyStreams> for ApiError {
    fn from(TooManyStreams: TooManyStreams) -> Self {
        Self::Unavailable("Too many event streams are open; try again later")
    }
}

/// Capitalises the first letter.
fn sentence(error: &EngineError) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// A response of this status with this `data`.
pub(super) fn data(status: StatusCode, data: &impl Serialize) -> HttpResponse {
    whole(status, &Success::of(data))
}

/// A response of this status with a body that has its own envelope.
pub(super) fn whole(status: StatusCode, answer: &impl Serialize) -> HttpResponse {
    json_response(status, serde_json::to_vec(answer).expect("an answer has only string keys"))
}

pub(super) fn json_response(status: StatusCode, body: impl actix_web::body::MessageBody + 'static) -> HttpResponse {
    HttpResponse::build(status).insert_header(ContentType::json()).body(body)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn clients_refused_together_get_different_retry_times() {
        let delays: BTreeSet<u32> = (0..1_000)
            .map(|_| {
                let response = ApiError::Unavailable("later").error_response();
                response.headers().get(header::RETRY_AFTER).unwrap().to_str().unwrap().parse().unwrap()
            })
            .collect();
        assert_eq!(delays, RETRY_AFTER_SECONDS.collect());
    }
}

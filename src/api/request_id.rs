//! The id of a request: the client's own or a new one, in every response and in the log.

use actix_web::{
    HttpMessage as _, HttpRequest,
    http::header::{HeaderName, HeaderValue},
};
use uuid::Uuid;

pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id of a request; in its extensions too.
#[derive(Clone, Debug)]
pub(super) struct RequestId(HeaderValue);

impl RequestId {
    /// The client's if it is a UUID, else a new one.
    pub(super) fn given_or_new(given: Option<&[u8]>) -> Self {
        if let Some(given) = given
            && given.len() == uuid::fmt::Hyphenated::LENGTH
            && Uuid::try_parse_ascii(given).is_ok()
            && let Ok(given) = HeaderValue::from_bytes(given)
        {
            return Self(given);
        }
        let mut text = Uuid::encode_buffer();
        let text = Uuid::new_v4().hyphenated().encode_lower(&mut text);
        Self(HeaderValue::from_str(text).expect("a UUID is ASCII"))
    }

    pub(super) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    pub(super) fn into_header(self) -> HeaderValue {
        self.0
    }
}

/// The id of a request that has passed admission control, as text.
pub(super) fn request_id_of(request: &HttpRequest) -> String {
    request.extensions().get::<RequestId>().map_or(String::new(), |id| id.as_str().to_owned())
}

//! What every request passes through: the phase of the process, the bound on requests under way, and the headers that
//! every response carries.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use actix_http::{Request, Response};
use actix_web::{
    Error, ResponseError,
    body::{BodySize, BoxBody, EitherBody, MessageBody},
    dev::{AppConfig, Service, ServiceFactory},
    http::{
        ConnectionType, Version,
        header::{
            HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
            X_FRAME_OPTIONS,
        },
    },
};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use pin_project_lite::pin_project;
use uuid::Uuid;

use super::envelope::ApiError;
use crate::lifecycle::{InFlight, InFlightGuard, Lifecycle, Phase};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Makes the guard of each worker.
#[derive(Clone, Debug)]
pub struct Gate {
    /// Where the process stands.
    pub lifecycle: Arc<Lifecycle>,
    /// Requests under way on one worker; one more is answered 503.
    pub max_in_flight: usize,
    /// Whether the listener speaks TLS.
    pub tls: bool,
    /// Paths that are answered in every phase.
    pub always_open: &'static [&'static str],
}

impl Gate {
    /// Lets requests through it to what `inner` makes.
    pub fn around<F>(self, inner: F) -> Gated<F> {
        Gated { gate: self, inner }
    }
}

/// What is behind a gate.
#[derive(Debug)]
pub struct Gated<F> {
    gate: Gate,
    inner: F,
}

impl<F, B> ServiceFactory<Request> for Gated<F>
where
    F: ServiceFactory<Request, Config = AppConfig, Response = Response<B>, Error = Error, InitError = ()>,
    F::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = Response<Answer<B>>;
    type Error = Error;
    type Config = AppConfig;
    type Service = Guarded<F::Service>;
    type InitError = ();
    type Future = LocalBoxFuture<'static, Result<Self::Service, ()>>;

    fn new_service(&self, config: AppConfig) -> Self::Future {
        let (gate, service) = (self.gate.clone(), self.inner.new_service(config));
        Box::pin(async move {
            let in_flight = gate.lifecycle.add_worker();
            Ok(Guarded { service: service.await?, gate, in_flight })
        })
    }
}

/// The guard of one worker.
#[derive(Debug)]
pub struct Guarded<S> {
    service: S,
    gate: Gate,
    in_flight: Arc<InFlight>,
}

impl<S> Guarded<S> {
    fn refusal(&self, path: &str) -> Option<ApiError> {
        let refusal = match self.gate.lifecycle.phase() {
            Phase::Starting => "The fleet is being loaded; try again later",
            Phase::Draining => "The server is shutting down; try again later",
            Phase::Serving if self.in_flight.count() > self.gate.max_in_flight => {
                "Too many requests at once; try again later"
            }
            Phase::Serving => return None,
        };
        (!self.gate.always_open.contains(&path)).then_some(ApiError::Unavailable(refusal))
    }
}

impl<S, B> Service<Request> for Guarded<S>
where
    S: Service<Request, Response = Response<B>, Error = Error>,
    B: MessageBody,
{
    type Response = Response<Answer<B>>;
    type Error = Error;
    type Future = Answering<S::Future, B>;

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&self, request: Request) -> Self::Future {
        let request_id = request_id(&request.head().headers);
        let tls = self.gate.tls;
        // Counted first: who drains must not find nobody under way and one let in a moment later.
        let in_flight = Some(self.in_flight.begin());
        if let Some(refusal) = self.refusal(request.path()) {
            let mut response: Response<BoxBody> = refusal.error_response().into();
            if self.gate.lifecycle.phase() == Phase::Draining && request.version() < Version::HTTP_2 {
                response.head_mut().set_connection_type(ConnectionType::Close);
            }
            let response = response.map_body(|_, body| EitherBody::right(body));
            return Answering {
                inner: Inner::Refused { response: Some(response) },
                request_id: Some(request_id),
                tls,
                in_flight: None,
            };
        }
        Answering {
            inner: Inner::Called { answer: self.service.call(request) },
            request_id: Some(request_id),
            tls,
            in_flight,
        }
    }
}

/// The body of an answer: the service's, counted until it has been sent, or that of a refusal.
pub type Answer<B> = EitherBody<Counted<B>, BoxBody>;

/// In the extensions of a response: its body has no end of its own. It does not count as a request under way, or it
/// would take a place for ever and hold up the end of the process.
#[derive(Clone, Copy, Debug)]
pub struct Endless;

pin_project! {
    /// A body that counts as a request under way until it has been sent.
    pub struct Counted<B> {
        #[pin]
        body: B,
        in_flight: Option<InFlightGuard>,
    }
}

impl<B: MessageBody> MessageBody for Counted<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, B::Error>>> {
        self.project().body.poll_next(cx)
    }

    fn try_into_bytes(self) -> Result<Bytes, Self> {
        let Self { body, in_flight } = self;
        body.try_into_bytes().map_err(|body| Self { body, in_flight })
    }
}

pin_project! {
    /// A request on its way through.
    pub struct Answering<F, B> {
        #[pin]
        inner: Inner<F, B>,
        request_id: Option<HeaderValue>,
        tls: bool,
        in_flight: Option<InFlightGuard>,
    }
}

pin_project! {
    #[project = InnerProjection]
    enum Inner<F, B> {
        Called { #[pin] answer: F },
        Refused { response: Option<Response<Answer<B>>> },
    }
}

impl<F, B> Future for Answering<F, B>
where
    F: Future<Output = Result<Response<B>, Error>>,
    B: MessageBody,
{
    type Output = Result<Response<Answer<B>>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = match this.inner.project() {
            InnerProjection::Called { answer } => {
                let in_flight = this.in_flight.take();
                match answer.poll(cx) {
                    Poll::Ready(response) => {
                        let response = response?;
                        let in_flight = in_flight.filter(|_| !response.extensions().contains::<Endless>());
                        response.map_body(|_, body| EitherBody::left(Counted { body, in_flight }))
                    }
                    Poll::Pending => {
                        *this.in_flight = in_flight;
                        return Poll::Pending;
                    }
                }
            }
            InnerProjection::Refused { response } => response.take().expect("a future is not polled after its end"),
        };
        let headers = response.headers_mut();
        if let Some(request_id) = this.request_id.take() {
            headers.insert(X_REQUEST_ID, request_id);
        }
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        if *this.tls {
            headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
        }
        Poll::Ready(Ok(response))
    }
}

/// The id of the request: the client's if it is a UUID, else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    if let Some(given) = headers.get(&X_REQUEST_ID)
        && given.len() == uuid::fmt::Hyphenated::LENGTH
        && Uuid::try_parse_ascii(given.as_bytes()).is_ok()
    {
        return given.clone();
    }
    let mut text = Uuid::encode_buffer();
    let text = Uuid::new_v4().hyphenated().encode_lower(&mut text);
    HeaderValue::from_str(text).expect("a UUID is ASCII")
}

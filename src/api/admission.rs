//! Admission control, which every request passes: the phase of the process, the bound on requests in flight, and the
//! headers that every response carries.

use std::{
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
};

use actix_http::{HttpMessage, Payload, Request, Response};
use actix_web::{
    Error, ResponseError,
    body::{BodySize, BoxBody, EitherBody, MessageBody},
    dev::{AppConfig, Service, ServiceFactory},
    http::{
        ConnectionType, StatusCode, Version,
        header::{
            HeaderName, HeaderValue, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
            X_FRAME_OPTIONS,
        },
    },
};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use pin_project_lite::pin_project;

use super::{
    envelope::ApiError,
    fast_path,
    lifecycle::{Endless, InFlight, Lifecycle, Phase, RequestGuard},
    refusal::Refusal,
    request_id::{RequestId, X_REQUEST_ID},
    request_log::{RequestLog, Visit},
    routes::Listener,
};
use crate::front::{Connection, HeadTooLarge, InFlightRequest};

/// What every response carries, beside its own headers and the request's id.
const COMMON_HEADERS: [(HeaderName, &str); 3] =
    [(X_CONTENT_TYPE_OPTIONS, "nosniff"), (X_FRAME_OPTIONS, "DENY"), (REFERRER_POLICY, "no-referrer")];
/// And over TLS.
const SECURE_HEADER: (HeaderName, &str) = (STRICT_TRANSPORT_SECURITY, "max-age=31536000");

fn common_headers(tls: bool) -> impl Iterator<Item = (HeaderName, &'static str)> {
    COMMON_HEADERS.into_iter().chain(tls.then_some(SECURE_HEADER))
}

/// Writes the headers that every response carries, as they are sent.
pub(super) fn write_common_headers(tls: bool, out: &mut Vec<u8>) {
    for (name, value) in common_headers(tls) {
        out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
}

/// Creates the admission control of each worker.
#[derive(Clone, Debug)]
pub struct Admission {
    pub lifecycle: Arc<Lifecycle>,
    pub request_log: RequestLog,
    pub listener: Listener,
    /// Requests in flight on one worker; one more is answered 503.
    pub max_in_flight: usize,
    pub tls: bool,
    /// Paths that are answered in every phase.
    pub always_open: &'static [&'static str],
}

impl Admission {
    /// Wraps the service that `inner` creates; the worker's requests in flight are counted in `in_flight`.
    pub fn around<F>(self, inner: F, in_flight: Arc<InFlight>) -> Admitting<F> {
        Admitting { admission: self, inner, in_flight }
    }

    /// The whole response to a heartbeat that did not come through here and is refused.
    #[cold]
    pub(super) fn refused(
        &self,
        visit: Box<Visit>,
        error: &ApiError,
        request_id: RequestId,
        closes: bool,
        in_flight: RequestGuard,
    ) -> Response<BoxBody> {
        let progress = InProgress {
            request_id,
            visit: Some(visit),
            tls: self.tls,
            closing: if closes { Closing::Always } else { Closing::Open },
            held: Held { connection: None, in_flight: Some(in_flight) },
        };
        let response: Response<BoxBody> = error.error_response().into();
        progress.complete(response).map_into_boxed_body()
    }
}

/// A service factory behind admission control.
#[derive(Debug)]
pub struct Admitting<F> {
    admission: Admission,
    inner: F,
    in_flight: Arc<InFlight>,
}

impl<F, B> ServiceFactory<Request> for Admitting<F>
where
    F: ServiceFactory<Request, Config = AppConfig, Response = Response<B>, Error = Error, InitError = ()>,
    F::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = Response<Answer<B>>;
    type Error = Error;
    type Config = AppConfig;
    type Service = AdmissionService<F::Service>;
    type InitError = ();
    type Future = LocalBoxFuture<'static, Result<Self::Service, ()>>;

    fn new_service(&self, config: AppConfig) -> Self::Future {
        let Self { admission, inner, in_flight } = self;
        let (admission, service, in_flight) = (admission.clone(), inner.new_service(config), in_flight.clone());
        Box::pin(async move { Ok(AdmissionService { service: service.await?, admission, in_flight }) })
    }
}

/// Admission control of one worker.
#[derive(Debug)]
pub struct AdmissionService<S> {
    service: S,
    admission: Admission,
    in_flight: Arc<InFlight>,
}

impl<S> AdmissionService<S> {
    fn refusal(&self, request: &Request) -> Option<ApiError> {
        // On HTTP/1 the parser has refused such a head already.
        if request.version() == Version::HTTP_2 && request.extensions().contains::<HeadTooLarge>() {
            return Some(ApiError::HeadTooLarge);
        }
        let refusal = match self.admission.lifecycle.phase() {
            Phase::Starting => "The fleet is being loaded; try again later",
            Phase::Draining => "The server is shutting down; try again later",
            Phase::Serving if self.in_flight.being_handled() > self.admission.max_in_flight => {
                "Too many requests at once; try again later"
            }
            Phase::Serving => return None,
        };
        (!self.admission.always_open.contains(&request.path())).then_some(ApiError::Unavailable(refusal))
    }
}

impl<S, B> Service<Request> for AdmissionService<S>
where
    S: Service<Request, Response = Response<B>, Error = Error>,
    B: MessageBody + 'static,
{
    type Response = Response<Answer<B>>;
    type Error = Error;
    type Future = Answering<S::Future, B>;

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&self, mut request: Request) -> Self::Future {
        let wants_body = !matches!(request.payload(), Payload::None);
        let connection = request.conn_data::<Rc<Connection>>();
        if connection.is_some_and(|connection| connection.is_closing()) {
            return Answering { inner: Inner::Never, progress: None };
        }
        let Admission { request_log, listener, .. } = &self.admission;
        let mut progress = InProgress {
            request_id: RequestId::given_or_new(request.head().headers.get(&X_REQUEST_ID).map(HeaderValue::as_bytes)),
            visit: None,
            tls: self.admission.tls,
            closing: Closing::of(&request),
            held: Held {
                connection: connection.map(|connection| connection.begin(wants_body)),
                // Counted before the phase is read: a drain must not see zero in flight and then have one more admitted.
                in_flight: Some(self.in_flight.begin()),
            },
        };
        // Heartbeats have no log record; one that is refused brings its own.
        if *listener != Listener::Api || !fast_path::is_heartbeat(request.head()) {
            request.extensions_mut().insert(progress.request_id.clone());
            progress.visit = Some(Visit::begin(request_log, *listener, request.head()));
        }
        match self.refusal(&request) {
            Some(refusal) => {
                let response: Response<BoxBody> = refusal.error_response().into();
                if self.admission.lifecycle.phase() == Phase::Draining {
                    progress.closing = progress.closing.now();
                }
                progress.visit.get_or_insert_with(|| Visit::of_heartbeat(request_log, request.head()));
                let response = Some(response.map_body(|_, body| EitherBody::right(body)));
                Answering { inner: Inner::Refused { response }, progress: Some(progress) }
            }
            None => Answering { inner: Inner::Called { answer: self.service.call(request) }, progress: Some(progress) },
        }
    }
}

/// The body of a response, the service's or a refusal's; in flight until it has been sent.
pub type Answer<B> = Counted<EitherBody<B, BoxBody>>;

/// What a request holds until its answer has been sent.
#[derive(Debug)]
struct Held {
    connection: Option<InFlightRequest>,
    in_flight: Option<RequestGuard>,
}

pin_project! {
    /// A body that counts as a request in flight until it has been sent.
    pub struct Counted<B> {
        #[pin]
        body: B,
        held: Held,
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
}

/// When a connection is closed after a response.
#[derive(Clone, Copy, Debug)]
enum Closing {
    /// HTTP/2: GOAWAY closes connections.
    Never,
    /// After any response.
    Always,
    /// After an error: the rest of a chunked body has no known end.
    OnError,
    /// The client may go on.
    Open,
}

impl Closing {
    fn of(request: &Request) -> Self {
        match request.version() {
            Version::HTTP_2 => Self::Never,
            Version::HTTP_11 if request.head().connection_type() == ConnectionType::Close => Self::Always,
            Version::HTTP_11 if request.chunked().unwrap_or(false) => Self::OnError,
            Version::HTTP_11 => Self::Open,
            _ => Self::Always,
        }
    }

    /// After this response, if the protocol closes connections so.
    fn now(self) -> Self {
        match self {
            Self::Never => Self::Never,
            Self::Always | Self::OnError | Self::Open => Self::Always,
        }
    }
}

#[derive(Debug)]
struct InProgress {
    request_id: RequestId,
    /// Its log record; none for a heartbeat.
    visit: Option<Box<Visit>>,
    tls: bool,
    closing: Closing,
    held: Held,
}

impl InProgress {
    /// Adds the headers that every response carries.
    fn complete<B: MessageBody>(self, mut response: Response<B>) -> Response<Counted<B>> {
        let Self { request_id, visit, tls, closing, mut held } = self;
        let closes = match closing {
            Closing::Never | Closing::Open => false,
            Closing::Always => true,
            Closing::OnError => response.status().as_u16() >= 400,
        };
        if closes {
            response.head_mut().set_connection_type(ConnectionType::Close);
            if let Some(under_way) = &held.connection {
                under_way.connection().close_after_answer();
            }
        }
        // The handler holds its permit until here; a response that nobody reads must not keep it.
        held.in_flight =
            held.in_flight.filter(|_| !response.extensions().contains::<Endless>()).map(RequestGuard::handled);
        if visit.is_some() || response.status() != StatusCode::OK {
            record(visit, &request_id, &mut response);
        }
        let headers = response.headers_mut();
        headers.insert(X_REQUEST_ID, request_id.into_header());
        for (name, value) in common_headers(tls) {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response.map_body(|_, body| Counted { body, held })
    }
}

pin_project! {
    /// The response to a request in flight.
    pub struct Answering<F, B> {
        #[pin]
        inner: Inner<F, B>,
        progress: Option<InProgress>,
    }
}

pin_project! {
    #[project = InnerProjection]
    enum Inner<F, B> {
        Called { #[pin] answer: F },
        Refused { response: Option<Response<EitherBody<B, BoxBody>>> },
        // The last response of its connection has been given: this request ends with the connection.
        Never,
    }
}

impl<F, B> Future for Answering<F, B>
where
    F: Future<Output = Result<Response<B>, Error>>,
    B: MessageBody + 'static,
{
    type Output = Result<Response<Answer<B>>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = match this.inner.project() {
            InnerProjection::Called { answer } => ready!(answer.poll(cx))?.map_body(|_, body| EitherBody::left(body)),
            InnerProjection::Refused { response } => response.take().expect("a future is not polled after its end"),
            InnerProjection::Never => return Poll::Pending,
        };
        let progress = this.progress.take().expect("a future is not polled after its end");
        Poll::Ready(Ok(progress.complete(response)))
    }
}

/// Counts and logs a request whose response is ready.
fn record<B>(visit: Option<Box<Visit>>, request_id: &RequestId, response: &mut Response<B>) {
    let status = response.status();
    let mut extensions = response.extensions_mut();
    let refusal = extensions.remove::<Refusal>();
    if let Some(visit) = visit.or_else(|| extensions.remove::<Box<Visit>>()) {
        visit.end(request_id.as_str(), status, refusal);
    }
}

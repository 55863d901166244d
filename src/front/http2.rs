//! HTTP/2, over the `h2` crate: the same service as for HTTP/1, and bounds on all that a peer may make a connection hold.
//!
//! actix-http's own HTTP/2 sets none of them: neither on streams, nor on headers after decoding, nor on how long an answer
//! may wait for its reader. Here all streams of a connection are served by the connection's own task, so they end with it.

mod heads;

use std::{
    cell::{Cell, RefCell},
    cmp,
    future::poll_fn,
    net::SocketAddr,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use actix_http::{Request, Response, error::PayloadError};
use actix_service::Service;
use actix_web::{
    Error,
    body::{BodySize, MessageBody},
};
use bytes::Bytes;
use futures_util::{FutureExt, Stream, StreamExt, stream::FuturesUnordered};
use h2::{
    RecvStream, SendStream,
    server::{Builder, SendResponse},
};
use tokio::time::Instant;

pub use self::heads::HeadTooLarge;
use self::heads::{read_head, write_head};
use super::{
    connection::Connection,
    stream::Observed,
    times::{ConnectionPhase, Cut, Tick, ticks},
    worker::Worker,
};
use crate::limits::{
    ANSWER_TIMEOUT_MS, HTTP2_CHUNK_BYTES, HTTP2_HEAD_MAX_BYTES, HTTP2_LARGE_WINDOW_BYTES, HTTP2_LARGE_WINDOWS_MAX,
    HTTP2_PACE_BYTES, HTTP2_RESETS_MAX, HTTP2_SEND_BUFFER_BYTES, HTTP2_STREAMS_FAIR, HTTP2_STREAMS_MAX,
    HTTP2_STREAMS_OF_WORKER_MAX, HTTP2_TURN_STREAMS, HTTP2_WINDOW_BYTES, LINGER_MS,
};

/// Serves the connection until it ends.
pub(super) async fn serve<S, B>(
    io: Observed,
    connection: &Rc<Connection>,
    worker: &Worker,
    service: &Rc<S>,
    peer: Option<SocketAddr>,
) -> Option<()>
where
    S: Service<Request, Response = Response<B>, Error = Error>,
    B: MessageBody,
{
    connection.enter(ConnectionPhase::Head);
    let Ok(mut http2) = builder().handshake::<_, Bytes>(io).await else {
        worker.count(Cut::ProtocolError);
        return None;
    };
    connection.takes_notice();
    let progress = Progress::new(connection);
    let mut large_window = None;
    let mut is_dismissed = false;
    let mut streams = FuturesUnordered::new();
    let mut accepted_in_turn = 0;
    loop {
        tokio::select! {
            accepted = http2.accept() => {
                let Ok((request, mut respond)) = accepted? else {
                    worker.count(Cut::ProtocolError);
                    return None;
                };
                let is_crowded = worker.streams.count() >= HTTP2_STREAMS_OF_WORKER_MAX;
                if is_crowded && connection.under_way() >= HTTP2_STREAMS_FAIR {
                    // Nothing was done: the client may try again.
                    respond.send_reset(h2::Reason::REFUSED_STREAM);
                    continue;
                }
                let open = worker.streams.add();
                let wants_body = !request.body().is_end_stream();
                if large_window.is_none()
                    && worker.large_windows.count() < HTTP2_LARGE_WINDOWS_MAX
                    && wants_body
                    && has_large_body(request.headers())
                {
                    // Kept to the end of the connection: what has been granted cannot be taken back.
                    large_window = Some(worker.large_windows.add());
                    http2.set_target_window_size(HTTP2_LARGE_WINDOW_BYTES);
                }
                let under_way = connection.begin(wants_body);
                let progress = &progress;
                accepted_in_turn += 1;
                streams.push(async move {
                    let _held = (open, under_way);
                    // What goes wrong on one stream is the peer's affair, and does not end the others.
                    let _ = answer(request, respond, service, worker, progress, peer).await;
                });
            }
            Some(()) = streams.next() => {}
            () = connection.until_dismissed(), if !is_dismissed => {
                // GOAWAY. The connection ends by itself when the requests in flight are answered and the peer has acknowledged.
                is_dismissed = true;
                http2.graceful_shutdown();
            }
        }
        if accepted_in_turn >= HTTP2_TURN_STREAMS {
            // A few bytes make a request: others have their turn in between.
            accepted_in_turn = 0;
            tokio::task::yield_now().await;
        }
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .max_header_list_size(HTTP2_HEAD_MAX_BYTES as u32)
        .max_send_buffer_size(HTTP2_SEND_BUFFER_BYTES)
        .initial_window_size(HTTP2_LARGE_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_WINDOW_BYTES)
        .max_pending_accept_reset_streams(HTTP2_RESETS_MAX)
        .max_concurrent_reset_streams(HTTP2_RESETS_MAX)
        .max_local_error_reset_streams(Some(HTTP2_RESETS_MAX));
    builder
}

/// Whether a body may be larger than every connection's initial window, by its `Content-Length`.
fn has_large_body(headers: &http1::HeaderMap) -> bool {
    let length = headers.get(http1::header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    length.is_none_or(|length: u64| length > HTTP2_WINDOW_BYTES.into())
}

/// When the peer last read response bytes, on any stream.
struct Progress<'a> {
    connection: &'a Connection,
    last: Cell<Tick>,
}

impl<'a> Progress<'a> {
    fn new(connection: &'a Connection) -> Self {
        Self { connection, last: connection.now().into() }
    }

    fn note(&self) {
        self.last.set(self.connection.now());
    }

    /// A stream has waited in vain. If all have, the connection ends: whatever else the peer sends is no progress.
    fn missed(&self) {
        if self.connection.now().wrapping_sub(self.last.get()) + 1 >= ticks(ANSWER_TIMEOUT_MS) - 1 {
            self.connection.cut(Cut::Unread);
        }
    }
}

/// How fast an answer must be taken once it has to wait: byte by byte is no reading.
struct Pace {
    deadline: Instant,
    /// What must be taken until then.
    owed: usize,
}

impl Pace {
    fn new() -> Self {
        Self { deadline: Instant::now() + Duration::from_millis(ANSWER_TIMEOUT_MS), owed: HTTP2_PACE_BYTES }
    }

    /// Notes that so many bytes of those `wanted` were taken; whether that was enough for more time.
    fn took(&mut self, bytes: usize, wanted: usize) -> bool {
        self.owed = self.owed.saturating_sub(bytes);
        let is_enough = self.owed == 0 || bytes == wanted;
        if is_enough {
            *self = Self::new();
        }
        is_enough
    }
}

async fn answer<S, B>(
    request: http1::Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    service: &S,
    worker: &Worker,
    progress: &Progress<'_>,
    peer: Option<SocketAddr>,
) -> Result<(), h2::Error>
where
    S: Service<Request, Response = Response<B>, Error = Error>,
    B: MessageBody,
{
    let is_head = request.method() == http1::Method::HEAD;
    let (parts, body) = request.into_parts();
    let body = (!body.is_end_stream()).then(|| Incoming(Rc::new(RefCell::new(body))));
    let Some(request) = read_head(parts, body.clone(), peer) else {
        respond.send_reset(h2::Reason::PROTOCOL_ERROR);
        return Ok(());
    };
    let called = {
        let mut called = pin!(service.call(request));
        // A peer that has given up need not be answered.
        poll_fn(|cx| match called.as_mut().poll(cx) {
            Poll::Ready(called) => Poll::Ready(Some(called)),
            Poll::Pending => respond.poll_reset(cx).map(|_| None),
        })
        .await
    };
    let sending = pin!(async {
        match called {
            None => Ok(()),
            Some(Ok(response)) => send(response, respond, worker, progress, is_head).await,
            Some(Err(error)) => send(Response::from(error), respond, worker, progress, is_head).await,
        }
    });
    match body {
        None => sending.await,
        Some(body) => while_discarding(body, sending).await,
    }
}

/// Sends an answer while what its reader still sends is thrown away, for a moment longer than the answer takes: whoever is
/// told at once that the stream is over (RST_STREAM, as RFC 9113, 8.1 has it) may take that for the answer.
async fn while_discarding<T>(mut body: Incoming, mut sending: Pin<&mut impl Future<Output = T>>) -> T {
    let mut rest = pin!(async { while let Some(Ok(_)) = body.next().await {} });
    tokio::select! {
        sent = &mut sending => {
            // Whoever has not ended by then is cut off.
            let _ = tokio::time::timeout(Duration::from_millis(LINGER_MS), rest).await;
            sent
        }
        () = &mut rest => sending.await,
    }
}

/// The body of a request, for whoever reads it now. Its window opens again as it is read.
#[derive(Clone)]
struct Incoming(Rc<RefCell<RecvStream>>);

impl Stream for Incoming {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let cut_short = |_| PayloadError::Incomplete(None);
        let mut body = self.0.borrow_mut();
        Poll::Ready(match ready!(body.poll_data(cx)) {
            Some(Ok(bytes)) => {
                Some(body.flow_control().release_capacity(bytes.len()).map(|()| bytes).map_err(cut_short))
            }
            Some(Err(error)) => Some(Err(cut_short(error))),
            None => None,
        })
    }
}

async fn send<B: MessageBody>(
    response: Response<B>,
    mut respond: SendResponse<Bytes>,
    worker: &Worker,
    progress: &Progress<'_>,
    is_head: bool,
) -> Result<(), h2::Error> {
    let size = response.body().size();
    let head = write_head(response.head(), size, worker);
    let ends = is_head || matches!(size, BodySize::None | BodySize::Sized(0));
    let mut stream = respond.send_response(head, ends)?;
    if ends {
        return Ok(());
    }
    let mut body = pin!(response.into_body());
    let mut pace = Pace::new();
    while let Some(chunk) = next_chunk(body.as_mut(), &mut stream).await {
        let Ok(mut chunk) = chunk else {
            stream.send_reset(h2::Reason::INTERNAL_ERROR);
            return Ok(());
        };
        while !chunk.is_empty() {
            let wanted = cmp::min(chunk.len(), HTTP2_CHUNK_BYTES);
            stream.reserve_capacity(wanted);
            let capacity = match poll_fn(|cx| stream.poll_capacity(cx)).now_or_never() {
                Some(capacity) => {
                    pace = Pace::new();
                    capacity
                }
                None => {
                    let waiting = tokio::time::timeout_at(pace.deadline, poll_fn(|cx| stream.poll_capacity(cx)));
                    match progress.connection.while_unread(waiting).await {
                        Ok(capacity) => capacity,
                        Err(_) => {
                            stream.send_reset(h2::Reason::CANCEL);
                            progress.missed();
                            return Ok(());
                        }
                    }
                }
            };
            let Some(capacity) = capacity else { return Ok(()) };
            let bytes = chunk.split_to(cmp::min(chunk.len(), capacity?));
            if pace.took(bytes.len(), wanted) {
                progress.note();
            }
            stream.send_data(bytes, false)?;
        }
    }
    stream.send_data(Bytes::new(), true)
}

/// The next of the body; none at its end, or when the peer does not want it any more.
async fn next_chunk<B: MessageBody>(
    mut body: Pin<&mut B>,
    stream: &mut SendStream<Bytes>,
) -> Option<Result<Bytes, B::Error>> {
    poll_fn(|cx| match body.as_mut().poll_next(cx) {
        Poll::Ready(chunk) => Poll::Ready(chunk),
        Poll::Pending => stream.poll_reset(cx).map(|_| None),
    })
    .await
}

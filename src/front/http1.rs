//! The loop of agents' requests: HTTP/1.1 in its strict subset (`subset.rs`), answered without actix-http.
//!
//! A connection that waits for its next request holds its socket, its task and its deadline: the buffers are the worker's,
//! and borrowed only while there is something to read or to write. At the first request that is not for this loop the
//! stream, with all that was read and not answered, is handed over to actix-http for the rest of the connection.

use std::{
    future::poll_fn,
    io, mem,
    net::SocketAddr,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use actix_http::{Payload, Request, Response};
use actix_service::Service;
use actix_web::{
    Error,
    body::MessageBody,
    http::{
        ConnectionType, Method, Uri, Version,
        header::{HeaderMap, HeaderName, HeaderValue},
    },
};
use bytes::{Buf, Bytes};
use futures_util::future::LocalBoxFuture;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use super::{
    connection::Connection,
    subset::{Head, Headers, Look, look},
    transport::Transport,
    wire,
    worker::Worker,
};
use crate::limits::{LEAN_HEADERS_MAX, LEAN_PARTIAL_MAX_BYTES, LEAN_PATIENCE_MS, LEAN_SEND_BYTES};

/// What the loop asks of whoever answers the requests.
pub trait Direct: 'static {
    /// The answer to a request; until it is dropped, it has not been sent.
    type Answer;
    /// The body of an answer that is not an [`Self::Answer`].
    type Body: MessageBody + 'static;

    /// Whether requests with this method and path are answered in the loop; others are handed over.
    fn takes(&self, method: &str, path: &str) -> bool;

    /// Reads a request with its whole body, and answers it; none if it is to go through the framework, as one with an error
    /// has to. In a box, whose memory an idle connection does not hold.
    fn answer<'a>(&'a self, head: &Head<'_>, body: &[u8], peer: Option<SocketAddr>) -> Option<Answering<'a, Self>>;

    /// Writes the whole answer, to be sent at this `date`. `closes`: it is the last one of its connection.
    fn write(&self, answer: &Self::Answer, date: &str, closes: bool, out: &mut Vec<u8>);
}

/// The future answer to a request that was read.
pub type Answering<'a, D> = LocalBoxFuture<'a, Result<<D as Direct>::Answer, Response<<D as Direct>::Body>>>;

/// How the loop ends.
pub(super) enum End {
    /// The connection is broken: nothing can be sent on it.
    Broken,
    /// The last answer has been given, or the peer asks for nothing more. `is_wanted`: it has said so itself, and sent nothing
    /// after that.
    Answered { is_wanted: bool },
    /// The rest of the connection is for actix-http; these bytes come first.
    HandOver(Bytes),
}

/// A connection in the loop.
pub(super) struct Lean<'a, S, D> {
    pub(super) transport: Transport,
    pub(super) connection: &'a Rc<Connection>,
    pub(super) worker: &'a Worker,
    pub(super) service: &'a S,
    pub(super) direct: &'a D,
    pub(super) peer: Option<SocketAddr>,
    /// Whether the peer has asked for no further answer.
    pub(super) peer_closes: bool,
}

/// What comes next on a connection.
enum Next<'a, D: Direct> {
    /// A request that is answered directly. `closes`: the client wants no further one.
    Direct { answer: Answering<'a, D>, closes: bool },
    /// A request to be answered by the framework.
    Framework(Box<Request>),
    /// What is not for the loop.
    Outside,
    /// Nothing: the peer sends no more.
    End,
    /// Nothing: the connection is broken.
    Broken,
}

/// What is left to be sent of an answer.
enum Left<D: Direct> {
    /// These bytes; the answer is in flight until they have gone.
    Bytes(Box<(Bytes, D::Answer)>),
    /// All of this one.
    Response(Box<Response<D::Body>>),
}

/// What comes next of a body.
enum Piece<T> {
    /// This, or its end.
    Of(T),
    /// Nothing for now.
    Later,
}

/// What bytes begin with.
enum Begin<'a, D: Direct> {
    /// A whole request, of so many bytes.
    Request(Next<'a, D>, usize),
    /// A part of one.
    Partial,
}

impl<'a, S, B, D> Lean<'a, S, D>
where
    S: Service<Request, Response = Response<B>, Error = Error>,
    B: MessageBody,
    D: Direct,
{
    /// Serves the connection until it ends or a request comes that is not for the loop.
    pub(super) async fn serve(&mut self) -> End {
        let mut rest = Rest { bytes: Vec::new(), counted: 0, worker: self.worker };
        loop {
            if self.connection.answered() == 1 && self.transport.set_nodelay().is_err() {
                return End::Broken;
            }
            let sent = match self.next(&mut rest).await {
                Next::Direct { answer, closes } => self.answer(answer, closes).await,
                Next::Framework(request) => Box::pin(self.answer_by_framework(*request)).await,
                Next::Outside => return End::HandOver(mem::take(&mut rest.bytes).into()),
                Next::End => return End::Answered { is_wanted: true },
                Next::Broken => return End::Broken,
            };
            if sent.is_err() {
                return End::Broken;
            }
            if self.connection.is_closing() {
                return End::Answered { is_wanted: self.peer_closes && rest.bytes.is_empty() };
            }
        }
    }

    /// Waits for the next request.
    async fn next(&mut self, rest: &mut Rest<'_>) -> Next<'a, D> {
        if !rest.bytes.is_empty() {
            // It came with an earlier request, and begins when it is its turn.
            self.connection.note_bytes();
            if let Some(next) = self.begin_with(rest) {
                return next;
            }
        }
        let mut patience = None;
        poll_fn(|cx| {
            loop {
                match self.read(cx, rest) {
                    Poll::Ready(Some(next)) => return Poll::Ready(next),
                    Poll::Ready(None) => {}
                    Poll::Pending if rest.bytes.is_empty() => return Poll::Pending,
                    // Whoever sends a request in pieces waits elsewhere for the rest, with other bounds.
                    Poll::Pending if !rest.waits() => {
                        return Poll::Ready(Next::Outside);
                    }
                    Poll::Pending => {
                        let patience: &mut Pin<Box<Sleep>> =
                            patience.get_or_insert_with(|| Box::pin(sleep(Duration::from_millis(LEAN_PATIENCE_MS))));
                        return patience.as_mut().poll(cx).map(|()| Next::Outside);
                    }
                }
            }
        })
        .await
    }

    /// Reads into the worker's buffer and looks at it there: nothing is kept of a request that comes whole. None if more has
    /// to come.
    fn read(&mut self, cx: &mut Context<'_>, rest: &mut Rest<'_>) -> Poll<Option<Next<'a, D>>> {
        let mut buffer = self.worker.read_buffer.borrow_mut();
        let mut buffer = ReadBuf::uninit(&mut buffer);
        let outcome = ready!(Pin::new(&mut self.transport).poll_read(cx, &mut buffer));
        let bytes = buffer.filled();
        if outcome.is_err() {
            return Poll::Ready(Some(Next::Broken));
        }
        if bytes.is_empty() {
            // The parser answers what is missing.
            return Poll::Ready(Some(if rest.bytes.is_empty() { Next::End } else { Next::Outside }));
        }
        self.connection.note_bytes();
        if rest.bytes.is_empty() {
            return Poll::Ready(match self.begin(bytes) {
                Begin::Request(next, length) => {
                    rest.bytes.extend_from_slice(&bytes[length..]);
                    Some(next)
                }
                Begin::Partial => {
                    rest.bytes.extend_from_slice(bytes);
                    None
                }
            });
        }
        rest.bytes.extend_from_slice(bytes);
        Poll::Ready(self.begin_with(rest))
    }

    /// Takes the request that these bytes begin with, if it is whole.
    fn begin_with(&mut self, rest: &mut Rest<'_>) -> Option<Next<'a, D>> {
        match self.begin(&rest.bytes) {
            Begin::Request(next, length) => {
                rest.remove(length);
                Some(next)
            }
            Begin::Partial => None,
        }
    }

    /// What these bytes begin with. Of what is not for the loop, nothing is taken.
    fn begin(&mut self, bytes: &[u8]) -> Begin<'a, D> {
        const OUTSIDE: usize = 0;
        let mut headers: Headers<'_> = [httparse::EMPTY_HEADER; LEAN_HEADERS_MAX];
        let head = match look(bytes, &mut headers) {
            Look::Head(head) if self.direct.takes(head.method, head.path) => head,
            Look::Head(_) | Look::Outside => return Begin::Request(Next::Outside, OUTSIDE),
            Look::Partial => return Begin::Partial,
        };
        let length = head.bytes + head.body_bytes;
        let Some(body) = bytes.get(head.bytes..length) else {
            return Begin::Partial;
        };
        self.peer_closes = head.closes;
        if let Some(answer) = self.direct.answer(&head, body, self.peer) {
            return Begin::Request(Next::Direct { answer, closes: head.closes }, length);
        }
        match for_framework(&head, body, self.peer) {
            Some(request) => Begin::Request(Next::Framework(Box::new(request)), length),
            None => Begin::Request(Next::Outside, OUTSIDE),
        }
    }

    // Nothing but the box lives while the answer is waited for: an idle connection holds room for whatever does.
    async fn answer(&mut self, mut answer: Answering<'a, D>, closes: bool) -> io::Result<()> {
        let _in_flight = self.connection.begin(false);
        let left = poll_fn(|cx| {
            Poll::Ready(match ready!(answer.as_mut().poll(cx)) {
                Ok(answer) => {
                    if closes {
                        self.connection.close_after_answer();
                    }
                    let (worker, direct) = (self.worker, self.direct);
                    let unsent =
                        self.send_now(cx, |out| worker.with_date(|date| direct.write(&answer, date, closes, out)));
                    unsent.map(|unsent| unsent.map(|unsent| Left::<D>::Bytes(Box::new((unsent, answer)))))
                }
                Err(response) => Ok(Some(Left::Response(Box::new(response)))),
            })
        })
        .await?;
        match left {
            None => Ok(()),
            Some(Left::Bytes(left)) => Box::pin(self.send_rest(left.0.clone())).await,
            Some(Left::Response(response)) => Box::pin(self.send_response(*response)).await,
        }
    }

    async fn answer_by_framework(&mut self, request: Request) -> io::Result<()> {
        // Its answer may be more than one write.
        self.transport.set_nodelay()?;
        let _under_way = self.connection.begin(false);
        match self.service.call(request).await {
            Ok(response) => self.send_response(response).await,
            Err(error) => self.send_response(Response::from(error)).await,
        }
    }

    async fn send_response(&mut self, mut response: Response<impl MessageBody>) -> io::Result<()> {
        // Its head may have been that of an answer to HTTP/1.0: actix-http uses them again, and leaves the version to its
        // encoder. With the older one it would close the connection.
        response.head_mut().version = Version::HTTP_11;
        if wire::closes(response.head()) {
            self.connection.close_after_answer();
        }
        let mut bytes = Vec::new();
        let size = response.body().size();
        let form = self.worker.with_date(|date| wire::write_head(response.head(), size, date, &mut bytes));
        let mut body = pin!(response.into_body());
        loop {
            // What is there is sent together: piece by piece, each would wait for the one before to be acknowledged.
            let next = poll_fn(|cx| match body.as_mut().poll_next(cx) {
                Poll::Pending if !bytes.is_empty() => Poll::Ready(Piece::Later),
                piece => piece.map(Piece::Of),
            });
            match next.await {
                Piece::Of(Some(chunk)) => {
                    let chunk = chunk.map_err(|error| io::Error::other(error.into().to_string()))?;
                    if !chunk.is_empty() {
                        form.write_chunk(&chunk, &mut bytes);
                    }
                    if bytes.len() < LEAN_SEND_BYTES {
                        continue;
                    }
                }
                Piece::Of(None) => break,
                Piece::Later => {}
            }
            self.send(|out| out.extend_from_slice(&mem::take(&mut bytes))).await?;
        }
        form.write_end(&mut bytes);
        self.send(|out| out.append(&mut bytes)).await
    }

    /// Sends what `write` writes. Only what the socket does not take at once leaves the worker's buffer.
    async fn send(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut write = Some(write);
        let unsent = poll_fn(|cx| Poll::Ready(write.take().map(|write| self.send_now(cx, write)))).await;
        match unsent.transpose()?.flatten() {
            None => Ok(()),
            Some(unsent) => self.send_rest(unsent).await,
        }
    }

    /// What is left to be sent; none if all is on its way.
    fn send_now(&mut self, cx: &mut Context<'_>, write: impl FnOnce(&mut Vec<u8>)) -> io::Result<Option<Bytes>> {
        let mut buffer = self.worker.write_buffer.borrow_mut();
        buffer.clear();
        write(&mut buffer);
        let mut sent = 0;
        while sent < buffer.len()
            && let Poll::Ready(written) = Pin::new(&mut self.transport).poll_write(cx, &buffer[sent..])
        {
            sent += some(written)?;
        }
        let is_flushed = sent == buffer.len() && Pin::new(&mut self.transport).poll_flush(cx)?.is_ready();
        Ok((!is_flushed).then(|| Bytes::copy_from_slice(&buffer[sent..])))
    }

    async fn send_rest(&mut self, mut unsent: Bytes) -> io::Result<()> {
        let Self { transport, connection, .. } = self;
        poll_fn(|cx| {
            while !unsent.is_empty() {
                let written = Pin::new(&mut *transport).poll_write(cx, &unsent);
                unsent.advance(some(ready!(connection.noting(written)))?);
            }
            // Of TLS, what waits for its socket.
            connection.noting(Pin::new(&mut *transport).poll_flush(cx))
        })
        .await
    }
}

/// What was written, if the stream takes anything at all.
fn some(written: io::Result<usize>) -> io::Result<usize> {
    written.and_then(|bytes| if bytes == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(bytes) })
}

/// The request, in actix-http's types; none if they do not hold it.
fn for_framework(head: &Head<'_>, body: &[u8], peer: Option<SocketAddr>) -> Option<Request> {
    let payload = if body.is_empty() { Payload::None } else { Payload::from(Bytes::copy_from_slice(body)) };
    let mut request = Request::with_payload(payload);
    let framed = request.head_mut();
    framed.uri = Uri::try_from(head.path).ok()?;
    framed.method = Method::from_bytes(head.method.as_bytes()).ok()?;
    framed.version = Version::HTTP_11;
    framed.peer_addr = peer;
    if head.closes {
        framed.set_connection_type(ConnectionType::Close);
    }
    framed.headers = HeaderMap::with_capacity(head.headers.len());
    for header in head.headers {
        let (name, value) = (HeaderName::from_bytes(header.name.as_bytes()), HeaderValue::from_bytes(header.value));
        framed.headers.append(name.ok()?, value.ok()?);
    }
    Some(request)
}

/// What was read and has not been answered: of a request that is not whole, or of those after the one in flight.
struct Rest<'a> {
    bytes: Vec<u8>,
    /// How many of them are counted among the worker's bytes of requests that are not whole.
    counted: usize,
    worker: &'a Worker,
}

impl Rest<'_> {
    /// More has to come before there is a request. Returns whether the worker has room for so much to wait.
    fn waits(&mut self) -> bool {
        self.count(self.bytes.len());
        self.worker.partial.get() <= LEAN_PARTIAL_MAX_BYTES
    }

    /// Takes out the first of them. Of what is left nothing is kept allocated that is not needed.
    fn remove(&mut self, bytes: usize) {
        if bytes == self.bytes.len() {
            self.bytes = Vec::new();
        } else {
            self.bytes.drain(..bytes);
            self.bytes.shrink_to_fit();
        }
        self.count(0);
    }

    fn count(&mut self, bytes: usize) {
        self.worker.partial.set(self.worker.partial.get() - self.counted + bytes);
        self.counted = bytes;
    }
}

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        self.count(0);
    }
}

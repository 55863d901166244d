//! The stream that serves HTTP: it notes what happens on its connection, and reads no more than may be read.

use std::{
    io, mem,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    connection::Connection,
    frames::Frames,
    framing::{Framing, Pass},
    refusal::{self, Refuse},
    transport::Transport,
};

/// The status of an answer to a head that is too large.
const HEAD_TOO_LARGE: u16 = 431;

/// A connection's bytes, observed.
pub(super) struct Observed {
    transport: Transport,
    /// Bytes that were read and have not been passed on.
    waiting: Bytes,
    connection: Rc<Connection>,
    protocol: Protocol,
    /// Whether FIN has been sent.
    is_shut: bool,
}

/// The protocol, and its state.
enum Protocol {
    Http1(Http1),
    Http2(Frames),
}

/// State of HTTP/1 alone.
struct Http1 {
    framing: Framing,
    /// Requests that were answered before the one that is passed on now.
    answered: u64,
    /// Whether a head was larger than one may be.
    is_head_too_large: bool,
    refuse: Refuse,
    peer: Option<SocketAddr>,
    instead: Instead,
}

/// No request begins with it: the parser, which alone knows when it is the turn of an answer, gives its own for it.
const NO_REQUEST: &[u8] = b"\0";

/// An answer in place of the parser's.
enum Instead {
    /// There is none.
    No,
    /// So much of it is not sent.
    Sending(Bytes),
    /// It is sent, and its reader has a moment before the connection is closed.
    Sent,
}

impl Observed {
    pub(super) fn http1(
        transport: Transport,
        waiting: Bytes,
        connection: Rc<Connection>,
        refuse: Refuse,
        peer: Option<SocketAddr>,
    ) -> Self {
        let answered = connection.answered();
        let http1 =
            Http1 { framing: Framing::Head, answered, is_head_too_large: false, refuse, peer, instead: Instead::No };
        Self { transport, waiting, connection, protocol: Protocol::Http1(http1), is_shut: false }
    }

    pub(super) fn http2(transport: Transport, waiting: Bytes, connection: Rc<Connection>) -> Self {
        Self { transport, waiting, connection, protocol: Protocol::Http2(Frames::new()), is_shut: false }
    }

    pub(super) fn connection(&self) -> &Rc<Connection> {
        &self.connection
    }

    /// Whether the dispatcher may have more now; if not, it is woken when it may.
    fn may_read(&mut self) -> bool {
        let Protocol::Http1(http1) = &mut self.protocol else { return true };
        let answered = self.connection.answered();
        if answered != http1.answered {
            http1.answered = answered;
            http1.framing.answered();
            // A head that came with an earlier request begins when it is its turn.
            if !self.waiting.is_empty() {
                self.connection.note_bytes();
            }
        }
        let must_wait = match http1.framing {
            // What has come already is of a later request.
            Framing::Whole => !self.waiting.is_empty(),
            Framing::Free => self.connection.needs_no_body(),
            Framing::Head | Framing::Body { .. } => false,
        } || self.connection.is_blocked();
        if must_wait {
            self.connection.hold();
        }
        !must_wait
    }

    /// How many of the bytes that wait, of which so many fit, are passed on.
    fn pass(&mut self, fits: usize) -> Pass {
        match &mut self.protocol {
            // A head is looked at whole; it is passed on in as many parts as it takes.
            Protocol::Http1(Http1 { framing: framing @ Framing::Head, .. }) => match framing.pass(&self.waiting) {
                Pass::On(passed) if passed > fits => {
                    framing.take_back((passed - fits) as u64);
                    Pass::On(fits)
                }
                pass @ (Pass::On(_) | Pass::Not | Pass::TooLarge) => pass,
            },
            Protocol::Http1(Http1 { framing, .. }) => framing.pass(&self.waiting[..fits]),
            Protocol::Http2(frames) => {
                self.connection.heard_frames(frames.advance(&self.waiting[..fits]));
                Pass::On(fits)
            }
        }
    }

    /// Gives the parser something to refuse in place of a head that is too large; nothing more is passed on.
    fn refuse_head(&mut self, buf: &mut ReadBuf<'_>) {
        if let Protocol::Http1(http1) = &mut self.protocol {
            http1.is_head_too_large = true;
            http1.framing = Framing::Whole;
        }
        buf.put_slice(NO_REQUEST);
    }

    /// Reads more of a head that is not whole.
    fn read_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut bytes = [0; 4_096];
        let mut bytes = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut self.transport).poll_read(cx, &mut bytes))?;
        if bytes.filled().is_empty() {
            // EOF: the parser answers what is missing.
            if let Protocol::Http1(http1) = &mut self.protocol {
                http1.framing = Framing::Free;
            }
            return Poll::Ready(Ok(()));
        }
        self.connection.note_bytes();
        self.connection.took(bytes.filled().len());
        let mut waiting = BytesMut::from(mem::take(&mut self.waiting));
        waiting.extend_from_slice(bytes.filled());
        self.waiting = waiting.freeze();
        Poll::Ready(Ok(()))
    }

    /// Reads to the end, and throws away: a connection that is closed with bytes unread is reset, and its last answer may
    /// be lost.
    fn discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.waiting.clear();
        let mut bytes = [0; 1_024];
        let mut bytes = ReadBuf::new(&mut bytes);
        while self.connection.has_turn(cx) {
            bytes.clear();
            if ready!(self.transport.poll_discard(cx, &mut bytes)).is_err() || bytes.filled().is_empty() {
                return Poll::Ready(());
            }
            self.connection.took(bytes.filled().len());
        }
        Poll::Pending
    }

    fn write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.transport).poll_write(cx, bytes);
        self.connection.noting(written)
    }

    /// Sends what stands in place of the parser's answer, and waits until it has been taken or its time is over.
    fn write_instead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Protocol::Http1(Http1 { instead: Instead::Sending(rest), .. }) = &self.protocol {
            let mut rest = rest.clone();
            let written = ready!(self.write(cx, &rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            rest.advance(written);
            if let Protocol::Http1(http1) = &mut self.protocol {
                http1.instead = if rest.is_empty() { Instead::Sent } else { Instead::Sending(rest) };
            }
        }
        self.close(cx)
    }

    /// Sends FIN, and gives the peer a moment to read what it was sent.
    fn close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.close();
        if !self.is_shut {
            ready!(Pin::new(&mut self.transport).poll_shutdown(cx))?;
            self.is_shut = true;
        }
        self.discard(cx).map(Ok)
    }
}

impl AsyncRead for Observed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if !this.may_read() || !this.connection.has_turn(cx) {
                return Poll::Pending;
            }
            if !this.waiting.is_empty() {
                let fits = this.waiting.len().min(buf.remaining());
                match this.pass(fits) {
                    Pass::On(passed) => {
                        this.connection.took(passed);
                        buf.put_slice(&this.waiting.split_to(passed));
                        return Poll::Ready(Ok(()));
                    }
                    Pass::Not => ready!(this.read_more(cx))?,
                    Pass::TooLarge => {
                        this.refuse_head(buf);
                        return Poll::Ready(Ok(()));
                    }
                }
                continue;
            }
            let start = buf.filled().len();
            ready!(Pin::new(&mut this.transport).poll_read(cx, buf))?;
            let read = buf.filled().len() - start;
            if read == 0 {
                return Poll::Ready(Ok(()));
            }
            this.connection.took(read);
            let http1 = match &mut this.protocol {
                Protocol::Http1(http1) => http1,
                Protocol::Http2(frames) => {
                    this.connection.heard_frames(frames.advance(&buf.filled()[start..]));
                    return Poll::Ready(Ok(()));
                }
            };
            this.connection.note_bytes();
            let passed = match http1.framing.pass(&buf.filled()[start..]) {
                Pass::On(passed) => passed,
                Pass::Not => 0,
                Pass::TooLarge => {
                    buf.set_filled(start);
                    this.refuse_head(buf);
                    return Poll::Ready(Ok(()));
                }
            };
            if passed < read {
                this.waiting = Bytes::copy_from_slice(&buf.filled()[start + passed..]);
                buf.set_filled(start + passed);
            }
            if passed > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for Observed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let is_answering = this.connection.is_answering();
        let http1 = match &mut this.protocol {
            Protocol::Http1(http1) if !is_answering => http1,
            Protocol::Http1(_) | Protocol::Http2(_) => return this.write(cx, bytes),
        };
        if matches!(http1.instead, Instead::No) {
            match refusal::find(bytes) {
                None => return this.write(cx, bytes),
                // What stands before it goes first.
                Some((start, _)) if start > 0 => return this.write(cx, &bytes[..start]),
                // Nothing follows the last answer.
                Some(_) if this.connection.is_closing() => http1.instead = Instead::Sent,
                Some((_, status)) => {
                    let status = if http1.is_head_too_large { HEAD_TOO_LARGE } else { status };
                    http1.instead = Instead::Sending((http1.refuse)(status, http1.peer));
                }
            }
        }
        // The parser's answer is taken when ours is sent: it is asked again with the same bytes until then.
        ready!(this.write_instead(cx))?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Of TLS, what waits for its socket.
        let flushed = Pin::new(&mut self.transport).poll_flush(cx);
        self.connection.noting(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.close(cx)
    }
}

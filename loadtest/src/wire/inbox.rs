//! The receiving side: a buffer that outlives connections, and the reading of answers into it.

use std::ops::Range;

use super::WireError;
use super::chunked::Chunked;
use super::reply::{Framing, Head};
use super::stream::Stream;

/// First size of a buffer: a heartbeat's answer is half of this.
const INITIAL_BYTES: usize = 1024;
/// A longer head is not an answer of the API.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// A longer body must be streamed.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;
/// How much of a streamed body is read at once, at most.
const STREAM_BYTES: usize = 128 * 1024;

/// What a link has received.
pub(super) struct Inbox {
    bytes: Vec<u8>,
    filled: usize,
    body: Range<usize>,
}

impl Inbox {
    /// An empty one.
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; INITIAL_BYTES], filled: 0, body: 0..0 }
    }

    /// The body that was read last.
    pub(super) fn body(&self) -> &[u8] {
        &self.bytes[self.body.clone()]
    }

    /// Reads a whole answer; its body is then in [`Inbox::body`].
    pub(super) async fn read(&mut self, stream: &mut Stream) -> Result<Head, WireError> {
        let mut head = self.read_head(stream).await?;
        match head.framing {
            Framing::Length(length) => {
                if length > MAX_BODY_BYTES {
                    return Err(WireError::Protocol("its body is too large"));
                }
                let end = head.length + length;
                while self.filled < end {
                    self.receive(stream, end).await?;
                }
                self.body = head.length..end;
                // Bytes behind the answer belong to nothing that was asked: do not go on here.
                head.closes |= self.filled > end;
            }
            Framing::Chunked | Framing::UntilClose => {
                let mut body = Vec::new();
                let mut too_large = false;
                self.pump(stream, head, |data| {
                    too_large |= body.len() + data.len() > MAX_BODY_BYTES;
                    if !too_large {
                        body.extend_from_slice(data);
                    }
                })
                .await?;
                if too_large {
                    return Err(WireError::Protocol("its body is too large"));
                }
                self.body = 0..body.len();
                self.bytes = body;
            }
        }
        Ok(head)
    }

    /// Reads an answer and hands its body to `sink` piece by piece, in bounded memory.
    pub(super) async fn read_streaming(
        &mut self,
        stream: &mut Stream,
        sink: impl FnMut(&[u8]),
    ) -> Result<Head, WireError> {
        let head = self.read_head(stream).await?;
        self.pump(stream, head, sink).await?;
        Ok(head)
    }

    async fn read_head(&mut self, stream: &mut Stream) -> Result<Head, WireError> {
        self.filled = 0;
        self.body = 0..0;
        loop {
            match self.receive(stream, INITIAL_BYTES).await {
                Err(WireError::Io(_)) if self.filled == 0 => return Err(WireError::Closed),
                other => other?,
            }
            if let Some(head) = Head::parse(&self.bytes[..self.filled])? {
                return Ok(head);
            }
            if self.filled > MAX_HEAD_BYTES {
                return Err(WireError::Protocol("its head is too long"));
            }
        }
    }

    /// Reads once, behind what is there, with room for at least `wanted` bytes in all.
    async fn receive(&mut self, stream: &mut Stream, wanted: usize) -> Result<(), WireError> {
        let room = wanted.max(self.filled + INITIAL_BYTES / 2);
        if self.bytes.len() < room {
            self.bytes.resize(room, 0);
        }
        match stream.receive(&mut self.bytes[self.filled..]).await {
            Ok(0) if self.filled == 0 => Err(WireError::Closed),
            Ok(0) => Err(WireError::Io(std::io::ErrorKind::UnexpectedEof.into())),
            Ok(read) => {
                self.filled += read;
                Ok(())
            }
            Err(cause) => Err(WireError::Io(cause)),
        }
    }

    async fn pump(&mut self, stream: &mut Stream, head: Head, mut sink: impl FnMut(&[u8])) -> Result<(), WireError> {
        let mut chunked = Chunked::new();
        let mut received = 0;
        let mut piece = head.length..self.filled;
        loop {
            let filled = piece.end;
            let data = &self.bytes[piece];
            received += data.len();
            let done = match head.framing {
                Framing::Chunked => chunked.feed(data, &mut sink)?,
                Framing::Length(length) => {
                    sink(data);
                    received >= length
                }
                Framing::UntilClose => {
                    sink(data);
                    false
                }
            };
            if done {
                return Ok(());
            }
            // Much at once where there is much: of a trickle there may be thousands of readers.
            if filled == self.bytes.len() && filled < STREAM_BYTES {
                self.bytes.resize(STREAM_BYTES, 0);
            }
            match stream.receive(&mut self.bytes).await {
                Ok(0) if head.framing == Framing::UntilClose => return Ok(()),
                Ok(0) => return Err(WireError::Io(std::io::ErrorKind::UnexpectedEof.into())),
                Ok(read) => piece = 0..read,
                Err(cause) => return Err(WireError::Io(cause)),
            }
        }
    }
}

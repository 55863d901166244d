//! The receiving side: a buffer that outlives connections, and the reading of answers into it.

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

pub(super) struct Inbox {
    bytes: Vec<u8>,
    filled: usize,
    body: Vec<u8>,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; INITIAL_BYTES], filled: 0, body: Vec::new() }
    }

    /// The body that was read last.
    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }

    pub(super) async fn read(&mut self, stream: &mut Stream) -> Result<Head, WireError> {
        let mut body = std::mem::take(&mut self.body);
        body.clear();
        let mut too_large = false;
        let head = self
            .read_streaming(stream, |data| {
                too_large |= body.len() + data.len() > MAX_BODY_BYTES;
                if !too_large {
                    body.extend_from_slice(data);
                }
            })
            .await?;
        self.body = body;
        if too_large { Err(WireError::Protocol("its body is too large")) } else { Ok(head) }
    }

    /// Reads an answer and hands its body to `sink` piece by piece, in bounded memory.
    pub(super) async fn read_streaming(
        &mut self,
        stream: &mut Stream,
        mut sink: impl FnMut(&[u8]),
    ) -> Result<Head, WireError> {
        let mut head = self.read_head(stream).await?;
        let mut chunked = Chunked::new();
        let mut piece = head.length..self.filled;
        let mut left = match head.framing {
            Framing::Length(length) => length,
            Framing::Chunked | Framing::UntilClose => usize::MAX,
        };
        loop {
            let (filled, data) = (piece.end, &self.bytes[piece]);
            let done = match head.framing {
                Framing::Chunked => chunked.feed(data, &mut sink)?,
                Framing::Length(_) | Framing::UntilClose => {
                    sink(&data[..data.len().min(left)]);
                    // Bytes behind the answer belong to nothing that was asked: do not go on here.
                    head.closes |= data.len() > left;
                    left = left.saturating_sub(data.len());
                    left == 0
                }
            };
            if done {
                return Ok(head);
            }
            // Much at once where there is much: of a trickle there may be thousands of readers.
            if filled == self.bytes.len() && filled < STREAM_BYTES {
                self.bytes.resize(STREAM_BYTES, 0);
            }
            match stream.receive(&mut self.bytes).await {
                Ok(0) if head.framing == Framing::UntilClose => return Ok(head),
                Ok(0) => return Err(WireError::Io(std::io::ErrorKind::UnexpectedEof.into())),
                Ok(read) => piece = 0..read,
                Err(cause) => return Err(WireError::Io(cause)),
            }
        }
    }

    async fn read_head(&mut self, stream: &mut Stream) -> Result<Head, WireError> {
        self.filled = 0;
        loop {
            if self.filled == self.bytes.len() {
                self.bytes.resize(2 * self.filled, 0);
            }
            match stream.receive(&mut self.bytes[self.filled..]).await {
                Ok(0) | Err(_) if self.filled == 0 => return Err(WireError::Closed),
                Ok(0) => return Err(WireError::Io(std::io::ErrorKind::UnexpectedEof.into())),
                Ok(read) => self.filled += read,
                Err(cause) => return Err(WireError::Io(cause)),
            }
            if let Some(head) = Head::parse(&self.bytes[..self.filled])? {
                return Ok(head);
            }
            if self.filled > MAX_HEAD_BYTES {
                return Err(WireError::Protocol("its head is too long"));
            }
        }
    }
}

//! HTTP/2, frame by frame, since no library would do what is done here.

use std::{
    io::{self, ErrorKind, Read, Write},
    time::{Duration, Instant},
};

use super::LOOK;
use crate::support::{Client, Server, client::Stream};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub const MAX_CONCURRENT_STREAMS: u16 = 3;
pub const INITIAL_WINDOW_SIZE: u16 = 4;

pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header that is not to be remembered.
pub fn literal(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| {
        let length = text.len();
        // A length of seven bits, or more behind them.
        let mut bytes = if length < 127 {
            vec![u8::try_from(length).unwrap()]
        } else {
            let more = length - 127;
            vec![127, u8::try_from(more % 128).unwrap() | 128, u8::try_from(more / 128).unwrap()]
        };
        bytes.extend(text.bytes());
        bytes
    };
    [vec![0], text(name), text(value)].concat()
}

pub fn head(method: &str, path: &str, token: Option<&str>) -> Vec<u8> {
    let mut head = [
        literal(":method", method),
        literal(":scheme", "https"),
        literal(":authority", "localhost"),
        literal(":path", path),
    ]
    .concat();
    if let Some(token) = token {
        head.extend(literal("authorization", &format!("Bearer {token}")));
    }
    head
}

/// A connection on which anything may be sent.
pub struct Http2 {
    pub stream: Stream,
    received: Vec<u8>,
    /// Whether pings are acknowledged.
    pub answers_pings: bool,
    pub is_over: bool,
}

impl Http2 {
    /// After the beginning of a connection, with these settings.
    pub fn open(server: &Server, settings: &[(u16, u32)]) -> Self {
        let mut http2 = Self::unopened(server);
        let settings: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()[..]].concat())
            .collect();
        http2.send(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(SETTINGS, 0, 0, &settings)[..]].concat());
        http2
    }

    pub fn unopened(server: &Server) -> Self {
        let trust = server.trust().expect("TLS").speaking(b"h2");
        let mut stream = Client::new(server.api, Some(trust)).into_stream().unwrap();
        // The handshake, which would be given up where it takes longer than a look.
        stream.flush().unwrap();
        stream.socket().set_read_timeout(Some(LOOK)).unwrap();
        stream.socket().set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        Self { stream, received: Vec::new(), answers_pings: true, is_over: false }
    }

    /// Sends bytes; if they are not taken, the connection is over, or full, which [`Self::frames`] tells apart.
    pub fn send(&mut self, bytes: &[u8]) {
        match self.stream.write_all(bytes).and_then(|()| self.stream.flush()) {
            Err(error) if !is_late(&error) => self.is_over = true,
            Ok(()) | Err(_) => {}
        }
    }

    pub fn get(&mut self, stream: u32, path: &str, token: Option<&str>) {
        self.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &head("GET", path, token)));
    }

    /// What has come in for a while. Settings and pings are acknowledged, as a client does.
    pub fn frames(&mut self, time: Duration) -> Vec<Frame> {
        let begun = Instant::now();
        let mut frames = Vec::new();
        while begun.elapsed() < time && !self.is_over {
            let mut buffer = [0; 65_536];
            match self.stream.read(&mut buffer) {
                Ok(0) => self.is_over = true,
                Ok(read) => self.received.extend(&buffer[..read]),
                Err(error) if is_late(&error) => {}
                Err(_) => self.is_over = true,
            }
            while let Some(received) = self.take_frame() {
                match (received.kind, received.flags & ACK) {
                    (SETTINGS, 0) => self.send(&frame(SETTINGS, ACK, 0, &[])),
                    (PING, 0) if self.answers_pings => self.send(&frame(PING, ACK, 0, &received.payload)),
                    _ => {}
                }
                frames.push(received);
            }
        }
        frames
    }

    fn take_frame(&mut self) -> Option<Frame> {
        let &[a, b, c, kind, flags, d, e, f, g, ..] = &self.received[..] else { return None };
        let end = 9 + usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap();
        let payload = self.received.get(9..end)?.to_vec();
        self.received.drain(..end);
        Some(Frame { kind, flags, stream: u32::from_be_bytes([d & 127, e, f, g]), payload })
    }

    /// Frames until one is as wanted, or the connection has ended, or the time is over.
    pub fn until(&mut self, limit: Duration, mut is_wanted: impl FnMut(&Frame) -> bool) -> Option<Frame> {
        let begun = Instant::now();
        while begun.elapsed() < limit && !self.is_over {
            if let Some(frame) = self.frames(LOOK).into_iter().find(&mut is_wanted) {
                return Some(frame);
            }
        }
        None
    }
}

pub fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// `:status: 200` is number 8 of the table that both sides know.
pub fn is_ok(frame: &Frame) -> bool {
    frame.kind == HEADERS && frame.payload.first() == Some(&0x88)
}

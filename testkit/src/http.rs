//! A small blocking HTTP/1.1 client: every byte it sends can be chosen.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
};

use rustls::{ClientConnection, StreamOwned};
use serde_json::Value;

use crate::SOON;
pub use crate::trust::Trust;

/// A request, to be sent as it is.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its first word.
    pub method: String,
    /// What stands behind that.
    pub target: Vec<u8>,
    /// In this order; some are added if they are not among them.
    pub headers: Vec<(String, Vec<u8>)>,
    /// What follows the head.
    pub body: Option<Vec<u8>>,
    chunked: bool,
}

impl Request {
    /// Without headers and body.
    pub fn new(method: &str, target: impl Into<Vec<u8>>) -> Self {
        Self { method: method.into(), target: target.into(), headers: Vec::new(), body: None, chunked: false }
    }

    /// One more header.
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// A body without a `Content-Type`.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// A body that says it is JSON.
    pub fn json(self, body: impl Into<Vec<u8>>) -> Self {
        self.header("Content-Type", "application/json").body(body)
    }

    /// Sends the body in chunks, without telling its length.
    pub fn chunked(mut self) -> Self {
        self.chunked = true;
        self
    }

    fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
    }

    /// The bytes on the wire.
    pub fn encode(&self, token: Option<&str>) -> Vec<u8> {
        let mut out = [self.method.as_bytes(), b" ", &self.target, b" HTTP/1.1\r\n"].concat();
        let mut line = |name: &str, value: &[u8]| out.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        if !self.has("host") {
            line("Host", b"localhost");
        }
        if let Some(token) = token
            && !self.has("authorization")
        {
            line("Authorization", format!("Bearer {token}").as_bytes());
        }
        for (name, value) in &self.headers {
            line(name, value);
        }
        match &self.body {
            Some(_) if self.chunked => line("Transfer-Encoding", b"chunked"),
            Some(body) => line("Content-Length", body.len().to_string().as_bytes()),
            None => {}
        }
        out.extend(b"\r\n");
        match &self.body {
            Some(body) if self.chunked => {
                for chunk in body.chunks(10_000) {
                    out.extend(format!("{:x}\r\n", chunk.len()).bytes());
                    out.extend([chunk, b"\r\n"].concat());
                }
                out.extend(b"0\r\n\r\n");
            }
            Some(body) => out.extend(body),
            None => {}
        }
        out
    }
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// Its status code.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// Without its transfer coding.
    pub body: Vec<u8>,
}

impl Reply {
    /// The first header of this name, in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// What a success carries; panics if it is none with this status.
    pub fn data(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        let mut json = self.json();
        assert_eq!(json["ok"], true, "{self:?}");
        json["data"].take()
    }

    /// What a failure says; panics if it is none with this status, or says more than the contract allows.
    pub fn error(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        let json = self.json();
        let mut keys: Vec<_> = json.as_object().expect("an object").keys().collect();
        keys.sort_unstable();
        assert_eq!(keys, ["error", "ok"], "{self:?}");
        assert_eq!(json["ok"], false, "{self:?}");
        let error = json["error"].as_str().expect("a sentence").to_owned();
        assert!(!error.is_empty());
        error
    }
}

/// A connection, in the clear or not.
pub enum Stream {
    /// In the clear.
    Plain(TcpStream),
    /// Not.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    /// What it goes over.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &stream.sock,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// One connection, kept alive, and made anew when the server has closed it.
pub struct Client {
    address: SocketAddr,
    trust: Option<Trust>,
    token: Option<String>,
    connection: Option<BufReader<Stream>>,
}

impl Client {
    /// A client without a token; one of a server that speaks TLS trusts somebody.
    pub fn new(address: SocketAddr, trust: Option<Trust>) -> Self {
        Self { address, trust, token: None, connection: None }
    }

    /// A new client that sends this token.
    pub fn with_token(&self, token: &str) -> Self {
        let (trust, token) = (self.trust.clone(), Some(token.to_owned()));
        Self { address: self.address, trust, token, connection: None }
    }

    /// GET.
    pub fn get(&mut self, target: &str) -> Reply {
        self.send(&Request::new("GET", target))
    }

    /// DELETE.
    pub fn delete(&mut self, target: &str) -> Reply {
        self.send(&Request::new("DELETE", target))
    }

    /// POST with a JSON body.
    pub fn post(&mut self, target: &str, body: impl ToString) -> Reply {
        self.send(&Request::new("POST", target).json(body.to_string()))
    }

    /// Registers an agent: the whole answer.
    pub fn register(&mut self, body: &Value) -> Value {
        let reply = self.post("/api/agents/register", body);
        assert_eq!(reply.status, 201, "{body}: {reply:?}");
        reply.json()
    }

    /// Registers a plain agent: its id and its token.
    pub fn enrol(&mut self, hostname: &str) -> (String, String) {
        let enrolled = self.register(&serde_json::json!({"hostname": hostname, "os": "linux", "version": "1.0.0"}));
        (enrolled["agentId"].as_str().unwrap().into(), enrolled["token"].as_str().unwrap().into())
    }

    /// POST to the heartbeat of an agent.
    pub fn beat(&mut self, id: &str, body: impl ToString) -> Reply {
        self.post(&format!("/api/agents/{id}/heartbeat"), body)
    }

    /// Sends a request; panics if it is not answered.
    pub fn send(&mut self, request: &Request) -> Reply {
        self.try_send(request).unwrap_or_else(|error| panic!("{error}: {request:?}"))
    }

    /// Sends a request.
    ///
    /// # Errors
    ///
    /// If there is no connection, or no whole answer.
    pub fn try_send(&mut self, request: &Request) -> io::Result<Reply> {
        let bytes = request.encode(self.token.as_deref());
        // An early answer may come, and the connection be closed, before all is sent.
        let _ = self.write(&bytes);
        self.read_reply(request.method == "HEAD")
    }

    /// Sends bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let stream = self.connection()?.get_mut();
        stream.write_all(bytes)?;
        stream.flush()
    }

    /// Says that nothing more will be sent.
    pub fn finish_sending(&mut self) -> io::Result<()> {
        match self.connection()?.get_mut() {
            Stream::Plain(stream) => stream.shutdown(std::net::Shutdown::Write),
            Stream::Tls(stream) => stream.sock.shutdown(std::net::Shutdown::Write),
        }
    }

    /// Sends a request whose answer has a body without an end. The answer's head, and the connection to read on from.
    pub fn open(mut self, request: &Request) -> io::Result<(Reply, BufReader<Stream>)> {
        let bytes = request.encode(self.token.as_deref());
        self.write(&bytes)?;
        let mut connection = self.connection.take().expect("it was just written to");
        Ok((read_head(&mut connection)?, connection))
    }

    /// The connection itself, after what was sent and read.
    pub fn into_stream(mut self) -> io::Result<Stream> {
        self.connection()?;
        Ok(self.connection.take().expect("it was just made").into_inner())
    }

    fn connection(&mut self) -> io::Result<&mut BufReader<Stream>> {
        if self.connection.is_none() {
            let socket = TcpStream::connect(self.address)?;
            socket.set_nodelay(true)?;
            socket.set_read_timeout(Some(SOON))?;
            socket.set_write_timeout(Some(SOON))?;
            let stream = match &self.trust {
                None => Stream::Plain(socket),
                Some(trust) => {
                    let session = ClientConnection::new(trust.config.clone(), trust.name.clone());
                    let session = session.map_err(io::Error::other)?;
                    Stream::Tls(Box::new(StreamOwned::new(session, socket)))
                }
            };
            self.connection = Some(BufReader::new(stream));
        }
        Ok(self.connection.as_mut().expect("it was just made"))
    }

    /// Reads an answer; one of the 1xx too.
    pub fn read_reply(&mut self, is_to_head: bool) -> io::Result<Reply> {
        let reply = read_reply(self.connection()?, is_to_head);
        let goes_on =
            reply.as_ref().is_ok_and(|(reply, at_end)| !at_end && reply.header("connection") != Some("close"));
        if !goes_on {
            self.connection = None;
        }
        Ok(reply?.0)
    }
}

/// The answer without its body.
fn read_head(from: &mut BufReader<Stream>) -> io::Result<Reply> {
    let status_line = read_line(from)?;
    let rest = status_line.strip_prefix("HTTP/1.1 ").or_else(|| status_line.strip_prefix("HTTP/1.0 "));
    let status = rest.and_then(|rest| rest.get(..3)?.parse().ok());
    let status = status.ok_or_else(|| wrong(format!("no status line: {status_line:?}")))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(from)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| wrong(format!("no header: {line:?}")))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Ok(Reply { status, headers, body: Vec::new() })
}

/// Adds the next chunk of a body; whether it was not the last one.
pub fn read_chunk(from: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<bool> {
    let size = read_line(from)?;
    let size = usize::from_str_radix(&size, 16).map_err(|_| wrong(format!("no chunk size: {size:?}")))?;
    let start = body.len();
    body.resize(start + size, 0);
    from.read_exact(&mut body[start..])?;
    read_line(from)?;
    Ok(size > 0)
}

/// The answer, and whether the connection ended with it.
fn read_reply(from: &mut BufReader<Stream>, is_to_head: bool) -> io::Result<(Reply, bool)> {
    let mut reply = read_head(from)?;
    let mut at_end = false;
    if is_to_head || reply.status < 200 || reply.status == 204 || reply.status == 304 {
        return Ok((reply, at_end));
    }
    if reply.header("transfer-encoding") == Some("chunked") {
        while read_chunk(from, &mut reply.body)? {}
    } else if let Some(length) = reply.header("content-length") {
        let length = length.parse().map_err(wrong)?;
        reply.body.resize(length, 0);
        from.read_exact(&mut reply.body)?;
    } else {
        from.read_to_end(&mut reply.body)?;
        at_end = true;
    }
    Ok((reply, at_end))
}

fn read_line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    match line.strip_suffix("\r\n") {
        Some(line) => Ok(line.to_owned()),
        None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("the connection ended after {line:?}"))),
    }
}

fn wrong(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

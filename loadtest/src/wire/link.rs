//! A link to a server: at most one connection, opened when it is needed, one request at a time. A client of its own: it
//! resumes its own TLS sessions, and nobody else's.

use std::sync::Arc;
use std::time::Duration;

use super::inbox::Inbox;
use super::reply::{Head, Reply};
use super::stream::Stream;
use super::tls::TlsClient;
use super::{Target, WireError};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeepAlive {
    Yes,
    /// Each request opens its own, as the published Guard client does.
    No,
}

pub(crate) struct Link {
    target: Arc<Target>,
    tls: Option<TlsClient>,
    keep_alive: KeepAlive,
    stream: Option<Stream>,
    inbox: Inbox,
}

impl Link {
    /// Not connected yet.
    pub(crate) fn new(target: Arc<Target>, keep_alive: KeepAlive) -> Self {
        Self { tls: target.tls_client(), target, keep_alive, stream: None, inbox: Inbox::new() }
    }

    pub(crate) fn body(&self) -> &[u8] {
        self.inbox.body()
    }

    /// Closes the connection, if one is open.
    pub(crate) fn disconnect(&mut self) {
        self.stream = None;
    }

    /// Sends a request and reads the whole answer.
    ///
    /// A kept connection that the server closed in the meantime is replaced once, as HTTP clients
    /// do: RFC 9112 section 9.3.1. Requests sent here are fit to be repeated.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Result<Reply, WireError> {
        if let Some(stream) = self.stream.take().filter(|stream| !stream.is_spent()) {
            match self.exchange_on(stream, request).await {
                Err(WireError::Closed) => {}
                other => return other,
            }
        }
        let stream = self.target.connect(self.tls.as_ref()).await?;
        self.exchange_on(stream, request).await
    }

    pub(crate) async fn exchange_within(&mut self, limit: Duration, request: &[u8]) -> Result<Reply, WireError> {
        tokio::time::timeout(limit, self.exchange(request)).await.unwrap_or(Err(WireError::Timeout(limit)))
    }

    /// Sends a request on a connection of its own and hands the body of the answer to `sink` piece
    /// by piece.
    pub(crate) async fn stream(&mut self, request: &[u8], sink: impl FnMut(&[u8])) -> Result<Reply, WireError> {
        let mut stream = self.target.connect(self.tls.as_ref()).await?;
        stream.send(request).await.map_err(WireError::Io)?;
        let head = self.inbox.read_streaming(&mut stream, sink).await?;
        Ok(head.reply)
    }

    async fn exchange_on(&mut self, mut stream: Stream, request: &[u8]) -> Result<Reply, WireError> {
        // A connection that was closed under our hands fails on the write or on the read.
        let head = match stream.send(request).await {
            Ok(()) => self.inbox.read(&mut stream).await?,
            Err(_) => return Err(WireError::Closed),
        };
        self.keep(stream, head);
        Ok(head.reply)
    }

    fn keep(&mut self, stream: Stream, head: Head) {
        if self.keep_alive == KeepAlive::Yes && !head.closes {
            self.stream = Some(stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::wire::{Method, fake, request};

    /// A link to a server that gives each connection one of these answers, and then closes it without a word.
    async fn link_to(answers: &'static [&'static str]) -> (Link, Vec<u8>, Arc<AtomicUsize>) {
        let connections = Arc::<AtomicUsize>::default();
        let count = connections.clone();
        let answer = move |_, _| std::future::ready(answers[count.fetch_add(1, Ordering::Relaxed)].to_owned());
        let target = Target::expect(&fake::serve(1, answer).await, None).await.expect("a target");
        let get = request(&target, Method::Get, "/", None, None);
        (Link::new(target, KeepAlive::Yes), get, connections)
    }

    #[tokio::test]
    async fn a_connection_that_the_server_closed_is_opened_again() {
        let answers = &[
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\none",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n",
        ];
        let (mut link, get, connections) = link_to(answers).await;
        assert_eq!(link.exchange(&get).await.expect("the first answer").status, 200);
        assert_eq!(link.body(), b"one");
        assert_eq!(link.exchange(&get).await.expect("the second answer").status, 200);
        assert_eq!(link.body(), b"two");
        assert_eq!(connections.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn half_an_answer_is_an_error_and_is_not_asked_for_again() {
        let (mut link, get, _server) = link_to(&["HTTP/1.1 200 OK\r\ncontent-length: 30\r\n\r\none"]).await;
        let error = link.exchange(&get).await.expect_err("half an answer");
        assert_eq!(error.kind(), "broken");
    }

    #[tokio::test]
    async fn a_streamed_body_arrives_whole_after_its_head() {
        let answers = &["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"];
        let (mut link, get, _server) = link_to(answers).await;
        let mut body = Vec::new();
        link.stream(&get, |piece| body.extend_from_slice(piece)).await.expect("an answer");
        assert_eq!(body, b"abcde");
    }
}

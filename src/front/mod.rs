//! The front door: from a TCP stream to requests, with bounds on all that a connection may hold.
//!
//! Agents' requests are answered by a loop of our own (`http1.rs`), as long as they keep to a strict subset of HTTP/1.1
//! (`subset.rs`). What serves the rest of HTTP/1 is actix-http's dispatcher, what serves HTTP/2 is the `h2` crate under a
//! server of our own (`http2.rs`). Below both lies a stream that notes what happens on the connection (`stream.rs`): bytes of a head, a
//! request in flight, an answer that nobody takes. From these notes a pure rule (`times.rs`) decides when a connection
//! has had its time, and a sweep over all connections of the worker (`worker.rs`) cuts those that have: one coarse clock
//! for all, no timer each. When connections are used up, the longest idle ones make room.
//!
//! The room knows neither routes nor the engine: the service is handed in, and so is the response to a peer that speaks no
//! HTTP ([`Refuse`]).

mod connection;
mod first_bytes;
mod frames;
mod framing;
mod http1;
mod http2;
mod live_count;
mod refusal;
mod stream;
mod subset;
mod times;
mod tls;
mod transport;
mod wheel;
mod wire;
mod worker;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    pin::pin,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use actix_http::{HttpService, KeepAlive, Request, Response};
use actix_server::{Server, ServerBuilder};
use actix_service::{Service, ServiceFactory, fn_factory, fn_service};
use actix_web::{Error, body::MessageBody, dev::AppConfig};
use bytes::Bytes;
use tokio::{io::AsyncWriteExt, net::TcpStream};

pub use self::{
    connection::{Connection, InFlightRequest},
    http1::{Answering, Direct},
    http2::HeadTooLarge,
    refusal::Refuse,
    subset::Head,
    times::Cut,
    worker::FrontMetrics,
};
use self::{
    first_bytes::Opening,
    http1::{End, Lean},
    stream::Observed,
    tls::Acceptor,
    transport::Transport,
    worker::Worker,
};
use crate::{
    clock::Clock,
    limits::{HEAD_TIMEOUT_MS, LINGER_MS},
    process::descriptors::margin,
};

/// How a listener treats its connections.
#[derive(Clone, Debug)]
pub struct FrontRules {
    /// Open connections on one worker; for one more the longest idle one is closed.
    pub max_connections: usize,
    /// An idle connection is closed after this.
    pub keep_alive: Duration,
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

/// Dependencies of the front door.
#[derive(Clone)]
pub struct FrontParts {
    /// For the `Date` of HTTP/2 answers.
    pub clock: Clock,
    /// Counts connections that were cut.
    pub metrics: FrontMetrics,
    /// Answers those who speak no HTTP.
    pub refuse: Refuse,
}

/// Listens on `listener` with `workers` threads. `make` is called once on each and gives what answers requests, and those
/// of agents directly, if there are any on this listener.
pub fn serve<M, F, B, D>(
    builder: ServerBuilder,
    listener: TcpListener,
    rules: FrontRules,
    parts: FrontParts,
    make: M,
) -> io::Result<Server>
where
    M: Fn() -> (F, Option<D>) + Clone + Send + 'static,
    F: ServiceFactory<Request, Config = AppConfig, Response = Response<B>, Error = Error, InitError = ()> + 'static,
    F::Service: 'static,
    <F::Service as Service<Request>>::Future: 'static,
    B: MessageBody + 'static,
    D: Direct,
{
    let accepted = rules.max_connections.saturating_add(margin(rules.max_connections));
    let builder = builder.max_concurrent_connections(accepted);
    let builder = builder.listen("http", listener, move || {
        let (make, rules, parts) = (make.clone(), rules.clone(), parts.clone());
        fn_factory(move || {
            let (service, direct) = make();
            let service = service.new_service(AppConfig::default());
            let (rules, parts) = (rules.clone(), parts.clone());
            async move {
                let door = Rc::new(Door::open(service.await?, direct, rules, parts).await?);
                Ok::<_, ()>(fn_service(move |stream: TcpStream| {
                    let door = door.clone();
                    // In a box: whoever runs it would hold it twice.
                    Box::pin(async move {
                        door.accept(stream).await;
                        Ok::<_, ()>(())
                    })
                }))
            }
        })
    })?;
    Ok(builder.run())
}

/// The front door of one worker.
struct Door<S, H, D> {
    worker: Rc<Worker>,
    acceptor: Option<Acceptor>,
    http1: H,
    service: Rc<S>,
    direct: Option<D>,
    refuse: Refuse,
}

impl<S, B, D> Door<S, (), D>
where
    S: Service<Request, Response = Response<B>, Error = Error> + 'static,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    /// Opens it, on the thread of the worker.
    async fn open(
        service: S,
        direct: Option<D>,
        rules: FrontRules,
        parts: FrontParts,
    ) -> Result<Door<S, impl Service<(Observed, Option<SocketAddr>)>, D>, ()> {
        let service = Rc::new(service);
        let shared = service.clone();
        let http1 = HttpService::build()
            // Idle connections and later heads have their time from the sweep. The first head has actix-http's own timer,
            // which answers 408.
            .keep_alive(KeepAlive::Os)
            .client_request_timeout(Duration::from_millis(HEAD_TIMEOUT_MS))
            .client_disconnect_timeout(Duration::from_millis(LINGER_MS))
            .on_connect_ext(|stream: &Observed, data| {
                data.insert(stream.connection().clone());
            })
            .h1(fn_factory(move || std::future::ready(Ok::<_, ()>(shared.clone()))))
            .new_service(())
            .await?;
        let worker = Worker::start(&rules, parts.metrics, parts.clock);
        let acceptor = rules.tls.map(Acceptor::new);
        Ok(Door { worker, acceptor, http1, service, direct, refuse: parts.refuse })
    }
}

impl<S, H, B, D> Door<S, H, D>
where
    S: Service<Request, Response = Response<B>, Error = Error>,
    H: Service<(Observed, Option<SocketAddr>)>,
    B: MessageBody,
    D: Direct,
{
    /// Serves a connection until it ends or is cut.
    async fn accept(&self, stream: TcpStream) {
        let Some(slot) = self.worker.accept() else {
            return;
        };
        let connection = slot.connection();
        let serving = pin!(self.serve(stream, connection));
        connection.until_cut(serving).await;
    }

    // What an idle connection does not need is boxed: its future is as large as the largest of its states.
    async fn serve(&self, stream: TcpStream, connection: &Rc<Connection>) -> Option<()> {
        let peer = stream.peer_addr().ok();
        let (transport, is_http2) = match &self.acceptor {
            // The first answer is one write: it need not be told not to wait for more.
            None => (Transport::Plain { stream }, false),
            Some(acceptor) => {
                stream.set_nodelay(true).ok()?;
                Box::pin(acceptor.accept(stream, peer, connection, &self.worker)).await?
            }
        };
        let Some(direct) = self.direct.as_ref().filter(|_| !is_http2) else {
            return Box::pin(self.serve_framework(transport, Bytes::new(), connection, is_http2, peer)).await;
        };
        let (worker, service) = (&*self.worker, &*self.service);
        let mut lean = Lean { transport, connection, worker, service, direct, peer, peer_closes: false };
        match lean.serve().await {
            End::Broken => Some(()),
            End::Answered { is_wanted } => Box::pin(self.close(lean.transport, connection, lean.peer, is_wanted)).await,
            End::HandOver(bytes) => {
                Box::pin(self.serve_framework(lean.transport, bytes, connection, false, lean.peer)).await
            }
        }
    }

    /// Serves what is not for the loop of agents' requests; `bytes` have been read already.
    async fn serve_framework(
        &self,
        transport: Transport,
        bytes: Bytes,
        connection: &Rc<Connection>,
        is_http2: bool,
        peer: Option<SocketAddr>,
    ) -> Option<()> {
        transport.set_nodelay().ok()?;
        let (transport, opening) = first_bytes::read(transport, bytes, connection, is_http2).await?;
        match opening {
            Opening::Http2 { bytes } => {
                let stream = Observed::http2(transport, bytes, connection.clone());
                http2::serve(stream, connection, &self.worker, &self.service, peer).await
            }
            Opening::Http1 { bytes } => {
                let stream = Observed::http1(transport, bytes, connection.clone(), self.refuse.clone(), peer);
                self.http1.call((stream, peer)).await.ok()?;
                Some(())
            }
        }
    }

    /// Gives the peer a moment to take the last answer, and reads what it still sends: bytes that are not read would reset the
    /// connection. `is_wanted`: it has said that it sends nothing more.
    async fn close(
        &self,
        mut transport: Transport,
        connection: &Rc<Connection>,
        peer: Option<SocketAddr>,
        is_wanted: bool,
    ) -> Option<()> {
        if is_wanted && transport.has_nothing_unread() {
            // The kernel sends what is on its way. Over TLS, a farewell too.
            return match &mut transport {
                Transport::Plain { .. } => Some(()),
                Transport::Tls { stream } => stream.shutdown().await.ok(),
            };
        }
        Observed::http1(transport, Bytes::new(), connection.clone(), self.refuse.clone(), peer).shutdown().await.ok()
    }
}

//! Request metrics, and a log line for each refused request.
//!
//! Admission control (`admission.rs`) records every request here when its response is ready, except heartbeats that are
//! answered 200: these are only counted, in `heartbeat.rs`.

use std::sync::Arc;

use actix_http::RequestHead;
use actix_web::{
    HttpRequest, HttpResponse, ResponseError as _,
    http::{Method, StatusCode},
};
use ipnet::IpNet;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;
use tracing::field::display;

use super::{
    auth::{Principal, claimed_agent},
    envelope::ApiError,
    heartbeat, peer,
    refusal::{Bucket, Kind, Refusal},
    request_id::request_id_of,
    routes::{Destination, HEARTBEAT_BATCH, Listener, READYZ},
};
use crate::{
    clock::Clock,
    config::ForwardedHeader,
    engine::Registered,
    fleet::{Address, AgentId},
    limits::PATH_SHOWN_MAX_BYTES,
    metrics::{HEARTBEAT_ENDPOINT, Metrics, OTHER_ENDPOINT},
};

/// Counts requests and logs refusals; clones share it.
#[derive(Clone, Debug)]
pub struct RequestLog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    metrics: Arc<Metrics>,
    clock: Clock,
    trusted_proxies: Vec<IpNet>,
    forwarded_header: ForwardedHeader,
    buckets: [Mutex<Bucket>; Kind::ALL.len()],
}

impl RequestLog {
    /// A request log; `trusted_proxies` and `forwarded_header` are for the client's address.
    pub fn new(
        metrics: Arc<Metrics>,
        clock: Clock,
        trusted_proxies: Vec<IpNet>,
        forwarded_header: ForwardedHeader,
    ) -> Self {
        let now = clock.monotonic();
        let buckets = Kind::ALL.map(|_| Mutex::new(Bucket::full(now)));
        Self { shared: Arc::new(Shared { metrics, clock, trusted_proxies, forwarded_header, buckets }) }
    }

    /// Counts and logs a request that could not be parsed, and was answered with this status.
    pub fn refused_unread(&self, request_id: &str, status: StatusCode, address: Option<Address>, reason: &str) {
        self.shared.metrics.request(OTHER_ENDPOINT, status.as_u16(), None);
        if let Some(suppressed) = self.take(Kind::MalformedHttp) {
            tracing::warn!(
                kind = Kind::MalformedHttp.name(),
                reason,
                endpoint = OTHER_ENDPOINT,
                status = status.as_u16(),
                address = address.map(display),
                request_id,
                suppressed,
                "a request was refused"
            );
        }
    }

    /// Logs a rejected line of a batch. Its agent is parsed only if there is room in the log.
    pub(super) fn refused_line(
        &self,
        request: &HttpRequest,
        line: u32,
        reason: &str,
        agent: impl FnOnce() -> Option<AgentId>,
    ) {
        if let Some(suppressed) = self.take(Kind::BatchLine) {
            let Shared { trusted_proxies, forwarded_header, .. } = &*self.shared;
            let address = peer::client(request.peer_addr(), request.headers(), trusted_proxies, *forwarded_header);
            tracing::warn!(
                kind = Kind::BatchLine.name(),
                reason,
                endpoint = HEARTBEAT_BATCH,
                line,
                agent = agent().map(display),
                address = address.map(display),
                request_id = request_id_of(request),
                suppressed,
                "a line of a batch was refused"
            );
        }
    }

    /// Logs how many refusals were suppressed, for kinds that have gone quiet; to be called regularly.
    pub fn upkeep(&self) {
        let now = self.shared.clock.monotonic();
        for kind in Kind::ALL {
            if let Some(suppressed) = self.bucket(kind).flush(now) {
                tracing::warn!(kind = kind.name(), suppressed, "more requests were refused");
            }
        }
    }

    /// Logs that an agent has registered; and if it was known under another name, that there may be two of it.
    pub(super) fn registered(
        &self,
        request: &HttpRequest,
        from: Option<Address>,
        by: Principal,
        registered: &Registered,
    ) {
        let Registered { registration, is_new, earlier_hostname, .. } = registered;
        let (id, hostname, request_id) = (registration.id, &*registration.hostname, request_id_of(request));
        tracing::info!(agent = %id, hostname, %by, address = from.map(display), request_id, is_new, "an agent registered");
        if let Some(earlier) = earlier_hostname
            && let Some(suppressed) = self.take(Kind::MachineIdConflict)
        {
            tracing::warn!(
                agent = %id,
                hostname,
                earlier_hostname = &**earlier,
                address = from.map(display),
                request_id,
                suppressed,
                "a machine_id was registered under another hostname: the machine was renamed, or two have the same one and \
                 take this agent from each other"
            );
        }
    }

    /// Whether there is room in the log for one more refusal of this kind; then, how many have not been logged, if any.
    fn take(&self, kind: Kind) -> Option<Option<u64>> {
        self.bucket(kind).take(self.shared.clock.monotonic())
    }

    fn bucket(&self, kind: Kind) -> MutexGuard<'_, Bucket> {
        self.shared.buckets[kind as usize].lock()
    }
}

/// What the log records of a request.
#[derive(Debug)]
pub(super) struct Visit {
    log: RequestLog,
    endpoint: &'static str,
    method: Method,
    path: Box<str>,
    address: Option<Address>,
    /// The agent that it claims to come from, or is about.
    agent: Option<AgentId>,
    /// When it arrived; none for a heartbeat, which is timed elsewhere.
    began: Option<Instant>,
}

impl Visit {
    /// A request that has just come.
    pub(super) fn begin(log: &RequestLog, listener: Listener, head: &RequestHead) -> Box<Self> {
        let began = Some(log.shared.clock.monotonic());
        Box::new(Self { began, ..Self::at(log, listener.destination(&head.method, head.uri.path()), head) })
    }

    /// A heartbeat that is being refused.
    #[cold]
    pub(super) fn of_heartbeat(log: &RequestLog, head: &RequestHead) -> Box<Self> {
        Box::new(Self::at(log, Listener::Api.destination(&head.method, head.uri.path()), head))
    }

    /// A heartbeat that is being refused and has not been through the framework. `claims`: the agent that its token names.
    #[cold]
    pub(super) fn of_direct(
        log: &RequestLog,
        id: AgentId,
        claims: Option<AgentId>,
        address: Option<Address>,
    ) -> Box<Self> {
        Box::new(Self {
            log: log.clone(),
            endpoint: HEARTBEAT_ENDPOINT,
            method: Method::POST,
            path: heartbeat::PATH.replace("{id}", &id.to_string()).into(),
            address,
            agent: claims.or(Some(id)),
            began: None,
        })
    }

    fn at(log: &RequestLog, destination: Destination<'_>, head: &RequestHead) -> Self {
        Self {
            log: log.clone(),
            endpoint: destination.name().unwrap_or(OTHER_ENDPOINT),
            method: head.method.clone(),
            path: shown_path(head.uri.path()).into(),
            address: peer::client(
                head.peer_addr,
                &head.headers,
                &log.shared.trusted_proxies,
                log.shared.forwarded_header,
            ),
            agent: claimed_agent(&head.headers).or_else(|| destination.agent()),
            began: None,
        }
    }

    /// The response to a refused heartbeat, with this in its extensions, where admission control finds it.
    pub(super) fn refused(self: Box<Self>, error: &ApiError) -> HttpResponse {
        let mut response = error.error_response();
        response.extensions_mut().insert(self);
        response
    }

    /// Counts the request, and logs it if it was refused; at `debug`, whatever is not a heartbeat.
    pub(super) fn end(self, request_id: &str, status: StatusCode, refusal: Option<Refusal>) {
        let Self { log, endpoint, method, path, address, agent, began } = self;
        let Shared { metrics, clock, .. } = &*log.shared;
        let took = began.map(|began| clock.monotonic() - began);
        metrics.request(endpoint, status.as_u16(), took);
        let (address, agent) = (address.map(display), agent.map(display));
        if let Some(took) = took
            && endpoint != HEARTBEAT_ENDPOINT
        {
            let (status, took_ms) = (status.as_u16(), took.as_micros() as f64 / 1e3);
            tracing::debug!(%method, path = &*path, endpoint, status, took_ms, agent, address, request_id, "request");
        }
        let is_refused = status.is_client_error() || status.is_server_error();
        // Not ready is an answer here, not a refusal.
        if !is_refused || endpoint == READYZ {
            return;
        }
        let Refusal { kind, reason } = refusal.unwrap_or_else(|| Refusal {
            kind: Kind::Other,
            reason: status.canonical_reason().unwrap_or_default().to_owned(),
        });
        if let Some(suppressed) = log.take(kind) {
            tracing::warn!(
                kind = kind.name(),
                reason,
                endpoint,
                status = status.as_u16(),
                agent,
                address,
                request_id,
                suppressed,
                "a request was refused"
            );
        }
    }
}

/// The part of a path that is shown: a client may have sent thousands of letters.
pub(super) fn shown_path(path: &str) -> &str {
    let end = (0..=path.len().min(PATH_SHOWN_MAX_BYTES)).rev().find(|end| path.is_char_boundary(*end));
    &path[..end.unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_path_is_cut() {
        assert_eq!(shown_path("/a"), "/a");
        let long = "/".to_owned() + &"é".repeat(PATH_SHOWN_MAX_BYTES);
        assert!(long.starts_with(shown_path(&long)) && shown_path(&long).len() <= PATH_SHOWN_MAX_BYTES);
    }
}

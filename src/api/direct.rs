//! Agents' requests, straight from their connections: which ones there are, and heartbeats without the framework.
//!
//! A heartbeat that is in order needs no request and no response of the framework: what it says is read out of the bytes
//! that came, and its answer is written into those that are sent. Any other heartbeat, and every other request, goes through
//! the framework, which refuses it for the right reason.

use std::{io::Write as _, net::SocketAddr, sync::Arc};

use actix_http::Response;
use actix_web::{
    body::BoxBody,
    http::{
        Method,
        header::{HeaderMap, HeaderValue},
    },
};
use tokio::time::Instant;

use super::{
    State,
    admission::{Admission, write_common_headers},
    auth::{Principal, bearer},
    fast_path, heartbeat,
    lifecycle::{InFlight, Phase, RequestGuard},
    peer,
    request_id::RequestId,
    request_log::Visit,
    routes::{Destination, Listener},
};
use crate::{
    fleet::{Address, AgentId, Heartbeat},
    front::{self, Answering, Head},
};

/// Answers what agents ask, on one worker.
#[derive(Debug)]
pub struct Direct {
    state: State,
    admission: Admission,
    in_flight: Arc<InFlight>,
    /// What every answer carries, as it is sent.
    common_headers: Vec<u8>,
}

impl Direct {
    /// With the admission control that requests pass which take the other ways, and its count of those in flight.
    pub fn new(state: State, admission: Admission, in_flight: Arc<InFlight>) -> Self {
        let mut common_headers = Vec::new();
        write_common_headers(admission.tls, &mut common_headers);
        Self { state, admission, in_flight, common_headers }
    }

    fn address(&self, head: &Head<'_>, peer: Option<SocketAddr>) -> Option<Address> {
        let (proxies, believed) = (&self.state.trusted_proxies, self.state.forwarded_header);
        let mut forwarding = HeaderMap::new();
        if !proxies.is_empty() {
            let name = peer::header(believed);
            let lines = head.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name.as_str()));
            for value in lines.filter_map(|line| HeaderValue::from_bytes(line.value).ok()) {
                forwarding.append(name.clone(), value);
            }
        }
        peer::client(peer, &forwarding, proxies, believed)
    }

    /// The heartbeat, if it is one that is in order.
    fn read(&self, head: &Head<'_>, body: &[u8], peer: Option<SocketAddr>) -> Option<Beat> {
        let id = fast_path::named_by(head.path).filter(|_| head.method == "POST")?;
        let arrived = self.state.engine.clock().monotonic();
        let RelevantHeaders { authorization, content_type, request_id } = RelevantHeaders::of(head)?;
        // Counted before the phase is read: see `Admission`.
        let in_flight = self.in_flight.begin();
        if self.admission.lifecycle.phase() != Phase::Serving
            || self.in_flight.being_handled() > self.admission.max_in_flight
        {
            return None;
        }
        let principal = Principal::with_token(bearer(authorization?)?, &self.state.auth).ok()?;
        if !heartbeat::ACCESS.allows(principal, Some(id)) {
            return None;
        }
        Some(Beat {
            id,
            principal,
            heartbeat: heartbeat::read_whole(content_type, body)?,
            arrived,
            request_id: RequestId::given_or_new(request_id),
            closes: head.closes(),
            address: self.address(head, peer),
            in_flight,
        })
    }

    async fn deliver(&self, beat: Beat) -> Result<Accepted, Response<BoxBody>> {
        let Beat { id, principal, heartbeat, arrived, request_id, closes, address, in_flight } = beat;
        let outcome = heartbeat::deliver(&self.state, principal, id, heartbeat).await;
        heartbeat::note(&self.state, arrived, outcome.as_ref().err());
        match outcome {
            Ok(json) => Ok(Accepted { json, request_id, _in_flight: in_flight.handled() }),
            Err(error) => {
                let visit = Visit::of_direct(&self.state.request_log, id, principal.agent(), address);
                Err(self.admission.refused(visit, &error, request_id, closes, in_flight))
            }
        }
    }
}

/// A heartbeat that is in order, but for what its agent's actor checks.
#[derive(Debug)]
pub struct Beat {
    id: AgentId,
    principal: Principal,
    heartbeat: Heartbeat,
    arrived: Instant,
    request_id: RequestId,
    closes: bool,
    address: Option<Address>,
    in_flight: RequestGuard,
}

/// That a heartbeat was accepted.
#[derive(Debug)]
pub struct Accepted {
    json: String,
    request_id: RequestId,
    /// In flight until this is dropped.
    _in_flight: RequestGuard,
}

impl front::Direct for Direct {
    type Answer = Accepted;
    type Body = BoxBody;

    fn takes(&self, method: &str, path: &str) -> bool {
        if method == "POST" && fast_path::named_by(path).is_some() {
            return true;
        }
        let Ok(method) = Method::from_bytes(method.as_bytes()) else { return false };
        match Listener::Api.destination(&method, path) {
            // As it is spelt in the table: HEAD has an answer of its own.
            Destination::Route(route, _) => route.is_for_agents() && route.verb.is(&method),
            Destination::WrongMethod { .. } | Destination::Nowhere => false,
        }
    }

    fn answer<'a>(&'a self, head: &Head<'_>, body: &[u8], peer: Option<SocketAddr>) -> Option<Answering<'a, Self>> {
        let beat = self.read(head, body, peer)?;
        Some(Box::pin(self.deliver(beat)))
    }

    fn write(&self, accepted: &Accepted, date: &str, closes: bool, out: &mut Vec<u8>) {
        let Accepted { json, request_id, .. } = accepted;
        let connection = if closes { "connection: close\r\n" } else { "" };
        let (length, id) = (json.len(), request_id.as_str());
        write!(
            out,
            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n{connection}content-type: application/json\r\n\
             x-request-id: {id}\r\ndate: {date}\r\n"
        )
        .expect("a vector takes all that is written to it");
        out.extend_from_slice(&self.common_headers);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(json.as_bytes());
    }
}

/// The headers that matter to a heartbeat.
#[derive(Default)]
struct RelevantHeaders<'a> {
    authorization: Option<&'a str>,
    content_type: Option<&'a str>,
    request_id: Option<&'a [u8]>,
}

impl<'a> RelevantHeaders<'a> {
    /// None if one of them is given twice, or is no text.
    fn of(head: &Head<'a>) -> Option<Self> {
        let mut found = Self::default();
        for header in head.headers {
            // The length rules out most names.
            let earlier = match header.name.len() {
                13 if header.name.eq_ignore_ascii_case("authorization") => {
                    found.authorization.replace(text(header.value)?).is_some()
                }
                12 if header.name.eq_ignore_ascii_case("content-type") => {
                    found.content_type.replace(text(header.value)?).is_some()
                }
                12 if header.name.eq_ignore_ascii_case("x-request-id") => {
                    found.request_id.replace(header.value).is_some()
                }
                _ => false,
            };
            if earlier {
                return None;
            }
        }
        Some(found)
    }
}

/// A value in visible ASCII, as headers of the framework are taken for text.
fn text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte == b'\t' || (b' '..0x7f).contains(&byte)))
}

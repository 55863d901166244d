//! Which endpoint a request is for.
//!
//! Paths are matched as they are written: one with a doubled or a trailing slash is not found, and the answer names it.
//! To take it for the one without would make `/api/agents/$ID` with an empty `$ID` the whole fleet, and let a path past
//! the rules of a proxy that compares them as they are.

use actix_web::http::Method;

use crate::{
    fleet::AgentId,
    metrics::{HEARTBEAT_ENDPOINT, OTHER_ENDPOINT},
};

/// What a request can be for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Heartbeat,
    ReportEvents,
    Register,
    ShowAgent,
    Deregister,
    ListAgents,
    HeartbeatBatch,
    ListThreats,
    ThreatSummary,
    Overview,
    PublishPolicy,
    ActivePolicy,
    AgentPolicy,
    LatestRules,
    EventStream,
    Openapi,
    Metrics,
    Health,
    Livez,
    Readyz,
    /// `OPTIONS /` and `OPTIONS *`: is anybody there?
    Ping,
    /// None of them.
    Other,
}

impl Endpoint {
    /// What it is called in metrics and in the log.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Heartbeat => HEARTBEAT_ENDPOINT,
            Self::ReportEvents => "report_events",
            Self::Register => "register",
            Self::ShowAgent => "show_agent",
            Self::Deregister => "deregister",
            Self::ListAgents => "list_agents",
            Self::HeartbeatBatch => "heartbeat_batch",
            Self::ListThreats => "list_threats",
            Self::ThreatSummary => "threat_summary",
            Self::Overview => "overview",
            Self::PublishPolicy => "publish_policy",
            Self::ActivePolicy => "active_policy",
            Self::AgentPolicy => "agent_policy",
            Self::LatestRules => "latest_rules",
            Self::EventStream => "event_stream",
            Self::Openapi => "openapi",
            Self::Metrics => "metrics",
            Self::Health => "health",
            Self::Livez => "livez",
            Self::Readyz => "readyz",
            Self::Ping => "ping",
            Self::Other => OTHER_ENDPOINT,
        }
    }
}

/// Where a method and a path lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Destination<'a> {
    /// To an endpoint, and to the agent that the path names with these words; empty if its path names none.
    Endpoint(Endpoint, &'a str),
    /// The path has other methods: these.
    WrongMethod(&'static str),
    /// There is no such path.
    Nowhere,
}

/// The listeners of the server; each has paths of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// Where agents and people come to.
    Api,
    /// For those who run the server.
    Operations,
}

impl Listener {
    /// Where a request leads.
    pub(super) fn destination<'a>(self, method: &Method, path: &'a str) -> Destination<'a> {
        match self {
            Self::Api => Destination::of(method, path),
            Self::Operations => Destination::of_operations(method, path),
        }
    }
}

impl<'a> Destination<'a> {
    /// Where a request of the main listener leads.
    ///
    /// By hand rather than with the framework's router: that one tries a regular expression after the other, which takes an
    /// eighth of the processor time of a heartbeat (docs/benchmarks.md).
    fn of(method: &Method, path: &'a str) -> Self {
        use Endpoint as E;
        use Methods::{Get, GetOrDelete, Post};
        let mut segments = path.strip_prefix('/').unwrap_or_default().split('/');
        let segments = [segments.next(), segments.next(), segments.next(), segments.next(), segments.next()];
        let (methods, agent) = match segments {
            // No agent without a name, but a slash too many.
            [Some("api"), Some("agents"), Some(""), ..] | [_, _, Some("agent"), Some(""), _] => return Self::Nowhere,
            [Some("api"), Some("agents"), Some(id), Some("heartbeat"), None] => (Post(E::Heartbeat), id),
            [Some("api"), Some("agents"), Some(id), Some("events"), None] => (Post(E::ReportEvents), id),
            [Some("api"), Some("agents"), Some("register"), None, _] => (Post(E::Register), ""),
            [Some("api"), Some("agents"), Some(id), None, _] => (GetOrDelete(E::ShowAgent, E::Deregister), id),
            [Some("api"), Some("agents"), None, ..] => (Get(E::ListAgents), ""),
            [Some("api"), Some("heartbeats"), None, ..] => (Post(E::HeartbeatBatch), ""),
            [Some("api"), Some("threats"), None, ..] => (Get(E::ListThreats), ""),
            [Some("api"), Some("threats"), Some("summary"), None, _] => (Get(E::ThreatSummary), ""),
            [Some("api"), Some("overview"), None, ..] => (Get(E::Overview), ""),
            [Some("api"), Some("policy"), None, ..] => (Post(E::PublishPolicy), ""),
            [Some("api"), Some("policy"), Some("active"), None, _] => (Get(E::ActivePolicy), ""),
            [Some("api"), Some("policy"), Some("agent"), Some(id), None] => (Get(E::AgentPolicy), id),
            [Some("api"), Some("rules"), Some("latest"), None, _] => (Get(E::LatestRules), ""),
            [Some("api"), Some("events"), Some("stream"), None, _] => (Get(E::EventStream), ""),
            [Some("api"), Some("openapi.json"), None, ..] => (Get(E::Openapi), ""),
            [Some("metrics"), None, ..] => (Get(E::Metrics), ""),
            [Some("health"), None, ..] => (Get(E::Health), ""),
            // `*` asks for the server as a whole.
            _ if method == Method::OPTIONS && ["/", "*"].contains(&path) => return Self::Endpoint(E::Ping, ""),
            _ => return Self::Nowhere,
        };
        Self::by(methods, method, agent)
    }

    /// Where a request of the operations listener leads.
    fn of_operations(method: &Method, path: &'a str) -> Self {
        let endpoint = match path {
            "/metrics" => Endpoint::Metrics,
            "/livez" => Endpoint::Livez,
            "/readyz" => Endpoint::Readyz,
            "/" | "*" if method == Method::OPTIONS => return Self::Endpoint(Endpoint::Ping, ""),
            _ => return Self::Nowhere,
        };
        Self::by(Methods::Get(endpoint), method, "")
    }

    fn by(methods: Methods, method: &Method, agent: &'a str) -> Self {
        methods.find(method).map_or(Self::WrongMethod(methods.allowed()), |endpoint| Self::Endpoint(endpoint, agent))
    }

    /// The agent that the path names.
    pub(super) fn agent(self) -> Option<AgentId> {
        match self {
            Self::Endpoint(_, agent) => agent.parse().ok(),
            Self::WrongMethod(_) | Self::Nowhere => None,
        }
    }

    /// The endpoint, or that it is none.
    pub(super) fn endpoint(self) -> Endpoint {
        match self {
            Self::Endpoint(endpoint, _) => endpoint,
            Self::WrongMethod(_) | Self::Nowhere => Endpoint::Other,
        }
    }
}

/// The methods of a path.
#[derive(Clone, Copy)]
enum Methods {
    Get(Endpoint),
    Post(Endpoint),
    GetOrDelete(Endpoint, Endpoint),
}

impl Methods {
    fn find(self, method: &Method) -> Option<Endpoint> {
        let is_get = [Method::GET, Method::HEAD].contains(method);
        match self {
            Self::Get(endpoint) => is_get.then_some(endpoint),
            Self::Post(endpoint) => (method == Method::POST).then_some(endpoint),
            Self::GetOrDelete(endpoint, _) if is_get => Some(endpoint),
            Self::GetOrDelete(_, endpoint) => (method == Method::DELETE).then_some(endpoint),
        }
    }

    const fn allowed(self) -> &'static str {
        match self {
            Self::Get(_) => "GET, HEAD",
            Self::Post(_) => "POST",
            Self::GetOrDelete(..) => "GET, HEAD, DELETE",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METHODS: [Method; 4] = [Method::GET, Method::POST, Method::DELETE, Method::OPTIONS];

    #[test]
    fn paths_are_matched_as_they_are_written() {
        let api = [
            "/api/agents",
            "/api/agents/register",
            "/api/agents/agent-0000000000000001",
            "/api/agents/agent-0000000000000001/heartbeat",
            "/api/agents/agent-0000000000000001/events",
            "/api/heartbeats",
            "/api/threats",
            "/api/threats/summary",
            "/api/overview",
            "/api/policy",
            "/api/policy/active",
            "/api/policy/agent/agent-0000000000000001",
            "/api/rules/latest",
            "/api/events/stream",
            "/api/openapi.json",
            "/metrics",
            "/health",
        ];
        let api = api.map(|path| (Listener::Api, path));
        let operations = ["/metrics", "/livez", "/readyz"].map(|path| (Listener::Operations, path));
        for (listener, path) in api.into_iter().chain(operations) {
            assert_ne!(listener.destination(&Method::GET, path), Destination::Nowhere, "{path}");
            let slashes = path.match_indices('/').map(|(place, _)| [&path[..place], "/", &path[place..]].concat());
            for other in slashes.chain([format!("{path}/"), format!("{path}//")]) {
                for method in METHODS {
                    assert_eq!(listener.destination(&method, &other), Destination::Nowhere, "{method} {other}");
                }
            }
        }
    }

    #[test]
    fn the_server_as_a_whole_is_asked_with_options_alone() {
        for listener in [Listener::Api, Listener::Operations] {
            for (method, path) in METHODS.iter().flat_map(|method| ["/", "*", "//", ""].map(|path| (method, path))) {
                let is_ping = listener.destination(method, path) == Destination::Endpoint(Endpoint::Ping, "");
                assert_eq!(is_ping, method == Method::OPTIONS && ["/", "*"].contains(&path), "{method} {path}");
            }
        }
    }
}

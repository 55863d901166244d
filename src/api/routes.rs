//! The routes: each endpoint, who may use it, and its handler. Routing, `Allow`, authorisation and the API's document
//! all read the one table.
//!
//! Paths are matched as they are written: one with a doubled or a trailing slash is not found, and the answer names it.
//! To take it for the one without would make `/api/agents/$ID` with an empty `$ID` the whole fleet, and let a path past
//! the rules of a proxy that compares them as they are.

use actix_web::http::Method;
use utoipa::IntoParams;

use self::Verb::{Delete, Get, Post};
use super::{
    agents,
    auth::Access,
    batch,
    call::{Answer, Call, Query},
    events, heartbeat, listing,
    openapi::{self, Description},
    operations, overview, policy, publish, register, report, summary, threats,
};
use crate::{fleet::AgentId, metrics::HEARTBEAT_ENDPOINT};

/// The name of the endpoint for batches, which logs its lines too.
pub(super) const HEARTBEAT_BATCH: &str = "heartbeat_batch";

/// A method and a path, and what becomes of them.
#[derive(Debug)]
pub(super) struct Route {
    /// Its label in metrics and in the log.
    pub(super) name: &'static str,
    pub(super) verb: Verb,
    /// With `{id}` for the name of an agent.
    pub(super) path: &'static str,
    pub(super) access: Access,
    pub(super) query: Query,
    pub(super) handler: Handler,
    /// Its description in the API's document; none off the main listener.
    pub(super) document: Option<fn() -> Description>,
}

/// The method of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Get,
    Post,
    Delete,
}

impl Verb {
    /// The methods that are answered, as `Allow` has them.
    const fn methods(self) -> &'static str {
        match self {
            Self::Get => "GET, HEAD",
            Self::Post => "POST",
            Self::Delete => "DELETE",
        }
    }

    /// As OpenAPI names it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "post",
            Self::Delete => "delete",
        }
    }

    /// Whether it is this very method.
    pub(super) fn is(self, method: &Method) -> bool {
        method.as_str().eq_ignore_ascii_case(self.name())
    }

    fn answers(self, method: &Method) -> bool {
        self.methods().split(", ").any(|name| name == method.as_str())
    }
}

type Handler = for<'a> fn(Call<'a>) -> Answer<'a>;

impl Route {
    const fn new(name: &'static str, verb: Verb, path: &'static str, access: Access, handler: Handler) -> Self {
        Self { name, verb, path, access, query: Query::Refused, handler, document: None }
    }

    const fn query<Q: IntoParams>(mut self) -> Self {
        self.query = Query::Of(openapi::query_of::<Q>);
        self
    }

    const fn ignores_query(mut self) -> Self {
        self.query = Query::Ignored;
        self
    }

    const fn described(mut self, document: fn() -> Description) -> Self {
        self.document = Some(document);
        self
    }

    /// Whether agents ask for it. Their requests and the answers to them are small, and come on connections that are kept.
    pub(super) fn is_for_agents(&self) -> bool {
        match self.access {
            Access::Registration | Access::Own | Access::Agent => true,
            Access::Anybody | Access::AnyToken | Access::Admin => false,
        }
    }

    /// The value of `{id}`, if the path matches this route; empty if the route has none.
    fn matches<'p>(&self, path: &'p str) -> Option<&'p str> {
        match self.path.split_once("{id}") {
            None => (path == self.path).then_some(""),
            Some((before, after)) => {
                let id = path.strip_prefix(before)?.strip_suffix(after)?;
                (!id.is_empty() && !id.contains('/')).then_some(id)
            }
        }
    }
}

macro_rules! handler {
    ($handler:path) => {
        |call| Box::pin($handler(call))
    };
}

/// What the main listener answers, in the order of the document. Of paths that match, the first counts.
static API: [Route; 18] = [
    Route::new("register", Post, "/api/agents/register", Access::Registration, handler!(register::register))
        .described(register::describe),
    Route::new(HEARTBEAT_ENDPOINT, Post, heartbeat::PATH, heartbeat::ACCESS, handler!(heartbeat::beat))
        .described(heartbeat::describe),
    Route::new(HEARTBEAT_BATCH, Post, "/api/heartbeats", Access::Admin, handler!(batch::heartbeats))
        .described(batch::describe),
    Route::new("list_agents", Get, "/api/agents", Access::Admin, handler!(listing::list))
        .query::<listing::AgentQuery>()
        .described(listing::describe),
    Route::new("show_agent", Get, "/api/agents/{id}", Access::Agent, handler!(agents::show))
        .described(agents::describe_show),
    Route::new("deregister", Delete, "/api/agents/{id}", Access::Agent, handler!(agents::deregister))
        .described(agents::describe_deregister),
    Route::new("report_events", Post, "/api/agents/{id}/events", Access::Agent, handler!(report::report))
        .described(report::describe),
    Route::new("list_threats", Get, "/api/threats", Access::Admin, handler!(threats::list))
        .query::<threats::ThreatQuery>()
        .described(threats::describe),
    Route::new("threat_summary", Get, "/api/threats/summary", Access::Admin, handler!(summary::summarise))
        .query::<summary::SummaryQuery>()
        .described(summary::describe),
    Route::new("publish_policy", Post, "/api/policy", Access::Admin, handler!(publish::publish))
        .described(publish::describe),
    Route::new("active_policy", Get, "/api/policy/active", Access::Admin, handler!(policy::active))
        .query::<policy::ActiveQuery>()
        .described(policy::describe_active),
    Route::new("agent_policy", Get, "/api/policy/agent/{id}", Access::Agent, handler!(policy::of_agent))
        .described(policy::describe_of_agent),
    Route::new("latest_rules", Get, "/api/rules/latest", Access::Own, handler!(policy::latest_rules))
        .described(policy::describe_latest_rules),
    Route::new("overview", Get, "/api/overview", Access::Admin, handler!(overview::overview))
        .described(overview::describe),
    Route::new("event_stream", Get, "/api/events/stream", Access::Admin, handler!(events::stream))
        .described(events::describe),
    Route::new("health", Get, "/health", Access::Anybody, handler!(operations::health))
        .described(operations::describe_health),
    Route::new("metrics", Get, "/metrics", Access::Admin, handler!(operations::metrics))
        .described(operations::describe_metrics),
    Route::new("openapi", Get, "/api/openapi.json", Access::AnyToken, handler!(openapi::serve))
        .described(openapi::describe),
];

/// What the operations listener answers. It has no token: bind it where only the monitoring reaches it.
static OPERATIONS: [Route; 3] = [
    Route::new("metrics", Get, "/metrics", Access::Anybody, handler!(operations::metrics)).ignores_query(),
    Route::new("livez", Get, "/livez", Access::Anybody, handler!(operations::alive)).ignores_query(),
    Route::new(READYZ, Get, "/readyz", Access::Anybody, handler!(operations::readyz)).ignores_query(),
];

/// `OPTIONS /` and `OPTIONS *`: the default health check of some load balancers.
static PING: Route = Route::new("ping", Get, "*", Access::Anybody, handler!(operations::alive)).ignores_query();

pub(super) const READYZ: &str = "readyz";

/// The routes of the API's document, in its order.
pub(super) fn documented() -> impl Iterator<Item = (&'static Route, Description)> {
    API.iter().filter_map(|route| Some((route, route.document?())))
}

/// The target of a method and a path.
#[derive(Clone, Debug)]
pub(super) enum Destination<'a> {
    /// Here, and to the agent that the path names with these words; empty if its path names none.
    Route(&'static Route, &'a str),
    /// The path has other methods.
    WrongMethod {
        allow: String,
        /// Whoever asks may know.
        is_open: bool,
    },
    /// There is no such path.
    Nowhere,
}

/// The listeners of the server; each has paths of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// The API, for agents and people.
    Api,
    /// For operators and their monitoring.
    Operations,
}

impl Listener {
    /// The target of a request.
    pub(super) fn destination<'a>(self, method: &Method, path: &'a str) -> Destination<'a> {
        let routes: &'static [Route] = match self {
            Self::Api => &API,
            Self::Operations => &OPERATIONS,
        };
        let Some((first, id)) = routes.iter().find_map(|route| Some((route, route.matches(path)?))) else {
            // `*` asks for the server as a whole.
            let is_ping = *method == Method::OPTIONS && ["/", "*"].contains(&path);
            return if is_ping { Destination::Route(&PING, "") } else { Destination::Nowhere };
        };
        let of_path = || routes.iter().filter(|route| route.path == first.path);
        match of_path().find(|route| route.verb.answers(method)) {
            Some(route) => Destination::Route(route, id),
            None => Destination::WrongMethod {
                allow: of_path().map(|route| route.verb.methods()).collect::<Vec<_>>().join(", "),
                is_open: first.access == Access::Anybody,
            },
        }
    }
}

impl Destination<'_> {
    /// The agent that the path names.
    pub(super) fn agent(&self) -> Option<AgentId> {
        match self {
            Self::Route(_, agent) => agent.parse().ok(),
            Self::WrongMethod { .. } | Self::Nowhere => None,
        }
    }

    /// The name of the route; none if there is none.
    pub(super) fn name(&self) -> Option<&'static str> {
        match self {
            Self::Route(route, _) => Some(route.name),
            Self::WrongMethod { .. } | Self::Nowhere => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METHODS: [Method; 4] = [Method::GET, Method::POST, Method::DELETE, Method::OPTIONS];

    fn is_nowhere(listener: Listener, method: &Method, path: &str) -> bool {
        matches!(listener.destination(method, path), Destination::Nowhere)
    }

    #[test]
    fn paths_are_matched_as_they_are_written() {
        let api = API.iter().map(|route| (Listener::Api, route));
        let operations = OPERATIONS.iter().map(|route| (Listener::Operations, route));
        for (listener, route) in api.chain(operations) {
            let path = route.path.replace("{id}", "agent-0000000000000001");
            let method = METHODS.into_iter().find(|method| route.verb.answers(method)).unwrap();
            let found = listener.destination(&method, &path);
            assert_eq!(found.name(), Some(route.name), "{path}");
            assert_eq!(found.agent().is_some(), route.path.contains("{id}"), "{path}");
            let slashes = path.match_indices('/').map(|(at, _)| [&path[..at], "/", &path[at..]].concat());
            let without_id = route.path.contains("{id}").then(|| route.path.replace("{id}", ""));
            for other in slashes.chain([format!("{path}/"), format!("{path}//")]).chain(without_id) {
                for method in METHODS {
                    assert!(is_nowhere(listener, &method, &other), "{method} {other}");
                }
            }
        }
    }

    #[test]
    fn every_route_of_the_main_listener_is_in_the_document() {
        let documented: Vec<_> = documented().map(|(route, _)| route.name).collect();
        assert_eq!(documented, API.iter().map(|route| route.name).collect::<Vec<_>>());
    }

    #[test]
    fn a_path_that_is_a_name_of_its_own_is_no_agent() {
        let Destination::WrongMethod { allow, is_open } =
            Listener::Api.destination(&Method::GET, "/api/agents/register")
        else {
            panic!("GET registers nobody")
        };
        assert_eq!((&*allow, is_open), ("POST", false));
    }

    #[test]
    fn the_server_as_a_whole_is_asked_with_options_alone() {
        for listener in [Listener::Api, Listener::Operations] {
            for (method, path) in METHODS.iter().flat_map(|method| ["/", "*", "//", ""].map(|path| (method, path))) {
                let is_ping = listener.destination(method, path).name() == Some("ping");
                assert_eq!(is_ping, method == Method::OPTIONS && ["/", "*"].contains(&path), "{method} {path}");
            }
        }
    }
}

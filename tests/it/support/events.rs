//! A reader of Server-Sent Events that forgives nothing.

use std::io::BufReader;

use serde_json::Value;

use super::{
    client::{Client, Reply, Request, Stream, read_chunk},
    expect::keys,
};

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub id: Option<String>,
    pub name: String,
    pub data: Value,
}

impl Event {
    /// The number in its id.
    pub fn number(&self) -> u64 {
        self.id.as_deref().and_then(|id| id.split_once('-')?.1.parse().ok()).unwrap_or_else(|| panic!("{self:?}"))
    }

    /// Whether it is of this kind and about this agent.
    pub fn is(&self, name: &str, agent: &str) -> bool {
        self.name == name && self.data["agentId"] == agent
    }

    /// How many agents it says have this status now.
    pub fn turned(&self, status: &str) -> u64 {
        if self.name == "fleet_changed" {
            assert_eq!(keys(&self.data), ["count", "from", "to"]);
            let is_it = self.data["to"] == status;
            return if is_it { self.data["count"].as_u64().expect("a count") } else { 0 };
        }
        (self.name == format!("agent_{status}")).into()
    }
}

/// An open stream of events.
pub struct EventStream {
    connection: BufReader<Stream>,
    pub head: Reply,
    unread: Vec<u8>,
}

impl EventStream {
    /// Opens the stream with this client's token; `last_event_id` to resume. The first event is `connected`.
    pub fn open(client: Client, last_event_id: Option<&str>) -> (Self, Event) {
        let mut request = Request::new("GET", "/api/events/stream");
        if let Some(id) = last_event_id {
            request = request.header("Last-Event-ID", id);
        }
        let (head, connection) = client.open(&request).unwrap();
        assert_eq!(head.status, 200, "{head:?}");
        let mut stream = Self { connection, head, unread: Vec::new() };
        let connected = stream.next().expect("a greeting");
        assert_eq!(connected.name, "connected");
        (stream, connected)
    }

    /// The next event; none if the stream ends as it should. Waits for it.
    pub fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.unread.drain(..end + 2).collect();
                let block = std::str::from_utf8(&block[..end]).expect("UTF-8");
                match parse(block) {
                    Some(event) => return Some(event),
                    None => continue,
                }
            }
            if !read_chunk(&mut self.connection, &mut self.unread).expect("a stream that goes on, or ends") {
                assert!(self.unread.is_empty(), "an event is torn");
                return None;
            }
        }
    }

    /// The events up to the first one that is wanted.
    pub fn until(&mut self, mut is_wanted: impl FnMut(&Event) -> bool) -> Vec<Event> {
        let mut events = Vec::new();
        while events.last().is_none_or(|event| !is_wanted(event)) {
            events.push(self.next().unwrap_or_else(|| panic!("the stream ended after {events:?}")));
        }
        events
    }
}

/// None for a comment.
fn parse(block: &str) -> Option<Event> {
    if block.starts_with(':') {
        return None;
    }
    let field = |name: &str| {
        let mut values = block.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let value = values.next().map(str::to_owned);
        assert_eq!(values.next(), None, "{block:?}");
        value
    };
    let data = field("data").unwrap_or_else(|| panic!("no data: {block:?}"));
    Some(Event {
        id: field("id"),
        name: field("event").expect("a name"),
        data: serde_json::from_str(&data).expect("JSON"),
    })
}

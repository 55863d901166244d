//! Agents' requests are answered by a loop of the server's own, all others by actix-http, which keeps a connection once it
//! has it. No client can tell which of the two took its request: the same bytes are sent both ways, to one server, and
//! what comes back must be the same.
//!
//! What comes back is compared as a client sees it: the answers and how many there are, how the connection ends, and what
//! the server counted. Apart from what is another one each time (times, generated ids, tokens).
//!
//! Two differences are known and left, since both are only in how long the server bears with a client that does not keep
//! to the protocol. The first head of a connection that takes too long is answered 408 by actix-http's timer, and a later
//! one is cut by the sweep; a head that the loop hands over is the first of its new dispatcher, so it gets the 408. And who
//! sends a request in pieces has the time of a head once more from the moment it is handed over.

mod broken_off;
mod corpus;
mod counted;
mod drained;
mod ended;
mod generated;
mod seen;

use std::{io::Write, net::Shutdown, thread, time::Duration};

use self::seen::{Outcome, read_all};
use crate::support::{Client, Launch, SOON, Server, client::Stream};

/// Has no meaning but to be outside the subset: it hands its connection over.
const HANDS_OVER: &[u8] = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// Between two pieces that the server is to see one by one.
const PAUSE: Duration = Duration::from_micros(300);

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The loop, for as long as it takes the requests.
    Loop,
    /// actix-http.
    Framework,
}

const BOTH: [Way; 2] = [Way::Loop, Way::Framework];

/// The agents of one way: what one does must not be seen by the other.
struct Names {
    id: String,
    token: String,
    other: String,
    other_token: String,
    admin: String,
}

impl Names {
    fn enrol(server: &Server) -> Self {
        let mut client = server.client();
        let (id, token) = client.enrol("h");
        let (other, other_token) = client.enrol("o");
        Self { id, token, other, other_token, admin: server.token.clone() }
    }

    /// Puts them where `{id}`, `{token}` and so on stand.
    fn fill(&self, template: &[u8]) -> Vec<u8> {
        let mut filled = Vec::with_capacity(template.len() + 200);
        let mut rest = template;
        while let Some(start) = rest.iter().position(|byte| *byte == b'{') {
            filled.extend_from_slice(&rest[..start]);
            rest = &rest[start..];
            let name = [
                (&b"{id}"[..], &self.id),
                (b"{token}", &self.token),
                (b"{other}", &self.other),
                (b"{other_token}", &self.other_token),
                (b"{admin}", &self.admin),
            ];
            let name = name.into_iter().find(|(name, _)| rest.starts_with(name));
            let (taken, put) = name.map_or((1, &b"{"[..]), |(name, value)| (name.len(), value.as_bytes()));
            filled.extend_from_slice(put);
            rest = &rest[taken..];
        }
        filled.extend_from_slice(rest);
        filled
    }
}

/// What is sent on a connection, with names to be filled in.
#[derive(Clone, Debug, Default)]
struct Sent {
    bytes: Vec<u8>,
    /// Places before which the sender pauses.
    pauses: Vec<usize>,
    pause: Duration,
}

impl Sent {
    fn at_once(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), pauses: Vec::new(), pause: PAUSE }
    }

    /// With a request behind it that shows what has become of the agent and ends the connection, if it comes so far.
    fn and_a_last_request(mut self) -> Self {
        self.bytes.extend_from_slice(
            b"GET /api/agents/{id} HTTP/1.1\r\nHost: l\r\nAuthorization: Bearer {admin}\r\nConnection: close\r\n\r\n",
        );
        self
    }

    fn in_two(&self, place: usize) -> Self {
        Self { pauses: vec![place], ..self.clone() }
    }
}

/// A server, and agents of both ways.
struct Both {
    server: Server,
    names: [Names; 2],
}

impl Both {
    fn start(launch: Launch) -> Self {
        let server = launch.start();
        let rules = serde_json::json!([{"type": "custom", "config": {"text": "x".repeat(50_000)}}]);
        server.client().post("/api/policy", serde_json::json!({"name": "n", "rules": rules})).data(201);
        let names = BOTH.map(|_| Names::enrol(&server));
        Self { server, names }
    }

    fn enrol_anew(&mut self) {
        self.names = BOTH.map(|_| Names::enrol(&self.server));
    }

    /// Sends it, says that nothing more comes, and reads until the server closes.
    fn exchange(&self, way: Way, sent: &Sent) -> Outcome {
        let names = &self.names[way as usize];
        let bytes = names.fill(&sent.bytes);
        let mut stream = self.connect(way);
        let reader = |stream: &mut Stream| read_all(stream, &bytes, names);
        let mut from = 0;
        for place in &sent.pauses {
            // The names may have shifted it: what matters is that there are all places.
            let place = (*place).clamp(from, bytes.len());
            // Who is refused early may be cut while sending.
            let _ = stream.write_all(&bytes[from..place]).and_then(|()| stream.flush());
            thread::sleep(sent.pause);
            from = place;
        }
        let _ = stream.write_all(&bytes[from..]).and_then(|()| stream.flush());
        if let Stream::Tls(tls) = &mut stream {
            tls.conn.send_close_notify();
            let _ = tls.flush();
        }
        let _ = stream.socket().shutdown(Shutdown::Write);
        reader(&mut stream)
    }

    /// A connection that is answered this way.
    fn connect(&self, way: Way) -> Stream {
        let mut client: Client = self.server.anonymous();
        if way == Way::Framework {
            client.write(HANDS_OVER).unwrap();
            client.read_reply(false).unwrap();
        }
        let stream = client.into_stream().unwrap();
        stream.socket().set_read_timeout(Some(SOON)).unwrap();
        stream
    }

    /// What differs when this is sent both ways, each of several times: what actix-http does with bytes behind a chunked
    /// body depends on when they come, so it differs from itself, once in some thousand times.
    fn difference(&self, sent: &Sent) -> Result<Outcome, String> {
        let mut compared = self.difference_once(sent);
        for _ in 0..3 {
            if compared.is_err() {
                compared = self.difference_once(sent);
            }
        }
        compared
    }

    fn difference_once(&self, sent: &Sent) -> Result<Outcome, String> {
        let mut outcomes = BOTH.map(|way| self.exchange(way, sent));
        if sent.has_more_behind_chunks() {
            outcomes.iter_mut().for_each(Outcome::forget_announced_ends);
        }
        let [ours, theirs] = outcomes;
        if let Some(reply) = ours.replies.iter().find(|reply| reply.status >= 500) {
            return Err(format!("{reply:?} to {}", sent.shown()));
        }
        if ours == theirs { Ok(ours) } else { Err(format!("{ours:#?}\ninstead of\n{theirs:#?}\nto {}", sent.shown())) }
    }

    fn assert_unharmed(&self) {
        self.server.anonymous().get("/health").data(200);
        let log = self.server.log();
        assert!(!log.contains("panicked"), "{log}");
    }
}

impl Sent {
    /// There actix-http 3.20 may announce `Connection: close` and goes on all the same (`front/framing.rs`).
    fn has_more_behind_chunks(&self) -> bool {
        let count = |part: &[u8]| self.bytes.windows(part.len()).filter(|bytes| *bytes == part).count();
        count(b"chunked") > 0 && count(b" HTTP/1.") > 1
    }

    fn shown(&self) -> String {
        let Self { bytes, pauses, .. } = self;
        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(1_500)]);
        format!("{start:?} ({} bytes, pauses before {pauses:?})", bytes.len())
    }
}

/// Calls `check` with a server that speaks plain HTTP and with one that speaks TLS, at once.
fn plain_and_tls(check: impl Fn(Both) + Sync) {
    thread::scope(|scope| {
        for launch in [Launch::plain(), Launch::tls()] {
            let check = &check;
            scope.spawn(move || check(Both::start(launch)));
        }
    });
}

//! Readers of the event stream: many at once, on a thread of their own, and whether each of them saw everything.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::aside::aside;
use crate::wire::{KeepAlive, Link, Method, Target, request};

use super::bulk::refusal;
use super::follower::Follower;

const PATH: &str = "/api/events/stream";
/// They come one after the other: all at once, they would be a load of another kind.
const APART: Duration = Duration::from_millis(1);
const NAP: Duration = Duration::from_millis(20);
/// In the end, those who are behind the others may take so long to catch up.
const CATCH_UP: Duration = Duration::from_secs(5);

pub(crate) struct Readers {
    pub(crate) target: Arc<Target>,
    pub(crate) token: Arc<str>,
    /// How many there are, at least one.
    pub(crate) count: u64,
    pub(crate) stop: CancellationToken,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Audience {
    /// Those who stayed to the end and saw every event since they came.
    pub(crate) stayed: u64,
    /// All others: they were refused or cut off, their streams broke or ended, or events were missing in them.
    pub(crate) lost: u64,
    /// Events that each of those who stayed saw since the last of them had come.
    pub(crate) events: u64,
    pub(crate) bytes: u64,
    pub(crate) first_failure: Option<String>,
}

type Account = Arc<Mutex<Follower>>;

impl Readers {
    /// Reads until it is over and all have what the first has. On a thread of its own, which ends when this is dropped.
    pub(crate) async fn run(self) -> anyhow::Result<Audience> {
        aside(async move || Ok(self.read().await)).await
    }

    async fn read(self) -> Audience {
        let get: Arc<[u8]> = request(&self.target, Method::Get, PATH, Some(&self.token), None).into();
        let accounts: Vec<Account> = (0..self.count).map(|_| Account::default()).collect();
        let mut streams = JoinSet::new();
        for (account, place) in accounts.iter().zip(0..) {
            streams.spawn(follow(self.target.clone(), get.clone(), APART * place, account.clone()));
        }
        self.stop.cancelled().await;
        // Whoever comes in these last moments is waited for, too.
        all_have(&accounts, 0).await;
        let goal = accounts.iter().filter_map(|account| account.lock().last()).max().unwrap_or(0);
        all_have(&accounts, goal).await;
        streams.abort_all();
        Audience::of(accounts.iter().map(|account| std::mem::take(&mut *account.lock())).collect(), goal)
    }
}

/// Waits, for no longer than [`CATCH_UP`], until all who still read have been greeted and have the event with this number.
async fn all_have(accounts: &[Account], goal: u64) {
    let begun = Instant::now();
    while begun.elapsed() < CATCH_UP && accounts.iter().any(|account| account.lock().is_behind(goal)) {
        tokio::time::sleep(NAP).await;
    }
}

/// Reads one stream to its end, which is none that anybody has wished for.
async fn follow(target: Arc<Target>, get: Arc<[u8]>, after: Duration, account: Account) {
    tokio::time::sleep(after).await;
    let mut link = Link::new(target.clone(), KeepAlive::No);
    let mut said = Vec::new();
    let read = link.stream(&get, |piece| {
        account.lock().feed(piece);
        // Of a refusal this is the reason.
        if said.is_empty() {
            said.extend_from_slice(piece);
        }
    });
    let failure = match read.await {
        Ok(reply) if reply.is_success() => format!("{target} ended an event stream"),
        Ok(reply) => refusal(&target, reply, &said),
        Err(error) => error.advice(&target),
    };
    account.lock().end(failure);
}

impl Audience {
    /// What these have seen up to the event with the number `goal`.
    fn of(followers: Vec<Follower>, goal: u64) -> Self {
        let mut audience = Self::default();
        let mut all_since = 0;
        for follower in followers {
            audience.bytes += follower.bytes();
            match follower.outcome(goal) {
                Ok(since) => {
                    audience.stayed += 1;
                    all_since = since.max(all_since);
                }
                Err(failure) => {
                    audience.lost += 1;
                    audience.first_failure.get_or_insert(failure);
                }
            }
        }
        if audience.stayed > 0 {
            audience.events = goal.saturating_sub(all_since);
        }
        audience
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that sends each who comes the text for his place, and then ends the stream of those for whom it says so.
    async fn serve(listener: TcpListener, streams: Vec<(&'static str, bool)>, served: CancellationToken) {
        let mut open = Vec::new();
        for (events, ends) in streams {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            assert!(socket.read(&mut [0; 4096]).await.expect("a request") > 0);
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            let end = if ends { "0\r\n\r\n" } else { "" };
            let chunk = format!("{head}{:x}\r\n{events}\r\n{end}", events.len());
            socket.write_all(chunk.as_bytes()).await.expect("sent");
            open.push(socket);
        }
        served.cancel();
        std::future::pending::<()>().await;
    }

    #[tokio::test]
    async fn those_who_stay_are_told_from_those_who_are_cut_off_or_miss_something() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let streams = vec![
            ("id: r-7\nevent: connected\n\nid: r-8\n\nid: r-9\n\n", false),
            ("id: r-8\nevent: connected\n\nid: r-9\n\n", false),
            ("id: r-7\nevent: connected\n\nid: r-9\n\n", false),
            ("id: r-7\nevent: connected\n\nevent: lagged\ndata: {}\n\n", true),
            ("id: r-7\nevent: connected\n\nid: r-8\n\nid: r-9\n\n", true),
        ];
        let stop = CancellationToken::new();
        tokio::spawn(serve(listener, streams, stop.clone()));
        // Not reached beforehand: that would be one more connection.
        let target = Target::expect(&url, None).await.expect("a target");
        let readers = Readers { target, token: "t".into(), count: 5, stop };
        let audience = readers.run().await.expect("an audience");
        assert_eq!((audience.stayed, audience.lost, audience.events), (2, 3, 1));
        assert!(audience.first_failure.is_some() && audience.bytes > 0);
    }
}

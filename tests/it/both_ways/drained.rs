//! The end of a server, while connections that are kept beat on.

use std::{
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    thread,
};

use nix::sys::signal::Signal;

use super::{BOTH, Both, HANDS_OVER, Way};
use crate::support::{Client, Launch, Request, SOON, wait_until};

/// How the last request of a connection ended.
#[derive(Debug, PartialEq, Eq)]
enum Last {
    /// 503, and the connection was closed.
    Refused,
    /// The connection had been closed, or was, without a byte of an answer: to be tried again elsewhere.
    Closed,
    Wrong(String),
}

/// Beats until the server ends. Every request is answered as it should be, or not at all.
fn beat_until_the_end(both: &Both, way: Way, heard: &AtomicUsize) -> Last {
    let names = &both.names[way as usize];
    let mut client: Client = both.server.anonymous().with_token(&names.token);
    if way == Way::Framework {
        client.write(HANDS_OVER).unwrap();
        client.read_reply(false).unwrap();
    }
    let beat = Request::new("POST", format!("/api/agents/{}/heartbeat", names.id)).json("{}");
    let beat = beat.encode(Some(&names.token));
    loop {
        if client.write(&beat).is_err() {
            return Last::Closed;
        }
        match client.read_reply(false) {
            Ok(reply) if reply.status == 200 && reply.header("connection").is_none() => {
                heard.fetch_add(1, SeqCst);
            }
            Ok(reply) if reply.status == 503 && reply.header("connection") == Some("close") => return Last::Refused,
            Ok(reply) => return Last::Wrong(format!("{reply:?}")),
            // Of an answer that has begun there is more to say than that it is missing.
            Err(error) if error.to_string().contains("HTTP") => return Last::Wrong(error.to_string()),
            Err(_) => return Last::Closed,
        }
    }
}

#[test]
fn whoever_beats_while_the_server_ends_is_answered() {
    for launch in [Launch::plain(), Launch::tls()] {
        let mut both = Both::start(launch);
        let heard = AtomicUsize::new(0);
        let lasts = thread::scope(|scope| {
            let beating: Vec<_> = (0..6)
                .flat_map(|_| BOTH)
                .map(|way| {
                    let (both, heard) = (&both, &heard);
                    scope.spawn(move || (way, beat_until_the_end(both, way, heard)))
                })
                .collect();
            wait_until(SOON, "all beat", || heard.load(SeqCst) > 100);
            both.server.signal(Signal::SIGTERM);
            beating.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        for (way, last) in &lasts {
            assert!(matches!(last, Last::Refused | Last::Closed), "{way:?}: {last:?}");
        }
        // Whoever beats without a pause is told.
        for way in BOTH {
            assert!(lasts.contains(&(way, Last::Refused)), "{way:?}: {lasts:?}");
        }
        assert!(both.server.wait_for_end().success());
        assert!(!both.server.log().contains("panicked"));
    }
}

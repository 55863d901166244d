//! When a connection is kept, and how it ends.

use std::{
    io::{Read, Write},
    thread,
    time::Duration,
};

use super::{BOTH, Both, Sent, Way, plain_and_tls, seen::End};
use crate::support::Launch;

#[test]
fn an_answer_to_an_older_client_does_not_end_the_connections_of_others() {
    // actix-http uses the heads of answers again, on each thread.
    let both = Both::start(Launch::plain().env("GUARDBEAT_SERVER__WORKERS", "1"));
    let refused = Sent::at_once(
        "POST /api/agents/{other}/heartbeat HTTP/1.1\r\nHost: l\r\nAuthorization: Bearer {token}\r\n\r\n".repeat(2),
    );
    for _ in 0..20 {
        let old = Sent::at_once("GET /api/rules/latest HTTP/1.0\r\nAuthorization: Bearer {token}\r\n\r\n");
        assert_eq!(both.exchange(Way::Framework, &old).replies.len(), 1);
        let outcome = both.exchange(Way::Loop, &refused);
        assert_eq!(outcome.replies.iter().map(|reply| reply.status).collect::<Vec<_>>(), [403, 403]);
    }
}

#[test]
fn whoever_asks_for_nothing_more_is_told_the_end_of_tls() {
    plain_and_tls(|both| {
        let beat = "POST /api/agents/{id}/heartbeat HTTP/1.1\r\nHost: l\r\nAuthorization: Bearer {token}\r\n\r\n";
        for way in BOTH {
            for requests in 0..3 {
                let outcome = both.exchange(way, &Sent::at_once(beat.repeat(requests)));
                assert_eq!((outcome.replies.len(), outcome.end), (requests, End::Closed), "{way:?}");
            }
        }
    });
}

#[test]
fn what_is_no_request_is_not_answered_behind_the_last_answer() {
    plain_and_tls(|both| {
        for pause in [0, 1, 20, 50] {
            let mut stream = both.connect(Way::Loop);
            let refused = "POST /api/agents/nobody/heartbeat HTTP/1.1\r\nHost: l\r\nAuthorization: Bearer {admin}\r\n\
                           Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
            stream.write_all(&both.names[0].fill(refused.as_bytes())).and_then(|()| stream.flush()).unwrap();
            thread::sleep(Duration::from_millis(pause));
            let _ = stream.write_all(b"X\r\n y\r\n\r\n").and_then(|()| stream.flush());
            let mut bytes = Vec::new();
            // Closed with something on its way, it may be reset.
            let _ = stream.read_to_end(&mut bytes);
            let text = String::from_utf8_lossy(&bytes);
            assert!(text.starts_with("HTTP/1.1 404") && text.contains("\r\nconnection: close\r\n"), "{text}");
            assert_eq!(text.matches("HTTP/1.1").count(), 1, "{text}");
        }
    });
}

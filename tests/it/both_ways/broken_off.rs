//! Clients that break off, at any place of a request or of its answer: nothing of them is left.

use std::{io::Read, io::Write, net::Shutdown, time::Duration};

use super::{BOTH, Both, Names, Way, plain_and_tls};
use crate::support::{client::Stream, wait_until};

/// Before they break off.
const PLACES: usize = 12;

/// Closes with RST: what is on its way is lost.
fn reset(stream: Stream) {
    socket2::SockRef::from(stream.socket()).set_linger(Some(Duration::ZERO)).unwrap();
}

fn requests(names: &Names) -> Vec<u8> {
    let beat = b"POST /api/agents/{id}/heartbeat HTTP/1.1\r\nHost: l\r\nAuthorization: Bearer {token}\r\n\
                 Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{\"cpu\":5}";
    let rules = b"GET /api/rules/latest HTTP/1.1\r\nHost: l\r\nAuthorization: Bearer {token}\r\n\r\n";
    names.fill(&[&beat[..], rules, rules, beat, rules].concat())
}

#[test]
fn clients_that_break_off_leave_nothing_behind() {
    plain_and_tls(|mut both| {
        for way in BOTH {
            break_off(&both, way);
        }
        // Who sends a part of a request stands nowhere else in the way, and more of them than the loop bears are answered.
        let (begin, end) = whole_in_two(&both.names[0]);
        let mut held: Vec<_> = (0..350).map(|_| both.connect(Way::Loop)).collect();
        held.iter_mut().for_each(|stream| stream.write_all(&begin).and_then(|()| stream.flush()).unwrap());
        held.iter_mut().for_each(|stream| stream.write_all(&end).and_then(|()| stream.flush()).unwrap());
        for stream in &mut held {
            let mut status = [0; 12];
            stream.read_exact(&mut status).unwrap();
            assert_eq!(&status, b"HTTP/1.1 200");
        }
        drop(held);
        both.assert_unharmed();
        // A request that was still counted as in flight would hold up the end.
        assert!(both.server.terminate().success());
        let log = both.server.log();
        assert!(!log.contains("the grace period is over"), "{log}");
    });
}

/// A heartbeat of nearly as many bytes as the loop takes, without its last one, and that.
fn whole_in_two(names: &Names) -> (Vec<u8>, Vec<u8>) {
    let body = format!("{{{}}}", " ".repeat(14_998));
    let head = "POST /api/agents/{id}/heartbeat HTTP/1.1\r\nHost: l\r\nAuthorization: Bearer {token}\r\n\
                Content-Type: application/json\r\nContent-Length: 15000\r\n\r\n";
    let mut whole = names.fill(&[head, &body].concat().into_bytes());
    let last = whole.split_off(whole.len() - 1);
    (whole, last)
}

fn break_off(both: &Both, way: Way) {
    let requests = requests(&both.names[way as usize]);
    for place in (0..=PLACES).map(|place| place * requests.len() / PLACES) {
        // With what was asked unanswered, in the middle of an answer, and without a word.
        for read in [0, 1, 30_000] {
            let mut stream = both.connect(way);
            stream.write_all(&requests[..place]).and_then(|()| stream.flush()).unwrap();
            let answers = if place == requests.len() { read } else { 0 };
            let _ = stream.read_exact(&mut vec![0; answers]);
            match read {
                0 => reset(stream),
                1 => drop(stream.socket().shutdown(Shutdown::Both)),
                _ => drop(stream),
            }
        }
    }
    let mut watch = both.server.client();
    wait_until(crate::support::SOON, "it answers", || watch.get("/health").status == 200);
}

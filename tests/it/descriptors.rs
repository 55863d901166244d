//! Open files: many connections must not take those of the store and of the operations listener.

use std::net::TcpStream;

use tempfile::TempDir;

use crate::support::{Launch, SOON, server::run_with_files, wait_until};

#[test]
fn with_few_files_connections_are_bounded_and_the_store_and_operations_go_on() {
    let launch = Launch::plain().env("GUARDBEAT_SERVER__WORKERS", "2").open_files(256);
    let mut server = launch.start();
    assert!(server.log().contains("fewer connections than server.max_connections"), "{}", server.log());
    assert_eq!(server.metric("process_max_fds"), 256.0, "raised as far as it goes");
    let (id, _) = server.client().enrol("before");
    let idle: Vec<_> = (0..300).map(|_| TcpStream::connect(server.api).unwrap()).collect();
    wait_until(SOON, "all that may be open are", || server.metric("process_open_fds") >= 80.0);
    let mut client = server.client();
    for n in 0..50 {
        server.operations().get("/livez").data(200);
        assert!(server.metric("process_open_fds") < 250.0);
        client.enrol(&format!("host-{n}"));
        client.beat(&id, "{}").data(200);
    }
    assert!(server.is_ready());
    drop(idle);
    server.client().enrol("after");
    assert_eq!(server.terminate().code(), Some(0), "{}", server.log());
    assert!(!server.log().contains("Too many open files"), "{}", server.log());
}

#[test]
fn with_too_few_files_a_start_ends_with_a_message() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let args = ["--listen", "127.0.0.1:0", "--tls", "off", "--data-dir", data.to_str().unwrap()];
    let env = [("GUARDBEAT_METRICS__LISTEN", "127.0.0.1:0"), ("GUARDBEAT_SERVER__WORKERS", "2")];
    for limit in (8..=32).chain([64, 100, 150]) {
        let ended = run_with_files(limit, dir.path(), &args, &env);
        assert_eq!(ended.code, Some(1), "{limit}: {}", ended.stderr);
        assert!(ended.stderr.contains("The server cannot start: "), "{limit}: {}", ended.stderr);
        assert!(!ended.stderr.contains("panicked"), "{limit}: {}", ended.stderr);
    }
}

//! A background task that panics is started again, or ends the process with a word.

use std::fs;

use guardbeat::process::supervision::{ACCEPTOR_THREAD, FAULTS_VARIABLE, Task};
use tempfile::TempDir;

use crate::support::{EventStream, Launch, SOON, Server, redis::RedisServer, wait_until};

/// How many threads of the server have this name, as far as the system keeps it.
fn threads(server: &Server, name: &str) -> usize {
    let names = fs::read_dir(format!("/proc/{}/task", server.id())).unwrap();
    let names = names.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("comm")).ok());
    names.filter(|kept| kept.trim_end() == &name[..name.len().min(15)]).count()
}

/// Lets the task panic in a server that has an agent.
fn let_panic(task: Task, launch: Launch) {
    let faults = TempDir::new().unwrap();
    let mut server = launch.env(FAULTS_VARIABLE, faults.path().to_str().unwrap()).start();
    let (id, _) = server.client().enrol("before");
    if task == Task::Acceptor {
        // Those of both listeners, and one of a name like theirs which may panic.
        assert_eq!(threads(&server, ACCEPTOR_THREAD), 3);
    }
    let order = faults.path().join(task.name());
    fs::write(&order, "").unwrap();
    match task {
        Task::Main | Task::Committer | Task::Flusher | Task::WorkerQueue | Task::ThreatLog | Task::Acceptor => {
            assert_eq!(server.wait_for_end().code(), Some(1), "{task:?}: {}", server.log());
            let log = server.log();
            let last = log.lines().last().unwrap_or_default();
            assert!(last.starts_with("The server ended") && last.contains(task.name()), "{task:?}: {log}");
            assert!(log.contains("panicked at"), "{task:?}: {log}");
            let server = server.restart();
            server.client().get(&format!("/api/agents/{id}")).data(200);
        }
        Task::Collector | Task::Upkeep | Task::ThreatLoader | Task::RedisKeeper | Task::Sweeper => {
            wait_until(SOON, "it is started again", || server.log().contains("started again"));
            assert!(server.log().contains(task.name()), "{task:?}: {}", server.log());
            // It can panic a second time only if it runs again.
            fs::write(&order, "").unwrap();
            wait_until(SOON, "it runs again", || !order.exists());
            let (mut events, _) = EventStream::open(server.client(), None);
            let (id, _) = server.client().enrol("after");
            events.until(|event| event.is("agent_online", &id));
            assert!(server.is_ready());
            assert_eq!(server.terminate().code(), Some(0), "{task:?}: {}", server.log());
        }
    }
}

#[test]
fn every_background_task_that_panics_is_started_again_or_ends_the_process_with_a_word() {
    for task in Task::ALL.into_iter().filter(|task| *task != Task::RedisKeeper) {
        let_panic(task, Launch::plain());
    }
}

#[test]
fn the_keeper_of_the_link_to_redis_is_started_again() {
    let redis = RedisServer::start();
    let_panic(Task::RedisKeeper, Launch::plain().env("REDIS_URL", redis.url()));
}

//! A copy that does not come to its end.

use std::{
    fs,
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use super::{copy, ends, small_fleet, store};
use crate::support::{SOON, redis::RedisServer, server::run, wait_until};

/// A `store copy` that can be told to stop.
struct Copying(Child);

impl Drop for Copying {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Puts a fleet into a Redis that no daemon has used: agents of every partition, each with a heartbeat.
fn populate(redis: &RedisServer, agents_per_partition: u32) {
    let script = "redis.call('HSET', 'guardbeat:meta', 'format', '1', 'clock', '5000000') \
                  for partition = 0, 1023 do \
                    local key = string.format('guardbeat:{p%04d}:', partition) \
                    for agent = 1, ARGV[1] do \
                      local id = string.format('%03x%013x', partition * 4, agent) \
                      redis.call('HSET', key .. 'agents', id, ARGV[2]) \
                      redis.call('HSET', key .. 'heartbeats', id, ARGV[3]) \
                    end \
                  end";
    let agent = format!(r#"[1,"h","linux","1","127.0.0.1",null,[],null,1000,1,"{}8"]"#, "_".repeat(42));
    let heartbeat = r#"[1,1000,2000,4000000,"1",null,null,null]"#;
    redis.command(&["EVAL", script, "0", &agents_per_partition.to_string(), &agent, heartbeat]);
}

#[test]
fn a_copy_that_is_stopped_half_way_says_so_and_can_be_made_again() {
    let (dir, from, to) = (TempDir::new().unwrap(), RedisServer::start(), RedisServer::start());
    populate(&from, 30);
    let child = Command::new(env!("CARGO_BIN_EXE_guardbeat"))
        .current_dir(dir.path())
        .env_clear()
        .args(["store", "copy", "--from", &from.url(), "--to", &to.url()])
        .stdin(Stdio::null())
        .stderr(fs::File::create(dir.path().join("copy.stderr")).unwrap())
        .spawn();
    let mut copying = Copying(child.unwrap());
    wait_until(SOON, "it has written some", || !to.keys("guardbeat:{p*}:agents").is_empty());
    // So that it cannot be faster than the signal.
    to.freeze();
    kill(Pid::from_raw(copying.0.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    let mut ended = None;
    wait_until(SOON, "it ends", || {
        ended = copying.0.try_wait().unwrap();
        ended.is_some()
    });
    to.thaw();
    let said = fs::read_to_string(dir.path().join("copy.stderr")).unwrap();
    assert_eq!(ended.unwrap().code(), Some(1), "{said}");
    for part in ["The copy is incomplete: told to stop", "delete all keys", "guardbeat:", "copy again", "--merge"] {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
    assert!(!to.fields("guardbeat:meta").contains_key("clock"), "the clock comes last");

    ends(&copy(dir.path(), &from.url(), &to.url(), &[]), 1, &["copy into an empty store", "--merge"]);
    let copied = copy(dir.path(), &from.url(), &to.url(), &["--merge"]);
    ends(&copied, 0, &["copied 30,720 agents, 30,720 last heartbeats"]);
    ends(&store(dir.path(), &["check", "--store", &to.url()]), 0, &["agents           30,720", "never heard      0"]);
}

#[test]
fn a_target_that_refuses_ends_the_copy() {
    let dir = small_fleet();
    let redis = RedisServer::start();
    let env = [("GUARDBEAT_STORE__MIN_REPLICAS", "1"), ("GUARDBEAT_STORE__TIMEOUT_MS", "100")];
    let args = ["store", "copy", "--from", "embedded:store", "--to", &redis.url()];
    ends(&run(dir.path(), &args, &env), 1, &["The copy is incomplete", "store.min_replicas", "delete all keys"]);
    redis.command(&["FLUSHALL"]);
    ends(&copy(dir.path(), "embedded:store", &redis.url(), &[]), 0, &["copied 3 agents"]);
    let full = RedisServer::launch().line("maxmemory 1mb").line("maxmemory-policy noeviction").start();
    let quickly = [("GUARDBEAT_STORE__CONNECT_TIMEOUT_MS", "500")];
    let args = ["store", "copy", "--from", "embedded:store", "--to", &full.url()];
    let refused = run(dir.path(), &args, &quickly);
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("maxmemory"), "{}", refused.stderr);
}

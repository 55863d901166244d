//! A disk that fills up under the store, and has room again.

use std::{
    fs::{self, File},
    io::Write,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::support::{Client, Launch, SOON, wait_until};

/// A small disk of its own, in memory.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// None where the tests may not mount: that takes root, which CI has.
    fn mount() -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=160m", "tmpfs"]).arg(folder.path()).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(folder));
        }
        assert!(std::env::var_os("CI").is_none(), "CI must be able to mount a tmpfs");
        eprintln!("skipped: mounting a tmpfs takes root");
        None
    }

    fn filler(&self) -> PathBuf {
        self.0.path().join("filler")
    }

    fn fill(&self) {
        let mut filler = File::create(self.filler()).unwrap();
        let zeros = vec![0; 64 * 1024];
        while filler.write_all(&zeros).is_ok() {}
        while filler.write_all(&zeros[..1]).is_ok() {}
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the daemon may still be ending.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn register(client: &mut Client, n: usize) -> u16 {
    // Long texts, so that the space that is left in the store's files is soon used.
    let tags: Vec<_> = (0..32).map(|tag| format!("{tag:064}")).collect();
    let body = json!({"hostname": format!("host-{n}"), "os": "linux", "version": "1", "tags": tags});
    let reply = client.post("/api/agents/register", &body);
    if reply.status == 503 {
        assert!(reply.header("retry-after").is_some(), "{reply:?}");
        assert_eq!(reply.error(503), "The store cannot be written to now; try again later");
    }
    reply.status
}

#[test]
fn a_full_disk_refuses_what_must_be_durable_and_keeps_the_rest_and_room_mends_it() {
    let Some(disk) = SmallDisk::mount() else { return };
    let log = File::options().create(true).append(true).open(disk.0.path().join("log")).unwrap();
    let mut server = Launch::plain()
        .arg(format!("--store=embedded:{}", disk.0.path().join("store").display()))
        .env("GUARDBEAT_LOG__LEVEL", "info")
        .stderr(log)
        .start();
    let mut client = server.client();
    let (beating, _) = client.enrol("beating");
    disk.fill();

    let mut kept = vec!["beating".to_owned()];
    let mut n = 0;
    while register(&mut client, n) == 201 {
        kept.push(format!("host-{n}"));
        n += 1;
        assert!(n < 200_000, "the disk is not full");
    }
    let refused = format!("host-{n}");
    assert!(!server.is_ready());
    assert_eq!(client.beat(&beating, r#"{"cpu":77}"#).status, 200, "heartbeats go on");
    wait_until(SOON, "the log, on the same disk, has no room either", || {
        server.signal(Signal::SIGHUP);
        server.metric("guardbeat_log_dropped_total") >= 1.0
    });
    let began = Instant::now();
    wait_until(SOON, "some probes have failed", || {
        assert!(!server.is_ready(), "not ready before something could be written");
        began.elapsed() > Duration::from_millis(2_500)
    });

    fs::remove_file(disk.filler()).unwrap();
    wait_until(SOON, "it is ready again by itself", || server.is_ready());
    assert_eq!(server.metric("guardbeat_store_up"), 1.0);
    assert_eq!(register(&mut client, 1_000_000), 201);
    kept.push("host-1000000".to_owned());
    wait_until(SOON, "the heartbeats are written", || server.metric("guardbeat_store_dirty_agents") == 0.0);

    server.kill9();
    let server = server.restart();
    let listed = server.client().get("/api/agents").data(200);
    let mut names: Vec<_> =
        listed.as_array().unwrap().iter().map(|agent| agent["hostname"].as_str().unwrap()).collect();
    names.sort_unstable();
    kept.sort_unstable();
    assert!(!names.contains(&refused.as_str()), "what was refused is not there");
    assert_eq!(names, kept);
    assert_eq!(server.client().get(&format!("/api/agents/{beating}")).data(200)["cpu"], 77);
}

//! An embedded store that is damaged, or gone.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use serde_json::json;
use tempfile::TempDir;

use crate::support::{
    Client, Launch, SOON, Server,
    server::{Ended, run},
    wait_until,
};

const ACCEPT_LOSS: (&str, &str) = ("GUARDBEAT_STORE__ACCEPT_LOSS", "true");

fn launch(store: &Path) -> Launch {
    Launch::plain().arg(format!("--store=embedded:{}", store.display()))
}

/// A fleet of three with a policy and two threats, in the folder `store` of the answer.
fn fleet() -> TempDir {
    let dir = TempDir::new().unwrap();
    let mut server = launch(&dir.path().join("store")).start();
    let mut client = server.client();
    let (agent, _) = ["one", "two", "three"].map(|name| client.enrol(name))[0].clone();
    client.post("/api/policy", json!({"name": "p", "rules": []})).data(201);
    let event = json!({"type": "scan", "severity": "low", "details": {}});
    client.post(&format!("/api/agents/{agent}/events"), json!({"events": [event, event]})).data(201);
    assert!(server.terminate().success());
    dir
}

/// A server that does not start.
fn refused(store: &Path, env: &[(&str, &str)]) -> String {
    let dir = TempDir::new().unwrap();
    let url = format!("--store=embedded:{}", store.display());
    let ended = run(
        dir.path(),
        &["serve", "--listen=127.0.0.1:0", "--tls=off", &url],
        &[env, &[("GUARDBEAT_METRICS__LISTEN", "127.0.0.1:0")]].concat(),
    );
    assert_eq!(ended.code, Some(1), "{}{}", ended.stdout, ended.stderr);
    ended.stderr
}

fn check(store: &Path, env: &[(&str, &str)]) -> Ended {
    let dir = TempDir::new().unwrap();
    run(dir.path(), &["store", "check", &format!("--store=embedded:{}", store.display())], env)
}

fn contains(text: &str, parts: &[&str]) {
    parts.iter().for_each(|part| assert!(text.contains(part), "{part:?} is not in: {text}"));
}

fn hostnames(server: &Server) -> usize {
    server.client().get("/api/agents").data(200).as_array().unwrap().len()
}

/// A file, and what is done to it.
type Injury = (&'static str, fn(&Path));

fn remove(file: &Path) {
    fs::remove_file(file).unwrap();
}

fn halve(file: &Path) {
    let bytes = fs::read(file).unwrap();
    // Most of a journal is room that is not used yet.
    let filled = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    fs::write(file, &bytes[..filled / 2]).unwrap();
}

fn flip(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    bytes[200] ^= 1;
    fs::write(file, bytes).unwrap();
}

#[test]
fn a_damaged_store_is_refused_or_with_leave_started_with_what_is_left_and_a_check_says_the_same() {
    let fleet = fleet();
    let injuries: [(Injury, usize); 6] = [
        (("agents/0.jnl", remove), 0),
        (("agents/0.jnl", halve), 2),
        (("agents/0.jnl", flip), 2),
        (("agents/keyspaces/1/current", remove), 3),
        (("agents/keyspaces/2/current", flip_short), 3),
        (("agents/keyspaces/0/current", remove), 3),
    ];
    for (number, ((file, injure), least)) in injuries.into_iter().enumerate() {
        let store = fleet.path().join(format!("injured-{number}"));
        let copied = Command::new("cp").arg("-a").arg(fleet.path().join("store")).arg(&store).status().unwrap();
        assert!(copied.success());
        injure(&store.join(file));

        let said = refused(&store, &[]);
        contains(&said, &[store.to_str().unwrap(), "agents", "backup", "store.accept_loss = true"]);
        let looked = check(&store, &[]);
        assert_eq!(looked.code, Some(1), "{file}");
        contains(&looked.stderr, &["cannot be checked", "backup", "store.accept_loss = true"]);

        let looked = check(&store, &[ACCEPT_LOSS]);
        let kept = store.join("agents.damaged-1");
        contains(&looked.stderr, &[kept.to_str().unwrap()]);
        assert_eq!(looked.code, Some(1), "{file}");
        assert!(!kept.exists(), "looking has changed something");
        let mut server = launch(&store).env(ACCEPT_LOSS.0, ACCEPT_LOSS.1).start();
        let left = hostnames(&server);
        assert!(left >= least, "{file}: {left} agents are left");
        contains(&looked.stdout, &[&format!("agents           {left}\n")]);
        contains(&server.log(), &[kept.to_str().unwrap()]);
        if left < 3 {
            let lost = format!("agents {left} of 3");
            contains(&server.log(), &[&lost]);
            contains(&looked.stderr, &[&lost]);
        }
        assert!(kept.exists());
        server.client().enrol("another");
        assert!(server.terminate().success());
        let looked = check(&store, &[]);
        assert_eq!(looked.code, Some(0), "{file}: {}", looked.stderr);
        contains(&looked.stdout, &[&format!("agents           {}\n", left + 1)]);
    }
}

fn flip_short(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    bytes[9] ^= 1;
    fs::write(file, bytes).unwrap();
}

#[test]
fn a_store_whose_folder_is_gone_is_not_taken_for_a_new_one() {
    let fleet = fleet();
    let (store, marker) = (fleet.path().join("store"), fleet.path().join("store.marker"));
    fs::remove_dir_all(&store).unwrap();
    for said in [refused(&store, &[]), check(&store, &[]).stderr] {
        contains(&said, &["is missing: agents 0 of 1", marker.to_str().unwrap(), "backup", "store.accept_loss = true"]);
    }
    let looked = check(&store, &[ACCEPT_LOSS]);
    contains(&looked.stderr, &["is missing. A new one is begun", "agents 0 of 1"]);
    contains(&looked.stdout, &["agents           0\n"]);
    let mut server = launch(&store).env(ACCEPT_LOSS.0, ACCEPT_LOSS.1).start();
    contains(&server.log(), &["is missing. A new one is begun", "agents 0 of 1"]);
    assert_eq!(hostnames(&server), 0);
    assert!(server.terminate().success());
    // Or without the file that tells of it.
    fs::remove_dir_all(&store).unwrap();
    fs::remove_file(marker).unwrap();
    assert_eq!(hostnames(&launch(&store).start()), 0);
}

#[test]
fn a_store_that_never_had_anything_may_be_removed_and_begun_anew() {
    let dir = TempDir::new().unwrap();
    let store = dir.path().join("store");
    for _ in 0..2 {
        assert!(launch(&store).start().terminate().success());
        fs::remove_dir_all(&store).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

fn register(client: &mut Client, name: &str) -> u16 {
    client.post("/api/agents/register", json!({"hostname": name, "os": "linux", "version": "1"})).status
}

#[test]
fn while_its_folder_is_away_a_server_takes_nothing_that_must_be_durable() {
    let dir = TempDir::new().unwrap();
    let (store, elsewhere) = (dir.path().join("store"), dir.path().join("elsewhere"));
    let mut server = launch(&store).start();
    let mut client = server.client();
    let (id, token) = client.enrol("kept");
    for goes in [fs::rename::<&PathBuf, &PathBuf>, |from, to| fs::rename(from, to).and_then(|()| fs::create_dir(from))]
    {
        goes(&store, &elsewhere).unwrap();
        let refused = client.post("/api/agents/register", json!({"hostname": "lost", "os": "linux", "version": "1"}));
        refused.error(503);
        wait_until(SOON, "it says that it is not ready", || !server.is_ready());
        // Who is there is still heard.
        client.with_token(&token).beat(&id, "{}").data(200);
        assert_eq!(register(&mut client, "lost"), 503);
        let is_told = |log: &str| log.contains("have been removed or replaced under the running server");
        wait_until(SOON, "the log tells of it", || is_told(&server.log()));
        contains(&server.log(), &[store.to_str().unwrap()]);
        let _ = fs::remove_dir(&store);
        fs::rename(&elsewhere, &store).unwrap();
        wait_until(SOON, "it is ready again", || server.is_ready());
        assert_eq!(register(&mut client, "more"), 201);
    }
    fs::remove_dir_all(&store).unwrap();
    assert_eq!(register(&mut client, "lost"), 503);
    wait_until(SOON, "it says that it is not ready", || !server.is_ready());
    server.terminate();
    contains(&refused(&store, &[]), &["is missing: agents 0 of"]);
}

#[test]
fn a_server_whose_whole_data_folder_is_removed_says_so() {
    let server = Launch::plain().start();
    let mut client = server.client();
    client.enrol("kept");
    fs::remove_dir_all(server.data()).unwrap();
    assert_eq!(register(&mut client, "lost"), 503);
    wait_until(SOON, "it says that it is not ready", || !server.is_ready());
}

/// All files, with what is in them and when they were changed.
fn files_of(folder: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let (path, metadata) = entry.map(|entry| (entry.path(), entry.metadata().unwrap())).unwrap();
        if metadata.is_dir() {
            files.extend(files_of(&path));
        } else {
            files.insert(path.clone(), (fs::read(&path).unwrap(), metadata.modified().unwrap()));
        }
    }
    files
}

#[test]
fn a_copy_writes_nothing_into_the_folder_it_is_made_from() {
    let fleet = fleet();
    let (store, target) = (fleet.path().join("store"), fleet.path().join("target"));
    let before = files_of(&store);
    let [from, to] = [&store, &target].map(|folder| format!("embedded:{}", folder.display()));
    let dir = TempDir::new().unwrap();
    let copied = run(dir.path(), &["store", "copy", "--from", &from, "--to", &to], &[]);
    assert_eq!(copied.code, Some(0), "{}", copied.stderr);
    contains(&copied.stdout, &["copied 3 agents", "1 policy in force", "2 threats"]);
    assert!(files_of(&store) == before, "a file has been changed");
    // In use it is left alone all the same.
    let _server = launch(&store).start();
    let refused = run(dir.path(), &["store", "copy", "--from", &from, "--to", &to, "--merge"], &[]);
    contains(&refused.stderr, &["Nothing was copied", "in use by another process"]);
}

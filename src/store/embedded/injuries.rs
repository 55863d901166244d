//! What becomes of a store of which one file is injured: all is there, or it is refused, or what is missing is reported.

use std::{
    collections::BTreeMap,
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock},
};

use tokio::sync::mpsc;

use super::{EmbeddedReader, EmbeddedStore, journal::filled};
use crate::{
    fleet::{ActiveTime, AgentId, LastHeartbeat, MachineKey, Registration, Timestamp, TokenHash},
    policy::samples::policies,
    store::{Change, Chunk, HeartbeatBatch, Store, StoreError, StoreReader, StoredThreat},
    threats::{Severity, Threat, ThreatEntry, ThreatId, ThreatKey},
};

const AGENTS: u64 = 600;
const THREATS: u64 = 200;

/// All that there is in a store, each with its name.
type Content = BTreeMap<String, String>;

fn registration(id: u64) -> Registration {
    Registration {
        id: AgentId::new(id.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        hostname: format!("host-{id}").into(),
        os: "linux".into(),
        version: "1".into(),
        ip: "203.0.113.10".parse().unwrap(),
        org_id: None,
        tags: vec!["tag".into()],
        machine: Some(MachineKey::new(None, &format!("machine-{id}"))),
        registered_at: Timestamp::from_millis(1_000),
        last_active: ActiveTime::from_micros(7),
        token: TokenHash::of("secret"),
    }
}

fn threat(number: u64) -> Threat {
    Threat {
        id: ThreatId::new(number),
        agent: registration(number % 7).id,
        org: number.is_multiple_of(2).then(|| "acme".into()),
        hostname: "host".into(),
        kind: "brute_force".into(),
        severity: Severity::ALL[0],
        confidence: None,
        rule_id: None,
        source_ip: None,
        occurred_at: None,
        details: format!(r#"{{"n":{number}}}"#).into(),
        bytes: 0,
    }
}

async fn fill(store: &EmbeddedStore, agents: Range<u64>, threats: Range<u64>) {
    for first in agents.step_by(10) {
        let registrations: Vec<_> = (first..first + 10).map(registration).collect();
        let agent = registrations[0].id.get();
        let changes = registrations.into_iter().map(|one| Change::Register(Box::new(one)));
        store.commit(changes.collect()).await.unwrap();
        let at = Timestamp::from_millis(2_000 + first as i64);
        let last = LastHeartbeat { at, registration: Timestamp::from_millis(1_000), ..LastHeartbeat::bare(agent) };
        store.save(&HeartbeatBatch { heartbeats: vec![last], clock: Some(ActiveTime::from_micros(9)) }).await.unwrap();
    }
    for first in threats.step_by(5) {
        let reported = (first..first + 5).map(|number| StoredThreat::new(&threat(number + 1)));
        store.commit(vec![Change::Report(reported.collect())]).await.unwrap();
    }
}

/// A store that has everything in its journals, and one that has half of it in tables.
async fn templates(folder: &Path) -> [PathBuf; 2] {
    let (journals, tables) = (folder.join("journals"), folder.join("tables"));
    for (path, flushed) in [(&journals, false), (&tables, true)] {
        let store = EmbeddedStore::open(path, false).unwrap();
        store.commit(vec![Change::SetPolicies(Arc::new(policies(None, &[1])))]).await.unwrap();
        fill(&store, 0..AGENTS / 2, 0..THREATS / 2).await;
        if flushed {
            let tables = store.registry.tables().unwrap();
            for name in tables.database.list_keyspace_names() {
                tables.keyspace(&name).unwrap().rotate_memtable_and_wait().unwrap();
            }
            store.heartbeats.flush_to_tables();
        }
        fill(&store, AGENTS / 2..AGENTS, THREATS / 2..THREATS).await;
        drop(store);
    }
    [journals, tables]
}

async fn everything(store: &dyn StoreReader) -> Result<Content, StoreError> {
    let mut content = Content::new();
    let (out, mut chunks) = mpsc::channel(64);
    let collect = async {
        while let Some(chunk) = chunks.recv().await {
            match chunk {
                Chunk::Policies(some) => some.iter().for_each(|one| {
                    content.insert(format!("policies {}", one.scope()), format!("{one:?}"));
                }),
                Chunk::Registrations(some) => some.iter().for_each(|one| {
                    content.insert(format!("agent {}", one.id), format!("{one:?}"));
                }),
                Chunk::Heartbeats(some) => some.iter().for_each(|one| {
                    content.insert(format!("heartbeat {}", one.id), format!("{one:?}"));
                }),
            }
        }
    };
    let (loaded, ()) = tokio::join!(store.load(out), collect);
    loaded?;
    let (out, mut chunks) = mpsc::channel::<Vec<ThreatEntry>>(64);
    let mut keys = Vec::new();
    let collect = async {
        while let Some(some) = chunks.recv().await {
            keys.extend(some.into_iter().map(|row| ThreatKey { org: row.org, id: row.id }));
        }
    };
    let (loaded, ()) = tokio::join!(store.load_threats(out), collect);
    loaded?;
    for (key, threat) in keys.iter().zip(store.threats(keys.clone()).await?) {
        if let Some(threat) = threat {
            content.insert(format!("threat {}", key.id), format!("{threat:?}"));
        }
    }
    Ok(content)
}

fn files_of(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_of(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

fn copy(from: &Path, to: &Path) {
    for file in files_of(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        let bytes = fs::read(&file).unwrap();
        let end =
            if file.extension().is_some_and(|extension| extension == "jnl") { filled(&bytes) } else { bytes.len() };
        fs::write(target, &bytes[..end]).unwrap();
    }
    // Folders that are empty belong to it.
    for folder in ["agents/keyspaces", "heartbeats/keyspaces"] {
        for entry in fs::read_dir(from.join(folder)).unwrap() {
            fs::create_dir_all(to.join(folder).join(entry.unwrap().file_name()).join("tables")).unwrap();
        }
    }
}

fn bytes_of(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    files_of(folder).into_iter().map(|file| (file.clone(), fs::read(file).unwrap())).collect()
}

/// What has been logged, by everybody in this process.
#[derive(Clone, Default)]
struct LogCapture(Arc<Mutex<Vec<u8>>>);

impl io::Write for LogCapture {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What has been logged with this in it, worse than information.
fn logged(of: &str) -> String {
    static CAPTURE: OnceLock<LogCapture> = OnceLock::new();
    let capture = CAPTURE.get_or_init(|| {
        let capture = LogCapture::default();
        let log = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_ansi(false);
        // Nobody else in this process listens.
        let _ = tracing::subscriber::set_global_default(log.with_writer(Mutex::new(capture.clone())).finish());
        capture
    });
    let text = String::from_utf8_lossy(&capture.0.lock().unwrap()).into_owned();
    text.lines().filter(|line| line.contains(of)).collect::<Vec<_>>().join("\n")
}

/// Random numbers, the same in every run: SplitMix64.
struct Rng(u64);

impl Rng {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % end.max(1) as u64) as usize
    }
}

/// Injures the file. Answers how.
fn injure(file: &Path, rng: &mut Rng) -> String {
    let mut bytes = fs::read(file).unwrap();
    let how = match rng.below(5) {
        0 => {
            fs::remove_file(file).unwrap();
            return "removed".into();
        }
        1 => {
            let at = rng.below(bytes.len());
            bytes.truncate(at);
            format!("cut at {at}")
        }
        2 => {
            let (start, end) = (rng.below(bytes.len()), rng.below(64));
            let end = bytes.len().min(start + end);
            bytes[start..end].fill(0);
            format!("zeros from {start} to {end}")
        }
        _ => {
            let (at, bit) = (rng.below(bytes.len()), rng.below(8));
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << bit;
            }
            format!("bit {bit} of byte {at} flipped")
        }
    };
    fs::write(file, bytes).unwrap();
    how
}

/// Whether a refusal speaks of the files and of what to do, and not in the words of a library.
fn is_plain(error: &StoreError, path: &Path) -> bool {
    let text = error.to_string();
    let foreign = ["FjallError", "Storage(", "Io(", "JournalRecovery", "Checksum"];
    text.contains(&*path.to_string_lossy())
        && !foreign.iter().any(|word| text.contains(word))
        && (!matches!(error, StoreError::Damaged(_)) || text.contains("backup") && text.contains("accept_loss"))
}

async fn opened(opened: Result<impl StoreReader, StoreError>) -> Result<(Content, Vec<String>), StoreError> {
    let store = opened?;
    let content = everything(&store).await?;
    Ok((content, store.damage()))
}

/// How many agents, policies and threats are reported as left, and of how many.
fn counts_in(damage: &[String]) -> Option<[(u64, u64); 3]> {
    let line = damage.iter().find(|line| line.contains("goes on with what is left (store.accept_loss)"))?;
    Some(["agents ", "policies ", "threats "].map(|kind| {
        let mut words = line.rsplit_once(kind).unwrap().1.split([' ', ',']);
        let left = words.next().unwrap().parse().unwrap();
        (left, words.nth(1).unwrap().parse().unwrap())
    }))
}

fn counts_of(content: &Content) -> [u64; 3] {
    ["agent ", "policies ", "threat "].map(|kind| content.keys().filter(|name| name.starts_with(kind)).count() as u64)
}

/// How often each came of an injury.
#[derive(Debug, Default)]
struct Outcomes {
    all_there: u32,
    refused: u32,
    reported: u32,
    /// Of those that were refused, with leave to lose something: all is left, a part is, nothing is.
    all_is_left: u32,
    a_part_is_left: u32,
    nothing_is_left: u32,
    /// How much is left of what the refused ones held, in records.
    left: u64,
    held: u64,
}

/// Injures the stores, one file each of those that are `wanted`, and looks what becomes of each.
async fn after_injuries(seed: u64, injuries: usize, wanted: impl Fn(&Path) -> bool) -> Outcomes {
    logged("");
    let folder = tempfile::tempdir().unwrap();
    let templates = templates(folder.path()).await;
    let mut rng = Rng(std::env::var("GUARDBEAT_SEED").map_or(seed, |seed| seed.parse().unwrap()));
    let injuries = std::env::var("GUARDBEAT_INJURIES").map_or(injuries, |number| number.parse().unwrap());
    let whole = everything(&EmbeddedStore::open(&templates[0], false).unwrap()).await.unwrap();
    assert_eq!(whole.len() as u64, AGENTS + AGENTS / 10 + THREATS + 1);
    let mut outcomes = Outcomes::default();
    for number in 0..injuries {
        let path = folder.path().join(format!("injured-{number}-"));
        copy(&templates[number % 2], &path);
        let files: Vec<_> =
            files_of(&path).into_iter().filter(|file| wanted(file.strip_prefix(&path).unwrap())).collect();
        let file = &files[rng.below(files.len())];
        let how = format!("{}: {}", file.strip_prefix(&path).unwrap().display(), injure(file, &mut rng));
        let name = path.to_string_lossy().into_owned();
        let before = bytes_of(&path);
        // It takes time: at a part of them.
        let is_looked_at = number % 8 < 2;
        let look = async |accept_loss| match is_looked_at {
            true => Some(opened(EmbeddedReader::open(&path, accept_loss)).await),
            false => None,
        };
        let (looked, looked_with_loss) = (look(false).await, look(true).await);
        assert_eq!(bytes_of(&path), before, "{how}: looking has changed a file");
        let second = folder.path().join(format!("second-{number}-"));
        copy(&path, &second);

        let found = opened(EmbeddedStore::open(&path, false)).await;
        if let Some(looked) = &looked {
            assert_eq!(looked.is_ok(), found.is_ok(), "{how}: {looked:?} {found:?}");
        }
        let was_refused = found.is_err();
        match found {
            Ok((found, _)) if found == whole => outcomes.all_there += 1,
            Ok((found, damage)) => {
                let is_body = |name: &str| name.starts_with("threat ");
                assert!(
                    found.iter().all(|(name, record)| is_heartbeat(name) || whole.get(name) == Some(record)),
                    "{how}"
                );
                let gone: Vec<_> =
                    whole.keys().filter(|name| !found.contains_key(*name) && !is_heartbeat(name)).collect();
                assert!(gone.iter().all(|name| is_body(name)), "{how}: gone without a word: {gone:?}");
                assert!(
                    gone.iter().all(|name| logged(&name.replace("threat ", "threat=")).contains("left out")),
                    "{how}"
                );
                let is_said = !damage.is_empty() && damage.iter().all(|line| line.contains(&name));
                assert!(is_said || !gone.is_empty(), "{how}: heartbeats are gone without a word: {damage:?}");
                outcomes.reported += 1;
            }
            Err(error) => {
                assert!(is_plain(&error, &path), "{how}: {error}");
                let seen = looked.map_or(error, Result::unwrap_err);
                assert!(is_plain(&seen, &path), "{how}: {seen}");
                outcomes.refused += 1;
            }
        }

        let name = second.to_string_lossy().into_owned();
        let (left, damage) =
            opened(EmbeddedStore::open(&second, true)).await.unwrap_or_else(|error| panic!("{how}: {error}"));
        assert!(left.iter().all(|(name, record)| is_heartbeat(name) || whole.get(name) == Some(record)), "{how}");
        let (counts, all) = (counts_of(&left), counts_of(&whole));
        match counts_in(&damage) {
            Some(reported) => {
                let truth: Vec<_> = counts.into_iter().zip(all).collect();
                assert_eq!(reported[..], truth, "{how}: {damage:?}");
            }
            None => assert_eq!(counts, all, "{how}: gone without a word, {damage:?}"),
        }
        assert!(damage.iter().all(|line| line.contains(&name)), "{how}: {damage:?}");
        if was_refused {
            assert_ne!(damage, Vec::<String>::new(), "{how}");
            outcomes.left += counts.iter().sum::<u64>();
            outcomes.held += all.iter().sum::<u64>();
            match counts {
                [0, 0, 0] => outcomes.nothing_is_left += 1,
                counts if counts == all => outcomes.all_is_left += 1,
                [..] => outcomes.a_part_is_left += 1,
            }
        }
        // What is looked at with leave to lose something tells the same, of the store as it was.
        if let Some(looked) = looked_with_loss {
            let (seen, foretold) = looked.unwrap_or_else(|error| panic!("{how}: {error}"));
            assert_eq!(seen, left, "{how}");
            let of_original = |damage: &[String]| damage.join(" ").replace(&name, &path.to_string_lossy());
            assert_eq!(of_original(&foretold), of_original(&damage), "{how}");
        }
        // From then on it is a store like any other.
        let (again, damage) = opened(EmbeddedStore::open(&second, false)).await.unwrap();
        assert_eq!(again, left, "{how}");
        assert!(damage.iter().all(|line| line.contains("flushes of last heartbeats are missing")), "{how}: {damage:?}");
        fs::remove_dir_all(&path).unwrap();
        fs::remove_dir_all(&second).unwrap();
    }
    println!("{injuries} injuries: {outcomes:?}");
    outcomes
}

fn is_heartbeat(name: &str) -> bool {
    name.starts_with("heartbeat ")
}

#[tokio::test]
async fn after_any_injury_all_is_there_or_the_store_is_refused_or_it_is_said_what_is_missing() {
    let outcomes = after_injuries(1, 200, |_| true).await;
    assert!(outcomes.all_there > 0 && outcomes.refused > 0 && outcomes.a_part_is_left > 0);
}

#[tokio::test]
async fn of_the_payloads_of_threats_none_is_missing_or_changed_without_a_word() {
    let outcomes = after_injuries(2, 40, |file| file.starts_with("agents/keyspaces/4")).await;
    assert!(outcomes.all_there > 0 && outcomes.refused > 0 && outcomes.reported > 0);
}

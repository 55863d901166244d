//! Measures two embedded stores, `redb` and `fjall`, on the workload of Guardbeat.
//!
//! Every phase is a child process of this same program, so that the memory, the processor time and
//! the bytes written it reports are that phase's alone. The parent prints the results as a table.
//!
//! The first argument is the directory to work in, by default the system's temporary directory. It
//! should be on a real disk: on a memory file system an fsync costs nothing.
#![allow(clippy::disallowed_methods, reason = "it measures real time")]

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use fjall::{Keyspace, KeyspaceCreateOptions, PersistMode};
use redb::{Durability, ReadableDatabase, TableDefinition};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Fallible<T> = Result<T, Box<dyn Error>>;

const AGENTS: u64 = 1_000_000;
const REGISTRATION: usize = 200;
const BEAT: usize = 48;
const LOG_KEPT: u64 = 150;
const CRASH_ROUNDS: u64 = 10;
/// The first commit of a crash run, well beyond those already in the database.
const CRASH_FROM: u64 = 20_000;

/// The tables, by their index.
const NAMES: [&str; 3] = ["agents", "beats", "log"];
type Definition = TableDefinition<'static, u64, &'static [u8]>;

/// A kind of commits: its name, its table, the records of a commit, the commits of a run.
type Kind = (&'static str, usize, u64, u64);
const KINDS: [Kind; 4] = [
    ("register-64", 0, 64, 1_563),
    ("register-1000", 0, 1_000, 1_000),
    ("beats-per-agent", 1, 10_000, 200),
    ("beats-as-log", 2, 10_000, 200),
];

const HEADER: &str = "\
| engine | phase | records/s | CPU us | commit ms p50 / p99 | MiB written | amplification | MiB on disk | RSS MiB |
|---|---|---|---|---|---|---|---|---|";

/// A bijective mix of 64 bits: distinct inputs give distinct, random-looking keys.
fn mix(n: u64) -> u64 {
    let z = n.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Appends `length` incompressible bytes that only `seed` decides; `length` is a multiple of 8.
fn fill(out: &mut Vec<u8>, seed: u64, length: usize) {
    for word in 0..length as u64 / 8 {
        out.extend_from_slice(&mix(seed ^ (word << 56)).to_le_bytes());
    }
}

/// One commit: keys, their values (all of one length) end to end, and a key to remove.
#[derive(Default)]
struct Batch {
    keys: Vec<u64>,
    values: Vec<u8>,
    remove: Option<u64>,
}

impl Batch {
    /// The commit number `n` of its kind; the number alone decides what is in it.
    fn new((_, table, group, _): Kind, n: u64) -> Self {
        let mut batch = Self::default();
        for record in n * group..(n + 1) * group {
            let agent = mix(if table == 0 { record } else { mix(!record) % AGENTS });
            if table == 2 {
                batch.values.extend_from_slice(&agent.to_be_bytes());
            } else {
                batch.keys.push(agent);
            }
            fill(&mut batch.values, record, if table == 0 { REGISTRATION } else { BEAT });
        }
        if table == 2 {
            batch.keys.push(n);
            batch.remove = n.checked_sub(LOG_KEPT);
        }
        batch
    }

    /// The keys with their values.
    fn records(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let values = self.values.chunks_exact(self.values.len() / self.keys.len());
        self.keys.iter().copied().zip(values)
    }
}

/// An open database, with memory settings as small as the workload bears.
enum Store {
    Fjall(fjall::Database, [Keyspace; 3]),
    /// With quick repair or without.
    Redb(redb::Database, bool),
}

impl Store {
    /// Opens or creates the database. For fjall: 8 MiB of cache, memtables of 16 MiB, 128 MiB of
    /// journals, one worker thread. For redb: 64 MiB of cache, which is all it lets one set.
    fn open(engine: &str, dir: &Path) -> Fallible<Self> {
        fs::create_dir_all(dir)?;
        if engine != "fjall" {
            let mut builder = redb::Builder::new();
            let db = builder.set_cache_size(64 << 20).create(dir.join("db.redb"))?;
            return Ok(Self::Redb(db, engine == "redb-quick-repair"));
        }
        let db = fjall::Database::builder(dir)
            .cache_size(8 << 20)
            .max_journaling_size(128 << 20)
            .worker_threads(1)
            .open()?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(16 << 20);
        let [agents, beats, log] = NAMES.map(|name| db.keyspace(name, options));
        Ok(Self::Fjall(db, [agents?, beats?, log?]))
    }

    /// Commits registrations onto the disk, and beats so that they survive at least `kill -9`.
    fn commit(&self, table: usize, batch: &Batch) -> Fallible<()> {
        match self {
            Self::Fjall(db, keyspaces) => {
                let mode = [PersistMode::SyncAll, PersistMode::Buffer][table.min(1)];
                let mut write = db.batch().durability(Some(mode));
                for (key, value) in batch.records() {
                    write.insert(&keyspaces[table], key.to_be_bytes(), value);
                }
                let removed = batch.remove.iter().map(|key| key.to_be_bytes());
                removed.for_each(|key| write.remove(&keyspaces[table], key));
                write.commit()?;
            }
            Self::Redb(db, quick_repair) => {
                let mut write = db.begin_write()?;
                // `Durability::None` keeps commits in this process's memory: they would not survive.
                write.set_durability(Durability::Immediate)?;
                write.set_quick_repair(*quick_repair);
                let mut open = write.open_table(Definition::new(NAMES[table]))?;
                for (key, value) in batch.records() {
                    open.insert(key, value)?;
                }
                if let Some(key) = batch.remove {
                    open.remove(key)?;
                }
                drop(open);
                write.commit()?;
            }
        }
        Ok(())
    }

    /// Reads up to `limit` records from a key on: how many, the bytes of their values, the last value.
    fn read(&self, table: usize, from: u64, limit: usize) -> Fallible<(u64, usize, Vec<u8>)> {
        let (mut records, mut bytes, mut last) = (0, 0, Vec::new());
        let mut each = |value: &[u8]| {
            records += 1;
            bytes += value.len();
            last.clear();
            last.extend_from_slice(value);
        };
        match self {
            Self::Fjall(_, keyspaces) => {
                for record in keyspaces[table].range(from.to_be_bytes()..).take(limit) {
                    each(&record.value()?);
                }
            }
            Self::Redb(db, _) => {
                for record in db.begin_read()?.open_table(Definition::new(NAMES[table]))?.range(from..)?.take(limit) {
                    each(record?.1.value());
                }
            }
        }
        Ok((records, bytes, last))
    }
}

/// The number after `name` in one of the files of this process in /proc.
fn counter(file: &str, name: &str) -> Fallible<u64> {
    let text = fs::read_to_string(format!("/proc/self/{file}"))?;
    let number = text.split_once(name).and_then(|(_, rest)| rest.split_whitespace().next());
    Ok(number.ok_or("no such counter")?.parse()?)
}

/// The processor time of this process, all its threads together, in milliseconds.
fn cpu() -> Fallible<u64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let mut fields = stat.split(' ').skip(13).map(str::parse::<u64>);
    let (user, system) = fields.next().zip(fields.next()).ok_or("no such field")?;
    Ok((user? + system?) * 10)
}

/// Waits until background work (flushes of memtables, compactions) leaves the processor alone.
fn settle() -> Fallible<()> {
    let (mut before, mut now) = (0, cpu()?);
    while now - before > 10 {
        sleep(Duration::from_millis(600));
        (before, now) = (now, cpu()?);
    }
    Ok(())
}

/// Does one phase in this process and prints its result as one line.
fn child(engine: &str, phase: &str, kind: &str, dir: &Path, number: u64) -> Fallible<()> {
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let kind = KINDS.into_iter().find(|known| known.0 == kind).ok_or("no such kind")?;
    let (_, table, group, commits) = kind;
    let started = Instant::now();
    let store = Store::open(engine, dir)?;
    let opened = started.elapsed().as_millis();
    match phase {
        "write" => {
            let (cpu_before, written_before) = (cpu()?, counter("io", "\nwrite_bytes:")?);
            let (started, mut times) = (Instant::now(), Vec::new());
            for n in 0..commits {
                let batch = Batch::new(kind, n);
                let commit = Instant::now();
                store.commit(table, &batch)?;
                times.push(commit.elapsed().as_secs_f64() * 1e3);
            }
            let (records, took) = ((commits * group) as f64, started.elapsed().as_secs_f64());
            settle()?;
            drop(store);
            let cpu = (cpu()? - cpu_before) as f64 * 1e3 / records;
            let written = counter("io", "\nwrite_bytes:")? - written_before;
            let record = 8 + if table == 0 { REGISTRATION } else { BEAT };
            let amplification = written as f64 / records / record as f64;
            times.sort_unstable_by(f64::total_cmp);
            let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
            let (written, peak) = (mib(written), mib(counter("status", "VmHWM:")? << 10));
            let du = String::from_utf8(Command::new("du").arg("-sm").arg(dir).output()?.stdout)?;
            let disk = du.split_whitespace().next().unwrap_or("?");
            print!("{:.0} | {cpu:.2} | {p50:.1} / {p99:.1} | {written} | {amplification:.1} | ", records / took);
            println!("{disk} | {peak}");
        }
        "load" => {
            settle()?;
            print!("open {opened} ms; {} MiB at rest", mib(counter("status", "VmRSS:")? << 10));
            for table in [0, table].into_iter().take(1 + table.min(1)) {
                let started = Instant::now();
                let (records, bytes, _) = store.read(table, 0, usize::MAX)?;
                let (took, bytes) = (started.elapsed().as_millis(), mib(bytes as u64));
                print!("; {records} {} ({bytes} MiB) in {took} ms", NAMES[table]);
            }
            println!("; peak {} MiB", mib(counter("status", "VmHWM:")? << 10));
        }
        // Commits until it is killed, acknowledging each commit on the standard output.
        "crash" => {
            for n in number.. {
                store.commit(table, &Batch::new(kind, n))?;
                println!("{n}");
            }
        }
        // Counts the records that are missing of the acknowledged commits, all below `number`.
        "check" => {
            // The commit the kill interrupted may have removed one more flush of the log.
            let kept = if table == 2 { LOG_KEPT - 1 } else { number };
            let mut missing = 0;
            for n in CRASH_FROM.max(number.saturating_sub(kept))..number {
                for (key, value) in Batch::new(kind, n).records() {
                    missing += u64::from(store.read(table, key, 1)?.2 != value);
                }
            }
            println!("{opened} {missing}");
        }
        _ => return Err("no such phase".into()),
    }
    Ok(())
}

/// The command that does one phase on the database in `dir`.
fn command(engine: &str, phase: &str, kind: &str, dir: &Path, number: u64) -> Fallible<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--child", engine, phase, kind]).arg(dir);
    command.arg(number.to_string()).stderr(Stdio::inherit());
    Ok(command)
}

/// Does one phase to its end and returns the line it printed.
fn run(engine: &str, phase: &str, kind: &str, dir: &Path, number: u64) -> Fallible<String> {
    let output = command(engine, phase, kind, dir, number)?.output()?;
    let printed = output.status.success().then_some(output.stdout);
    Ok(String::from_utf8(printed.ok_or("a phase failed")?)?.trim().into())
}

/// Kills a committing child again and again, and checks after each kill what it had acknowledged.
fn crash(engine: &str, kind: &str, dir: &Path) -> Fallible<String> {
    let (mut acknowledged, mut missing, mut reopened) = (CRASH_FROM, 0, Vec::new());
    for round in 0..CRASH_ROUNDS {
        let mut crashing = command(engine, "crash", kind, dir, acknowledged)?.stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(crashing.stdout.take().ok_or("no pipe")?).lines();
        let reader = spawn(move || lines.map_while(Result::ok).last());
        sleep(Duration::from_millis(1_500 + mix(round ^ u64::from(std::process::id())) % 1_500));
        crashing.kill().and_then(|()| crashing.wait())?;
        let last = reader.join().ok().flatten().ok_or("no commit before the kill")?;
        acknowledged = last.parse::<u64>()? + 1;
        let checked = run(engine, "check", kind, dir, acknowledged)?;
        let (opened, lost) = checked.split_once(' ').ok_or("no answer")?;
        reopened.push(opened.parse::<u64>()?);
        missing += lost.parse::<u64>()?;
    }
    acknowledged -= CRASH_FROM;
    Ok(format!("{acknowledged} commits, {missing} records missing; reopened in {reopened:?} ms"))
}

fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, engine, phase, kind, dir, number] = &arguments[..]
        && flag == "--child"
    {
        return child(engine, phase, kind, Path::new(dir), number.parse()?);
    }
    let base = arguments.first().map_or_else(std::env::temp_dir, PathBuf::from);
    let base = base.join(format!("embedded-store-choice-{}", std::process::id()));
    let (agents, work) = (base.join("agents"), base.join("work"));
    // Registrations begin with nothing; beats begin with a copy of the database with all agents.
    let prepare = |dir: &Path, table: usize| -> Fallible<()> {
        let _ = fs::remove_dir_all(dir);
        let copy = || Command::new("cp").arg("-a").args([&*agents, dir]).status();
        let ready = table == 0 || copy()?.success();
        Ok(ready.then_some(()).ok_or("cp failed")?)
    };
    println!("{HEADER}");
    let mut lines = Vec::new();
    for engine in ["fjall", "redb", "redb-quick-repair"] {
        for (kind, table, ..) in KINDS {
            let dir = if kind == "register-1000" { &agents } else { &work };
            prepare(dir, table)?;
            let written = run(engine, "write", kind, dir, 0)?;
            println!("| {engine} | {kind} | {written} |");
            let loaded = run(engine, "load", kind, dir, 0)?;
            lines.push(format!("{engine}, load after {kind}: {loaded}"));
        }
        for kind in ["register-64", "beats-as-log"] {
            prepare(&work, 2)?;
            let crashed = crash(engine, kind, &work)?;
            lines.push(format!("{engine}, kill -9 during {kind}: {crashed}"));
        }
    }
    println!("\n- {}", lines.join("\n- "));
    fs::remove_dir_all(&base)?;
    Ok(())
}

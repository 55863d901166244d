//! A `redis-server` of a test's own: in a temporary folder, on a free port of the loopback, gone when it is dropped.
//!
//! The integration tests and the library's unit tests share this file, so it rests on nothing of either. Tests look at a
//! server, and meddle with it, through its Unix socket and as a user of their own: that works whatever its port,
//! password, users or certificates are.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::disallowed_methods, reason = "the server is another process: its time is real time")]

use std::{
    collections::BTreeMap,
    fs::{self, File},
    hash::{BuildHasher, RandomState},
    io::{self, BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::{net::UnixStream, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

const SOCKET: &str = "redis.sock";
const POLL: Duration = Duration::from_millis(5);
/// Time within which a server does whatever it is asked, even on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// What every server is configured with; later lines win. Nothing is kept on disk, unless a test asks for it.
const BASE: &str = "\
bind 127.0.0.1
unixsocket redis.sock
logfile redis.log
save \"\"
appendonly no
enable-debug-command yes
repl-diskless-sync-delay 0
user tests on nopass ~* &* +@all
";

/// How to start a server.
#[derive(Clone, Debug, Default)]
pub struct RedisLaunch {
    lines: Vec<String>,
    is_tls: bool,
    is_sentinel: bool,
}

impl RedisLaunch {
    /// One more line of `redis.conf`. Relative paths are relative to the server's folder.
    pub fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// Its port speaks TLS alone, with this certificate.
    pub fn tls(mut self, cert: &Path, key: &Path) -> Self {
        self.is_tls = true;
        self.line(format!("tls-cert-file {}", cert.display()))
            .line(format!("tls-key-file {}", key.display()))
            .line("tls-auth-clients no")
    }

    /// A Sentinel instead of a server of data.
    pub fn sentinel(mut self) -> Self {
        self.is_sentinel = true;
        self
    }

    /// Starts it and waits until it is ready.
    pub fn start(self) -> RedisServer {
        let dir = TempDir::new().unwrap();
        loop {
            let port = free_port();
            if let Some(child) = self.spawn(dir.path(), port) {
                let server = RedisServer { port, child: Mutex::new(Some(child)), launch: self, dir };
                server.wait_until_ready();
                return server;
            }
        }
    }

    /// Starts it and waits until it accepts connections. None if the port is taken.
    fn spawn(&self, dir: &Path, port: u16) -> Option<Child> {
        let ports = if self.is_tls { format!("port 0\ntls-port {port}") } else { format!("port {port}") };
        fs::write(dir.join("redis.conf"), format!("{BASE}{ports}\n{}\n", self.lines.join("\n"))).unwrap();
        let log = dir.join("redis.log");
        // What an earlier run says of its end is not of this one.
        let _ = fs::remove_file(&log);
        let mut child = run_program(dir, self.is_sentinel);
        let began = Instant::now();
        while UnixStream::connect(dir.join(SOCKET)).is_err() {
            let ended = child.try_wait().unwrap();
            if ended.is_some() || began.elapsed() > SOON {
                let _ = child.kill();
                let _ = child.wait();
                let log = fs::read_to_string(&log).unwrap_or_default();
                let stdout = fs::read_to_string(dir.join("stdout.log")).unwrap_or_default();
                if log.contains("Address already in use") {
                    return None;
                }
                panic!("redis-server did not start ({ended:?}):\n{stdout}{log}");
            }
            thread::sleep(POLL);
        }
        Some(child)
    }
}

/// The process itself. Debian has the program under a second name in `redis-tools`, which comes without a service.
fn run_program(dir: &Path, is_sentinel: bool) -> Child {
    let stdout = File::create(dir.join("stdout.log")).unwrap();
    for program in ["redis-server", "redis-check-rdb"] {
        let mut command = Command::new(program);
        command.arg0("redis-server").arg("redis.conf").args(is_sentinel.then_some("--sentinel")).current_dir(dir);
        match command.stdin(Stdio::null()).stdout(stdout.try_clone().unwrap()).spawn() {
            Ok(child) => return child,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => panic!("{program}: {error}"),
        }
    }
    panic!("redis-server is not installed; the tests of the Redis store need it: `make setup-checks` installs it");
}

/// A port of the loopback that nobody listens on. Below those that the system gives to outgoing connections: one of
/// these could take it while the server is down, and a client that retries could connect to itself.
pub fn free_port() -> u16 {
    let random = RandomState::new();
    let ports = (0_u64..).map(|n| 10_000 + (random.hash_one(n) % 20_000) as u16);
    ports.into_iter().find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a port is free")
}

/// A server that runs, or that was stopped and can be started again on the same port with what it has on disk.
pub struct RedisServer {
    port: u16,
    /// None while it is stopped.
    child: Mutex<Option<Child>>,
    launch: RedisLaunch,
    dir: TempDir,
}

impl RedisServer {
    /// How to start a server; without more it keeps everything in memory alone.
    pub fn launch() -> RedisLaunch {
        RedisLaunch::default()
    }

    /// A server that keeps everything in memory alone.
    pub fn start() -> Self {
        Self::launch().start()
    }

    /// A server that has on disk what it acknowledged.
    pub fn durable() -> Self {
        Self::launch().line("appendonly yes").line("appendfsync always").start()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it is, for `store.url`.
    pub fn url(&self) -> String {
        let scheme = if self.launch.is_tls { "rediss" } else { "redis" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join(SOCKET)
    }

    /// What it logged since it was started last.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("redis.log")).unwrap_or_default()
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.lock().unwrap();
        let pid = child.as_ref().expect("the server runs").id();
        kill(Pid::from_raw(pid.try_into().unwrap()), signal).unwrap();
    }

    /// `kill -9`.
    pub fn kill9(&self) {
        self.signal(Signal::SIGKILL);
        self.wait_for_end();
    }

    /// SIGTERM, and waits for its end.
    pub fn terminate(&self) {
        self.signal(Signal::SIGTERM);
        self.wait_for_end();
    }

    fn wait_for_end(&self) {
        let mut ended = self.child.lock().unwrap().take().expect("the server runs");
        ended.wait().unwrap();
    }

    /// SIGSTOP: connections stay open and nothing is answered.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Starts it again on the same port and folder, and waits until it is ready.
    pub fn start_again(&self) {
        self.start_loading();
        self.wait_until_ready();
    }

    /// Starts it again, and returns while it may still be loading its data.
    pub fn start_loading(&self) {
        let mut child = self.child.lock().unwrap();
        assert!(child.is_none(), "the server runs");
        wait("its old port", || {
            *child = self.launch.spawn(self.dir.path(), self.port);
            child.is_some()
        });
    }

    /// Waits until it answers PING with PONG.
    pub fn wait_until_ready(&self) {
        wait("redis-server is ready", || {
            let ended = self.child.lock().unwrap().as_mut().expect("the server runs").try_wait().unwrap();
            assert!(ended.is_none(), "redis-server ended ({ended:?}):\n{}", self.log());
            self.try_command(&["PING"]).is_ok()
        });
    }

    /// Sends a command and panics if it fails.
    pub fn command(&self, words: &[&str]) -> RedisReply {
        self.try_command(words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// Sends a command, on a connection of its own.
    pub fn try_command(&self, words: &[&str]) -> Result<RedisReply, String> {
        self.exchange(words).unwrap_or_else(|error| Err(error.to_string()))
    }

    fn exchange(&self, words: &[&str]) -> io::Result<Result<RedisReply, String>> {
        let mut stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(SOON))?;
        stream.write_all(&[encode(&["AUTH", "tests", "any"]), encode(words)].concat())?;
        let mut stream = BufReader::new(stream);
        read_reply(&mut stream)?.map_err(io::Error::other)?;
        read_reply(&mut stream)
    }

    /// CONFIG SET.
    pub fn configure(&self, name: &str, value: &str) {
        self.command(&["CONFIG", "SET", name, value]);
    }

    /// One field of INFO.
    pub fn info(&self, field: &str) -> Option<String> {
        let text = self.command(&["INFO", "everything"]).text();
        let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.map(str::to_owned)
    }

    /// The names of all keys that match a pattern, sorted.
    pub fn keys(&self, pattern: &str) -> Vec<String> {
        let mut keys = self.command(&["KEYS", pattern]).texts();
        keys.sort_unstable();
        keys
    }

    /// The fields of all hashes whose names match a pattern, as they are at one moment.
    pub fn fields(&self, pattern: &str) -> BTreeMap<String, String> {
        let script = "local all = {} \
                      for _, key in ipairs(redis.call('KEYS', ARGV[1])) do \
                        for _, text in ipairs(redis.call('HGETALL', key)) do all[#all + 1] = text end \
                      end \
                      return all";
        let texts = self.command(&["EVAL", script, "0", pattern]).texts();
        texts.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
    }

    /// Makes it a replica of `primary`, and waits until it has its data.
    pub fn replicate(&self, primary: &Self) {
        self.command(&["REPLICAOF", "127.0.0.1", &primary.port.to_string()]);
        wait("the replica is in step", || self.info("master_link_status").as_deref() == Some("up"));
        // The primary waits for a word from it before it counts it.
        let counted = format!("port={},state=online", self.port);
        wait("the primary has seen it", || primary.command(&["INFO", "replication"]).text().contains(&counted));
    }

    /// Makes it a primary.
    pub fn promote(&self) {
        self.command(&["REPLICAOF", "NO", "ONE"]);
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(child) = child {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What a command was answered with; an error is apart.
#[derive(Clone, Debug, PartialEq)]
pub enum RedisReply {
    Nil,
    Number(i64),
    /// Bytes that are not UTF-8 are replaced.
    Text(String),
    List(Vec<Self>),
}

impl RedisReply {
    /// A text or a number, as text; panics if it is neither.
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::Nil | Self::List(_) => panic!("no text: {self:?}"),
        }
    }

    /// The texts of a list; panics if it is none.
    pub fn texts(&self) -> Vec<String> {
        match self {
            Self::List(items) => items.iter().map(Self::text).collect(),
            Self::Nil | Self::Number(_) | Self::Text(_) => panic!("no list: {self:?}"),
        }
    }
}

fn encode(words: &[&str]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len());
    for word in words {
        out += &format!("${}\r\n{word}\r\n", word.len());
    }
    out.into_bytes()
}

fn read_reply(from: &mut impl BufRead) -> io::Result<Result<RedisReply, String>> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    let line = line.strip_suffix("\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let (kind, rest) = line.split_at_checked(1).ok_or(io::ErrorKind::InvalidData)?;
    let number = || rest.parse::<i64>().map_err(io::Error::other);
    Ok(match kind {
        "-" => Err(rest.to_owned()),
        "+" => Ok(RedisReply::Text(rest.to_owned())),
        ":" => Ok(RedisReply::Number(number()?)),
        "$" | "*" if rest == "-1" => Ok(RedisReply::Nil),
        "$" => {
            let mut bytes = vec![0; number()? as usize + 2];
            from.read_exact(&mut bytes)?;
            Ok(RedisReply::Text(String::from_utf8_lossy(&bytes[..bytes.len() - 2]).into_owned()))
        }
        "*" => (0..number()?).map(|_| read_reply(from)).collect::<io::Result<Result<_, _>>>()?.map(RedisReply::List),
        _ => Err(format!("no reply: {line}")),
    })
}

fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {SOON:?}: {what}");
        thread::sleep(POLL);
    }
}

//! A `redis-server` of one's own: in a temporary folder, on a free port of the loopback, gone when it is dropped.
//!
//! Tests look at a server, and meddle with it, through its Unix socket and as a user of their own: that works whatever its
//! port, password, users or certificates are.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::{
    collections::BTreeMap,
    error::Error,
    fs::{self, File},
    io,
    os::unix::{net::UnixStream, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use parking_lot::Mutex;
use redis::{ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, RedisError, Value};
use tempfile::TempDir;

use crate::{SOON, free_port, wait_until};

const SOCKET: &str = "redis.sock";
const POLL: Duration = Duration::from_millis(5);

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

    /// Starts it and waits until it is ready; panics if that fails.
    pub fn start(self) -> RedisServer {
        self.try_start().unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`RedisLaunch::start`].
    ///
    /// # Errors
    ///
    /// If it is not installed, or ends before it answers, with what it logged.
    pub fn try_start(self) -> io::Result<RedisServer> {
        let dir = TempDir::new()?;
        loop {
            let port = free_port();
            if let Some(child) = self.spawn(dir.path(), port)? {
                let server = RedisServer { port, child: Mutex::new(Some(child)), launch: self, dir };
                server.wait_until_ready();
                return Ok(server);
            }
        }
    }

    /// Starts it and waits until it accepts connections. None if the port is taken.
    fn spawn(&self, dir: &Path, port: u16) -> io::Result<Option<Child>> {
        let ports = if self.is_tls { format!("port 0\ntls-port {port}") } else { format!("port {port}") };
        fs::write(dir.join("redis.conf"), format!("{BASE}{ports}\n{}\n", self.lines.join("\n")))?;
        let log = dir.join("redis.log");
        // What an earlier run says of its end is not of this one.
        let _ = fs::remove_file(&log);
        let mut child = run_program(dir, self.is_sentinel)?;
        let began = Instant::now();
        while UnixStream::connect(dir.join(SOCKET)).is_err() {
            let ended = child.try_wait()?;
            if ended.is_some() || began.elapsed() > SOON {
                let _ = child.kill();
                let _ = child.wait();
                let log = fs::read_to_string(&log).unwrap_or_default();
                let stdout = fs::read_to_string(dir.join("stdout.log")).unwrap_or_default();
                if log.contains("Address already in use") {
                    return Ok(None);
                }
                return Err(io::Error::other(format!("redis-server did not start ({ended:?}):\n{stdout}{log}")));
            }
            thread::sleep(POLL);
        }
        Ok(Some(child))
    }
}

/// The process itself. Debian has the program under a second name in `redis-tools`, which comes without a service.
fn run_program(dir: &Path, is_sentinel: bool) -> io::Result<Child> {
    let stdout = File::create(dir.join("stdout.log"))?;
    for program in ["redis-server", "redis-check-rdb"] {
        let mut command = Command::new(program);
        command.arg0("redis-server").arg("redis.conf").args(is_sentinel.then_some("--sentinel")).current_dir(dir);
        // Ctrl-C is for the one who watches: a server goes on until it is told to end.
        command.stdin(Stdio::null()).stdout(stdout.try_clone()?).process_group(0);
        match command.spawn() {
            Ok(child) => return Ok(child),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io::Error::other(format!("{program}: {error}"))),
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, "redis-server is not installed: `make setup-checks` installs it"))
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

    /// Its port.
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
        let child = self.child.lock();
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
        let mut ended = self.child.lock().take().expect("the server runs");
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
        let mut child = self.child.lock();
        assert!(child.is_none(), "the server runs");
        wait_until(SOON, "its old port", || {
            *child = self.launch.spawn(self.dir.path(), self.port).unwrap();
            child.is_some()
        });
    }

    /// Waits until it answers PING with PONG.
    pub fn wait_until_ready(&self) {
        wait_until(SOON, "redis-server is ready", || {
            let ended = self.child.lock().as_mut().expect("the server runs").try_wait().unwrap();
            assert!(ended.is_none(), "redis-server ended ({ended:?}):\n{}", self.log());
            self.try_command(&["PING"]).is_ok()
        });
    }

    /// Sends a command and panics if it fails.
    pub fn command(&self, words: &[&str]) -> RedisReply {
        self.try_command(words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// Sends a command, on a connection of its own.
    ///
    /// # Errors
    ///
    /// What it was refused with, or why it was not answered.
    pub fn try_command(&self, words: &[&str]) -> Result<RedisReply, String> {
        let ask = || {
            let user = RedisConnectionInfo::default().set_username("tests").set_password("any").set_skip_set_lib_name();
            let socket = ConnectionAddr::Unix(self.socket()).into_connection_info()?.set_redis_settings(user);
            let mut connection = redis::Client::open(socket)?.get_connection()?;
            connection.set_read_timeout(Some(SOON))?;
            redis::cmd(words[0]).arg(&words[1..]).query(&mut connection)
        };
        loop {
            match ask() {
                Ok(value) => return Ok(RedisReply::of(value)),
                // A read with a timeout ends like this when the process has been stopped and goes on.
                Err(error) if is_interrupted(&error) => {}
                Err(error) => {
                    let detail = error.detail().unwrap_or_default();
                    return Err(error.code().map_or_else(|| error.to_string(), |code| format!("{code} {detail}")));
                }
            }
        }
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
        wait_until(SOON, "the replica is in step", || self.info("master_link_status").as_deref() == Some("up"));
        // The primary waits for a word from it before it counts it.
        let counted = format!("port={},state=online", self.port);
        wait_until(SOON, "the primary has seen it", || {
            primary.command(&["INFO", "replication"]).text().contains(&counted)
        });
    }

    /// Makes it a primary.
    pub fn promote(&self) {
        self.command(&["REPLICAOF", "NO", "ONE"]);
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let child = self.child.get_mut();
        if let Some(child) = child {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn is_interrupted(error: &RedisError) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<Arc<dyn Error + Send + Sync>>());
    let cause = cause.and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::Interrupted)
}

/// What a command was answered with; an error is apart.
#[derive(Clone, Debug, PartialEq)]
pub enum RedisReply {
    /// Nothing.
    Nil,
    /// A whole number.
    Number(i64),
    /// Bytes that are not UTF-8 are replaced.
    Text(String),
    /// Replies in a row.
    List(Vec<Self>),
}

impl RedisReply {
    fn of(value: Value) -> Self {
        match value {
            Value::Nil => Self::Nil,
            Value::Int(number) => Self::Number(number),
            Value::Array(items) => Self::List(items.into_iter().map(Self::of).collect()),
            Value::BulkString(bytes) => Self::Text(String::from_utf8_lossy(&bytes).into_owned()),
            Value::SimpleString(text) => Self::Text(text),
            Value::Okay => Self::Text("OK".to_owned()),
            other => panic!("not of RESP2: {other:?}"),
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_read_is_told_from_a_connection_that_is_gone() {
        for (kind, interrupted) in [(io::ErrorKind::Interrupted, true), (io::ErrorKind::BrokenPipe, false)] {
            assert_eq!(is_interrupted(&RedisError::from(io::Error::from(kind))), interrupted, "{kind}");
        }
    }
}

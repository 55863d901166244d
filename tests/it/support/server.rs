//! A daemon in a folder of its own, on ports of its own.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    net::SocketAddr,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, mpsc},
    thread,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use super::{
    SOON,
    client::{Client, Trust},
    expect::metric,
    wait_until,
};

/// How to start a daemon.
#[derive(Clone, Default)]
pub struct Launch {
    args: Vec<String>,
    env: Vec<(String, String)>,
    tls: bool,
    stderr: Option<Arc<OwnedFd>>,
    open_files: Option<u64>,
}

impl Launch {
    /// Plain HTTP, generated token.
    pub fn plain() -> Self {
        Self::default()
    }

    /// What does not depend on the transport: plain HTTP, or TLS when `GUARDBEAT_TEST_TLS` is set. `make test` runs the
    /// contract over both.
    pub fn either() -> Self {
        Self { tls: std::env::var_os("GUARDBEAT_TEST_TLS").is_some(), ..Self::default() }
    }

    /// TLS with a generated authority.
    pub fn tls() -> Self {
        Self { tls: true, ..Self::default() }
    }

    pub fn is_tls(&self) -> bool {
        self.tls
    }

    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Gives it this stderr.
    pub fn stderr(mut self, to: impl Into<OwnedFd>) -> Self {
        self.stderr = Some(Arc::new(to.into()));
        self
    }

    /// Gives it a limit of open files of which half is in force until it is raised.
    pub fn open_files(mut self, limit: u64) -> Self {
        self.open_files = Some(limit);
        self
    }

    pub fn start(self) -> Server {
        Server::start(self, TempDir::new().unwrap())
    }

    fn spawn(&self, dir: &Path) -> Child {
        let stderr = match &self.stderr {
            Some(stderr) => stderr.try_clone().unwrap(),
            None => File::options().create(true).append(true).open(dir.join("stderr.log")).unwrap().into(),
        };
        let mut command = self.open_files.map_or_else(daemon, daemon_with_files);
        command.current_dir(dir).args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(dir.join("data"));
        if !self.tls {
            command.args(["--tls", "off"]);
        }
        command.args(&self.args).env("GUARDBEAT_METRICS__LISTEN", "127.0.0.1:0").env("GUARDBEAT_LOG__LEVEL", "warn");
        // The machine's limit of open files may be low: that is no reason for a warning here.
        command.env("GUARDBEAT_SERVER__MAX_CONNECTIONS", "1000");
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr).spawn().unwrap()
    }
}

/// The binary, with nothing of our environment but `PATH`.
fn daemon() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_guardbeat"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

/// The same, with a limit of open files of which half is in force until it is raised.
fn daemon_with_files(limit: u64) -> Command {
    let soft = (limit / 2).max(8);
    let script = format!("ulimit -Sn {soft} && ulimit -Hn {limit} && exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_guardbeat")]);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

/// What a run of the binary that ends by itself left behind.
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs the binary in a folder until it ends.
pub fn run(dir: &Path, args: &[&str], env: &[(&str, &str)]) -> Ended {
    run_command(daemon(), dir, args, env)
}

/// As [`run`], with a limit of open files.
pub fn run_with_files(limit: u64, dir: &Path, args: &[&str], env: &[(&str, &str)]) -> Ended {
    run_command(daemon_with_files(limit), dir, args, env)
}

fn run_command(mut command: Command, dir: &Path, args: &[&str], env: &[(&str, &str)]) -> Ended {
    let (stdout, stderr) = (dir.join("run.stdout"), dir.join("run.stderr"));
    command.current_dir(dir).args(args).envs(env.iter().copied()).stdin(Stdio::null());
    command.stdout(File::create(&stdout).unwrap()).stderr(File::create(&stderr).unwrap());
    let mut running = KilledOnDrop { child: command.spawn().unwrap(), log: stderr.clone() };
    let code = running.wait("the process to end").code();
    let read = |path: PathBuf| fs::read_to_string(path).unwrap();
    Ended { code, stdout: read(stdout), stderr: read(stderr) }
}

struct KilledOnDrop {
    child: Child,
    log: PathBuf,
}

impl KilledOnDrop {
    fn wait(&mut self, what: &str) -> ExitStatus {
        let mut status = None;
        wait_until(SOON, what, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.expect("it has ended")
    }
}

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("What the daemon said:\n{}", fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

/// A daemon that runs.
pub struct Server {
    child: KilledOnDrop,
    launch: Launch,
    dir: TempDir,
    pub api: SocketAddr,
    pub operations: SocketAddr,
    /// The administrator's token.
    pub token: String,
}

impl Server {
    fn start(launch: Launch, dir: TempDir) -> Self {
        let mut child = KilledOnDrop { child: launch.spawn(dir.path()), log: dir.path().join("stderr.log") };
        let (api, operations) = addresses(&mut child.child, dir.path());
        let given = |wanted: &str| launch.env.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
        let token = given("MANAGER_AUTH_TOKEN").unwrap_or_else(|| {
            let file = given("GUARDBEAT_AUTH__ADMIN_TOKEN_FILE").unwrap_or_else(|| "data/admin-token".to_owned());
            fs::read_to_string(dir.path().join(file)).unwrap().trim_matches(['\u{feff}', '\r', '\n']).to_owned()
        });
        Self { child, launch, dir, api, operations, token }
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// What it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("stderr.log")).unwrap()
    }

    /// A client with the administrator's token.
    pub fn client(&self) -> Client {
        self.anonymous().with_token(&self.token)
    }

    /// A client without a token.
    pub fn anonymous(&self) -> Client {
        Client::new(self.api, self.trust())
    }

    /// What its clients trust, if it speaks TLS.
    pub fn trust(&self) -> Option<Trust> {
        self.launch.tls.then(|| Trust::in_file(&self.data().join("tls/ca.pem")))
    }

    /// Its resident memory, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it runs");
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// A client of the operations listener.
    pub fn operations(&self) -> Client {
        Client::new(self.operations, None)
    }

    /// The value of one series of its metrics.
    pub fn metric(&self, series: &str) -> f64 {
        let reply = self.operations().get("/metrics");
        metric(reply.text(), series).unwrap_or_else(|| panic!("no {series} in {}", reply.text()))
    }

    /// Whether it says that it can do its work.
    pub fn is_ready(&self) -> bool {
        self.operations().get("/readyz").status == 200
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.id().try_into().unwrap()), signal).unwrap();
    }

    pub fn kill9(&mut self) {
        self.child.child.kill().unwrap();
        self.child.child.wait().unwrap();
    }

    pub fn is_running(&mut self) -> bool {
        self.child.child.try_wait().unwrap().is_none()
    }

    pub fn wait_for_end(&mut self) -> ExitStatus {
        self.child.wait("the daemon to end")
    }

    /// SIGTERM, and how it ended.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait_for_end()
    }

    /// Starts it again on the same data; on other ports.
    pub fn restart(self) -> Self {
        let Self { child, launch, dir, .. } = self;
        drop(child);
        Self::start(launch, dir)
    }
}

/// Where it listens, from what it prints when it is ready.
fn addresses(child: &mut Child, dir: &Path) -> (SocketAddr, SocketAddr) {
    let out = BufReader::new(child.stdout.take().unwrap());
    let (lines, received) = mpsc::sync_channel(16);
    thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            // Nobody listens any more once the addresses are known.
            let _ = lines.send(line);
        }
    });
    let (mut api, mut operations) = (None, None);
    while api.is_none() || operations.is_none() {
        let Ok(line) = received.recv_timeout(SOON) else {
            let log = fs::read_to_string(dir.join("stderr.log")).unwrap_or_default();
            panic!("the daemon did not start: {log}");
        };
        let at = |url: &str| {
            let port = url.trim_end_matches("/metrics").rsplit(':').next()?.parse().ok()?;
            Some(SocketAddr::from(([127, 0, 0, 1], port)))
        };
        if let Ok(banner) = serde_json::from_str::<serde_json::Value>(&line) {
            let url = |name: &str| banner["fields"][name].as_str().and_then(at);
            (api, operations) = (url("api"), url("metrics"));
            continue;
        }
        match line.split_whitespace().next() {
            Some("API") => api = at(&line),
            Some("metrics") => operations = at(&line),
            _ => {}
        }
    }
    (api.unwrap(), operations.unwrap())
}

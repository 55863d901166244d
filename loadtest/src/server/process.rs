//! A server as a child process, ended when this value is dropped.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::wire::{KeepAlive, Link, Method, Target, request};

/// How often a starting server is asked whether it is there: the resolution of start-up times.
const POLL: Duration = Duration::from_millis(2);
/// How long one such question may take.
const POLL_LIMIT: Duration = Duration::from_secs(5);
/// How much of a server's log is shown when it ends unexpectedly.
const LOG_LINES: usize = 15;

pub(crate) struct ServerProcess {
    child: Child,
    name: &'static str,
    spawned: Instant,
    log: PathBuf,
}

impl ServerProcess {
    /// Starts `command` with its output going to the end of the file `log`.
    pub(crate) fn spawn(name: &'static str, command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let out = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let spawned = Instant::now();
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            // Ctrl-C is for the one who watches: the server has to go on until it is told to end.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Self { child, name, spawned, log: log.to_owned() })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `GET path` is answered with 200; returns the time since it was started.
    pub(crate) async fn until_answers(
        &mut self,
        target: &Arc<Target>,
        path: &str,
        limit: Duration,
    ) -> anyhow::Result<Duration> {
        let get = request(target, Method::Get, path, None, None);
        let mut link = Link::new(target.clone(), KeepAlive::No);
        let answers = async || link.exchange_within(POLL_LIMIT, &get).await.is_ok_and(|reply| reply.status == 200);
        self.until(&format!("GET {target}{path}"), limit, answers).await
    }

    /// Waits until `answers` says so; `question` is what it asks. Returns the time since it was started.
    pub(crate) async fn until(
        &mut self,
        question: &str,
        limit: Duration,
        mut answers: impl AsyncFnMut() -> bool,
    ) -> anyhow::Result<Duration> {
        loop {
            if answers().await {
                return Ok(self.spawned.elapsed());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the {} ended ({status}):\n{}", self.name, self.end_of_log());
            }
            if self.spawned.elapsed() > limit {
                bail!(
                    "the {} did not answer {question} within {} s:\n{}",
                    self.name,
                    limit.as_secs(),
                    self.end_of_log()
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Asks it to end (SIGTERM) and waits; returns the time that took.
    pub(crate) async fn terminate(mut self, limit: Duration) -> anyhow::Result<Duration> {
        let asked = Instant::now();
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("a process id is a positive i32")?, Signal::TERM)?;
        loop {
            if let Some(status) = self.child.try_wait()? {
                self.check_clean(status)?;
                return Ok(asked.elapsed());
            }
            if asked.elapsed() > limit {
                bail!("the {} did not end within {} s of SIGTERM:\n{}", self.name, limit.as_secs(), self.end_of_log());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Ends it at once (SIGKILL).
    pub(crate) fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn check_clean(&self, status: ExitStatus) -> anyhow::Result<()> {
        if status.success() {
            return Ok(());
        }
        bail!("the {} ended with {status} after SIGTERM instead of 0:\n{}", self.name, self.end_of_log());
    }

    fn end_of_log(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // Both fail when it has ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spawn(folder: &Path, script: &str) -> ServerProcess {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        ServerProcess::spawn("server", &mut command, &folder.join("log")).expect("sh")
    }

    #[test]
    fn a_dropped_server_is_gone() {
        let folder = tempfile::tempdir().expect("a folder");
        let server = spawn(folder.path(), "exec sleep 60");
        let proc = PathBuf::from(format!("/proc/{}", server.pid()));
        assert!(proc.exists());
        drop(server);
        assert!(!proc.exists());
    }

    #[tokio::test]
    async fn an_unclean_end_is_told_with_the_log() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut server = spawn(folder.path(), "echo 'port taken'; exit 3");
        let target = Target::expect("http://127.0.0.1:9", None).await.expect("a target");
        let error = server.until_answers(&target, "/health", Duration::from_secs(10)).await.expect_err("it ended");
        assert!(error.to_string().contains("port taken"), "{error}");
    }
}

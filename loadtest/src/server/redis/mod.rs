//! The Redis that a server under test keeps its fleet in: started for the run, or one that is given.
//!
//! It promises that one that was started here does not outlive its [`Redis`], and that in a given one
//! only keys under a prefix of this run are written, which [`Redis::clear`] deletes. It knows nothing
//! of the layout under that prefix.

mod client;
mod info;
mod url;

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use tempfile::TempDir;
use uuid::Uuid;

use super::free_port;
use super::process::ServerProcess;
use client::Client;
pub(crate) use info::{Expense, Info};
pub(crate) use url::RedisUrl;

/// Debian has the same program under a second name in the package redis-tools, which comes without a
/// service. It goes by the name it is called by.
const PROGRAMS: [&str; 2] = ["redis-server", "redis-check-rdb"];
const START_LIMIT: Duration = Duration::from_secs(10);
/// Keys looked at by one SCAN when clearing up.
const SCAN_COUNT: &str = "1000";

/// Which Redis to measure with, as on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WhichRedis {
    /// One of its own, started for the run.
    Own,
    /// The one that listens there.
    At(RedisUrl),
}

impl WhichRedis {
    /// What the flag means when it is given without a URL.
    pub(crate) const OWN: &str = "own";
}

impl std::str::FromStr for WhichRedis {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == Self::OWN { Ok(Self::Own) } else { text.parse().map(Self::At) }
    }
}

/// A Redis that answers, and the part of it that is this run's.
pub(crate) struct Redis {
    client: Client,
    store: RedisStore,
    /// `None` for a given one.
    own: Option<Own>,
}

/// Where in Redis a server is to keep its fleet.
#[derive(Debug, Clone)]
pub(crate) struct RedisStore {
    /// For `store.url`.
    pub(super) url: RedisUrl,
    /// For `store.key_prefix`.
    pub(super) key_prefix: String,
}

/// A Redis of our own. The process is ended before its folder is removed.
struct Own {
    /// `None` while it is stopped.
    process: Option<ServerProcess>,
    folder: TempDir,
}

impl Redis {
    /// Starts one, or connects to the given one.
    pub(crate) async fn open(which: &WhichRedis) -> anyhow::Result<Self> {
        let (own, url) = match which {
            WhichRedis::Own => {
                let (own, url) = Own::start().await?;
                (Some(own), url)
            }
            WhichRedis::At(url) => (None, url.clone()),
        };
        let client = Client::connect(&url).await?;
        let run = Uuid::new_v4().simple().to_string();
        let key_prefix = format!("guardbeat-loadtest-{}:", &run[..8]);
        Ok(Self { client, store: RedisStore { url, key_prefix }, own })
    }

    /// As [`Redis::open`], if one is wanted.
    pub(crate) async fn open_if(which: Option<&WhichRedis>) -> anyhow::Result<Option<Self>> {
        match which {
            Some(which) => Ok(Some(Self::open(which).await?)),
            None => Ok(None),
        }
    }

    /// Where the server is to keep its fleet.
    pub(crate) fn store(&self) -> &RedisStore {
        &self.store
    }

    /// What it has used and done up to now.
    pub(crate) async fn info(&mut self) -> anyhow::Result<Info> {
        let answer = self.client.ask(&["INFO", "all"]).await?;
        Info::parse(&answer.concat())
    }

    /// Ends one that was started here, in order; what it has acknowledged stays in its folder.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        let own = self.own.as_mut().context("only a Redis that was started for the run can be stopped")?;
        if let Some(process) = own.process.take() {
            process.terminate(START_LIMIT).await?;
        }
        Ok(())
    }

    /// Starts it again, on the same port and data, and waits until it answers.
    pub(crate) async fn start_again(&mut self) -> anyhow::Result<()> {
        let own = self.own.as_mut().context("only a Redis that was started for the run can be started again")?;
        own.process = None;
        own.process = Some(Own::answering(own.folder.path(), &self.store.url).await?);
        self.client = Client::connect(&self.store.url).await?;
        Ok(())
    }

    /// Deletes what the servers of this run have stored; after they have ended.
    pub(crate) async fn clear(mut self) -> anyhow::Result<()> {
        if self.own.is_some() {
            return Ok(());
        }
        let pattern = format!("{}*", self.store.key_prefix);
        let mut cursor = "0".to_owned();
        loop {
            let mut answer = self.client.ask(&["SCAN", &cursor, "MATCH", &pattern, "COUNT", SCAN_COUNT]).await?;
            anyhow::ensure!(!answer.is_empty(), "Redis answered SCAN with nothing");
            cursor = answer.remove(0);
            if !answer.is_empty() {
                let unlink: Vec<&str> = std::iter::once("UNLINK").chain(answer.iter().map(String::as_str)).collect();
                self.client.ask(&unlink).await?;
            }
            if cursor == "0" {
                return Ok(());
            }
        }
    }
}

impl Own {
    /// As durable as Redis is commonly run: an append-only file, synced every second, and no snapshots.
    async fn start() -> anyhow::Result<(Self, RedisUrl)> {
        let folder = tempfile::Builder::new()
            .prefix("guardbeat-loadtest-redis-")
            .tempdir()
            .context("cannot make a temporary folder")?;
        let url = RedisUrl::on_loopback(free_port()?);
        let process = Self::answering(folder.path(), &url).await?;
        Ok((Self { process: Some(process), folder }, url))
    }

    async fn answering(folder: &Path, url: &RedisUrl) -> anyhow::Result<ServerProcess> {
        let mut process = Self::spawn(folder, url)?;
        let answers = async || Client::connect(url).await.is_ok();
        process.until("PING", START_LIMIT, answers).await?;
        Ok(process)
    }

    fn spawn(folder: &Path, url: &RedisUrl) -> anyhow::Result<ServerProcess> {
        let (host, port) = url.address();
        for program in PROGRAMS {
            let mut command = Command::new(program);
            command
                .arg0(PROGRAMS[0])
                .args(["--bind", host, "--port", &port.to_string()])
                .args(["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""])
                .args(["--daemonize", "no", "--dir"])
                .arg(folder)
                .current_dir(folder);
            match ServerProcess::spawn("Redis server", &mut command, &folder.join("log")) {
                Err(error) if is_not_found(&error) => {}
                spawned => return spawned,
            }
        }
        bail!(
            "`{}` is not in PATH: `make setup-checks` installs it; or name a Redis that runs, \
             as in `--redis=redis://127.0.0.1:6379`",
            PROGRAMS[0]
        )
    }
}

fn is_not_found(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|cause| cause.kind() == io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_alone_means_a_redis_of_its_own() {
        assert_eq!(WhichRedis::OWN.parse::<WhichRedis>().expect("a choice"), WhichRedis::Own);
        assert_eq!(
            "redis://127.0.0.1:7000".parse::<WhichRedis>().expect("a choice"),
            WhichRedis::At(RedisUrl::on_loopback(7_000))
        );
        assert!("yes".parse::<WhichRedis>().is_err());
    }

    #[tokio::test]
    async fn a_redis_that_was_given_is_left_as_it_was_found() {
        let mut own = Redis::open(&WhichRedis::Own).await.expect("redis-server");
        let mut given = Redis::open(&WhichRedis::At(own.store.url.clone())).await.expect("the same one");
        for number in 0..3_000 {
            let key = format!("{}{number}", given.store.key_prefix);
            given.client.ask(&["SET", &key, "x"]).await.expect("written");
        }
        own.client.ask(&["SET", "somebody else's", "x"]).await.expect("written");
        given.clear().await.expect("cleared");
        assert_eq!(own.client.ask(&["KEYS", "*"]).await.expect("the keys"), ["somebody else's"]);
    }

    #[tokio::test]
    async fn a_redis_that_was_stopped_and_started_again_has_its_data() {
        let mut redis = Redis::open(&WhichRedis::Own).await.expect("redis-server");
        redis.client.ask(&["SET", "k", "kept"]).await.expect("written");
        redis.stop().await.expect("stopped");
        assert!(redis.client.ask(&["PING"]).await.is_err());
        redis.start_again().await.expect("started again");
        assert_eq!(redis.client.ask(&["GET", "k"]).await.expect("read"), ["kept"]);
    }

    #[tokio::test]
    async fn a_redis_says_what_was_asked_of_it() {
        let mut redis = Redis::open(&WhichRedis::Own).await.expect("redis-server");
        let before = redis.info().await.expect("figures");
        for command in ["MULTI", "PING", "PING", "EXEC"] {
            redis.client.ask(&[command]).await.expect("an answer");
        }
        let expense = redis.info().await.expect("figures").since(&before, 1);
        // MULTI, two PING and EXEC, and the first of the two questions.
        assert_eq!((expense.commands_per_1000, expense.transactions_per_1000), (5_000.0, 1_000.0));
    }
}

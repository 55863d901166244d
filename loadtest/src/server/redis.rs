//! The Redis that a server under test keeps its fleet in: started for the run, or one that is given.
//!
//! It promises that one that was started here does not outlive its [`Redis`], and that in a given one only keys under a
//! prefix of this run are written, which [`Redis::clear`] deletes. It knows nothing of the layout under that prefix.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use guardbeat_testkit::redis::RedisServer;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, InfoDict, IntoConnectionInfo, cmd};
use url::Url;
use uuid::Uuid;

/// How long an answer may take: Redis does one thing at a time.
const LIMIT: Duration = Duration::from_secs(10);
/// Keys looked at by one SCAN when clearing up.
const SCAN_COUNT: u64 = 1_000;

/// A Redis reached by plain TCP. Shown without its password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct RedisUrl(Url);

impl RedisUrl {
    fn on_loopback(port: u16) -> Self {
        Self(Url::parse(&format!("redis://127.0.0.1:{port}")).expect("an address and a port make a URL"))
    }
}

impl FromStr for RedisUrl {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected redis://[[user]:password@]host[:port][/db]";
        // Not shown: it may have a password in it.
        let url = Url::parse(text).context(EXPECTED)?;
        if url.scheme() != "redis" {
            bail!("{EXPECTED}, not {}://: measurements go over plain TCP", url.scheme());
        }
        url.clone().into_connection_info().context(EXPECTED)?;
        Ok(Self(url))
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.0.port().map_or_else(String::new, |port| format!(":{port}"));
        write!(f, "redis://{}{port}", self.0.host_str().unwrap_or_default())
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A Redis that answers, and the part of it that is this run's.
pub(crate) struct Redis {
    connection: MultiplexedConnection,
    url: RedisUrl,
    /// For `store.key_prefix`.
    pub(super) key_prefix: String,
    /// `None` for a given one.
    own: Option<Arc<RedisServer>>,
}

impl Redis {
    /// Starts one, or connects to the given one.
    ///
    /// One that is started is as durable as Redis is commonly run: an append-only file, synced every second, and no
    /// snapshots.
    pub(crate) async fn open(given: Option<&RedisUrl>) -> anyhow::Result<Self> {
        let (own, url) = match given {
            Some(url) => (None, url.clone()),
            None => {
                let launch = RedisServer::launch().line("appendonly yes").line("appendfsync everysec");
                let server = tokio::task::spawn_blocking(|| launch.try_start()).await?;
                let server = server.context("give --redis URL to measure with a Redis that runs already")?;
                let url = RedisUrl::on_loopback(server.port());
                (Some(Arc::new(server)), url)
            }
        };
        let run = Uuid::new_v4().simple().to_string();
        let key_prefix = format!("guardbeat-loadtest-{}:", &run[..8]);
        Ok(Self { connection: connect(&url).await?, url, key_prefix, own })
    }

    /// For `store.url` of a server: with its password.
    pub(super) fn url(&self) -> &str {
        self.url.0.as_str()
    }

    /// What it has used and done up to now.
    pub(crate) async fn info(&mut self) -> anyhow::Result<Info> {
        let info: InfoDict = cmd("INFO").arg("all").query_async(&mut self.connection).await?;
        Info::of(&info)
    }

    /// Ends one that was started here, in order; what it has acknowledged stays in its folder.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        let server = self.own.clone().context("only a Redis that was started for the run can be stopped")?;
        Ok(tokio::task::spawn_blocking(move || server.terminate()).await?)
    }

    /// Starts it again, on the same port and data, and waits until it answers.
    pub(crate) async fn start_again(&mut self) -> anyhow::Result<()> {
        let server = self.own.clone().context("only a Redis that was started for the run can be started again")?;
        tokio::task::spawn_blocking(move || server.start_again()).await?;
        self.connection = connect(&self.url).await?;
        Ok(())
    }

    /// Deletes what the servers of this run have stored; after they have ended.
    pub(crate) async fn clear(mut self) -> anyhow::Result<()> {
        if self.own.is_some() {
            return Ok(());
        }
        let pattern = format!("{}*", self.key_prefix);
        let mut cursor = 0_u64;
        loop {
            let mut scan = cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(SCAN_COUNT);
            let keys: Vec<Vec<u8>>;
            (cursor, keys) = scan.query_async(&mut self.connection).await?;
            if !keys.is_empty() {
                cmd("UNLINK").arg(keys).exec_async(&mut self.connection).await?;
            }
            if cursor == 0 {
                return Ok(());
            }
        }
    }
}

async fn connect(url: &RedisUrl) -> anyhow::Result<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(LIMIT)).set_response_timeout(Some(LIMIT));
    let connecting = async {
        let client = Client::open(url.0.clone())?;
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        cmd("PING").exec_async(&mut connection).await?;
        redis::RedisResult::Ok(connection)
    };
    connecting.await.with_context(|| format!("cannot use the Redis at {url}"))
}

/// What a Redis has used and done since it was started: <https://redis.io/docs/latest/commands/info/>.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Info {
    /// `used_memory`: what its allocator has handed out.
    pub(crate) memory_bytes: u64,
    /// User and system time of the process and its threads, and of the children that rewrite its append-only file.
    cpu: Duration,
    /// Those inside of transactions among them.
    commands: u64,
    transactions: u64,
}

/// What a number of requests to a server meant to its Redis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Expense {
    /// Processor time for each.
    pub(crate) cpu_us: f64,
    pub(crate) commands_per_1000: f64,
    /// Their commands are counted above.
    pub(crate) transactions_per_1000: f64,
}

impl Info {
    fn of(info: &InfoDict) -> anyhow::Result<Self> {
        let number = |name: &str| info.get::<u64>(name).with_context(|| format!("INFO of Redis has no {name}"));
        let mut cpu_s = 0.0;
        for name in ["used_cpu_user", "used_cpu_sys", "used_cpu_user_children", "used_cpu_sys_children"] {
            cpu_s += info.get::<f64>(name).with_context(|| format!("INFO of Redis has no {name} in seconds"))?;
        }
        // `calls=3,usec=12,…`; a command that was never sent has no line.
        let calls = |text: String| text.split(',').find_map(|part| part.strip_prefix("calls="))?.parse().ok();
        Ok(Self {
            memory_bytes: number("used_memory")?,
            cpu: Duration::from_secs_f64(cpu_s),
            commands: number("total_commands_processed")?,
            transactions: info.get("cmdstat_exec").and_then(calls).unwrap_or(0),
        })
    }

    /// What happened since an earlier moment, shared out over so many requests; at least one.
    pub(crate) fn since(&self, earlier: &Self, requests: u64) -> Expense {
        let per_1000 = |now: u64, then: u64| now.saturating_sub(then) as f64 * 1e3 / requests as f64;
        Expense {
            cpu_us: self.cpu.saturating_sub(earlier.cpu).as_secs_f64() * 1e6 / requests as f64,
            commands_per_1000: per_1000(self.commands, earlier.commands),
            transactions_per_1000: per_1000(self.transactions, earlier.transactions),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_a_url_has_no_password() {
        let url: RedisUrl = "redis://me:secret@h:1/2".parse().expect("a URL");
        assert_eq!((url.to_string(), format!("{url:?}")), ("redis://h:1".to_owned(), "redis://h:1".to_owned()));
        assert!(url.0.as_str().contains("secret"));
    }

    #[test]
    fn other_urls_are_refused() {
        for text in ["", "127.0.0.1:6379", "rediss://h", "http://h", "redis://", "redis://h/x"] {
            assert!(text.parse::<RedisUrl>().is_err(), "{text}");
        }
    }

    fn info(cpu: &str, commands: u64, commandstats: &str) -> Info {
        let text = format!(
            "# Memory\r\nused_memory:916608\r\nused_memory_human:895.12K\r\n\r\n# Stats\r\n\
             total_commands_processed:{commands}\r\n\r\n# CPU\r\nused_cpu_sys:0.25\r\nused_cpu_user:{cpu}\r\n\
             used_cpu_sys_children:0.5\r\nused_cpu_user_children:0.25\r\nused_cpu_user_main_thread:9.0\r\n{commandstats}"
        );
        Info::of(&InfoDict::new(&text)).expect("well-formed")
    }

    #[test]
    fn what_happened_is_shared_out_over_the_requests() {
        let (before, after) = (info("1.0", 100, ""), info("1.5", 400, "cmdstat_exec:calls=30,usec=90\r\n"));
        assert_eq!((before.memory_bytes, before.transactions), (916_608, 0));
        let expense = after.since(&before, 10_000);
        assert_eq!(expense, Expense { cpu_us: 50.0, commands_per_1000: 30.0, transactions_per_1000: 3.0 });
    }

    #[test]
    fn an_answer_without_the_figures_is_an_error_that_names_them() {
        let error = Info::of(&InfoDict::new("used_memory:1\r\n")).expect_err("no processor time");
        assert!(error.to_string().contains("used_cpu_user"), "{error}");
    }

    #[tokio::test]
    async fn a_redis_that_was_given_is_left_as_it_was_found() {
        let mut own = Redis::open(None).await.expect("redis-server");
        let mut given = Redis::open(Some(&own.url)).await.expect("the same one");
        for number in 0..3_000 {
            let key = format!("{}{number}", given.key_prefix);
            cmd("SET").arg(key).arg("x").exec_async(&mut given.connection).await.expect("written");
        }
        cmd("SET").arg("somebody else's").arg("x").exec_async(&mut own.connection).await.expect("written");
        given.clear().await.expect("cleared");
        let keys: Vec<String> = cmd("KEYS").arg("*").query_async(&mut own.connection).await.expect("the keys");
        assert_eq!(keys, ["somebody else's"]);
    }

    #[tokio::test]
    async fn a_redis_that_was_stopped_and_started_again_has_its_data() {
        let mut redis = Redis::open(None).await.expect("redis-server");
        cmd("SET").arg("k").arg("kept").exec_async(&mut redis.connection).await.expect("written");
        redis.stop().await.expect("stopped");
        assert!(cmd("PING").exec_async(&mut redis.connection).await.is_err());
        redis.start_again().await.expect("started again");
        let kept: String = cmd("GET").arg("k").query_async(&mut redis.connection).await.expect("read");
        assert_eq!(kept, "kept");
    }

    #[tokio::test]
    async fn a_redis_says_what_was_asked_of_it() {
        let mut redis = Redis::open(None).await.expect("redis-server");
        let before = redis.info().await.expect("figures");
        for command in ["MULTI", "PING", "PING", "EXEC"] {
            cmd(command).exec_async(&mut redis.connection).await.expect("an answer");
        }
        let expense = redis.info().await.expect("figures").since(&before, 1);
        // MULTI, two PING and EXEC, and the first of the two questions.
        assert_eq!((expense.commands_per_1000, expense.transactions_per_1000), (5_000.0, 1_000.0));
    }
}

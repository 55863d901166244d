//! The fleet in a Redis. The layout, and what is lost when: `docs/redis.md`.
//!
//! ```text
//! commit, save ──▶ Link ──▶ Session (one connection: what is sent first takes effect first)
//!                   │ keeps it up: lease, backoff, what Redis has lost meanwhile (Rewrite)
//!                   ▼
//!                SessionFactory ──▶ Connector ──▶ Redis: URL, sentinels, TLS
//! ```

mod connector;
mod corrupt;
mod error_class;
mod keys;
mod lease;
mod link;
mod loading;
mod partition;
mod persistence;
mod policies;
mod rewrite;
mod rights;
mod server;
mod session;
mod threats;
mod writing;

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use redis::{Pipeline, RedisError, aio::MultiplexedConnection};
use tokio::{sync::mpsc, task::AbortHandle, time::Instant};

use self::{
    connector::Connector,
    error_class::{explained, is_refusal, keeps_connection},
    keys::Keys,
    lease::Owner,
    link::{Link, wait_for_redis},
    loading::Load,
    session::{Session, SessionFactory, Writes},
    writing::Confirmation,
};
use super::{Change, Chunk, Discard, HeartbeatBatch, Loaded, LoadedThreats, Store, StoreError, StoreReader, Sweep};
use crate::{
    fleet::ActiveTime,
    process::supervision::{Task, restarted},
    threats::{Threat, ThreatEntry, ThreatKey},
};

use crate::config::RedisUrl;

/// How to use a Redis.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// Where it is, and who we are to it.
    pub url: RedisUrl,
    /// What the names of all keys begin with.
    pub key_prefix: String,
    /// The authority that signed its certificate, in PEM form; the system's roots without one.
    pub ca_file: Option<PathBuf>,
    /// Replicas that must have a durable change before it is answered.
    pub min_replicas: u32,
    /// The longest that a command may take.
    pub timeout: Duration,
    /// How long to wait at first for a Redis that cannot be used.
    pub connect_timeout: Duration,
}

impl RedisSettings {
    fn session_factory(&self) -> Result<SessionFactory, StoreError> {
        Ok(SessionFactory {
            connector: Connector::new(self)?,
            keys: Keys::new(&self.key_prefix),
            owner: Owner::this_process(),
        })
    }
}

/// A fleet in a Redis, owned by this process.
#[derive(Debug)]
pub struct RedisStore {
    link: Arc<Link>,
    keeper: AbortHandle,
    min_replicas: u32,
    timeout: Duration,
}

impl Drop for RedisStore {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl RedisStore {
    /// Takes the fleet over, and keeps the link to Redis up on the current runtime.
    pub async fn open(settings: &RedisSettings) -> Result<Self, StoreError> {
        let deadline = Instant::now() + settings.connect_timeout;
        let link = Link::open(settings.session_factory()?, settings.min_replicas, deadline).await?;
        let keeper = tokio::spawn({
            let link = link.clone();
            restarted(Task::RedisKeeper, move || link.clone().keep())
        })
        .abort_handle();
        Ok(Self { link, keeper, min_replicas: settings.min_replicas, timeout: settings.timeout })
    }

    /// Writes a transaction. `writes` says what it is when so many of its kind there have been.
    async fn write(
        &self,
        session: &Session,
        transaction: &Pipeline,
        writes: impl Fn(i64) -> Writes,
    ) -> Result<(), StoreError> {
        let mut connection = session.connection.clone();
        let (count, run): Confirmation =
            transaction.query_async(&mut connection).await.map_err(|error| self.failed(session, &error))?;
        if let Err(error) = self.link.must_be_ours(run.as_deref()) {
            self.link.fail(session, &error.to_string());
        }
        self.link.confirmed(session, writes(count))
    }

    /// Waits until enough replicas have all that this session has written; answers how many have not.
    async fn replicas_missing(&self, session: &Session) -> Result<u32, StoreError> {
        if self.min_replicas == 0 {
            return Ok(0);
        }
        let mut wait = redis::cmd("WAIT");
        wait.arg(self.min_replicas).arg(self.replica_patience().as_millis() as u64);
        let replicas: u32 =
            wait.query_async(&mut session.connection.clone()).await.map_err(|error| self.failed(session, &error))?;
        Ok(self.min_replicas.saturating_sub(replicas))
    }

    /// Less than the time limit of commands: a replica that is away is no reason to give the connection up.
    fn replica_patience(&self) -> Duration {
        self.timeout / 2
    }

    fn too_few_replicas(&self, missing: u32) -> Arc<str> {
        format!(
            "{} of the {} replicas that store.min_replicas asks for had everything within {} ms",
            self.min_replicas - missing,
            self.min_replicas,
            self.replica_patience().as_millis()
        )
        .into()
    }

    /// What a failed command means for the change, and for the session.
    fn failed(&self, session: &Session, error: &RedisError) -> StoreError {
        let reason = explained(error);
        if !keeps_connection(error) {
            self.link.fail(session, &reason);
        }
        if is_refusal(error) {
            StoreError::Unavailable(reason.into())
        } else {
            StoreError::UnknownOutcome(reason.into())
        }
    }
}

impl StoreReader for RedisStore {
    fn format(&self) -> &'static str {
        session::FORMAT
    }

    fn clock(&self) -> BoxFuture<'_, Result<Option<ActiveTime>, StoreError>> {
        async move { clock(&self.link.factory.keys, self.link.reading().await?).await }.boxed()
    }

    fn load(&self, out: mpsc::Sender<Chunk>) -> BoxFuture<'_, Result<Loaded, StoreError>> {
        async move {
            if self.link.is_unclaimed() {
                return loading::load(&self.link.factory, out, Load::Look).await;
            }
            let session = self.link.session()?;
            loading::load(&self.link.factory, out, Load::Own(&session.connection)).await
        }
        .boxed()
    }

    fn load_threats(&self, out: mpsc::Sender<Vec<ThreatEntry>>) -> BoxFuture<'_, Result<LoadedThreats, StoreError>> {
        threats::load(&self.link.factory, out, !self.link.is_unclaimed()).boxed()
    }

    fn threats(&self, keys: Vec<ThreatKey>) -> BoxFuture<'_, Result<Vec<Option<Threat>>, StoreError>> {
        async move { threats::read(self.link.reading().await?, &self.link.factory.keys, keys).await }.boxed()
    }
}

impl Store for RedisStore {
    fn commit(&self, changes: Vec<Change>) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            let session = self.link.session()?;
            // Nothing is written that would have to be undone because the replicas are known to be away.
            match self.replicas_missing(&session).await? {
                0 => {}
                missing => return Err(StoreError::Unavailable(self.too_few_replicas(missing))),
            }
            let transaction = writing::commit(&self.link.factory.keys, &changes);
            self.write(&session, &transaction, writing::commits).await?;
            match self.replicas_missing(&session).await? {
                0 => {}
                missing => return Err(StoreError::UnknownOutcome(self.too_few_replicas(missing))),
            }
            // The wait for replicas may have outlived the session.
            self.link.confirmed(&session, Writes::default())?;
            self.link.remember_gone(changes.iter().filter_map(|change| match change {
                Change::Deregister(id) => Some(*id),
                Change::Register(_)
                | Change::Reregister(_)
                | Change::SetPolicies(_)
                | Change::ForgetPolicies(_)
                | Change::PolicyVersion(_)
                | Change::Report(_) => None,
            }));
            Ok(())
        }
        .boxed()
    }

    fn discard(&self, discards: Vec<Discard>) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            let session = self.link.session()?;
            let transaction = writing::discard(&self.link.factory.keys, &discards);
            let (run,): (Option<String>,) = transaction
                .query_async(&mut session.connection.clone())
                .await
                .map_err(|error| self.failed(&session, &error))?;
            self.link.must_be_ours(run.as_deref()).map_err(StoreError::unavailable)
        }
        .boxed()
    }

    fn save<'a>(&'a self, batch: &'a HeartbeatBatch) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            let session = self.link.session()?;
            let transaction = writing::save(&self.link.factory.keys, &batch.heartbeats, batch.clock);
            self.write(&session, &transaction, writing::saves).await
        }
        .boxed()
    }

    fn is_reachable(&self) -> bool {
        self.link.is_up()
    }

    fn losses(&self) -> u64 {
        self.link.rewrite.losses()
    }

    fn wants_sweep(&self, shard: usize, shards: usize) -> Option<Sweep> {
        if self.link.is_up() { self.link.rewrite.wanted(shard, shards) } else { None }
    }

    fn swept(&self, shard: usize, sweep: Sweep) -> BoxFuture<'_, Result<(), StoreError>> {
        self.link.rewrite.done(shard, sweep);
        async { Ok(()) }.boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.link.close().boxed()
    }
}

/// A fleet in a Redis, looked at without owning it; it may be in use meanwhile.
#[derive(Debug)]
pub struct RedisReader {
    factory: Arc<SessionFactory>,
    connection: MultiplexedConnection,
}

impl RedisReader {
    /// Connects. Nothing is written.
    pub async fn open(settings: &RedisSettings) -> Result<Self, StoreError> {
        let factory = settings.session_factory()?;
        let deadline = Instant::now() + settings.connect_timeout;
        let connection = wait_for_redis(deadline, factory.connector.url(), async || factory.look().await).await?;
        Ok(Self { factory: Arc::new(factory), connection })
    }
}

impl StoreReader for RedisReader {
    fn format(&self) -> &'static str {
        session::FORMAT
    }

    fn clock(&self) -> BoxFuture<'_, Result<Option<ActiveTime>, StoreError>> {
        clock(&self.factory.keys, self.connection.clone()).boxed()
    }

    fn load(&self, out: mpsc::Sender<Chunk>) -> BoxFuture<'_, Result<Loaded, StoreError>> {
        loading::load(&self.factory, out, Load::Look).boxed()
    }

    fn load_threats(&self, out: mpsc::Sender<Vec<ThreatEntry>>) -> BoxFuture<'_, Result<LoadedThreats, StoreError>> {
        threats::load(&self.factory, out, false).boxed()
    }

    fn threats(&self, keys: Vec<ThreatKey>) -> BoxFuture<'_, Result<Vec<Option<Threat>>, StoreError>> {
        threats::read(self.connection.clone(), &self.factory.keys, keys).boxed()
    }
}

async fn clock(keys: &Keys, mut connection: MultiplexedConnection) -> Result<Option<ActiveTime>, StoreError> {
    let mut ask = redis::cmd("HGET");
    ask.arg(keys.meta()).arg("clock");
    let digits: Option<String> =
        ask.query_async(&mut connection).await.map_err(|error| StoreError::unavailable(explained(&error)))?;
    let micros = digits.map(|digits| digits.parse().map(ActiveTime::from_micros)).transpose();
    micros.map_err(|_| StoreError::Format("the clock in Redis (field clock of the key meta) is not a number".into()))
}

//! A connection that may write: everything that must be known and done before the first record goes through it.

use std::sync::Arc;

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;

use super::{
    connector::Connector,
    error_class::{ErrorClass, of_key},
    keys::{Keys, field},
    lease::{Lease, Owner},
    persistence::Persistence,
    rights,
    server::ServerInfo,
};
use crate::{fleet::AgentId, limits::FLUSH_BATCH_MAX, store::StoreError};

/// Version of the layout in Redis.
pub(super) const FORMAT: &str = "1";

/// Writes that Redis has confirmed, by kind. Redis counts them with the writes themselves: a lower count there shows that
/// it has lost some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Writes {
    pub(super) commits: i64,
    pub(super) saves: i64,
}

/// What Redis does not have any more of what it had confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lost {
    Heartbeats,
    /// Registrations and deregistrations too, or everything.
    Everything,
}

/// How a session begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum Beginning<'a> {
    /// The first of this process: what is in Redis is what there is.
    First,
    /// The first of a process that has read the fleet without owning it: Redis had no room for the lease then.
    Late {
        /// What stood in Redis when it was read: nobody else may have had the fleet since.
        seen: &'a Meta,
    },
    /// A later one.
    Again {
        /// What Redis had confirmed by then.
        confirmed: Writes,
        /// Agents that were deregistered lately.
        gone: &'a [AgentId],
        /// What Redis is known to have lost and has not been rewritten; what is found now is added, before anything is
        /// written that would hide it.
        lost: &'a Mutex<Option<Lost>>,
    },
}

/// A connection with the primary of a fleet that is ours.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) number: u64,
    pub(super) connection: MultiplexedConnection,
    pub(super) persistence: Persistence,
    pub(super) writes: Writes,
}

/// Opens sessions.
#[derive(Debug)]
pub(super) struct SessionFactory {
    pub(super) connector: Connector,
    pub(super) keys: Keys,
    pub(super) owner: Owner,
}

impl SessionFactory {
    /// A connection to look at the fleet without owning it.
    pub(super) async fn look(&self) -> Result<MultiplexedConnection, ErrorClass> {
        let mut connection = self.connector.connect().await?;
        ServerInfo::of(&mut connection).await?.must_be_usable()?;
        self.meta(&mut connection).await?.must_be_readable(self)?;
        Ok(connection)
    }

    /// What there is to be read of a fleet that cannot be owned now, because Redis takes nothing.
    pub(super) async fn survey(&self) -> Result<Meta, ErrorClass> {
        let mut connection = self.look().await?;
        self.meta(&mut connection).await
    }

    /// A connection beside the session's, the `number`th, to read a fleet that is ours.
    pub(super) async fn assist(&self, number: usize) -> Result<MultiplexedConnection, ErrorClass> {
        let mut connection = self.connector.connect().await?;
        // Whoever takes the fleet over closes this one too.
        let name = format!("{}{}/load-{number}", self.keys.connections(), self.owner.run);
        redis::cmd("CLIENT").arg("SETNAME").arg(&name).query_async::<()>(&mut connection).await?;
        // The URL may lead to another server by now, which may not have all that the session's has.
        match self.meta(&mut connection).await?.run {
            Some(run) if run == self.owner.run => Ok(connection),
            _ => Err(ErrorClass::Passing("another server answered than the one that the fleet was claimed on".into())),
        }
    }

    /// A session, the `number`th of this process.
    pub(super) async fn begin(&self, number: u64, beginning: Beginning<'_>) -> Result<Session, ErrorClass> {
        let mut connection = self.connector.connect().await?;
        let info = ServerInfo::of(&mut connection).await?;
        info.must_be_usable()?;
        let name = format!("{}{}/{number}", self.keys.connections(), self.owner.run);
        redis::cmd("CLIENT").arg("SETNAME").arg(&name).query_async::<()>(&mut connection).await?;
        rights::must_suffice(&mut connection, &self.keys).await?;
        // Before anything is written: a newer format is not ours to touch, not even with a lease.
        let before = self.meta(&mut connection).await?;
        before.must_be_readable(self)?;
        match beginning {
            Beginning::First => {}
            Beginning::Late { seen } => before.must_be(seen)?,
            Beginning::Again { confirmed, .. } => {
                // Another's by now, or only a lease that came back with older data? The counts tell.
                self.lost(&before, confirmed)?;
            }
        }
        let mut lease = self.lease(connection.clone());
        match beginning {
            Beginning::First | Beginning::Late { .. } => lease.acquire(info.has_just_started()).await?,
            Beginning::Again { .. } => lease.renew().await?,
        }
        lease.close_others(&name).await?;
        let meta = self.meta(&mut connection).await?;
        let writes = match beginning {
            // One more, so that a process that has lost the fleet finds that another has had it.
            Beginning::First | Beginning::Late { .. } => {
                if let Beginning::Late { seen } = beginning {
                    meta.must_be(seen)?;
                }
                Writes { commits: meta.writes.commits.saturating_add(1), ..meta.writes }
            }
            Beginning::Again { confirmed, gone, lost } => {
                let found = self.lost(&meta, confirmed)?;
                let all = {
                    let mut lost = lost.lock();
                    *lost = (*lost).max(found);
                    *lost
                };
                if all.is_some() {
                    self.remove(&mut connection, gone).await?;
                }
                Writes {
                    commits: meta.writes.commits.max(confirmed.commits),
                    saves: meta.writes.saves.max(confirmed.saves),
                }
            }
        };
        self.claim(&mut connection, writes).await?;
        let persistence = Persistence::of(&mut connection, &info).await;
        Ok(Session { number, connection, persistence, writes })
    }

    pub(super) fn lease(&self, connection: MultiplexedConnection) -> Lease<'_> {
        Lease { connection, keys: &self.keys, owner: &self.owner, database: self.connector.url().database }
    }

    /// What Redis has lost since it confirmed so much.
    fn lost(&self, meta: &Meta, confirmed: Writes) -> Result<Option<Lost>, ErrorClass> {
        match meta.run.as_deref() {
            Some(run) if run == self.owner.run => {
                let everything = meta.writes.commits < confirmed.commits;
                let heartbeats = meta.writes.saves < confirmed.saves;
                Ok(everything.then_some(Lost::Everything).or(heartbeats.then_some(Lost::Heartbeats)))
            }
            // Every run begins with a higher count than the one before.
            Some(_) if meta.writes.commits > confirmed.commits => Err(ErrorClass::Lasting(StoreError::Locked(
                "another process has written to the fleet in this Redis while it was out of reach; start again, or choose \
                 another store.key_prefix"
                    .into(),
            ))),
            // Emptied, or back with data from before this run.
            Some(_) | None => Ok(Some(Lost::Everything)),
        }
    }

    /// Writes down that the fleet is ours.
    async fn claim(&self, connection: &mut MultiplexedConnection, writes: Writes) -> Result<(), ErrorClass> {
        let mut claim = redis::cmd("HSET");
        claim.arg(self.keys.meta()).arg("format").arg(FORMAT).arg("run").arg(&self.owner.run);
        claim.arg("commits").arg(writes.commits).arg("saves").arg(writes.saves);
        Ok(claim.query_async::<()>(connection).await?)
    }

    /// Removes agents that are deregistered and may have come back with older data.
    async fn remove(&self, connection: &mut MultiplexedConnection, gone: &[AgentId]) -> Result<(), ErrorClass> {
        for some in gone.chunks(FLUSH_BATCH_MAX) {
            let mut remove = redis::pipe();
            for id in some {
                let (partition, field) = (id.partition(), field(*id));
                remove.cmd("HDEL").arg(self.keys.agents(partition)).arg(&field).ignore();
                remove.cmd("HDEL").arg(self.keys.heartbeats(partition)).arg(&field).ignore();
            }
            remove.query_async::<()>(connection).await?;
        }
        Ok(())
    }

    async fn meta(&self, connection: &mut MultiplexedConnection) -> Result<Meta, ErrorClass> {
        let mut ask = redis::cmd("HMGET");
        ask.arg(self.keys.meta()).arg("format").arg("run").arg("commits").arg("saves");
        let (format, run, commits, saves): (Option<String>, Option<String>, Option<i64>, Option<i64>) =
            ask.query_async(connection).await.map_err(|error| of_key(self.keys.meta(), error))?;
        let writes = Writes { commits: commits.unwrap_or_default(), saves: saves.unwrap_or_default() };
        Ok(Meta { format, run, writes })
    }
}

/// What Redis reports of the fleet as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    format: Option<String>,
    run: Option<String>,
    writes: Writes,
}

impl Meta {
    /// Makes sure that nobody has written since this was `seen`.
    fn must_be(&self, seen: &Self) -> Result<(), ErrorClass> {
        if self == seen {
            return Ok(());
        }
        Err(ErrorClass::Lasting(StoreError::Locked(
            "the fleet in this Redis has changed since it was read, when Redis had no room for the lease; start again"
                .into(),
        )))
    }

    fn must_be_readable(&self, factory: &SessionFactory) -> Result<(), ErrorClass> {
        match &self.format {
            Some(format) if format != FORMAT => {
                let reason: Arc<str> = format!(
                    "the fleet in {} has format {format}, this version reads format {FORMAT}: use the version that wrote \
                     it, or choose another store.key_prefix",
                    factory.connector.url()
                )
                .into();
                Err(ErrorClass::Lasting(StoreError::Format(reason)))
            }
            Some(_) | None => Ok(()),
        }
    }
}

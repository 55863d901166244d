//! One process owns a fleet: two that wrote the same one would undo each other's work.
//!
//! The owner's name is in a key that expires unless it is renewed. Whoever finds the owner's connections gone (its
//! process has ended, however that came) takes the fleet over at once; from an owner that is there, or of which nothing
//! is known, only when the lease has run out. The new owner then has the connections of the old one closed, so that
//! nothing of it that is still on its way can take effect; to connect again the old one needs the lease.
//!
//! Redis itself compares the lease and changes it, in one step (a script). `WATCH` would not do: it is undone by any other
//! transaction on the connection, which the lease shares with every write.

use std::{fmt, time::Duration};

use redis::{RedisResult, aio::MultiplexedConnection};
use tokio::time::Instant;

use super::{
    error_class::{ErrorClass, of_key},
    keys::Keys,
    server::clients,
};
use crate::{
    limits::{LEASE_MS, LEASE_POLL_MS, LEASE_REASSERTION_MS, OWNER_RETURN_MS},
    store::StoreError,
};

/// Runs the command in the arguments on the lease, if the lease is what the first of them says.
const CHANGE_IF_UNCHANGED: &str = "\
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call(ARGV[2], KEYS[1], unpack(ARGV, 3))
return 1";

/// Who wants to own the fleet.
#[derive(Debug)]
pub(super) struct Owner {
    /// Names this run of the process.
    pub(super) run: String,
    /// For people: which machine and process it is.
    location: String,
}

impl Owner {
    /// This process, in a run of a new name.
    pub(super) fn this_process() -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = if host.trim().is_empty() { "unknown" } else { host.trim() };
        Self {
            run: uuid::Uuid::new_v4().simple().to_string(),
            location: format!("process {} on {host}", std::process::id()),
        }
    }

    /// What stands in the lease.
    fn entry(&self) -> String {
        format!("{} {}", self.run, self.location)
    }
}

/// The contents of a lease.
struct Held {
    entry: String,
    left_ms: i64,
}

impl Held {
    fn run(&self) -> &str {
        self.entry.split_once(' ').map_or(&self.entry, |(run, _)| run)
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.entry.split_once(' ').map_or("another process", |(_, location)| location))
    }
}

/// A connection through which the lease is taken, renewed and given back.
pub(super) struct Lease<'a> {
    pub(super) connection: MultiplexedConnection,
    pub(super) keys: &'a Keys,
    pub(super) owner: &'a Owner,
    pub(super) database: i64,
}

impl Lease<'_> {
    /// Takes the lease when the process starts; waits for one that nobody renews. A Redis that has just started does not
    /// know yet who is there: then an owner without connections is given time to come back.
    pub(super) async fn acquire(&mut self, has_just_started: bool) -> Result<(), ErrorClass> {
        let patience = if has_just_started { Duration::from_millis(OWNER_RETURN_MS) } else { Duration::ZERO };
        let (reassertion, pause) = (Duration::from_millis(LEASE_REASSERTION_MS), Duration::from_millis(LEASE_POLL_MS));
        let (began, mut left_ms, mut last_seen) = (Instant::now(), i64::MAX, Instant::now());
        loop {
            let Some(held) = self.held().await? else {
                // It has run out, or somebody has deleted it under an owner that is there: that one takes it again.
                if began.elapsed() < reassertion && self.others_have_connections().await? {
                    tokio::time::sleep(pause).await;
                } else if self.take_if_free().await? {
                    return Ok(());
                }
                continue;
            };
            // Ours: an attempt that failed after this.
            if held.run() == self.owner.run {
                return if self.extend().await? { Ok(()) } else { Err(just_taken()) };
            }
            if held.left_ms > left_ms {
                return Err(ErrorClass::Lasting(StoreError::Locked(in_use(&held).into())));
            }
            if left_ms == i64::MAX {
                tracing::info!(owner = %held, "another process owns the fleet in this Redis; is it still there?");
            }
            left_ms = held.left_ms;
            if self.has_connections(held.run()).await? {
                last_seen = Instant::now();
            } else if last_seen.elapsed() >= patience && self.take_from(&held).await? {
                tracing::info!(owner = %held, "the fleet is taken over from a process that is gone");
                return Ok(());
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Makes sure that the lease is (still, or again) ours.
    pub(super) async fn renew(&mut self) -> Result<(), ErrorClass> {
        if self.extend().await? {
            return Ok(());
        }
        match self.held().await? {
            // Redis may be back with data, and so with a lease, from before this run.
            Some(held) if !self.has_connections(held.run()).await? && self.take_from(&held).await? => Ok(()),
            Some(held) => Err(ErrorClass::Passing(in_use(&held))),
            None if self.take_if_free().await? => Ok(()),
            None => Err(just_taken()),
        }
    }

    /// Gives the lease back, if it is ours.
    pub(super) async fn release(&mut self) -> Result<(), ErrorClass> {
        self.change_if(&self.owner.entry(), "DEL", &[]).await.map(|_| ())
    }

    /// Closes every connection of this fleet's processes but `kept`: what is still on its way through them is lost.
    pub(super) async fn close_others(&mut self, kept: &str) -> RedisResult<()> {
        for client in clients(&mut self.connection, &self.keys.connections(), self.database).await? {
            if client.name != kept {
                let mut kill = redis::cmd("CLIENT");
                kill.arg("KILL").arg("ID").arg(client.id);
                kill.query_async::<()>(&mut self.connection).await?;
            }
        }
        Ok(())
    }

    /// Extends the lease, if it is ours. Does not need memory, unlike setting it anew: a Redis that has none left must not
    /// cost us the fleet.
    async fn extend(&mut self) -> Result<bool, ErrorClass> {
        self.change_if(&self.owner.entry(), "PEXPIRE", &[&LEASE_MS.to_string()]).await
    }

    async fn take_if_free(&mut self) -> RedisResult<bool> {
        let mut set = redis::cmd("SET");
        set.arg(self.keys.lease()).arg(self.owner.entry()).arg("NX").arg("PX").arg(LEASE_MS);
        Ok(set.query_async::<Option<String>>(&mut self.connection).await?.is_some())
    }

    /// Takes the lease, unless it is another's by now than the one that was seen.
    async fn take_from(&mut self, seen: &Held) -> Result<bool, ErrorClass> {
        self.change_if(&seen.entry, "SET", &[&self.owner.entry(), "PX", &LEASE_MS.to_string()]).await
    }

    /// Runs this command on the lease if `entry` is in it then: what was seen before may be another's by now.
    async fn change_if(&mut self, entry: &str, command: &str, arguments: &[&str]) -> Result<bool, ErrorClass> {
        let mut change = redis::cmd("EVAL");
        change.arg(CHANGE_IF_UNCHANGED).arg(1).arg(self.keys.lease()).arg(entry).arg(command).arg(arguments);
        change.query_async(&mut self.connection).await.map_err(|error| of_key(self.keys.lease(), error))
    }

    async fn held(&mut self) -> Result<Option<Held>, ErrorClass> {
        let mut ask = redis::pipe();
        ask.cmd("GET").arg(self.keys.lease()).cmd("PTTL").arg(self.keys.lease());
        let asked = ask.query_async(&mut self.connection).await;
        let (entry, left_ms): (Option<String>, i64) = asked.map_err(|error| of_key(self.keys.lease(), error))?;
        Ok(entry.map(|entry| Held { entry, left_ms }))
    }

    async fn others_have_connections(&mut self) -> RedisResult<bool> {
        let ours = format!("{}{}/", self.keys.connections(), self.owner.run);
        let all = clients(&mut self.connection, &self.keys.connections(), self.database).await?;
        Ok(all.iter().any(|client| !client.name.starts_with(&ours)))
    }

    async fn has_connections(&mut self, run: &str) -> RedisResult<bool> {
        let prefix = format!("{}{run}/", self.keys.connections());
        Ok(!clients(&mut self.connection, &prefix, self.database).await?.is_empty())
    }
}

fn in_use(held: &Held) -> String {
    format!(
        "the fleet in this Redis is in use by another process ({held}); stop that one, or choose another store.key_prefix"
    )
}

fn just_taken() -> ErrorClass {
    ErrorClass::Passing("another process has just taken the lease of the fleet".into())
}

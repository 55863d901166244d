//! Writing, and the two backends.

/// Durable changes waiting for the store; the next one is answered 503.
pub const COMMIT_QUEUE_MAX: usize = 65_536;
/// Durable changes written in one transaction.
pub const COMMIT_BATCH_MAX: usize = 4_096;
/// After a failed transaction an empty one is tried at this interval until one succeeds, in milliseconds. Until then changes
/// are refused: a store that is out of order is not given more.
pub const COMMIT_PROBE_MS: u64 = 1_000;
/// Heartbeat records handed to the store in one command.
pub const FLUSH_BATCH_MAX: usize = 8_192;
/// Agents that a shard saves once more after each flush while the store is being swept.
pub const SWEEP_STEP_MAX: usize = 2_048;
/// Records that a store hands over at a time when the fleet is loaded.
pub const LOAD_CHUNK_MAX: usize = 1_024;
/// Scopes whose policies are handed over or written at a time: each may have [`super::POLICY_BODY_MAX_BYTES`].
pub const POLICY_STEP_MAX: usize = 16;
/// Agents whose registration is put right in one flush, after changes that the store may have made or not.
pub const RECONCILE_BATCH_MAX: usize = 2_048;
/// The pause-adjusted clock is saved at least this often while no heartbeat makes a flush carry it.
pub const CLOCK_SAVE_MS: u64 = 5_000;
/// How long the end of a process waits for a store to be closed, in milliseconds: what a store gives back then, as the lease
/// of a Redis, runs out by itself too.
pub const STORE_CLOSE_MAX_MS: u64 = 1_000;

/// Pause between two writes of the embedded store's ledger into its file, in milliseconds.
pub const LEDGER_PAUSE_MS: u64 = 20;
/// Files that each database of the embedded store keeps open.
pub const STORE_FILES_MAX: usize = 32;
/// What each database of the embedded store caches, in bytes. Little: after the start only threats are read.
pub const STORE_CACHE_BYTES: u64 = 8 << 20;
/// What a keyspace of the embedded store holds in memory before it becomes a table, in bytes.
pub const STORE_MEMTABLE_BYTES: u64 = 16 << 20;
/// What the journals of a database of the embedded store may take on disk, in bytes: the least that fjall accepts.
pub const STORE_JOURNAL_BYTES: u64 = 64 << 20;
/// What is written to see whether the embedded store takes changes again, in bytes: more than any registration takes, since
/// a small record may fit where the next registration does not.
pub const STORE_PROBE_BYTES: usize = 64 * 1024;
/// A database of the embedded store that another process has locked is tried again after so many milliseconds: one that is
/// ending gives it up in a moment …
pub const STORE_LOCK_RETRY_MS: u64 = 100;
/// … and so often, before it is said to be in use.
pub const STORE_LOCK_TRIES: u32 = 3;
/// Partitions that a thread reads of the embedded store at a time: with fewer, a small fleet would come in crumbs.
pub const LOAD_RUN_PARTITIONS: u16 = 16;
/// A log of heartbeats below this size is not worth sweeping, in bytes.
pub const HEARTBEAT_LOG_SWEEP_MIN_BYTES: u64 = 64 << 20;
/// The log of heartbeats is swept when it has grown to this many times what the last sweep left.
pub const HEARTBEAT_LOG_GROWTH_MAX: u64 = 4;
/// Threats that the embedded store removes in one transaction: others may write in between.
pub const DISCARD_TRANSACTION_MAX: usize = 4_096;
/// Entries of a damaged database that are copied in one transaction …
pub const RESCUE_BATCH_MAX: usize = 4_096;
/// … and their bytes, beyond which it is closed earlier: bounds what a rescue holds.
pub const RESCUE_BATCH_MAX_BYTES: usize = 1 << 20;
/// Cache for each table of a damaged database, in bytes: a rescue reads every block once.
pub const RESCUE_CACHE_BYTES: u64 = 1 << 20;
/// A table of which more entries in a row cannot be read is given up: what its index says is not believed for ever.
pub const RESCUE_UNREADABLE_MAX: usize = 10_000;

/// How long an owner that does not renew its lease keeps the fleet in a Redis, in milliseconds: so long it may be stalled or
/// cut off, and so long a fleet waits for the next owner after a process of which nothing is known.
pub const LEASE_MS: u64 = 10_000;
/// The lease is renewed, and the link to Redis tried, at this interval, in milliseconds.
pub const LEASE_RENEWAL_MS: u64 = 1_000;
/// Pause between two looks at a lease that is waited for, in milliseconds.
pub const LEASE_POLL_MS: u64 = 100;
/// Within so many milliseconds an owner that is there takes a lease again that somebody has deleted: it looks at every
/// renewal.
pub const LEASE_REASSERTION_MS: u64 = 3_000;
/// Within so many milliseconds after a start of Redis an owner that has lost its connection is back, if it still runs.
pub const OWNER_RETURN_MS: u64 = 2_000;
/// Shortest wait before a Redis that cannot be used is tried again, in milliseconds; it doubles …
pub const REDIS_BACKOFF_MIN_MS: u64 = 50;
/// … up to this.
pub const REDIS_BACKOFF_MAX_MS: u64 = 1_000;
/// Deregistered agents that are remembered, should Redis come back with data from before: 8 MB at the most.
pub const GONE_AGENTS_MAX: usize = 1 << 20;
/// Partitions that each reader of a Redis asks for ahead of the one that it takes apart: neither waits for the other.
pub const REDIS_PARTITIONS_AHEAD: usize = 4;
/// Corrupt records of a partition that are named in the log; the others are counted.
pub const REDIS_CORRUPT_LOGGED_MAX: usize = 10;
/// How much of an error's own text is shown beside the advice, in characters: an aborted transaction names each of its
/// commands, thousands of them.
pub const REDIS_ERROR_MAX_CHARS: usize = 160;

const _: () = {
    assert!(COMMIT_BATCH_MAX <= COMMIT_QUEUE_MAX);
    // An owner that is there renews its lease several times before it runs out, and sees at one of them that it was deleted.
    assert!(LEASE_RENEWAL_MS < LEASE_REASSERTION_MS && LEASE_REASSERTION_MS < LEASE_MS);
    // An owner notices at the next renewal that its connection is lost, or is waiting to connect again: either way it is back
    // before it is given up, and that is before its lease would have run out.
    assert!(LEASE_RENEWAL_MS + REDIS_BACKOFF_MIN_MS < OWNER_RETURN_MS && REDIS_BACKOFF_MAX_MS < OWNER_RETURN_MS);
    assert!(LEASE_POLL_MS < OWNER_RETURN_MS && OWNER_RETURN_MS < LEASE_MS);
    assert!(REDIS_BACKOFF_MIN_MS < REDIS_BACKOFF_MAX_MS);
};

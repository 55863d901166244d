//! The fleet in memory: its silence, its loading, its threats, its figures.

/// Most agents that `limits.max_agents` may allow: ids stay far from colliding.
pub const MAX_AGENTS_CEILING: u64 = 1_000_000_000;
/// Locks that registrations take by their machine: those of one machine come one after the other, and with so many locks
/// those of two machines seldom wait for each other.
pub const MACHINE_LOCKS: usize = 1_024;
/// Agents a shard examines for one list message: bounds how long a listing keeps a heartbeat waiting.
pub const LIST_SCAN_MAX: usize = 1_024;
/// Agents that a shard passes over for one list message, seeing from their labels that they are not wanted: about a
/// nanosecond each.
pub const LIST_PASS_MAX: usize = 131_072;
/// Tag lists that are looked at to find those with the wanted tags; where there are more, agents are examined one by one.
pub const TAG_LISTS_MAX: usize = 4_096;
/// Largest random part of a token, in bytes (256 bits).
pub const TOKEN_SECRET_BYTES: usize = 32;

/// Shortest `liveness.timeout_ms`: below it, network jitter looks like silence.
pub const TIMEOUT_MIN_MS: u64 = 100;
/// Longest liveness setting: thirty days.
pub const LIVENESS_MAX_MS: u64 = 30 * 24 * 3600 * 1000;
/// `liveness.offline_after_ms` when nobody sets it: five minutes, unless an agent would not be stale before that.
pub const OFFLINE_AFTER_DEFAULT_MS: u64 = 300_000;
/// A worker that was not scheduled for this long was paused (less where the grace is short: half the grace).
pub const PAUSED_AFTER_MAX_MS: u64 = 1_000;
/// Shortest pause distinguished from an ordinary scheduling delay.
pub const PAUSED_AFTER_MIN_MS: u64 = 40;
/// How often a worker shows that it is being scheduled, at the slowest.
pub const PULSE_MAX_MS: u64 = 100;
/// Expiries after a restart are spread over this share of the stale threshold …
pub const RESTART_SPREAD_DIVISOR: u64 = 10;
/// … and over no more than this.
pub const RESTART_SPREAD_MAX_MS: u64 = 10_000;

/// Chunks of the fleet that the store may have read before they are handed to the shards: bounds what a start holds of it
/// twice.
pub const LOAD_CHUNKS_AHEAD: usize = 4;
/// Chunks that may wait in the mailbox of a shard besides the one that it takes in: it is never idle while there are any.
pub const SHARD_CHUNKS_AHEAD: usize = 2;
/// Chunks of threats that the store may have read before the threat log takes them in.
pub const THREAT_CHUNKS_AHEAD: usize = 4;

/// Threats that are on their way to the store, in bytes that they hold; a report for which there is no room is answered 503.
pub const REPORTS_UNDER_WAY_MAX_BYTES: usize = 32 * 1024 * 1024;
/// What a threat on its way to the store holds besides its records, in bytes.
pub const THREAT_OVERHEAD_BYTES: u32 = 512;
/// Least `threats.max_bytes_per_tenant`: room for a few of the largest threats.
pub const THREATS_BYTES_MIN: u64 = 1024 * 1024;
/// Most `threats.max_bytes_per_tenant`: a terabyte.
pub const THREATS_BYTES_MAX: u64 = 1 << 40;
/// Threats that the threat log looks at for one step of a search: bounds how long a search keeps others waiting.
pub const THREAT_SCAN_MAX: usize = 16_384;
/// How often the threat log drops what has become too old, in milliseconds.
pub const THREAT_LOG_TICK_MS: u64 = 1_000;
/// Threats that are taken back from the store in one command.
pub const DISCARD_MAX: usize = 4_096;
/// How far the wall clock may be set forward at once and be believed, in milliseconds; threats become old by it.
pub const CLOCK_AHEAD_MAX_MS: u64 = 3_600_000;
/// A clock that was set forward by more is believed after so many milliseconds.
pub const CLOCK_BELIEVED_AFTER_MS: u64 = 600_000;
/// How far the wall clock may be set back at once, or the newest threat may be ahead of it, without a warning, in
/// milliseconds.
pub const CLOCK_BACK_MAX_MS: u64 = 3_600_000;

/// Distinct values of `os`, `version` and `org_id` shown as metric labels; the rest is `other`.
pub const LABEL_VALUES_MAX: usize = 20;
/// Values each shard reports per label when the fleet has more distinct ones; the rest is `other`.
pub const LABEL_REPORT_MAX: usize = 1_000;
/// A gauge that has not been set for so many milliseconds is not shown any more: its label value has left the most frequent
/// ones.
pub const GAUGE_IDLE_MS: u64 = 10_000;

const _: () = {
    assert!(LIST_SCAN_MAX <= LIST_PASS_MAX);
    assert!(PULSE_MAX_MS < PAUSED_AFTER_MAX_MS);
    assert!(TIMEOUT_MIN_MS < OFFLINE_AFTER_DEFAULT_MS && OFFLINE_AFTER_DEFAULT_MS < LIVENESS_MAX_MS);
    assert!(LABEL_VALUES_MAX <= LABEL_REPORT_MAX);
};

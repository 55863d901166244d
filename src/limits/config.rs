//! What a setting may be, where no room below has a reason of its own, and what an error about one repeats.

use std::ops::RangeInclusive;

/// `server.keep_alive_ms`.
pub const KEEP_ALIVE_MS: RangeInclusive<u64> = 1_000..=3_600_000;
/// `server.shutdown_grace_ms`.
pub const SHUTDOWN_GRACE_MS: RangeInclusive<u64> = 0..=600_000;
/// `store.flush_interval_ms`.
pub const FLUSH_INTERVAL_MS: RangeInclusive<u64> = 10..=10_000;
/// `store.key_prefix`, in characters.
pub const KEY_PREFIX_CHARS: RangeInclusive<usize> = 1..=64;
/// `store.min_replicas`.
pub const MIN_REPLICAS: RangeInclusive<u64> = 0..=100;
/// `store.timeout_ms`.
pub const STORE_TIMEOUT_MS: RangeInclusive<u64> = 50..=60_000;
/// `store.connect_timeout_ms`.
pub const STORE_CONNECT_TIMEOUT_MS: RangeInclusive<u64> = 100..=3_600_000;
/// `threats.retention_days`.
pub const RETENTION_DAYS: RangeInclusive<u64> = 1..=3_650;
/// `events.max_streams`.
pub const EVENT_STREAMS: RangeInclusive<u64> = 1..=1_000_000;

/// Syntax errors reported of a configuration file: one with more is something else.
pub const CONFIG_SYNTAX_ERRORS_MAX: usize = 20;
/// How much of an unknown key, section or variable is repeated in an error, in characters.
pub const CONFIG_NAME_MAX_CHARS: usize = 100;
/// How much of an invalid value of a setting is repeated in an error, in characters.
pub const CONFIG_VALUE_MAX_CHARS: usize = 100;
/// How much of an unrecognised name is compared with those there are, in characters: more than any of them has.
pub const CONFIG_COMPARED_MAX_CHARS: usize = 64;

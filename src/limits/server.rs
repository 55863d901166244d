//! The process: start and end, certificates, output, commands.

/// How long a start waits for the worker threads, in milliseconds.
pub const WORKERS_START_MS: u64 = 30_000;
/// How long a start waits for the history of threats once the fleet is there, in milliseconds: agents come first.
pub const START_THREATS_WAIT_MS: u64 = 1_000;
/// A history of threats that could not be loaded is tried again at this interval, and one that could is looked after, in
/// milliseconds.
pub const THREATS_LOAD_RETRY_MS: u64 = 1_000;
/// How often it is looked whether all shards still run, in milliseconds.
pub const SHARD_CHECK_MS: u64 = 1_000;
/// How often metrics and the request log are put in order, in milliseconds.
pub const UPKEEP_MS: u64 = 1_000;
/// Least time that the last write of a shutdown has, even if the requests took all of the grace period, in milliseconds.
pub const LAST_WRITE_MIN_MS: u64 = 1_000;
/// The last write of a shutdown is tried again at this interval, in milliseconds.
pub const LAST_WRITE_RETRY_MS: u64 = 100;
/// How long the end of a command waits for a disk that does not answer, in milliseconds.
pub const RUNTIME_END_MAX_MS: u64 = 1_000;

/// Days for which a server certificate of ours is good, the one before it is made included: clients refuse longer than 825.
pub const CERTIFICATE_DAYS: i64 = 820;
/// Days for which our certificate authority is good.
pub const AUTHORITY_DAYS: i64 = 3_650;
/// It is warned daily of a certificate that expires in fewer days than these.
pub const EXPIRY_WARNING_DAYS: i64 = 30;
/// A clock that stands before this, the beginning of 2026, has not been set; in milliseconds since 1970.
pub const CLOCK_UNSET_BEFORE_MS: i64 = 1_767_225_600_000;

/// Log lines that wait to be written, in bytes; what comes beyond is dropped and counted.
pub const LOG_QUEUE_MAX_BYTES: usize = 1024 * 1024;
/// How long the end of the process waits for its last lines to be written, in milliseconds.
pub const LAST_WORDS_MS: u64 = 1_000;
/// A pipe for the output that somebody else has made non-blocking is tried again at this interval, in milliseconds.
pub const OUTPUT_RETRY_MS: u64 = 10;
/// A background task that panicked is started again after so many milliseconds: one that panics at once does not fill the
/// log.
pub const TASK_RESTART_MS: u64 = 1_000;

/// Most `server.workers`.
pub const WORKERS_MAX: usize = 64;
/// Most connections that `server.max_connections` may allow a worker: files run out long before.
pub const MAX_CONNECTIONS_CEILING: u64 = 1_000_000;
/// Most requests that `limits.max_in_flight` may allow a worker: one for each connection.
pub const MAX_IN_FLIGHT_CEILING: u64 = MAX_CONNECTIONS_CEILING;
/// Connections that wait to be accepted: a fleet that comes back all at once. The system may allow less.
pub const LISTEN_BACKLOG: i32 = 16_384;

/// Chunks of a store that may wait while a command works on one.
pub const TOOL_CHUNKS_AHEAD: usize = 2;
/// How often the bar of a command is drawn anew on a terminal, in milliseconds …
pub const PROGRESS_REDRAW_MS: u64 = 250;
/// … and how often a line says how far it has come where there is none.
pub const PROGRESS_LINE_MS: u64 = 10_000;

const _: () = {
    assert!(CERTIFICATE_DAYS < 825 && CERTIFICATE_DAYS < AUTHORITY_DAYS);
    assert!(LAST_WRITE_RETRY_MS < LAST_WRITE_MIN_MS);
};

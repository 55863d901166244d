//! Requests, answers and event streams.

/// Largest request body of the agent endpoints, in bytes.
pub const BODY_MAX_BYTES: usize = 64 * 1024;
/// Largest body of a batch of heartbeats, in bytes.
pub const BATCH_MAX_BYTES: usize = 8 * 1024 * 1024;
/// Largest body of a policy that is published, in bytes.
pub const POLICY_BODY_MAX_BYTES: usize = 1024 * 1024;
pub const REPORT_MAX_BYTES: usize = 1024 * 1024;
pub const BATCH_MAX_LINES: usize = 10_000;
/// Heartbeats of a batch that are read and handed over at a time: bounds how long a batch keeps others waiting.
pub const BATCH_STEP_LINES: usize = 256;
pub const REPORT_MAX_EVENTS: usize = 100;
/// Longest time in which a body may arrive, in milliseconds.
pub const BODY_TIMEOUT_MS: u64 = 10_000;
/// Bytes of the bodies that have come in part, of all requests together: one that would make it more is answered 503. A body
/// that comes at once does not count.
pub const PARTIAL_BODIES_MAX_BYTES: usize = 128 * 1024 * 1024;
/// What is left unread of a body of up to so many bytes is taken before an early answer is given, so that neither side resets
/// the connection under it. Twice the largest body of an agent: one that is a little too large is small still.
pub const DRAIN_MAX_BYTES: usize = 2 * BODY_MAX_BYTES;
/// How long an early answer waits for that, in milliseconds.
pub const DRAIN_MS: u64 = 200;
/// Deepest nesting of a JSON body.
pub const JSON_DEPTH_MAX: usize = 128;
/// Unknown fields or parameters that are named in one error.
pub const UNKNOWN_NAMES_MAX: usize = 5;
/// How much of each of them is repeated, in characters.
pub const UNKNOWN_NAME_MAX_CHARS: usize = 64;
/// How much of a refused `Content-Encoding` is repeated to the client, in characters.
pub const ENCODING_SHOWN_MAX_CHARS: usize = 64;
/// Longest part of a path that is logged, or repeated to the client, in bytes.
pub const PATH_SHOWN_MAX_BYTES: usize = 200;
pub const ADMIN_TOKEN_MIN_CHARS: usize = 8;
pub const ADMIN_TOKEN_MAX_CHARS: usize = 256;

/// Largest page of `GET /api/agents`.
pub const PAGE_MAX: usize = 1_000;
/// Largest page of `GET /api/threats`.
pub const THREATS_PAGE_MAX: usize = 200;
/// Threats on a page of `GET /api/threats` when nothing else is asked for.
pub const THREATS_PAGE: usize = 50;
/// The list of a whole fleet rests after it has worked for so many milliseconds, and for as long: heartbeats wait no longer
/// for it.
pub const LIST_WORK_MS: u64 = 2;
/// Bytes of encoded rows after which a list chunk is handed over even if more agents were to be examined.
pub const LIST_CHUNK_BYTES: usize = 64 * 1024;
/// Rules handed to a connection at a time, in bytes: bounds what an agent that does not read its answer holds.
pub const POLICY_CHUNK_BYTES: usize = 16 * 1024;
/// Smallest answer that is compressed, in bytes.
pub const GZIP_LEAST_BYTES: u64 = 256;
/// Answers that are being compressed at one time: each holds about 300 KB until its reader has taken it. More are sent as they
/// are.
pub const GZIP_UNDER_WAY_MAX: usize = 256;
/// Bytes of an answer that are compressed at a time (about a millisecond): bounds how long that keeps others waiting …
pub const GZIP_STEP_BYTES: usize = 64 * 1024;
/// … for whom there are so many milliseconds between two steps.
pub const GZIP_REST_MS: u64 = 1;
/// Seconds a client is to wait before it repeats a request refused with 429 or 503: one of these, at random, so that
/// those who were refused together do not come back together.
pub const RETRY_AFTER_SECONDS: std::ops::RangeInclusive<u32> = 1..=3;
/// Refusals of one kind that are logged in a row …
pub const REFUSALS_LOGGED_AT_ONCE: u32 = 10;
/// … and then one in so many milliseconds, which says how many there were in between.
pub const REFUSAL_LOG_INTERVAL_MS: u64 = 1_000;

/// Fewest events that `events.backlog` may keep: what one tick can publish must fit, or readers in time would miss some.
pub const EVENTS_BACKLOG_MIN: u64 = 1_024;
/// Most `events.backlog`.
pub const EVENTS_BACKLOG_MAX: u64 = 1_000_000;
/// Events kept for readers that fall behind or come back, in bytes; how many is a setting.
pub const EVENTS_BACKLOG_BYTES: usize = 64 * 1024 * 1024;
/// Events handed to a connection at a time, in bytes: bounds what a reader that stands still holds.
pub const EVENTS_CHUNK_BYTES: usize = 16 * 1024;
/// Changes of one kind in a tick that are emitted one by one; more are a mass change, which is counted.
pub const EVENTS_DETAIL_MAX: usize = 100;
/// Agents whose threat reports are kept apart within a tick.
pub const EVENTS_THREAT_AGENTS_MAX: usize = 10_000;
/// How long changes are collected before they are emitted, in milliseconds.
pub const EVENTS_TICK_MS: u64 = 200;
/// A mass change that goes on is emitted after so many milliseconds, and counted anew.
pub const EVENTS_MASS_MAX_MS: u64 = 5_000;
/// An event stream that has been silent for so many milliseconds shows that it is alive.
pub const EVENTS_KEEPALIVE_MS: u64 = 30_000;
/// The readers of an event are served over so many milliseconds, that heartbeats have their turn in between …
pub const EVENTS_PACE_MAX_MS: u64 = 100;
/// … but so many of them within each.
pub const EVENTS_PACE_READERS: u64 = 8;

const _: () = {
    assert!(BATCH_MAX_BYTES <= PARTIAL_BODIES_MAX_BYTES);
    // Nine kinds of change, and threats.
    assert!(10 * EVENTS_DETAIL_MAX as u64 <= EVENTS_BACKLOG_MIN);
    assert!(EVENTS_PACE_MAX_MS < EVENTS_TICK_MS && EVENTS_TICK_MS < EVENTS_MASS_MAX_MS);
};

//! Every bound of the product in one place, with the relations between them asserted at compile time.
//!
//! A bound that an operator may change is a setting in [`crate::config`]; what stands here is either fixed by the
//! HTTP contract, or protects the process and has no useful second value.

/// Partitions of the id space: the top [`PARTITION_BITS`] bits of an agent id. Fixed for ever, since it is the unit of
/// storage (and of ownership, once several nodes share a fleet).
pub const PARTITIONS: u16 = 1 << PARTITION_BITS;
/// Bits of an agent id that name its partition.
pub const PARTITION_BITS: u32 = 10;

pub const HOSTNAME_MAX_CHARS: usize = 255;
pub const OS_MAX_CHARS: usize = 128;
pub const VERSION_MAX_CHARS: usize = 64;
/// Longest tenant name, in characters.
pub const ORG_ID_MAX_CHARS: usize = 64;
pub const TAG_MAX_CHARS: usize = 64;
/// Most tags on one agent, after duplicates have collapsed.
pub const TAGS_MAX: usize = 32;
pub const MACHINE_ID_MAX_CHARS: usize = 128;
/// Longest Guard mode (`protection`, `learning`, …), in characters.
pub const MODE_MAX_CHARS: usize = 64;
/// Largest percentage accepted for `cpu` and `memory`.
pub const PERCENT_MAX: f64 = 100.0;
/// Largest count or duration accepted in a heartbeat: the integers up to here are exact in a JSON number.
pub const NUMBER_MAX: f64 = 9_007_199_254_740_991.0;

/// Longest type of a threat, in characters.
pub const EVENT_TYPE_MAX_CHARS: usize = 128;
/// Longest name of the rule that noticed a threat, in characters.
pub const RULE_ID_MAX_CHARS: usize = 128;
/// Largest `details` of a threat, in bytes as it is sent.
pub const EVENT_DETAILS_MAX_BYTES: usize = 64 * 1024;
pub const REPORT_MAX_EVENTS: usize = 100;
pub const REPORT_MAX_BYTES: usize = 1024 * 1024;
/// Threats that are on their way to the store, in bytes that they hold; a report for which there is no room is answered 503.
pub const REPORTS_UNDER_WAY_MAX_BYTES: usize = 32 * 1024 * 1024;
/// Least `threats.max_bytes_per_tenant`: room for a few of the largest threats.
pub const THREATS_BYTES_MIN: u64 = 1024 * 1024;
/// Most `threats.max_bytes_per_tenant`: a terabyte.
pub const THREATS_BYTES_MAX: u64 = 1 << 40;
/// Agents and addresses in a summary of threats.
pub const SUMMARY_TOP: usize = 10;
/// Threats that the threat log looks at for one step of a search: bounds how long a search keeps others waiting.
pub const THREAT_SCAN_MAX: usize = 16_384;
/// How often the threat log drops what has become too old, in milliseconds.
pub const THREAT_LOG_TICK_MS: u64 = 1_000;
/// How far the wall clock may be set forward at once and be believed, in milliseconds; threats become old by it.
pub const CLOCK_AHEAD_MAX_MS: u64 = 3_600_000;
/// A clock that was set forward by more is believed after so many milliseconds.
pub const CLOCK_BELIEVED_AFTER_MS: u64 = 600_000;
/// How far the wall clock may be set back at once, or the newest threat may be ahead of it, without a warning, in
/// milliseconds.
pub const CLOCK_BACK_MAX_MS: u64 = 3_600_000;
/// What a threat on its way to the store holds besides its records, in bytes.
pub const THREAT_OVERHEAD_BYTES: u32 = 512;
/// Threats that are taken back from the store in one command.
pub const DISCARD_MAX: usize = 4_096;
/// Largest page of `GET /api/threats`.
pub const THREATS_PAGE_MAX: usize = 200;
/// Threats on a page of `GET /api/threats` when nothing else is asked for.
pub const THREATS_PAGE: usize = 50;

/// Largest request body of the agent endpoints, in bytes.
pub const BODY_MAX_BYTES: usize = 64 * 1024;
/// Largest body of a batch of heartbeats, in bytes.
pub const BATCH_MAX_BYTES: usize = 8 * 1024 * 1024;
/// Largest body of a policy that is published, in bytes.
pub const POLICY_BODY_MAX_BYTES: usize = 1024 * 1024;
pub const BATCH_MAX_LINES: usize = 10_000;
/// Heartbeats of a batch that are read and handed over at a time: bounds how long a batch keeps others waiting.
pub const BATCH_STEP_LINES: usize = 256;
/// Longest time in which a body may arrive, in milliseconds.
pub const BODY_TIMEOUT_MS: u64 = 10_000;
/// What is left unread of a body of up to so many bytes is taken before an early answer is given, so that neither side resets
/// the connection under it. Twice the largest body of an agent: one that is a little too large is small still.
pub const DRAIN_MAX_BYTES: usize = 2 * BODY_MAX_BYTES;
/// How long an early answer waits for that, in milliseconds.
pub const DRAIN_MS: u64 = 200;
/// Smallest answer that is compressed, in bytes.
pub const GZIP_LEAST_BYTES: u64 = 256;
/// Answers that are being compressed at one time: each holds about 300 KB until its reader has taken it. More are sent as they
/// are.
pub const GZIP_UNDER_WAY_MAX: usize = 256;
/// Bytes of an answer that are compressed at a time (about a millisecond): bounds how long that keeps others waiting …
pub const GZIP_STEP_BYTES: usize = 64 * 1024;
/// … for whom there are so many milliseconds between two steps.
pub const GZIP_REST_MS: u64 = 1;
/// Unknown fields or parameters that are named in one error.
pub const UNKNOWN_NAMES_MAX: usize = 5;
/// How much of each of them is repeated, in characters.
pub const UNKNOWN_NAME_MAX_CHARS: usize = 64;
/// Deepest nesting of a JSON body.
pub const JSON_DEPTH_MAX: usize = 128;
/// Largest page of `GET /api/agents`.
pub const PAGE_MAX: usize = 1_000;
/// Agents a shard examines for one list message: bounds how long a listing keeps a heartbeat waiting.
pub const LIST_SCAN_MAX: usize = 1_024;
/// Agents that a shard passes over for one list message, seeing from their labels that they are not wanted: about a
/// nanosecond each.
pub const LIST_PASS_MAX: usize = 131_072;
/// Tag lists that are looked at to find those with the wanted tags; where there are more, agents are examined one by one.
pub const TAG_LISTS_MAX: usize = 4_096;
/// Bytes of encoded rows after which a list chunk is handed over even if more agents were to be examined.
pub const LIST_CHUNK_BYTES: usize = 64 * 1024;

pub const POLICY_NAME_MAX_CHARS: usize = 128;
pub const POLICY_DESCRIPTION_MAX_CHARS: usize = 1_024;
pub const POLICY_RULES_MAX: usize = 1_000;
/// Tenants that may have policies of their own.
pub const POLICY_TENANTS_MAX: usize = 100_000;
/// What the newest policies of all scopes may take in memory together, in bytes. At a start Redis sends them in one answer.
pub const POLICIES_MAX_BYTES: usize = 64 * 1024 * 1024;
/// Rules handed to a connection at a time, in bytes: bounds what an agent that does not read its answer holds.
pub const POLICY_CHUNK_BYTES: usize = 16 * 1024;
/// Versions that are kept of a scope, to count those that an agent has not fetched.
pub const POLICY_VERSIONS_MAX: usize = 10_000;
/// The most that `pendingPolicies` counts to.
pub const POLICY_PENDING_MAX: u32 = 10_000;
/// Scopes whose policies are handed over or written at a time: each may have [`POLICY_BODY_MAX_BYTES`].
pub const POLICY_STEP_MAX: usize = 16;

/// Most agents that `limits.max_agents` may allow: ids stay far from colliding.
pub const MAX_AGENTS_CEILING: u64 = 1_000_000_000;

/// Shortest `liveness.timeout_ms`: below it, network jitter looks like silence.
pub const TIMEOUT_MIN_MS: u64 = 100;
/// Longest liveness setting: thirty days.
pub const LIVENESS_MAX_MS: u64 = 30 * 24 * 3600 * 1000;
/// A worker that was not scheduled for this long was deaf (less where the grace is short: half the grace).
pub const PAUSED_AFTER_MAX_MS: u64 = 1_000;
/// Shortest deafness told apart from an ordinary scheduling delay.
pub const PAUSED_AFTER_MIN_MS: u64 = 40;
/// How often a worker shows that it is being scheduled, at the slowest.
pub const PULSE_MAX_MS: u64 = 100;
/// Expiries after a restart are spread over this share of the stale threshold …
pub const RESTART_SPREAD_DIVISOR: u64 = 10;
/// … and over no more than this.
pub const RESTART_SPREAD_MAX_MS: u64 = 10_000;

/// Durable changes waiting for the store; the next one is answered 503.
pub const COMMIT_QUEUE_MAX: usize = 65_536;
/// Durable changes written in one transaction.
pub const COMMIT_BATCH_MAX: usize = 4_096;
/// Heartbeat records handed to the store in one command.
pub const FLUSH_BATCH_MAX: usize = 8_192;
/// Agents that a shard saves once more after each flush while the store is being swept.
pub const SWEEP_STEP_MAX: usize = 2_048;
/// Records that a store hands over at a time when the fleet is loaded.
pub const LOAD_CHUNK_MAX: usize = 1_024;
/// Agents whose registration is put right in one flush, after changes that the store may have made or not.
pub const RECONCILE_BATCH_MAX: usize = 2_048;
/// Pause between two writes of the embedded store's ledger into its file, in milliseconds.
pub const LEDGER_PAUSE_MS: u64 = 20;
/// The pause-adjusted clock is saved at least this often while no heartbeat makes a flush carry it.
pub const CLOCK_SAVE_MS: u64 = 5_000;
/// Seconds a client is told to wait before it repeats a request refused with 429 or 503: one of these, at random, so that
/// those who were refused together do not come back together.
pub const RETRY_AFTER_SECONDS: std::ops::RangeInclusive<u32> = 1..=3;

/// Refusals of one kind that are logged in a row …
pub const REFUSALS_LOGGED_AT_ONCE: u32 = 10;
/// … and then one in so many milliseconds, which says how many there were in between.
pub const REFUSAL_LOG_INTERVAL_MS: u64 = 1_000;
/// Longest part of a path that is logged, or told back, in bytes.
pub const PATH_SHOWN_MAX_BYTES: usize = 200;

/// Log lines that wait to be written, in bytes; what comes beyond is dropped and counted.
pub const LOG_QUEUE_MAX_BYTES: usize = 1024 * 1024;
/// How long the end of the process waits for its last lines to be written, in milliseconds.
pub const LAST_WORDS_MS: u64 = 1_000;

/// Files that the process needs besides the connections of its API: for the store, which opens some for a moment while it
/// compacts, for the operations listener and for itself.
pub const FILES_RESERVED: u64 = 160;
/// Files that a worker needs before the first connection.
pub const FILES_PER_WORKER: u64 = 8;
/// Fewest connections of a worker with which a start makes sense.
pub const CONNECTIONS_PER_WORKER_MIN: u64 = 4;
/// Files that each database of the embedded store keeps open.
pub const STORE_FILES_MAX: usize = 32;
/// How long a start waits for the worker threads, in milliseconds.
pub const WORKERS_START_MS: u64 = 30_000;

/// Distinct values of `os`, `version` and `org_id` shown as metric labels; the rest is `other`.
pub const LABEL_VALUES_MAX: usize = 20;
/// Values each shard reports per label when the fleet has more distinct ones; the rest is `other`.
pub const CENSUS_REPORT_MAX: usize = 1_000;

/// Most kinds, agents or addresses of a summary of threats; of kinds, the rest is `other`.
pub const THREAT_TOP_MAX: usize = 100;
/// Keys among which those with the highest counts are looked for, after the lower ones have been put aside …
pub const THREAT_LEADERS_KEPT: usize = 2 * THREAT_TOP_MAX;
/// … and the number of them at which that is done again.
pub const THREAT_LEADERS_MAX: usize = 4 * THREAT_TOP_MAX;
/// Largest size of a stored threat that the history can count, in bytes.
pub const THREAT_BYTES_MAX: u32 = (1 << 30) - 1;
/// Fewest events that `events.backlog` may keep: what one tick can publish must fit, or readers in time would miss some.
pub const EVENTS_BACKLOG_MIN: u64 = 1_024;
/// Events kept for readers that fall behind or come back, in bytes; how many is a setting.
pub const EVENTS_BACKLOG_BYTES: usize = 64 * 1024 * 1024;
/// Events handed to a connection at a time, in bytes: bounds what a reader that stands still holds.
pub const EVENTS_CHUNK_BYTES: usize = 16 * 1024;
/// Changes of one kind in a tick that are told one by one; more are a mass change, which is counted.
pub const EVENTS_DETAIL_MAX: usize = 100;
/// Agents whose threat reports are told apart within a tick.
pub const EVENTS_THREAT_AGENTS_MAX: usize = 10_000;
/// How long changes are gathered before they are told, in milliseconds.
pub const EVENTS_TICK_MS: u64 = 200;
/// A mass change that goes on is told after so many milliseconds, and counted anew.
pub const EVENTS_MASS_MAX_MS: u64 = 5_000;
/// An event stream that has been silent for so many milliseconds shows that it is alive.
pub const EVENTS_KEEPALIVE_MS: u64 = 30_000;
/// The readers of an event are served over so many milliseconds, that heartbeats have their turn in between …
pub const EVENTS_PACE_MAX_MS: u64 = 100;
/// … but so many of them within each.
pub const EVENTS_PACE_READERS: u64 = 8;
/// A connection whose peer takes nothing of what waits for it is cut after so many milliseconds.
pub const ANSWER_TIMEOUT_MS: u64 = 30_000;

/// Bytes that the system takes for a connection beyond what it can send now: bounds what a peer that stands still holds.
pub const UNSENT_MAX_BYTES: u32 = 128 * 1024;

/// How often the connections of a worker are looked at for those that have had their time, in milliseconds.
pub const CONNECTION_TICK_MS: u64 = 250;
/// Longest time from the first byte of a head to its last (and from a connection to its first byte), in milliseconds.
pub const HEAD_TIMEOUT_MS: u64 = 10_000;
/// Longest TLS handshake, with the wait for its turn, in milliseconds.
pub const HANDSHAKE_TIMEOUT_MS: u64 = 10_000;
/// A peer has so many milliseconds to take the last answer of a connection and to close it.
pub const LINGER_MS: u64 = 1_000;
/// Largest head of a request, in bytes; on HTTP/2 as it is after decoding, 32 bytes more for each header.
pub const HEAD_MAX_BYTES: usize = 32 * 1024;
/// Bytes read from a connection before others have their turn.
pub const READ_TURN_BYTES: usize = 16 * 1024;
/// TLS handshakes of a worker that may wait for their peers at a time, of known addresses and of others each.
pub const HANDSHAKES_MAX: usize = 256;
/// A handshake that waits for its peer keeps others waiting for so many milliseconds at most.
pub const HANDSHAKE_PLACE_MS: u64 = 250;
/// Addresses that a worker remembers as having completed a handshake.
pub const KNOWN_ADDRESSES_MAX: usize = 65_536;
/// Most connections beyond `server.max_connections` that are accepted, to be given the place of idle ones or closed.
pub const CONNECTIONS_MARGIN: usize = 64;
/// Open connections of the operations listener. They are part of [`FILES_RESERVED`].
pub const OPERATIONS_CONNECTIONS_MAX: usize = 32;
/// A connection that has not been served has so many milliseconds before it makes room ahead of those that have.
pub const STRANGER_MS: u64 = 1_000;
/// That connections are used up is logged no more often than this, in milliseconds.
pub const CROWD_WARNING_MS: u64 = 10_000;
/// When connections are used up, one in so many makes room at once.
pub const CROWDED_SHARE: usize = 64;
/// Open streams of an HTTP/2 connection.
pub const HTTP2_STREAMS_MAX: u32 = 128;
/// Open streams of all HTTP/2 connections of a worker; one more is refused, and may be tried again.
pub const HTTP2_STREAMS_OF_WORKER_MAX: usize = 16_384;
/// Streams that each HTTP/2 connection may open even then.
pub const HTTP2_STREAMS_FAIR: u32 = 8;
/// Streams that an HTTP/2 connection opens before others have their turn.
pub const HTTP2_TURN_STREAMS: usize = 8;
/// Bytes of an answer that waits for its reader which must be taken within the time of an answer.
pub const HTTP2_PACE_BYTES: usize = 4 * 1024;
/// Streams of an HTTP/2 connection that were reset and are still remembered; more end the connection.
pub const HTTP2_RESETS_MAX: usize = 128;
/// Bytes of an answer that wait in an HTTP/2 stream.
pub const HTTP2_SEND_BUFFER_BYTES: usize = 32 * 1024;
/// Bytes of an answer that are handed to an HTTP/2 stream at a time.
pub const HTTP2_CHUNK_BYTES: usize = 16 * 1024;
/// Largest head on HTTP/2 that is decoded, to be refused in our words; beyond, the `h2` crate refuses it in its own.
pub const HTTP2_HEAD_MAX_BYTES: usize = 2 * HEAD_MAX_BYTES;
/// Bytes of bodies that any HTTP/2 peer may send ahead of their readers: less than RFC 9113 (6.9.2) begins with cannot be had.
pub const HTTP2_WINDOW_BYTES: u32 = 65_535;
/// Bytes of bodies that an HTTP/2 peer may send ahead of their readers once a large one comes, or a body of unknown size …
pub const HTTP2_LARGE_WINDOW_BYTES: u32 = 256 * 1024;
/// … and so many of such connections are there on a worker at a time. Others send no less, only slower.
pub const HTTP2_LARGE_WINDOWS_MAX: usize = 64;
/// Bytes of the bodies that have come in part, of all requests together: one that would make it more is answered 503. A body
/// that comes at once does not count.
pub const PARTIAL_BODIES_MAX_BYTES: usize = 128 * 1024 * 1024;

pub const ADMIN_TOKEN_MIN_CHARS: usize = 8;
pub const ADMIN_TOKEN_MAX_CHARS: usize = 256;
/// Days for which a server certificate of ours is good, the one before it is made included: clients refuse longer than 825.
pub const CERTIFICATE_DAYS: i64 = 820;
/// Days for which our certificate authority is good.
pub const AUTHORITY_DAYS: i64 = 3_650;
/// It is warned daily of a certificate that expires in fewer days than these.
pub const EXPIRY_WARNING_DAYS: i64 = 30;
/// A clock that stands before this, the beginning of 2026, has not been set; in milliseconds since 1970.
pub const CLOCK_UNSET_BEFORE_MS: i64 = 1_767_225_600_000;

/// Largest random part of a token, in bytes (256 bits).
pub const TOKEN_SECRET_BYTES: usize = 32;

const _: () = {
    assert!(PARTITIONS.is_power_of_two());
    assert!(CERTIFICATE_DAYS < 825 && CERTIFICATE_DAYS < AUTHORITY_DAYS);
    assert!(PAGE_MAX <= LIST_SCAN_MAX);
    assert!(LIST_SCAN_MAX <= LIST_PASS_MAX);
    assert!(PULSE_MAX_MS < PAUSED_AFTER_MAX_MS);
    assert!(LABEL_VALUES_MAX <= CENSUS_REPORT_MAX);
    assert!(COMMIT_BATCH_MAX <= COMMIT_QUEUE_MAX);
    assert!(THREAT_TOP_MAX <= THREAT_LEADERS_KEPT && THREAT_LEADERS_KEPT < THREAT_LEADERS_MAX);
    assert!(POLICY_PENDING_MAX as usize <= POLICY_VERSIONS_MAX);
    assert!(POLICY_BODY_MAX_BYTES <= POLICIES_MAX_BYTES);
    // Nine kinds of change, and threats.
    assert!(10 * EVENTS_DETAIL_MAX as u64 <= EVENTS_BACKLOG_MIN);
    assert!(EVENTS_PACE_MAX_MS < EVENTS_TICK_MS && EVENTS_TICK_MS < EVENTS_MASS_MAX_MS);
    assert!(HTTP2_CHUNK_BYTES <= HTTP2_SEND_BUFFER_BYTES);
    assert!(HEAD_MAX_BYTES < HTTP2_HEAD_MAX_BYTES);
    assert!(HTTP2_WINDOW_BYTES < HTTP2_LARGE_WINDOW_BYTES && BATCH_MAX_BYTES <= PARTIAL_BODIES_MAX_BYTES);
    assert!(CONNECTION_TICK_MS < LINGER_MS && LINGER_MS < HEAD_TIMEOUT_MS);
    // One registration must fit its body many times over, or a valid one could be refused as too large:
    // four bytes a character, six when escaped.
    let longest = HOSTNAME_MAX_CHARS + OS_MAX_CHARS + VERSION_MAX_CHARS + ORG_ID_MAX_CHARS + MACHINE_ID_MAX_CHARS;
    assert!(12 * (longest + TAGS_MAX * TAG_MAX_CHARS) <= BODY_MAX_BYTES);
};

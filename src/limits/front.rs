//! Connections, TLS handshakes and HTTP/2.

/// Files that the process needs besides the connections of its API: for the store, which opens some for a moment while it
/// compacts, for the operations listener and for itself.
pub const FILES_RESERVED: u64 = 160;
/// Files that a worker needs before the first connection.
pub const FILES_PER_WORKER: u64 = 8;
/// Fewest connections of a worker with which a start makes sense.
pub const CONNECTIONS_PER_WORKER_MIN: u64 = 4;
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
/// Bytes that the system takes for a connection beyond what it can send now: bounds what a peer that stands still holds.
pub const UNSENT_MAX_BYTES: u32 = 128 * 1024;
/// A connection whose peer takes nothing of what waits for it is cut after so many milliseconds.
pub const ANSWER_TIMEOUT_MS: u64 = 30_000;
/// How often the connections of a worker are looked at for those that have had their time, in milliseconds.
pub const CONNECTION_TICK_MS: u64 = 250;
/// Longest time from the first byte of a head to its last (and from a connection to its first byte), in milliseconds.
pub const HEAD_TIMEOUT_MS: u64 = 10_000;
/// A peer has so many milliseconds to take the last answer of a connection and to close it.
pub const LINGER_MS: u64 = 1_000;
/// A request that is answered without actix-http, head and body; larger ones are handed over to it.
pub const LEAN_REQUEST_MAX_BYTES: usize = 16 * 1024;
/// Headers of such a request.
pub const LEAN_HEADERS_MAX: usize = 32;
/// How long such a request may take from its first byte to its last, in milliseconds: then it is handed over. Longer than a lost
/// packet takes to be sent again, twice: what is handed over is dearer for the rest of its connection.
pub const LEAN_PATIENCE_MS: u64 = 1_500;
/// Bytes of an answer to such a request that are gathered before they are sent.
pub const LEAN_SEND_BYTES: usize = 16 * 1024;
/// Bytes of such requests that have come in part, of all connections of a worker: beyond it they are handed over at once.
pub const LEAN_PARTIAL_MAX_BYTES: usize = 4 * 1024 * 1024;
/// Bytes for which there is room at each read of a request that is looked at before its protocol is known.
pub const FIRST_READ_BYTES: usize = 4 * 1024;
/// Largest head of a request, in bytes; on HTTP/2 as it is after decoding, 32 bytes more for each header.
pub const HEAD_MAX_BYTES: usize = 32 * 1024;
/// Bytes read from a connection before others have their turn.
pub const READ_TURN_BYTES: usize = 16 * 1024;

/// Longest TLS handshake, with the wait for its turn, in milliseconds.
pub const HANDSHAKE_TIMEOUT_MS: u64 = 10_000;
/// How long session tickets are made with one key, in milliseconds; they are taken for as long again.
pub const TICKET_KEY_MS: u64 = 24 * 3_600 * 1_000;
/// TLS handshakes of a worker that may wait for their peers at a time, of known addresses and of others each.
pub const HANDSHAKES_MAX: usize = 256;
/// A handshake that waits for its peer keeps others waiting for so many milliseconds at most.
pub const HANDSHAKE_PERMIT_MS: u64 = 250;
/// Addresses that a worker remembers as having completed a handshake.
pub const KNOWN_ADDRESSES_MAX: usize = 65_536;

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

const _: () = {
    assert!(CONNECTION_TICK_MS < LINGER_MS && LINGER_MS < HEAD_TIMEOUT_MS);
    // A connection is looked at again within the time of a head, so no other may be shorter but those that are filed.
    assert!(HEAD_TIMEOUT_MS <= HANDSHAKE_TIMEOUT_MS && HEAD_TIMEOUT_MS <= ANSWER_TIMEOUT_MS);
    assert!(LEAN_PATIENCE_MS < HEAD_TIMEOUT_MS);
    assert!(HTTP2_CHUNK_BYTES <= HTTP2_SEND_BUFFER_BYTES);
    assert!(HEAD_MAX_BYTES < HTTP2_HEAD_MAX_BYTES);
    assert!(HTTP2_WINDOW_BYTES < HTTP2_LARGE_WINDOW_BYTES);
};
